"The pipeline on other engines: each task is one command in a clone of its own, and what it makes travels through the DVC remote."
import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest
import yaml
from children import QUIET, commit_all, git
from helpers import ROOT, Env, lint_workflows, service, sh, wait_for
from nbformat.v4 import new_code_cell, new_notebook
from runner import Job, jobs
from servers import free_port

BIN = Path(sys.executable).parent
CHAPTERS = {
    '00_prepare': "open('../homes.csv', 'w').write('size,price')",
    '01_look': "open('../homes.csv').read()",
    '02_train': "open('../model.txt', 'w').write(open('../homes.csv').read())",
    '03_judge': "open('../judged.json', 'w').write('{\"rmse\": %d}' % len(open('../model.txt').read()))",
    '04_register': "import os; os.makedirs('../registry', exist_ok=True); open('../registry/models', 'a').write('a model')",
    '05_serve': "open('../registry/models').read()",
}
DAG = """stages:
  00_prepare: {cmd: mlops-kit run nbs/00_prepare.ipynb, outs: [homes.csv]}
  01_look: {cmd: mlops-kit run nbs/01_look.ipynb, deps: [homes.csv]}
  02_train: {cmd: mlops-kit run nbs/02_train.ipynb, deps: [homes.csv], outs: [model.txt]}
  03_judge: {cmd: mlops-kit run nbs/03_judge.ipynb, deps: [model.txt], metrics: [{judged.json: {cache: false}}]}
  04_register: {cmd: mlops-kit run nbs/04_register.ipynb, deps: [judged.json], outs: [{registry: {persist: true}}]}
  05_serve: {cmd: mlops-kit run nbs/05_serve.ipynb, deps: [registry]}
"""


def kit(folder, *words, **kw): return sh([BIN / 'mlops-kit', *words], cwd=folder, env=QUIET, **kw).stdout


@pytest.fixture
def origin(tmp_path):
    "A project of six chapters in git, with a DVC remote"
    folder = tmp_path / 'origin'
    (folder / 'nbs').mkdir(parents=True)
    for n, source in CHAPTERS.items(): nbformat.write(new_notebook(cells=[new_code_cell(source, id=n)]), folder / f'nbs/{n}.ipynb')
    (folder / 'dvc.yaml').write_text(DAG)
    (folder / 'settings.ini').write_text('[DEFAULT]\nlib_name = homes\n')
    (folder / '.gitignore').write_text('/runs/\n/.mlops_kit/\n/homes.csv\n/model.txt\n/registry\n')
    sh('git init -q', cwd=folder)
    sh([BIN / 'dvc', 'init', '-q'], cwd=folder)
    sh([BIN / 'dvc', 'remote', 'add', '-q', '-d', 'store', tmp_path / 'store'], cwd=folder)
    return folder


@pytest.fixture
def exported(origin):
    "Have an engine's file in the project, and everything committed"
    def write(engine):
        kit(origin, 'pipeline', 'export', engine)
        return commit_all(origin)
    return write


def clone(origin, folder):
    git(origin.parent, 'clone', '-q', origin, folder)
    return folder


def ran(folder):
    "The chapters that passed in a clone, in the order of time"
    runs = sorted(((r := json.loads(f.read_text()))['started'], r['name'], r['status']) for f in folder.glob('runs/*/*/run.json'))
    return [name for _, name, status in runs if status == 'passed']


def check_order(folder):
    "Every chapter passed once, each after those that it needs"
    names = ran(folder)
    assert sorted(names) == list(CHAPTERS)
    assert [n for n in names if n != '01_look'] == [n for n in CHAPTERS if n != '01_look']
    assert names[0] == '00_prepare'


def check_another(origin, folder):
    "In another clone nothing is made again but what adds to a registry, or reads it; everything is there"
    said = kit(clone(origin, folder) / 'nbs', 'pipeline', 'run', '--json')  # from any folder
    statuses = {r['name']: r['status'] for r in (json.loads(line) for line in said.splitlines() if line.startswith('{'))}
    assert statuses == dict.fromkeys(CHAPTERS, 'skipped') | {'04_register': 'passed', '05_serve': 'passed'}
    assert (folder / 'model.txt').read_text() == 'size,price'
    assert json.loads((folder / 'judged.json').read_text()) == {'rmse': 10}


def test_jobs_on_github(exported, tmp_path):
    "Every job of the workflow runs its chapter in a clone of its own, and gets from the remote what it needs"
    origin = exported('github')
    assert lint_workflows(origin / '.github/workflows') == ''
    (tmp_path / 'pip').write_text('#!/bin/sh\n')
    (tmp_path / 'pip').chmod(0o755)
    path = {'PATH': f'{tmp_path}:{BIN}:{os.environ["PATH"]}', **QUIET}
    file = origin / '.github/workflows/pipeline.yml'
    for name, chapter in zip(jobs(file), CHAPTERS, strict=True):
        done = Job(file, name, clone(origin, tmp_path / name), tmp_path / 'runner', path)
        assert done.result == 'success', done.said
        assert ran(tmp_path / name) == [chapter]
    check_another(origin, tmp_path / 'another')


def test_changed_chapter(exported, tmp_path):
    "Who changes a chapter makes it again, and those that read what is now different; a task before its time says what is missing"
    a = clone(exported('argo'), tmp_path / 'a')
    kit(a, 'pipeline', 'run')
    nbformat.write(new_notebook(cells=[new_code_cell(CHAPTERS['02_train'].replace('read()', 'read()*2'))]), a / 'nbs/02_train.ipynb')
    said = kit(a, 'run', 'nbs/03_judge.ipynb', '--share', ok=False)
    assert '02_train has to be run first' in said
    assert 'Traceback' not in said
    kit(a, 'pipeline', 'run')
    assert ran(a)[-4:] == ['02_train', '03_judge', '04_register', '05_serve']


def test_registry_keeps_what_is_only_here(exported, tmp_path):
    "What a registry holds in this clone alone is still there when that of the remote has come"
    origin = exported('argo')
    kit(clone(origin, tmp_path / 'a'), 'pipeline', 'run')
    b = clone(origin, tmp_path / 'b')
    (b / 'registry').mkdir()
    (b / 'registry/mine').write_text('mine')
    kit(b, 'run', 'nbs/05_serve.ipynb', '--share')
    assert ran(b) == ['05_serve']
    assert {f.name for f in (b / 'registry').iterdir()} == {'mine', 'models'}


def test_action_pins(exported):
    "The exported workflow uses the actions that the template's own workflows use"
    flow = yaml.safe_load((exported('github') / '.github/workflows/pipeline.yml').read_text())
    used = {s['uses'] for j in flow['jobs'].values() for s in j['steps'] if 'uses' in s}
    template = '\n'.join(f.read_text() for f in (ROOT / 'template/.github/workflows').glob('*.yml'))
    assert used
    assert not [u for u in used if u not in template]


VALIDATE = """import {readFileSync} from 'fs'
import {WorkflowTemplate} from '@kubernetes-models/argo-workflows/argoproj.io/v1alpha1/WorkflowTemplate'
new WorkflowTemplate(JSON.parse(readFileSync(process.argv[2]))).validate()
"""


@pytest.mark.full
def test_argo_schema(exported, tmp_path):
    "The file is what the schema of Argo's own CRD asks for; with a mistake in it, it is not"
    service('npm', 'node')
    sh('npm install --silent --no-audit --no-fund --prefix . @kubernetes-models/argo-workflows@2.0.0', cwd=tmp_path)
    (tmp_path / 'validate.mjs').write_text(VALIDATE)
    flow = yaml.safe_load((exported('argo') / 'deploy/pipelines/argo.yaml').read_text())
    (tmp_path / 'good.json').write_text(json.dumps(flow))
    flow['spec']['templates'][0]['dag']['tasks'][1]['depends'] = ['00-prepare']
    (tmp_path / 'bad.json').write_text(json.dumps(flow))
    sh('node validate.mjs good.json', cwd=tmp_path)
    assert 'must be string' in sh('node validate.mjs bad.json', cwd=tmp_path, ok=False).stdout


LOCAL = """from kfp import local
from kfp_pipeline import pipeline
local.init(local.SubprocessRunner(use_venv=False))
pipeline()"""


@pytest.mark.full
def test_kubeflow(exported, tmp_path):
    "Kubeflow compiles the file to its own format, with the same order, and its local runner runs every chapter"
    env, origin = Env('kfp', 'kfp==2.17.0'), exported('kfp')
    home = clone(origin, tmp_path / 'home')
    env.run('python', 'deploy/pipelines/kfp_pipeline.py', 'pipeline.yaml', cwd=home)
    tasks = next(yaml.safe_load_all((home / 'pipeline.yaml').read_text()))['root']['dag']['tasks']
    assert len(tasks) == len(CHAPTERS)
    assert [t.get('dependentTasks') for t in tasks.values()].count(None) == 1
    paths = {'PATH': f'{env.bin}:{BIN}:{os.environ["PATH"]}', 'PYTHONPATH': 'deploy/pipelines', **QUIET}
    env.run('python', '-c', LOCAL, cwd=home, env=paths)
    check_order(home)
    check_another(origin, tmp_path / 'another')


def airflow_variables(home, port):
    "A configuration of its own below the folder of the project, on loopback"
    api = f'http://127.0.0.1:{port}'
    known = {'CORE__DAGS_FOLDER': home / 'deploy/pipelines', 'CORE__LOAD_EXAMPLES': False, 'CORE__DAGS_ARE_PAUSED_AT_CREATION': False,
             'CORE__EXECUTION_API_SERVER_URL': f'{api}/execution/', 'CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS': True, 'API__PORT': port,
             'API__BASE_URL': api, 'API__HOST': '127.0.0.1', 'API__WORKERS': 1, 'USAGE_DATA_COLLECTION__ENABLED': False}
    paths = {'AIRFLOW_HOME': str(home.parent / 'airflow'), 'MLOPS_KIT': str(BIN / 'mlops-kit')}
    return {f'AIRFLOW__{k}': str(v) for k, v in known.items()} | paths | QUIET


@pytest.fixture
def airflow(exported, tmp_path):
    "Airflow in an environment of its own, the project that it has as its DAG, and how to call it"
    env = Env('airflow', 'apache-airflow==3.3.2', 'apache-airflow-providers-standard', 'fastapi<0.137')
    origin = exported('airflow')
    home = clone(origin, tmp_path / 'home')
    return env, home, airflow_variables(home, free_port())


@pytest.mark.soak
def test_airflow(airflow, tmp_path):
    "`dags test` runs every chapter"
    env, home, variables = airflow
    env.run('airflow', 'db', 'migrate', env=variables)
    env.run('airflow', 'dags', 'test', 'homes', env=variables)
    check_order(home)
    check_another(tmp_path / 'origin', tmp_path / 'another')


def asked(airflow, question):
    "The answer of Airflow's database; nothing before there is one"
    file = Path(airflow[2]['AIRFLOW_HOME']) / 'airflow.db'
    try: return sqlite3.connect(f'file:{file}?mode=ro', uri=True).execute(question).fetchone()
    except sqlite3.OperationalError: return None


def is_known(airflow): return asked(airflow, "select 1 from dag where dag_id = 'homes'") is not None


def last_run(airflow): return (asked(airflow, 'select state from dag_run') or [None])[0]


@pytest.mark.full
def test_scheduler_of_airflow(airflow, tmp_path):
    "A real scheduler runs every chapter, in order"
    env, home, variables = airflow
    with open(tmp_path / 'log', 'w') as log:
        how = dict(env={**os.environ, **env.variables, **variables}, stdout=log, stderr=log, start_new_session=True)
        process = subprocess.Popen([env.bin / 'airflow', 'standalone'], **how)
    try:
        assert wait_for(lambda: process.poll() is not None or is_known(airflow), 120), (tmp_path / 'log').read_text()[-5000:]
        env.run('airflow', 'dags', 'trigger', 'homes', env=variables)
        wait_for(lambda: last_run(airflow) in ('success', 'failed'), 180)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
            if not wait_for(lambda: process.poll() is not None, 20): os.killpg(process.pid, signal.SIGKILL)
    assert last_run(airflow) == 'success', (tmp_path / 'log').read_text()[-5000:]
    check_order(home)
