"The built site in a real browser: pages are laid out, and screenshots can be looked at."

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')
BROWSER = next((path for name in BROWSERS if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason='chromium is not installed: no browser to open the site with'
)


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "The folder of a site: TALKFACE_SITE when it is set, else built now."
    if os.environ.get('TALKFACE_SITE'):
        return Path(os.environ['TALKFACE_SITE'])
    out = tmp_path_factory.mktemp('site')
    path = ROOT / 'tools' / 'make_site.py'
    subprocess.run([sys.executable, path, out], check=True, cwd=ROOT)
    return out


def screenshot(page, file, profile):
    "A picture of the top of a page, 1400 pixels wide."
    options = ['--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars']
    options += ['--window-size=1400,1600', f'--screenshot={file}', f'--user-data-dir={profile}']
    command = [BROWSER, *options, page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=180)


@pytest.mark.parametrize('name', ['index', 'phonemes', 'animate'])
def test_page_is_drawn(site, name, tmp_path):
    from PIL import Image

    folder = Path(os.environ.get('TALKFACE_SCREENSHOTS', tmp_path))
    file = folder / f'{name}.png'
    screenshot(site / f'{name}.html', file, tmp_path / 'profile')
    image = np.asarray(Image.open(file).convert('L')).astype(float)
    assert image.shape[1] == 1400
    sidebar, text = image[:, :280], image[:, 320:1100]
    assert sidebar.std() > 10 and text.std() > 10, 'the sidebar or the text is empty'
