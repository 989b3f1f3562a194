"Suites of notebooks by the real command: what runs, what is left out, and what is true after any end."
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from children import QUIET
from test_command import listing, notebook, wait_for

pytestmark = [pytest.mark.alone, pytest.mark.xdist_group('suites'), pytest.mark.skipif(sys.platform == 'win32', reason='signals of POSIX')]
KIT = Path(sys.executable).with_name('mlops-kit')
DVC = """stages:
  00_data: {cmd: a, deps: [nbs/00_data.ipynb], outs: [data]}
  01_train: {cmd: b, deps: [nbs/01_train.ipynb, data], outs: [models]}
  02_report: {cmd: c, deps: [nbs/02_report.ipynb, models]}
"""
CHAPTERS = {
    '00_data': ['overrides: list[str] = []\nrows: int = 2', """
from pathlib import Path
out = Path('..', next((o[4:] for o in overrides if o.startswith('out=')), '.'))
(out/'data').mkdir(parents=True, exist_ok=True)
(out/'data/rows.csv').write_text(str(rows))"""],
    '01_train': ['overrides: list[str] = []\nlr: float = 0.1', """
from pathlib import Path
out = Path('..', next((o[4:] for o in overrides if o.startswith('out=')), '.'))
rows = int((out/'data/rows.csv').read_text())
(out/'models').mkdir(parents=True, exist_ok=True)
(out/'models/best.txt').write_text(f'{rows} {lr}')"""],
    '02_report': ['n: int = 1', 'n']}
SLEEP = 'import pathlib, time\npathlib.Path(f"awake{n}").write_text("yes")\ntime.sleep(60)'
FLAG = 'import os, pathlib\nflag = pathlib.Path(chr(102) * 2)\n'  # not by name, since a file that is named counts as input
DIES_ONCE = f'{FLAG}if not flag.exists():\n    flag.touch()\n    os.kill(os.getpid(), 9)'


def project(folder, dvc=None, sets=(), **cells):
    "A small project: notebooks by name, as lists of sources"
    files = {'settings.ini': '[DEFAULT]\nlib_name = tiny\nnbs_path = nbs\n', **({'dvc.yaml': dvc} if dvc else {}),
             **{f'configs/notebooks/{k}.yaml': v for k, v in dict(sets).items()},
             **{f'nbs/{k}.ipynb': json.dumps(notebook(*v)) for k, v in cells.items()}}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def start(cwd, words, **env):
    "Start `mlops-kit run WORDS`, as a terminal would"
    pipes = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    variables = {**os.environ, **QUIET, 'PYTHONPATH': str(cwd), 'COLUMNS': '200', 'CI': '', **env}
    return subprocess.Popen([KIT, 'run', *words.split()], cwd=cwd, env=variables, start_new_session=True, **pipes)


def run(cwd, words, **env):
    "Exit code, output, and with --json the records of `mlops-kit run WORDS`"
    process = start(cwd, words, **env)
    out, err = process.communicate(timeout=180)
    assert 'Traceback' not in err, err
    records = [json.loads(line) for line in out.splitlines()] if '--json' in words else []
    return SimpleNamespace(code=process.returncode, out=out, err=err, records={r['name']: r for r in records},
                           statuses={r['name']: r['status'] for r in records})


def suites(cwd, folder='runs'):
    "Every journal, oldest first, as `read_suite` has it"
    from mlops_kit.runs import read_suite
    return sorted(map(read_suite, (cwd / folder / 'suites').glob('*.jsonl')), key=lambda s: s['started'])


def events(suite, status):
    "Cases in the order in which they came to `status`"
    return [e['case'] for e in suite['events'] if e.get('case') and e['status'] == status]


def edit(folder, name, *sources):
    "Write a notebook anew"
    (folder / f'nbs/{name}.ipynb').write_text(json.dumps(notebook(*sources)))


def test_unchanged_is_left_out(tmp_path):
    "A second run leaves out what passed, says from which run, and makes no run folder"
    project(tmp_path, a=['n: int = 1', 'n'], b=['n: int = 1', 'n'])
    first = run(tmp_path, 'nbs --json')
    folders = sorted(tmp_path.glob('runs/*/*/run.json'))
    again = run(tmp_path, 'nbs --json')
    assert (first.code, again.code, again.statuses) == (0, 0, {'a': 'skipped', 'b': 'skipped'})
    assert first.records['a']['id'] in again.records['a']['error']['message']
    assert sorted(tmp_path.glob('runs/*/*/run.json')) == folders
    assert run(tmp_path, 'nbs --force --json').statuses == {'a': 'passed', 'b': 'passed'}
    edit(tmp_path, 'a', 'n: int = 1', 'n  # nothing new')
    assert run(tmp_path, 'nbs --json').statuses == {'a': 'skipped', 'b': 'skipped'}


def test_failure_is_never_remembered(tmp_path):
    "What failed last runs again, also when it passed with the same content before"
    project(tmp_path, a=['n: int = 1', f'{FLAG}assert not flag.exists()'])
    assert run(tmp_path, 'nbs').code == 0
    (tmp_path / 'nbs/ff').touch()
    assert run(tmp_path, 'nbs --json').statuses == {'a': 'skipped'}
    assert run(tmp_path, 'nbs --force --json').statuses == {'a': 'failed'}
    assert run(tmp_path, 'nbs --json').statuses == {'a': 'failed'}
    (tmp_path / 'nbs/ff').unlink()
    assert run(tmp_path, 'nbs --json').statuses == {'a': 'passed'}


def test_change_goes_down_the_dag(tmp_path):
    "New data makes what reads it stale, and a missing or damaged output its own chapter"
    project(tmp_path, DVC, **CHAPTERS)
    assert run(tmp_path, 'nbs --json').statuses == dict.fromkeys(CHAPTERS, 'passed')
    assert run(tmp_path, 'nbs --json').statuses == dict.fromkeys(CHAPTERS, 'skipped')
    changed = run(tmp_path, 'nbs -p rows=3 --json').statuses
    assert changed == dict.fromkeys(CHAPTERS, 'passed')
    (tmp_path / 'models/best.txt').write_text('by hand')
    assert run(tmp_path, 'nbs -p rows=3 --json').statuses == {'00_data': 'skipped', '01_train': 'passed', '02_report': 'skipped'}
    (tmp_path / 'data/rows.csv').unlink()
    assert run(tmp_path, 'nbs -p rows=3 --json').statuses['00_data'] == 'passed'


def test_set_beside_real_outputs(tmp_path):
    "A set is unchanged by itself, although the real outputs were there before its own"
    project(tmp_path, DVC, {'ci': 'all: {params: {rows: 1}}'}, **CHAPTERS)
    assert run(tmp_path, 'nbs').code == 0
    assert run(tmp_path, 'nbs --set ci --json').statuses == dict.fromkeys(CHAPTERS, 'passed')
    assert run(tmp_path, 'nbs --set ci --json').statuses == dict.fromkeys(CHAPTERS, 'skipped')
    assert run(tmp_path, 'nbs --json').statuses == dict.fromkeys(CHAPTERS, 'skipped')


def test_entries_and_grids(tmp_path):
    "A list gives a chapter several cases, a grid one for each point; all of them come before what needs the chapter"
    ci = '01_train:\n  - {name: base}\n  - {grid: {lr: [0.5, 0.25]}}\n'
    project(tmp_path, DVC, {'ci': ci}, **CHAPTERS)
    done = run(tmp_path, 'nbs --set ci --json')
    names = ['01_train[base]', '01_train[lr=0.5]', '01_train[lr=0.25]']
    assert done.statuses == dict.fromkeys(['00_data', *names, '02_report'], 'passed')
    assert [done.records[n]['parameters'].get('lr') for n in names] == [None, 0.5, 0.25]
    [suite] = suites(tmp_path, 'build/ci/runs')
    assert [n for n in events(suite, 'running') if n in names] == names
    assert events(suite, 'running')[-1] == '02_report'
    assert (tmp_path / 'build/ci/models/best.txt').read_text() == '2 0.25'
    assert run(tmp_path, 'nbs --set ci --json').statuses == dict.fromkeys(done.statuses, 'skipped')


def test_one_entry(tmp_path):
    "One entry can be asked for; after it, what the last one should have left is made again"
    project(tmp_path, DVC, {'ci': '01_train: {grid: {lr: [0.5, 0.25]}}'}, **CHAPTERS)
    run(tmp_path, 'nbs --set ci')
    assert run(tmp_path, 'nbs/01_train.ipynb[lr=0.5] --set ci --force --json').statuses == {'01_train[lr=0.5]': 'passed'}
    assert (tmp_path / 'build/ci/models/best.txt').read_text() == '2 0.5'
    assert set(run(tmp_path, 'nbs/01_train.ipynb --set ci --json').statuses.values()) == {'passed'}
    assert (tmp_path / 'build/ci/models/best.txt').read_text() == '2 0.25'
    wrong = run(tmp_path, 'nbs/01_train.ipynb[lr=5] --set ci')
    assert (wrong.code, 'there are: lr=0.5, lr=0.25' in wrong.err) == (2, True)


def test_why_runs_nothing(tmp_path):
    "`--why` says what changed, and nothing is run"
    project(tmp_path, a=['n: int = 1', 'n'])
    run(tmp_path, 'nbs')
    assert 'unchanged since' in run(tmp_path, '--why nbs').out
    edit(tmp_path, 'a', 'n: int = 1', 'n+1')
    before = listing(tmp_path / 'runs')
    said = run(tmp_path, '--why nbs -p n=2')
    assert (said.code, listing(tmp_path / 'runs')) == (0, before)
    assert 'n' in said.out.replace('unchanged', ''), said.out


def test_last_failed(tmp_path):
    "`--last-failed` runs what the last suite did not settle, without being told the notebooks again"
    project(tmp_path, DVC, **CHAPTERS)
    edit(tmp_path, '01_train', 'n: int = 1', '1/0')
    assert run(tmp_path, 'nbs --json').statuses == {'00_data': 'passed', '01_train': 'failed', '02_report': 'blocked'}
    edit(tmp_path, '01_train', *CHAPTERS['01_train'])
    assert run(tmp_path, '--last-failed --json').statuses == {'01_train': 'passed', '02_report': 'passed'}
    nothing = run(tmp_path, '--last-failed')
    assert (nothing.code, 'nothing failed' in nothing.out) == (0, True)


def test_resume_after_kill(tmp_path):
    "After `kill -9` the journal says what is known, and `--resume` keeps what passed, also of a forced suite"
    project(tmp_path, a=['n: int = 1', 'n'], b=['n: int = 1', SLEEP], c=['n: int = 1', 'n'])
    process = start(tmp_path, 'nbs --force -j 1')
    wait_for(tmp_path / 'nbs/awake1')
    process.kill()
    process.wait()
    dead = suites(tmp_path)[0]
    assert (dead['status'], {r['name']: r['status'] for r in dead['runs']}['b']) == ('interrupted', 'interrupted')
    passed = events(dead, 'passed')
    edit(tmp_path, 'b', 'n: int = 1', 'n')
    done = run(tmp_path, '--resume --json')
    assert done.statuses == {n: 'skipped' if n in passed else 'passed' for n in 'abc'}
    assert suites(tmp_path)[1]['resumes'] == dead['suite']


def test_resume_needs_a_dead_suite(tmp_path):
    "A suite that still runs is not resumed by another, and where there is none, that is said"
    project(tmp_path, a=['n: int = 1', SLEEP])
    assert 'no suite to go on with' in run(tmp_path, 'nbs --resume').err
    process = start(tmp_path, 'nbs')
    wait_for(tmp_path / 'nbs/awake1')
    refused = run(tmp_path, 'nbs --resume')
    assert (refused.code, 'still running' in refused.err) == (2, True)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130


@pytest.mark.parametrize('seed', [pytest.param(n, marks=pytest.mark.full if n < 1 else pytest.mark.soak) for n in range(8)])
def test_interrupt_at_any_moment(tmp_path, seed):
    "^C at any moment: exit 130 and a true journal, or nothing written at all; `--resume` does the rest"
    project(tmp_path, **{f'{i:02}': ['n: int = 1', 'import time\ntime.sleep(1)'] for i in range(8)})
    process = start(tmp_path, 'nbs -j 2')
    time.sleep(random.Random(seed).uniform(.1, 4))
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode in (130, -2)
    if found := suites(tmp_path):
        assert (found[0]['status'], len(found[0]['runs'])) == ('cancelled', 8)
        assert {r['status'] for r in found[0]['runs']} <= {'passed', 'cancelled'}
    done = run(tmp_path, '--resume --json' if found else 'nbs --json').statuses
    assert set(done.values()) <= {'passed', 'skipped'}
    assert [n for n, s in done.items() if s == 'skipped'] == (sorted(events(found[0], 'passed')) if found else [])


def test_retries(tmp_path):
    "A death is tried again and what passes then is flaky; an exception is not"
    project(tmp_path, dies=['n: int = 1', DIES_ONCE], fails=['n: int = 1', 'open("count", "a").write("x")\n1/0'])
    done = run(tmp_path, 'nbs --retries 2 --json')
    assert (done.code, done.statuses) == (1, {'dies': 'flaky', 'fails': 'failed'})
    assert [t['status'] for t in done.records['dies']['attempts']] == ['killed']
    assert (tmp_path / 'nbs/count').read_text() == 'x'
    assert re.search(r'flaky\s+dies', run(tmp_path, 'nbs/dies.ipynb --force --retries 1').out) is None
    assert run(tmp_path, 'nbs/dies.ipynb --json').statuses == {'dies': 'skipped'}


@pytest.mark.parametrize('limit', ['--cell-timeout', '--timeout', '--suite-timeout'])
def test_time_limits(tmp_path, limit):
    "A cell, a notebook and a suite have their limits, and each is called by its name"
    project(tmp_path, a=['n: int = 1', SLEEP], b=['n: int = 1', SLEEP.replace('n}', 'n+1}')])
    done = run(tmp_path, f'nbs -j 1 {limit} 2 --json')
    assert done.code == 1
    late = [r for r in done.records.values() if r['status'] == 'timeout']
    assert (len(late), set(done.statuses.values())) == ((1, {'timeout', 'cancelled'}) if 'suite' in limit else (2, {'timeout'}))
    word = {'--cell-timeout': 'cell', '--timeout': 'notebook', '--suite-timeout': 'suite'}[limit]
    assert word in late[0]['error']['message']
    assert suites(tmp_path)[0]['status'] == 'failed'


def test_front_matter(tmp_path):
    "A notebook that says skip_exec is left out of its folder, and runs when it is named"
    project(tmp_path, a=['n: int = 1', 'n'])
    book = json.loads((tmp_path / 'nbs/a.ipynb').read_text())
    book['cells'].insert(0, dict(cell_type='raw', id='r', metadata={}, source='---\nskip_exec: true\n---'))
    (tmp_path / 'nbs/a.ipynb').write_text(json.dumps(book))
    left = run(tmp_path, 'nbs --json')
    assert (left.code, left.statuses, left.records['a']['path']) == (0, {'a': 'skipped'}, None)
    assert 'skip_exec' in left.records['a']['error']['message']
    named = run(tmp_path, 'nbs/a.ipynb --json')
    assert (named.statuses, len(named.records['a']['timings'])) == ({'a': 'passed'}, 2)


def test_two_suites_at_once(tmp_path):
    "Two suites in one project do not disturb each other"
    project(tmp_path, **{f'{i:02}': ['n: int = 1', 'n'] for i in range(6)})
    both = [start(tmp_path, 'nbs --json --force') for _ in range(2)]
    said = [p.communicate(timeout=120) for p in both]
    assert [p.returncode for p in both] == [0, 0], said
    assert [{json.loads(line)['status'] for line in out.splitlines()} for out, _ in said] == [{'passed'}] * 2
    assert len(list(tmp_path.glob('runs/*/*/run.json'))) == 12
    assert [s['status'] for s in suites(tmp_path)] == ['passed'] * 2
    assert run(tmp_path, 'nbs --json').statuses == dict.fromkeys([f'{i:02}' for i in range(6)], 'skipped')


def test_what_writes_the_same_waits(tmp_path):
    "Two suites that make the same files do not make them at the same time"
    stamp = 'import time\nwith open("times", "a") as f: f.write("in\\n")\ntime.sleep(1)\nwith open("times", "a") as f: f.write("out\\n")'
    project(tmp_path, 'stages: {a: {cmd: x, outs: [nbs/times]}}', a=['n: int = 1', stamp])
    both = [start(tmp_path, 'nbs --force') for _ in range(2)]
    for p in both: p.communicate(timeout=60)
    assert [p.returncode for p in both] == [0, 0]
    assert (tmp_path / 'nbs/times').read_text().split() == ['in', 'out'] * 2


def test_verify_cold(tmp_path):
    "A notebook that says something else in a cold kernel has failed, and the note says what"
    told = 'import os\nprint(n, len(os.listdir()))\nopen(f"{os.getpid()}.txt", "w").close()'
    project(tmp_path, same=['n: int = 1', 'print(n)'], other=['n: int = 1', told])
    done = run(tmp_path, 'nbs -j 1 --verify-cold --json')
    assert done.statuses == {'same': 'passed', 'other': 'failed'}
    assert done.records['other']['error']['type'] == 'Differs'
    assert any('against' in note for note in done.records['other']['notes'])


def test_coverage(tmp_path):
    "`--cov` measures the project's package across notebooks, also those that are unchanged"
    project(tmp_path, a=['n: int = 1', 'from tiny import one\none()'], b=['n: int = 1', 'from tiny import two\ntwo()'])
    (tmp_path / 'settings.ini').write_text('[DEFAULT]\nlib_name = tiny\nlib_path = tiny\nnbs_path = nbs\n')
    (tmp_path / 'tiny').mkdir()
    (tmp_path / 'tiny/__init__.py').write_text('def one():\n    return 1\ndef two():\n    return 2\ndef three():\n    return 3\n')
    run(tmp_path, 'nbs')
    said = run(tmp_path, 'nbs --cov --verbose').out
    assert re.search(r'__init__.py +6 +1 +83% +6', said), said
    assert 'kernel' in said


def test_longest_first(tmp_path):
    "Among the ready, what took longest last time goes first"
    project(tmp_path, **{n: ['n: int = 1', f'import time\ntime.sleep({s})'] for n, s in dict(a=0, b=.5, c=2).items()})
    run(tmp_path, 'nbs -j 1')
    run(tmp_path, 'nbs -j 1 --force')
    first, second = suites(tmp_path)
    took = {e['case']: e['seconds'] for e in first['events'] if e.get('case') and e['status'] == 'passed'}
    assert events(second, 'running') == sorted('abc', key=took.get, reverse=True) != events(first, 'running')


def test_nowhere_to_write(tmp_path):
    "Where runs cannot be written there is one sentence, exit 3, and nothing half-written"
    project(tmp_path, a=['n: int = 1', 'n'])
    (tmp_path / 'runs').write_text('in the way')
    before = listing(tmp_path)
    done = run(tmp_path, 'nbs')
    assert (done.code, len(done.err.splitlines())) == (3, 1)
    assert 'cannot be written' in done.err
    assert listing(tmp_path) == {**before, **{f: t for f, t in listing(tmp_path).items() if '.mlops_kit' in f.parts}}


@pytest.fixture
def small_disk(tmp_path):
    "A disk of 200 kB"
    if os.geteuid() or subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=200k', 'tmpfs', tmp_path]).returncode:
        pytest.skip('only root may mount a disk')
    yield tmp_path
    subprocess.run(['umount', '-l', tmp_path], check=True)


@pytest.mark.full
@pytest.mark.parametrize('left', [0, 5_000, 20_000, 50_000])
def test_full_disk(small_disk, left):
    "When the disk is full at the start, or becomes so, there is one error, exit 3, and no file that is half-written"
    project(small_disk, **{f'{i}': ['n: int = 1', 'print("x" * 20_000)'] for i in range(4)})
    room = os.statvfs(small_disk)
    (small_disk / 'fill').write_bytes(bytes(max(0, room.f_bavail * room.f_bsize - left)))
    done = run(small_disk, 'nbs -j 2')
    assert (done.code, len(done.err.splitlines()), 'No space left' in done.err) == (3, 1, True), done.err
    torn = [f for f in small_disk.rglob('*') if f.is_file() and (f.suffix == '.part' or not f.stat().st_size)]
    assert {f.name for f in torn} <= {'.gitignore'}, torn  # that of .mlops_kit, which the next run writes again
    for file in small_disk.glob('runs/*/*/run.json'): json.loads(file.read_text())
    (small_disk / 'fill').unlink()
    assert run(small_disk, 'nbs/0.ipynb').code == 0


def test_nothing_heavy_for_nothing(tmp_path):
    "When all is unchanged, nothing is imported that runs notebooks"
    project(tmp_path, a=['n: int = 1', 'n'])
    run(tmp_path, 'nbs')
    code = 'import sys\nfrom mlops_kit.cli import main\ntry: main()\nfinally: print([m for m in sys.argv[0].split() if m in sys.modules])'
    heavy = 'papermill nbclient nbformat IPython zmq numpy rich jinja2 torch'
    words = [sys.executable, '-c', f'import sys; sys.argv = [{heavy!r}, "run", "nbs"]\n{code}']
    done = subprocess.run(words, cwd=tmp_path, text=True, capture_output=True)
    assert 'skipped' in done.stdout
    assert done.stdout.splitlines()[-1] == '[]'


def test_unchanged_imports_nothing_heavy(tmp_path):
    "To find that nothing changed needs no Jupyter, no papermill and no numpy: `make bench` says how long it takes"
    project(tmp_path, a=['n: int = 1', 'n'])
    assert run(tmp_path, 'nbs').code == 0
    code = 'import sys; from mlops_kit.cli import app; app(["run", "nbs"], standalone_mode=False); print(*sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, text=True, capture_output=True, check=True)
    assert '1 skipped' in done.stdout
    assert not {'papermill', 'nbclient', 'nbformat', 'IPython', 'numpy', 'zmq'} & set(done.stdout.split())
