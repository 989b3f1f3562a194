"The mistakes of a new user: each is typed, and the answer has to help."
import json
import os
import runpy
import shlex
import socket
import subprocess
import sys
import tempfile
import traceback
from types import SimpleNamespace

import pytest
import yaml
from children import QUIET, commit_all, render
from helpers import ROOT
from test_command import CELLS, listing, notebook

pytestmark = [pytest.mark.xdist_group('command'), pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs a fork')]
TABLE = yaml.safe_load((ROOT / 'tests/mistakes.yaml').read_text())
MISTAKES = {typed: how if isinstance(how, dict) else {'says': how} for group in TABLE.values() for typed, how in group.items()}
USED = 'hydra mlflow onnxruntime optuna pandas pandera papermill pytorch_lightning uvicorn wandb mlops_kit.spread'.split()
FILES = {'nbs/torn.ipynb': '{"cells": [{"cell_type": "co', 'torn.yaml': '{not: a contract', 'notes.txt': 'to do\n',
         'my.csv': 'price,rooms\n' + ''.join(f'{i},{i % 3}\n' for i in range(20))}


class Fork:
    "`python -m MODULE` by a fork of this process, which has imported already what takes seconds"

    def __init__(self, command, env):
        self.pid = os.fork()
        if not self.pid: self.run(command[2:], env)

    def run(self, command, env):
        os.environ.update(env)
        sys.argv = command
        leave(lambda: runpy.run_module(command[0], run_name='__main__', alter_sys=True))

    def wait(self): return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def leave(job):
    "End this process with the exit code of `job`"
    code = 99
    try: job()
    except SystemExit as e: code = e.code or 0
    except BaseException: traceback.print_exc()
    else: code = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def typed(words, cwd, env=QUIET):
    "Exit code and both outputs of `mlops-kit WORDS`, in a fork of this process"
    files = [tempfile.TemporaryFile('w+', encoding='utf-8') for _ in 'oe']
    pid = os.fork()
    if not pid:
        for fd, f in enumerate(files, 1): os.dup2(f.fileno(), fd)
        sys.stdin, sys.stdout, sys.stderr = open(os.devnull), *(open(fd, 'w', closefd=False) for fd in (1, 2))
        leave(lambda: main(words, cwd, env))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    for f in files: f.seek(0)
    return SimpleNamespace(code=code, out=files[0].read(), err=files[1].read())


def main(words, cwd, env):
    from mlops_kit.cli import main
    os.chdir(cwd)
    os.environ.update(env)
    sys.argv, sys.path[0], subprocess.Popen = ['mlops-kit', *words], str(cwd), Fork if words[0] in ('train', 'sweep') else subprocess.Popen
    main()


def fill(folder):
    "Two versions of a model, of which one passed its gate; some runs; and a log of predictions"
    from mlops_kit.package import toy_package
    from mlops_kit.predlog import PredictionLog
    from mlops_kit.record import new_run
    from mlops_kit.registry import Registry
    toy_package(folder / 'pkg', name='homes')
    registry = Registry(folder=folder / 'registry')
    for i, gate in enumerate(['pass', ['rmse is worse than the baseline']]): registry.register(toy_package(folder.parent / f'p{i}', i, 'homes', gate=gate))
    for _ in range(2):
        with new_run('train', folder / 'runs'): pass
    PredictionLog(folder / 'predictions', 'homes').close()


@pytest.fixture(scope='module')
def project(kit, quick_copier, tmp_path_factory):
    "A project of every stage, with what is there after a while"
    for name in USED: __import__(name)
    folder = render(kit, tmp_path_factory.mktemp('mistakes') / 'project', profile='full')
    for name, text in FILES.items(): (folder / name).write_text(text)
    (folder / 'nbs/ok.ipynb').write_text(json.dumps(notebook(*CELLS['ok'])))
    commit_all(folder)
    pid = os.fork()
    if not pid: leave(lambda: (os.chdir(folder), fill(folder)))
    assert os.waitpid(pid, 0)[1] == 0
    (folder.parent / 'outside').mkdir()
    return folder


@pytest.fixture(scope='module')
def taken():
    "A port at which somebody listens"
    with socket.create_server(('127.0.0.1', 0)) as s: yield str(s.getsockname()[1])


@pytest.mark.parametrize('line', MISTAKES)
def test_a_mistake_is_answered(project, kit, taken, line):
    "The exit code is right, the answer is short and says what was wrong and what to do, and nothing was written"
    how = MISTAKES[line]
    put = lambda text: text.replace('KIT', str(kit)).replace('TAKEN', taken)  # noqa: E731
    before = listing(project.parent)
    done = typed(shlex.split(put(line)), project / {'outside': '../outside'}.get(how.get('at'), how.get('at', '.')))
    assert done.code == how.get('code', 2), done
    assert not [w for w in how['says'] if put(w) not in done.err], done
    assert 'Traceback' not in done.out + done.err
    assert done.err.startswith('error: ')
    assert len(done.err.strip().splitlines()) <= 6, done.err
    assert listing(project.parent) == before
