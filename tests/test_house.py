"Rules of the house: imports run downhill and are light, pages are whole, nothing of one machine is written in."
import ast, json, re, subprocess, sys
from pathlib import Path
import pytest

root = Path(__file__).resolve().parents[1]
pages = sorted((root/'nbs').glob('[0-9]*.ipynb'))
order = {p.stem.split('_', 1)[1]: int(p.stem.split('_')[0]) for p in pages if (root/'talkface'/f"{p.stem.split('_', 1)[1]}.py").is_file()}   # pages with a module
text = lambda c: ''.join(c['source'])
cells = lambda p, kind: [c for c in json.loads(p.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == kind]

def imported(tree):
    "Names of this package's modules that the code imports, at the top and inside functions."
    for n in ast.walk(tree):
        if isinstance(n, ast.ImportFrom) and (n.level or (n.module or '').split('.')[0] == 'talkface'):
            m = (n.module or '').removeprefix('talkface').strip('.')
            yield from [m] if m else [a.name for a in n.names]
        elif isinstance(n, ast.Import): yield from (a.name.removeprefix('talkface.') for a in n.names if a.name.startswith('talkface.'))

@pytest.mark.parametrize('name', order)
def test_downhill(name):
    later = {m for m in imported(ast.parse((root/'talkface'/f'{name}.py').read_text(encoding='utf-8'))) if order.get(m, 0) > order[name]}
    # the command line starts commands of later pages
    assert not later or name == 'animate', f'{name} imports {later}'

def test_light_imports():
    heavy = 'mediapipe', 'cv2', 'matplotlib', 'pocketsphinx', 'phonemizer', 'IPython'
    code = f"import sys, importlib\nfor m in {list(order)}: importlib.import_module('talkface.'+m)\nprint([h for h in {heavy} if h in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=root).stdout.strip() == '[]'

def test_command_starts_without_torch():
    code = "import sys, talkface.core, talkface.media; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=root).stdout.strip() == 'False'

@pytest.mark.parametrize('p', pages, ids=lambda p: p.stem)
def test_page(p):
    md = [text(c) for c in cells(p, 'markdown')]
    assert re.match(r'# .+\n+> .+', md[0]), 'a page begins with a title and a subtitle'
    code = [text(c) for c in cells(p, 'code')]
    if any('#| export' in c for c in code): assert any(c.startswith('#| default_exp') for c in code[:2])
    for part in ('Recap', 'not verified', 'Exercises'): assert any(re.search(fr'^(#+ |\*\*).*{part}', m, re.M | re.I) for m in md), f'no part called {part}'
    assert any('image/png' in o.get('data', {}) or 'text/html' in o.get('data', {}) for c in cells(p, 'code') for o in c['outputs']), 'nothing to look at'

def test_nothing_of_one_machine():
    here = re.compile('|'.join(['/wo' + r'rk/', '/ro' + r'ot/', r'(?<![\w.])/tm' + 'p/', '/ho' + r'me/\w']))
    tracked = subprocess.run(['git', 'ls-files', '-z'], capture_output=True, text=True, cwd=root).stdout.split('\0')
    if tracked == ['']: pytest.skip('not a git checkout')
    found = []
    for f in tracked:
        p = root/f
        if p.suffix in ('.py', '.ipynb', '.md', '.ini', '.yml', '.txt', '.toml') and p.is_file():
            found += [f'{f}: {m[0]}' for m in here.finditer(p.read_text(encoding='utf-8'))]
    assert not found, found[:10]
