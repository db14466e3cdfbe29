"""A browser for the tests that look at pages, and a folder for what it saw.

Chromium is the distribution's (`apt-get install chromium`), driven by the package playwright.
Screenshots are kept in TALKFACE_SCREENSHOTS when it is set, else in pytest's temporary folder.
"""

import os
import shutil
from pathlib import Path

import pytest

LAPTOP = dict(width=1440, height=900)  # pixels of the window
NAMES = 'chromium', 'chromium-browser', 'google-chrome'
OPTIONS = (
    '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking '
    '--disable-component-update --disable-sync --autoplay-policy=no-user-gesture-required'
).split()


@pytest.fixture(scope='session')
def browser():
    "Headless Chromium; the test is skipped with the name of what is missing."
    reason = 'playwright is not installed: pip install playwright'
    api = pytest.importorskip('playwright.sync_api', reason=reason)
    path = next((p for name in NAMES if (p := shutil.which(name))), None)
    if path is None:
        pytest.skip('chromium is not installed: no browser to open pages with')
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def tab(browser):
    "An empty page of the size of a laptop's window."
    page = browser.new_page(viewport=LAPTOP)
    page.set_default_timeout(180_000)
    yield page
    page.close()


@pytest.fixture(scope='session')
def screenshots(tmp_path_factory):
    "The folder that keeps screenshots."
    given = os.environ.get('TALKFACE_SCREENSHOTS')
    folder = Path(given) if given else tmp_path_factory.mktemp('screenshots')
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def broken_images():
    "A function of a page: sources of its images that are not drawn."

    def of(page):
        script = (
            'imgs => imgs.filter(i => i.complete && !i.naturalWidth).map(i => i.src.slice(0, 90))'
        )
        return page.eval_on_selector_all('img', script)

    return of


@pytest.fixture
def plays():
    "A function of a video on a page: how many seconds of it were played in about one."

    def of(video):
        script = """async v => {
            v.muted = true
            await v.play()
            await new Promise(done => setTimeout(done, 1500))
            v.pause()
            return v.videoWidth ? v.currentTime : 0
        }"""
        return video.evaluate(script)

    return of
