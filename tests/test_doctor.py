"`mlops-kit doctor` finds what is planted, names it, and says what mends it; where nothing is wrong it is quiet."
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from children import git
from helpers import sh, write

pytestmark = [pytest.mark.xdist_group('doctor'), pytest.mark.skipif(os.name == 'nt', reason='the faults are planted as on Unix')]
BIN = Path(sys.executable).parent
UNSET = ('CI VIRTUAL_ENV JUPYTER_PATH WANDB_MODE WANDB_API_KEY TMPDIR OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS '
         'PYTHONDONTWRITEBYTECODE').split()
QUIET_ABOUT = {'merge driver'}  # no fault: `nbdev_install_hooks` was not typed yet
DEAD = {'schema': 1, 'status': 'running', 'kind': 'train', 'id': '20260101-000000-dead', 'process': {'pid': 2**22 + 1, 'started': 1.0}}


@pytest.fixture(scope='module')
def made(kit, tmp_path_factory):
    "A project as `mlops-kit new` makes it"
    from mlops_kit.scaffold import new
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('GIT_CONFIG_GLOBAL', os.devnull)
        path = new(tmp_path_factory.mktemp('made') / 'shop', source=kit, defaults=True).path
        git(path, 'gc', '-q')  # it is copied often
        shutil.rmtree(path / '.git/hooks', ignore_errors=True)
        return path


@pytest.fixture
def shop(made, tmp_path, monkeypatch):
    "A copy of it on a machine in order: its environment is active, its package is installed, somebody has a name"
    path = shutil.copytree(made, tmp_path / 'shop', symlinks=True)
    (tmp_path / 'gitconfig').write_text('[user]\n\tname = Ada\n\temail = ada@example.com\n')
    there = {'GIT_CONFIG_GLOBAL': str(tmp_path / 'gitconfig'), 'PATH': f'{BIN}{os.pathsep}{os.environ["PATH"]}', 'PYTHONPATH': str(path)}
    for name in UNSET: monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, 'dont_write_bytecode', False)
    for name, value in there.items(): monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(path))
    monkeypatch.chdir(path)
    return path


def asked(path):
    "The answers by name"
    from mlops_kit.doctor import doctor
    return {f.name: f for f in doctor(path)}


def bad(found): return {f.name for f in found.values() if not f.ok} - QUIET_ABOUT


def edit(path, old, new):
    "One place of a file, changed"
    assert path.read_text().count(old) == 1, (path, old)
    path.write_text(path.read_text().replace(old, new))


def program(path, text):
    "A program on the path"
    write(path, text).chmod(0o755)


class Fault(NamedTuple):
    name: str  # the finding that has to be there
    plant: object  # files by path, or a function of the project, the folder around it and monkeypatch
    says: str  # the detail has to match it
    fix: str  # and the line that mends it
    env: str = ''  # NAME=VALUE of what to set; {top} is the folder around the project
    mends: object = None  # 'type': what it says is typed and the fault is gone; or a function that does it


def no_git(shop, top, patch): patch.setenv('PATH', str(top / 'empty'))


def old_git(shop, top, patch): program(top / 'old/git', '#!/bin/sh\necho git version 2.20.1\n')


def other_command(shop, top, patch): program(top / 'old/mlops-kit', '#!/opt/old/bin/python\n')


def other_clone(shop, top, patch):
    patch.syspath_prepend(str(shutil.copytree(shop / 'shop', top / 'clone/shop').parent))


def not_installed(shop, top, patch): patch.setattr(sys, 'path', [p for p in sys.path if p != str(shop)])


def old_optuna(shop, top, patch):
    write(top / 'site/optuna-2.10.0.dist-info/METADATA', 'Metadata-Version: 2.1\nName: optuna\nVersion: 2.10.0\n')
    patch.syspath_prepend(str(top / 'site'))


def unlocked(shop, top, patch):
    pin = re.search(r'(?m)^PyYAML==.*$', (shop / 'constraints.txt').read_text())[0]
    edit(shop / 'constraints.txt', pin, 'PyYAML==9.9.9')


def old_lock(shop, top, patch): os.utime(write(shop / '.git/index.lock', ''), (1, 1))


def merge_marks(shop, top, patch): write(shop / 'notes.md', 'one\n<<<<<<< ours\ntwo\n=======\nthree\n>>>>>>> theirs\n')


def rewritten_ends(shop, top, patch):
    git(shop, 'config', 'core.autocrlf', 'true')
    write(shop / '.gitattributes', '*.ipynb merge=nbdev-merge\n')


def future(shop, top, patch): os.utime(shop / 'settings.ini', (time.time() + 9e4,) * 2)


def uncompiled(shop, top, patch):
    write(top / 'site/torch/__init__.py', '')
    patch.delitem(sys.modules, 'torch', raising=False)
    patch.syspath_prepend(str(top / 'site'))
    patch.setattr(sys, 'dont_write_bytecode', True)


def few_files(shop, top, patch):
    import resource
    now = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, now[1]))
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, now)


def no_gpu(shop, top, patch):
    edit(shop / 'configs/train.yaml', 'trainer: cpu', 'trainer: gpu')
    if shutil.which('nvidia-smi'): patch.setenv('PATH', str(BIN) + os.pathsep + '/usr/bin:/bin')


def idle_gpu(shop, top, patch):
    from importlib.util import find_spec
    program(top / 'gpu/nvidia-smi', '#!/bin/sh\n')
    about = Path(find_spec('torch').origin).with_name('version.py').read_text()
    if len(re.findall(r'(?m)^(?:cuda|hip)\b.*= None$', about)) < 2: pytest.skip('this torch is built for a GPU')


def small_disk(shop, top, patch):
    "The project on a file system of its own, of 100 MB"
    aside = shop.rename(top / 'aside')
    shop.mkdir()
    tried = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=100m', 'small', shop], text=True, capture_output=True)
    if tried.returncode: pytest.skip(f'no file system can be mounted here: {tried.stderr.strip()}')
    shutil.copytree(aside, shop, symlinks=True, dirs_exist_ok=True)
    patch.chdir(shop)
    return lambda: subprocess.run(['umount', '-l', shop], check=True)


def no_pandera(shop, top, patch):
    "All that is installed here, but for one"
    here = Path(sysconfig.get_path('purelib'))
    (top / 'site').mkdir()
    for f in here.iterdir():
        if not f.name.startswith('pandera'): (top / 'site' / f.name).symlink_to(f)
    patch.setattr(sys, 'path', [str(top / 'site') if Path(p) == here else p for p in sys.path])


def dead_run(shop, top, patch):
    import platform
    record = {**DEAD, 'process': {**DEAD['process'], 'host': platform.node()}}
    write(shop / 'runs/train' / DEAD['id'] / 'run.json', json.dumps(record, indent=1))


def settings_line(old, new): return lambda shop, *_: edit(shop / 'settings.ini', old, new)


def config(file, old, new): return lambda shop, *_: edit(shop / file, old, new)


def gone(name): return lambda shop, *_: (shop / name).unlink()


def not_ours(shop, top, patch): shutil.rmtree(shop / '.git')


FAULTS = [
    # this Python
    Fault('python', settings_line('min_python = 3.11', 'min_python = 4.2'), r'4\.2 or newer is needed', 'install Python 4.2'),
    Fault('environment', {}, 'VIRTUAL_ENV is .*/other, but this Python lives in', r'activate|deactivate', 'VIRTUAL_ENV={top}/other'),
    Fault('command', other_command, 'old/mlops-kit comes first on the path, and belongs to /opt/old', 'export PATH=',
          'PATH={top}/old:{PATH}', 'type'),
    Fault('kernel python3',
          {'../jupyter/kernels/python3/kernel.json': '{"argv": ["/gone/bin/python", "-m"], "display_name": "x", "language": "python"}'},
          '/gone/bin/python', 'jupyter kernelspec remove -f python3', 'JUPYTER_PATH={top}/jupyter', 'type'),
    Fault('PYTHONPATH', {'../site/mlops_kit/__init__.py': ''}, 'site has another mlops_kit', 'unset PYTHONPATH', 'PYTHONPATH={top}/site',
          'type'),
    Fault('PYTHONPATH', {}, r'site-packages is for Python 3\.9', 'unset PYTHONPATH',
          'PYTHONPATH={top}/lib/python3.9/site-packages', 'type'),
    # what is installed
    Fault('pandera', no_pandera, 'not installed', r'pip install "mlops-kit\[project\]"'),
    Fault('requirements', settings_line('requirements = mlops-kit[project]', 'requirements = mlops-kit[project] no-such-thing>=1'),
          'no-such-thing not installed', 'pip install -r requirements.txt'),
    Fault('versions', old_optuna, 'optuna 2.10.0 is installed, >=5 is needed', 'pip install "optuna>=5"'),
    Fault('lock', unlocked, r'PyYAML .*, not 9\.9\.9', 'pip install -r requirements.txt'),
    Fault('package', not_installed, 'shop cannot be imported', r'pip install -e \.'),
    Fault('package', other_clone, 'shop is imported from .*/clone/shop, not from here', r'pip install -e \.'),
    Fault('template', lambda shop, *_: (shop / '.copier-answers.yml').write_text('_commit: v98.1.0\n'), 'of v98.1.0, and mlops-kit',
          'pip install -r'),
    Fault('source', lambda shop, *_: (shop / 'requirements.txt').write_text('mlops-kit[project] @ git+file://localhost/gone/kit@abc\n'),
          'takes mlops-kit from /gone/kit, which is not there', 'mlops-kit update -d kit_source='),
    Fault('names', {'nbs/random.py': ''}, 'nbs/random.py hides the module random', 'mv nbs/random.py nbs/my_random.py', mends='type'),
    Fault('names', {'torch/__init__.py': ''}, 'torch hides the module torch', 'mv torch my_torch', mends='type'),
    # git
    Fault('git', no_git, 'not found', 'install git'),
    Fault('git', old_git, r'2\.20\.1 is too old', 'install a newer git', 'PATH={top}/old:{PATH}'),
    Fault('git identity', {}, 'no user.name and no user.email', 'git config --global user.name', 'GIT_CONFIG_GLOBAL={top}/nobody',
          'type'),
    Fault('repository', not_ours, 'is in no repository', 'git init', mends='type'),
    Fault('repository', {}, 'belongs to somebody else', 'git config --global --add safe.directory', 'GIT_TEST_ASSUME_DIFFERENT_OWNER=1',
          'type'),
    Fault('git lock', old_lock, 'index.lock is left from a git that died', 'rm .*index.lock', mends='type'),
    Fault('line ends', rewritten_ends, 'core.autocrlf=true', 'git config core.autocrlf input', mends='type'),
    Fault('merge driver', lambda shop, *_: git(shop, 'config', 'merge.nbdev-merge.driver', '/gone/nbdev_merge %O %A'),
          '/gone/nbdev_merge', 'git config --unset merge.nbdev-merge.driver; nbdev_install_hooks', mends='type'),
    Fault('merge marks', merge_marks, 'notes.md: line 2', 'take the marks out',
          mends=lambda shop: write(shop / 'notes.md', 'one\ntwo\n')),
    # the project's files
    Fault('settings.ini', lambda shop, *_: (shop / 'settings.ini').write_text('lib_name = shop\n'),
          'cannot be read: .*no section headers', 'edit settings.ini'),
    Fault('settings.ini', settings_line('lib_path = shop\n', ''), 'has no lib_path', 'add to settings.ini: lib_path = shop'),
    Fault('tags', settings_line('allowed_cell_metadata_keys = tags', ''), 'the tag `parameters`, as in nbs/00_data',
          'allowed_cell_metadata_keys = tags'),
    Fault('configs', {'configs/model/mine.yaml': 'width: [1, 2\nlr: 3\n'}, r'configs/model/mine.yaml line \d',
          'edit configs/model/mine.yaml'),
    Fault('notebooks', {'nbs/03_train.ipynb': '{"cells": [{"cell'}, 'nbs/03_train.ipynb does not open',
          'git checkout -- nbs/03_train.ipynb', mends='type'),
    Fault('modules', gone('shop/model.py'), 'shop/model.py not exported', 'mlops-kit check --fix'),
    Fault('modules', lambda shop, *_: edit(shop / 'nbs/02_model.ipynb', 'nn.ReLU()', 'nn.SiLU()'),
          '02_model was edited after the export', 'mlops-kit check --fix'),
    Fault('data source', config('configs/data/digits.yaml', 'source: sample', 'source: file'),
          'data/raw/digits.parquet, which configs/data/source/file.yaml', 'put the table at data/raw/digits.parquet',
          mends=lambda shop: write(shop / 'data/raw/digits.parquet', '')),
    Fault('data source', config('configs/data/digits.yaml', 'source: sample', 'source: sql'),
          'DATABASE_URL, which .*sql.yaml names, is not set', 'export DATABASE_URL=URL', mends='type'),
    Fault('DVC remote', config('.dvc/config', '../../shop-store', '/mnt/gone/nas/store'), '/mnt/gone/nas is not there',
          'dvc remote add -f store'),
    Fault('folders', {'runs': ''}, 'runs is a file where a folder belongs', 'mv runs runs.old', mends='type'),
    Fault('runs', dead_run, f'runs/train/{DEAD["id"]}: its process is gone', f'mlops-kit train resume={DEAD["id"]}'),
    Fault('clock', future, 'settings.ini will be written in the future', 'touch settings.ini',
          mends=lambda shop: (shop / 'settings.ini').touch()),
    # addresses, keys, the machine
    Fault('wandb key', {}, 'there is no key', 'wandb login, or: export WANDB_MODE=offline',
          'WANDB_MODE=online NETRC={top}/none HOME={top}'),
    Fault('MLFLOW_TRACKING_URI', {}, 'htp://: it may be http', 'export MLFLOW_TRACKING_URI=sqlite',
          'MLFLOW_TRACKING_URI=htp://mlflow:5000', 'type'),
    Fault('MLFLOW_REGISTRY_URI', {}, 'no scheme', 'export MLFLOW_REGISTRY_URI=sqlite', 'MLFLOW_REGISTRY_URI=./mlruns', 'type'),
    Fault('OPTUNA_STORAGE', {}, 'a mysql database takes nodriver, which', 'pip install nodriver',
          'OPTUNA_STORAGE=mysql+nodriver://ada:hunter2@db/x'),
    Fault('temporary files', {}, 'TMPDIR is .*/gone', 'unset TMPDIR', 'TMPDIR={top}/gone', 'type'),
    Fault('home', {}, 'none is no folder to write to', 'export HOME=', 'HOME={top}/none'),
    Fault('threads', {}, "OMP_NUM_THREADS is 'many'", 'unset OMP_NUM_THREADS', 'OMP_NUM_THREADS=many', 'type'),
    Fault('open files', few_files, 'may open 128 files', 'ulimit -n 4096'),
    Fault('byte code', uncompiled, 'each start compiles them', 'python -m compileall -q .*/site', mends='type'),
    Fault('disk', small_disk, r'0\.\d\d GB are free', 'mlops-kit runs prune'),
    Fault('GPU', no_gpu, 'configs/trainer/gpu.yaml asks for one', 'mlops-kit train trainer=cpu'),
    Fault('GPU', idle_gpu, 'there is one, but torch .* is built for CPUs', 'pip install --force-reinstall torch', 'PATH={top}/gpu:{PATH}')]


def typed(fix, shop, monkeypatch):
    "What somebody does who types the line: variables stay in their shell"
    if set_ := re.fullmatch(r'export (\w+)=(.*)', fix): return monkeypatch.setenv(set_[1], os.path.expandvars(set_[2]))
    if unset := re.fullmatch(r'unset (\w+)', fix): return monkeypatch.delenv(unset[1])
    sh(['bash', '-c', fix], cwd=shop)


def test_there_are_twenty_kinds():
    "The table has what was promised"
    assert len({f.name for f in FAULTS}) >= 20


def test_quiet_where_nothing_is_wrong(shop):
    "A new project on a machine in order: no fault, and no doubt but the hooks that somebody has yet to install"
    found = asked(shop)
    assert {f.name: f.detail for f in found.values() if not f.ok and f.name not in QUIET_ABOUT} == {}
    assert found['merge driver'].ok is None
    assert not [f for f in found.values() if f.ok and f.fix]


@pytest.mark.parametrize('fault', FAULTS, ids=lambda f: f'{f.name} {f.says}'[:40])
def test_planted(fault, shop, tmp_path, monkeypatch, request):
    "That finding and no other, with the culprit and what mends it; where the fix is cheap it is done, and all is well"
    for name, value in (word.split('=', 1) for word in fault.env.split()):
        monkeypatch.setenv(name, value.format(top=tmp_path, PATH=os.environ['PATH']))
    plant = fault.plant if callable(fault.plant) else lambda *_: [write(shop / name, text) for name, text in fault.plant.items()]
    undo = plant(shop, tmp_path, monkeypatch)
    if callable(undo): request.addfinalizer(undo)
    found = asked(shop)
    said = found[fault.name]
    assert not said.ok, said
    assert bad(found) == {fault.name} - QUIET_ABOUT, [f for f in found.values() if not f.ok]
    for pattern, text in (fault.says, said.detail), (fault.fix, said.fix): assert re.search(pattern, text), said
    assert 'hunter2' not in str(found)
    if not fault.mends: return
    typed(said.fix, shop, monkeypatch) if fault.mends == 'type' else fault.mends(shop)
    again = asked(shop)
    assert not bad(again)
    assert fault.name not in again or again[fault.name].ok, again[fault.name]


def test_command_says_it(shop):
    "With files read as ASCII and a file that hides a module: exit code 3, the culprits in plain words and in JSON, in two seconds"
    write(shop / 'wandb.py', '')
    env = {**os.environ, 'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0', 'COLUMNS': '80'}
    say, tell = ([BIN / 'mlops-kit', 'doctor', *words] for words in ([], ['--json']))
    said, told = (subprocess.run(c, cwd=shop / 'nbs', env=env, text=True, capture_output=True) for c in (say, tell))
    assert (said.returncode, told.returncode) == (3, 3), said.stderr + told.stderr
    faults = {f['name']: f['fix'] for f in json.loads(told.stdout) if f['ok'] is False}
    assert faults == {'text': 'export PYTHONUTF8=1', 'names': 'mv wandb.py my_wandb.py'}
    assert 'NO  names: wandb.py hides the module wandb\n    > mv wandb.py my_wandb.py\n' in said.stdout
    assert '2 are wrong' in said.stdout


def test_imports_nothing_heavy(shop):
    "What takes seconds to import is looked up, not imported"
    code = 'import sys\nfrom mlops_kit.doctor import doctor\ndoctor()\nprint(*{m.split(".")[0] for m in sys.modules})'
    loaded = subprocess.run([sys.executable, '-c', code], cwd=shop, text=True, capture_output=True, check=True).stdout.split()
    assert not {'torch', 'pandas', 'numpy', 'wandb', 'optuna', 'dvc', 'mlflow', 'nbdev', 'IPython'} & set(loaded)
