"A cluster of two nodes: what one machine does, they do; a node that is killed takes nothing with it."
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from children import QUIET
from helpers import ROOT, sh, wait_for
from nbformat.v4 import new_code_cell, new_notebook
from servers import free_port

pytestmark = [pytest.mark.full, pytest.mark.alone, pytest.mark.skipif(sys.platform != 'linux', reason='it forks')]
BIN = Path(sys.executable).parent
WAIT = """import time
def note(i): open(f'../log{i}', 'a').write('%s\\n')  # a name that stands in the code would be an input
note(0); time.sleep(%s); note(1)"""


STUMBLE = """import os, sys
if '--mode=specific-server' in sys.orig_argv and os.path.exists({flag!r}):
    os.unlink({flag!r})
    os._exit(1)"""


class Nodes:
    "Two nodes of a core each; what the head starts for a client dies at once where the file `flag` is"

    def __init__(self, folder):
        self.port, self.flag = free_port(), folder / 'stumble'
        (folder / 'sitecustomize.py').write_text(STUMBLE.format(flag=str(self.flag)))
        self.process = subprocess.Popen([sys.executable, ROOT / 'tests/two_nodes.py', f'{self.port}', '1'], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                        env={**os.environ, 'PYTHONPATH': str(folder)})
        assert self.process.stdout.readline().strip() == 'there'
        self.killed = False

    @property
    def on(self): return ['--on', f'ray://127.0.0.1:{self.port}']

    def tell(self, word):
        self.killed = word == 'kill'
        self.process.stdin.write(f'{word}\n')
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == word

    def end(self):
        self.process.stdin.close()
        self.process.wait(60)


@pytest.fixture(scope='module')
def cluster(tmp_path_factory):
    two = Nodes(tmp_path_factory.mktemp('head'))
    yield two
    two.end()


@pytest.fixture
def nodes(cluster):
    "Two nodes; one that was killed is replaced afterwards"
    yield cluster
    if cluster.killed: cluster.tell('add')


SETTINGS = {**QUIET, 'RAY_CLIENT_RECONNECT_GRACE_PERIOD': '5'}  # seconds until a head that is gone is given up


def kit(folder, *words, **kw): return sh([BIN / 'mlops-kit', *words], cwd=folder, env={**SETTINGS, 'PYTHONPATH': str(folder)}, **kw)


def begin(folder, *words):
    "A command that goes on by itself"
    return subprocess.Popen([BIN / 'mlops-kit', *words], cwd=folder, env={**os.environ, **SETTINGS, 'PYTHONPATH': str(folder)},
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def meanwhile(process, seen):
    "Go on as soon as `seen()` while the process runs; fail with what it said when it ends before that, or takes too long"
    met = wait_for(lambda: process.poll() is not None or seen(), 180)
    if met and process.poll() is None: return
    process.kill()
    pytest.fail(f'it was not to be seen; exit code {process.wait()}:\n{process.communicate()[0][-6000:]}')


def sleep(folder, seconds):
    "Six notebooks that take their time"
    for n in 'abcdef': nbformat.write(new_notebook(cells=[new_code_cell(WAIT % (n, seconds), id=n)]), folder / f'nbs/{n}.ipynb')


@pytest.fixture
def sleepers(tmp_path):
    "A project of six notebooks that take their time"
    (tmp_path / 'nbs').mkdir()
    (tmp_path / 'settings.ini').write_text('[DEFAULT]\nlib_name = sleepers\n')
    sleep(tmp_path, 2.5)
    return tmp_path


def lines(file): return file.read_text().split() if file.is_file() else []


def records(folder, kind='notebook'):
    found = [json.loads(f.read_text()) for f in folder.glob('runs/*/*/run.json')]
    return [r for r in found if r['kind'] == kind]


def nodes_of(folder): return {note for r in records(folder) for note in r.get('notes') or [] if 'it ran on node' in note}


def test_node_is_killed_while_notebooks_run(nodes, sleepers):
    "What it ran runs elsewhere: each notebook has one run that passed, both nodes had some, and what had passed began once"
    suite = begin(sleepers, 'run', 'nbs', *nodes.on)
    meanwhile(suite, lambda: len(nodes_of(sleepers)) == 2 and len(lines(sleepers / 'log0')) > len(lines(sleepers / 'log1')) + 1)
    settled = [r['name'] for r in records(sleepers) if r['status'] == 'passed']
    nodes.tell('kill')
    said, _ = suite.communicate(timeout=120)
    assert suite.returncode == 0, said
    assert 'begins again on another node' in said
    assert sorted((r['name'], r['status']) for r in records(sleepers)) == [(n, 'passed') for n in 'abcdef']
    assert set(lines(sleepers / 'log1')) == set('abcdef')
    assert [lines(sleepers / 'log0').count(n) for n in settled] == [1] * len(settled)
    assert len(lines(sleepers / 'log0')) > 6


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    "The default project, with its data"
    folder = tmp_path_factory.mktemp('project') / 'digits'
    sh([BIN / 'mlops-kit', 'new', folder, '-y', '--from', ROOT], env=QUIET)
    kit(folder, 'run', 'nbs/00_data.ipynb')
    return folder


def test_node_is_killed_while_trials_run(nodes, digits):
    "The study has as many trials as were asked for, the lost one was tried again, and the best is kept"
    study = begin(digits, 'sweep', 'hydra.sweeper.n_trials=3', 'trainer.max_epochs=20', 'callbacks.early_stopping=null',
        'hydra/sweeper/pruner=none', *nodes.on)
    meanwhile(study, lambda: len([r for r in records(digits, 'trial') if r['status'] == 'running']) == 2)
    nodes.tell('kill')
    said, _ = study.communicate(timeout=180)
    assert study.returncode == 0, said
    assert '[3/3]' in said
    assert 'its node or its process is gone' in said
    told = json.loads(kit(digits, 'studies', 'show', '--json').stdout)
    assert [t['state'] for t in told if not t['reason']] == ['complete'] * 3
    assert (digits / 'configs/experiment/best.yaml').is_file()


def test_two_workers_train_as_two_processes(nodes, digits):
    "Ray's workers do what Lightning's own processes do, and record one run, with no trace of the cluster in it"
    values = {}
    for name, words in {'ray': ['--workers', '2', *nodes.on], 'here': ['trainer=ddp']}.items():
        kit(digits, 'train', 'trainer.max_epochs=2', f'out=build/{name}', *words)
        [run] = records(digits / f'build/{name}', 'train')
        values[name] = run['metrics']['valid/loss'], run['provenance']['dirty'], run['config']['trainer'].get('plugins')
    assert values['ray'] == values['here']


def test_table_is_answered_there_as_here(nodes, tmp_path):
    "In order, every row, to the last bit, in pieces that no pipe holds, although a node dies on the way"
    import pandas as pd

    from mlops_kit.package import toy_package
    toy_package(tmp_path / 'package')
    pd.DataFrame({'size': range(6_000_000)}).to_parquet(tmp_path / 'homes.parquet')
    kit(tmp_path, 'predict', 'package', 'homes.parquet', '-o', 'here.parquet')
    there = begin(tmp_path, 'predict', 'package', 'homes.parquet', '-o', 'there.parquet', *nodes.on)
    meanwhile(there, lambda: list(tmp_path.glob('.there.parquet.*')))
    nodes.tell('kill')
    said, _ = there.communicate(timeout=120)
    assert there.returncode == 0, said
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / 'here.parquet'), pd.read_parquet(tmp_path / 'there.parquet'))


def test_stopped_by_a_person(nodes, sleepers):
    "^C ends those that run and begins no other, also those that wait for a core; each has a true word, and nothing stays behind"
    sleep(sleepers, 120)  # so that none ends by itself
    suite = begin(sleepers, 'run', 'nbs', '-j', '4', *nodes.on)
    meanwhile(suite, lambda: len(lines(sleepers / 'log0')) >= 2)
    suite.send_signal(signal.SIGINT)
    said, _ = suite.communicate(timeout=60)
    assert suite.returncode == 130, said
    assert {r['status'] for r in records(sleepers)} == {'cancelled'}
    assert 2 <= len(lines(sleepers / 'log0')) <= 4
    assert not lines(sleepers / 'log1'), 'one came to its end'
    assert not list(sleepers.glob('.mlops_kit/.nodes-*'))


@pytest.mark.soak
def test_what_serves_a_client_dies_as_it_begins(nodes, sleepers):
    "Ray's head loses one in fifteen so: it is asked again"
    nodes.flag.touch()
    kit(sleepers, 'run', 'nbs/a.ipynb', *nodes.on)
    assert not nodes.flag.exists(), 'nothing died'
    assert [r['status'] for r in records(sleepers)] == ['passed']


def test_head_is_killed(nodes, sleepers):
    "One sentence says so, what passed is kept, and the same command goes on from there, with or without a cluster"
    suite = begin(sleepers, 'run', 'nbs', *nodes.on)
    meanwhile(suite, lambda: len(lines(sleepers / 'log1')) >= 2)
    nodes.tell('behead')
    said, _ = suite.communicate(timeout=120)
    assert suite.returncode == 3, said
    assert 'is gone: what was done is kept' in said
    assert 'Traceback' not in said
    kit(sleepers, 'run', 'nbs', '--resume')
    assert sorted(r['name'] for r in records(sleepers) if r['status'] == 'passed') == list('abcdef')
    refused = kit(sleepers, 'run', 'nbs', '--force', *nodes.on, ok=False)
    assert refused.returncode == 3
    assert 'no Ray cluster at ray://127.0.0.1' in refused.stdout
