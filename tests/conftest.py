"""Shared by all tests: number fixtures, and the table of largest differences at the end of a run.

Two kinds of fixtures are read. `tests/fixtures/` is part of the repository, made from our own seeds
by `tools/make_fixtures.py`. The folder named by the variable TALKFACE_FIXTURES holds outputs of the
papers' released programs; tests that compare with them are skipped when it is not set.
"""

import os
from pathlib import Path

import pytest
from fixture_files import ROWS, Fixture, Released


def pytest_configure(config):
    import torch

    torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', 0)) or min(4, os.cpu_count() or 1))


@pytest.fixture(scope='session')
def released():
    folder = os.environ.get('TALKFACE_FIXTURES')
    if not folder:
        pytest.skip('TALKFACE_FIXTURES is not set: no folder with numbers of the released programs')
    if not (Path(folder) / 'recipe.py').exists():
        pytest.skip(f'TALKFACE_FIXTURES={folder} holds no recipe.py')
    return Released(folder)


@pytest.fixture(scope='session')
def own():
    "Fixtures that ship with the repository: own('avct')."
    return lambda name: Fixture(Path(__file__).parent / 'fixtures' / f'{name}.safetensors')


def pytest_terminal_summary(terminalreporter):
    if not ROWS:
        return
    w = max(len(n) for n in ROWS)
    terminalreporter.section('numbers')
    terminalreporter.write_line(f'{"fixture":{w}} | largest difference | tolerance')
    for n, (_, d, tol) in sorted(ROWS.items()):
        terminalreporter.write_line(f'{n:{w}} | {d:18.2e} | {tol}')


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    "Toy weights, and two seconds of toy speech with their phonemes."
    import toy

    folder = tmp_path_factory.mktemp('toy')
    return dict(
        dir=folder,
        weights=toy.weights(folder / 'toy.safetensors', speaker=True),
        ph=toy.phonemes(folder / 'a.json', 2.0),
        wav=toy.wav(folder / 'a.wav', toy.speech(2.0)),
    )


@pytest.fixture(scope='module')
def an(files):
    "The toy weights as an `Animator`, its networks as they were trained."
    from talkface.animate import Animator

    return Animator.from_pretrained(files['weights'], 'cpu', fast=False)


@pytest.fixture(scope='module')
def me(an):
    "The bundled portrait, seen by the toy weights."
    from talkface.core import asset

    return an.portrait(asset('portrait.png'))
