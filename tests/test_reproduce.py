"Runs that are made again: from the commit, the changes and the data that they had, to the same weights."
import json
import os
import shutil
import signal
import subprocess
import time
from functools import cache

import pytest
from children import Child, full_then_soak, git, new_project, one_flavour
from tables import write

tabular_only = pytest.mark.parametrize('flavour', ['tabular'])
SMALL = 'trainer.max_epochs=2 logger=none'
KINDS = [pytest.param(f, k, marks=[pytest.mark.soak, pytest.mark.xdist_group(f)])
         for f in ('image', 'tabular') for k in ('trial', 'resumed')]


def trained(child, words=SMALL, verb='train', folder='runs/train'):
    "The record of one more run of the child"
    child.kit(f'{verb} {words}')
    found = [json.loads(f.read_text()) for f in (child.path / folder).glob('*/run.json')]
    return max(found, key=lambda r: r['started'])


def reproduced(child, record, *words, code=0, **kw):
    "What `mlops-kit reproduce --json` says of it; nothing but the new run is left"
    said = child.kit('reproduce --json', *words, record['id'], ok=False, **kw)
    assert said.returncode == code, said.stdout
    assert git(child.path, 'worktree', 'list').count('\n') == 1
    assert not (child.path / 'build/reproduce').exists()
    return json.loads(said.stdout) if code in (0, 1) else said.stdout


def copy_of(child, folder):
    "The same project elsewhere, in the same environment"
    path = shutil.copytree(child.path, folder, ignore=shutil.ignore_patterns('build'))
    return Child(path, child.env, {**child.variables, 'PYTHONPATH': str(path)})


@pytest.fixture(scope='module')
def trained_children(children, tmp_path_factory):
    "A child with its table and one run, made on the first call for its flavour"

    @cache
    def made(flavour):
        child = copy_of(children(flavour), tmp_path_factory.mktemp('trained') / 'project')
        shutil.rmtree(child.path / 'runs', ignore_errors=True)
        child.kit('run nbs/00_data.ipynb')
        return child, trained(child)

    return made


@pytest.fixture
def own(trained_children, flavour, tmp_path):
    "A copy of it, to be changed"
    return copy_of(trained_children(flavour)[0], tmp_path / 'copy')


@pytest.fixture
def record(trained_children, flavour):
    "Its run"
    return trained_children(flavour)[1]


@full_then_soak
def test_same_machine_same_weights(own, record):
    "On the same machine the same weights come out, and the new run says which one it reproduces"
    said = reproduced(own, record, cwd=own.path / 'runs/train')
    new = json.loads((own.path / f'runs/train/{said["again"]}/run.json').read_text())
    assert (said['verdict'], said['differences'], said['metric']['difference']) == ('identical', [], 0)
    assert (new['reproduces'], new['provenance']['data']) == (record['id'], record['provenance']['data'])
    assert (new['metrics'], new['parent']) == (record['metrics'], None)


@pytest.mark.parametrize(('flavour', 'kind'), KINDS)
def test_trials_and_resumed_runs(own, flavour, kind):
    "A trial of a sweep, and a run that went on with another one in a parameter set, come out the same"
    if kind == 'trial': record = trained(own, SMALL, 'sweep hydra.sweeper.n_trials=1', 'runs/trial')
    else:
        if flavour == 'tabular': shutil.copytree(own.path / 'data', own.path / 'build/ci/data')  # a training makes the other itself
        first = trained(own, f'{SMALL} out=build/ci', folder='build/ci/runs/train')
        record = trained(own, f'resume={first["id"]} trainer.max_epochs=4', folder='build/ci/runs/train')
        assert (record['resumes'], record['provenance']['data']) == (first['id'], first['provenance']['data'])
    assert reproduced(own, record)['verdict'] == 'identical'


@pytest.mark.soak
@tabular_only
def test_uncommitted_changes_come_back(own):
    "Edits to config and module that nobody committed are part of a run, also when they were thrown away and other ones committed"
    config, new = own.path / 'configs/model/mlp.yaml', own.path / 'configs/experiment/mine.yaml'
    module = next(own.path.glob('*/model.py'))
    config.write_text(config.read_text().replace('width: 64', 'width: 16'))
    module.write_text(module.read_text().replace('nn.ReLU', 'nn.Tanh'))
    new.write_text('# @package _global_\nseed: 7\n')
    record = trained(own, f'{SMALL} experiment=mine')
    assert ('nn.Tanh' in module.read_text(), record['config']['model']['net']['width'], record['config']['seed']) == (True, 16, 7)
    git(own.path, 'checkout', '.')
    new.unlink()
    git(own.path, 'rm', '-q', '-r', 'configs/debug')
    git(own.path, 'commit', '-q', '-m', 'Other work')
    said = reproduced(own, record)
    assert (said['verdict'], {d['fact'] for d in said['differences']} >= {'commit', 'uncommitted changes'}) == ('identical', True)


@pytest.mark.full
@one_flavour
def test_another_processor(own, record):
    "Where the processor offers other instructions, the answer says so, and by how much the weights differ"
    said = reproduced(own, record, '--tolerance', '0.5', env={'ATEN_CPU_CAPABILITY': 'default'})
    assert [d['fact'] for d in said['differences'] if d['matters']] == ['CPU capability']
    assert (said['verdict'], 0 < said['weights']['relative'] < .5, 0 < said['metric']['difference'] < .5) == ('close', True, True)


@pytest.mark.soak
@tabular_only
def test_changed_data_come_back(own, record):
    "The fingerprint is the table's, the checksum is DVC's; data that changed since come from DVC's remote, or are made again"
    data = own.path / 'data/flights.parquet'
    own.run('dvc', 'commit', '-q', '-f', '00_data')
    assert f'md5: {record["provenance"]["data"]["dvc"]}' in (own.path / 'dvc.lock').read_text()
    own.run('dvc', 'push', '-q', '00_data')
    shutil.rmtree(own.path / '.dvc/cache')
    own.python("import pandas as pd; f = 'data/flights.parquet'; pd.read_parquet(f)[::2].to_parquet(f)")
    cut = data.read_bytes()
    assert reproduced(own, record)['verdict'] == 'identical'
    for store in own.path.parent.glob('*-store'): shutil.rmtree(store)
    said = reproduced(own, record)
    assert (said['verdict'], 'data' in {d['fact'] for d in said['differences']}, data.read_bytes() == cut) == ('identical', True, True)


@one_flavour
def test_what_cannot_be_reproduced(own):
    "What is asked in vain is answered in one sentence with exit code 2, and nothing is left behind"
    none = trained(own, 'debug=fast_dev_run logger=none')
    book = next((own.path / 'runs/00_data').iterdir()).name
    for name, words in {none['id']: 'kept no weights', book: 'a run of a notebook', '1999': '0 runs begin'}.items():
        said = reproduced(own, {'id': name}, code=2)
        assert (words in said, said.count('\n')) == (True, 1), said
    assert own.kit('reproduce --differences', none['id']).stdout.strip() == 'nothing differs'
    said = own.kit('reproduce --differences', book, ok=False)
    assert (said.returncode, 'a run of a notebook' in said.stdout) == (2, True), said.stdout


@pytest.mark.full
@one_flavour
def test_interrupted(own, record):
    "After ^C no worktree is left, no process, and no run that claims to be one"
    env = {**os.environ, **own.variables, 'PATH': f'{own.env.bin}:{os.environ["PATH"]}'}
    with subprocess.Popen([own.env.bin / 'mlops-kit', 'reproduce', record['id']], cwd=own.path, env=env, start_new_session=True,
                          stderr=subprocess.DEVNULL) as p:
        while not list(own.path.glob('build/reproduce/*/tree/runs/train/*')) and p.poll() is None: time.sleep(.05)
        os.killpg(p.pid, signal.SIGINT)
    assert (p.returncode, git(own.path, 'worktree', 'list').count('\n'), (own.path / 'build').exists()) == (130, 1, False)
    assert [f.name for f in (own.path / 'runs/train').iterdir()] == [record['id']]


@pytest.mark.soak
def test_own_regression(kit, project_env, wheel, tmp_path):
    "A project on a user's own table, which predicts a number, reproduces a run too"
    file, target = write('semicolons', tmp_path)
    child = new_project(kit, project_env, wheel, tmp_path / 'own', '--data', file, '--target', target)
    child.kit('run nbs/00_data.ipynb')
    assert reproduced(child, trained(child))['verdict'] == 'identical'
