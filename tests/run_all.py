"""Run every test: the cells of every page, each page in a process of its own, then pytest.

Any argument goes to pytest.
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

root = Path(__file__).resolve().parents[1]
env = {'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'agg', **os.environ}


def run_page(page):
    "Run one page in a process of its own; print its name, its time and how it failed."
    t = time.time()
    p = subprocess.run(
        [Path(sys.executable).parent / 'nbdev_test', '--path', page, '--n_workers', '0'],
        cwd=root,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace',
    )
    print(
        f'{page.stem}: '
        + ('ok' if p.returncode == 0 else f'FAILED\n{p.stdout}')
        + f', {time.time() - t:.0f} s',
        flush=True,
    )
    return p.returncode


if __name__ == '__main__':
    pages = sorted(
        p
        for p in (root / 'nbs').rglob('*.ipynb')
        if not p.name.startswith('_') and '.ipynb_checkpoints' not in p.parts
    )
    t = time.time()
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        failed = sum(map(bool, pool.map(run_page, pages)))
    print(f'== {len(pages)} pages, {failed} failed, {time.time() - t:.0f} s', flush=True)
    tests = subprocess.call(
        [sys.executable, '-m', 'pytest', 'tests', '-q', '--durations=8', *sys.argv[1:]],
        cwd=root,
        env=env,
    )
    sys.exit(bool(failed or tests))
