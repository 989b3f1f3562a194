"What is told of a suite: in a terminal, on a page in a real Chromium, to CI servers and to GitHub."
import json
import os
import pty
import re
import shlex
import sys
import textwrap
from copy import deepcopy
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
from browser import chromium, new_page  # noqa: F401  (a fixture)
from helpers import sh
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from test_suites import suites

from mlops_kit.cli import _pairs, _split_words
from mlops_kit.params import check_params
from mlops_kit.record import STATUSES
from mlops_kit.report import GOOD, Terminal, annotations, ending, json_lines, junit, rerun_command, summary, write_html

HOSTILE = '</script><script>document.title="pwned"</script><img src=x onerror=alert(1)>"\'`|*_[a](b) ' \
    '::error file=x,line=1::\r\n\x00\x1b[31m\ud800 ]]> %0A'
TRACEBACK = 'E\nCell In[1], line 2\n----> 2 fail()\n\nCell In[1], line 1, in fail()\n----> 1 def fail(): 1/0\n\nZeroDivisionError: '
SOURCE = 'def fail(): 1/0\nfail()'


def write(root, name, *sources):
    "A notebook of the project; the first source is the tagged cell"
    cells = [new_code_cell(s, metadata={'tags': ['parameters']} if i == 0 else {}) for i, s in enumerate(sources)]
    (root / 'nbs').mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=[*cells, new_markdown_cell('The end')]), root / f'nbs/{name}.ipynb')


def told(root, statuses, text):
    "A suite with a case of each of `statuses`, in which everything that a notebook can say is `text`"
    write(root, 'a', 'x = 1', SOURCE)
    error = {'cell': 1, 'type': 'ZeroDivisionError', 'message': text, 'traceback': TRACEBACK + text, 'stack': text}
    base = {'notebook': 'nbs/a.ipynb', 'path': f'{root}/runs/a/20261120-195600-6qgf', 'id': '20261120-195600-6qgf', 'engine': 'warm',
            'seconds': 1.5, 'peak_memory_mb': 140.0, 'parameters': {'x': text}, 'timings': [], 'notes': [text], 'attempts': []}
    runs = [{**base, 'name': f'a[{i},{text[:200]}]', 'status': s} for i, s in enumerate(statuses)]
    for r in runs: r['error'] = None if r['status'] == 'passed' else {**error, 'source': f'{SOURCE}\n# {text}'}
    for r in runs: r['attempts'] = [{'status': 'killed', 'seconds': 1.0, 'message': text}] * (r['status'] == 'flaky')
    events = [{'time': '2026-11-20T19:56:00+00:00', 'case': r['name'], 'status': 'running', 'worker': 0} for r in runs]
    events.append({'time': '2026-11-20T19:56:09+00:00', 'status': 'failed', 'seconds': 9.1})
    head = {'schema': 1, 'suite': '20261120-195600-abcd', 'started': '2026-11-20T19:56:00+00:00', 'root': str(root), 'jobs': 2}
    return {**head, 'command': text, 'status': 'failed', 'cases': [*(r['name'] for r in runs), 'never'], 'runs': runs, 'events': events}


@pytest.fixture
def hostile(tmp_path):
    "One case of every status, with names and messages that attack every format"
    return told(tmp_path, STATUSES, HOSTILE)


def test_junit_keeps_the_rules(hostile):
    "What every reader of JUnit files asks: it parses, counts agree with cases, names differ, at most one outcome each, times are numbers"
    top = ElementTree.fromstring(junit(hostile).encode('utf-8'))
    suite, found = top[0], list(top.iter('testcase'))
    assert (top.tag, [e.tag for e in top]) == ('testsuites', ['testsuite'])
    for attribute, tag in ('tests', 'testcase'), ('failures', 'failure'), ('errors', 'error'), ('skipped', 'skipped'):
        assert int(suite.get(attribute)) == len(list(suite.iter(tag))), attribute
    assert len({c.get('name') for c in found}) == len(found) == len(STATUSES) + 1
    outcomes = [[e.tag for e in c if e.tag in ('failure', 'error', 'skipped')] for c in found]
    assert all(len(o) <= (c[0][0].get('value') not in ('passed', 'flaky')) for o, c in zip(outcomes, found))
    assert all(re.fullmatch(r'\d+\.\d{3}', e.get('time')) for e in (top, suite, *found))
    assert all(e.get('type') for e in suite.iter() if e.tag in ('failure', 'error', 'flakyFailure'))


def test_annotations_point_at_the_line(hostile, monkeypatch):
    "An annotation is one line, cannot smuggle in another command, and names the line of the notebook that failed"
    monkeypatch.delenv('GITHUB_WORKSPACE', raising=False)
    lines = annotations(hostile)
    assert len(lines) == len([r for r in hostile['runs'] if r['status'] not in ('passed', 'skipped', 'blocked', 'running')])
    for line in lines:
        file, n = re.fullmatch(r'::(?:error|warning) file=([^,]*),line=(\d+),title=[^,:]*::.*', line).groups()
        assert 'fail()"' in (Path(hostile['root']) / file).read_text().splitlines()[int(n) - 1]
        assert not re.search(r'[\r\n]', line)


def test_summary_keeps_its_table_and_its_limit(hostile, tmp_path):
    "A notebook's words break no row, open no fence and no tag, and GitHub's megabyte is enough for a very bad day"
    rows = [line for line in summary(hostile).splitlines() if line.startswith('|')]
    assert {len(re.findall(r'(?<!\\)\|', row)) for row in rows} == {6}
    assert '<img' not in re.sub(r'^(`{3,})text$.*?^\1$|\\<', '', summary(hostile), flags=re.M | re.S)
    many = told(tmp_path, ['failed'] * 1000, HOSTILE * 300)
    assert len(summary(many).encode()) < 2**20


def test_json_lines_are_lines(hostile):
    "One line of JSON for each case and one for the suite"
    assert all(line.isascii() and line.isprintable() for line in json_lines(hostile))
    lines = [json.loads(line) for line in json_lines(hostile)]
    assert [line['status'] for line in lines[:-1]] == [*STATUSES, 'cancelled']
    assert lines[-1]['counts']['cancelled'] == 2


class Tags(HTMLParser):
    "The tags of a page, with those attributes that could run or fetch something"

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs): self.found.append((tag, {k for k, v in attrs if k.startswith('on') or k == 'src'}))


def test_page_escapes_what_a_suite_says(hostile):
    "Names, messages, sources, parameters and notes are text on the page, and never tags"
    page = write_html(hostile, Path(hostile['root']) / 'report.html').read_text(encoding='utf-8')
    tags = Tags(page).found
    assert [t for t, _ in tags].count('script') == 1
    assert not [t for t in tags if t[0] == 'img' or t[1]]


def test_rerun_command_gives_the_same_values(tmp_path):
    "What the report says to type runs the notebook with the very values that failed"
    kinds = 'text: str', 'n: int', 'rate: float', 'on: bool', 'xs: list[str]', 'd: dict', 'none: int | None'
    write(tmp_path, 'a', '\n'.join([*kinds, 'overrides: list[str] = ["seed=1"]']))
    values = {'text': "it's $HOME; `x` \"q\"", 'n': -3, 'rate': 1e-7, 'on': True, 'xs': ['a b', 'c=d'], 'd': {'k': [1, None]}, 'none': None}
    values['overrides'] = ['+a=1', '~b']
    program, verb, *words = shlex.split(rerun_command({'notebook': 'nbs/a.ipynb', 'parameters': values}))
    assert (program, verb, _split_words(words[:1])) == ('mlops-kit', 'run', (['nbs/a.ipynb'], []))
    assert set(words[1::2]) == {'-p'}
    assert check_params(tmp_path / 'nbs/a.ipynb', _pairs(words[2::2], '-p')) == values


SHOW = '''
import sys, time
from mlops_kit.report import Terminal
with Terminal(['a', 'b']) as show:
    show('a', dict(status='running'))
    for i in range(3): show('a', dict(status='running', cell=i, cells=3)) or time.sleep(.3)
    show.say('a note \\u2713')
    show('a', dict(name='a', status='passed', seconds=1.5, peak_memory_mb=140.))
print('rich' in sys.modules)
'''


def test_a_pipe_gets_plain_lines():
    "Where nobody watches there are no control codes, and rich is not even imported"
    lines = sh([sys.executable, '-c', SHOW], env={'PYTHONUTF8': '1'}).stdout.splitlines()
    assert lines == ['a note ✓', '     passed  a      1.5 s   140 MB', 'False']
    ascii = sh([sys.executable, '-c', SHOW], env={'PYTHONIOENCODING': 'ascii'}).stdout.splitlines()
    assert ascii == ['a note ?', *lines[1:]]


def test_a_reader_may_leave():
    "Who pipes the lines into `head` stops the lines, not the notebooks"
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, 'w', buffering=1, encoding='utf-8') as file:
        show = Terminal(['a'], file)
        for _ in range(3): show('a', {'name': 'a', 'status': 'passed', 'seconds': 1.0})
        assert show.ended['passed'] == 3


def test_a_terminal_gets_live_lines():
    "On a terminal a case shows its cells while it runs, and one line stays of it"
    pid, end = pty.fork()
    if not pid: os.execve(sys.executable, [sys.executable, '-c', SHOW], {**os.environ, 'TERM': 'xterm', 'PYTHONUTF8': '1', 'COLUMNS': '80'})
    seen = b''
    while True:
        try: seen += os.read(end, 1 << 16)
        except OSError: break
    assert os.waitpid(pid, 0)[1] == 0
    text = re.sub(r'\x1b\[[0-9;?]*[a-zA-Z]', '', seen.decode())
    assert all(f'{i}/3 cells' in text for i in (1, 2))
    assert re.search(r'0 of 2 done', text)
    lines = [line.strip() for line in text.splitlines()]
    assert {'a note ✓', '✓ passed       a      1.5 s   140 MB'} <= set(lines)
    assert lines[-1] == 'True'


SHOWN = """<script>parent.document.title = 'pwned'</script><style>body{background:red}</style>
<img src="https://example.com/x.png"><a href="#cell-0">up</a><b>shown</b>"""


@pytest.fixture(scope='module')
def ran(tmp_path_factory):
    "A suite that really ran: passed, failed, timeout, killed, blocked, and skipped since the run before"
    from mlops_kit.runs import run_notebooks
    root = tmp_path_factory.mktemp('suite')
    (root / 'settings.ini').write_text('[DEFAULT]\nlib_name = shapes\n')
    (root / 'dvc.yaml').write_text('stages: {bug: {cmd: a, outs: [x]}, later: {cmd: b, deps: [x]}}')
    write(root, 'good', 'n = 1', f'from IPython.display import HTML\nHTML({SHOWN!r})')
    write(root, 'bug', 'x = 0', *['print(x)'] * 30, 'def f(x): return 1/x', 'f(x)')
    write(root, 'dies', 'import os', 'os.kill(os.getpid(), 9)')
    write(root, 'hangs', 'n = 1', 'import time\ntime.sleep(60)')
    write(root, 'later', 'n = 1')
    run_notebooks(root / 'nbs/good.ipynb', root=root)
    run_notebooks(root / 'nbs', root=root, timeout=3, jobs=2)
    return suites(root)[-1]


def sized(suite, n):
    "The same suite with `n` cases: the first ones, or all of them over and over"
    suite = deepcopy(suite)
    runs = [{**r, 'name': r['name'] + f'[lr=0.{i},seed={i}]' * (i >= 5)} for i, r in enumerate(suite['runs'] * 12)][:n]
    return {**suite, 'runs': runs, 'cases': [r['name'] for r in runs], 'notes': ['Kernels were started cold: a note for all.'] * (n > 1)}


@pytest.mark.full
def test_what_ran_is_told(ran):
    "A real suite: each status as it was, each failure with its cell, its way there and its command"
    found = {r['name']: r['status'] for r in ran['runs']}
    assert found == {'good': 'skipped', 'bug': 'failed', 'dies': 'killed', 'hangs': 'timeout', 'later': 'blocked'}
    text = ending(ran)
    assert all(f'Again: mlops-kit run nbs/{n}.ipynb' in text for n in ('bug', 'dies', 'hangs'))
    assert '> 1  f(x)' in text
    assert 'ZeroDivisionError: division by zero' in text
    assert 'Where it hung:' in text


CONTRAST = '''() => {
  const c = document.createElement('canvas').getContext('2d', {willReadFrequently: true})
  const rgb = s => { c.clearRect(0, 0, 1, 1); c.fillStyle = s; c.fillRect(0, 0, 1, 1); return [...c.getImageData(0, 0, 1, 1).data] }
  const line = v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4
  const light = ([r, g, b]) => .2126 * line(r) + .7152 * line(g) + .0722 * line(b)
  const bar = e => e.closest('svg.bar')?.querySelector('rect')
  const look = e => bar(e) ? getComputedStyle(bar(e)).fill : getComputedStyle(e).backgroundColor
  const behind = e => { for (; e; e = e.parentElement) if (rgb(look(e))[3] > 250) return rgb(look(e)) }
  const ink = e => rgb(e.tagName == 'text' ? getComputedStyle(e).fill : getComputedStyle(e).color)
  const ratio = e => { const [a, b] = [light(ink(e)), light(behind(e))].sort((a, b) => b - a); return (a + .05) / (b + .05) }
  const says = e => e.checkVisibility() && [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim())
  return [...document.querySelectorAll('body *')].filter(says).map(e => [ratio(e), e.outerHTML.slice(0, 90)]).filter(([r]) => r < 4.5) }'''


@pytest.mark.full
@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('size', [(1280, 900), (390, 844)])
@pytest.mark.parametrize('n', [1, 5, 60])
def test_page_is_readable(ran, chromium, tmp_path, n, size, scheme):  # noqa: F811
    "At desk and on a phone, light and dark: nothing sticks out sideways, every text has a contrast of 4.5, nothing is fetched"
    page, wrong = new_page(chromium, viewport={'width': size[0], 'height': size[1]}, color_scheme=scheme)
    file = write_html(sized(ran, n), tmp_path / 'report.html')
    for part in '', '#bug':
        page.goto(f'file://{file}{part}')
        page.wait_for_timeout(300)
        assert page.evaluate('document.documentElement.scrollWidth') <= size[0]
        assert [f.evaluate(CONTRAST) for f in page.frames] == [[]] * (2 if part else 1)
    assert page.locator('table.all a').count() == n
    assert not wrong


@pytest.mark.full
def test_notebooks_are_one_click_away(ran, chromium, tmp_path):  # noqa: F811
    "A click shows the failed cell and the notebook, another one goes to the cell; what the notebook brought cannot run"
    page, wrong = new_page(chromium, viewport={'width': 1280, 'height': 900})
    page.goto(f'file://{write_html(ran, tmp_path / "report.html")}')
    title = page.title()
    page.click('table.all >> text=bug')
    assert page.locator('#bug .broken mark').inner_text() == '> 1  f(x)'
    cell = page.frame_locator('#bug iframe').locator('.cell-row.bad')
    page.click('#bug >> text=Go to cell 32')
    page.wait_for_function('scrollY > 500')
    assert 0 <= cell.bounding_box()['y'] < 900
    page.keyboard.press('Escape')
    page.click('table.all >> text=good')
    assert page.frame_locator('#good iframe').locator('b', has_text='shown').is_visible()
    assert page.title() == f'good - {title}'
    assert 'allow-scripts' not in page.locator('#good iframe').get_attribute('sandbox')
    assert page.evaluate('getComputedStyle(document.body).backgroundColor') == 'rgb(255, 255, 255)'
    assert not wrong


@pytest.mark.full
def test_page_works_from_the_keyboard(ran, chromium, tmp_path):  # noqa: F811
    "Tab reaches the buttons and the cases, Enter opens one, Escape comes back; filters and columns answer to it, too"
    page, wrong = new_page(chromium, viewport={'width': 1280, 'height': 900})
    page.goto(f'file://{write_html(sized(ran, 60), tmp_path / "report.html")}')
    shown = 'document.activeElement.textContent.trim()'

    def tab(text):
        for _ in range(40):
            page.keyboard.press('Tab')
            if page.evaluate(shown) == text: return page.keyboard.press('Enter')
        raise AssertionError(f'Tab does not reach {text}')
    tab('Dark')
    assert page.evaluate('document.documentElement.style.colorScheme') == 'dark'
    tab('✗ 12 failed')
    assert page.locator('table.all tbody tr:visible').count() == 12
    tab('Name')
    assert page.locator('th[aria-sort]').get_attribute('aria-sort') == 'ascending'
    tab('bug')
    assert page.locator('#bug').is_visible()
    page.keyboard.press('Escape')
    assert page.locator('#_all').is_visible()
    assert not wrong


@pytest.mark.full
def test_page_tells_without_scripts(ran, chromium, tmp_path):  # noqa: F811
    "With scripts switched off the verdict, the table and the failed cells are all there"
    page = chromium.new_context(java_script_enabled=False).new_page()
    page.goto(f'file://{write_html(ran, tmp_path / "report.html")}#bug')
    assert 'f(x)' in page.locator('#bug .broken').inner_text()
    assert [r['name'] for r in ran['runs'] if r['status'] in GOOD] == ['good']
    assert textwrap.shorten(page.locator('#bug .typed').inner_text(), 200) == 'mlops-kit run nbs/bug.ipynb Copy'
