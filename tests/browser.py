"A real Chromium, driven by Playwright: pages as people see them, with no way to the network."
import shutil
import sys
import sysconfig

import pytest
from helpers import ROOT, Env, service

PLAYWRIGHT = 'playwright==1.65.2'
SHOTS = ROOT / 'build/screenshots'  # Kept by CI, to be looked at
# What axe-core finds: no breach of WCAG 2, A and AA
AXE = "axe.run({runOnly: ['wcag2a', 'wcag2aa']}).then(r => r.violations.map(v => [v.id, v.nodes.slice(0, 3).map(n => n.html)]))"
FLAGS = '--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync'.split()


@pytest.fixture(scope='module')
def chromium():
    "Debian's browser; Playwright has an environment of its own, where this process looks last"
    service('chromium')
    env = Env('browser', PLAYWRIGHT)
    sys.path.append(sysconfig.get_path('purelib', 'venv', {'base': str(env.path), 'platbase': str(env.path)}))
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which('chromium'), args=FLAGS)
        yield browser
        browser.close()


def new_page(browser, **options):
    "A page, and the list of what no page of ours does: errors of its scripts, requests to other machines"
    context, wrong = browser.new_context(**options), []
    local = 'file:', 'data:', 'blob:', 'about:', 'http://127.0.0.1:', 'http://localhost:'
    context.route(lambda url: not url.startswith(local), lambda route: wrong.append(route.request.url) or route.abort())
    page = context.new_page()
    page.on('pageerror', lambda e: wrong.append(str(e)))
    return page, wrong


def keep_picture(page, name):
    "A screenshot, at the width of a desk and of half of it"
    SHOTS.mkdir(parents=True, exist_ok=True)
    before = page.viewport_size
    for width in (before['width'], before['width'] // 2):
        page.set_viewport_size({'width': width, 'height': before['height']})
        page.screenshot(path=SHOTS / f'{name}-{width}.png')
    page.set_viewport_size(before)
