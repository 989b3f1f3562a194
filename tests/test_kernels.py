"Forked kernels: they say what papermill's own kernels say, open three doors, and leave no process behind."
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import nbformat
import psutil
import pytest
from helpers import ROOT, Env, extras, sh, wait_for

from mlops_kit import forkserver
from mlops_kit.execute import differences, kernel_env, run_case
from mlops_kit.kernels import Kernels
from mlops_kit.sources import imports

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='kernels are forked on Linux')
NOTEBOOKS = ROOT / 'tests/notebooks'
CORPUS = sorted(f.stem for f in NOTEBOOKS.glob('*.ipynb'))
TO_THE_END = {'atexit_writes_a_file', 'files_left_open', 'threads_left_alive'}  # write when their kernels end
SOME = [n for i, n in enumerate(CORPUS) if i % 3 == 0 or n in TO_THE_END]
QUICK = 'empty_cells error files_left_open main_and_name parameters top_level_await'.split()
VALUES = {'parameters': dict(n=3, name='given')}


def copied(names, folder):
    "An empty folder with these notebooks of the corpus"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return [Path(shutil.copy(NOTEBOOKS / f'{n}.ipynb', folder)) for n in names]


def portable(nb, folder):
    "The notebook, with the name of the folder that it ran in taken out: each side has one of its own"
    return nbformat.from_dict(json.loads(json.dumps(nb).replace(str(folder), 'FOLDER')))


def by_papermill(names, folder):
    "Each notebook as papermill's own engine executes it"
    from papermill.execute import remove_error_markers
    copied(names, folder)
    sh([sys.executable, ROOT / 'tests/papermill_all.py', json.dumps(VALUES)], cwd=folder, env=kernel_env())
    return {n: portable(remove_error_markers(nbformat.read(folder / f'{n}.out', 4)), folder) for n in names}


def by_us(names, folder, cache):
    "Each notebook as a suite with one fork server executes it"
    paths = copied(names, folder)
    needs = {p: imports(p, folder).modules for p in paths}
    with Kernels(needs, cache=cache, env=kernel_env(), notice=pytest.fail) as k, ThreadPoolExecutor(2) as pool:
        run = lambda p: run_case(p, VALUES.get(p.stem, {}), kernels=k, seed=p.stem)
        outs = dict(zip(names, pool.map(run, paths)))
    assert not [n for n, o in outs.items() if o.fields['engine'] != 'warm']
    return {n: portable(o.nb, folder) for n, o in outs.items()}


def written(folder):
    "What the notebooks wrote, beside what is executed, compiled, or named by the clock"
    files = [f for f in folder.rglob('*') if f.is_file() and f.suffix not in ('.ipynb', '.out', '.pyc')]
    return {str(f.relative_to(folder)): f.read_bytes() for f in files if not {'wandb', '.mlops_kit'} & {*f.parts}}


class Both:
    "Notebooks executed by papermill, and by two suites, the second with all that the first has learned"

    def __init__(self, folder, names):
        self.cold = by_papermill(names, folder / 'cold')
        self.warm, self.files = [], [written(folder / 'cold')]
        for _ in range(2):
            self.warm.append(by_us(names, folder / 'warm', folder / 'cache'))
            self.files.append(written(folder / 'warm'))

    def differences(self, name): return [differences(w[name], self.cold[name]) for w in self.warm]


@pytest.fixture(scope='module')
def quick(tmp_path_factory): return Both(tmp_path_factory.mktemp('quick'), QUICK)


@pytest.fixture(scope='module')
def corpus(tmp_path_factory): return Both(tmp_path_factory.mktemp('corpus'), SOME)


@pytest.fixture(scope='module')
def others(tmp_path_factory): return Both(tmp_path_factory.mktemp('others'), sorted({*CORPUS} - {*SOME}))


def check_same(both, name):
    "It says the same, and knows the same of itself"
    assert both.differences(name) == [[], []]
    metadata = [c[name].metadata for c in (both.cold, *both.warm)]
    for key in ('language_info', 'widgets', 'kernelspec'): assert metadata[0].get(key) == metadata[1].get(key) == metadata[2].get(key)


@pytest.mark.xdist_group('quick_corpus')
@pytest.mark.parametrize('name', QUICK)
def test_says_what_papermill_says(quick, name):
    "A notebook in a forked kernel says the same as in papermill's own, cell by cell; so it does when imports were learned"
    assert quick.differences(name) == [[], []]


@pytest.mark.xdist_group('quick_corpus')
def test_leaves_what_papermill_leaves(quick):
    "Files that were left open are complete"
    assert len(quick.files[0]) == 6
    assert quick.files[0] == quick.files[1] == quick.files[2]


@pytest.mark.soak
@pytest.mark.xdist_group('corpus')
@pytest.mark.parametrize('name', SOME)
def test_corpus_says_what_papermill_says(corpus, name):
    "The same for a third of the corpus, and what is written at the end"
    check_same(corpus, name)


@pytest.mark.soak
@pytest.mark.parametrize('name', sorted({*CORPUS} - {*SOME}))
def test_rest_of_the_corpus(others, name):
    "And for the rest of it"
    check_same(others, name)


@pytest.mark.soak
@pytest.mark.xdist_group('corpus')
def test_corpus_leaves_what_papermill_leaves(corpus):
    "What is written at the very end is written: by exit hooks, destructors and threads that were still alive"
    assert {'atexit.txt', 'circle.txt', 'kept.txt', 'rows.csv', 'thread.txt', 'last.txt'} <= corpus.files[0].keys()
    changing = {'rows.db', 'cancelled.txt'}
    found = [{n: None if n in changing else b for n, b in f.items()} for f in corpus.files]
    assert found[0] == found[1] == found[2]


def notebook(path, *sources):
    "A notebook of these cells"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources]), path)
    return path


def shown(nb): return [o['text'] if o.output_type == 'stream' else o['data']['text/plain'] for c in nb.cells for o in c.get('outputs', [])]


LOOK = """
import json, os, psutil, sys
seen = dict(parent=psutil.Process(os.getppid()).cmdline(), known='colorsys' in sys.modules,
            ports=[c.laddr.port for c in psutil.Process().net_connections('inet')])
import colorsys
json.dump(seen, open(f'{sys.argv[0] and os.environ["SEEN"]}', 'w'))"""
DOORS = {
    'papermill': (['papermill', '--engine', 'warm', '-k', 'python3', '--no-progress-bar', 'in.ipynb', 'out.ipynb'], {}),
    'nbclient': (['jupyter', 'execute', '--kernel_name=python3', 'in.ipynb'], {'JUPYTER_DEFAULT_PROVISIONER_NAME': 'warm'}),
    'nbconvert': (['jupyter', 'nbconvert', '--to', 'notebook', '--execute', 'in.ipynb', '--output', 'out'],
                  {'JUPYTER_DEFAULT_PROVISIONER_NAME': 'warm'}),
}
NOISE = 'WARN', 'Warning', 'Error', 'Traceback'


def through(command, folder, **env):
    "What a notebook sees, started by a command"
    path = {'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'}
    done = sh(command, cwd=folder, env={**path, 'SEEN': f'{folder}/seen.json', **env})
    assert not [w for w in NOISE if w in done.stdout], done.stdout
    return json.loads((folder / 'seen.json').read_text())


@pytest.mark.parametrize('door', DOORS)
def test_doors(door, tmp_path):
    "Each tool gets a forked kernel without a port, and says nothing that it would not have said"
    notebook(tmp_path / 'in.ipynb', LOOK)
    command, env = DOORS[door]
    seen = through(command, tmp_path, **env)
    assert 'forkserver.py' in ' '.join(seen['parent'])
    assert (seen['ports'], seen['known']) == ([], False)


def test_commands_share_a_server(tmp_path):
    "Behind `mlops-kit warm` the second command's kernel has what the first one's cells imported"
    notebook(tmp_path / 'in.ipynb', LOOK)
    run = "papermill -k python3 --engine warm --no-progress-bar in.ipynb out.ipynb"
    ask = [sys.executable, '-c', f'from mlops_kit.kernels import warm; exit(warm(["sh", "-c", "{run} && sleep 1 && {run}"]))']
    assert through(ask, tmp_path)['known']


@pytest.mark.full
def test_nbmake(tmp_path, wheel):
    "nbmake, which knows nothing of us, runs its notebooks in forked kernels when a variable says so"
    env = Env('nbmake', '-c', ROOT / 'constraints.txt', 'nbmake', 'papermill', 'psutil', 'ipykernel', *extras()['base'], wheel)
    for n in 'ab': notebook(tmp_path / f'{n}.ipynb', LOOK)
    given = {'JUPYTER_DEFAULT_PROVISIONER_NAME': 'warm', 'SEEN': str(tmp_path / 'seen.json')}
    done = env.run('pytest', '--nbmake', '-p', 'no:cacheprovider', tmp_path, env=given, cwd=tmp_path)
    seen = json.loads((tmp_path / 'seen.json').read_text())
    assert '2 passed' in done.stdout
    assert (seen['ports'], seen['known'], 'forkserver.py' in ' '.join(seen['parent'])) == ([], True, True)


UNFIT = {
    'starts_a_thread': ('import threading, time\nthreading.Thread(target=time.sleep, args=[99], daemon=True).start()', 'running'),
    'warns': ('import warnings\nwarnings.warn("soon gone")', 'writes to the screen'),
    'writes_from_c': ('import ctypes\nctypes.CDLL(None).puts(b"hello")', 'writes to the screen'),
    'registers': ('get_ipython().events.register("post_run_cell", print)', 'asks for the shell'),
    'keeps_the_shell': ('shell = get_ipython()', 'asks for the shell'),
}


def test_unfit_imports_are_left_out(tmp_path):
    "An import that a fork would break is left out with the reason; those around it are kept, and no request is lost meanwhile"
    for name, (source, _) in UNFIT.items(): (tmp_path / f'{name}.py').write_text(source)
    path = notebook(tmp_path / 'nb.ipynb', f'import sys; [m for m in ({[*UNFIT, "colorsys", "fractions"]}) if m in sys.modules]')
    needs = ['colorsys', *UNFIT, 'fractions']
    with Kernels({path: needs}, env=kernel_env() | {'PYTHONPATH': str(tmp_path)}, notice=pytest.fail) as k:
        out = run_case(path, {}, kernels=k, env={'PYTHONPATH': str(tmp_path)})
        told = {m['module']: m['why'] for m in k.servers['light'].news() if m.get('why')}
    assert shown(out.nb) == ["['colorsys', 'fractions']"]
    assert told.keys() == UNFIT.keys()
    assert not [n for n, (_, why) in UNFIT.items() if why not in told[n]]


@pytest.mark.parametrize('name', ['OMP_NUM_THREADS', 'CUDA_VISIBLE_DEVICES', 'TOKENIZERS_PARALLELISM', 'PYTHONWARNINGS', 'LC_ALL'])
def test_variables_read_at_import(name, tmp_path):
    "A variable that libraries read when they are imported, and that differs, makes the kernel cold, and the record says so"
    path = notebook(tmp_path / 'nb.ipynb', f'import os; os.environ["{name}"]')
    with Kernels({path: []}, env=kernel_env(), notice=pytest.fail) as k: out = run_case(path, {}, env={name: '1'}, kernels=k)
    assert (out.fields['engine'], out.status) == ('cold', 'passed')
    assert out.fields['notes'] == [f'its kernel started cold: {name} differs']


def test_other_variables_are_given(tmp_path):
    "Any other variable is just given to the forked kernel"
    path = notebook(tmp_path / 'nb.ipynb', 'import os; os.environ["MINE"], os.environ.get("THEIRS")')
    with Kernels({path: []}, env=kernel_env() | {'THEIRS': '2'}) as k: out = run_case(path, {}, env={'MINE': '1'}, kernels=k)
    assert (shown(out.nb), out.fields['engine']) == (["('1', None)"], 'warm')


def test_no_fork_after_cuda(monkeypatch):
    "Once an import has initialised CUDA nothing is forked"
    torch = pytest.importorskip('torch')
    cmd = [sys.executable, *forkserver._flags(), '-m', 'ipykernel_launcher', '-f', 'x']
    request = dict(cmd=cmd, args=cmd[-2:], env={})
    assert forkserver._why_cold(request, {}) is None
    monkeypatch.setattr(torch.cuda, 'is_initialized', lambda: True)
    assert 'CUDA' in forkserver._why_cold(request, {})


DRAW = "import random, numpy, torch\nrandom.random(), numpy.random.rand(), torch.rand(1).item()"


@pytest.mark.full
def test_random_numbers(tmp_path):
    "The same notebook with the same parameters draws the same numbers again; another, or with others, draws others"
    path = notebook(tmp_path / 'nb.ipynb', DRAW)
    with Kernels({path: ['numpy', 'torch']}, env=kernel_env(), notice=pytest.fail) as k:
        a, b, c, d = [eval(shown(run_case(path, {}, kernels=k, seed=s).nb)[0]) for s in ('a', 'a', 'b', None)]
    assert a == b
    assert not {*a} & {*c} | {*a} & {*d}


def test_nothing_under_test_is_imported(tmp_path):
    "Neither the project's modules nor ours are in a new kernel, whatever the notebooks name"
    (tmp_path / 'mypackage.py').write_text('x = 1')
    path = notebook(tmp_path / 'nb.ipynb', 'import sys; [m for m in sys.modules if m.split(".")[0] in ("mlops_kit", "mypackage")]')
    env = kernel_env() | {'PYTHONPATH': str(tmp_path)}
    with Kernels({path: ['mypackage', 'colorsys']}, never=['mypackage'], env=env) as k:
        out = run_case(path, {}, kernels=k, env={'PYTHONPATH': str(tmp_path)})
        told = [m.get('module') for m in k.servers['light'].news()]
    assert (shown(out.nb), out.fields['engine']) == (['[]'], 'warm')
    assert 'colorsys' in told
    assert 'mypackage' not in told


def test_imports_of_cells_are_learned(tmp_path):
    "A project's module that a cell imports is not learned, though it can be imported; an installed one is"
    (tmp_path / 'mine.py').write_text('import colorsys')
    path = notebook(tmp_path / 'nb.ipynb', 'import mine')
    with Kernels({path: []}, env=kernel_env()) as k:
        run_case(path, {}, kernels=k)
        end = time.monotonic() + 5
        while time.monotonic() < end and not any(m.get('case') for m in k.servers['light'].news()): time.sleep(.05)
        learned = [n for m in k.servers['light'].news() for n in m.get('learned', [])]
    assert 'colorsys' in learned
    assert 'mine' not in learned


RUNNER = """
import sys
from pathlib import Path
from mlops_kit.execute import kernel_env, run_case
from mlops_kit.kernels import Kernels
path = Path(sys.argv[1])
with Kernels({path: ['torch'][:int(sys.argv[3])]}, cold=sys.argv[2]=='cold', env=kernel_env()) as k: run_case(path, {}, kernels=k)"""
BUSY = """
import multiprocessing as mp, subprocess, time
child = subprocess.Popen(['sleep', '600'])
worker = mp.get_context('fork').Process(target=time.sleep, args=[600])
worker.start()
open('busy', 'w').close()
while True: pass"""
LOADING = """
import subprocess, time, torch
child = subprocess.Popen(['sleep', '600'])
class Slow(torch.utils.data.Dataset):
    def __len__(self): return 100
    def __getitem__(self, i): return i if i<4 else time.sleep(600)
for batch in torch.utils.data.DataLoader(Slow(), num_workers=2): open('busy', 'w').close()"""


def marked(mark):
    "Processes with this word in their environment, as {pid: command}"
    found = {}
    for folder in Path('/proc').glob('[0-9]*'):
        try: env, command = (folder / 'environ').read_bytes(), (folder / 'cmdline').read_bytes()
        except OSError: continue
        if mark.encode() in env and command: found[int(folder.name)] = command.replace(b'\0', b' ').decode()
    return found


@pytest.fixture
def busy(tmp_path):
    "Start a runner whose notebook is busy with a child and a worker; its processes by their mark"
    mark, started = uuid4().hex, []

    def start(source, how, torch=False):
        path = notebook(tmp_path / 'nb.ipynb', source)
        words = [sys.executable, '-c', RUNNER, path, how, str(int(torch))]
        started.append(subprocess.Popen(words, env={**os.environ, 'MARK': mark}, cwd=tmp_path, start_new_session=True))
        assert wait_for((tmp_path / 'busy').exists, 120)
        return started[0], lambda: marked(mark)
    yield start
    for pid in marked(mark): os.kill(pid, signal.SIGKILL)
    for p in started: p.wait()


@pytest.mark.parametrize('how', ['warm', 'cold'])
def test_runner_killed(busy, how):
    "kill -9 of the runner leaves nothing: no server, no kernel, nothing that a cell started"
    runner, left = busy(BUSY, how)
    assert len(left()) >= 4
    runner.kill()
    runner.wait()
    assert wait_for(lambda: not left(), 5), left()


def test_server_killed(busy):
    "kill -9 of the fork server takes its kernels along with all that their cells started"
    runner, left = busy(BUSY, 'warm')
    before = left().keys() - {runner.pid}
    [server] = psutil.Process(runner.pid).children()
    assert len(before) >= 4
    server.kill()
    assert wait_for(lambda: not before & left().keys(), 5), left()


@pytest.mark.full
@pytest.mark.alone
@pytest.mark.parametrize('how', ['warm', 'cold'])
def test_runner_killed_while_loading(busy, how):
    "The same with the workers of a DataLoader"
    runner, left = busy(LOADING, how, torch=True)
    assert len(left()) >= 6
    runner.kill()
    runner.wait()
    assert wait_for(lambda: not left(), 5), left()
