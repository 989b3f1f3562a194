"Projects made from the template: a clean clone of this tree, and a child project of each flavour."
import json
import os
import shutil
import sysconfig
import venv
from functools import cache, cached_property
from pathlib import Path

import example
import pytest
from helpers import BIN, ROOT, Env, files, sh

FLAVOURS = {'image': {}, 'tabular': {'task': 'tabular'}, 'forecast': {'task': 'forecast'}, 'text': {'task': 'text'}}
OWN = ['tabular', 'forecast']  # these take a table of one's own
THOROUGH = ['image', 'tabular']  # what every project must do is tried in these two; each other flavour has one test that runs it
CHAPTERS = 'index 00_data 01_explore 02_model 03_train 04_sweep 05_evaluate'.split()
PRIVATE = 'data models reports runs'.split()  # where a project's own results lie
QUIET = {'WANDB_MODE': 'offline', 'DO_NOT_TRACK': '1', 'DVC_NO_ANALYTICS': '1', 'GIT_CONFIG_GLOBAL': os.devnull}


def git(folder, *args):
    "Run git as nobody in particular"
    return sh(['git', '-c', 'user.name=Test', '-c', 'user.email=test@example.com', *args], cwd=folder, env=QUIET).stdout


def commit_all(folder):
    "Make `folder` a repo of one commit"
    git(folder, 'init', '-q', '-b', 'main')
    git(folder, 'add', '-A', '-f')
    git(folder, 'commit', '-q', '-m', 'Everything')
    return folder


def snapshot(folder):
    "The working tree as a clean clone of one commit, so that edits are tested before they are committed"
    for name in files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return commit_all(folder)


@pytest.fixture(scope='session')
def kit(tmp_path_factory):
    "The snapshot, far from this checkout"
    return snapshot(tmp_path_factory.mktemp('clone') / 'kit')


@pytest.fixture(scope='session')
def bare(quick_copier, tmp_path_factory):
    "The template without git: the quickest source for Copier, where no commit is asked for"
    return example.kit(tmp_path_factory.mktemp('bare'))


def render(kit, dest, **answers):
    "What `copier copy --defaults` makes, without trust"
    from copier import run_copy
    run_copy(str(kit), dest, data=answers, defaults=True, quiet=True, vcs_ref='HEAD')
    return Path(dest)


@pytest.fixture(scope='session')
def quick_copier():
    "Copier as it is, but with no git process for each file, and each template compiled once"
    from copier._main import Worker
    from jinja2 import Environment
    compiled, compile_ = {}, Environment.compile

    def once(env, source, name=None, *args, **kw):
        if not isinstance(source, str): return compile_(env, source, name, *args, **kw)
        if (source, name) not in compiled: compiled[source, name] = compile_(env, source, name, *args, **kw)
        return compiled[source, name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Environment, 'compile', once)
        patch.setattr(Worker, '_sync_git_index_executable_bit', lambda *_: None)
        yield


def tree(folder):
    "Relative path to content of every file that git sees"
    names = sh(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], cwd=folder).stdout.split('\0')
    return {n: (folder / n).read_bytes() for n in names if n and (folder / n).is_file()}


def results(folder):
    "Size and time of every file below the folders of a project's results"
    found = [f for top in PRIVATE for f in (folder / top).rglob('*') if f.is_file()]
    return {f.relative_to(folder).as_posix(): (f.stat().st_size, f.stat().st_mtime_ns) for f in found}


class Child:
    "A generated project with the environment that it runs in"

    def __init__(self, path, env, variables=None): self.path, self.env, self.variables = Path(path), env, {**QUIET, **(variables or {})}

    def run(self, command, *args, cwd=None, env=None, **kw):
        "Run a program of the environment, in the project"
        return self.env.run(command, *args, cwd=cwd or self.path, env={**self.variables, **(env or {})}, **kw)

    def kit(self, command, *args, **kw): return self.run('mlops-kit', *command.split(), *args, **kw)

    def python(self, code, **kw): return self.run('python', '-c', code, **kw).stdout

    def state(self):
        "All that a run with `--set ci` must leave alone"
        return tree(self.path), results(self.path), set(self.path.glob('build/*')) - {self.path / 'build/ci'}

    @cached_property
    def ci(self):
        "What `mlops-kit run nbs --set ci` says, run once; and in `states`, how it was before and after"
        before, said = self.state(), self.kit('run nbs --set ci', ok=False)
        self.states = before, self.state()
        return said

    def records(self, out='build/ci'):
        "The run.json of every run below `out`, by name, oldest first"
        found = [json.loads(f.read_text(encoding='utf-8')) for f in (self.path / out / 'runs').glob('*/*/run.json')]
        return {r['name']: r for r in sorted(found, key=lambda r: r['started'])}


def passed_in_full(project):
    "Fail unless each chapter passed, and the model beats its baselines over five seeds"
    assert {n: r['status'] for n, r in project.records('.').items() if n in CHAPTERS} == dict.fromkeys(CHAPTERS, 'passed')
    report = json.loads((project.path / 'reports/evaluation.json').read_text())
    assert (report['baselines'].pop('naive')['verdict'], report['seeds']) == ('better', 5), report
    assert {b['verdict'] for b in report['baselines'].values()} <= {'better', 'tied'}


class Layer(Env):
    "An environment on top of a shared one: what is installed here stays here, all else is seen from below"

    def __init__(self, below, folder):
        self.path, self.bin, self.name = folder, folder / BIN, below.name
        venv.create(folder, symlinks=os.name != 'nt')
        site, deep = (Path(sysconfig.get_path('purelib', 'venv', {'base': str(p), 'platbase': str(p)})) for p in (folder, below.path))
        (site / 'below.pth').write_text(f'import site; site.addsitedir({str(deep)!r})\n')
        for name in 'share', 'etc': (folder / name).symlink_to(below.path / name)  # Jupyter's own data and settings
        for script in below.bin.iterdir(): self.adopt(script, str(below.bin).encode())

    def adopt(self, script, below):
        "A console script of the environment below, for this one's Python"
        data = script.read_bytes() if script.is_file() else b''
        if not data.startswith(b'#!' + below) or (self.bin / script.name).exists(): return
        (self.bin / script.name).write_bytes(data.replace(below, str(self.bin).encode(), 1))
        (self.bin / script.name).chmod(0o755)


def new_project(kit, env, wheel, dest, *flags, **answers):
    "A project by `mlops-kit new`, for the wheel"
    pairs = [w for k, v in {'kit_source': wheel, **answers}.items() for w in ('-d', f'{k}={v}')]
    env.run('mlops-kit', 'new', dest, '--from', kit, '-y', *flags, *pairs, cwd=dest.parent, env=QUIET)
    return Child(dest, env, {'PYTHONPATH': str(dest)})


@pytest.fixture(scope='session')
def children(kit, wheel, project_env, tmp_path_factory):
    "Make the child of a flavour, on the first call for it: far from the kit, and installed as its README says"

    @cache
    def child(flavour):
        folder = tmp_path_factory.mktemp('elsewhere')
        new_project(kit, project_env, wheel, folder / f'{flavour}-child', **FLAVOURS[flavour])
        made = Child(folder / f'{flavour}-child', Layer(project_env, folder / 'env'))
        made.run('python', '-m', 'pip', 'install', '-q', '--no-build-isolation', '-r', 'requirements.txt')
        return made

    return child


in_flavours = {f: pytest.param(f, marks=pytest.mark.xdist_group(f)) for f in FLAVOURS}
each_flavour, one_flavour = (pytest.mark.parametrize('flavour', [in_flavours[f] for f in some]) for some in (THOROUGH, THOROUGH[:1]))


def tiered(flavour, seed=None):
    "In `full` for the first flavour and seed, in the soak for the rest"
    tier = pytest.mark.soak if seed or flavour != THOROUGH[0] else pytest.mark.full
    return pytest.param(*[flavour] if seed is None else [flavour, seed], marks=[tier, pytest.mark.xdist_group(flavour)])


full_then_soak = pytest.mark.parametrize('flavour', [tiered(f) for f in THOROUGH])


@pytest.fixture
def child(children, flavour):
    "The child of this test's flavour; shared, so leave it as it was"
    return children(flavour)


@pytest.fixture
def ran(child):
    "The child after `mlops-kit run nbs --set ci`"
    return child if child.ci else None
