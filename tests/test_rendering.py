"What the template renders, for every flavour, for awkward answers and for impossible ones."
import json
import keyword
import re
import shutil
import sys
import tomllib
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from itertools import pairwise
from pathlib import Path

import nbformat
import pexpect
import pytest
import yaml
from children import CHAPTERS, FLAVOURS, commit_all, git, render, tree
from helpers import RESERVED, ROOT, files, sh, write
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.usefixtures('quick_copier')
SNIPPETS = [f for f in sorted((ROOT / 'tests/snippets').iterdir()) if f.name not in ('.gitattributes', 'ruff.toml')]
INCLUDE = re.compile(r"\{~ include 'template/flavours/.*\.ipynb'.* ~\}\n?")
WILD = {
    'project': 'Zoë\'s "digits" \\ 100% 🐧 {x} #1 & <b>',
    'description': 'Says "8" or \'3\' — naïve, 50% sure; C:\\new\\table = {{ x }} $y$ 日本 🐧 ${a} #no',
    'user_name': 'Åsa "O\'Neill" \\ 日本 🐧 %s'}
OWN = {'task': 'tabular', 'data': 'my data/prices %1.csv', 'target': 'Preis in € "netto" \\ 🐧'}
PROFILES = {
    'minimal': {'profile': 'minimal'}, 'full': {'profile': 'full'},
    'chosen': {'profile': 'choose', 'stages': ['sweep'], 'task': 'tabular'}}
ANSWERS = {**FLAVOURS, **PROFILES, 'own': {**OWN, 'target': 'price', 'data': 'my.csv'}, 'wild': WILD, 'wild-tabular': {**WILD, **OWN},
           'wild-series': {**WILD, **OWN, 'task': 'forecast'}}


def repo(folder, *sources):
    "A template made of our copier.yml and `sources`"
    (folder / 'template').mkdir(parents=True)
    shutil.copy(ROOT / 'copier.yml', folder)
    for f in sources: shutil.copy(f, folder / 'template')
    return commit_all(folder)


@pytest.fixture(scope='module')
def echoed(tmp_path_factory):
    "The snippets, rendered as if they were the template"
    folder = tmp_path_factory.mktemp('snippets')
    return render(repo(folder / 'repo', *SNIPPETS), folder / 'out')


@pytest.mark.parametrize('snippet', SNIPPETS, ids=lambda f: f.name)
def test_foreign_syntax_is_left_alone(echoed, snippet):
    "A file that holds no delimiter of ours renders byte for byte, whatever language it is in"
    assert (echoed / snippet.name).read_bytes() == snippet.read_bytes()


@pytest.mark.parametrize('text', ['`x`{=html}', '{==marked==}', '{~~old~>new~~}', 'while(1){;}'])
def test_a_clash_is_loud(tmp_path, text):
    "The few notations that do look like ours stop the rendering; they are not swallowed"
    from jinja2 import TemplateSyntaxError
    (tmp_path / 'clash.txt').write_text(text)
    with pytest.raises(TemplateSyntaxError): render(repo(tmp_path / 'repo', tmp_path / 'clash.txt'), tmp_path / 'out')


def template_files():
    "Every file of the template"
    return [name for name in files() if name.startswith('template/')]


def test_template_has_unix_lines():
    "Rendering turns CR LF into LF, so no text file of the template may need it"
    data = {name: (ROOT / name).read_bytes() for name in template_files()}
    assert not [name for name, b in data.items() if b'\r\n' in b and b'\0' not in b]


def test_comments_close_where_they_open():
    "An opener of a comment swallows text up to the next closer, so each stands closed on its own line"
    lines = [line for name in template_files() for line in (ROOT / name).read_bytes().splitlines()]
    assert not [line for line in lines if b'{;' in re.sub(rb'\{;[^;]*;\}', b'', line)]


def template_notebooks():
    "Every notebook of the template"
    return [name for name in template_files() if name.endswith('.ipynb')]


@pytest.mark.parametrize('name', template_notebooks())
def test_template_notebook_opens(name):
    "A template notebook is a clean, valid notebook as it stands, or one line that includes a flavour's"
    text = (ROOT / name).read_text(encoding='utf-8')
    if name.startswith('template/nbs/') and text.startswith('{~'): assert INCLUDE.fullmatch(text)
    else: clean(nbformat.reads(text, 4))


def clean(nb):
    "Hold a notebook to what is committed: valid, with ids, nothing run"
    nbformat.validate(nb)
    assert all(c.id for c in nb.cells)
    assert not [c for c in nb.cells if c.cell_type == 'code' and (c.outputs or c.execution_count)]


@pytest.fixture(scope='module')
def rendered(kit, tmp_path_factory):
    "Each set of answers, rendered once"
    made = {}

    def get(name):
        if name not in made: made[name] = render(kit, tmp_path_factory.mktemp('out') / name, **ANSWERS[name])
        return made[name]

    return get


every = pytest.mark.parametrize('name', ANSWERS)


def test_copier_needs_no_trust(kit, tmp_path):
    "`copier copy` as a person types it: no --trust, exit code 0, nothing to answer"
    res = sh([sys.executable, '-m', 'copier', 'copy', '--defaults', kit, tmp_path / 'digits'], ok=False)
    assert res.returncode == 0, res.stdout
    assert {'settings.ini', 'nbs', 'configs', '.copier-answers.yml'} <= {f.name for f in (tmp_path / 'digits').iterdir()}


@every
def test_nothing_is_left_to_fill(rendered, name):
    "No delimiter of ours survives, in a file or in its name"
    for file in (f for f in rendered(name).rglob('*') if f.is_file()):
        assert not re.search(r'\{[=~;]', str(file))
        assert not re.search(rb'\{= | =\}|\{~ | ~\}|\{; | ;\}', file.read_bytes()), file


@every
def test_project_is_small(rendered, name):
    "At most 60 files unless all stages were asked for, none of them empty but an __init__.py"
    found = [f for f in rendered(name).rglob('*') if f.is_file()]
    assert len(found) <= 60 or name == 'full'
    assert not [f for f in found if not f.stat().st_size and f.name != '__init__.py']


def test_raw_tables_are_kept(bare, tmp_path):
    "git keeps a raw table byte for byte, also where its lines end as on Windows"
    made = render(bare, tmp_path / 'shop')
    table = write(made / 'data/raw/t.csv', 'a,b\n')
    table.write_bytes(b'a,b\r\n1,2\r\n')
    git(commit_all(made), 'checkout-index', '-a', '--prefix', f'{tmp_path}/again/')
    assert (tmp_path / 'again/data/raw/t.csv').read_bytes() == table.read_bytes()


FULL = ['06_package', '07_register', '08_serve', '09_monitor', '10_retrain']
SMALL = {'minimal': '01_explore 04_sweep 05_evaluate', 'chosen': '01_explore 05_evaluate'}


@every
def test_chapters_lead_to_each_other(rendered, name):
    "The chapters of the profile are there, and each points to the next, which exists, as the index and dvc.yaml do"
    folder, wanted = rendered(name), [c for c in CHAPTERS if c not in SMALL.get(name, '').split()] + FULL * (name == 'full')
    pages = {f.stem: f.read_text(encoding='utf-8') for f in folder.glob('nbs/*.ipynb')}
    assert sorted(pages) == sorted(wanted)
    assert set(yaml.safe_load((folder / 'dvc.yaml').read_text(encoding='utf-8'))['stages']) == set(wanted[1:])
    links = {page: set(re.findall(r'\]\((\w+)\.ipynb\)', text)) for page, text in pages.items()}
    assert set().union(*links.values()) <= pages.keys()
    assert links['index'] == set(wanted[1:])
    assert all(after in links[page] for page, after in pairwise(wanted[1:]))


READERS = {'.yaml': yaml.safe_load, '.yml': yaml.safe_load, '.toml': tomllib.loads, '.json': json.loads,
           '.py': lambda s: compile(s, 'x', 'exec'), '.ipynb': lambda s: clean(nbformat.reads(s, 4))}


@every
def test_files_are_valid(rendered, name):
    "YAML, TOML, JSON, Python and notebooks parse, whatever was answered"
    for file in (f for f in rendered(name).rglob('*') if f.suffix in READERS):
        try: READERS[file.suffix](file.read_text(encoding='utf-8'))
        except Exception as e: pytest.fail(f'{file}: {e}')


def ini(folder):
    "settings.ini as a dict"
    parser = ConfigParser(delimiters=['='])
    parser.read(folder / 'settings.ini', encoding='utf-8')
    return dict(parser['DEFAULT'])


@pytest.mark.parametrize('name', [n for n in ANSWERS if n.startswith('wild')])
def test_free_text_survives(rendered, name):
    "Quotes, backslashes, emoji, percent and hash signs arrive as they were typed"
    folder, cfg = rendered(name), ini(rendered(name))
    assert (cfg['description'], cfg['author']) == (WILD['description'], WILD['user_name'])
    assert yaml.safe_load((folder / '.copier-answers.yml').read_text(encoding='utf-8')).items() >= ANSWERS[name].items()
    first = nbformat.read(folder / 'nbs/index.ipynb', 4).cells[0]
    assert first.cell_type == 'markdown'
    assert WILD['project'] in first.source


@pytest.mark.parametrize(('name', 'config'), [('wild-tabular', 'table.yaml'), ('wild-series', 'series.yaml')])
def test_own_data_survives(rendered, name, config):
    "The names of the user's file and column reach the config unchanged"
    files = [rendered(name) / 'configs/data' / f for f in (config, 'source/file.yaml')]
    words = list(leaves([yaml.safe_load(f.read_text(encoding='utf-8')) for f in files]))
    assert OWN['target'] in words
    assert any(str(w).endswith(OWN['data']) for w in words)


def leaves(x):
    "The values in nested dicts and lists"
    if isinstance(x, dict): x = list(x.values())
    if isinstance(x, list): yield from (v for part in x for v in leaves(part))
    else: yield x


@every
def test_export_changes_no_notebook(rendered, name):
    "Notebooks come out clean, as Jupyter saves them, and nbdev and setuptools read such a project whatever was answered"
    from mlops_kit.check import remake
    folder = rendered(name)
    before = {f.name: f.read_bytes() for f in folder.glob('nbs/*.ipynb')}
    assert [n for n, data in before.items() if json.loads(data) != json.loads(nbformat.writes(nbformat.reads(data, 4)))] == []
    remake(folder)
    assert [n for n, data in before.items() if (folder / 'nbs' / n).read_bytes() != data] == []
    assert {'data.py', 'model.py', '_modidx.py'} <= {f.name for f in (folder / ini(folder)['lib_path']).iterdir()}
    shown = sh([sys.executable, 'setup.py', '--description', '--author'], cwd=folder, env={'PYTHONUTF8': '1'}).stdout
    assert all(ini(folder)[k] in shown for k in ('description', 'author')), shown


@pytest.mark.parametrize(('project', 'package'), [
    ('Digits', 'digits'), ('My  Project-2', 'my_project_2'), ('2026 sales', 'sales'), ('Zoë', 'zo'), ('日本', 'project'),
    (' '.join(['twelveletter'] * 6), '_'.join(['twelveletter'] * 6)),
    ('test', 'test_project'), ('json', 'json_project'), ('class', 'class_project'), ('torch', 'torch_project')])
def test_package_name_follows(bare, tmp_path, project, package):
    "Any name of a project gives a package name that can be imported"
    assert ini(render(bare, tmp_path / 'out', project=project))['lib_path'] == package


BAD = [
    *(({'package': p}, 'not a package name') for p in ['my-package', '2fast', 'Upper', 'a b', 'naïve', 'a.b', '../up', '_x', 'x\n', '']),
    *(({'package': p}, 'is taken') for p in 'class json torch test tests nbs data mlops_kit yaml sklearn'.split()),
    ({'user_email': 'nobody'}, 'address'), ({'user_email': 'a@b c'}, 'address'), ({'user_email': 'a@b\n[x]'}, 'address'),
    ({'description': 'one\ntwo'}, 'One line'), ({'description': '  '}, 'One line'), ({'user_name': 'a\nlicense = none'}, 'One line'),
    ({'project': ''}, 'name'), ({'project': 'a\nb'}, 'one line'), ({'project': 'x' * 81}, '80'),
    ({'task': 'sound'}, 'choice'), ({'task': 'tabular', 'data': 'my.csv'}, 'column to predict'),
    ({'task': 'image', 'data': 'my.csv', 'target': 'y'}, 'tabular'),
    ({'stages': ['sweep']}, 'profile=choose'), ({'profile': 'choose', 'stages': ['swep']}, 'swep'), ({'profile': 'huge'}, 'choice'),
    *(({'github_user': u}, 'account') for u in ['', 'a b', '-a', 'a--b', 'a' * 40]),
    *(({'kit_source': s}, 'Where the library is') for s in ['1.0\n-r evil.txt', 'https://h/a b', '{{ x }}', 'kit ; x']),
    ({'task': 'tabular', 'data': 'a\nb', 'target': 'y'}, 'one line'), ({'task': 'tabular', 'data': 'a', 'target': 'y\n'}, 'rename'),
    *(({k: 'a\u2028b'}, 'line') for k in ('project', 'description', 'user_name')), ({'package': 'x' * 81}, 'at most 80'),
    *(({'repository': u}, 'address') for u in ['', 'ftp://h/x', 'https://ada:secret@github.com/x', 'https://h/a b'])]


@pytest.mark.parametrize(('answers', 'reason'), BAD, ids=[f'{k}={str(list(a.values())[-1])[:12]!r}' for a, _ in BAD for k in [list(a)[-1]]])
def test_impossible_answers_are_refused(bare, tmp_path, answers, reason):
    "An answer that cannot work is refused with a reason, and nothing is written"
    with pytest.raises(ValueError, match=reason): render(bare, tmp_path / 'out', **answers)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('license', ['none', 'MIT', 'BSD-3-Clause', 'Apache-2.0'])
def test_licence(bare, tmp_path, license):
    "The licence that was chosen is there, in the author's name where it has one, and in the metadata; without a choice there is none"
    folder = render(bare, tmp_path / 'out', license=license, user_name='Åsa "O\'Neill" <b>')
    text = file.read_text(encoding='utf-8') if (file := folder / 'LICENSE').exists() else ''
    assert (bool(text), 'Copyright (c) Åsa "O\'Neill" <b>\n' in text) == (license != 'none', license in ('MIT', 'BSD-3-Clause'))
    assert text.split('\n')[0].strip() == {'none': '', 'MIT': 'MIT License', 'BSD-3-Clause': 'BSD 3-Clause License'}.get(license, '')
    said = sh([sys.executable, 'setup.py', '--license'], cwd=folder, env={'PYTHONUTF8': '1'}).stdout
    assert said.split()[-1] == {'none': 'LicenseRef-Proprietary'}.get(license, license)


def test_eight_questions(kit, tmp_path):
    "Whoever takes every default is asked at most eight questions, and none is cut at 80 columns"
    words = ['-m', 'copier', 'copy', str(kit), str(tmp_path / 'digits')]
    talk, asked = pexpect.spawn(sys.executable, words, encoding='utf-8', timeout=60, dimensions=(50, 80)), set()
    while talk.expect([r'🎤 ?(?:\x1b\[[0-9;?]*[a-zA-Z])*([^\x1b\r\n]+)', pexpect.EOF]) == 0:
        asked.add(talk.match[1].strip())
        talk.send('\r')
    assert (tmp_path / 'digits/settings.ini').is_file(), talk.before
    assert 5 <= len(asked) <= 8, asked
    assert asked <= {q['help'] for q in questions().values() if 'help' in q}


def questions():
    "What copier.yml asks for"
    found = yaml.safe_load((ROOT / 'copier.yml').read_text(encoding='utf-8'))
    return {k: q for k, q in found.items() if isinstance(q, dict) and 'type' in q and q.get('when') is not False}


def test_free_text_has_a_validator():
    "Each free text is validated, each question that is asked has an example or choices, and none is a secret"
    assert [k for k, q in questions().items() if 'choices' not in q and 'validator' not in q] == ['table']
    assert not [k for k, q in questions().items() if q.get('ask') is not False and 'such as' not in q['help'] + str(q.get('choices'))
                and 'xample' not in q['help'] + str(q.get('choices'))]
    assert not [k for k, q in questions().items() if q.get('secret')]


def taken():
    "The names that copier.yml refuses"
    return set(yaml.safe_load((ROOT / 'copier.yml').read_text(encoding='utf-8'))['taken']['default'].split())


def locked():
    "What can be imported of the packages in the lock"
    names = {canonicalize_name(line.split('==')[0]) for line in (ROOT / 'constraints.txt').read_text().splitlines()}
    return [module for module, dists in packages_distributions().items() if names & {canonicalize_name(d) for d in dists}]


def test_taken_names_are_complete():
    "The list holds keywords, the standard library, what the lock installs, the folders of a project and Windows' devices"
    folders = {f.split('/')[1] for f in template_files()} - {'flavours', 'stages', 'licenses'}
    names = {*keyword.kwlist, *sys.stdlib_module_names, *locked(), *folders, *RESERVED, 'mlops_kit', 'hydra_plugins'}
    possible = {n for n in names if re.fullmatch('[a-z][a-z0-9_]*', n)}
    assert sorted(possible - taken()) == []


def test_existing_files_are_not_touched(kit, tmp_path):
    "`mlops-kit new` refuses a folder with something in it, and leaves it as it was"
    from mlops_kit.project import InputError
    from mlops_kit.scaffold import new
    (tmp_path / 'README.md').write_text('mine')
    with pytest.raises(InputError, match='not empty'): new(tmp_path, source=str(kit), defaults=True)
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [('README.md', 'mine')]


def test_flavours_differ_only_where_they_may(rendered):
    "Flavours share every chapter but 00_data, 01_explore and 02_model, and the scope in the index"
    pages = {c: {(rendered(f) / f'nbs/{c}.ipynb').read_text().replace(f'{f}.', 'package.') for f in FLAVOURS} for c in CHAPTERS}
    assert {c for c, found in pages.items() if len(found) > 1} <= {'index', '00_data', '01_explore', '02_model'}


def test_the_clone_is_complete(kit):
    "The snapshot that children come from is this tree, and nothing in it is ignored by an ignore file of the template"
    here = {str(p.relative_to(ROOT)) for p in (ROOT / 'template').rglob('*') if p.is_file() and '__pycache__' not in p.parts}
    assert here <= tree(kit).keys()
    assert not Path(kit).is_relative_to(ROOT)
