"Install into a virtual environment with uv, many times as quick as pip, where uv can; else with pip.  install.py FOLDER WORD…"
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN, EXE = ('Scripts', '.exe') if os.name == 'nt' else ('bin', '')
TOLD = {'index-url': 'UV_DEFAULT_INDEX', 'extra-index-url': 'UV_INDEX', 'find-links': 'UV_FIND_LINKS', 'constraint': 'UV_CONSTRAINT',
        'no-index': 'UV_NO_INDEX', 'trusted-host': 'UV_INSECURE_HOST', 'cert': 'SSL_CERT_FILE', 'no-cache-dir': 'UV_NO_CACHE'}


def said(*words):
    "What a command prints; '' when it fails"
    res = subprocess.run(words, text=True, stdout=subprocess.PIPE, check=False)
    return res.stdout if res.returncode == 0 else ''


def as_pip(python):
    "The settings of pip, in the variables of uv: indexes, folders of wheels, certificates"
    lines = [line.partition('=') for line in said(python, '-m', 'pip', 'config', 'list').splitlines()]
    lines.sort(key=lambda line: line[0].startswith(':env:'))  # the environment has the last word
    told = {key.split('.')[-1]: value.strip("'") for key, _, value in lines}
    found = {TOLD[k]: ','.join(v.split()) if k == 'find-links' else v for k, v in told.items() if k in TOLD}
    return {'UV_INDEX_STRATEGY': 'unsafe-best-match', **found, **os.environ}


def tool(python):
    "uv: the kit's, or one that is put into this environment first"
    places = [f / f'uv{EXE}' for f in (ROOT / '.venv' / BIN, python.parent)]
    found = [p for p in places if p.exists()]
    if not found: said(python, '-m', 'pip', 'install', '-qq', '--disable-pip-version-check', '-c', ROOT / 'constraints.txt', 'uv')
    return next(iter(found), places[-1])


def main(folder, *words):
    "Make the environment if it is not there, and install"
    python = Path(folder) / BIN / f'python{EXE}'
    if not python.exists(): venv.create(folder, with_pip=True)
    if (uv := tool(python)).exists():
        asked = ['-q', '--compile-bytecode', '--python', python]  # or each process compiles, where none may write
        res = subprocess.run([uv, 'pip', 'install', *asked, *words], env=as_pip(python), check=False)
        if res.returncode == 0: return 0
        print('uv did not do it; pip goes on', file=sys.stderr)
    return subprocess.run([python, '-m', 'pip', 'install', '-qq', '--disable-pip-version-check', *words], check=False).returncode


if __name__ == '__main__': sys.exit(main(*sys.argv[1:]))
