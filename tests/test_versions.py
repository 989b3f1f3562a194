"Data and models under DVC: what is unchanged is not made again, in no clone, and what one setting changes is."
import re
import shutil
from pathlib import Path

import pytest
from children import Child, Layer, git, new_project
from helpers import ROOT
from tables import rows

pytestmark = [pytest.mark.full, pytest.mark.xdist_group('versions')]
SMALL = {'trainer/cpu.yaml': ('max_epochs: 12', 'max_epochs: 2'), 'evaluate/table.yaml': ('seeds: 5', 'seeds: 2'),
         'hparams_search/optuna.yaml': ('n_trials: 24', 'n_trials: 2')}
CHAPTERS = ['00_data', '01_explore', '02_model', '03_train', '04_sweep', '05_evaluate']


def changed(project, name, old, new):
    "Change one setting"
    file = project.path / 'configs' / name
    assert old in file.read_text(encoding='utf-8')
    file.write_text(file.read_text(encoding='utf-8').replace(old, new), encoding='utf-8')


def repro(project):
    "The stages that `dvc repro` ran, and not one more notebook"
    before = len(list(project.path.glob('runs/0*/*/run.json')))
    ran = re.findall(r"Running stage '(\w+)'", project.run('dvc', 'repro').stdout)
    assert len(list(project.path.glob('runs/0*/*/run.json'))) == before + len(ran)
    return ran


@pytest.fixture(scope='module')
def made(kit, project_env, wheel, tmp_path_factory):
    "A small project of which every stage was run and committed, and its data and models stored"
    folder = tmp_path_factory.mktemp('versions')
    (folder / 'rows.csv').write_text(rows(200).to_csv(index=False))
    project = new_project(kit, project_env, wheel, folder / 'flats', '--data', folder / 'rows.csv', '--target', 'price')
    project.env = Layer(project_env, folder / 'env')
    project.run('python', '-m', 'pip', 'install', '-q', '-c', ROOT / 'constraints.txt', f'{wheel}[s3]')
    for name, (old, new) in SMALL.items(): changed(project, name, old, new)
    assert repro(project) == CHAPTERS
    git(project.path, 'add', '-A')
    git(project.path, 'commit', '-q', '-m', 'Results')
    project.run('dvc', 'push')
    return project


def clone(project, folder):
    "A clean clone, with the data and models of its commit"
    git(folder.parent, 'clone', '-q', project.path, folder)
    made = Child(folder, project.env, {'PYTHONPATH': str(folder)})
    made.run('dvc', 'pull')
    return made


def test_nothing_changed(made):
    "`dvc repro` after no change does nothing, neither where it ran nor in a clean clone beside it"
    assert repro(made) == []
    assert git(made.path, 'status', '--porcelain') == ''
    copy = clone(made, made.path.parent / 'copy')
    assert repro(copy) == []
    assert (copy.path / 'models/run.json').read_bytes() == (made.path / 'models/run.json').read_bytes()


@pytest.mark.parametrize(('name', 'old', 'new', 'after'), [
    pytest.param('model/mlp.yaml', 'dropout: 0.1', 'dropout: 0.2', CHAPTERS[2:], marks=pytest.mark.soak),
    ('trainer/cpu.yaml', 'max_epochs: 2', 'max_epochs: 3', CHAPTERS[3:])])
def test_one_setting(made, tmp_path, name, old, new, after):
    "After one changed setting `dvc repro` runs what depends on it, and nothing else"
    copy = clone(made, made.path.parent / tmp_path.name)
    changed(copy, name, old, new)
    assert repro(copy) == after
    assert repro(copy) == []


def test_store_on_s3(made, s3):
    "With one line of config the store is a bucket: another clone gets its data and models from there"
    source = clone(made, made.path.parent / 'source')
    source.run('dvc', 'remote', 'modify', 'store', 'url', 's3://shop/store')
    source.run('dvc', 'push')
    git(source.path, 'commit', '-q', '-a', '-m', 'Store the data in a bucket')
    shutil.rmtree(made.path.parent / f'{made.path.name}-store')
    try: copy = clone(source, Path(source.path.parent, 'elsewhere'))
    finally: made.run('dvc', 'push')
    assert (copy.path / 'data/table.parquet').read_bytes() == (made.path / 'data/table.parquet').read_bytes()
    assert repro(copy) == []
