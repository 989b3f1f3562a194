"A registry has one champion, whoever promotes at once and whatever is killed."
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from children import render
from helpers import sh

from mlops_kit.package import toy_package
from mlops_kit.registry import read_log

OPEN = 'import sys; from mlops_kit.registry import Registry; print(Registry(folder=sys.argv[1]).models())'
RESTLESS = '''
import os, signal, sys
sys.argv, name = sys.argv[1:], 'homes'
import mlflow  # once, before the forks
from mlops_kit.project import KitError
from mlops_kit.registry import Registry
def promote(i):
    registry = Registry(folder=sys.argv[0])
    print(os.getpid(), flush=True)
    while True:
        i += 1
        try: registry.promote(name, 1 + i % 3, who=str(os.getpid()))
        except KitError: pass
        if i % 5 == 0:
            try: registry.rollback(name)
            except KitError: pass
for line in sys.stdin:
    pid = os.fork()
    if not pid: promote(int(line))
    while os.waitpid(pid, 0)[0] != pid: pass
'''


@pytest.fixture
def folder(tmp_path):
    "A registry with three versions, registered by a process of its own"
    code = 'import sys; from mlops_kit.registry import Registry; [Registry(folder=sys.argv[1]).register(p) for p in sys.argv[2:]]'
    made = [toy_package(tmp_path / f'p{i}', i, 'homes') for i in (1, 2, 3)]
    subprocess.run([sys.executable, '-c', code, tmp_path / 'registry', *made], check=True)
    return tmp_path / 'registry'


def transitions(folder):
    "The log as it lies in the database"
    with sqlite3.connect(folder / 'registry.db') as db:
        assert db.execute('PRAGMA integrity_check').fetchall() == [('ok',)]
        rows = db.execute("SELECT version, value FROM model_version_tags WHERE name = 'homes.transitions' ORDER BY version").fetchall()
    assert [v for v, _ in rows] == list(range(1, len(rows) + 1))
    return [json.loads(value) for _, value in rows]


@pytest.mark.full
@pytest.mark.xdist_group('registry')
def test_first_use_is_shared(tmp_path):
    "Eight processes that open a registry that is not there yet make it once, and none fails"
    runs = [subprocess.Popen([sys.executable, '-c', OPEN, tmp_path / 'registry'], stdout=subprocess.PIPE, text=True) for _ in range(8)]
    assert {p.communicate()[0].strip() for p in runs} == {'[]'}


@pytest.mark.parametrize('kills', [pytest.param(20, marks=pytest.mark.full), pytest.param(480, marks=pytest.mark.soak)])
@pytest.mark.xdist_group('registry')
def test_kills_leave_one_champion(folder, kills):
    "After each SIGKILL of a process that promotes and rolls back the log is whole, and each champion replaced whom it meant to"
    rng = random.Random(kills)
    with subprocess.Popen([sys.executable, '-c', RESTLESS, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as forker:
        for i in range(kills):
            print(i, file=forker.stdin, flush=True)
            pid = int(forker.stdout.readline())
            time.sleep(rng.uniform(0, .5))
            os.kill(pid, signal.SIGKILL)
        forker.stdin.close()
    state, told = read_log(transitions(folder))
    done = [t for t in told if not t['void']]
    assert all(t['expects'] == t['before'] for t in done)
    assert state.champion in (1, 2, 3)
    assert len(done) > kills


@pytest.mark.full
@pytest.mark.xdist_group('registry')
def test_whoever_looks_mends_the_aliases(folder):
    "What a killed promotion could not tell MLflow, the next one does; both agree then"
    from mlops_kit.registry import Registry
    registry = Registry(folder=folder)
    registry.promote('homes', 1)
    registry.client.delete_registered_model_alias('homes', 'champion')
    registry.promote('homes', 2, to='challenger')
    seen = [int(registry.client.get_model_version_by_alias('homes', a).version) for a in ('champion', 'challenger')]
    assert seen == [1, 2]


VERBS = {'list': '3', 'show homes': 'pass', 'promote homes 1 --why first': 'promoted 1', 'promote homes 2 --to challenger': 'challenger 2',
         'promote homes 2': 'promoted 2', 'rollback homes': 'champion is 1 again', 'retire homes 2': 'retired 2', 'history homes': 'first',
         'deployed homes 1 https://homes.example.com': 'deployed 1 to https://homes', 'diff homes 1 3': 'metrics',
         'lineage homes --picture lineage.png': 'https://homes.example.com', 'promote homes 3 --json': '"after": 3',
         'rollback homes --json': '"after": 1', 'deployed homes 1 here --json': '"where": "here"',
         'copy homes 1 -o copied --json': '"version": 1', 'register copied --json': '"version": 1'}
ASK = """
import sys
from mlops_kit.cli import main
for words in sys.stdin.read().splitlines():
    sys.argv = ['mlops-kit', 'models', *words.split()]
    try: main()
    except SystemExit as e: assert not e.code, words
    print(end=chr(0), flush=True)"""


@pytest.mark.full
@pytest.mark.xdist_group('registry')
def test_verbs(folder):
    "Each verb of `mlops-kit models` does what it says, in the folder that has the registry"
    how = dict(cwd=folder.parent, env=os.environ | {'COLUMNS': '200'}, text=True, stdout=subprocess.PIPE, check=True)
    said = subprocess.run([sys.executable, '-c', ASK], input='\n'.join(VERBS), **how).stdout  # in one process: each would import MLflow
    for (words, says), answer in zip(VERBS.items(), said.split('\0')[:-1], strict=True): assert says in answer, words
    assert (folder.parent / 'lineage.png').stat().st_size > 5000


@pytest.mark.full
@pytest.mark.xdist_group('registry')
def test_project_asks_for_a_second_person(kit, folder):
    "With `registry.approval: true` in a project's config no one makes a champion alone, on the command line"
    project = render(kit, folder.parent / 'homes', profile='full')
    config = project / 'configs/registry/local.yaml'
    config.write_text(config.read_text().replace('approval: false', 'approval: true'))
    shutil.move(folder, project / 'registry')
    command = [Path(sys.executable).parent / 'mlops-kit', 'models', 'promote', 'homes', '1', '--who', 'ada']
    alone, same = sh(command, cwd=project, ok=False), sh([*command, '--approved-by', 'ada'], cwd=project, ok=False)
    assert (alone.returncode, 'type --approved-by NAME' in alone.stdout, same.returncode) == (1, True, 1), alone.stdout
    assert 'promoted 1' in sh([*command, '--approved-by', 'grace'], cwd=project).stdout
    assert 'grace' in sh([command[0], 'models', 'history', 'homes'], cwd=project).stdout
