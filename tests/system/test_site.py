"The built site in a real browser: pages are laid out, nothing is missing, videos play."

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = 'index', 'phonemes', 'fomm', 'avct', 'trainer', 'evaluation'
WIDER = 'document.documentElement.scrollWidth - document.documentElement.clientWidth'


@pytest.fixture(scope='module')
def site(tmp_path_factory, browser):
    "The folder of a site: TALKFACE_SITE when it is set, else built now."
    if os.environ.get('TALKFACE_SITE'):
        return Path(os.environ['TALKFACE_SITE']).resolve()
    out = tmp_path_factory.mktemp('site')
    path = ROOT / 'tools' / 'make_site.py'
    subprocess.run([sys.executable, path, out], check=True, cwd=ROOT)
    return out


@pytest.mark.parametrize('name', PAGES)
def test_page_is_drawn(site, tab, screenshots, broken_images, name):
    tab.goto((site / f'{name}.html').as_uri())
    tab.screenshot(path=screenshots / f'site_{name}.png')
    assert not broken_images(tab)
    assert tab.evaluate(WIDER) == 0, 'the page is wider than the window'
    assert len(tab.locator('main').inner_text()) > 2000
    here = tab.locator('nav a.here')
    assert here.is_visible() and here.get_attribute('href') == f'{name}.html'


def test_video_plays(site, tab, plays):
    tab.goto((site / 'index.html').as_uri())
    assert plays(tab.locator('video').first) > 0.5


def test_code_of_the_package_unfolds(site, tab):
    tab.goto((site / 'phonemes.html').as_uri())
    fold = tab.locator('details.code', has=tab.get_by_text('recognize', exact=True)).first
    code = fold.get_by_text('def recognize(')
    assert not code.is_visible()
    fold.locator('summary').click()
    assert code.is_visible()
