"JupyterLab itself: pages open with all their pictures, videos play, cells run and widgets answer."

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOKEN = 'read-the-pages'
PAGES = 'index', '13_phonemes', '20_fomm', '21_avct', '30_trainer', '50_evaluation'
# no question about news of Jupyter's makers, and every cell in the page at once
SETTINGS = {
    'apputils-extension/notification': {'fetchNews': 'false', 'checkForUpdates': False},
    'notebook-extension/tracker': {'windowingMode': 'none'},
}
RUN_ALL = """async () => {
    const panel = window.jupyterapp.shell.currentWidget
    await panel.context.ready
    await panel.sessionContext.ready
    await panel.sessionContext.session.kernel.info
    return await window.jupyterapp.commands.execute('notebook:run-all-cells')
}"""


def free_port():
    "A port of this machine that nobody listens on."
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def own_folders(folder):
    "Environment in which JupyterLab keeps all that it writes below one folder."
    for name, value in SETTINGS.items():
        path = folder / f'settings/@jupyterlab/{name}.jupyterlab-settings'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    places = dict(CONFIG_DIR='config', DATA_DIR='data', RUNTIME_DIR='runtime')
    env = {f'JUPYTER_{k}': str(folder / v) for k, v in places.items()}
    env['JUPYTERLAB_SETTINGS_DIR'] = str(folder / 'settings')
    env['JUPYTERLAB_WORKSPACES_DIR'] = str(folder / 'workspaces')
    env['IPYTHONDIR'] = str(folder / 'ipython')
    return {**os.environ, **env, 'PYTHONPATH': str(ROOT), 'MPLBACKEND': ''}


def wait_for(url, process, seconds=120):
    "Return when a server answers."
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        try:
            return urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f'JupyterLab does not answer at {url}')


@pytest.fixture(scope='module')
def lab(tmp_path_factory, browser):
    "The address of a JupyterLab that serves a fresh copy of the pages."
    pytest.importorskip('jupyterlab', reason='jupyterlab is not installed')
    folder = tmp_path_factory.mktemp('lab')
    for name in ('nbs', 'tools'):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / 'settings.ini', folder)
    port = free_port()
    command = [sys.executable, '-m', 'jupyter', 'lab', '--no-browser', '--allow-root']
    command += ['--ip=127.0.0.1', f'--port={port}', f'--IdentityProvider.token={TOKEN}']
    command += [f'--ServerApp.root_dir={folder / "nbs"}', '--LabApp.expose_app_in_browser=True']
    with open(folder / 'log', 'w') as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=own_folders(folder))
    try:
        address = f'http://127.0.0.1:{port}'
        wait_for(f'{address}/api', server)
        yield address
    finally:
        server.terminate()
        server.wait(60)


def open_page(tab, lab, name):
    "Open a page of the notebook's name in JupyterLab, and wait until it is drawn."
    tab.goto(f'{lab}/lab/tree/{name}.ipynb?token={TOKEN}&reset')
    tab.wait_for_selector('.jp-Notebook .jp-Cell')
    tab.wait_for_function("document.querySelectorAll('.jp-Cell-Placeholder').length === 0")
    tab.wait_for_timeout(1000)


def run_all(tab):
    "*Run All Cells*, to the last one; the texts of all errors."
    tab.evaluate(RUN_ALL)
    number = tab.locator('.jp-CodeCell .jp-InputPrompt').last
    assert number.inner_text().strip('[]: ').isdigit(), 'the last cell was not run'
    errors = '.jp-RenderedText[data-mime-type="application/vnd.jupyter.error"]'
    return tab.eval_on_selector_all(errors, 'found => found.map(e => e.innerText.slice(-400))')


@pytest.mark.parametrize('name', PAGES)
def test_page_opens(lab, tab, screenshots, broken_images, name):
    open_page(tab, lab, name)
    tab.screenshot(path=screenshots / f'lab_{name}.png')
    assert tab.locator('.jp-Cell').count() > 20
    assert not broken_images(tab)
    wide = """() => {
        const page = document.querySelector('.jp-WindowedPanel-outer')
        return page.scrollWidth - page.clientWidth
    }"""
    assert tab.evaluate(wide) <= 1, 'something is wider than the page'


def test_saved_video_plays(lab, tab, plays):
    open_page(tab, lab, '44_animate')
    assert plays(tab.locator('video').first) > 0.5


def test_phonemes_run(lab, tab, screenshots):
    open_page(tab, lab, '13_phonemes')
    assert not run_all(tab)
    ribbon = tab.get_by_text('from align, confidence').last
    ribbon.scroll_into_view_if_needed()
    assert ribbon.is_visible()
    tab.screenshot(path=screenshots / 'lab_13_phonemes_run.png')


def test_rating_form_answers(lab, tab, screenshots, plays):
    open_page(tab, lab, '52_user_study')
    assert not run_all(tab)
    form = tab.locator('.jupyter-widgets.widget-vbox').last
    form.scroll_into_view_if_needed()
    assert form.get_by_text('Video 1 of').is_visible()
    assert plays(form.locator('video').first) > 0.1
    following = form.get_by_role('button', name='Next')
    assert following.is_disabled()
    for best in form.get_by_role('button', name='5 best').all():
        best.click()
    tab.wait_for_function('b => !b.disabled', arg=following.element_handle())
    tab.screenshot(path=screenshots / 'lab_52_user_study_run.png')
    following.click()
    form.get_by_text('Video 2 of').wait_for()
