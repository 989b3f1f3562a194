"What a terminal sees, what a pipe gets, and what happens when either goes away."
import os
import shlex
import subprocess
import sys

import pytest
from children import QUIET, commit_all
from helpers import write
from rich.table import Table  # noqa: F401  (so that a fork need not)
from test_command import tiny  # noqa: F401  (a fixture)
from test_updates import SMALL
from typed import seen, typed

from mlops_kit.cli import app  # noqa: F401
from mlops_kit.record import new_run

pytestmark = [pytest.mark.xdist_group('command'), pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs a fork')]
KIT = f'{sys.executable} -c "from mlops_kit.cli import main; main()"'
LINES = ['run --help', 'runs list', 'run --jbos 3']
METRICS = {'valid/loss': .123456, 'valid/acc': .987654, 'test/acc of the rare classes': .5}


@pytest.fixture
def ran(tiny):  # noqa: F811
    "A project with three runs"
    for n in range(3):
        with new_run('train', tiny / 'runs', name=f'a name of some words {n}') as run: run.update(metrics=METRICS)
    return tiny


@pytest.fixture(autouse=True)
def no_wish(monkeypatch):
    "Nothing says from outside how coloured or wide it should be"
    for name in 'NO_COLOR FORCE_COLOR PY_COLORS COLUMNS GITHUB_ACTIONS'.split(): monkeypatch.delenv(name, raising=False)


def test_escape_codes_are_for_terminals(ran):
    "There are none in a pipe, and none where NO_COLOR is set, in help, tables and errors; else a terminal gets some"
    assert '\x1b[' in seen(['run', '--help'], ran)[0]
    assert '\x1b[' in seen(['runs', 'list'], ran)[0]
    for line in LINES:
        done = typed(shlex.split(line), ran, {**QUIET, 'GITHUB_ACTIONS': 'true'})
        assert '\x1b' not in done.out + done.err + seen(shlex.split(line), ran, NO_COLOR='1')[0], line


@pytest.mark.parametrize('columns', [60, 80, 120])
def test_tables_fit(ran, columns):
    "No line is wider than the terminal, and no id is cut; a pipe gets a line for each run, whatever the width"
    ids = [f.name for f in ran.glob('runs/train/*')]
    text, code = seen(['runs', 'list'], ran, COLUMNS=str(columns), NO_COLOR='1')
    assert (code, [i for i in ids if i not in text]) == (0, [])
    assert max(map(len, text.splitlines())) <= columns
    out = typed(['runs', 'list'], ran, {**QUIET, 'COLUMNS': str(columns)}).out.splitlines()
    assert len(out) == 4
    assert all('rare classes=0.5' in line for line in out[1:])


SEND = ['models', 'send', 'digits', 'champion', '--to', 'prod', '--from', 'set PROD']  # no address, so MLflow need not be imported
PIPES = {'--help': 'true', 'runs list': 'true', 'runs list --json': 'true', 'params nbs/ok.ipynb': '{ exec <&-; sleep 3; }'}


def test_a_reader_may_go(ran):
    "When the reader of a pipe goes away a command ends with 141 and without a word, also at the end of Python"
    script = '\n'.join(f'{KIT} {line} | {reader}; echo ${{PIPESTATUS[0]}}' for line, reader in PIPES.items())
    done = subprocess.run(['bash', '-c', script], cwd=ran, env={**os.environ, **QUIET}, capture_output=True, text=True)
    assert done.stderr == ''
    assert [line for line in done.stdout.splitlines() if line.isdigit()] == ['141'] * len(PIPES)


def test_progress_is_for_terminals(tmp_path):
    "Rows are counted at a terminal with the time left, and the line is gone at the end; --quiet and a pipe see none"
    import pandas as pd
    import pandera  # noqa: F401  (so that three forks need not)

    import mlops_kit.data  # noqa: F401
    pd.DataFrame({'a': range(1_000_000)}).to_parquet(tmp_path / 'a.parquet')
    (tmp_path / 'a.yaml').write_text('columns: {a: {dtype: integer, use: feature}}\n')
    words = 'data check a.parquet a.yaml'.split()
    text = seen(words, tmp_path)[0]
    assert 'of 1,000,000 rows' in text
    assert ' left' in text
    assert 'rows' not in seen([*words, '-q'], tmp_path)[0] + typed(words, tmp_path).err


def test_what_begins_is_for_terminals(ran, tmp_path_factory):
    "`new`, `models send` and `runs prune` say at a terminal what they are at, and that is gone at the end; --quiet and a pipe see none"
    folder = tmp_path_factory.mktemp('begun')
    for name, content in SMALL.items(): write(folder / 'kit' / name, content)
    commit_all(folder / 'kit')
    for _ in range(3): new_run('train', ran / 'runs', name='same').finish('passed')
    new, prune = ['new', '--from', 'kit', '-y'], ['runs', 'prune', '-y', '--keep']
    asked, made, gone = seen([*SEND], ran)[0], seen([*new, 'made'], folder)[0], seen([*prune, '2'], ran)[0]
    for text, said in (asked, 'asking both registries ...'), (made, 'exporting the notebooks ...'), (gone, '1 of 1 runs, '):
        assert f'\r{said}' in text
        assert said not in text.rpartition('\r')[2]
    quiet = seen([*new, 'quiet', '-q'], folder)[0] + typed(SEND, ran).err
    assert '...' not in quiet
    assert 'of 1' not in seen([*prune, '1', '-q'], ran)[0]
