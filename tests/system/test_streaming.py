"The stream: equal to the clip where it knows as much, on time, in constant memory, from pipes."

import io
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy
from PIL import Image

from talkface.animate import Animator
from talkface.audio_features import acoustic_features, clip_gain
from talkface.cli import main
from talkface.core import TalkfaceError, asset, preset
from talkface.fomm import KeyPoints
from talkface.media import frames_for, read_audio, read_clip
from talkface.phonemes import PhonemeTimeline
from talkface.streaming import FeatureStream, Stream, read_pcm


def flat(x):
    "120 Hz throughout."
    return np.full(len(x) // 160 + 1, 120.0)


def clip_and_stream(files, compat, gain):
    "The motion of a clip, and a stream that knows as much as the clip."
    an = Animator.from_pretrained(files['weights'], 'cpu', preset(compat, f0=flat), fast=False)
    me = replace(an.portrait(asset('portrait.png')), gain=gain)
    wav = toy.speech(2.0)[:31234]
    line = PhonemeTimeline.load(files['ph'])
    motion = an.motion(me, (wav, 16000), phonemes=line, pose='still')
    offset, level = clip_gain(wav)
    known = dict(phonemes=line, gain=level, offset=offset, f0=flat, pose='still')
    return wav, an, me, motion, Stream(an, me, size=64, **known)


CASES = [('best', 1.0, 37), ('best', 1.0, 640), ('best', 1.7, 6400), ('released', 1.0, 640)]


@pytest.mark.parametrize('compat, gain, chunk', CASES)
def test_stream_is_the_clip(files, compat, gain, chunk):
    "With gain, pitch and phones known and a still head; the articulation scaled or not."
    wav, _, _, motion, stream = clip_and_stream(files, compat, gain)
    parts = [stream.advance(wav[i : i + chunk]) for i in range(0, len(wav), chunk)]
    parts.append(stream.advance(np.zeros(0), last=True))
    got = KeyPoints.cat([p for p in parts if p is not None])
    assert len(got) == len(motion)
    assert (got.numbers() - KeyPoints.of(motion.kp).numbers()).abs().max() < 1e-4


@pytest.mark.parametrize('show', [dict(frame='face', blinks=True), dict(frame='full', seed=3)])
def test_frames_are_the_clips(files, show):
    "On the canvas, blinks and all, to the end of the sound."
    wav, an, me, motion, _ = clip_and_stream(files, 'best', 1.0)
    offset, level = clip_gain(wav)
    known = dict(phonemes=motion.timeline, gain=level, offset=offset, f0=flat, pose='still')
    got = list(an.stream(me, np.array_split(wav, 5), size=96, **known, **show))
    want = list(an.frames(me, motion, 96, **show))
    assert len(got) == len(want) and got[0].shape == want[0].shape
    assert np.abs(np.stack(got).astype(int) - np.stack(want)).max() <= 2


def test_delay(an, me):
    "A frame leaves with the sample that completes the features of its fifth follower."
    wav, s, n = toy.speech(2.0), Stream(an, me, size=64), 0
    for i in range(0, 16000, 80):
        n += len(s.push(wav[i : i + 80]))
        heard = i + 80
        assert n == max(0, (heard - 880) // 640 + 1 - 5 if heard >= 880 else 0), heard


@pytest.mark.parametrize('n', [100, 700, 880, 5000, 16001])
def test_short_streams(an, me, n):
    s = Stream(an, me, size=64)
    x = toy.speech(1.1)[:n]
    out = s.push(x) + s.finish()
    assert len(out) == (frames_for(n, 16000) if n > 720 else 0)


def test_stream_rates_and_unknowns(an, me):
    x, _ = read_audio((toy.speech(1.0), 16000), 44100)
    frames = list(an.stream(me, np.array_split(x, 30), sr=44100, size=64))
    assert len(frames) == 25 and max(frames[0].shape) == 64
    with pytest.raises(TalkfaceError, match='one channel'):
        Stream(an, me).push(np.zeros((10, 2)))


def test_running_gain():
    "A faint voice reaches the features of a loud one after a second."
    x = np.tile(toy.speech(2.0), 2)
    whole = acoustic_features(x, f0=flat)
    for scale in (1, 0.05):
        e = FeatureStream(f0=flat)
        got = np.concatenate([e.push(scale * x[i : i + 640]) for i in range(0, len(x), 640)])
        d = np.abs(got[50:, :, 13:39] - whole[50 : len(got), :, 13:39]).mean()
        assert d < 0.3, (scale, d)


def process(*args, **kw):
    return subprocess.Popen(
        [sys.executable, '-m', 'talkface.cli', *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **kw,
    )


def test_pipe(files):
    pcm = (toy.speech(1.0) * 32767).astype('<i2').tobytes()
    p = process(
        'stream',
        '--weights',
        files['weights'],
        '--device',
        'cpu',
        '--size',
        64,
        '--frame',
        'face',
        stdin=subprocess.PIPE,
    )
    out, err = p.communicate(pcm, timeout=300)
    assert p.returncode == 0 and len(out) == 25 * 64 * 64 * 3, err
    assert b'25 frames' in err and b'Traceback' not in err


def test_pipe_closed_by_the_reader(files):
    pcm = (np.tile(toy.speech(2.0), 10) * 32767).astype('<i2').tobytes()
    p = process(
        'stream',
        asset('portrait.png'),
        '-',
        '--weights',
        files['weights'],
        '--device',
        'cpu',
        '--size',
        256,
        stdin=subprocess.PIPE,
    )

    def feed():
        try:
            p.stdin.write(pcm)
            p.stdin.close()
        except OSError:
            pass

    threading.Thread(target=feed, daemon=True).start()
    p.stdout.read(1000)
    p.stdout.close()
    assert p.wait(300) == 141 and b'Traceback' not in p.stderr.read()


def test_stream_refuses(files, tmp_path, capsys):
    run = lambda *a: main(
        [
            'stream',
            str(asset('portrait.png')),
            *map(str, a),
            '--weights',
            str(files['weights']),
            '--device',
            'cpu',
        ]
    )
    assert run(tmp_path / 'none.wav') == 2
    assert run(files['wav'], '-o', tmp_path / 'o.gif') == 2
    assert run(files['wav'], '--gain', 0, '-o', tmp_path / 'o.mp4') == 2
    (tmp_path / 'e.wav').touch()
    assert run(tmp_path / 'e.wav', '-o', tmp_path / 'o.mp4') == 2
    err = capsys.readouterr().err
    assert 'Traceback' not in err and not list(tmp_path.glob('*.mp4'))
    assert run(files['wav'], '-o', tmp_path / 'o.mp4', '--pose', 'still', '--size', 64) == 0
    c = read_clip(tmp_path / 'o.mp4')
    assert len(c) == 50 and abs(len(c.wav) / c.sr - 2) < 0.1


def wav_bytes(x, tag=1, bits=16, after=b''):
    "A WAV of 16 kHz."
    import struct

    data = (x * 32767).astype('<i2').tobytes()
    form = struct.pack('<HHIIHH', tag, 1, 16000, 32000, 2, bits)
    chunks = b'fmt ' + struct.pack('<I', 16) + form + b'data' + struct.pack('<I', len(data)) + data
    return b'RIFF' + struct.pack('<I', len(chunks) + 4) + b'WAVE' + chunks + after


def test_what_follows_the_sound_is_no_sound():
    x = toy.speech(0.5)
    for after in (b'', b'LIST\x04\x00\x00\x00INFO' * 100):
        rate, blocks = read_pcm(io.BytesIO(wav_bytes(x, after=after)))
        assert rate == 16000 and sum(map(len, blocks)) == len(x)


FOREIGN = b'ID3\x04', b'\xff\xfb\x90\x64', b'fLaC', b'OggS', b'\0\0\0 ftypM4A ', b'RF64', b'RIFX'


@pytest.mark.parametrize('head', FOREIGN)
def test_other_formats_are_no_samples(head):
    with pytest.raises(TalkfaceError, match='not 16-bit PCM'):
        read_pcm(io.BytesIO(head + bytes(1000)))


@pytest.mark.parametrize('tag, bits', [(3, 16), (7, 16), (1, 24)])
def test_wavs_that_are_no_pcm(tag, bits):
    with pytest.raises(TalkfaceError, match='give 16-bit PCM'):
        read_pcm(io.BytesIO(wav_bytes(toy.speech(0.1), tag, bits)))


def test_a_short_format_is_refused():
    with pytest.raises(TalkfaceError, match='does not tell its format'):
        read_pcm(io.BytesIO(b'RIFF\0\0\0\0WAVEfmt \x04\0\0\0\1\0\1\0data\0\0\0\0'))


def test_the_pose_video_is_not_overwritten(files, tmp_path, capsys):
    video = tmp_path / 'drive.mp4'
    video.write_bytes(b'precious')
    given = [files['wav'], '--pose', video, '-o', video, '--weights', files['weights']]
    assert main(['stream', str(asset('portrait.png')), *map(str, given)]) == 2
    assert video.read_bytes() == b'precious' and 'input' in capsys.readouterr().err


# ---- long


def test_long_files_are_streamed(an, me, files, tmp_path):
    kw = dict(phonemes=files['ph'], pose='still', size=64)
    m = an.save(me, files['wav'], tmp_path / 'a.mp4', longest=1.0, **kw)
    n = an.save(me, files['wav'], tmp_path / 'b.mp4', **kw)
    a, b = read_clip(tmp_path / 'a.mp4'), read_clip(tmp_path / 'b.mp4')
    assert (
        m.n_frames == len(a) == len(b) == n.n_frames == 50
        and np.abs(a.frames.astype(int) - b.frames).mean() < 2
    )
    assert (
        abs(len(a.wav) - len(b.wav)) < 2000
        and np.corrcoef(a.wav[:30000], b.wav[:30000])[0, 1] > 0.95
    )


def test_wide_pictures(an, files, tmp_path):
    "A picture that is not square, whole, as a clip and through the stream."
    picture = np.asarray(Image.open(asset('portrait.png')).convert('RGB'))
    wide = np.pad(picture, ((0, 0), (100, 100), (0, 0)), mode='edge')
    face = an.portrait(wide)
    kw = dict(phonemes=files['ph'], pose='still', size=96, frame='full')
    for longest in (300, 1):
        out = tmp_path / f'{longest}.mp4'
        an.save(face, files['wav'], out, longest=longest, **kw)
        height, width = read_clip(out).frames.shape[1:3]
        assert height < width == 96


MEMORY = """
import resource, sys, numpy as np, toy
from talkface.animate import Animator
from talkface.core import asset
weights, folder, seconds, longest = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
import talkface.animate, talkface.streaming, functools
for page in (talkface.animate, talkface.streaming):     # words take longer
    page.recognize = functools.partial(page.recognize, method='allphone')
an = Animator.from_pretrained(weights, 'cpu')
me = an.portrait(asset('portrait.png'))
x = np.tile(toy.speech(2.), 5)
import wave
with wave.open(f'{folder}/{seconds}.wav', 'wb') as f:
    f.setnchannels(1); f.setsampwidth(2); f.setframerate(16000)
    for _ in range(seconds//10): f.writeframes((x*32767).astype('<i2').tobytes())
m = an.save(me, f'{folder}/{seconds}.wav', f'{folder}/{seconds}.mp4', longest=longest, size=64)
assert m.n_frames == 25*seconds, m.n_frames
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024)
"""


def peaks(files, folder, seconds, longest):
    "Peak memory in MB of processes that animate so many seconds."
    env = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[1]), 'OMP_NUM_THREADS': '1'}
    peak = {}
    for s in seconds:
        r = subprocess.run(
            [sys.executable, '-c', MEMORY, files['weights'], folder, str(s), str(longest)],
            capture_output=True,
            text=True,
            env=env,
        )
        assert r.returncode == 0, r.stderr
        peak[s] = float(r.stdout)
    print(peak)
    return peak


def test_memory_of_long_files(files, tmp_path):
    "A sound four times as long needs what the short one needs, within a tenth, head and all."
    peak = peaks(files, tmp_path, (20, 80), 5)
    assert peak[80] < 1.1 * peak[20], peak


@pytest.mark.skipif(
    not os.environ.get('TALKFACE_HOUR'),
    reason='TALKFACE_HOUR is not set: an hour of sound takes ten minutes or more',
)
def test_memory_of_an_hour(files, tmp_path):
    "An hour, streamed, against a minute as one clip."
    peak = peaks(files, tmp_path, (60, 3600), 300)
    assert peak[3600] < 1.1 * peak[60], peak
