"Sweeps: in any Hydra application, killed at any moment, from several machines, and what becomes of the best trial."
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import psycopg
import pytest
import yaml
from children import full_then_soak, one_flavour
from servers import PASSWORD, postgres  # noqa: F401  (a fixture)

pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='forks')
full = pytest.mark.full

# What hydra-optuna-sweeper's documentation shows, in its words: what is returned, values, sampler, and the keys of the sweeper.
APPS = {
    'sphere': ('x**2 + y**2', dict(x=1, y=1), 'tpe', dict(
        direction='minimize', study_name='sphere', storage=None, n_trials=20, n_jobs=1, sampler={'seed': 123},
        params={'x': 'range(-5.5, 5.5, step=0.5)', 'y': 'choice(-5 ,0 ,5)'})),
    'grid': ('x**2 + y**2', dict(x=1, y=1, z='foo'), 'grid', dict(
        direction='minimize', study_name='sphere', n_trials=20,
        params={'x': 'choice(-1, 1)', 'y': 'range(-1.0, 1.0, step=1)', 'z': 'choice("foo", "bar")'})),
    'two-ways': ('4 * x**2 + 4 * y**2, (x - 5)**2 + (y - 5)**2', dict(x=1, y=1), 'nsgaii', dict(
        direction=['minimize', 'minimize'], study_name='multi-objective', n_trials=20, n_jobs=1, sampler={'seed': 123},
        params={'x': 'range(0, 5, step=0.5)', 'y': 'range(0, 3, step=0.5)'})),
    'own-space': ('w**2 + x**2 + y**2 + z**2', dict(w=9, x=1, y=1, z=100, near=0.5), 'random', dict(
        direction='minimize', study_name='custom-search-space', n_trials=20, n_jobs=1, sampler={'seed': 123},
        params={'x': 'range(-5.5, 5.5, 0.5)', 'y': 'choice(-5, 0, 5)'}, custom_search_space='.own-space.configure')),
    'fails': ('1 / x', dict(x=1), 'tpe', dict(n_trials=4, n_jobs=2, params={'x': 'choice(0)'}))}
CODE = """
import hydra, os
@hydra.main(config_path=".", config_name="NAME", version_base="1.3")
def main(cfg):
    w, x, y, z = (cfg.get(k) for k in "wxyz")
    return FORMULA

def configure(cfg, trial):
    x = trial.params["x"]
    trial.suggest_float("z", x - cfg.near, x + cfg.near)
    trial.suggest_float("w", 0.0, 1.0)

if __name__ == "__main__": main()
"""


def sweep(folder, name, *words):
    "The application, swept: exit code, what it says, and the results that it wrote"
    formula, values, sampler, keys = APPS[name]
    defaults = [{'override hydra/sweeper': 'mlops_kit'}, {'override hydra/sweeper/sampler': sampler}]
    (folder / f'{name}.yaml').write_text(yaml.safe_dump({'defaults': defaults, **values, 'hydra': {'sweeper': keys}}))
    (folder / f'{name}.py').write_text(CODE.replace('NAME', name).replace('FORMULA', formula))
    command = [sys.executable, folder / f'{name}.py', '-m', f'hydra.sweep.dir={folder}/out', *words]
    res = subprocess.run(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    file = folder / 'out/optimization_results.yaml'
    return SimpleNamespace(code=res.returncode, said=res.stdout, found=yaml.safe_load(file.read_text()) if file.exists() else None)


@full
def test_sphere(tmp_path):
    "One objective; a word on the command line narrows the space, and a database keeps the study"
    url = f'sqlite:///{tmp_path}/study.db'
    res = sweep(tmp_path, 'sphere', 'x=choice(0, 1, 2)', 'y=0', f'hydra.sweeper.storage={url}')
    assert res.code == 0, res.said
    assert (res.found['name'], res.found['best_params'], res.found['best_value']) == ('optuna', {'x': 0}, 0)
    with sqlite3.connect(tmp_path / 'study.db') as db: assert db.execute('select count(*) from trials').fetchone() == (20,)
    assert sweep(tmp_path, 'sphere', f'hydra.sweeper.storage=sqlite:///{tmp_path}/wide.db').found['best_value'] <= 2.27


@full
@pytest.mark.parametrize(('n', 'trials'), [(20, 12), (3, 3)])
def test_grid(tmp_path, n, trials):
    "Every point once, or as many as were asked for"
    res = sweep(tmp_path, 'grid', f'hydra.sweeper.n_trials={n}')
    assert res.code == 0, res.said
    if trials == 12: assert (res.found['best_value'], res.found['best_params']['y']) == (1, 0)
    assert len([f for f in (tmp_path / 'out').iterdir() if f.name.isdigit()]) == trials


@full
@pytest.mark.parametrize('words', [[], ['hydra/launcher=joblib', 'hydra.sweeper.n_jobs=2', 'hydra.launcher.n_jobs=2']])
def test_two_ways(tmp_path, words):
    "Several objectives give the trials that no other beats, also when another launcher carries them out"
    res = sweep(tmp_path, 'two-ways', *words)
    assert res.code == 0, res.said
    values = [s['values'] for s in res.found['solutions']]
    assert len(values) > 1
    assert not [(a, b) for a in values for b in values if a != b and all(x <= y for x, y in zip(a, b))]


@full
def test_own_space(tmp_path):
    "A function of the application adds parameters that depend on others; it is found in a file whose name is no identifier"
    res = sweep(tmp_path, 'own-space', 'near=0.3')
    best = res.found['best_params']
    assert abs(best['x'] - best['z']) <= 0.3
    assert 0 <= best['w'] <= 1


@full
@pytest.mark.parametrize(('words', 'times'), [([], 1), (['x=interval(-1, 1)'], 0), (['hydra/sweeper/sampler=grid', 'x=choice(1,2,3)'], 1)])
def test_first_trial_is_the_config(tmp_path, words, times):
    "As it stands, once, also when the study is resumed; not where it lies outside the space, and no point of a grid is tried twice"
    storage = tmp_path / 'study.journal'
    APPS['stands'] = ('x**2', dict(x=3), 'random', dict(study_name='study', storage=str(storage), params={'x': 'interval(-4, 4)'}))
    for n in (2, 3):
        res = sweep(tmp_path, 'stands', f'hydra.sweeper.n_trials={n}', *words)
        assert res.code == 0, res.said
    tried = [t.params['x'] for t in trials(storage)]
    assert (len(tried), tried.count(3)) == (3, times)
    assert words or tried[0] == 3


@full
@pytest.mark.parametrize('rate', [0.5, 1])
def test_failures_are_said(tmp_path, rate):
    "A study whose trials all fail ends with the reason, whatever the rate"
    res = sweep(tmp_path, 'fails', f'hydra.sweeper.max_failure_rate={rate}')
    assert res.code == 1
    assert 'trials failed' in res.said
    assert 'the first: ZeroDivisionError: division by zero' in res.said


MISTAKES = {
    'hydra.sweeper.direction=minimise': 'did you mean minimize', 'hydra.sweeper.constraints=[size]': 'constraint size',
    'hydra.sweeper.catch=[ValueEror]': 'ValueEror cannot be found',
    'hydra.sweeper.custom_search_space=not.here': 'not.here cannot be found',
    'hydra.sweeper.storage=postgresql://me:hidden@127.0.0.1:1/none': 'storage: postgresql+psycopg://me:***@127.0.0.1:1/none',
    'hydra.sweeper.storage=postgresql://me:hid@den:hidden@h/x': 'not the address of a database',
    'hydra.sweeper.n_trials=many': 'n_trials=many: give a whole number', 'hydra.sweeper.n_jobs=-1': 'n_jobs=-1: give a whole number',
    'hydra.sweeper.timeout=soon': 'timeout=soon: give seconds', 'hydra.sweeper.catch=str': 'is no exception',
    'hydra.sweeper.constraints=size': 'constraint size', 'x=interval(3,1)': 'search space', 'x=1': 'nothing to search',
    'hydra.sweeper.n_trails=3': 'n_trails'}


@full
@pytest.mark.parametrize('word', MISTAKES)
def test_mistake_is_named(tmp_path, word):
    "Before the first trial, in one sentence"
    res = sweep(tmp_path, 'fails', word)
    assert res.code != 0
    assert MISTAKES[word] in res.said, res.said
    assert not [w for w in ('hidden', 'trial 0', 'Traceback') if w in res.said.replace(word, '')], res.said


@full
def test_misspelt_key_in_a_file(tmp_path):
    "A key that the sweeper does not have is refused there, too"
    (tmp_path / 'conf').mkdir()
    (tmp_path / 'conf/app.yaml').write_text('defaults:\n  - override hydra/sweeper: mlops_kit\nx: 1\nhydra:\n  sweeper:\n    n_trails: 3\n')
    (tmp_path / 'app.py').write_text(CODE.replace('"."', '"conf"').replace('NAME', 'app').replace('FORMULA', 'x'))
    res = subprocess.run([sys.executable, 'app.py', '-m', 'x=1,2'], cwd=tmp_path, text=True, capture_output=True)
    assert res.returncode == 1
    assert 'hydra.sweeper has no n_trails; did you mean n_trials' in res.stderr


@full
def test_launcher_that_dies(tmp_path):
    "A worker of another launcher is killed with its batch: what was in it is tried once more, then given up; equal trials are told apart"
    APPS['dies'] = ('os.kill(os.getpid(), 9) if x == 1 else x', dict(x=1), 'random', dict(
        n_trials=6, n_jobs=1, max_failure_rate=1, sampler={'seed': 1}, params={'x': 'choice(1, 2)'}))
    res = sweep(tmp_path, 'dies', 'hydra/launcher=joblib', 'hydra.launcher.n_jobs=2', 'hydra.sweeper.n_jobs=3')
    assert res.code == 0, res.said
    assert res.found['best_value'] == 2


TOY = """
import os, signal, sys, time
import mlops_kit.study as study
from mlops_kit.space import parse_space
if len(sys.argv) > 4: study._me = lambda: {'host': sys.argv[4], 'pid': os.getpid(), 'started': 0}
def objective(trial):
    for step in range(4):
        trial.report(trial.params['x'] + step, step)
        time.sleep(.05)
        if trial.should_prune(): return trial.set_user_attr('pruned', 'behind') or 0
    return trial.params['x']
space = parse_space(['x=interval(0,1)', 'y=choice(a,b)'])[0]
study.search(objective, space, int(sys.argv[2]), sys.argv[1], jobs=int(sys.argv[3]), direction='minimize', heartbeat=1)
"""
READ = """
import json, sys
from mlops_kit.study import open_study
trials = open_study(sys.argv[1], direction='minimize').trials
print(json.dumps([[t.number, t.state.name, t.params, t.value, t.user_attrs] for t in trials]))"""


def toy(folder, storage, n, jobs, *host):
    "A search of short trials, in a process of its own"
    (folder / 'toy.py').write_text(TOY)
    return subprocess.Popen([sys.executable, folder / 'toy.py', str(storage), str(n), str(jobs), *host])


def trials(storage):
    "Number, state, parameters, value and attributes of each trial"
    out = subprocess.run([sys.executable, '-c', READ, str(storage)], capture_output=True, text=True, check=True).stdout
    return [SimpleNamespace(number=n, state=s, params=p, value=v, attrs=a) for n, s, p, v, a in json.loads(out)]


def counted(found): return [t for t in found if t.state in ('COMPLETE', 'PRUNED', 'FAIL') and 'interrupted' not in t.attrs]


def forks_of(pid):
    "The processes that this one forked"
    return [int(p) for p in subprocess.run(['pgrep', '-P', str(pid)], capture_output=True, text=True).stdout.split()]


@pytest.mark.parametrize('jobs', [pytest.param(1, marks=pytest.mark.soak), 3])
@pytest.mark.parametrize('seed', [pytest.param(0, marks=full), *(pytest.param(n, marks=pytest.mark.soak) for n in range(1, 20))])
def test_killed_at_any_moment(tmp_path, seed, jobs):
    "What was finished stays as it was, what was running is tried once more, and the study ends with the count"
    rnd, storage, seen, n = random.Random(seed), tmp_path / 'study.journal', {}, 24
    for _ in range(6):
        p = toy(tmp_path, storage, n, jobs)
        time.sleep(rnd.uniform(1.5, 4))
        victims = rnd.choice([[p.pid], forks_of(p.pid)[:1]])
        for v in victims: os.kill(v, signal.SIGKILL)
        if victims == [p.pid] or rnd.random() < .5: p.kill()
        p.wait()
        time.sleep(.2)
        now = {t.number: t for t in trials(storage)} if storage.exists() else {}
        assert all(now[k] == t for k, t in seen.items()), 'a finished trial changed'
        seen = {t.number: t for t in counted(now.values())}
    assert toy(tmp_path, storage, n, jobs).wait() == 0
    found = trials(storage)
    assert len(counted(found)) == n
    assert not [t for t in found if t.state in ('RUNNING', 'WAITING')]
    begun = [t for t in found if t.attrs.get('process', {}).get('drawn')]  # the others had no parameters yet
    lost = [t for t in begun if t.attrs.get('interrupted', '').startswith('its process')]
    again = [t.attrs['retries'] for t in found if 'retries' in t.attrs]
    assert sorted(again) == [t.number for t in lost]
    assert len({str(t.params) for t in counted(found)}) == n, 'a trial was repeated'


def held(db):
    "How many sessions of the first machine hold a lock and wait for its next word"
    sql = "select count(*) from pg_stat_activity where application_name = 'one' and state like 'idle in%' and backend_xid is not null"
    return db.execute(sql).fetchone()[0]


@pytest.mark.parametrize('locks', [False, True])
@full
def test_several_machines(tmp_path, postgres, monkeypatch, locks):  # noqa: F811
    "Two machines share a study in PostgreSQL; one is gone without a word, even in a transaction; the other takes over what it began"
    n, url = 120 if locks else 40, postgres.replace('/postgres', f'/machines{int(locks)}')
    with psycopg.connect(postgres, autocommit=True) as db: db.execute(f'create database machines{int(locks)}')
    monkeypatch.setenv('PGAPPNAME', 'two')
    second = toy(tmp_path, url, n, 2, 'two.example')
    monkeypatch.setenv('PGAPPNAME', 'one')
    first = toy(tmp_path, url, n, 2, 'one.example')
    hosts = lambda found: {t.attrs['process']['host'] for t in found if t.attrs.get('process', {}).get('drawn')}
    while len(hosts(counted(trials(url)))) < 2: time.sleep(.1)
    with psycopg.connect(url, autocommit=True) as db:
        while True:
            assert first.poll() is None, 'the search was over before'
            os.kill(first.pid, signal.SIGSTOP)
            frozen = forks_of(first.pid)
            for pid in frozen: os.kill(pid, signal.SIGSTOP)
            time.sleep(.02)
            if locks and held(db): break
            if not locks and not held(db) and 'one.example' in hosts(t for t in trials(url) if t.state == 'RUNNING'): break
            for pid in (*frozen, first.pid): os.kill(pid, signal.SIGCONT)
            time.sleep(.05)
    try: assert second.wait(240) == 0
    finally:
        for pid in (first.pid, *frozen): os.kill(pid, signal.SIGKILL)
        first.wait()
    found = trials(url)
    assert len(counted(found)) == n
    lost = [t for t in found if t.attrs.get('interrupted') == 'its process died']
    begun = [t for t in lost if hosts([t])]  # the others had no parameters yet
    assert locks or begun
    assert hosts(begun) <= {'one.example'}
    assert sorted(t.attrs['retries'] for t in found if 'retries' in t.attrs) == [t.number for t in begun]
    assert hosts(t for t in found if 'retries' in t.attrs) <= {'two.example'}
    assert hosts(counted(found)) == {'one.example', 'two.example'}


STUDY = """
import json, optuna, sys
storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(sys.argv[1]))
[name] = optuna.get_all_study_names(storage)
print(json.dumps([[t.number, t.state.name, t.params] for t in optuna.load_study(study_name=name, storage=storage).trials]))"""


@full_then_soak
def test_sweep_resumes(child):
    "A study of 6 trials has 6; asked for 8, it goes on with the same file and keeps the first 6, as Optuna itself reads it"
    def tried(): return json.loads(child.run('python', '-c', STUDY, 'build/study/runs/studies.journal').stdout.splitlines()[-1])
    child.kit('sweep out=build/study hydra.sweeper.n_trials=6 trainer.max_epochs=3')
    first = tried()
    assert [n for n, *_ in first] == list(range(6))
    assert {state for _, state, _ in first} <= {'COMPLETE', 'PRUNED'}
    child.kit('sweep out=build/study hydra.sweeper.n_trials=8 trainer.max_epochs=3')
    now = tried()
    assert (len(now), now[:6]) == (8, first)


@full
@one_flavour
def test_sweep_in_a_database(child, tmp_path, postgres):  # noqa: F811
    "OPTUNA_STORAGE is enough; the password is in no file and no word"
    env = {**os.environ, **child.variables, 'OPTUNA_STORAGE': postgres, 'PYTHONPATH': str(child.path)}
    words = 'hydra.sweeper.n_trials=2 hydra.sweeper.n_jobs=2 trainer.max_epochs=1 out=build/shared'.split()
    program, how = Path(sys.executable).with_name('mlops-kit'), dict(cwd=child.path, env=env, capture_output=True, text=True)
    kit = lambda *args: subprocess.run([program, *args], **how)
    said, listed = kit('sweep', *words), kit('studies', 'list')
    assert (said.returncode, listed.returncode) == (0, 0), said.stdout + said.stderr + listed.stderr
    assert '2 complete' in listed.stdout
    assert PASSWORD not in said.stdout + said.stderr + listed.stdout + listed.stderr
    assert not [f for f in (child.path / 'build/shared').rglob('*') if f.is_file() and PASSWORD.encode() in f.read_bytes()]


@pytest.mark.soak
@one_flavour
def test_best_is_trained_again(child):
    "The best trial is a choice of `experiment` that gives the same value; so is any other that one keeps"
    child.kit('sweep hydra.sweeper.n_trials=3 hydra.sweeper.n_jobs=2 trainer.max_epochs=2 logger=none out=build/best')
    shown = json.loads(child.kit('studies show --json').stdout)
    text = (child.path / 'build/best/configs/experiment/best.yaml').read_text()
    assert f'# Trial {shown[0]["trial"]} of study' in text
    child.kit('train --config-dir build/best/configs experiment=best logger=none out=build/again')
    run, = child.records('build/again').values()
    assert run['metrics']['valid/loss'] == shown[0]['value']
    child.kit('train --config-dir build/best/configs experiment=best trainer.max_epochs=3 logger=none out=build/more')
    runs = {r['id']: r for r in (json.loads(f.read_text()) for f in (child.path / 'build/best/runs/trial').glob('*/run.json'))}
    assert [(runs[t['run']]['kind'], runs[t['run']]['trial']) for t in shown] == [('trial', t['trial']) for t in shown]
    assert len({r['study'] for r in runs.values()}) == 1


@full
@one_flavour
def test_front_is_kept_and_shown(child):
    "Good and small: the front, a trial of it as a choice, and the dashboard"
    words = 'hydra.sweeper.n_trials=3 hydra.sweeper.n_jobs=2 trainer.max_epochs=1 logger=none'
    child.kit(f'sweep hparams_search=pareto {words} out=build/front')
    shown = json.loads(child.kit('studies show --json').stdout)
    assert {'valid/loss', 'parameters'} <= set(shown[0])
    assert 'several objectives' in child.kit('studies keep', ok=False).stdout
    child.kit(f'studies keep --trial {shown[0]["trial"]} --as small')
    kept = child.path / 'configs/experiment/small.yaml'
    try: child.kit('train experiment=small debug=fast_dev_run logger=none out=build/small')
    finally: kept.unlink()
    env = {**os.environ, **child.variables}
    command = [child.env.bin / 'mlops-kit', 'studies', 'open', '--no-browser']
    with subprocess.Popen(command, cwd=child.path, env=env, stdout=subprocess.PIPE, text=True) as p:
        try:
            address = p.stdout.readline().strip()
            assert '<title>Optuna Dashboard' in urlopen(address).read().decode()
            study = json.load(urlopen(re.sub('/dashboard/.*', f'/api/studies/{address.split("/")[-1]}', address)))
            assert len(study['trials']) == 3
        finally: p.send_signal(signal.SIGINT)
    assert p.returncode == 0


OOM = """
import resource, sys
from mlops_kit.space import parse_space
from mlops_kit.study import search
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
study = search(lambda t: len(bytearray(t.params['gb'] << 30)), parse_space(['gb=choice(1,9)'])[0], 6, jobs=2)
print(sorted({(t.params['gb'], t.state.name, t.user_attrs.get('reason')) for t in study.trials}))
"""


@full
def test_trial_without_memory():
    "A trial that gets no memory is a failed one with that reason, and the study goes on"
    out = subprocess.run([sys.executable, '-c', OOM], capture_output=True, text=True, timeout=120)
    assert "[(1, 'COMPLETE', None), (9, 'FAIL', 'MemoryError: ')]" in out.stdout, out.stdout + out.stderr
