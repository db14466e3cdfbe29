"""No thought of six lines stands twice: module against module, test against test.

`python tests/test_duplicates.py` prints the places.
"""

import ast
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path
    for folder in ('talkface', 'tests', 'tools')
    for path in (ROOT / folder).rglob('*.py')
    if path.name != '_modidx.py'
)
LINES = 6
# pairs of files that still share a run: the set can only shrink
PENDING = set()
IMPORTS = ast.Import, ast.ImportFrom


def is_text(statement):
    "Whether a statement is a string and nothing else."
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def head(node):
    "A statement on one line, whatever its layout; of one with a body what stands above it."
    lines = ast.unparse(node).splitlines()
    if not hasattr(node, 'body'):
        return ' '.join(lines)
    last = next(i for i, line in enumerate(lines) if line.endswith(':'))
    return ' '.join(lines[: last + 1])


def statements(path):
    "`(line, text)` of all statements of a file but imports and docstrings."
    nodes = ast.walk(ast.parse(path.read_text(encoding='utf-8')))
    counted = [
        n
        for n in nodes
        if isinstance(n, ast.stmt) and not isinstance(n, IMPORTS) and not is_text(n)
    ]
    counted.sort(key=lambda n: (n.lineno, n.col_offset))
    return [(n.lineno, head(n)) for n in counted]


def repeated(files):
    "Places of every run of six statements that stands more than once."
    places = defaultdict(list)
    for path in files:
        found = statements(path)
        for i in range(len(found) - LINES + 1):
            run = found[i : i + LINES]
            places[tuple(text for _, text in run)].append((path.name, run[0][0]))
    return {run: where for run, where in places.items() if len(where) > 1}


def told(found):
    "`pair of files -> sentences`, one for every run; a longer one has a sentence for each window."
    out = defaultdict(list)
    for run, where in found.items():
        files = tuple(sorted({name for name, _ in where}))
        out[files].append(f'{run[0]!r} stands at {where}')
    return dict(out)


def test_nothing_stands_twice():
    found = told(repeated(FILES))
    new = [line for files, lines in found.items() if files not in PENDING for line in lines]
    assert not new, '\n'.join(new)
    over = PENDING - set(found)
    assert not over, f'{over} share nothing any more: take them out of PENDING'


def test_what_is_found(tmp_path):
    body = '\n    '.join(f'x = x + {i}' for i in range(LINES))
    (tmp_path / 'a.py').write_text(f'def f(x):\n    "Docs."\n    {body}\n')
    (tmp_path / 'b.py').write_text(f'def g(x):\n    y = 1\n    {body.replace(" + ", "+")}\n')
    files = sorted(tmp_path.iterdir())
    found = told(repeated(files))
    assert list(found) == [('a.py', 'b.py')]
    assert found['a.py', 'b.py'][0].startswith("'x = x + 0' stands at")
    assert not repeated(files[:1])


if __name__ == '__main__':
    places = [line for lines in told(repeated(FILES)).values() for line in lines]
    print('\n'.join(places), f'{len(places)} places', sep='\n')
    sys.exit(bool(places))
