"`mlops-kit lab`, as somebody sees it who works in the page: in a real Chromium, on a generated project."
import json
import os
import pty
import re
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from urllib.request import Request, urlopen

import nbformat
import psutil
import pytest
from browser import AXE, chromium, keep_picture, new_page  # noqa: F401  (a fixture)
from children import Child, commit_all, tree
from helpers import ROOT, write
from nbformat.v4 import new_code_cell, new_notebook

pytestmark = [pytest.mark.full, pytest.mark.alone, pytest.mark.xdist_group('image')]


def until(look, seconds=60):
    "What `look` returns, as soon as it returns something"
    end = monotonic() + seconds
    while not (found := look()):
        assert monotonic() < end, f'not within {seconds} s'
        sleep(.1)
    return found


@pytest.fixture
def project(children, tmp_path):
    "A copy of a generated project, to be changed"
    child, folder = children('image'), tmp_path / 'project'
    for name, data in tree(child.path).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return Child(commit_all(folder), child.env, {'PYTHONPATH': str(folder), 'HOME': str(tmp_path / 'home')})


@contextmanager
def lab(project, *args):
    "The command at a terminal, where nothing may come into the user's home: the process, its address, what it has said so far"
    log, home, terminal = project.path.parent / 'said.txt', Path(project.variables['HOME']), pty.openpty()
    before = sorted(home.rglob('*'))
    env = {**os.environ, **project.variables, 'PATH': f'{project.env.bin}{os.pathsep}{os.environ["PATH"]}'}
    command = [project.env.bin / 'mlops-kit', 'lab', '--no-browser', *args]
    with log.open('w') as out:
        server = subprocess.Popen(command, cwd=project.path / 'nbs', env=env, stdin=terminal[1], stdout=out, stderr=out)
    try:
        said = log.read_text
        url = until(lambda: server.poll() is not None or re.search(r'http://127\S+', said()))
        assert url is not True, said()
        yield server, url[0], said
    finally:
        server.terminate()
        server.wait(30)
        for fd in terminal: os.close(fd)
    assert sorted(home.rglob('*')) == before


def module(project):
    "The file that 02_model exports to"
    return next(project.path.glob('*/model.py'))


def cell(page, text):
    "The editor of the cell that contains `text`"
    editor = page.locator('.jp-Cell .cm-content', has_text=text).first
    editor.wait_for(timeout=120_000)
    return editor


def visit(page, url):
    "Open the page and let it come to rest: until its kernel is idle, it takes the focus away"
    page.goto(url)
    page.get_by_text('| Idle').wait_for(timeout=120_000)


def type_at_the_end(page, text, *, of):
    "Add `text` to a cell, as if typed"
    cell(page, of).click()
    page.keyboard.press('Control+End')
    page.keyboard.insert_text(text)
    cell(page, text.splitlines()[-1])


def save(page):
    "^S, and what JupyterLab does afterwards"
    with page.expect_response(lambda r: r.request.method == 'POST' and '/checkpoints' in r.url, timeout=60_000):
        page.keyboard.press('Control+s')


def run(page, text, prints):
    "Run a cell, and wait for what it prints"
    cell(page, text).click()
    page.keyboard.press('Control+Enter')
    page.locator('.jp-OutputArea', has_text=prints).wait_for(timeout=60_000)


def add_notebook(project, *sources, tagged=None):
    "A notebook of code cells, the tagged one first, that names a kernel of the user's, which does not work"
    spec = {'name': 'nobody', 'display_name': 'Nobody', 'language': 'python', 'argv': ['false']}
    first = [new_code_cell(tagged, metadata={'tags': ['parameters']})] if tagged else []
    nb = new_notebook(cells=[*first, *map(new_code_cell, sources)], metadata={'kernelspec': spec})
    nbformat.write(nb, project.path / 'nbs/99_toy.ipynb')
    folder = Path(project.variables['HOME']) / '.local/share/jupyter/kernels/nobody'
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'kernel.json').write_text(json.dumps(spec))


def test_a_save_exports(project, chromium):  # noqa: F811
    "Edit a cell of a chapter and save: the module has the change, the notebook is clean, and the network was not asked"
    page, wrong = new_page(chromium)
    page.on('request', lambda r: '/api/news' in r.url and wrong.append(r.url))
    with lab(project, '02_model.ipynb') as (_, url, _):
        visit(page, url)
        type_at_the_end(page, '\n\ndef double(x): return 2*x', of='def conv(')
        save(page)
    assert '\ndef double(x): return 2*x\n' in module(project).read_text()
    found = {f['name']: f['ok'] for f in json.loads(project.kit('check --json', ok=False).stdout)}
    assert (found['notebooks clean'], found['export in sync'], wrong) == (True, True, [])


def test_a_failing_export_is_told(project, chromium):  # noqa: F811
    "A slip in an exported cell is saved all the same and leaves the module alone; page and terminal say so, until it is mended"
    page, _ = new_page(chromium)
    before, told = module(project).read_text(), page.get_by_text("saved, but not exported: SyntaxError: expected ':' in")
    with lab(project, '02_model.ipynb') as (_, url, said):
        visit(page, url)
        type_at_the_end(page, '\ndef wrong(x) return x', of='def conv(')
        save(page)
        told.wait_for()
        assert 'def wrong(x) return x' in (project.path / 'nbs/02_model.ipynb').read_text()
        assert '`def wrong(x) return x`' in said()
        assert module(project).read_text() == before
        page.keyboard.press('Control+z')
        save(page)
        told.wait_for(state='hidden')


def test_the_kernel_is_this_one_and_reloads(project, chromium):  # noqa: F811
    "Whatever kernel a notebook names, it runs in the environment of the command, and a saved module is there for the next cell"
    add_notebook(project, '#| default_exp toy', '#| export\ndef f(): return 1',
                 f'import sys\nfrom {module(project).parent.name} import toy\nprint(sys.executable, toy.f())')
    page, _ = new_page(chromium)
    with lab(project, '99_toy.ipynb') as (_, url, _):
        visit(page, url)
        type_at_the_end(page, ' + 1', of='def f()')
        save(page)
        run(page, 'import sys', f'{project.env.bin}/python 2')
        type_at_the_end(page, ' + 1', of='def f()')
        save(page)
        run(page, 'import sys', f'{project.env.bin}/python 3')


TAGGED = """from typing import Literal
rows: int = 10  # How many to draw
scale: Literal['log', 'linear'] = 'log'
wait: float = 0  # Seconds"""
BODY = """import os, time
from pathlib import Path
from mlops_kit.runs import metric
Path('../pids').open('a').write(f'{os.getpid()}\\n')""", 'time.sleep(wait)', 'metric(drawn=2*rows)'
SLEEPS = 'cell 2 of 5'


def panel(page):
    "Open the form of the notebook in front, and put it in front: JupyterLab may still be restoring the tabs of last time"
    page.get_by_role('button', name='Parameters').click()
    form = page.frame_locator('iframe[title="Run 99_toy.ipynb"]')
    form.locator('#command', has_text='mlops-kit run').wait_for(state='attached')
    page.get_by_role('tab', name='Run 99_toy.ipynb').click()
    return form


def cells_of(project):
    "The sources in the toy"
    return [c.source for c in nbformat.read(project.path / 'nbs/99_toy.ipynb', 4).cells]


def start(form, seconds):
    "Run the toy, until it sleeps; whichever tab JupyterLab has put in front by then"
    form.locator('#f-wait').fill(seconds, force=True)
    form.locator('#command', has_text=f'wait={seconds}').wait_for(state='attached')
    form.locator('#go').dispatch_event('click')
    form.get_by_text(SLEEPS).first.wait_for(state='attached', timeout=60_000)


def recorded(project):
    "What is recorded of the toy, the oldest first"
    found = [json.loads(f.read_text()) for f in sorted(project.path.glob('runs/99_toy/*/run.json'))]
    return [(r['status'], r['parameters'], r['metrics']) for r in found]


def test_run_with_parameters(project, chromium):  # noqa: F811
    "A wrong value is refused beside its field, before anything runs; a right one runs, and its notebook and report open"
    add_notebook(project, *BODY, tagged=TAGGED)
    before = cells_of(project)
    page, wrong = new_page(chromium, viewport={'width': 1500, 'height': 900})
    with lab(project, '99_toy.ipynb') as (_, url, _):
        visit(page, url)
        form = panel(page)
        form.locator('#f-rows').fill('many')
        form.get_by_text("rows='many' is not int").wait_for()
        assert form.locator('#go').is_disabled()
        keep_picture(page, 'lab-refused')
        form.locator('#f-rows').fill('21')
        form.locator('#f-scale').select_option('linear')
        form.locator('#command', has_text='-p rows=21 -p scale=linear').wait_for()
        assert recorded(project) == []
        page.locator('iframe[title="Run 99_toy.ipynb"]').element_handle().content_frame().evaluate('location.reload()')
        form.locator('#command', has_text='-p rows=21 -p scale=linear').wait_for()
        form.locator('#go').click()
        cell(page, 'rows = 21')
        page.frame_locator('iframe[title="Report of 99_toy"]').get_by_text('The notebook passed').first.wait_for()
        page.get_by_role('tab', name='Run 99_toy.ipynb').click()
        form.locator('#runs tr', has_text='rows=21').get_by_text('drawn 42').wait_for()
        form.get_by_role('button', name='Clear').click()
        form.locator('#command').get_by_text('mlops-kit run nbs/99_toy.ipynb', exact=True).wait_for()
        keep_picture(page, 'lab-passed')
        frame = page.locator('iframe[title="Run 99_toy.ipynb"]').element_handle().content_frame()
        frame.add_script_tag(path=ROOT / '.lint/node_modules/axe-core/axe.min.js')
        assert frame.evaluate(AXE) == []
    assert recorded(project) == [('passed', {'rows': 21, 'scale': 'linear'}, {'drawn': 42})]
    assert cells_of(project) == before
    assert wrong == []


def test_two_tabs_and_a_killed_kernel(project, chromium):  # noqa: F811
    "Two tabs run one notebook at the same time, and see each other's run; the one whose kernel is killed says so, the other passes"
    add_notebook(project, *BODY, tagged=TAGGED)
    tabs = [new_page(chromium)[0] for _ in range(2)]
    with lab(project, '99_toy.ipynb') as (_, url, _):
        forms = []
        for page, seconds in zip(tabs, ('60', '15'), strict=True):
            visit(page, url)
            forms.append(panel(page))
            start(forms[-1], seconds)
        for form in forms: form.locator('.job .running').nth(1).wait_for(state='attached')
        keep_picture(tabs[1], 'lab-running')
        os.kill(int((project.path / 'pids').read_text().split()[0]), signal.SIGKILL)
        for form in forms:
            form.locator('.job .killed').wait_for(state='attached', timeout=60_000)
            form.locator('.job .passed').wait_for(state='attached', timeout=60_000)
        for page in tabs: page.get_by_role('tab', name='Run 99_toy.ipynb').click()
        keep_picture(tabs[0], 'lab-killed')
        start(forms[1], '600')
        forms[1].get_by_role('button', name='Stop').dispatch_event('click')
        forms[1].locator('.job .cancelled').wait_for(state='attached', timeout=60_000)
    assert sorted(s for s, _, _ in recorded(project)) == ['cancelled', 'killed', 'passed']


def test_stops_at_once_and_leaves_nothing(project, tmp_path, monkeypatch):
    "^C ends it without a question: no process, no temporary folder, though npm would write to it later"
    npm = write(tmp_path / 'slow/npm', '#!/bin/sh\nsleep 60\nmkdir -p "$npm_config_cache/_logs"\n')
    npm.chmod(0o755)
    monkeypatch.setenv('PATH', f'{npm.parent}{os.pathsep}{os.environ["PATH"]}')
    with lab(project) as (server, url, said):
        address, _, token = url.partition('/lab?token=')
        start = Request(f'{address}/api/kernels', b'{}', {'Authorization': f'token {token}'})
        kernel = json.load(urlopen(start))['name']
        folder = Path(re.search(r'/\S+/mlops-kit-lab-[^/]+', said())[0])
        until(lambda: any(str(npm) in (p.info['cmdline'] or ()) for p in psutil.process_iter(['cmdline'])))
        family = psutil.Process(server.pid).children(recursive=True)
        os.kill(server.pid, signal.SIGINT)
        assert (kernel, server.wait(20)) == ('python3', 0)
        assert 'y/[n]' not in said()
    assert len(psutil.wait_procs(family, 10)[0]) == len(family) > 0
    assert not folder.exists()
