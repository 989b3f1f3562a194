"A secret goes to the notebook by the environment, and is in nothing that is written about the run."
import json
import re
import sys
from base64 import b64decode, b64encode
from html import escape
from urllib.parse import quote

import nbformat
import pytest
from helpers import ROOT, sh
from test_command import cli, listing, notebook, refused, tiny  # noqa: F401  (fixture)

pytestmark = pytest.mark.xdist_group('command')
SECRET = 'tulip-52/door "&" ä'
GITHUB = 'ghp_' + 'aB3dE5gH7j' * 4
FIRST = """import os
from typing import Annotated
token: Annotated[str, 'secret'] = os.environ['WAREHOUSE_TOKEN']  # To read the tables
n: int = 1"""
SAYS = """import base64, html, json, sys, urllib.parse
from IPython.display import HTML, JSON, SVG, display
print(token, repr(token), json.dumps([token]), urllib.parse.quote(token), token.encode().hex())
print(base64.b64encode(f'me:{token}'.encode()).decode(), file=sys.stderr)
print(token[:8] + chr(10) + token[8:])
display(HTML(f'<b>{html.escape(token)}</b>'), JSON({'a': {token: [token]}}), metadata={'seen': token})
display(SVG(f'<svg xmlns="http://www.w3.org/2000/svg"><text>{html.escape(token)}</text></svg>'))"""
CELLS = {
    'says': [FIRST, SAYS, 'assert len(token) == 19 and n == 2\ntoken'],
    'fails': [FIRST, 'def connect(key): raise ValueError(f"refused {key} by postgresql://me:{n * 4321}@db")', 'connect(token)'],
    'dies': [FIRST, 'import signal\nos.write(2, token.encode())\nprint(token, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)'],
    'holds': ['n: int = 1', f'key = "{GITHUB}"\nprint(key)'], 'maybe': [FIRST.replace("environ['WAREHOUSE_TOKEN']", "getenv('MAYBE')")]}


@pytest.fixture
def vault(tiny):  # noqa: F811
    "A project with notebooks that tell what they should not"
    for name, cells in CELLS.items(): (tiny / f'nbs/{name}.ipynb').write_text(json.dumps(notebook(*cells)))
    return tiny


def spellings(value):
    "How a value may stand in a file"
    plain = {value, value[:8], escape(value), quote(value), json.dumps(value)[1:-1], repr(value.encode())[2:-1], value.encode().hex()}
    return plain | {json.dumps(s)[1:-1] for s in plain}


def leaks(value, *texts):
    "The spellings of `value` in `texts`, also within base64"
    coded = [b64decode(c + 'A' * (-len(c) % 4)) for t in texts for c in re.findall(r'[A-Za-z0-9+/]{12,}', t)]
    return [s for s in spellings(value) for t in texts if s in t] + [c for c in coded if value.encode() in c]


def written(folder):
    "The text of every file that a run wrote"
    return [f.read_text(errors='replace') for f in folder.rglob('*') if f.is_file() and f.parent.name != 'nbs']


def record(folder, name):
    "The record of the only run of a notebook"
    path, = folder.glob(f'runs/{name}/*/run.json')
    return json.loads(path.read_text())


def run(env, folder, words, monkeypatch=None, **variables):
    "`mlops-kit run WORDS`, after which nothing says the secret"
    for k, v in variables.items(): monkeypatch.setenv(k, v)
    done = cli(env, ['run', *words], folder)
    assert not leaks(SECRET, done.out, done.err, *written(folder))
    return done


def test_the_search_finds_them():
    "The search of these tests sees a value in every spelling that the notebooks use"
    said = [SECRET, escape(SECRET), quote(SECRET), json.dumps([SECRET]), SECRET.encode().hex(), b64encode(f'me:{SECRET}'.encode()).decode()]
    assert [s for s in said if not leaks(SECRET, s)] == []


@pytest.mark.parametrize('by', ['words', 'environment'])
def test_value_is_nowhere(project_env, vault, monkeypatch, by):
    "The notebook has the value, and no file of the run has it, in no spelling; the record names cell and kind"
    words, variables = (['-p', f'token={SECRET}'], {}) if by == 'words' else ([], {'WAREHOUSE_TOKEN': SECRET})
    done = run(project_env, vault, ['nbs/says.ipynb', '-p', 'n=2', *words], monkeypatch, **variables)
    assert done.code == 0, done
    found = record(vault, 'says')
    assert found['parameters'] == {'n': 2}
    assert {'cell 1: secret WAREHOUSE_TOKEN taken out of the output'} <= set(found['notes'])


@pytest.mark.parametrize('name', ['fails', 'dies'])
def test_failure_keeps_it(project_env, vault, name):
    "An exception that repeats the secret, and a kernel that dies with it in the log, are reported without it"
    done = run(project_env, vault, [f'nbs/{name}.ipynb', '-p', f'token={SECRET}'])
    assert done.code == 1
    found = record(vault, name)
    assert found['status'] == {'fails': 'failed', 'dies': 'killed'}[name]
    if name == 'dies': return
    assert '[secret WAREHOUSE_TOKEN]' in found['error']['message']
    assert 'postgresql://me:[secret: URL password]@db' in found['error']['message']
    assert 'me:4321@db' not in ''.join(written(vault))


def test_reports_keep_it(project_env, vault):
    "So are JUnit, the summary and the page of a failed suite"
    words = ['--junit', 'out/junit.xml', '--html', 'out/page.html', '--summary', 'out/summary.md', '-p', f'token={SECRET}']
    done = run(project_env, vault, ['nbs/fails.ipynb', 'nbs/says.ipynb', *words])
    assert done.code == 1
    assert len(list((vault / 'out').iterdir())) == 3


def test_a_token_in_the_source(project_env, vault):
    "A well-known token leaves the outputs; in the source it stays what was run, and is reported"
    done = run(project_env, vault, ['nbs/holds.ipynb'])
    assert done.code == 0, done
    path, = vault.glob('runs/holds/*/holds.ipynb')
    cell = nbformat.read(path, 4).cells[1]
    assert (GITHUB in cell.source, GITHUB in json.dumps(cell.outputs)) == (True, False)
    assert [note for note in record(vault, 'holds')['notes'] if note.startswith('cell 1: there is a GitHub token in the source')]


def test_missing_secret(project_env, vault):
    "A secret that is needed and given nowhere stops the run before any kernel, and names the variable to set"
    said = refused(project_env, ['run', 'nbs/says.ipynb'], vault)
    assert 'set WAREHOUSE_TOKEN in the environment' in said
    assert cli(project_env, ['run', 'nbs/maybe.ipynb'], vault).code == 0


@pytest.mark.parametrize('words', ['-p tokn={}', '-p {}', 'token={}', '-p token={} -p n=x'])
def test_complaints_keep_it(project_env, vault, monkeypatch, words):
    "A mistyped call is refused without repeating what may be a secret"
    monkeypatch.setenv('WAREHOUSE_TOKEN', SECRET)
    given = [w.format(SECRET.replace(' ', '')) for w in words.split()]
    assert 'tulip' not in refused(project_env, ['run', 'nbs/says.ipynb', *given], vault)


def test_no_machine_paths(project_env, vault):
    "The metadata of the executed notebook do not say where the project lies, also when another tool wrote that down"
    held = notebook(*CELLS['holds']) | {'metadata': {'made': f'from {vault}/my.csv'}}
    (vault / 'nbs/holds.ipynb').write_text(json.dumps(held))
    cli(project_env, ['run', 'nbs/holds.ipynb'], vault)
    path, = vault.glob('runs/holds/*/holds.ipynb')
    nb = nbformat.read(path, 4)
    assert str(vault) not in json.dumps([nb.metadata, [c.metadata for c in nb.cells]])
    assert (nb.metadata.made, nb.metadata.papermill.input_path) == ('from my.csv', 'nbs/holds.ipynb')


def test_with_plain_papermill(project_env, vault, monkeypatch):
    "The same notebook runs under papermill itself; `redact` cleans what it wrote, and the source is not touched"
    monkeypatch.setenv('WAREHOUSE_TOKEN', SECRET)
    before = listing(vault)
    project_env.run('papermill', 'nbs/says.ipynb', 'out.ipynb', *'-k python3 --language python -p n 2 --no-progress-bar'.split(), cwd=vault)
    code = 'import nbformat, sys; from mlops_kit.redact import redact, relative_paths; from mlops_kit.params import read_secrets\n' \
        'nb = nbformat.read("out.ipynb", 4)\nclean = relative_paths(redact(nb, read_secrets("nbs/says.ipynb"))[0], ".")\n' \
        'nbformat.write(clean, "clean.ipynb")'
    project_env.run('python', '-c', code, cwd=vault)
    assert leaks(SECRET, (vault / 'out.ipynb').read_text())
    clean = (vault / 'clean.ipynb').read_text()
    assert (leaks(SECRET, clean), str(vault) in clean) == ([], False)
    assert {k: v for k, v in listing(vault).items() if k in before} == before


def test_no_secret_in_this_repo():
    "The kit's own notebooks hold no token, by its own shapes"
    code = 'import json, pathlib; from mlops_kit.redact import redact\n' \
        'print([(f.name, str(x)) for f in pathlib.Path("nbs").glob("*.ipynb") for x in redact(json.loads(f.read_text()), {})[1]])'
    assert sh([sys.executable, '-c', code], cwd=ROOT).stdout.strip() == '[]'
