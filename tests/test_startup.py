"The command answers at once: nothing heavy is imported for its help."
import json
import re
import sys
from importlib.metadata import packages_distributions, requires
from subprocess import DEVNULL
from time import perf_counter

import pytest
from helpers import sh
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HELP = """import sys, json
from mlops_kit.cli import main
sys.argv = ['mlops-kit', '--help']
try: main()
except SystemExit: pass
print(json.dumps(list(sys.modules)))"""
EMPTY = """import typer
app = typer.Typer()
def job(): "Do a job"
for i in range({n}): app.command(f'job{{i}}')(job)
app()"""


def loaded(code):
    "Top-level names in sys.modules after `code`, less those of an empty Python"
    names = [set(json.loads(sh([sys.executable, '-c', c]).stdout.splitlines()[-1]))
             for c in (code, 'import sys, json; print(json.dumps(list(sys.modules)))')]
    return {n.split('.')[0] for n in names[0] - names[1]}


def closure(name):
    "A distribution and all that it requires"
    todo, found = [name], set()
    while todo:
        if (name := canonicalize_name(todo.pop())) in found: continue
        found.add(name)
        parsed = [Requirement(r) for r in requires(name) or []]
        todo += [r.name for r in parsed if not r.marker or r.marker.evaluate({'extra': ''})]
    return found


@pytest.mark.parametrize('code', ['import mlops_kit, sys, json; print(json.dumps(list(sys.modules)))', HELP], ids=['import', 'help'])
def test_imports_nothing_heavy(code):
    "`import mlops_kit` and `mlops-kit --help` load the standard library, typer and what typer needs"
    dists = packages_distributions()
    third = {n for n in loaded(code) - set(sys.stdlib_module_names) - {'mlops_kit'} if n in dists}
    allowed = closure('typer')
    assert not {n for n in third if not allowed & {canonicalize_name(d) for d in dists[n]}}


def test_help_is_as_quick_as_an_empty_app():
    "`mlops-kit --help` takes at most 1.5x the time of a Typer app with as many empty commands"
    from mlops_kit.cli import app
    ours = [sys.executable, '-c', HELP.rsplit('\n', 1)[0]]
    empty = [sys.executable, '-c', EMPTY.format(n=len(app.registered_commands) + len(app.registered_groups)), '--help']
    assert len(re.findall(r'job\d+', sh(empty).stdout)) == len(app.registered_commands) + len(app.registered_groups)
    times = [[seconds(c) for c in (ours, empty)] for _ in range(7)]
    us, them = map(min, zip(*times, strict=True))
    assert us <= 1.5 * them, f'{us:.2f} s against {them:.2f} s'


def seconds(command):
    "Wall time of one call"
    import subprocess
    start = perf_counter()
    subprocess.run(command, stdout=DEVNULL, stderr=DEVNULL, check=True)
    return perf_counter() - start
