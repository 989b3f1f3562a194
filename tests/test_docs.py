"The site of the notebooks, as a reader has it: in a real Chromium, from a folder, without a network."
import sys
from pathlib import Path

import pytest
from browser import AXE, chromium, new_page  # noqa: F401  (a fixture)
from helpers import ROOT, files, sh
from typer.main import get_command

from mlops_kit.cli import app
from mlops_kit.docs import dead_links

pytestmark = [pytest.mark.full, pytest.mark.xdist_group('docs')]
DOCS = Path(sys.executable).parent / 'mlops-kit', 'docs', '--out'
PAGES = 'index', 'tutorials', 'tutorials/02_wandb', 'explanation/comparison', '41_drift', 'benchmarks/drift', 'commands/run'
SIZES = {'desk': {'width': 1400, 'height': 900}, 'phone': {'width': 390, 'height': 844}}


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "The kit's own, made as its workflow makes it"
    folder = tmp_path_factory.mktemp('docs') / 'site'
    sh([*DOCS, folder], cwd=ROOT)
    return folder


def test_all_is_there(site):
    "A page for each notebook and each verb, and no dead link; without one page there are some"
    notebooks = [Path(f).relative_to('nbs').with_suffix('.html') for f in files() if f.startswith('nbs/') and f.endswith('.ipynb')]
    verbs = [Path(f'commands/{verb}.html') for verb in get_command(app).commands]
    assert not [p for p in (*notebooks, *verbs) if not (site / p).exists()]
    assert not dead_links(site)
    (site / '41_drift.html').rename(site / 'elsewhere')
    assert any('41_drift.html' in link for link in dead_links(site))
    (site / 'elsewhere').rename(site / '41_drift.html')


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('size', SIZES)
def test_pages_are_readable(site, chromium, size, scheme):  # noqa: F811
    "Nothing is fetched, nothing runs over the side, and axe-core finds no breach of WCAG 2 AA"
    page, wrong = new_page(chromium, viewport=SIZES[size], color_scheme=scheme)
    for name in PAGES:
        page.goto((site / f'{name}.html').as_uri())
        over = page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth')
        assert over <= 0, f'{name}: {over} pixels too wide'
        page.add_script_tag(path=ROOT / '.lint/node_modules/axe-core/axe.min.js')
        found = page.evaluate(AXE)
        assert not found, f'{name}: {found}'
    assert not wrong


def test_search_finds_a_page(site, chromium):  # noqa: F811
    "Typed into the search, a word leads to the page that explains it, without a server"
    page, wrong = new_page(chromium)
    page.goto((site / 'index.html').as_uri())
    page.locator('input[name=q]').first.fill('wasserstein')
    page.keyboard.press('Enter')
    page.locator('#search-results a', has_text='Drift').first.click()
    page.wait_for_url('**/41_drift.html*')
    assert not wrong


def test_a_name_leads_to_its_page(site, chromium):  # noqa: F811
    "A name in backticks is a link to the cell that defines it"
    page, _ = new_page(chromium)
    page.goto((site / '42_monitor.html').as_uri())
    page.locator('article a', has_text='drift').first.click()
    page.wait_for_load_state()
    assert page.url.split('/')[-1].split('#')[0] == '41_drift.html'
    assert page.evaluate('document.getElementById(location.hash.slice(1)) !== null')


def test_its_own_folder_only(site, tmp_path):
    "A folder that holds something else is left alone, with exit code 2"
    (tmp_path / 'mine.txt').write_text('mine')
    res = sh([*DOCS, tmp_path], cwd=ROOT, ok=False)
    assert (res.returncode, [f.name for f in tmp_path.iterdir()]) == (2, ['mine.txt'])
    assert 'is no site' in res.stdout
