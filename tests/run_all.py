"Run every test: the cells of every page, then the tests that cannot live in a page. Any argument goes to pytest."
import os, subprocess, sys, time
from pathlib import Path

root = Path(__file__).resolve().parents[1]
bin = Path(sys.executable).parent
env = {'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'agg', **os.environ}

def step(name, *cmd):
    print(f'== {name}', flush=True)
    t = time.time()
    code = subprocess.call([str(c) for c in cmd], cwd=root, env=env)
    print(f'== {name}: ' + ('ok' if code == 0 else f'FAILED (exit {code})') + f', {time.time()-t:.0f} s', flush=True)
    return code

if __name__ == '__main__':
    failed = step('pages', bin/'nbdev_test', '--n_workers', min(2, os.cpu_count() or 1), '--do_print', '--timing')
    failed |= step('tests', sys.executable, '-m', 'pytest', 'tests', '-q', '--durations=8', *sys.argv[1:])
    sys.exit(bool(failed))
