"What counts as a change of a notebook, and what does not; and which cells run, by nbdev's own word."
import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest
from helpers import ROOT, sh

from mlops_kit import hashes
from mlops_kit.sources import explain, open_store, run_cells, staleness

FILES = {
    'settings.ini': '[DEFAULT]\nlib_path = pkg\nnbs_path = nbs\ntst_flags = notest slow\n',
    'constraints.txt': 'numpy==2.3.1  # pinned\nscipy==1.16.0\n',
    'dvc.yaml': 'stages:\n  03_train:\n    cmd: x\n    deps: [nbs/03_train.ipynb, configs, data/a.csv, data/raw]\n    outs: [models]\n',
    'README.md': '# Project\n',
    'pkg/__init__.py': '__version__ = "1"\n',
    'pkg/model.py': '"Networks"\nfrom pkg import layers\ndef net(n):\n    "A network"\n    from . import late\n    return layers.conv(n)\n',
    'pkg/layers.py': 'from .deep.leaf import leaf\ndef conv(n): return n + leaf  # one more\n',
    'pkg/deep/__init__.py': '',
    'pkg/deep/leaf.py': 'leaf = 1\n',
    'pkg/late.py': 'late = 1\n',
    'pkg/plugin.py': 'plugin = 1\n',
    'pkg/other.py': 'other = 1\n',
    'configs/train.yaml': 'defaults: [model: cnn]\nseed: 42\ncontract: ${root:contracts/rows.yaml}\n',
    'configs/model/cnn.yaml': '_target_: pkg.plugin.Net\nwidth: 8  # enough\n',
    'configs/model/mlp.yaml': 'width: 9\n',
    'configs/notebooks/ci.yaml': 'all: {overrides: []}\n',
    'contracts/rows.yaml': 'rows: 2\n',
    'data/a.csv': 'x\n1\n2\n',
    'data/raw/1.csv': '1\n',
    'data/raw/2.csv': '2\n',
    'data/named.csv': '3\n',
    'data/given.csv': '4\n',
    'data/apart.csv': '5\n',
    'models/best.txt': 'weights\n',
    'nbs/script.py': 'print(1)\n',
    'nbs/helper.py': 'helper = 1\n',
}
CELLS = [
    ('markdown', '# Train\n\n> One run'),
    ('code', '#| hide\nimport os, json  # tools\nfrom pkg.model import *'),
    ('code', 'overrides: list = []\nlr: float = 0.1', 'parameters'),
    ('code', '#| eval: false\n1/0'),
    ('code', 'rows = open("../data/named.csv").read().split()'),
    ('code', '#| slow\nraise SystemExit'),
    ('code', '%%bash\npython script.py  # twice'),
    ('code', '%precision 3\nhome = os.environ["LANDING"]\ntotal = sum(map(int, rows)); total'),
    ('raw', 'notes'),
]
INPUTS, OUTPUTS = ['nbs/03_train.ipynb', 'configs', 'data/a.csv', 'data/raw'], ['models']


class Project:
    "A small project, edited by the tests"
    def __init__(self, root):
        self.root, self.nb, self.given = Path(root), 'nbs/03_train.ipynb', dict(kit='1.0', flags=())
        self.values = dict(lr=0.1, table='data/given.csv', seed=1)
        for name, text in FILES.items(): self.write(name, text)
        self.site = self.root / '.venv/site-packages'
        (self.site / 'old-1.0.dist-info').mkdir(parents=True)
        self.cells = [dict(cell_type=kind, source=s, metadata=dict(tags=list(tags))) for kind, s, *tags in CELLS]
        self.save()

    def write(self, name, text=''):
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def edit(self, name, old, new):
        text = (self.root / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def save(self, **meta):
        self.write(self.nb, json.dumps(dict(cells=self.cells, metadata=meta, nbformat=4, nbformat_minor=5)))

    def cell(self, i, old, new):
        assert old in self.cells[i]['source']
        self.cells[i]['source'] = self.cells[i]['source'].replace(old, new)
        self.save()

    def insert(self, i, source, kind='code'):
        self.cells.insert(i, dict(cell_type=kind, source=source, metadata={}))
        self.save()

    def key(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(self.site)
            return json.loads(json.dumps(staleness(self.root / self.nb, self.values, self.root, INPUTS, OUTPUTS, **self.given)))


def saved_outputs(p):
    for c in p.cells[1:]: c |= dict(execution_count=7, outputs=[dict(output_type='stream', name='stdout', text='1')])
    p.save(language_info=dict(name='python', version='3.11'))


def collapsed(p):
    for c in p.cells: c['metadata'] |= dict(collapsed=True)
    p.save()


def retagged(p):
    p.cells[2]['metadata'], p.cells[4]['metadata'] = p.cells[4]['metadata'], p.cells[2]['metadata']
    p.save()


def checked_out(p):
    for f in [f for f in p.root.rglob('*') if f.is_file()]: f.write_bytes(f.read_bytes())


def rewritten_in_secret(p):
    f = p.root / 'data/a.csv'
    was = f.stat()
    f.write_text('x\n1\n3\n')
    os.utime(f, ns=(was.st_atime_ns, was.st_mtime_ns))


def renamed(p):
    (p.root / p.nb).rename(p.root / 'nbs/04_train.ipynb')
    p.nb = 'nbs/04_train.ipynb'


def moved(p):
    p.write('late/03_train.ipynb', (p.root / p.nb).read_text())
    p.nb = 'late/03_train.ipynb'


def turned_into_package(p):
    p.write('pkg/layers/__init__.py', (p.root / 'pkg/layers.py').read_text().replace('.deep', '..deep'))
    (p.root / 'pkg/layers.py').unlink()


SAME = {
    'nothing': lambda p: None,
    'Markdown edited': lambda p: p.cell(0, 'One run', 'A run'),
    'Markdown cell added': lambda p: p.insert(2, 'Why', 'markdown'),
    'raw cell edited': lambda p: p.cell(8, 'notes', 'more notes'),
    'comment in a cell': lambda p: p.cell(1, '# tools', '# what we need'),
    'cell formatted': lambda p: p.cell(4, '"../data/named.csv")', '\n    "../data/named.csv",\n)'),
    'outputs saved': saved_outputs,
    'cells collapsed': collapsed,
    'empty cell added': lambda p: p.insert(4, ''),
    'cell of comments added': lambda p: p.insert(4, '# Here it comes'),
    'cell with eval: false edited': lambda p: p.cell(3, '1/0', '2/0'),
    'cell with eval: false added': lambda p: p.insert(3, '#| eval: false\nimport pkg.other'),
    'cell behind a flag edited': lambda p: p.cell(5, 'SystemExit', 'KeyboardInterrupt'),
    'directive without effect': lambda p: p.cell(1, '#| hide', '#| export'),
    'comment in a module': lambda p: p.edit('pkg/layers.py', '# one more', '# plus one'),
    'module formatted': lambda p: p.edit('pkg/layers.py', 'return n + leaf', '\n    return (n +\n        leaf)'),
    'module that is not imported': lambda p: p.edit('pkg/other.py', '1', '2'),
    'module added that is not imported': lambda p: p.write('pkg/new.py', 'new = 1'),
    'bytecode written': lambda p: p.write('pkg/__pycache__/model.cpython-311.pyc', 'x'),
    'another notebook': lambda p: p.write('nbs/04_sweep.ipynb', '{"cells": []}'),
    'comment in a config': lambda p: p.edit('configs/model/cnn.yaml', '# enough', '# plenty'),
    'config formatted': lambda p: p.edit('configs/train.yaml', '[model: cnn]', '\n  - model: cnn'),
    'parameter set edited': lambda p: p.edit('configs/notebooks/ci.yaml', '[]', '[seed=2]'),
    'data touched': lambda p: os.utime(p.root / 'data/a.csv'),
    'data written again': lambda p: p.write('data/a.csv', FILES['data/a.csv']),
    'data that is not read': lambda p: p.edit('data/apart.csv', '5', '6'),
    'lock comment': lambda p: p.edit('constraints.txt', '# pinned', '# pinned by hand'),
    'README edited': lambda p: p.edit('README.md', 'Project', 'A project'),
    'variable that is not read': lambda p: p.env('TAKE_OFF', 'x'),
    'all files written again': checked_out,
    'edited and put back': lambda p: (p.edit('pkg/model.py', 'net', 'mesh'), p.edit('pkg/model.py', 'mesh', 'net')),
    'leftovers of Jupyter': lambda p: p.write('data/raw/.ipynb_checkpoints/1-checkpoint.csv', 'x'),
}
CHANGED = {
    'cell edited': ('code cell 5 of 5 changed', lambda p: p.cell(7, 'sum', 'max')),
    'cell added': ('is new', lambda p: p.insert(4, 'x = 1')),
    'cell deleted': ('gone', lambda p: (p.cells.pop(4), p.save())),
    'cells swapped': ('code cell', lambda p: (p.cells.insert(4, p.cells.pop(7)), p.save())),
    'line magic edited': ('code cell', lambda p: p.cell(7, 'precision 3', 'precision 4')),
    'bash cell edited': ('code cell', lambda p: p.cell(6, 'script.py', '-O script.py')),
    'result hidden': ('code cell', lambda p: p.cell(7, '; total', '; total;')),
    'eval: false removed': ('is new', lambda p: p.cell(3, '#| eval: false\n', '')),
    'eval: false put in': ('gone', lambda p: p.cell(4, 'rows', '#| eval: false\nrows')),
    'flag removed': ('is new', lambda p: p.cell(5, '#| slow\n', '')),
    'flag asked for': ('is new', lambda p: p.given.update(flags=['slow'])),
    'flag no longer left out': ('is new', lambda p: p.edit('settings.ini', ' slow', '')),
    'parameters tag moved': ('code cells', retagged),
    'other kernel': ('kernel', lambda p: p.save(kernelspec=dict(name='ir', language='R'))),
    'parameter default': ('code cell 2', lambda p: p.cell(2, '0.1', '0.2')),
    'parameter value': ('parameter lr: 0.1 → 0.2', lambda p: p.values.update(lr=0.2)),
    'parameter type': ('parameter seed: 1 → 1.0', lambda p: p.values.update(seed=1.0)),
    'parameter given': ('parameter n: not given → 3', lambda p: p.values.update(n=3)),
    'parameter no longer given': ('parameter lr: 0.1 → not given', lambda p: p.values.pop('lr')),
    'override of a set': ('parameter overrides', lambda p: p.values.update(overrides=['seed=2', 'out=build/ci'])),
    'seed': ('parameter seed: 1 → 2', lambda p: p.values.update(seed=2)),
    'module edited': ('pkg/model.py changed', lambda p: p.edit('pkg/model.py', 'conv(n)', 'conv(n + 1)')),
    'module imported by a module': ('pkg/layers.py changed', lambda p: p.edit('pkg/layers.py', 'n + leaf', 'n - leaf')),
    'module three imports away': ('pkg/deep/leaf.py changed', lambda p: p.edit('pkg/deep/leaf.py', '1', '2')),
    'module imported in a function': ('pkg/late.py changed', lambda p: p.edit('pkg/late.py', '1', '2')),
    'class that a config names': ('pkg/plugin.py changed', lambda p: p.edit('pkg/plugin.py', '1', '2')),
    'docstring': ('pkg/model.py changed', lambda p: p.edit('pkg/model.py', 'A network', 'The network')),
    'top __init__ edited': ('pkg/__init__.py changed', lambda p: p.edit('pkg/__init__.py', '"1"', '"2"')),
    'inner __init__ edited': ('pkg/deep/__init__.py changed', lambda p: p.write('pkg/deep/__init__.py', 'x = 1')),
    'module deleted': ('pkg/late.py is gone', lambda p: (p.root / 'pkg/late.py').unlink()),
    'module turned into a package': ('pkg/layers/__init__.py is new', turned_into_package),
    'module shadowed beside the notebook': ('nbs/json.py is new', lambda p: p.write('nbs/json.py', 'x = 1')),
    'import added': ('nbs/helper.py is new', lambda p: p.edit('pkg/late.py', 'late', 'import helper\nlate')),
    'script that bash runs': ('nbs/script.py changed', lambda p: p.edit('nbs/script.py', '1', '2')),
    'config leaf': ('configs/model/cnn.yaml changed', lambda p: p.edit('configs/model/cnn.yaml', '8', '9')),
    'seed of the config': ('configs/train.yaml changed', lambda p: p.edit('configs/train.yaml', '42', '43')),
    'config of another group': ('configs/model/mlp.yaml changed', lambda p: p.edit('configs/model/mlp.yaml', '9', '10')),
    'config added': ('configs/model/new.yaml is new', lambda p: p.write('configs/model/new.yaml', 'width: 1')),
    'config broken': ('configs/train.yaml changed', lambda p: p.edit('configs/train.yaml', '[', '[[')),
    'file that a config names': ('contracts/rows.yaml changed', lambda p: p.edit('contracts/rows.yaml', '2', '3')),
    'data row': ('data/a.csv changed', lambda p: p.edit('data/a.csv', '2', '3')),
    'data row, same size and time': ('data/a.csv changed', rewritten_in_secret),
    'data gone': ('data/a.csv is gone', lambda p: (p.root / 'data/a.csv').unlink()),
    'data that only the code names': ('data/named.csv changed', lambda p: p.edit('data/named.csv', '3', '4')),
    'data that a parameter names': ('data/given.csv changed', lambda p: p.edit('data/given.csv', '4', '5')),
    'data in a folder edited': ('data/raw/1.csv changed', lambda p: p.edit('data/raw/1.csv', '1', '2')),
    'data in a folder added': ('data/raw/ has 3 files, not 2', lambda p: p.write('data/raw/3.csv', '3')),
    'data in a folder renamed': ('data/raw/0.csv is new', lambda p: (p.root / 'data/raw/1.csv').rename(p.root / 'data/raw/0.csv')),
    'lock version': ('constraints.txt changed', lambda p: p.edit('constraints.txt', '2.3.1', '2.3.2')),
    'package installed': ('new-1.0 is installed', lambda p: (p.site / 'new-1.0.dist-info').mkdir()),
    'package updated': ('old-2.0 is installed', lambda p: (p.site / 'old-1.0.dist-info').rename(p.site / 'old-2.0.dist-info')),
    'kit version': ('mlops-kit changed', lambda p: p.given.update(kit='1.1')),
    'variable that is read': ('variable LANDING', lambda p: p.env('LANDING', 'x')),
    'notebook renamed': ('notebook changed', renamed),
    'notebook in another folder': ('notebook changed', moved),
    'output deleted': ('output models', lambda p: shutil.rmtree(p.root / 'models')),
    'output overwritten': ('output models/best.txt is not what', lambda p: p.write('models/best.txt', 'others')),
}


@pytest.fixture(scope='module')
def projects(tmp_path_factory):
    "One project for each edit, with its key and a cache on disk that is old enough to be trusted"
    made = {name: Project(tmp_path_factory.mktemp('project')) for name in [*SAME, *CHANGED]}
    time.sleep(2.1)
    keys = {name: p.key() for name, p in made.items()}
    for p in made.values(): open_store(p.root).save()
    hashes._stores.clear()
    return {name: (p, keys[name]) for name, p in made.items()}


def sentences(projects, name, edit, monkeypatch):
    "What `explain` says after an edit"
    p, before = projects[name]
    p.env = monkeypatch.setenv
    edit(p)
    after = p.key()
    said = explain(before, after, p.root)
    assert bool(said) == (before != after)
    return said


@pytest.mark.parametrize('name', SAME)
def test_is_unchanged(name, projects, monkeypatch):
    "What cannot change a result does not make a notebook stale"
    assert sentences(projects, name, SAME[name], monkeypatch) == []


@pytest.mark.parametrize('name', CHANGED)
def test_is_stale(name, projects, monkeypatch):
    "What can change a result makes a notebook stale, and `explain` names it"
    expected, edit = CHANGED[name]
    assert any(expected in s for s in sentences(projects, name, edit, monkeypatch))


def test_a_set_writes_elsewhere(tmp_path):
    "With a set, an output at its usual place is neither input nor output; an input there or below the set's folder counts"
    p = Project(tmp_path)
    p.write('configs/data.yaml', 'path: ${out:data/rows.csv}\nmade: ${out:models/best.txt}')
    p.write('build/ci/data/rows.csv', '1')
    values = dict(overrides=['out=build/ci'])
    def key(): return staleness(tmp_path / p.nb, values, tmp_path, outs=['build/ci/models'])
    before = key()
    p.write('models/best.txt', 'real')
    assert explain(before, key()) == []
    p.write('build/ci/data/rows.csv', '2')
    assert 'build/ci/data/rows.csv changed' in explain(before, key())[0]


@pytest.mark.full
def test_the_command_runs_what_is_stale(tmp_path):
    "`mlops-kit run` skips what is unchanged, runs what is not, and `--why` says the same before"
    shutil.copytree(ROOT / 'mlops_kit', tmp_path / '.kit/mlops_kit')  # so that nobody edits it meanwhile
    p, env = Project(tmp_path), dict(PYTHONPATH=f'{tmp_path}/.kit{os.pathsep}{tmp_path}', LANDING='moon')
    def run(*more): return sh([Path(sys.executable).with_name('mlops-kit'), 'run', p.nb, *more], cwd=tmp_path, env=env).stdout
    assert 'passed' in run()
    for name in ['Markdown edited', 'comment in a cell', 'outputs saved', 'data touched', 'config formatted', 'lock comment']:
        SAME[name](p)
        assert 'unchanged since' in run(), name
    for name in ['cell edited', 'module three imports away', 'config leaf', 'data row', 'output overwritten']:
        said, edit = CHANGED[name]
        edit(p)
        assert said in run('--why')
        assert '1 passed' in run(), name
    assert 'unchanged since' in run()


REACHED = {
    'import': ('import helper', 'nbs/helper.py'),
    'import in a branch': ('try: import helper\nexcept ImportError: pass', 'nbs/helper.py'),
    'import below a magic': ('%%time\nimport helper', 'nbs/helper.py'),
    'import beside a magic': ('!ls\nimport helper', 'nbs/helper.py'),
    'import in no Python': ('if x ==:\n    import helper', 'nbs/helper.py'),
    'import in a text': ('exec("import helper")', 'nbs/helper.py'),
    'import by name': ('import importlib as i\ni.import_module("helper")', 'nbs/helper.py'),
    'import by a computed name': ('import_module(f"pkg.{name}")', 'pkg/other.py'),
    'relative import by name': ('import_module(".other", "pkg")', 'pkg/other.py'),
    'submodule': ('import pkg.deep.leaf as leaf, pkg.other', 'pkg/other.py'),
    'submodule as a name': ('from pkg import other', 'pkg/other.py'),
    'star with a list': ('from pkg.stars import *', 'pkg/stars/one.py'),
    'package without __init__': ('from plain.part import x', 'plain/part.py'),
    'circle': ('import pkg.round', 'pkg/trip.py'),
    'lazy package': ('import pkg.lazy', 'pkg/lazy/later.py'),
    'binary module': ('import fast', 'nbs/fast.cpython-311-x86_64-linux-gnu.so'),
    'folder on the path': ('sys.path.append("../src")\nimport library', 'src/library.py'),
    'module in a command': ('!python -m pkg.other', 'pkg/other.py'),
    'package in a command': ('subprocess.run([sys.executable, "-m", "tool"])', 'tool/__main__.py'),
    'script in a command': ('out = !python script.py', 'nbs/script.py'),
    'what a script imports': ('!python ../tools/go.py', 'tools/gone.py'),
    'script run': ('%run script.py', 'nbs/script.py'),
    'script executed': ('exec(open("script.py").read())', 'nbs/script.py'),
    'extension': ('%load_ext helper', 'nbs/helper.py'),
    'notebook run': ('%run other.ipynb', 'nbs/helper.py'),
    'class in a text': ('locate("pkg.other.Net")', 'pkg/other.py'),
    'file': ('open("../data/apart.csv")', 'data/apart.csv'),
    'file by parts': ('open(Path("..")/"data"/"apart.csv")', 'data/apart.csv'),
    'file by an f-string': ('open(f"../data/{name}.csv")', 'data/apart.csv'),
    'file behind a variable': ('open(f"{root}/data/apart.csv")', 'data/apart.csv'),
    'file by a pattern': ('glob("../data/a*.csv")', 'data/apart.csv'),
    'file in a query': ('sql("select * from \'../data/apart.csv\' where x<1")', 'data/apart.csv'),
    'file in an address': ('create_engine("sqlite:///../data/apart.csv")', 'data/apart.csv'),
    'file in a command': ('!head ../data/apart.csv', 'data/apart.csv'),
    'file beside a module': ('import pkg.table', 'pkg/table.csv'),
    'file in a package': ('files("pkg").joinpath("table.csv")', 'pkg/table.csv'),
    'file that a module names': ('import pkg.reads', 'data/apart.csv'),
    'config by hand': ('OmegaConf.load("../configs/model/mlp.yaml")', 'configs/model/mlp.yaml'),
    'parameter set by hand': ('open("../configs/notebooks/ci.yaml")', 'configs/notebooks/ci.yaml'),
}
MORE = {
    'pkg/stars/__init__.py': '__all__ = ["one"]', 'pkg/stars/one.py': 'one = 1', 'plain/part.py': 'x = 1', 'pkg/table.csv': '1',
    'pkg/round.py': 'from . import trip', 'pkg/trip.py': 'from . import round', 'tool/__init__.py': '', 'tool/__main__.py': 'x = 1',
    'pkg/lazy/__init__.py': 'def __getattr__(name): return import_module(f".{name}", __name__)', 'pkg/lazy/later.py': 'later = 1',
    'nbs/fast.cpython-311-x86_64-linux-gnu.so': 'x', 'src/library.py': 'x = 1', 'tools/go.py': 'import gone', 'tools/gone.py': 'x = 1',
    'pkg/table.py': 'text = (Path(__file__).parent / "table.csv").read_text()', 'pkg/reads.py': 'def read(): return open("data/apart.csv")',
    'nbs/other.ipynb': '{"cells": [{"cell_type": "code", "source": "import helper"}]}',
}


@pytest.mark.parametrize('name', REACHED)
def test_what_is_reached_counts(name, tmp_path):
    "However a file is reached, a change in it makes the notebook stale"
    source, file = REACHED[name]
    p = Project(tmp_path)
    for other, text in MORE.items(): p.write(other, text)
    p.cells[2:] = [dict(cell_type='code', source=source, metadata={})]
    p.save()
    before = p.key()
    p.write(file, f'{(tmp_path / file).read_text()}\nz: 1\n')
    said = explain(before, p.key())
    assert any(file.rpartition('/')[2] in s for s in said), said


TOPS = [
    '', '#| export', '#|eval:false', '#| eval: false', '#| eval : false', '# | eval: FALSE', ' #| eval: false', '#| eval: true',
    '#| eval: false # why', '#| eval:', '#| hide\n#| eval: false', '\n\n#| eval: false', '%%time\n#| eval: false',
    '#| eval: false\n%%time', '# why\n#| eval: false', '#| slow', '#|slow', '#| slow:', '#| slow: true', '#| slower',
    '#| notest slow', '%%capture\n#| slow', '#| export\n\n#| slow', '#eval: false', '#| echo: false\n#| slow',
    '"nbdev_export()"', '# nbdev_export()', '#| eval: "false"', '#|  eval:  false',
]
FRONT = {
    'plain': [], 'raw': [('raw', '---\nskip_exec: true\n---')], 'raw_off': [('raw', '---\nskip_exec: false\n---')],
    'raw_word': [('raw', '---\ntitle: T\nskip_exec: "on"\n---')], 'raw_open': [('raw', '---\nskip_exec: true\n')],
    'title': [('markdown', '# T\n\n> One\n\n- skip_exec: true')], 'late': [('markdown', 'Hello'), ('markdown', '# T\n- skip_exec: y')],
    'second': [('markdown', '# T'), ('markdown', '# U\n- skip_exec: true')], 'untitled': [('markdown', '- skip_exec: true')],
    'lower': [('markdown', '## T\n- skip_exec: true')], 'both': [('raw', '---\ntitle: T\n---'), ('markdown', '# T\n- skip_exec: true')],
    'undone': [('markdown', '# T\n- skip_exec: true'), ('raw', '---\nskip_exec: false\n---')],
    'broken': [('markdown', '# T\n- skip_exec: [true')],
    'item': [('markdown', '# T\n- author: me\n- skip_exec: 1')], 'marked': [('raw', '#| x\n---\nskip_exec: true\n---')],
    'inline': [('markdown', 'See\n\n# T\nskip_exec: true')],
}


def tell(i, top):
    "A cell that tells that it ran (in its third line: nbdev 2.4 loses the first one behind `#| slow:`)"
    return f'{top}\npass\nwith open(__import__("os").environ["RAN"], "a") as f: f.write(NAME + " {i}\\n")'


def pages(root):
    "One notebook for each front matter, with a cell for each top"
    for name, front in FRONT.items():
        sources = [*front, ('code', f'NAME = {name!r}'), *(('code', tell(i, top)) for i, top in enumerate(TOPS))]
        cells = [dict(cell_type=kind, source=s, metadata={}, outputs=[]) for kind, s in sources]
        (root / f'nbs/{name}.ipynb').write_text(json.dumps(dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5)))


@pytest.mark.parametrize('flags', [[], ['slow']], ids=['no flags', 'slow'])
def test_the_cells_that_run_are_those_of_nbdev(flags, tmp_path):
    "`run_cells` names the cells that `nbdev_test` really executes: directives, flags, front matter"
    Project(tmp_path)
    shutil.rmtree(tmp_path / 'nbs')
    (tmp_path / 'nbs').mkdir()
    pages(tmp_path)
    env = dict(RAN=str(tmp_path / 'ran.txt'))
    sh([Path(sys.executable).with_name('nbdev_test'), '--n_workers', '0', '--flags', ' '.join(flags)], cwd=tmp_path, env=env)
    ran = [tuple(line.split()) for line in (tmp_path / 'ran.txt').read_text().splitlines()]
    ours = {name: run_cells(tmp_path / f'nbs/{name}.ipynb', flags) for name in FRONT}
    assert sorted(ran) == sorted((name, str(i - 1 - len(FRONT[name]))) for name, cells in ours.items() for i, _ in cells[1:])
    assert 0 < len(ran) < len(FRONT) * len(TOPS)
