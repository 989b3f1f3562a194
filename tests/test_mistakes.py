"The mistakes of a new user: each is typed, and the answer has to help."
import gc
import json
import os
import shlex
import socket

import nbdev
import pytest
import yaml
from children import git, render, tree
from helpers import ROOT
from test_command import CELLS, listing, notebook
from typed import ended, fork, typed

pytestmark = [pytest.mark.xdist_group('command'), pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs a fork')]
TABLE = yaml.safe_load((ROOT / 'tests/mistakes.yaml').read_text())
MISTAKES = [(typed, how if isinstance(how, dict) else {'says': how}) for group in TABLE.values() for typed, how in group.items()]
USED = '''hydra mlflow onnxruntime optuna pandas pandera papermill pytorch_lightning uvicorn wandb mlops_kit.cli mlops_kit.train
    mlops_kit.runs mlops_kit.registry mlflow.store.model_registry.sqlalchemy_store'''.split()
FILES = {'drafts/torn.ipynb': '{"cells": [{"cell_type": "co', 'torn.yaml': '{not: a contract', 'notes.txt': 'to do\n',
         'my.csv': 'price,rooms\n' + ''.join(f'{i},{i % 3}\n' for i in range(20))}


def fill(folder):
    "Two versions of a model, of which one passed its gate; some runs; and a log of predictions"
    from mlops_kit.package import toy_package
    from mlops_kit.predlog import PredictionLog
    from mlops_kit.record import new_run
    from mlops_kit.registry import Registry
    toy_package(folder / 'pkg', name='homes')
    registry = Registry(folder=folder / 'registry')
    gates = ['pass', ['rmse is worse than the baseline']]
    for i, gate in enumerate(gates): registry.register(toy_package(folder.parent / f'p{i}', i, 'homes', gate=gate))
    for _ in range(2):
        with new_run('train', folder / 'runs'): pass
    log = PredictionLog(folder / 'predictions', 'homes')
    log.put([{'id': '1', 'time': '2026-11-01T00:00:00Z', 'model': 'homes', 'features': {'size': 1.0}, 'prediction': 2.0}])
    log.close()
    nbdev.nbdev_export()


@pytest.fixture(scope='module')
def project(kit, quick_copier, tmp_path_factory):
    "A project of every stage, with what is there after a while"
    for name in USED: __import__(name)
    gc.freeze()  # or each fork would copy what its collector touches
    folder = render(kit, tmp_path_factory.mktemp('mistakes') / 'project', profile='full')
    (folder / 'nbs/ok.ipynb').write_text(json.dumps(notebook(*CELLS['ok'])))
    config = folder / 'configs/registry/local.yaml'
    config.write_text(config.read_text().replace('approval: false', 'approval: true'))
    assert ended(fork(lambda: (os.chdir(folder), fill(folder)))) == 0
    (folder / 'drafts').mkdir()
    for name, text in FILES.items(): (folder / name).write_text(text)
    for command in 'init -q -b main', 'add -A', 'commit -q -m All': git(folder, *command.split())
    (folder.parent / 'outside').mkdir()
    return folder


@pytest.fixture(scope='module')
def taken():
    "A port at which somebody listens"
    with socket.create_server(('127.0.0.1', 0)) as s: yield str(s.getsockname()[1])


@pytest.mark.parametrize(('line', 'how'), [pytest.param(*m, id=m[0]) for m in MISTAKES])
def test_a_mistake_is_answered(project, kit, taken, line, how):
    "The exit code is right, the answer is short and says what was wrong and what to do, and nothing was written"
    def put(text): return text.replace('KIT', str(kit)).replace('TAKEN', taken)
    for name, text in how.get('with', {}).items(): (project / name).write_text(text)
    before = listing(project.parent)
    done = typed(shlex.split(put(line)), project / {'outside': '../outside'}.get(how.get('at'), how.get('at', '.')))
    assert listing(project.parent) == before
    for name in how.get('with', {}): (project / name).unlink()
    assert done.code == how.get('code', 2), done
    assert not [w for w in how['says'] if put(w) not in done.err], done
    assert 'Traceback' not in done.out + done.err
    assert done.err.startswith('error: ')
    assert len(done.err.strip().splitlines()) <= 6, done.err


def test_code_that_was_not_exported(project):
    "Who trains or runs with a notebook that was edited elsewhere is told; a slip in it is named, and the package stays as it is"
    nb, before = project / 'nbs/02_model.ipynb', (project / 'nbs/02_model.ipynb').read_text()
    try:
        nb.write_text(before.replace('nn.ReLU()', 'nn.SiLU()'))
        said = [typed(words, project) for words in (['train', '--cfg', 'job'], ['run', 'nbs/ok.ipynb'])]
        assert ['02_model was edited after the export' in done.err + done.out for done in said] == [True, True], said
        nb.write_text(before.replace('nn.ReLU()', 'nn.ReLU('))
        there = tree(project)
        slip = typed(['check', '--fix'], project)
        assert (slip.code, [n for n, data in tree(project).items() if there[n] != data]) == (2, [])
        assert "02_model.ipynb, cell" in slip.err
        assert "'(' was never closed" in slip.err
    finally: nb.write_text(before)
