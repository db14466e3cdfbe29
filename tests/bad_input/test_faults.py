"""Faults in the middle: a disk that takes no more, signals at random moments, many threads.

Nothing is half-written, an old file stays as it was, and the same command run again completes.
"""

import errno
import multiprocessing
import os
import random
import resource
import signal
import sys
import threading
import time
import warnings

import numpy as np
import pytest
import toy
from PIL import Image

from talkface import core
from talkface.animate import Animator
from talkface.batch import write_report
from talkface.cli import main
from talkface.core import TalkfaceError, asset, save_checkpoint, writing
from talkface.media import Clip, read_clip, write_wav
from talkface.toy import toy_phonemes
from talkface.train import cached
from talkface.trainer import Log

pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs signals and limits')
SERVER = multiprocessing.get_context('forkserver') if hasattr(os, 'fork') else None
if SERVER:
    SERVER.set_forkserver_preload(['talkface.animate', 'talkface.batch', 'talkface.cli'])


# ---- writing

NOISE = np.random.default_rng(0).integers(0, 255, (20, 64, 64, 3)).astype(np.uint8)


def log(path):
    table = Log()
    table.path = path
    table.rows = [dict(step=i, loss=float(i)) for i in range(2000)]
    table.write()


WRITERS = {
    'a.wav': lambda p: write_wav(p, np.zeros(40000)),
    'a.mp4': lambda p: Clip(NOISE).save(p),
    'a.json': lambda p: toy_phonemes(60.0).save(p),
    'a.TextGrid': lambda p: toy_phonemes(60.0).save(p),
    'a.ctm': lambda p: toy_phonemes(60.0).save(p),
    'a.safetensors': lambda p: save_checkpoint(p, dict(m=dict(x=torch_numbers())), {}),
    'a.npz': lambda p: cached(p, lambda: dict(x=np.arange(20000))),
    'a.csv': log,
    'report.csv': lambda p: write_report(p.parent, [dict(out='o' * 99, what='w')] * 400),
}


def torch_numbers():
    import torch

    return torch.arange(20000.0)


@pytest.mark.parametrize('name', WRITERS)
def test_a_disk_that_takes_no_more(tmp_path, name, monkeypatch):
    "An error at every place where a file is opened, written, or put in its place."
    path = tmp_path / name
    if name != 'a.npz':
        WRITERS[name](path)
        good = path.read_bytes()
        for limit in (0, 1, 7, 100, 1000, len(good) // 2, len(good) - 1):
            with limited(limit):
                fails(WRITERS[name], path)
            assert path.read_bytes() == good and len(list(tmp_path.iterdir())) == 1, limit
        path.write_bytes(b'yesterday')
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
        with monkeypatch.context() as m:
            m.setattr(core.os, 'replace', raising(OSError(number, os.strerror(number))))
            if name != 'a.npz':
                fails(WRITERS[name], path)
                assert path.read_bytes() == b'yesterday'
            assert len(list(tmp_path.iterdir())) <= 1
    path.unlink(missing_ok=True)
    WRITERS[name](path)
    assert path.stat().st_size > 100 and len(list(tmp_path.iterdir())) == 1


def raising(error):
    def f(*_, **__):
        raise error

    return f


def fails(f, path):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with pytest.raises((TalkfaceError, OSError)):
            f(path)


class limited:
    "Files of this process end at so many bytes."

    def __init__(self, size):
        self.size = size

    def __enter__(self):
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.before[1]))

    def __exit__(self, *_):
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)
        signal.signal(signal.SIGXFSZ, self.heard)


def test_leftovers_are_swept(tmp_path):
    "What a killed process left is gone after the next write of the same file; others' stay."
    dead = tmp_path / '.o.4194999-0.partial.mp4'
    other = tmp_path / '.p.4194999-0.partial.mp4'
    mine = tmp_path / f'.o.{os.getpid()}-7.partial.mp4'
    for path in (dead, other, mine):
        path.touch()
    with writing(tmp_path / 'o.mp4') as tmp:
        tmp.write_bytes(b'1')
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([other.name, mine.name, 'o.mp4'])


# ---- signals


@pytest.fixture(scope='module')
def box(tmp_path_factory):
    folder = tmp_path_factory.mktemp('box')
    Image.open(asset('portrait.png')).convert('RGB').resize((256, 256)).save(folder / 'me.png')
    toy.weights(folder / 'toy.safetensors')
    for name in 'ab':
        toy.wav(folder / f'{name}.wav', toy.speech(1.0))
        toy.phonemes(folder / f'{name}.json', 1.0)
    rows = ['image,audio,phonemes', 'me.png,a.wav,a.json', 'me.png,b.wav,b.json']
    (folder / 'list.csv').write_text('\n'.join(rows))
    return folder


COMMON = ['--device', 'cpu', '--size', '256', '--pose', 'still', '--frame', 'face']


def animate(box, out):
    more = ['--phonemes', box / 'a.json', '-o', out / 'o.mp4']
    return ['animate', box / 'me.png', box / 'a.wav', '--weights', box / 'toy.safetensors', *more]


def batch(box, out):
    more = ['--batch', box / 'list.csv', '--jobs', 1, '-o', out / 'videos']
    return ['animate', '--weights', box / 'toy.safetensors', *more]


def child(arguments, log):
    "Run a command in a process that was just born."
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number == 2 else signal.SIG_DFL)
    sys.exit(main([*map(str, arguments), *COMMON]))


def run(arguments, log, stop=None, after=None):
    "(exit code, seconds) of a command, stopped by a signal after some seconds."
    p = SERVER.Process(target=child, args=(arguments, log))
    began = time.time()
    p.start()
    p.join(after)
    if stop is not None and p.is_alive():
        os.kill(p.pid, stop)
    p.join(300)
    return p.exitcode, time.time() - began


STOPS = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL


@pytest.mark.parametrize('command', [animate, batch])
def test_stopped_at_random(box, tmp_path, command):
    "Signals at random moments; the last run completes and leaves nothing but what was asked for."
    code, seconds = run(command(box, tmp_path / 'whole'), tmp_path / 'log')
    assert code == 0, (tmp_path / 'log').read_text()
    rng = random.Random(1)
    for stop in STOPS:
        code, _ = run(
            command(box, tmp_path / 'out'), tmp_path / 'log', stop, rng.random() * seconds
        )
        ends = (0, -stop, 128 + stop) if stop != signal.SIGKILL else (0, -stop)
        assert code in ends, (code, (tmp_path / 'log').read_text())
        for path in (tmp_path / 'out').rglob('*.mp4'):
            if not path.name.startswith('.'):
                assert len(read_clip(path)) == 25
        if stop != signal.SIGKILL:
            assert not list((tmp_path / 'out').rglob('.*partial*'))
    assert run(command(box, tmp_path / 'out'), tmp_path / 'log')[0] == 0
    names = [
        sorted(p.name for p in (tmp_path / d).rglob('*') if p.is_file()) for d in ('out', 'whole')
    ]
    assert names[0] == names[1]
    for path in (tmp_path / 'whole').rglob('*.mp4'):
        again = tmp_path / 'out' / path.relative_to(tmp_path / 'whole')
        assert (read_clip(again).frames == read_clip(path).frames).all()
    said = (tmp_path / 'log').read_text()
    assert 'Traceback' not in said and 'fault inside' not in said, said


def full_output(arguments, log):
    "Run a command whose output takes nothing."
    os.dup2(os.open('/dev/full', os.O_WRONLY), 1)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)
    sys.exit(main([*map(str, arguments), *COMMON]))


def small_files(arguments, log):
    "Run a command whose files end at 1 KiB, as after `ulimit -f 1`."
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
    sys.exit(main([*map(str, arguments), *COMMON]))


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='needs /dev/full')
@pytest.mark.parametrize('target, words', [(full_output, 'disk is full'), (small_files, 'ulimit')])
def test_output_that_takes_nothing(box, tmp_path, target, words):
    p = SERVER.Process(target=target, args=(animate(box, tmp_path / 'out'), tmp_path / 'log'))
    p.start()
    p.join(300)
    said = (tmp_path / 'log').read_text()
    assert p.exitcode == 2 and words in said and 'Traceback' not in said, said
    left = [q.name for q in (tmp_path / 'out').rglob('*')]
    assert left == (['o.mp4'] if target is full_output else []), left


# ---- load


def test_eight_threads(box):
    "One `Animator` in eight threads gives the frames that it gives one after the other."
    an = Animator.from_pretrained(box / 'toy.safetensors', 'cpu', fast=False)
    faces = [an.portrait(box / 'me.png') for _ in range(2)]
    given = [dict(seed=i, size=64 + 32 * (i % 3), phonemes=box / 'a.json') for i in range(8)]
    want = [an(faces[i % 2], box / 'a.wav', pose='still', **g).frames for i, g in enumerate(given)]
    got = [None] * 8

    def work(i):
        got[i] = an(faces[i % 2], box / 'a.wav', pose='still', **given[i]).frames

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for a, b in zip(want, got):
        assert a.shape == b.shape and np.abs(a.astype(int) - b).max() <= 1
