"The command line, given what is wrong with a project or a machine: the right exit code, one sentence, and nothing half-written."
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import nbformat.v4 as nbf
import pytest
from children import QUIET
from helpers import kit_env

pytestmark = pytest.mark.xdist_group('command')
SETTINGS = '[DEFAULT]\nlib_name = tiny\nlib_path = tiny\nnbs_path = nbs\nversion = 0.0.1\n'
CONFIG = 'defaults: [_self_, {model: cnn}, {hparams_search: null}]\nseed: 1\nout: .\nmonitor: valid/loss\nmode: min\n'
STUDY = '# @package _global_\ndefaults:\n  - override /hydra/sweeper: mlops_kit\n'
FILES = {
    'settings.ini': SETTINGS, 'tiny/__init__.py': '',
    'configs/notebooks/ci.yaml': 'all:\n  params: {n: 2}\n', 'nbs/torn.ipynb': '{"cells": [{"cell_type": "co',
    'configs/train.yaml': CONFIG, 'configs/hparams_search/optuna.yaml': STUDY, 'configs/model/cnn.yaml': 'width: 3\nlr: 0.1\n',
    'my.csv': 'price,rooms\n' + ''.join(f'{i},{i % 3}\n' for i in range(20)), 'contract.yaml': '{not: a contract'}
CELLS = {
    'ok': ['n: int = 1  # How often', 'n'], 'fails': ['n: int = 1', 'raise ValueError("of all things")'],
    'sleeps': ['n: int = 1', 'import os, pathlib, time\npathlib.Path("awake").write_text(str(os.getpid()))\ntime.sleep(60)']}


def notebook(first, *more):
    "A notebook whose first cell is tagged `parameters`"
    return nbf.new_notebook(cells=[nbf.new_code_cell(first, metadata={'tags': ['parameters']}), *map(nbf.new_code_cell, more)])


@pytest.fixture
def tiny(tmp_path):
    "The smallest project there is"
    sources = {**FILES, **{f'nbs/{k}.ipynb': json.dumps(notebook(*v)) for k, v in CELLS.items()}}
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def start(env, args, cwd):
    "Start `mlops-kit ARGS`, as a terminal would"
    path = f'{env.bin}{os.pathsep}{os.environ["PATH"]}'
    variables = {**os.environ, **QUIET, 'PATH': path, 'PYTHONPATH': str(cwd), 'COLUMNS': '200', 'CI': ''}
    pipes = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return subprocess.Popen([env.bin / 'mlops-kit', *args], cwd=cwd, env=variables, text=True, start_new_session=True, **pipes)


def cli(env, args, cwd):
    "Exit code and both outputs of `mlops-kit ARGS`"
    process = start(env, args, cwd)
    out, err = process.communicate(timeout=120)
    return SimpleNamespace(code=process.returncode, out=out, err=err)


def listing(folder):
    "Every file below `folder`, with what it holds"
    return {f: f.read_bytes() for f in sorted(folder.rglob('*')) if f.is_file()}


def refused(env, args, cwd, code=2):
    "What stderr says, once it is seen that nothing was written and that nobody has to read a traceback"
    before = listing(cwd)
    done = cli(env, args, cwd)
    assert done.code == code, done
    assert 'Traceback' not in done.out + done.err
    assert listing(cwd) == before
    assert len(done.err.strip().splitlines()) <= 2, done.err
    return done.err


def test_own_table_needs_the_extra(wheel, tiny):
    "Without the extra, `new --data` exits 3 before it writes, and gives the pip line"
    said = refused(kit_env('base', wheel), 'new x --data my.csv --target price -y'.split(), tiny, code=3)
    assert 'pip install "mlops-kit[project]"' in said


def test_own_package_must_be_installed(project_env, tiny):
    "When the project's own package cannot be imported, no kernel starts: exit 3 and the line to type"
    (tiny / 'tiny/__init__.py').unlink()
    (tiny / 'tiny').rmdir()
    assert 'pip install -e' in refused(project_env, ['run', 'nbs/ok.ipynb'], tiny, code=3)


def records(folder):
    "Status of each run below `folder`"
    found = [json.loads(f.read_text()) for f in folder.glob('*/*/run.json')]
    return {r['name']: r['status'] for r in found}


def test_a_failing_notebook_exits_1(project_env, tiny):
    "A notebook that fails is told in one line, recorded as failed, and does not stop the others"
    done = cli(project_env, ['run', 'nbs/ok.ipynb', 'nbs/fails.ipynb'], tiny)
    assert (done.code, 'Traceback' in done.out + done.err) == (1, False)
    assert [line for line in done.out.splitlines() if 'failed' in line and 'of all things' in line]
    assert records(tiny / 'runs') == {'ok': 'passed', 'fails': 'failed'}


def test_values_reach_the_notebook(project_env, tiny):
    "A value from the command line is typed, and wins over the set; the source is not written"
    before = (tiny / 'nbs/ok.ipynb').read_bytes()
    done = cli(project_env, ['run', 'nbs/ok.ipynb', '-p', 'n=7', '--set', 'ci', '--json'], tiny)
    assert [json.loads(line)['parameters'] for line in done.out.splitlines()] == [{'n': 7}]
    assert (tiny / 'nbs/ok.ipynb').read_bytes() == before
    assert records(tiny / 'build/ci/runs') == {'ok': 'passed'}


def wait_for(path, seconds=60):
    "Wait until `path` is there and says something"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists() and path.read_text(): return path.read_text()
        time.sleep(0.05)
    pytest.fail(f'{path} did not come')


@pytest.mark.skipif(sys.platform == 'win32', reason='signals of POSIX')
def test_interrupt(project_env, tiny):
    "^C exits 130: what ran and what waited is recorded as cancelled, and no kernel is left"
    import psutil
    process = start(project_env, ['run', 'nbs/sleeps.ipynb', 'nbs/ok.ipynb', '-j', '1'], tiny)
    kernel = int(wait_for(tiny / 'nbs/awake'))
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, 'Traceback' in out + err, err.splitlines()[-1]) == (130, False, 'interrupted'), err
    assert set(records(tiny / 'runs').items()) >= {('sleeps', 'cancelled')}
    assert 'running' not in records(tiny / 'runs').values()
    assert not psutil.pid_exists(kernel)
