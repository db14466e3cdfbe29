"""Style of the pages: one statement a line, short lines, short cells, docments.

The lines of a cell are all that hold code, signatures too; blank and comment lines are free.

`python tests/test_style.py nbs/20_fomm.ipynb ...` prints what one page breaks.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(ROOT.glob('nbs/**/*.ipynb'))
MOST_COLUMNS = 100
MOST_LINES = 20
CONFIG = ROOT / 'tests' / 'ruff.toml'
# pages with longer cells, whose signatures are not counted as yet: the set can only shrink
# fmt: off
PENDING = {
}
# fmt: on


def code_cells(page):
    "`(number, source)` of the code cells of a notebook, magics left out."
    cells = json.loads(Path(page).read_text(encoding='utf-8'))['cells']
    for i, cell in enumerate(cells):
        source = ''.join(cell['source'])
        magic = source.lstrip().startswith(('%%', '!'))
        if cell['cell_type'] == 'code' and (not magic or source.startswith('%%needs')):
            lines = [
                'pass' if line.startswith(('%', '!')) else line for line in source.splitlines()
            ]
            yield i, '\n'.join(lines)


def lines_of_code(source):
    "Numbers of the lines that are neither blank nor a comment."
    lines = enumerate(source.splitlines(), 1)
    return {n for n, line in lines if line.strip() and not line.strip().startswith('#')}


def signature_lines(tree):
    "Numbers of the lines that hold the signature of a function."
    out = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            out |= set(range(node.lineno, node.body[0].lineno))
    return out


def public_functions(tree):
    "Functions and methods of a cell that users see."
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node
        if isinstance(node, ast.ClassDef) and not node.name.startswith('_'):
            yield from (n for n in node.body if isinstance(n, ast.FunctionDef))


def without_docment(function, lines):
    "Parameters of a public function that no comment on their own line explains."
    name = function.name
    if name.startswith('_') and name not in ('__init__', '__call__'):
        return []
    a = function.args
    given = [*a.posonlyargs, *a.args, *a.kwonlyargs]
    if given and given[0].arg in ('self', 'cls'):
        given = given[1:]
    return [
        p.arg
        for p in given
        if '#' not in lines[p.end_lineno - 1] and '#' not in after(p, lines, function)
    ]


def after(parameter, lines, function):
    "The rest of a parameter's line and, where its default goes on, the lines up to the next."
    starts = [
        p.lineno
        for p in [*function.args.args, *function.args.kwonlyargs]
        if p.lineno > parameter.lineno
    ]
    end = min(starts, default=function.body[0].lineno) - 1
    return '\n'.join(lines[parameter.lineno - 1 : max(end, parameter.lineno)])


def faults(page, signatures=True):
    "Sentences that say what a page breaks; lines of signatures count in a cell, or not."
    out = []
    for i, source in code_cells(page):
        lines = source.splitlines()
        try:
            tree = ast.parse(source)
        except SyntaxError as e:
            out.append(f'cell {i}: {e}')
            continue
        count = len(lines_of_code(source) - (set() if signatures else signature_lines(tree)))
        if count > MOST_LINES:
            out.append(f'cell {i}: {count} lines; {MOST_LINES} at most')
        for n, line in enumerate(lines, 1):
            if len(line) > MOST_COLUMNS:
                out.append(f'cell {i}, line {n}: {len(line)} columns; {MOST_COLUMNS} at most')
        for node in ast.walk(tree):
            for field in ('body', 'orelse', 'finalbody'):
                body = getattr(node, field, None)
                if isinstance(body, list):
                    starts = [s.lineno for s in body]
                    out += [
                        f'cell {i}, line {n}: several statements'
                        for n in set(starts)
                        if starts.count(n) > 1
                    ]
        if any(line.startswith('#|') and 'export' in line for line in lines):
            for f in public_functions(tree):
                out += [
                    f'cell {i}: {f.name}({p}) has no docment' for p in without_docment(f, lines)
                ]
    return out


def ruff(pages):
    "What ruff's formatter and linter say of pages, '' when nothing."
    out = ''
    for command in (['format', '--check'], ['check', '--output-format', 'concise']):
        arguments = [*command, '--config', str(CONFIG), '--no-cache', *map(str, pages)]
        r = subprocess.run(
            [sys.executable, '-m', 'ruff', *arguments], capture_output=True, text=True
        )
        out += '' if r.returncode == 0 else r.stdout + r.stderr
    return out


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.stem)
def test_page_keeps_the_style(page):
    found = faults(page, page.stem not in PENDING)
    assert not found, '\n'.join(found)


@pytest.mark.parametrize('name', sorted(PENDING))
def test_pending_page_is_over(name):
    page = ROOT / 'nbs' / f'{name}.ipynb'
    assert page.is_file() and faults(page), f'{name} keeps the style: take it out of PENDING'


def test_ruff():
    pytest.importorskip('ruff')
    found = ruff(PAGES)
    assert not found, found


if __name__ == '__main__':
    given = [Path(p) for p in sys.argv[1:]] or PAGES
    told = [f'{p.name}: {s}' for p in given for s in faults(p)]
    print('\n'.join(told), ruff(given), f'{len(told)} faults', sep='\n')
    sys.exit(bool(told))
