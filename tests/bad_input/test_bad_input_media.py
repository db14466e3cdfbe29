"Bad pictures, sounds, disks and checkpoints: the right result, or one clear sentence."

import errno
import os
import pickle
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
import numpy as np
import pytest
import torch
from PIL import Image
from talkface.core import (
    TalkfaceError,
    Checkpoint,
    asset,
    load_checkpoint,
    load_into,
    save_checkpoint,
    writing,
)
from talkface.media import Clip, VideoWriter, iter_frames, read_audio, read_clip, read_image
from toy import wav


def told(f, *words):
    "The error of `f()` is one sentence that holds `words`."
    with pytest.raises(TalkfaceError) as e:
        f()
    said = str(e.value)
    assert '\n' not in said and len(said) < 800, said
    for w in words:
        assert str(w) in said, said


@pytest.fixture(scope='module')
def face():
    return Image.open(asset('portrait.png')).convert('RGB').resize((160, 160))


# ---- pictures


def near(got, want, tol):
    assert (
        got.dtype == np.uint8
        and got.shape == want.shape
        and np.abs(got.astype(float) - want).mean() < tol
    )


def test_pixel(tmp_path):
    Image.new('RGB', (1, 1)).save(tmp_path / 'dot.png')
    told(lambda: read_image(tmp_path / 'dot.png'), 'dot.png', '1x1', '32x32')
    told(lambda: read_image(np.zeros((1, 1, 3), np.uint8)), '1x1')


@pytest.mark.parametrize('name', ['big.png', 'big.jpg', 'big.tif', 'big.webp'])
def test_20000_pixels(tmp_path, name):
    if name.endswith('webp'):
        pytest.skip('webp ends at 16383 pixels')
    Image.new('L', (20000, 20000), 90).save(
        tmp_path / name, **({'compression': 'tiff_lzw'} if name.endswith('tif') else {})
    )
    began = time.time()
    if name.endswith('jpg'):
        assert max(read_image(tmp_path / name).shape) <= 8192
    else:
        told(lambda: read_image(tmp_path / name), name, '20000x20000', '8192')
    assert time.time() - began < 30


def test_truncated(tmp_path, face):
    for form in ('jpg', 'png', 'webp', 'gif'):
        f = tmp_path / f'whole.{form}'
        face.save(f)
        data = f.read_bytes()
        for part in (0.02, 0.5, 0.9):
            cut = tmp_path / f'cut.{form}'
            cut.write_bytes(data[: int(len(data) * part)])
            told(lambda: read_image(cut), 'cut')


def test_not_a_picture(tmp_path):
    (tmp_path / 'a.jpg').write_text('hello')
    (tmp_path / 'b.jpg').touch()
    told(lambda: read_image(tmp_path / 'a.jpg'), 'a.jpg', 'not a picture')
    told(lambda: read_image(tmp_path / 'b.jpg'), 'b.jpg')
    told(lambda: read_image(tmp_path / 'no.jpg'), 'no.jpg', 'check the name')
    told(lambda: read_image(tmp_path), 'check the name')
    told(lambda: read_image(np.zeros((3, 64, 64))), '(3, 64, 64)')


def test_modes(tmp_path, face):
    ref, grey = np.asarray(face), np.repeat(np.asarray(face.convert('L'))[..., None], 3, -1)
    face.convert('CMYK').save(tmp_path / 'c.jpg', quality=98)
    near(read_image(tmp_path / 'c.jpg'), ref, 6)
    face.convert('L').save(tmp_path / 'g.png')
    near(read_image(tmp_path / 'g.png'), grey, 0.1)
    Image.fromarray(np.asarray(face.convert('L')).astype(np.uint16) * 257).save(tmp_path / '16.png')
    near(read_image(tmp_path / '16.png'), grey, 0.6)
    Image.fromarray(np.asarray(face.convert('L')).astype(np.uint16) * 257).save(tmp_path / '16.tif')
    near(read_image(tmp_path / '16.tif'), grey, 0.6)
    Image.fromarray((np.asarray(face.convert('L')) / 255).astype(np.float32)).save(
        tmp_path / 'f.tif'
    )
    near(read_image(tmp_path / 'f.tif'), grey, 1)
    face.convert('P', palette=Image.ADAPTIVE).save(tmp_path / 'p.gif')
    near(read_image(tmp_path / 'p.gif'), ref, 12)
    face.convert('1').save(tmp_path / '1.png')
    assert set(np.unique(read_image(tmp_path / '1.png'))) == {0, 255}
    near(read_image(ref[..., :1]), np.repeat(ref[..., :1], 3, -1), 0.1)
    near(read_image(torch.from_numpy(ref / 255.0)), ref, 0.6)
    near(read_image(face), ref, 0.1)


def test_alpha(tmp_path, face):
    a = face.convert('RGBA')
    a.putalpha(Image.fromarray(np.pad(np.full((80, 160), 255, np.uint8), ((0, 80), (0, 0)))))
    for name in ('a.png', 'a.webp'):
        a.save(tmp_path / name, **({'lossless': True} if name.endswith('webp') else {}))
        got = read_image(tmp_path / name)
        assert (got[80:] == 255).all()
        near(got[:80], np.asarray(face)[:80], 0.6)
    a.convert('LA').save(tmp_path / 'la.png')
    assert (read_image(tmp_path / 'la.png')[80:] == 255).all()


@pytest.mark.parametrize(
    'mark,turn',
    [
        (1, None),
        (2, Image.FLIP_LEFT_RIGHT),
        (3, Image.ROTATE_180),
        (4, Image.FLIP_TOP_BOTTOM),
        (5, Image.TRANSPOSE),
        (6, Image.ROTATE_90),
        (7, Image.TRANSVERSE),
        (8, Image.ROTATE_270),
    ],
)
def test_exif(tmp_path, face, mark, turn):
    tall = face.crop((0, 0, 100, 160))
    exif = Image.Exif()
    exif[0x0112] = mark
    (tall.transpose(turn) if turn is not None else tall).save(
        tmp_path / 'e.jpg', exif=exif, quality=97
    )
    near(read_image(tmp_path / 'e.jpg'), np.asarray(tall), 4)


# ---- sounds


@pytest.fixture(scope='module')
def speech():
    return read_audio(asset('sentence.wav'))[0]


def test_empty_and_short(tmp_path, speech):
    told(lambda: read_audio(wav(tmp_path / 'none.wav', speech[:0])), 'none.wav')
    told(
        lambda: read_audio(wav(tmp_path / 'short.wav', speech[:160])), 'short.wav', '10 ms', '50 ms'
    )
    (tmp_path / 'zero.wav').touch()
    told(lambda: read_audio(tmp_path / 'zero.wav'), 'zero.wav', '0 bytes')
    told(lambda: read_audio(np.zeros(0)), '0 samples')
    told(lambda: read_audio(speech[:100]), '6 ms')


def test_silent(tmp_path):
    x, sr = read_audio(wav(tmp_path / 's.wav', np.zeros(16000)))
    assert sr == 16000 and len(x) == 16000 and not x.any()


@pytest.mark.parametrize('rate', [8000, 11025, 22050, 44100, 48000, 96000])
def test_rates(tmp_path, speech, rate):
    x, _ = read_audio((speech, 16000), rate)
    got, sr = read_audio(wav(tmp_path / 'r.wav', x, rate))
    assert sr == 16000 and abs(len(got) - len(speech)) <= 3
    n = min(len(got), len(speech))
    assert np.corrcoef(got[:n], speech[:n])[0, 1] > (0.9 if rate < 16000 else 0.98)


def test_stereo(tmp_path, speech):
    one_side = np.stack([speech, 0 * speech], 1)
    assert np.abs(read_audio(wav(tmp_path / 'st.wav', one_side))[0] - speech / 2).max() < 1e-3
    for shape in (one_side, one_side.T):
        assert np.abs(read_audio(shape)[0] - speech / 2).max() < 1e-6
    x, _ = read_audio(wav(tmp_path / 'st48.wav', np.repeat(one_side, 3, 0), 48000))
    assert abs(len(x) - len(speech)) <= 2 and abs(x).max() < 0.6


def test_clipped_and_not_finite(tmp_path, speech):
    x, _ = read_audio(wav(tmp_path / 'c.wav', speech * 20))
    assert np.isfinite(x).all() and abs(x).max() <= 1
    y = speech.copy()
    y[100] = np.nan
    y[200] = np.inf
    assert np.isfinite(read_audio(y)[0]).all()


def test_video_instead_of_sound(tmp_path, speech):
    clip = Clip(np.zeros((50, 64, 64, 3), np.uint8), speech)
    clip.save(tmp_path / 'v.mp4')
    os.rename(tmp_path / 'v.mp4', tmp_path / 'v.wav')
    x, sr = read_audio(tmp_path / 'v.wav')
    assert abs(len(x) - 32000) < 2500 and np.corrcoef(x[:30000], speech[:30000])[0, 1] > 0.95
    assert np.array_equal(read_audio(clip)[0], clip.wav)
    Clip(clip.frames).save(tmp_path / 'mute.mp4')
    told(lambda: read_audio(tmp_path / 'mute.mp4'), 'mute.mp4', 'no sound')


@pytest.mark.parametrize(
    'content',
    [
        b'some text, not a sound\n' * 200,
        b'\0' * 4000,
        os.urandom(1) and bytes(range(256)) * 20,
        b'RIFF\x10\0\0\0WAVEfmt ',
    ],
)
def test_text_named_wav(tmp_path, content):
    (tmp_path / 't.wav').write_bytes(content)
    told(lambda: read_audio(tmp_path / 't.wav'), 't.wav')


def test_strange_names(tmp_path, speech):
    f = wav(tmp_path / "it's $(a) sound; ünd 100%.wav", speech)
    assert len(read_audio(f)[0]) == len(speech)
    told(lambda: read_audio(tmp_path), 'folder')
    told(lambda: read_audio(tmp_path / 'none.mp3'), 'none.mp3')


# ---- videos


@pytest.fixture(scope='module')
def moving(face):
    a = np.asarray(face)
    return np.stack([np.roll(a, 4 * i, 1) for i in range(20)])


def test_cut_video(tmp_path, moving):
    Clip(np.tile(moving, (15, 1, 1, 1))).save(tmp_path / 'a.mkv')
    data = (tmp_path / 'a.mkv').read_bytes()
    (tmp_path / 'cut.mkv').write_bytes(data[: len(data) // 2])
    assert 0 < len(read_clip(tmp_path / 'cut.mkv')) < 300
    Clip(moving).save(tmp_path / 'a.mp4')
    (tmp_path / 'cut.mp4').write_bytes((tmp_path / 'a.mp4').read_bytes()[:3000])
    told(lambda: read_clip(tmp_path / 'cut.mp4'), 'cut.mp4')
    told(lambda: read_clip(asset('sentence.wav')), 'no pictures')


def test_sizes_and_duration(tmp_path, moving, speech):
    for h, w in ((33, 47), (64, 64), (101, 64)):
        back = read_clip(Clip(moving[:, :h, :w], speech).save(tmp_path / 'o.mp4'))
        assert back.frames.shape == (20, h + h % 2, w + w % 2, 3)
        assert len(back.wav) == round(20 / 25 * 16000)


def test_long_frames_are_refused(tmp_path, moving, monkeypatch):
    Clip(moving).save(tmp_path / 'a.mp4')
    monkeypatch.setattr('talkface.media.MAX_BYTES', 500_000)
    told(lambda: read_clip(tmp_path / 'a.mp4'), 'max_seconds')


# ---- writing


def left(folder):
    return sorted(o.name for o in Path(folder).iterdir())


def test_unwritable(tmp_path, moving):
    (tmp_path / 'file').write_text('x')
    told(
        lambda: Clip(moving).save(tmp_path / 'file' / 'a.mp4'),
        'cannot write',
        'choose another folder',
    )
    (tmp_path / 'dir.mp4').mkdir()
    told(lambda: Clip(moving).save(tmp_path / 'dir.mp4'), 'it is a folder')
    told(lambda: Clip(moving).save(tmp_path / 'a.avi'), '.mp4')
    told(lambda: Clip(moving).save(tmp_path / ('n' * 300 + '.mp4')), 'too long')
    if os.path.isdir('/proc/self'):
        told(lambda: Clip(moving).save('/proc/self/a.mp4'), 'cannot write')
    assert left(tmp_path) == ['dir.mp4', 'file']


@pytest.mark.skipif(os.name != 'posix' or os.geteuid() == 0, reason='permissions do not bind root')
def test_forbidden(tmp_path, moving):
    tmp_path.chmod(0o500)
    told(lambda: Clip(moving).save(tmp_path / 'a.mp4'), 'permission')


class SmallDisk:
    "A file that takes `room` bytes and then says that the disk is full."

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, b):
        self.room -= len(b)
        if self.room < 0:
            raise OSError(errno.ENOSPC, 'No space left on device')
        return self.file.write(b)

    def __getattr__(self, k):
        return getattr(self.file, k)

    def __enter__(self):
        return self

    def __exit__(self, *a):
        self.file.close()


@pytest.mark.parametrize('room', [0, 2000, 40_000])
def test_full_disk(tmp_path, room, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (40, 128, 128, 3), dtype=np.uint8)
    old = Clip(noise[:2]).save(tmp_path / 'a.mp4').read_bytes()
    monkeypatch.setattr(
        'talkface.media.open', lambda *a, **k: SmallDisk(open(*a, **k), room), raising=False
    )
    told(lambda: Clip(noise).save(tmp_path / 'a.mp4'), 'a.mp4', 'the disk is full')
    assert left(tmp_path) == ['a.mp4'] and (tmp_path / 'a.mp4').read_bytes() == old


@pytest.mark.skipif(
    sys.platform != 'linux' or os.geteuid() != 0, reason='needs a small file system of its own'
)
def test_really_full_disk(tmp_path):
    small = tmp_path / 'small'
    small.mkdir()
    if subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=64k', 'none', small], capture_output=True
    ).returncode:
        pytest.skip('mount is not allowed')
    try:
        noise = np.random.default_rng(0).integers(0, 256, (40, 128, 128, 3), dtype=np.uint8)
        told(lambda: Clip(noise).save(small / 'a.mp4'), 'the disk is full')
        told(
            lambda: save_checkpoint(small / 'w.safetensors', {'m': {'x': torch.rand(90000)}}, {}),
            'the disk is full',
        )
        assert left(small) == []
    finally:
        subprocess.run(['umount', small], check=True)


def test_error_in_the_middle(tmp_path, moving):
    for e in (KeyboardInterrupt, ValueError, OSError(errno.EIO, 'broken')):
        with pytest.raises(e if isinstance(e, type) else OSError):
            with VideoWriter(tmp_path / 'a.mp4', wav=np.zeros(16000)) as out:
                for f in moving[:7]:
                    out.write(f)
                raise e
        assert left(tmp_path) == []


def test_ctrl_c_of_a_process(tmp_path):
    code = """
import numpy as np, signal, sys
from talkface.media import VideoWriter
signal.signal(signal.SIGINT, signal.default_int_handler)  # heard in the background too
with VideoWriter(sys.argv[1]) as out:
    for i in range(10**6):
        out.write(np.full((256, 256, 3), i % 256, np.uint8))
        if i == 5: print('going', flush=True)
"""
    p = subprocess.Popen(
        [sys.executable, '-c', code, str(tmp_path / 'a.mp4')],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert p.stdout.readline().strip() == b'going'
    assert any('.partial' in o for o in left(tmp_path))
    p.send_signal(signal.SIGINT)
    assert p.wait(timeout=30) != 0
    assert left(tmp_path) == []


def test_writing_keeps_the_old_file(tmp_path):
    f = tmp_path / 'x.json'
    f.write_text('old')
    with pytest.raises(ZeroDivisionError):
        with writing(f) as t:
            t.write_text('new')
            1 / 0
    assert f.read_text() == 'old' and left(tmp_path) == ['x.json']
    with writing(f) as t:
        t.write_text('new')
    assert f.read_text() == 'new' and left(tmp_path) == ['x.json']


# ---- checkpoints


def layer():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))


def test_missing_key_and_wrong_shape(tmp_path):
    sd = layer().state_dict()
    gone = {k: v for k, v in sd.items() if k != '0.bias'}
    c = load_checkpoint(save_checkpoint(tmp_path / 'gone.safetensors', {'m': gone}, {}))
    told(lambda: load_into(layer(), c, 'm'), 'gone.safetensors', '0.bias', 'missing')
    c = load_checkpoint(
        save_checkpoint(
            tmp_path / 'shape.safetensors', {'m': {**sd, '0.weight': torch.zeros(4, 3, 5, 5)}}, {}
        )
    )
    told(lambda: load_into(layer(), c, 'm'), 'shape.safetensors', '[4, 3, 5, 5]', '[4, 3, 3, 3]')
    c = load_checkpoint(
        save_checkpoint(tmp_path / 'more.safetensors', {'m': {**sd, 'x': torch.zeros(1)}}, {})
    )
    told(lambda: load_into(layer(), c, 'm'), 'x is not known')
    told(lambda: load_into(layer(), c, 'generator'), 'has no generator')


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('zipped', [True, False])
def test_malicious_pickle(tmp_path, zipped):
    for i, d in enumerate(
        (Evil(tmp_path / 'owned'), {'generator': {'x': Evil(tmp_path / 'owned')}})
    ):
        f = tmp_path / f'{i}.ckpt'
        torch.save(d, f, _use_new_zipfile_serialization=zipped)
        told(lambda: load_checkpoint(f), f.name, 'refused')
    raw = tmp_path / 'raw.ckpt'
    raw.write_bytes(pickle.dumps(Evil(tmp_path / 'owned')))
    told(lambda: load_checkpoint(raw), 'raw.ckpt')
    assert not (tmp_path / 'owned').exists()


def test_damaged_checkpoints(tmp_path):
    save_checkpoint(tmp_path / 'a.safetensors', {'m': layer()}, {})
    torch.save({'generator': {'em_pose.x': torch.rand(9999)}}, tmp_path / 'a.ckpt')
    for n in ('a.safetensors', 'a.ckpt'):
        data = (tmp_path / n).read_bytes()
        for part in (0, 5, 60, len(data) // 2, len(data) - 10):
            (tmp_path / f'cut.{n}').write_bytes(data[:part])
            told(lambda: load_checkpoint(tmp_path / f'cut.{n}'), f'cut.{n}')
    with zipfile.ZipFile(tmp_path / 'z.ckpt', 'w') as z:
        z.writestr('a.txt', 'no weights')
    told(lambda: load_checkpoint(tmp_path / 'z.ckpt'), 'z.ckpt')
    torch.save({'model': {}, 'epoch': 3}, tmp_path / 'other.ckpt')
    told(lambda: load_checkpoint(tmp_path / 'other.ckpt'), 'known layouts', 'model, epoch')
    torch.save(torch.zeros(3), tmp_path / 'tensor.ckpt')
    told(lambda: load_checkpoint(tmp_path / 'tensor.ckpt'), 'Tensor')
    told(lambda: load_checkpoint(tmp_path / 'none.ckpt'), 'none.ckpt')
    told(lambda: load_checkpoint(tmp_path), 'no weight file')


def test_safetensors_of_others(tmp_path):
    from safetensors.torch import save_file

    save_file({'x': torch.zeros(2)}, str(tmp_path / 'o.safetensors'))
    told(lambda: load_checkpoint(tmp_path / 'o.safetensors'), 'o.safetensors', 'configuration')


def test_half_precision_round_trip(tmp_path):
    net = layer()
    net[1].running_var.fill_(1e5)
    with torch.no_grad():
        net[1].weight.fill_(7e4)
    c = load_checkpoint(
        save_checkpoint(tmp_path / 'h.safetensors', {'m': net}, {'size': 128, 'm': {'a': [1, 2]}})
    )
    assert (
        isinstance(c, Checkpoint)
        and c.config == {'size': 128, 'm': {'a': [1, 2]}}
        and c.kind == 'talkface'
    )
    for k, v in net.state_dict().items():
        assert c['m'][k].dtype == v.dtype
        assert torch.allclose(c['m'][k].double(), v.double(), rtol=1e-3, atol=1e-6), k


# ---- sounds that are a little broken, names, and what must not be overwritten


def encoded(codec, kind, rate, wav):
    "A sound in another format, as bytes."
    import io

    import av

    file = io.BytesIO()
    with av.open(file, 'w', format=kind) as c:
        stream = c.add_stream(codec, rate=rate, layout='mono')
        change = av.AudioResampler(format=stream.format.name, layout='mono', rate=rate)
        whole = av.AudioFrame.from_ndarray(wav[None], format='fltp', layout='mono')
        whole.rate = 16000
        for frame in change.resample(whole) + change.resample(None):
            c.mux(stream.encode(frame))
        c.mux(stream.encode(None))
    return file.getvalue()


@pytest.fixture(scope='module')
def second():
    return read_audio(asset('sentence.wav'))[0][:16000]


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize(
    'codec,kind,rate', [('libmp3lame', 'mp3', 16000), ('libopus', 'ogg', 48000)]
)
def test_joined_files_are_read_to_their_end(tmp_path, second, codec, kind, rate):
    once = encoded(codec, kind, rate, second)
    (tmp_path / f'a.{kind}').write_bytes(once + once)
    assert abs(len(read_audio(tmp_path / f'a.{kind}')[0]) / 16000 - 2) < 0.15


def test_one_bad_frame_does_not_end_a_sound(tmp_path, second):
    data = bytearray(encoded('libmp3lame', 'mp3', 16000, np.tile(second, 4)))
    middle = len(data) // 4
    data[middle : middle + 40] = bytes(40)
    (tmp_path / 'a.mp3').write_bytes(data)
    import warnings

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        wav, _ = read_audio(tmp_path / 'a.mp3')
    assert len(wav) > 3.2 * 16000  # the decoder needs some frames to find its feet again
    assert not told or 'left out' in str(told[0].message)


def test_latin1_tags(tmp_path, second):
    from talkface.media import Clip, duration, output_audio, write_wav

    plain = write_wav(tmp_path / 'plain.wav', second, 44100).read_bytes()
    title = 'Grüße'.encode('latin-1')
    info = b'INFOINAM' + (len(title) + 1).to_bytes(4, 'little') + title + b'\0'
    tagged = plain + b'LIST' + len(info).to_bytes(4, 'little') + info
    (tmp_path / 'a.wav').write_bytes(
        tagged[:4] + (len(tagged) - 8).to_bytes(4, 'little') + tagged[8:]
    )
    mp3 = encoded('libmp3lame', 'mp3', 16000, second)
    (tmp_path / 'a.mp3').write_bytes(mp3 + b'TAG' + title.ljust(125, b'\0'))
    heard = Clip(np.zeros((1, 32, 32, 3), np.uint8), second)
    for name in ('a.wav', 'a.mp3'):
        assert len(read_audio(tmp_path / name)[0]) > 5000
        assert duration(tmp_path / name) > 0.3
        assert len(output_audio(tmp_path / name, heard)[0]) > 5000
    assert output_audio(tmp_path / 'a.wav', heard)[1] == 44100


@pytest.mark.parametrize('name', ['rec-10:30:00.wav', '2024-01-01T10:30.wav', 'http:x.wav'])
def test_names_with_colons_are_files(tmp_path, monkeypatch, second, name):
    from talkface.media import write_wav

    write_wav(tmp_path / name, second)
    monkeypatch.chdir(tmp_path)
    assert len(read_audio(name)[0]) == 16000
    assert len(read_audio(Path(name))[0]) == 16000


@pytest.mark.parametrize('name', ['x' * 300, 'ü' * 200, 'a\0b'])
def test_impossible_names(name):
    for read in (read_audio, read_image, read_clip, load_checkpoint):
        told(lambda: read(name), 'check the name')


def test_flat_videos_and_long_pictures(tmp_path):
    Clip(np.zeros((5, 2, 4096, 3), np.uint8)).save(tmp_path / 'flat.mp4')
    told(lambda: read_clip(tmp_path / 'flat.mp4'), 'flat.mp4', '4096x2', '32x32')
    told(lambda: next(iter_frames(tmp_path / 'flat.mp4', None)), '4096x2')
    Image.new('1', (2000000, 33)).save(tmp_path / 'long.png')
    told(lambda: read_image(tmp_path / 'long.png'), '2000000x33', '8192')


def test_output_that_is_an_input(tmp_path):
    from talkface.media import check_output

    me = Clip(np.zeros((2, 32, 32, 3), np.uint8)).save(tmp_path / 'me.mp4')
    (tmp_path / 'link.mp4').symlink_to(me)
    os.link(me, tmp_path / 'hard.mp4')
    (tmp_path / 'folder').symlink_to(tmp_path)
    for name in ('me.mp4', 'link.mp4', 'hard.mp4', 'ME.mp4', 'folder/me.mp4', 'no/../me.mp4'):
        told(
            lambda: check_output(tmp_path / name, ['portrait.png', None, np.zeros(3), str(me)]),
            'is an input as well as the output',
        )
    assert check_output(tmp_path / 'other.mp4', [me]) == tmp_path / 'other.mp4'
    assert me.stat().st_size > 500 and left(tmp_path) == sorted(
        ['me.mp4', 'link.mp4', 'hard.mp4', 'folder']
    )


def test_long_names_of_many_bytes(tmp_path):
    f = tmp_path / ('声' * 80 + '.txt')  # 244 bytes
    with writing(f) as t:
        t.write_text('x')
    assert f.read_text() == 'x'
    told(
        lambda: Clip(np.zeros((2, 32, 32, 3), np.uint8)).save(tmp_path / ('声' * 90 + '.mp4')),
        'name is too long',
    )


def test_a_pickle_with_another_name(tmp_path):
    torch.save({'generator': Evil(tmp_path / 'owned')}, tmp_path / 'a.safetensors')
    told(lambda: load_checkpoint(tmp_path / 'a.safetensors'), 'refused')
    assert not (tmp_path / 'owned').exists()


@pytest.mark.parametrize('header', ['[]', '"x"', '{}', '{"models": 3, "config": {}}', '[' * 10000])
def test_strange_headers(tmp_path, header):
    from safetensors.torch import save

    (tmp_path / 'a.safetensors').write_bytes(save({'x': torch.zeros(1)}, {'talkface': header}))
    told(lambda: load_checkpoint(tmp_path / 'a.safetensors'), 'no talkface configuration')
