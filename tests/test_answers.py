"Whatever is answered, alone or together: a project that works, or a clear refusal."
import sys
from contextlib import chdir
from multiprocessing import get_context

import pytest
import yaml
from children import FLAVOURS, OWN, render
from helpers import ROOT
from pairwise import all_pairs, met, pairwise
from play import write

QUESTIONS = yaml.safe_load((ROOT / 'copier.yml').read_text(encoding='utf-8'))
STAGES = {name: row['from'] for name, row in yaml.safe_load(QUESTIONS['stage_table']['default']).items() if row['from'] != 'minimal'}
PROFILES = [{s: int(first in having) for s, first in STAGES.items()} for having in ([], ['recommended'], ['recommended', 'full'])]
CHOSEN = [[s for s, on in row.items() if on] for row in pairwise({s: [False, True] for s in STAGES}, PROFILES)]
OWNED = [{'task': task, 'target': 'Preis in € "netto" \\ 🐧'} for task in OWN]
PLACES = ['my data/prices %1.csv', str(ROOT / 'README.md'), 's3://shop/p.csv']
OPTIONS = {
    'kind': [*FLAVOURS.values(), *({**own, 'data': place} for own, place in zip(OWNED * 2, PLACES))],
    'stages': [{'profile': 'minimal'}, {'profile': 'recommended'}, {'profile': 'full'},
               *({'profile': 'choose', 'stages': found} for found in CHOSEN)],
    'kit_source': ['', '0.2.0', '>=0.2,<1', '/my kits/mlops_kit-0.2.0-py3-none-any.whl', 'https://example.com/kit.whl', 'C:\\kits\\kit'],
    'project': [None, 'Zoë\'s "digits" \\ 100% 🐧 {x} #1 & <b>', 'x' * 80],
    'package': [None, 'ink', 'a_1' * 20],
    'description': [None, 'Says "8" or \'3\' — 50% sure; C:\\new\\table = {{ x }} $y$ 日本 ${a} #no: - [x]'],
    'user_name': [None, 'Åsa "O\'Neill" \\ 日本 %s: {a}, [b] #1'],
    'user_email': [None, "o'neill+%s@sub.example.com"],
    'github_user': [None, 'Ada-L'],
    'license': [None, 'MIT', 'BSD-3-Clause', 'Apache-2.0'],
    'repository': [None, 'https://git.example.com/group/sub/ink%20well']}
ROWS = pairwise(OPTIONS)


def answers_of(row):
    "The answers that a row of numbers stands for"
    chosen = {name: OPTIONS[name][i] for name, i in row.items()}
    named = {name: value for name, value in chosen.items() if not isinstance(value, dict) and value is not None}
    return {**chosen['kind'], **chosen['stages'], **named}


def test_every_pair_is_there():
    "The rows have every pair of options, and are few"
    assert set().union(*map(met, ROWS)) == all_pairs(OPTIONS)
    assert len(ROWS) < 2 * max(len(a) * len(b) for a in OPTIONS.values() for b in OPTIONS.values() if a is not b)


def remake_here(folder):
    "What `mlops-kit check` does in a process of its own"
    from nbdev.clean import nbdev_clean
    from nbdev.config import get_config
    from nbdev.doclinks import nbdev_export
    get_config.cache_clear()
    with chdir(folder):
        nbdev_clean()
        nbdev_export()


def faults(folder, whole):
    "What is wrong with a project that was just rendered: export, imports, README, config; or all that `mlops-kit check` asks"
    from mlops_kit import check, configs, readme
    check.remake = remake_here
    before = {f.name: f.read_bytes() for f in folder.glob('nbs/*.ipynb')}
    remake_here(folder)
    sys.path.insert(0, str(folder))
    for module in ('data', 'model'): __import__(f'{check.settings(folder)["lib_path"]}.{module}')
    changed = [name for name, data in before.items() if (folder / 'nbs' / name).read_bytes() != data]
    if whole: return changed + [f for f in check.check(folder) if f.ok is not True]
    return changed + readme.stale(folder) + configs.problems(configs.compose(root=folder))


@pytest.fixture(scope='module')
def forked():
    "Run a function in a process that has imported what all projects import"
    for name in 'cleanlab matplotlib.pyplot mlops_kit.check mlops_kit.evaluate nbconvert nbdev.doclinks pandera pytorch_lightning'.split():
        __import__(name)

    def run(work, *args):
        with get_context('fork').Pool(1) as pool: return pool.apply(work, args)

    return run


def made(kit, folder, row):
    "The project of a row; a table that is named by a path in the project is put there"
    render(kit, folder, **answers_of(row))
    if answers_of(row).get('data') == PLACES[0]: write(folder, {PLACES[0]: ''})
    return folder


def rows(mark): return pytest.mark.parametrize('row', [pytest.param(row, id=str(n), marks=mark(n)) for n, row in enumerate(ROWS)])


@rows(lambda n: [] if n < 3 else [pytest.mark.full if n % 10 == 3 else pytest.mark.soak])
def test_options_go_together(bare, forked, tmp_path, row):
    "Any two options give a project that exports, imports, composes and has its own README"
    assert forked(faults, made(bare, tmp_path / 'my project', row), False) == []


@rows(lambda n: [pytest.mark.soak])
def test_options_pass_every_check(bare, forked, tmp_path, row):
    "Any two options give a project that passes all of `mlops-kit check`"
    assert forked(faults, made(bare, tmp_path / 'my project', row), True) == []


def test_stage_brings_what_it_needs(bare, tmp_path):
    "Who chooses the last chapter gets those that it rests on, and nothing else"
    folder = render(bare, tmp_path / 'shop', profile='choose', stages=['serve'])
    chapters = {f.stem for f in folder.glob('nbs/*.ipynb')}
    assert chapters == {'index', '00_data', '02_model', '03_train', '06_package', '07_register', '08_serve'}
    assert 'mlops-kit[project,registry,serve]' in (folder / 'requirements.txt').read_text()
