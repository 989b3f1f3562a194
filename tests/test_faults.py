"Suites with faults, by the real command: what dies, hangs or is full is named, the rest is right, and nothing is left over."
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from test_command import wait_for
from test_suites import KIT, events, project, start, suites

pytestmark = [
    pytest.mark.alone, pytest.mark.xdist_group('faults'),
    pytest.mark.skipif(sys.platform != 'linux', reason='/proc, signals and mounts of Linux')]
SEED = os.environ.get('FAULT_SEED')
HOLD = """
import os, time
from pathlib import Path
file = Path(f"at-{n}-%d")
file.write_text(str(os.getpid()))
while file.exists(): time.sleep(.01)"""
COUNT = 'import time\ntime.sleep(.1)\nopen(f"ran-{n}", "a").write("x")'
EATS = """
import time
open("/proc/self/oom_score_adj", "w").write("1000")
x = []
while True:
    x.append(bytearray(b"x") * (8 << 20))
    time.sleep(.05)"""
SLEEP = 'import os, time\nfrom pathlib import Path\nPath(f"awake-{n}").write_text(str(os.getpid()))\ntime.sleep(600)'


def seeds(full, soak=0):
    "The first seeds for the full tier, the next ones for the soak; or the one in FAULT_SEED, to see a failure again"
    tiers = [(range(full), pytest.mark.full), (range(full, full + soak), pytest.mark.soak)]
    return pytest.mark.parametrize('seed', [int(SEED)] if SEED else [pytest.param(n, marks=m) for ns, m in tiers for n in ns])


def books(n, *cells):
    "Notebooks 00, 01, ... of the same cells, each with its number in `n`"
    return {f'{i:02}': [f'n: int = {i}', *cells] for i in range(n)}


def alive(mark):
    "Every process that was started with `mark` in its environment, or by one that was"
    found = {}
    for folder in Path('/proc').glob('[0-9]*'):
        with suppress(OSError):
            if mark.encode() in (folder / 'environ').read_bytes():
                found[int(folder.name)] = (folder / 'cmdline').read_bytes().replace(b'\0', b' ').decode()[:100]
    return found


def children(pid, word=''):
    "Process ids of the children of `pid` that have `word` in their command"
    import psutil
    with suppress(psutil.Error): return [c.pid for c in psutil.Process(pid).children() if word in ' '.join(c.cmdline())]
    return []


def kill(pid):
    with suppress(ProcessLookupError): os.kill(pid, signal.SIGKILL)


class Faults:
    "A project, its marked commands, and a source of chance"

    def __init__(self, folder, seed):
        self.cwd, self.mark, self.rng = folder, uuid.uuid4().hex, random.Random(seed)
        print(f'to see this again: FAULT_SEED={seed}')

    def start(self, words, **env): return start(self.cwd, words, FAULT_MARK=self.mark, **env)

    def end(self, process, *codes):
        "Wait for a command, and see that it ended as it should, and that nothing is left of it"
        out, err = process.communicate(timeout=300)
        assert process.returncode in codes, (process.returncode, out, err)
        assert 'Traceback' not in err, err
        end = time.monotonic() + 20
        while alive(self.mark) and time.monotonic() < end: time.sleep(.05)
        assert not alive(self.mark)
        return out, err

    def said(self, process, *codes):
        "What --json says of each case"
        return lines(self.end(process, *codes)[0])

    def run(self, words, *codes, **env): return self.said(self.start(f'{words} --json', **env), *codes or (0,))

    def server(self, runner):
        "The fork server of a command, once it is there"
        end = time.monotonic() + 60
        while time.monotonic() < end and runner.poll() is None:
            if found := children(runner.pid, 'forkserver.py'): return found[0]
            time.sleep(.02)
        pytest.fail(f'no fork server came: {runner.communicate()}')

    def times(self, name):
        "How often a notebook of COUNT came to its end"
        file = self.cwd / f'nbs/ran-{int(name)}'
        return len(file.read_text()) if file.exists() else 0


@pytest.fixture
def faults(tmp_path, request):
    "Faults for this test's seed; whatever it started ends with it"
    made = Faults(tmp_path, request.node.callspec.params.get('seed', 0) if hasattr(request.node, 'callspec') else 0)
    yield made
    for pid in alive(made.mark):
        with suppress(ProcessLookupError): os.kill(pid, signal.SIGKILL)


def lines(out): return {r['name']: r for r in map(json.loads, out.splitlines())}


def statuses(records): return {n: r['status'] for n, r in records.items()}


@seeds(1, 10)
def test_killed_kernels_are_named(faults, seed):
    "Of 40 kernels, those that somebody kills are named with signal and cell; the others pass"
    project(faults.cwd, **books(40, HOLD % 1, HOLD % 2))
    doomed = {i: faults.rng.choice((1, 2)) for i in faults.rng.sample(range(40), 12)}
    process, left = faults.start('nbs -j 4 --json'), {(i, c) for i in range(40) for c in range(1, 1 + doomed.get(i, 2))}
    while left and process.poll() is None:
        for i, c in list(left):
            file = faults.cwd / f'nbs/at-{i}-{c}'
            if not file.exists() or not (pid := file.read_text()): continue
            if doomed.get(i) == c: os.kill(int(pid), signal.SIGKILL)
            file.unlink()
            left.remove((i, c))
        time.sleep(.01)
    records = faults.said(process, 1)
    assert statuses(records) == {f'{i:02}': 'killed' if i in doomed else 'passed' for i in range(40)}
    dead = {int(n): (r['exit_signal'], r['error']['cell']) for n, r in records.items() if r['error']}
    assert dead == {i: ('SIGKILL', c) for i, c in doomed.items()}


@seeds(1, 31)
def test_kernels_killed_at_any_moment(faults, seed):
    "A kernel may be killed while it starts, works or ends: each case has a true word, and `--resume` does what is left"
    project(faults.cwd, **books(16, COUNT))
    process, end = faults.start('nbs -j 3 --json'), time.monotonic() + faults.rng.uniform(4, 8)
    server = faults.server(process)
    while process.poll() is None and time.monotonic() < end:
        time.sleep(faults.rng.uniform(.05, .4))
        kernels = children(server)
        if kernels: kill(faults.rng.choice(kernels))
    records = faults.said(process, 0, 1)
    assert set(statuses(records).values()) <= {'passed', 'killed', 'failed'}
    for r in records.values():
        if r['status'] == 'killed': assert r['exit_signal'] == 'SIGKILL'
        if r['status'] == 'failed': assert r['error']['type'] == 'KernelStart', r['error']
    assert set(statuses(faults.run('--resume')).values()) <= {'passed', 'skipped'}
    assert {n: faults.times(n) for n, r in records.items() if r['status'] == 'passed' and faults.times(n) != 1} == {}


HANGS = {  # what the last cell does, and what is seen of the place
    'sleeps': ('import time\ndef nap(): time.sleep(600)\nnap()', 'in nap'),
    'spins': ('def spin():\n    while True: pass\nspin()', 'in spin'),
    'awaits': ('import asyncio\nasync def never(): await asyncio.Event().wait()\nawait never()', 'in never'),
    'counts_in_c': ('def count(): return sum(iter(int, 1))\ncount()', 'in count'),
    'calls': ('import subprocess\ndef call(): subprocess.run(["sleep", "600"])\ncall()', 'in call'),
    'is_deaf': ("""def spin():
    try:
        while True: pass
    except KeyboardInterrupt: spin()
spin()""", 'in spin'),
    'is_stubborn': ("""import signal
def spin():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        try: sum(iter(int, 1))
        except BaseException: pass
spin()""", 'in spin')}


@pytest.mark.full
def test_hangs(faults):
    "A cell that hangs ends at its limit, whatever it ignores, and the report shows where it hung; the others pass"
    project(faults.cwd, fine=['n: int = 1', 'n'], **{k: ['n: int = 1', source] for k, (source, _) in HANGS.items()})
    records = faults.said(faults.start('nbs -j 4 --cell-timeout 2 --json --html page.html'), 1)
    assert statuses(records) == {**dict.fromkeys(HANGS, 'timeout'), 'fine': 'passed'}
    page = (faults.cwd / 'page.html').read_text()
    for k, (_, place) in HANGS.items():
        error = records[k]['error']
        assert (error['cell'], error['message']) == (1, 'a cell took more than 2 s')
        assert place in error['stack'], (k, error)
        assert place in page


@pytest.mark.full
def test_cold_hangs(faults):
    "So it is with cold kernels"
    project(faults.cwd, fine=['n: int = 1', 'n'], **{k: ['n: int = 1', source] for k, (source, _) in HANGS.items()})
    records = faults.run('nbs -j 3 --cold --cell-timeout 2', 1)
    assert statuses(records) == {**dict.fromkeys(HANGS, 'timeout'), 'fine': 'passed'}
    assert {k: records[k]['error'] for k, (_, place) in HANGS.items() if place not in (records[k]['error']['stack'] or '')} == {}


@pytest.mark.parametrize('times', [1, 2])
def test_told_more_than_once(faults, times):
    "A kernel that is slow to answer is told again how to note its stacks, and still tells where it is within C"
    script = f"""from mlops_kit import forkserver
for _ in range({times}): forkserver._note_stacks()
print('ready', flush=True)
def count(): return sum(iter(int, 1))
count()"""
    said = faults.cwd / 'said'
    with said.open('w') as f:
        process = subprocess.Popen([sys.executable, '-c', script], cwd=faults.cwd, env={**os.environ, 'FAULT_MARK': faults.mark},
                                   stdout=subprocess.PIPE, stderr=f, text=True)
    try:
        assert process.stdout.readline() == 'ready\n'
        end = time.monotonic() + 20
        while 'in count' not in said.read_text() and time.monotonic() < end:  # the first may come before it counts
            process.send_signal(signal.SIGUSR1)
            time.sleep(.1)
        assert 'in count' in said.read_text()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.full
def test_without_posix(faults):
    "Where there are no process groups, no fork and no user signals, a kernel that hangs is killed with what it started"
    source = 'import subprocess, time\nsubprocess.Popen(["sleep", "600"], start_new_session=True)\ntime.sleep(600)'
    project(faults.cwd, hangs=['n: int = 1', source])
    script = """import os, signal, sys
for module, name in ((os, 'fork'), (os, 'killpg'), (signal, 'SIGUSR1')): delattr(module, name)
sys.modules['fcntl'] = None
from mlops_kit import cli, runs
from mlops_kit.execute import Limits, run_case
out = run_case('nbs/hangs.ipynb', {}, limits=Limits(cell=2))
print(out.status, out.fields['error']['cell'], out.fields['engine'])"""
    process = subprocess.Popen([sys.executable, '-c', script], cwd=faults.cwd, env={**os.environ, 'FAULT_MARK': faults.mark},
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert faults.end(process, 0)[0] == 'timeout 1 cold\n'


@pytest.mark.full
@pytest.mark.parametrize('how', ['', '--cold'])
def test_nothing_is_left(faults, how):
    "What a notebook starts ends with it, in whatever session it went to, also when its kernel dies"
    leaves = 'import subprocess\nfor new in (True, False): subprocess.Popen("sleep 600 & sleep 600", shell=True, start_new_session=new)\n'
    project(faults.cwd, ends=['n: int = 1', leaves], dies=['n: int = 1', f'{leaves}import os\nos.kill(os.getpid(), 9)'],
            hangs=['n: int = 1', f'{leaves}import time\ntime.sleep(600)'])
    records = faults.run(f'nbs --cell-timeout 2 {how}', 1)
    assert statuses(records) == {'ends': 'passed', 'dies': 'killed', 'hangs': 'timeout'}


def test_own_folder_deleted(faults):
    "A notebook may delete the folder in which it works"
    project(faults.cwd, other=['n: int = 1', 'n'])
    project(faults.cwd / 'own', gone=['n: int = 1', 'import os, shutil\nshutil.rmtree(os.getcwd())', 'n'])
    records = faults.run('own/nbs/gone.ipynb nbs/other.ipynb')
    assert statuses(records) == {'gone': 'passed', 'other': 'passed'}
    assert Path(records['gone']['path'], 'gone.ipynb').exists()


def test_all_notebooks_deleted(faults):
    "When a notebook deletes those that were to follow, they fail, and that is why"
    project(faults.cwd, a=['n: int = 1', 'import os, shutil\nshutil.rmtree(os.getcwd())'], b=['n: int = 1', 'n'], c=['n: int = 1', 'n'])
    records = faults.run('nbs -j 1', 1)
    assert statuses(records) == {'a': 'passed', 'b': 'failed', 'c': 'failed'}
    assert 'b.ipynb' in records['b']['error']['message']


@contextmanager
def mounted(folder, options):
    "A small file system in memory at `folder`"
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', folder], capture_output=True, text=True)
    if done.returncode: pytest.skip(f'no file system can be mounted: {done.stderr.strip()}')
    try: yield folder
    finally: subprocess.run(['umount', '-l', folder], check=True)


def half_written(folder):
    "Files that are not whole"
    files = [f for f in folder.rglob('*') if f.is_file()]
    found = [f for f in files if f.name.startswith('.') and f.name != '.gitignore']
    for f in (f for f in files if f.suffix in ('.json', '.ipynb')):
        try: json.loads(f.read_text())
        except ValueError: found.append(f)
    return found


@pytest.mark.full
@pytest.mark.parametrize('place', ['runs', '.mlops_kit', '.'])
def test_full_disk(faults, place):
    "On a full disk there is one error and nothing half-written; with room again, `--resume` does the rest"
    talks = 'import random, time\ntime.sleep(.1)\nprint("".join(random.choices("abcdefghij", k=60_000)))'
    with mounted(faults.cwd / place, 'size=40k' if place == '.mlops_kit' else 'size=300k'):
        project(faults.cwd, **books(10, talks))
        err = faults.end(faults.start('nbs -j 2'), 3)[1]
        assert len(err.splitlines()) == 1, err
        assert 'make some room' in err
        assert half_written(faults.cwd) == []
        subprocess.run(['mount', '-o', 'remount,size=20m', faults.cwd / place], check=True)
        done = statuses(faults.run('nbs' if place == '.mlops_kit' else '--resume'))
        assert set(done.values()) <= {'passed', 'skipped'}
        assert set(statuses(faults.run('nbs')).values()) == {'skipped'}


@pytest.mark.parametrize('place', ['runs', '.mlops_kit'])
def test_read_only(faults, place):
    "Where nothing can be written, one sentence says so, and no process is left"
    project(faults.cwd, a=['n: int = 1', 'n'])
    with mounted(faults.cwd / place, 'ro'):
        _, err = faults.end(faults.start('nbs'), 3)
        assert len(err.splitlines()) == 1, err
        assert f'{faults.cwd / place}' in err


@pytest.mark.full
def test_no_more_memory(faults):
    "Memory that the system refuses is an exception like any other"
    project(faults.cwd, a=['n: int = 1', 'x = bytearray(1 << 40)'], b=['n: int = 1', 'n'])
    limit = 8 << 30
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try: process = faults.start('nbs --json')
    finally: resource.setrlimit(resource.RLIMIT_AS, before)
    records = faults.said(process, 1)
    assert statuses(records) == {'a': 'failed', 'b': 'passed'}
    assert (records['a']['error']['type'], records['a']['error']['cell']) == ('MemoryError', 1)


def memory_limit():
    "Where control groups that limit memory can be made, and the limit's name; version 1, or version 2 where ours hands it on"
    rows = [line.split(':', 2) for line in Path('/proc/self/cgroup').read_text().splitlines()]
    own = {name: path.lstrip('/') for _, names, path in rows for name in names.split(',')}
    if 'memory' in own:
        top = Path('/sys/fs/cgroup/memory')
        return next(p for p in (top / own['memory'], top) if p.exists()), 'memory.limit_in_bytes'
    top = Path('/sys/fs/cgroup', own.get('', ''))
    given = top / 'cgroup.subtree_control'
    if not given.exists() or 'memory' not in given.read_text().split(): pytest.skip(f'{top} hands no memory limits on (cgroup v2)')
    return top, 'memory.max'


@contextmanager
def memory_group(megabytes):
    "A control group that may use so much memory, below our own"
    top, limit = memory_limit()
    group = top / f'faults-{uuid.uuid4().hex[:8]}'
    try: group.mkdir()
    except OSError as e: pytest.skip(f'no control group can be made in {top}: {e.strerror}')
    try:
        (group / limit).write_text(f'{megabytes}M')
        with suppress(OSError): (group / 'memory.swap.max').write_text('0')
        with suppress(OSError): (group / 'memory.memsw.limit_in_bytes').write_text(f'{megabytes}M')
        yield group
    finally: group.rmdir()


@pytest.mark.full
def test_out_of_memory(faults):
    "A kernel that the system kills for its memory says so, with the cell and its peak; the others pass"
    project(faults.cwd, a=['n: int = 1', EATS], b=['n: int = 1', 'n'])
    with memory_group(600) as group:
        process = faults.start('nbs -j 1 --json')
        (group / 'cgroup.procs').write_text(str(process.pid))
        records = faults.said(process, 1)
    assert statuses(records) == {'a': 'killed', 'b': 'passed'}
    dead = records['a']
    assert (dead['exit_signal'], dead['error']['cell']) == ('SIGKILL', 1)
    assert 'likely out of memory' in dead['error']['message']
    assert 100 < dead['peak_memory_mb'] < 700


@seeds(4, 56)
def test_interrupted_again_and_again(faults, seed):
    "^C at any moment, and `--resume`, until all is done: all pass in the end, and what passed once is never run again"
    project(faults.cwd, **books(8, COUNT))
    passed, words = {}, 'nbs -j 2'
    for _ in range(2):
        process = faults.start(words)
        time.sleep(faults.rng.uniform(.5, 5))
        os.killpg(process.pid, signal.SIGINT)
        faults.end(process, 130, -2, 0)
        for suite in suites(faults.cwd): passed |= {n: faults.times(n) for n in events(suite, 'passed') if n not in passed}
        words = '--resume -j 2' if suites(faults.cwd) else words
    assert set(statuses(faults.run(words)).values()) <= {'passed', 'skipped'}
    assert {n: faults.times(n) for n in passed} == passed


@seeds(1, 20)
def test_three_interrupts(faults, seed):
    "Who presses ^C again and again gets out, also of a notebook that hears nothing, and nothing is left"
    project(faults.cwd, a=['n: int = 1', HANGS['is_stubborn'][0].replace('import signal', 'import signal\nopen("awake", "w").write("x")')])
    process = faults.start('nbs')
    wait_for(faults.cwd / 'nbs/awake')
    for _ in range(6):
        time.sleep(faults.rng.uniform(0, .3))
        with suppress(ProcessLookupError): os.killpg(process.pid, signal.SIGINT)
    faults.end(process, 130, -2)
    assert {r['status'] for s in suites(faults.cwd) for r in s['runs']} <= {'cancelled', 'interrupted'}


@seeds(1, 21)
def test_two_suites_at_once(faults, seed):
    "Two suites in one project, of other values: each has its own runs, and what is remembered fits what was run"
    project(faults.cwd, **{f'{i:02}': ['n: int = 1', 'import time\ntime.sleep(.1)\nprint(f"<{n}>")'] for i in range(6)})
    first = faults.start('nbs -p n=7 --json')
    time.sleep(faults.rng.uniform(0, 3))
    second = faults.start('nbs -p n=8 --json')
    said = {n: lines(p.communicate(timeout=120)[0]) for n, p in ((7, first), (8, second))}
    assert (first.returncode, second.returncode) == (0, 0)
    again = {n: faults.run(f'nbs -p n={n}') for n in (8, 7)}
    for n, records in [*said.items(), *again.items()]:
        assert set(statuses(records).values()) <= {'passed', 'skipped'}
        for r in records.values():
            assert r['parameters'] == {'n': n}
            assert f'<{n}>' in Path(r['path'], f'{r["name"]}.ipynb').read_text()
    assert not {r['id'] for r in said[7].values()} & {r['id'] for r in said[8].values()}


@seeds(1, 21)
def test_fork_server_killed(faults, seed):
    "When the process that forks is killed, its notebooks run again cold; that is said once, and all pass"
    project(faults.cwd, **books(8, 'import time\ntime.sleep(1)'))
    process = faults.start('nbs -j 3')
    server = faults.server(process)
    time.sleep(faults.rng.uniform(0, 2))
    while not children(server) and process.poll() is None: time.sleep(.01)
    kill(server)
    out, err = faults.end(process, 0)
    assert (out + err).count('kernels start cold from here on') == 1
    [suite] = suites(faults.cwd)
    assert {r['status'] for r in suite['runs']} == {'passed'}
    assert len(suite['notes']) == 1


def test_lost_kernel_runs_again(faults):
    "A notebook whose kernel went with its server is not to blame: it runs again cold, and its record says why"
    project(faults.cwd, a=['n: int = 1', HOLD % 1])
    process = faults.start('nbs --json')
    before = wait_for(faults.cwd / 'nbs/at-1-1')
    kill(faults.server(process))
    while process.poll() is None:
        file = faults.cwd / 'nbs/at-1-1'
        if file.exists() and file.read_text() not in ('', before): file.unlink()
        time.sleep(.02)
    record = faults.said(process, 0)['a']
    assert (record['status'], record['engine'], record['attempts']) == ('passed', 'cold', [])
    assert 'the fork server died' in record['notes'][0]


@seeds(1, 10)
@pytest.mark.parametrize('how', ['', '--cold', 'without a server'])
def test_runner_killed(faults, seed, how):
    "After `kill -9` of the command nothing is left running, what happened can be read, and `--resume` does the rest"
    project(faults.cwd, **books(6, COUNT), zz=['n: int = 6', SLEEP])
    process = faults.start(f'nbs -j 2 {how if how.startswith("-") else ""}')
    if how and not how.startswith('-'): kill(faults.server(process))
    time.sleep(faults.rng.uniform(0, 4))
    wait_for(faults.cwd / 'nbs/awake-6')
    process.kill()
    faults.end(process, -9)
    [suite] = suites(faults.cwd)
    words = {r['name']: r['status'] for r in suite['runs']}
    assert (suite['status'], words['zz']) == ('interrupted', 'interrupted')
    listed = subprocess.run([KIT, 'runs', 'list'], cwd=faults.cwd, capture_output=True, text=True, check=True).stdout
    assert [line for line in listed.splitlines() if 'zz' in line and 'interrupted' in line]
    (faults.cwd / 'nbs/zz.ipynb').write_text((faults.cwd / 'nbs/00.ipynb').read_text())
    done = statuses(faults.run('--resume'))
    assert {n for n, s in done.items() if s == 'skipped'} == {n for n, s in words.items() if s == 'passed'}
    assert set(done.values()) <= {'passed', 'skipped'}
