"README.md as a newcomer uses it: its Python runs as it stands, in order."

import re
from pathlib import Path

import matplotlib
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / 'README.md').read_text(encoding='utf-8')


def test_python_blocks_run_in_order():
    matplotlib.use('agg')
    names = {}
    blocks = re.findall(r'```python\n(.*?)```', README, re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, 'README.md', 'exec'), names)
    clip = names['clip']
    assert clip.wav is not None
    assert np.ptp(clip.frames.astype(int), axis=0).max() > 20, 'nothing moves'


def test_one_line_starts_jupyterlab():
    lines = [line for line in README.splitlines() if 'jupyter lab ' in line]
    assert len(lines) == 1
    assert "'.[dev]'" in lines[0] and 'nbdev_install_hooks' in lines[0]
    assert (ROOT / lines[0].split()[-1]).is_file(), 'the page to read first'


def test_files_it_names_exist():
    links = re.findall(r'\]\((?!\w+:|#)([^)#]+)', README)
    gone = sorted({link for link in links if not (ROOT / link).exists()})
    assert not gone
