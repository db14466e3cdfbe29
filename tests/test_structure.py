"Structure: imports run downhill and are light, pages are whole, nothing of one machine is in them."

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'talkface'
PAGES = sorted((ROOT / 'nbs').glob('[0-9]*.ipynb'))
# number of the page behind each module
NUMBER = {
    name: int(number)
    for number, name in (p.stem.split('_', 1) for p in PAGES)
    if (PACKAGE / f'{name}.py').is_file()
}
HEAVY = ('mediapipe', 'cv2', 'matplotlib', 'pocketsphinx', 'phonemizer', 'IPython')


def run(*arguments):
    "Standard output of a command in the project's folder."
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.strip()


def cells(page, kind):
    "The cells of one kind of a notebook."
    notebook = json.loads(page.read_text(encoding='utf-8'))
    return [c for c in notebook['cells'] if c['cell_type'] == kind]


def source(cell):
    "A cell's source as one string."
    return ''.join(cell['source'])


def own_imports(name):
    "`(module, names)` of every import from this package, inside functions too."
    tree = ast.parse((PACKAGE / f'{name}.py').read_text(encoding='utf-8'))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ''
            names = [a.name for a in node.names]
            if not node.level and module.split('.')[0] != 'talkface':
                continue
            module = module.removeprefix('talkface').strip('.')
            if module:
                yield module, names
            else:
                yield from ((n, []) for n in names if n in NUMBER)
        elif isinstance(node, ast.Import):
            for a in node.names:
                if a.name.startswith('talkface.'):
                    yield a.name.removeprefix('talkface.'), []


def test_every_module_has_a_page():
    modules = {p.stem for p in PACKAGE.glob('*.py') if not p.stem.startswith('_')}
    assert modules == set(NUMBER), f'modules without a page: {modules - set(NUMBER)}'


@pytest.mark.parametrize('name', NUMBER)
def test_imports_run_downhill(name):
    # a page never imports a later one, so the graph of imports has no circle
    uphill = [m for m, _ in own_imports(name) if NUMBER[m] > NUMBER[name]]
    assert not uphill, f'{name} (page {NUMBER[name]}) imports {uphill}'


@pytest.mark.parametrize('name', NUMBER)
def test_private_names_stay_in_their_module(name):
    private = [f'{m}.{n}' for m, names in own_imports(name) for n in names if n.startswith('_')]
    assert not private, f'{name} imports {private}'


def test_modules_are_unique():
    modules = [p.stem.split('_', 1)[1] for p in PAGES]
    assert len(set(modules)) == len(modules)


def test_imports_are_light():
    code = f"""
import importlib, sys
for name in {list(NUMBER)}: importlib.import_module(f'talkface.{{name}}')
print([h for h in {HEAVY} if h in sys.modules])
"""
    assert run(sys.executable, '-c', code) == '[]'


def test_core_and_media_start_without_torch():
    code = "import sys, talkface.core, talkface.media; print('torch' in sys.modules)"
    assert run(sys.executable, '-c', code) == 'False'


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.stem)
def test_page_begins_with_title_and_subtitle_only(page):
    # nbdev takes the first cell for the head of the site's page: other text in it would be lost
    first = json.loads(page.read_text(encoding='utf-8'))['cells'][0]
    assert first['cell_type'] == 'markdown'
    assert re.fullmatch(r'# .+\n+> .+\n*', source(first)), source(first)[:300]


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.stem)
def test_page_ends_with_what_readers_need(page):
    texts = [source(c) for c in cells(page, 'markdown')]
    for part in ('Recap', 'not verified', 'Exercises'):
        heading = re.compile(rf'^(#+ |\*\*).*{part}', re.M | re.I)
        assert any(heading.search(t) for t in texts), f'no part called {part}'


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.stem)
def test_page_names_its_module_first(page):
    code = [source(c) for c in cells(page, 'code')]
    if any('#| export' in c for c in code):
        assert any(c.startswith('#| default_exp') for c in code[:2])


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.stem)
def test_page_shows_something(page):
    outputs = [o for c in cells(page, 'code') for o in c['outputs']]
    kinds = {kind for o in outputs for kind in o.get('data', {})}
    assert kinds & {'image/png', 'image/jpeg', 'text/html'}, 'nothing to look at'


def test_nothing_of_one_machine():
    folders = ['/wo' + r'rk/', '/ro' + r'ot/', r'(?<![\w.])/tm' + 'p/', '/ho' + r'me/\w']
    here = re.compile('|'.join(folders))
    try:
        tracked = run('git', 'ls-files', '-z').split('\0')
    except (OSError, subprocess.CalledProcessError):
        pytest.skip('not a git checkout')
    kinds = ('.py', '.ipynb', '.md', '.ini', '.yml', '.txt', '.toml')
    found = []
    for path in (ROOT / f for f in tracked if f.endswith(kinds)):
        if path.is_file():
            text = path.read_text(encoding='utf-8')
            found += [f'{path.relative_to(ROOT)}: {m[0]}' for m in here.finditer(text)]
    assert not found, found[:10]
