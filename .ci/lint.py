"Run the linters side by side; one line each, then what the failing ones said."
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).resolve().parent.parent
CHECKS = {
    'export, README and notebooks in sync': '.venv/bin/mlops-kit check',
    'notebook style': '.lint/bin/chkstyle nbs',
    'test style': '.venv/bin/ruff check tests .ci'}


def run(command):
    "Exit code, output and seconds of `command`"
    start = perf_counter()
    env = dict(os.environ, PATH=f'{ROOT / ".venv/bin"}{os.pathsep}{os.environ["PATH"]}')
    res = subprocess.run(command.split(), cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return res.returncode, res.stdout, perf_counter() - start


def main():
    "The number of linters that found something"
    with ThreadPoolExecutor() as pool: found = dict(zip(CHECKS, pool.map(run, CHECKS.values())))
    for name, (rc, _, seconds) in found.items(): print(f'  {"FAIL" if rc else "ok":<5}{seconds:5.1f} s  {name}')
    failed = [name for name, (rc, *_) in found.items() if rc]
    for name in failed: print(f'\n--- {name}\n{found[name][1].rstrip()}\n--- see it again: {CHECKS[name]}')
    return len(failed)


if __name__ == '__main__': sys.exit(min(main(), 1))
