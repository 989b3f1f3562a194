"The command answers at once: nothing heavy is imported for its help."
import json
import re
import sys
from time import perf_counter

import pytest
from helpers import sh

ASK = "import sys\nsys.argv[1:] = ['--help']\ntry: {}()\nexcept SystemExit: pass\n"
OURS = 'from mlops_kit.cli import main\n' + ASK.format('main')
EMPTY = '''import typer
app = typer.Typer()
def job(): "Do a job"
for i in range({}): app.command(f'job{{i}}')(job)
''' + ASK.format('app')


def verbs():
    "How many commands `mlops-kit --help` lists"
    from mlops_kit.cli import app
    return len(app.registered_commands) + len(app.registered_groups)


def loaded(code):
    "Top-level names of the modules that are there after `code`"
    out = sh([sys.executable, '-c', f'{code}\nimport json, sys\nprint(json.dumps(list(sys.modules)))']).stdout
    return {name.split('.')[0] for name in json.loads(out.splitlines()[-1])}


@pytest.mark.parametrize('code', ['import mlops_kit', OURS], ids=['import', 'help'])
def test_imports_nothing_heavy(code):
    "`import mlops_kit` and `mlops-kit --help` load the standard library and what an empty Typer app loads, nothing more"
    assert not loaded(code) - set(sys.stdlib_module_names) - loaded(EMPTY.format(1)) - {'mlops_kit'}


def seconds(code):
    "Wall time of a fresh Python that runs `code`"
    start = perf_counter()
    sh([sys.executable, '-c', code])
    return perf_counter() - start


def test_help_is_as_quick_as_an_empty_app():
    "`mlops-kit --help` takes at most 1.5x the time of a Typer app with as many empty commands"
    empty = EMPTY.format(verbs())
    assert len(re.findall(r'job\d+', sh([sys.executable, '-c', empty]).stdout)) == verbs()
    times = [(seconds(OURS), seconds(empty)) for _ in range(9)]
    us, them = map(min, zip(*times))
    assert us <= 1.5 * them, f'{us:.2f} s against {them:.2f} s'


NAMES = '''import importlib, pkgutil, mlops_kit
for m in pkgutil.iter_modules(mlops_kit.__path__):
    module = importlib.import_module(f'mlops_kit.{m.name}')
    print(*(f'{m.name} has no {name}' for name in getattr(module, '__all__', []) if not hasattr(module, name)), sep='\\n', end='')
'''


def test_every_name_is_there():
    "`from mlops_kit.MODULE import *` brings what `__all__` promises, of every module"
    assert sh([sys.executable, '-c', NAMES]).stdout.strip() == ''
