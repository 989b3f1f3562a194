"Retraining by the real command: what dies on the way, who comes at the same time, and what the world does to a log."
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from children import QUIET

from mlops_kit.configs import compose
from mlops_kit.registry import Registry
from mlops_kit.retrain import retrain as again
from mlops_kit.simulate import simulate
from mlops_kit.story import Attempt, attempts
from mlops_kit.toys import toy_homes, toy_project

pytestmark = [pytest.mark.xdist_group('retrain'), pytest.mark.skipif(sys.platform == 'win32', reason='signals of POSIX')]
KIT = Path(sys.executable).with_name('mlops-kit')
NOW = ['retrain.cooldown=null', 'retrain.runs=null']


def start(home, *words):
    "Start `mlops-kit retrain WORDS`, as a terminal would"
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    return subprocess.Popen([KIT, 'retrain', *words], cwd=home, env={**os.environ, **QUIET, 'PYTHONPATH': str(home)}, **pipes)


def retrain(home, *words, code=0):
    "Its record"
    process = start(home, *words, '--json')
    out, err = process.communicate(timeout=180)
    assert process.returncode == code, out + err
    assert 'Traceback' not in err, err
    return json.loads(out)


def champion(home):
    return Registry(folder=home / 'registry').state('homes').champion


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    "A project with a champion"
    home = toy_project(tmp_path_factory.mktemp('retrain') / 'homes')
    assert retrain(home)['outcome'] == 'promoted'
    return home


@pytest.fixture
def home(trained, tmp_path):
    "A copy of it, to break"
    return shutil.copytree(trained, tmp_path / 'homes')


def ask(home, price=12, days=4, rows=60, seed=1):
    "Have the champion asked for days, in which apartments cost so much; the log, and the table of labels"
    log, labels = home / 'predictions/homes', home / 'predictions/homes.labels.parquet'
    made = simulate('homes@champion', toy_homes(days * rows, price, seed), home / f'asked{seed}', 'price', days=days, rows=rows,
                    lag='1h', start=f'2026-11-{5 * seed:02}', folder=home / 'registry')
    log.mkdir(parents=True, exist_ok=True)
    for f in made.log.glob('*.jsonl'): f.rename(log / f.name)
    known = pd.read_parquet(made.labels)
    (pd.concat([pd.read_parquet(labels), known]) if labels.exists() else known).to_parquet(labels)
    return log, labels


@pytest.mark.parametrize('step', ['compare', *(pytest.param(s, marks=pytest.mark.soak) for s in ('decide', 'collect'))])
def test_killed(home, step):
    "Whoever is killed after a step leaves the champion, and the next call goes on with the same attempt"
    ask(home)
    process = start(home, *NOW)
    while process.poll() is None:
        tried = attempts(home / 'registry')
        if len(tried) > 1 and any(s['step'] == step for s in tried[-1].steps):
            os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert champion(home) in ((1,) if process.returncode else (1, 2))
    told = retrain(home, *NOW)
    tried = attempts(home / 'registry')
    assert (told['outcome'], champion(home), len(tried)) in (('promoted', 2, 2), ('left', 2, 3))
    assert [s['step'] for s in tried[1].steps][-1] in ('promote', 'watch')


@pytest.fixture
def inside(home, monkeypatch):
    "The project, for calls from this process"
    monkeypatch.chdir(home)
    monkeypatch.syspath_prepend(home)
    monkeypatch.setenv('PYTHONPATH', str(home))
    return home


@pytest.mark.parametrize(('moment', 'outcome', 'now'), [('promote', 'promoted', 2), ('rollback', 'rolled back', 1)])
def test_killed_before_it_is_written_down(inside, monkeypatch, moment, outcome, now):
    "A champion that nobody noted is noted by the next call, and so is one that went back"
    def dies(self, step, said, **facts): return sys.exit(9) if step == moment else note(self, step, said, **facts)
    note = Attempt.note
    ask(inside)
    if moment == 'rollback':
        assert again(compose(NOW)).outcome == 'promoted'
        ask(inside, price=10, seed=2)
    monkeypatch.setattr(Attempt, 'note', dies)
    with pytest.raises(SystemExit): again(compose([*NOW, 'retrain.watch=100']))
    monkeypatch.setattr(Attempt, 'note', note)
    assert champion(inside) == now
    again(compose([*NOW, 'retrain.watch=100000']), 'schedule')
    assert (attempts(inside / 'registry')[1].outcome, champion(inside)) == (outcome, now)


def test_one_at_a_time(home):
    "Of two that come at once, one is told who is at it, and changes nothing"
    ask(home)
    both = [start(home, *NOW, '--json') for _ in range(2)]
    ends = [(*p.communicate(timeout=180), p.returncode) for p in both]
    late = [err for _, err, code in ends if code]
    assert ['a retraining is at work since' in err and 'Traceback' not in err for err in late] == [True], ends
    assert (champion(home), len(attempts(home / 'registry'))) == (2, 2)


def changed_rows(log, change):
    "Write each record of a log anew; `change` gets it and its number"
    for n, f in enumerate(sorted(log.glob('*.jsonl'))):
        records = [json.loads(line) for line in f.read_text().splitlines()]
        f.write_text(''.join(json.dumps(change(r, n)) + '\n' for r in records))


def lost(log, labels):
    pd.read_parquet(labels).head(0).to_parquet(labels)


def odd_labels(log, labels):
    df = pd.read_parquet(labels)
    df.assign(label=['what?' if i % 5 == 0 else str(v) for i, v in enumerate(df.label)]).to_parquet(labels)


def twice(log, labels):
    for f in list(log.glob('*.jsonl')): shutil.copy(f, f.with_name(f.name.replace('-0-', '-1-')))
    df = pd.read_parquet(labels)
    pd.concat([df, df]).to_parquet(labels)


def clock_back(log, labels):
    changed_rows(log, lambda r, n: r | {'time': '1999-12-31T23:00:00+00:00' if n % 3 == 0 else r['time']})


def one_row(log, labels):
    for f in sorted(log.glob('*.jsonl'))[1:]: f.unlink()


def empty(log, labels):
    for f in log.glob('*.jsonl'): f.write_text('')


def torn(log, labels):
    for f in log.glob('*.jsonl'): f.write_text(f.read_text()[:-30])


def new_column(log, labels):
    changed_rows(log, lambda r, n: r | {'features': r['features'] | {'floor': n}})


def renamed(log, labels):
    changed_rows(log, lambda r, n: r | {'features': {'area': r['features']['size']}})


@pytest.mark.parametrize(('fault', 'outcome', 'said'), [
    (lost, 'left', 'too few answers are known'), (odd_labels, 'promoted', 'labels are set aside'), (twice, 'promoted', 'worse since'),
    (clock_back, 'promoted', 'worse since'), (one_row, 'left', 'too few'), (empty, 'left', 'too few'), (torn, 'promoted', 'worse since'),
    (new_column, 'promoted', 'worse since'), (renamed, 'refused', 'nobody asks with size')], ids=lambda v: getattr(v, '__name__', ''))
def test_faults(inside, fault, outcome, said):
    "What the world does to a log and its labels is told in a sentence; nothing is lost, and the loop goes on"
    fault(*ask(inside))
    told = []
    a = again(compose(NOW), say=told.append)
    assert said in '\n'.join([*told, repr(a)])
    assert a.outcome == outcome
    assert champion(inside) == (2 if outcome == 'promoted' else 1)


@pytest.fixture
def small_disk(trained, tmp_path):
    "A copy of the project that fills its disk, but for some room; and the file that fills it"
    if os.geteuid() or subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=8M', 'tmpfs', tmp_path]).returncode:
        pytest.skip('only root may mount a disk')
    home, filler = shutil.copytree(trained, tmp_path / 'homes'), tmp_path / 'filler'
    ask(home)

    def fill(left):
        room = os.statvfs(tmp_path)
        filler.write_bytes(bytes(max(0, room.f_bavail * room.f_bsize - left)))
        return home, filler

    yield fill
    subprocess.run(['umount', '-l', tmp_path], check=True)


@pytest.mark.full
@pytest.mark.parametrize('left', [0, 8_000, 40_000])  # at its lock, when it settles what was open, at the table that is grown
def test_full_disk(small_disk, left):
    "A disk that is full is one sentence and exit 3, whenever it is; the champion stays, and with room the next call goes on"
    home, filler = small_disk(left)
    process = start(home, *NOW)
    out, err = process.communicate(timeout=180)
    assert (process.returncode, champion(home)) == (3, 1), out + err
    assert 'No space left' in err
    assert 'make some room' in err
    assert 'Traceback' not in err
    filler.unlink()
    assert (retrain(home, *NOW)['outcome'], champion(home)) == ('promoted', 2)


def test_registry_is_away(home):
    "A registry that cannot be asked is one sentence, and exit 3"
    process = start(home, 'registry.uri=http://127.0.0.1:9')
    _, err = process.communicate(timeout=180)
    assert (process.returncode, 'cannot be asked' in err, 'Traceback' in err) == (3, True, False), err


@pytest.mark.full
def test_registry_is_locked(home):
    "A registry that another program holds is one sentence and exit 3; when it lets go, the next call goes on"
    ask(home)
    with closing(sqlite3.connect(home / 'registry/registry.db', isolation_level=None)) as db:
        db.execute('BEGIN EXCLUSIVE')
        process = start(home, *NOW)
        _, err = process.communicate(timeout=180)
    assert (process.returncode, 'database is locked' in err, 'Traceback' in err) == (3, True, False), err
    assert (retrain(home, *NOW)['outcome'], champion(home)) == ('promoted', 2)
