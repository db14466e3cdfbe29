"""Bad input at the command line: the right result, or one clear sentence and exit code 2.

Networks of toy size; `run` calls `main` in this process, `process` a real one.
"""

import contextlib
import errno
import io
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
import numpy as np
import pytest
import torch
from PIL import Image
import toy
from talkface.cli import main
from talkface.core import asset, load_checkpoint, save_checkpoint
from talkface.media import Clip, read_clip


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    d = tmp_path_factory.mktemp('given')
    Image.open(asset('portrait.png')).convert('RGB').resize((256, 256)).save(d / 'me.png')
    return dict(
        dir=d,
        weights=toy.weights(d / 'toy.safetensors'),
        wav=toy.wav(d / 'a.wav', toy.speech(0.6)),
        ph=toy.phonemes(d / 'a.json', 0.6),
        me=d / 'me.png',
    )


@pytest.fixture
def run(files, tmp_path, capsys):
    "run(image, audio, *more) -> (exit code, stdout, stderr); the output is out/o.mp4."
    (tmp_path / 'out').mkdir()

    def go(image=None, audio=None, *more, ph=True, weights=None, out=None):
        args = [
            'animate',
            image or files['me'],
            audio or files['wav'],
            '-o',
            out or tmp_path / 'out' / 'o.mp4',
            '--weights',
            weights or files['weights'],
            '--device',
            'cpu',
            '--size',
            64,
            *([] if '--pose' in more else ['--pose', 'still']),
            *(['--phonemes', files['ph']] if ph else []),
            *more,
        ]
        capsys.readouterr()
        code = main([str(a) for a in args])
        return code, *capsys.readouterr()

    go.folder = tmp_path / 'out'
    return go


def lines(err):
    return [l for l in err.replace('\r', '\n').split('\n') if l.startswith('talkface: ')]


def spoke(run, got, n=15):
    "All went well: a whole video of `n` frames, and nothing else in the folder."
    assert got[0] == 0, got
    assert [p.name for p in run.folder.iterdir()] == ['o.mp4']
    c = read_clip(run.folder / 'o.mp4')
    assert len(c) == n and c.frames.shape[1:3] == (64, 64) and c.wav is not None
    return c


def told(run, got, *words, code=2):
    "One sentence that holds `words`, exit code 2, an empty folder."
    assert got[0] == code, got
    assert 'Traceback' not in got[2] and not got[1]
    said = [l for l in lines(got[2]) if not l.startswith('talkface: note: ')]
    assert len(said) == 1 and len(said[0]) < 500, got[2]
    for w in words:
        assert str(w) in said[0], said[0]
    assert not list(run.folder.iterdir()), list(run.folder.iterdir())


# ---- pictures


def test_well(run):
    spoke(run, run())


@pytest.mark.parametrize(
    'make,words',
    [
        (lambda f: Image.new('RGB', (200, 200), (90, 120, 90)).save(f), ['no face', '200x200']),
        (lambda f: Image.new('RGB', (1, 1)).save(f), ['1x1']),
        (lambda f: Image.new('1', (20000, 20000)).save(f), ['20000x20000', '8192']),
        (lambda f: f.write_text('hello'), ['not a picture']),
        (lambda f: f.touch(), ['bad.png']),
        (lambda f: None, ['bad.png', 'check the name']),
    ],
    ids=['no face', '1x1', '20000x20000', 'text', 'empty', 'missing'],
)
def test_pictures_refused(run, tmp_path, make, words):
    make(tmp_path / 'bad.png')
    told(run, run(tmp_path / 'bad.png'), *words)


def test_truncated_jpeg(run, tmp_path, files):
    Image.open(files['me']).save(tmp_path / 'me.jpg', quality=95)
    (tmp_path / 'cut.jpg').write_bytes((tmp_path / 'me.jpg').read_bytes()[:6000])
    told(run, run(tmp_path / 'cut.jpg'), 'cut.jpg', 'cut off')


def test_several_faces(run, tmp_path, files):
    im = np.asarray(Image.open(files['me']))
    Image.fromarray(np.concatenate([im, im, im], 1)).save(tmp_path / 'three.png')
    told(run, run(tmp_path / 'three.png'), 'faces')


def test_one_clearly_larger_face(run, tmp_path, files):
    im = Image.open(files['me'])
    wide = Image.new('RGB', (460, 260), (120, 130, 120))
    wide.paste(im, (0, 2))
    wide.paste(im.resize((100, 100)), (340, 10))
    wide.save(tmp_path / 'two.png')
    spoke(run, run(tmp_path / 'two.png', None, '--frame', 'face'))


def forms(im, d):
    exif = Image.Exif()
    exif[0x0112] = 6
    im.transpose(Image.ROTATE_90).save(d / 'turned.jpg', exif=exif, quality=95)
    im.convert('CMYK').save(d / 'cmyk.jpg', quality=95)
    im.convert('L').save(d / 'grey.png')
    Image.fromarray(np.asarray(im.convert('L')).astype(np.uint16) * 257).save(d / 'deep.png')
    a = im.convert('RGBA')
    a.putalpha(Image.new('L', im.size, 230))
    a.save(d / 'alpha.png')
    im.convert('P', palette=Image.ADAPTIVE).save(d / 'palette.gif')
    return 'turned.jpg', 'cmyk.jpg', 'grey.png', 'deep.png', 'alpha.png', 'palette.gif'


def test_pictures_of_all_forms(run, tmp_path, files):
    for name in forms(Image.open(files['me']).convert('RGB'), tmp_path):
        spoke(run, run(tmp_path / name))
        (run.folder / 'o.mp4').unlink()


# ---- sounds


@pytest.mark.parametrize(
    'make,words',
    [
        (lambda f: f.touch(), ['bad.wav', '0 bytes']),
        (lambda f: toy.wav(f, np.zeros(0)), ['bad.wav']),
        (lambda f: toy.wav(f, np.zeros(160)), ['10 ms', '50 ms']),
        (lambda f: f.write_text('I only call myself a sound.\n' * 40), ['bad.wav', 'not a sound']),
        (lambda f: None, ['no sound file', 'bad.wav']),
        (lambda f: f.mkdir(), ['bad.wav']),
    ],
    ids=['0 bytes', '0 samples', '10 ms', 'text', 'missing', 'folder'],
)
def test_sounds_refused(run, tmp_path, make, words):
    make(tmp_path / 'bad.wav')
    told(run, run(None, tmp_path / 'bad.wav'), *words)


def test_picture_as_sound(run, files):
    told(run, run(None, files['me']), 'no sound')


def test_mute_video_as_sound(run, tmp_path):
    Clip(np.zeros((10, 64, 64, 3), np.uint8)).save(tmp_path / 'mute.mp4')
    told(run, run(None, tmp_path / 'mute.mp4'), 'mute.mp4', 'no sound')


@pytest.mark.parametrize('text', [None, 'hello there'])
def test_silence(run, tmp_path, text):
    "Silence closes the mouth; a text for it is left aside with a note."
    toy.wav(tmp_path / 's.wav', np.zeros(9600))
    got = run(None, tmp_path / 's.wav', *(['--text', text] if text else []), ph=False)
    spoke(run, got)
    assert ('note' in got[2]) == bool(text)


@pytest.mark.parametrize('rate', [8000, 44100, 96000])
def test_rates(run, tmp_path, rate):
    from talkface.media import read_audio

    x, _ = read_audio((toy.speech(0.6), 16000), rate)
    spoke(run, run(None, toy.wav(tmp_path / 'r.wav', x[: int(0.6 * rate)], rate)))


def test_stereo_clipped_and_video(run, tmp_path):
    x = toy.speech(0.6)
    for y in (np.stack([x, 0 * x], 1), x * 30):
        spoke(run, run(None, toy.wav(tmp_path / 's.wav', y)))
        (run.folder / 'o.mp4').unlink()
    Clip(np.zeros((15, 64, 64, 3), np.uint8), x).save(tmp_path / 'v.mp4')
    os.rename(tmp_path / 'v.mp4', tmp_path / 'v.wav')
    got = run(None, tmp_path / 'v.wav')
    assert got[0] == 0 and 15 <= len(read_clip(run.folder / 'o.mp4')) <= 18


# ---- text, phonemes, poses, numbers


def test_text_that_does_not_match(run, tmp_path):
    toy.wav(tmp_path / 's.wav', toy.speech(1.5))
    got = run(
        None,
        tmp_path / 's.wav',
        '--text',
        'many thousand penguins marched across the frozen continent singing opera',
        ph=False,
    )
    spoke(run, got, 38)
    assert 'does not match' in got[2]


def test_text_file(run, tmp_path):
    (tmp_path / 't.txt').write_bytes(bytes(range(128, 256)) * 8)
    told(run, run(None, None, '--text', tmp_path / 't.txt', ph=False), 't.txt', 'not a text file')
    told(run, run(None, None, '--text', 'no.txt', ph=False), 'no.txt', 'there is no text file')
    told(run, run(None, None, '--text', 'hello'), 'leave the text out')


@pytest.mark.parametrize(
    'name,content,words',
    [
        ('p.json', '{"not": "ours"}', []),
        ('p.json', '[{', []),
        ('p.txt', 'x', ['.TextGrid']),
        ('p.ctm', 'a 1 x', []),
        ('none.json', None, ['none.json']),
    ],
)
def test_phoneme_files(run, tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_text(content)
    told(run, run(None, None, '--phonemes', tmp_path / name, ph=False), *words)


@pytest.mark.parametrize(
    'name,content,words',
    [
        ('h.csv', 'a,b\n1,2\n', ['pose_Rx']),
        ('h.csv', '', ['h.csv']),
        ('h.npy', 'no array', ['h.npy']),
        ('h.mp4', 'no video', ['h.mp4']),
        ('h', 'nothing', ['h']),
        (None, None, ['stil']),
    ],
)
def test_pose_files(run, tmp_path, name, content, words):
    if name:
        (tmp_path / name).write_text(content)
    told(run, run(None, None, '--pose', tmp_path / name if name else 'stil'), *words)


def test_numbers(run):
    told(run, run(None, None, '--size', 7), '7', 'not sensible')
    told(run, run(None, None, '--device', 'toaster'), 'toaster')
    told(run, run(None, None, '--device', 'cuda:77'), 'cuda:77')


@pytest.mark.parametrize(
    'args',
    [
        ['animate', '--seed', 'x'],
        ['animate', '--compat', 'beast'],
        ['dance'],
        ['animate', 'a', 'b', 'c'],
    ],
)
def test_usage(args, capsys):
    with pytest.raises(SystemExit) as e:
        main(args)
    assert e.value.code == 2 and 'Traceback' not in capsys.readouterr().err


# ---- weights


def broken(files, path, change):
    ck = load_checkpoint(files['weights'])
    change(ck)
    return save_checkpoint(path, dict(ck), ck.config, half=False)


def test_weights_refused(run, tmp_path, files):
    def missing(ck):
        ck['ph2kp'].pop('kp.weight')

    def shape(ck):
        ck['generator']['final.bias'] = torch.zeros(4)

    def extra(ck):
        ck['kp_detector']['more'] = torch.zeros(1)

    def config(ck):
        ck.config = {**ck.config, 'ph2kp': dict(d_model=7)}

    def nothing(ck):
        ck.config = {}

    def without(ck):
        ck.pop('ph2kp')

    for change, words in (
        (missing, ['ph2kp', 'kp.weight is missing']),
        (shape, ['final.bias', '[4]', '[3]']),
        (extra, ['more']),
        (config, ['ph2kp']),
        (nothing, ['configuration']),
        (without, ['no ph2kp']),
    ):
        f = broken(files, tmp_path / f'{change.__name__}.safetensors', change)
        told(run, run(weights=f), *words)


def test_weight_files_refused(run, tmp_path, files):
    (tmp_path / 't.safetensors').write_text('not weights')
    (tmp_path / 'cut.safetensors').write_bytes(Path(files['weights']).read_bytes()[:5000])
    for f in ('t.safetensors', 'cut.safetensors', 'none.ckpt'):
        told(run, run(weights=tmp_path / f), f)
    told(run, run(weights='no_such_name'), 'no_such_name')
    (tmp_path / 'empty').mkdir()
    told(run, run(weights=tmp_path / 'empty'), 'generator.ckpt')


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_malicious_pickle(run, tmp_path):
    torch.save(
        {'kp_detector': Evil(tmp_path / 'owned'), 'generator': {}, 'ph2kp': {}},
        tmp_path / 'generator.ckpt',
    )
    (tmp_path / 'old.ckpt').write_bytes(pickle.dumps({'generator': Evil(tmp_path / 'owned')}, 2))
    for f in (tmp_path / 'generator.ckpt', tmp_path / 'old.ckpt', tmp_path):
        told(run, run(weights=f), 'code')
    assert not (tmp_path / 'owned').exists()


# ---- the output


def test_outputs_refused(run, tmp_path, files):
    told(run, run(out=tmp_path / 'out' / 'o.gif'), '.mp4')
    told(run, run(out=tmp_path / 'out'), 'out')
    (tmp_path / 'file').write_text('x')
    told(run, run(out=tmp_path / 'file' / 'o.mp4'), 'choose another folder')
    told(run, run(out='/proc/nowhere/o.mp4'), '/proc/nowhere')
    told(run, run(out=tmp_path / 'out' / ('x' * 300 + '.mp4')), 'too long')
    (tmp_path / 'v.mp4').write_bytes(b'my only copy')
    told(run, run(None, tmp_path / 'v.mp4', out=tmp_path / 'v.mp4'), 'input as well')
    assert (tmp_path / 'v.mp4').read_bytes() == b'my only copy'


@pytest.mark.skipif(os.name != 'posix' or os.geteuid() == 0, reason='root may write anywhere')
def test_folder_that_refuses(run, tmp_path):
    (tmp_path / 'locked').mkdir()
    (tmp_path / 'locked').chmod(0o500)
    told(run, run(out=tmp_path / 'locked' / 'o.mp4'), 'permission')


class Full(io.FileIO):
    "A file on a disk with 3000 bytes left."

    def write(self, b):
        if self.tell() + len(b) > 3000:
            raise OSError(errno.ENOSPC, 'No space left on device')
        return super().write(b)


def test_full_disk_in_the_middle(run, monkeypatch):
    import talkface.media as media

    monkeypatch.setattr(media, 'open', lambda p, mode: Full(p, 'w+'), raising=False)
    old = run.folder / 'o.mp4'
    told(run, run(), 'o.mp4', 'disk is full')
    old.write_bytes(b'yesterday')
    code, _, err = run()
    assert code == 2 and old.read_bytes() == b'yesterday' and len(list(run.folder.iterdir())) == 1


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs a small disk')
def test_small_disk(files, tmp_path):
    "A real disk of 64 KiB, where this machine lets us mount one."
    disk = tmp_path / 'disk'
    disk.mkdir()
    if subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', str(disk)], capture_output=True
    ).returncode:
        pytest.skip('no right to mount')
    try:
        r = process(files, disk / 'o.mp4', '--size', 1024)
        assert r.wait(300) == 2
        err = r.stderr.read()
        assert 'disk is full' in err and 'Traceback' not in err and not list(disk.iterdir())
    finally:
        subprocess.run(['umount', str(disk)])


# ---- stopping

LONG = 8.0  # seconds of sound: long enough to be stopped in the middle


def growing(folder):
    "Is a file being written here? It may be renamed or deleted while we look."
    sizes = []
    for f in folder.glob('.*partial*'):
        with contextlib.suppress(FileNotFoundError):
            sizes.append(f.stat().st_size)
    return max(sizes, default=0) > 1000


def process(files, out, *more):
    ph, wav = files['dir'] / 'long.json', files['dir'] / 'long.wav'
    if not wav.exists():
        toy.phonemes(ph, LONG)
        toy.wav(wav, np.tile(toy.speech(2.0), int(LONG / 2)))
    args = [
        'animate',
        files['me'],
        wav,
        '-o',
        out,
        '--weights',
        files['weights'],
        '--phonemes',
        ph,
        '--pose',
        'still',
        '--device',
        'cpu',
        *more,
    ]
    hears = (
        dict(preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        if os.name == 'posix'
        else {}
    )  # a test run in the background of a shell is deaf to Ctrl-C, and so would be its children
    return subprocess.Popen(
        [sys.executable, '-m', 'talkface.cli', *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **hears,
    )


@pytest.mark.skipif(os.name != 'posix', reason='signals')
@pytest.mark.parametrize('sig,code', [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_in_the_middle(files, tmp_path, sig, code):
    (tmp_path / 'o.mp4').write_bytes(b'yesterday')
    p = process(files, tmp_path / 'o.mp4', '--size', 1500)
    end = time.time() + 300
    while time.time() < end and p.poll() is None and not growing(tmp_path):
        time.sleep(0.02)  # until frames are being written
    assert p.poll() is None and growing(tmp_path), (
        p.communicate(timeout=5)[1]
        if p.poll() is not None
        else 'nothing was written in five minutes'
    )
    p.send_signal(sig)
    out, err = p.communicate(timeout=120)
    assert p.returncode == code and 'Traceback' not in err, err
    assert [f.name for f in tmp_path.iterdir()] == ['o.mp4'] and (
        tmp_path / 'o.mp4'
    ).read_bytes() == b'yesterday'


def test_stopped_at_any_stage(run, monkeypatch):
    "Ctrl-C in the face, the features, the motion, the last frame."
    import talkface.animate as A
    from talkface import audio_features

    def stop(*_, **__):
        raise KeyboardInterrupt

    for where, what in (
        (A, 'analyze'),
        (audio_features, 'acoustic_features'),
        (A.Animator, '_driving'),
        (A.Animator, 'frames'),
    ):
        with monkeypatch.context() as m:
            m.setattr(where, what, stop)
            told(run, run(), 'nothing was written', code=130)


def test_a_fault_of_ours(run, monkeypatch):
    import talkface.animate as A

    def fault(*_, **__):
        raise KeyError('x\ny')

    monkeypatch.setattr(A.Animator, 'motion', fault)
    monkeypatch.delenv('TALKFACE_DEBUG', raising=False)
    told(run, run(), 'KeyError', 'TALKFACE_DEBUG=1', code=1)
    monkeypatch.setenv('TALKFACE_DEBUG', '1')
    with pytest.raises(KeyError):
        run()


def test_prepare_refuses(tmp_path, capsys):
    pytest.importorskip('talkface.corpus')
    assert main(['prepare', str(tmp_path / 'none'), str(tmp_path / 'out')]) == 2
    assert len(lines(capsys.readouterr().err)) == 1
