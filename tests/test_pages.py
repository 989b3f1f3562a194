"Every page that the kit writes, as a reader has it: in a real Chromium, at a desk and on a phone, by day and by night, with keys alone."
import re
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from browser import AXE, chromium, new_page  # noqa: F401  (a fixture)
from helpers import ROOT
from nbformat import write
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from typer.testing import CliRunner

SIZES = {'desk': {'width': 1400, 'height': 900}, 'phone': {'width': 390, 'height': 844}}
PAGES = 'present', 'report', 'runs', 'diff', 'watch', 'service'
# What the Tab key must reach: all that acts, and all that scrolls sideways. Links in the timeline are in the table, too.
STOPS = '''() => {
  const acts = 'a[href],button,input,textarea,summary,iframe', shown = e => e.checkVisibility() && e.getAttribute('tabindex') != '-1'
  const wide = e => ['auto', 'scroll'].includes(getComputedStyle(e).overflowX) && e.scrollWidth > e.clientWidth + 1
  window.stops = [...document.querySelectorAll('main *, header *')].filter(e => shown(e) && (e.matches(acts) || wide(e)))
  window.seen = new Set()
  window.dull = []
  const unmarked = e => getComputedStyle(e).outlineStyle == 'none' && !e.matches('iframe')
  addEventListener('focusin', e => { seen.add(e.target); if (unmarked(e.target)) dull.push(e.target.outerHTML.slice(0, 90)) })
  return stops.filter(wide).filter(e => !e.hasAttribute('tabindex') && !e.matches(acts)).map(e => e.outerHTML.slice(0, 90)) }'''
LEVELS = "[...document.querySelectorAll('main :is(h1,h2,h3,h4)')].filter(h => h.checkVisibility()).map(h => +h.tagName[1])"
MISSED = '() => { seen.add(document.activeElement); return stops.filter(e => !seen.has(e)).map(e => e.outerHTML.slice(0, 90)) }'


def fitted(folder, name, lr):
    "A training with a history of eight epochs"
    from mlops_kit.project import write_json
    from mlops_kit.record import new_run, read_run_json
    run = new_run('train', folder / 'runs', name, config={'model': {'lr': lr}}, provenance={})
    write_json(run.path / 'history.json', [{'epoch': i, 'valid/loss': .5 ** (i * lr * 100) + .01 * i, 'lr': lr} for i in range(8)])
    run.finish('passed', metrics={'valid/loss': .25})
    return read_run_json(run.path)


def report(folder):
    "A suite of two notebooks, of which one fails"
    from mlops_kit.journal import last_suite
    from mlops_kit.page import write_html
    from mlops_kit.runs import run_notebooks
    books = {'good': [new_markdown_cell('# Good'), new_code_cell("print('x'*400)")], 'bad': [new_code_cell('names = [1]*200\nnames[1000]')]}
    for name, cells in books.items(): write(new_notebook(cells=cells), folder / f'nbs/{name}.ipynb')
    run_notebooks(folder / 'nbs', root=folder)
    return write_html(last_suite(folder / 'runs'), folder / 'report.html')


def diff(folder):
    "Two evaluations, as a pull request shows them"
    from mlops_kit.diff import Difference, Side, chapter_rows, metric_rows
    from mlops_kit.diffpage import difference_html
    from mlops_kit.nbdiff import cell_changes
    from mlops_kit.present import find_evaluated
    e = find_evaluated(folder)
    each = ('main', e.before, .1), ('branch', e.now, .01)
    sides = [Side(name, name[0] * 40, 'Train', False, {r['name']: r}, fitted(folder, 'train', lr)) for name, r, lr in each]
    rows, notes = metric_rows(*(s.records for s in sides))
    cells = cell_changes(*({'cells': [new_code_cell(f'lr = {lr}' + ' # why' * 40)]} for lr in (.1, .01)))
    books, chapters = {'nbs/03_train.ipynb': cells}, chapter_rows(*(s.records for s in sides))
    d = Difference(*sides, '', rows, chapters, books, ['configs/train.yaml'], [('lr', .1, .01)], notes)
    page = folder / 'diff.html'
    page.write_text(difference_html(d))
    return page


def watch_and_service(folder):
    "What a toy of a service was asked, in which two things were planted; and the page on which it is asked"
    import numpy as np
    import pandas as pd

    from mlops_kit.drift import Reference
    from mlops_kit.logs import join_labels, load_log
    from mlops_kit.monitor import watch
    from mlops_kit.openapi import docs_page
    from mlops_kit.package import load_package, toy_package
    from mlops_kit.performance import performance
    from mlops_kit.signature import Field
    from mlops_kit.simulate import simulate
    from mlops_kit.watchpage import write_watch_page
    rng = np.random.default_rng(0)
    kind = rng.choice(['flat', 'house'], 4000)
    table = pd.DataFrame({'size': rng.normal(50, 10, 4000), 'kind': kind, 'price': rng.normal(150, 30, 4000)})
    made = toy_package(folder / 'package', 3, 'homes', [Field('size', 'number', min=0), Field('kind', 'category')])
    planted = 'sudden:size@8*.7', 'category:kind@9'
    told = simulate(str(made), table, str(folder / 'predictions'), 'price', planted, lag='6h', start='2026-11-01')
    log, reference = load_log(told.log), Reference(table[['size', 'kind']])
    scored = performance(join_labels(log, pd.read_parquet(told.labels), time='known'), slices={'large': 'size > 60'})
    service = folder / 'service.html'
    service.write_text(docs_page(load_package(made).signature, '2', keys=True))
    return write_watch_page(folder / 'watch.html', watch(reference, log), reference, log, scored, 'homes'), service


@pytest.fixture(scope='module')
def shop(tmp_path_factory):
    from mlops_kit.present import toy_shop
    return toy_shop(tmp_path_factory.mktemp('pages') / 'shop')


@pytest.fixture(scope='module')
def pages(shop):
    "Name of each page to its file"
    from mlops_kit.compare import write_page
    from mlops_kit.present import write_present
    made = {'present': write_present(shop / 'present.html', shop), 'report': report(shop), 'diff': diff(shop)}
    watched, service = watch_and_service(shop)
    made['runs'] = write_page([fitted(shop, 'train', lr) for lr in (.1, .01, .001)], shop / 'runs.html')
    return {**made, 'watch': watched, 'service': service}


@pytest.mark.full
@pytest.mark.xdist_group('pages')
@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('size', SIZES)
def test_pages_are_readable(pages, chromium, size, scheme):  # noqa: F811
    "Nothing is fetched, nothing runs over the side, the head is the same, and axe-core finds no breach of WCAG 2 AA"
    page, wrong = new_page(chromium, viewport=SIZES[size], color_scheme=scheme, bypass_csp=True)
    for name in PAGES:
        page.goto(pages[name].as_uri())
        over = page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth')
        assert over <= 0, f'{name}: {over} pixels too wide'
        assert page.locator('body > .sheet > header.top b').count() == 1, name
        assert [page.locator(f'{tag}:visible').count() for tag in ('main', 'h1')] == [1, 1], name
        levels = [0, *page.evaluate(LEVELS)]
        assert all(b <= a + 1 for a, b in pairwise(levels)), f'{name}: headings {levels}'
        page.add_script_tag(path=ROOT / '.lint/node_modules/axe-core/axe.min.js')
        found = page.evaluate(AXE)
        assert not found, f'{name}: {found}'
    assert not wrong


@pytest.mark.full
@pytest.mark.xdist_group('pages')
@pytest.mark.parametrize('size', SIZES)
def test_tab_reaches_all(pages, chromium, size):  # noqa: F811
    "Whatever acts, and whatever scrolls by itself, is reached by the Tab key, in every browser"
    (page, wrong), stops = new_page(chromium, viewport=SIZES[size], bypass_csp=True), 0
    for name in PAGES:
        page.goto(pages[name].as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert not page.evaluate(STOPS), f'{name}: only some browsers let these scroll from the keyboard'
        stops += (here := page.evaluate('stops.length'))
        for _ in range(here + 20): page.keyboard.press('Tab')
        assert (page.evaluate(MISSED), page.evaluate('dull')) == ([], []), name
    assert stops > 10
    assert not wrong


@pytest.mark.full
@pytest.mark.xdist_group('pages')
def test_presented_on_one_sheet(pages, chromium):  # noqa: F811
    "Printed on A4, the page for whoever decides is one page"
    page, _ = new_page(chromium)
    page.goto(pages['present'].as_uri())
    assert len(re.findall(rb'/Type\s*/Page\b', page.pdf(prefer_css_page_size=True))) == 1


def test_present_says_what_is_on_record(shop, tmp_path, monkeypatch):
    "The verb writes the page of the run that is named; where nothing was evaluated, it says what to type"
    from mlops_kit.cli import app
    from mlops_kit.present import toy_shop
    monkeypatch.chdir(shop)
    res = CliRunner().invoke(app, ['runs', 'present', 'fit-1', '--out', str(tmp_path / 'page.html')])
    assert res.exit_code == 0, res.output
    page = Path(res.stdout.strip()).read_text()
    said = 'Which parcels will come back?', 'Yes, it may be used', 'The model saves', 'It is better', 'lr: 0.1 became 0.01', 'Ada'
    assert [s for s in said if s not in page] == []
    for where, words, told in (shop, ['20200101'], 'no evaluation of 20200101'), (toy_shop(tmp_path / 'new', ()), [], 'mlops-kit run nbs'):
        monkeypatch.chdir(where)
        res = CliRunner().invoke(app, ['runs', 'present', *words])
        assert (told in str(res.exception), res.exception.code) == (True, 2)


def valued(folder):
    "A shop that has evaluated a model of values, which is off by 2 where the same value each time is off by 25"
    import numpy as np
    import pandas as pd

    from mlops_kit.predictions import keep_predictions
    from mlops_kit.present import toy_shop
    from mlops_kit.project import write_json
    from mlops_kit.record import new_run
    y, score = np.arange(100.), {'value': 2., 'low': 1.9, 'high': 2.1}
    run = new_run('notebook', toy_shop(folder, ()) / 'runs', '05_evaluate', '05_evaluate', provenance={})
    keep_predictions(pd.DataFrame({'day': y}), y, [y + np.where(y % 2, 2, -2)], 'mae', folder=run.path)
    run.finish('passed', metrics={'mae': score})
    found = {'run': 'fit', 'metric': 'mae', 'higher_is_better': False, 'rows': 100, 'network': score, 'baselines': {}, 'asked': {}}
    found |= {'slices': [], 'behaviour': [], 'cut': {'kind': 'margin', 'at': 0., 'prices': {'under': 1., 'over': 1.}}}
    write_json(folder / 'reports/evaluation.json', found)
    return folder


def test_present_holds_values_against_a_constant(tmp_path):
    "What a model of values saves is told beside saying the same value each time, the one that costs least"
    from mlops_kit.present import present_html
    said = ' '.join(re.sub('<[^>]*>', ' ', present_html(valued(tmp_path / 'shop'))).split())
    assert re.search(r'say the same value each time 25,000 \(\d+,\d+ to \d+,\d+\) with the model 2,000 \(2,000 to 2,000\)', said), said
    assert 'The model saves 23,000 per 1,000 cases' in said


def test_present_decides_nothing_from_a_trial(tmp_path):
    "Where only a set was run, its answer is told as that of a trial"
    from mlops_kit.present import present_html, toy_shop
    shop = toy_shop(tmp_path / 'shop')
    (shop / 'build/ci').mkdir(parents=True)
    for name in 'reports', 'runs': (shop / name).rename(shop / 'build/ci' / name)
    page = present_html(shop)
    assert 'class="say waiting">Not decided yet: there was only a short trial (ci), whose answer is yes, it may be used' in page


def test_present_says_what_serves(tmp_path, monkeypatch):
    "Whether this model is the champion, without a byte more in the registry; one that cannot be asked is told, and no page is lost"
    from mlops_kit.package import toy_package
    from mlops_kit.present import present_html, toy_shop
    from mlops_kit.registry import Registry
    shop = toy_shop(tmp_path / 'shop', [(1.6, .01)])
    assert 'serves' not in present_html(shop)
    assert not (shop / 'registry').exists()
    registry = Registry(folder=shop / 'registry')
    registry.promote('toy', registry.register(toy_package(tmp_path / 'package')))
    before = {f: f.read_bytes() for f in shop.rglob('registry/**/*') if f.is_file()}
    assert 'Version 1 serves now; this one is not registered.' in present_html(shop)
    assert {f: f.read_bytes() for f in shop.rglob('registry/**/*') if f.is_file()} == before
    (shop / 'registry/registry.db').write_text('no database' * 999)
    assert 'Which version serves is not known: the registry' in present_html(shop)
    monkeypatch.setitem(sys.modules, 'mlflow', None)  # so Python says that it is not installed
    assert 'serves' not in present_html(shop)
