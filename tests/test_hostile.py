"Whatever is typed as free text: a clear refusal, or a project whose notebooks parse, whose package imports and whose metadata is right."
import ast
import importlib.util
import re
import shutil
import tomllib
from configparser import ConfigParser

import nbformat
import pytest
import yaml
from children import FLAVOURS, OWN, render
from helpers import illegal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement

from mlops_kit.readme import stale

PARTS = [
    *'"\'\\%#&*!|>=~@`{}[]?,;$/-:', 'אבג', '日本', '🐧', '\u202e', '\u200f', '\ufeff', 'é', 'null', 'yes', '1e3', '2026-01-01', '0', 'a: b',
    'a #b', '- a', '---', '...', '!!python/object:os.system', '<<<<<<< ', '"""', "'''", '\\n', '{{ x }}', '{% if x %}', '{= project =}',
    '{~ if x ~}', '{; x ;}', '${x}', '${oc.env:HOME}', '$(id)', '%(x)s', '%s', '; id', '..', '../', '/etc/passwd', 'C:\\', 'con', '<b>']
WORSE = ['', ' ', '](x)', '\n', '\r', '\t', '\0', '\x7f', '\x85', '\u2028', '-r x', 'x' * 300]
seen = st.text(st.characters(exclude_categories=['C', 'Z']), min_size=1, max_size=4)
odd = st.lists(st.sampled_from(PARTS) | seen, min_size=1, max_size=5).map(''.join)
bad = st.lists(st.sampled_from(PARTS + WORSE) | st.text(max_size=6), max_size=4).map(''.join)
word = odd.map(lambda s: re.sub(r'[\s/?#@]', '', s) or 'x')
place = st.builds('{}{}'.format, st.sampled_from(['/', './', 'C:\\', 'https://x/', 'git+https://x/']), word)
TASTE = {
    'project': odd.map(lambda s: s[:80]), 'description': odd, 'user_name': odd, 'data': odd, 'target': odd,
    'package': st.from_regex(r'[a-z][a-z0-9_]{0,79}', fullmatch=True),
    'github_user': st.from_regex(r'[A-Za-z0-9](-?[A-Za-z0-9]){0,19}', fullmatch=True),
    'user_email': st.builds('{}@{}'.format, word, word), 'repository': st.builds('https://{}/{}'.format, word, word),
    'kit_source': st.sampled_from(['', '1.0', '>=1,<2']) | place}
HOMES = {'author': 'user_name', 'author_email': 'user_email', 'description': 'description', 'git_url': 'repository', 'user': 'github_user'}


@st.composite
def answers(draw):
    "Odd texts everywhere, in any kind of project; in every other one of them something worse"
    given = {name: draw(taste) for name, taste in TASTE.items()}
    if draw(st.booleans()): given[draw(st.sampled_from([*TASTE]))] = draw(bad)
    task = draw(st.sampled_from([*FLAVOURS.values()]))
    own = task.get('task') in OWN and draw(st.booleans())
    given = {k: v for k, v in given.items() if own or k not in ('data', 'target')}
    return {**given, **task, 'profile': draw(st.sampled_from(['minimal', 'full']))}


def ini(file):
    "A file of settings as a dict"
    parser = ConfigParser(delimiters=['='])
    parser.read(file, encoding='utf-8')
    return dict(parser['DEFAULT'])


def parsed(folder):
    "Every file that has a grammar keeps it, and no code cell is broken"
    for f in folder.rglob('*'):
        if f.suffix in ('.yaml', '.yml'): yaml.safe_load(f.read_text(encoding='utf-8'))
        if f.suffix == '.toml': tomllib.loads(f.read_text(encoding='utf-8'))
        if f.suffix == '.py': ast.parse(f.read_text(encoding='utf-8'))
        if f.suffix == '.ipynb':
            nb = nbformat.reads(f.read_text(encoding='utf-8'), 4)
            nbformat.validate(nb)
            for c in nb.cells: assert c.cell_type != 'code' or ast.parse(c.source)


def metadata(folder, given):
    "What was answered stands where it belongs, as it was typed"
    known = yaml.safe_load((folder / '.copier-answers.yml').read_text(encoding='utf-8'))
    assert {k: known[k] for k in given if k in known} == {k: v for k, v in given.items() if k in known}
    cfg = ini(folder / 'settings.ini')
    for k, v in HOMES.items(): assert cfg[k] == known[v]
    assert cfg['lib_path'] == known['package'] == tomllib.loads((folder / 'pyproject.toml').read_text())['tool']['nbdev']['lib_path']
    assert (folder / known['package'] / '__init__.py').is_file()
    title = nbformat.read(folder / 'nbs/index.ipynb', 4).cells[0].source
    assert title == f'# {known["project"]}\n\n> {known["description"]}'
    assert (folder / 'README.md').read_text(encoding='utf-8').startswith(title)
    return known


def requirements(folder, source, extras):
    "One line says where the library comes from, and adds no other"
    lock, line, own = (folder / 'requirements.txt').read_text(encoding='utf-8').split('\n')[:-1]
    assert (lock, own) == ('-c constraints.txt', '-e .')
    if re.match('[0-9<>=!~]', source): assert line.removeprefix(f'mlops-kit[{extras}]') in (source, f'=={source}')
    elif source.startswith('.'): assert line == f'{source}[{extras}]'
    else: assert (Requirement(line).name, Requirement(line).extras) == ('mlops-kit', {*extras.split(',')})


def own_data(folder, known):
    "The table and the column reach the config"
    from omegaconf import OmegaConf
    if not known.get('data'): return
    [config] = (folder / 'configs/data').glob('*.yaml')
    assert OmegaConf.load(config).prepare.target == known['target']
    assert OmegaConf.load(folder / 'configs/data/source/file.yaml').path == known['table']


def imported(folder, package):
    "The package imports by its name"
    spec = importlib.util.spec_from_file_location(package, folder / package / '__init__.py')
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert package.isidentifier()
    assert not illegal(package)


@pytest.fixture(scope='module')
def tried(bare, tmp_path_factory):
    "Render answers, and hold what comes to its promises"
    def run(given):
        parent = tmp_path_factory.mktemp('out')
        try: folder = render(bare, parent / 'ink', **given)
        except ValueError as e: said = str(e)
        else: said = ''
        assert [f.name for f in parent.iterdir()] == ([] if said else ['ink'])
        assert not said or said.startswith('Validation error for question')
        if not said: promises(folder, given)
        shutil.rmtree(parent)
    return run


def promises(folder, given):
    "All that a project must be"
    parsed(folder)
    known = metadata(folder, given)
    requirements(folder, known['kit_source'], 'project,registry,serve' if known['profile'] == 'full' else 'project')
    own_data(folder, known)
    imported(folder, known['package'])
    assert '](' in known.get('target', '') or stale(folder) == []


few, many = (settings(max_examples=n, derandomize=n == 100, database=None, deadline=None, print_blob=True,
                      suppress_health_check=[*HealthCheck]) for n in (100, 1000))


@pytest.mark.full
@few
@given(answers())
def test_free_text_is_taken_or_refused(tried, given):
    "Quotes, line ends, syntax of other languages, writing from right to left, paths: refused clearly, or kept"
    tried(given)


@pytest.mark.soak
@many
@given(answers())
def test_much_free_text_is_taken_or_refused(tried, given):
    "The same, for longer and with other texts each time"
    tried(given)
