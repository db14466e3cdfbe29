"The whole road from picture and sound to a video: lengths, switches, memory, the command as a process."

import os, subprocess, sys
from pathlib import Path
import numpy as np, pytest, torch
import toy
from talkface.animate import Animator, Portrait, frames_for
from talkface.core import TalkfaceError, asset, load_checkpoint, preset, save_checkpoint
from talkface.media import Clip, read_clip
from talkface.native import face_side


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    d = tmp_path_factory.mktemp('toy')
    return dict(
        dir=d,
        weights=toy.weights(d / 'toy.safetensors', speaker=True),
        wav=toy.wav(d / 'a.wav', toy.speech(1.0)),
        ph=toy.phonemes(d / 'a.json', 1.0),
    )


def close(a, b, tol=1e-5):
    assert max((a[k] - b[k]).abs().max().item() for k in a) <= tol


# ---- lengths


@pytest.mark.parametrize('n', [800, 1600, 15999, 16000, 16001, 16640, 17000, 23456])
def test_video_is_as_long_as_the_sound(an, me, n, tmp_path):
    x = np.tile(toy.speech(1.0), 2)[:n]
    m = an.save(
        me,
        x,
        tmp_path / 'v.mp4',
        phonemes=toy.phonemes(tmp_path / 'p.json', n / 16000),
        pose='still',
        size=64,
    )
    c = read_clip(tmp_path / 'v.mp4')
    assert len(c) == m.n_frames == frames_for(n, 16000) and 0 <= len(c) / 25 - n / 16000 < 1 / 25
    assert len(m) <= m.n_frames <= len(m) + 2


def test_held_at_the_end(an, me, files):
    m = an.motion(me, files['wav'], phonemes=files['ph'], pose='still')
    c = an(me, m, size=64)
    assert len(c) == m.n_frames and len(m) < m.n_frames
    for f in c.frames[len(m) :]:
        assert (f == c.frames[len(m) - 1]).all()


@pytest.mark.parametrize('size', [64, 65, 200, None])
def test_size(an, me, files, size, tmp_path):
    kw = dict(phonemes=files['ph'], pose='still', size=size)
    c = an(me, toy.speech(0.3), frame='face', **kw)
    side = face_side(me.box, size)
    assert c.frames.shape[1:] == (side, side, 3) and c.frames.dtype == np.uint8


def test_size_must_be_sensible(an, me, files):
    for bad in (0, 31, 5000, 99.5):
        with pytest.raises(TalkfaceError, match='not sensible'):
            an(me, files['wav'], size=bad)


# ---- inputs


def test_kinds_of_input(an, files, tmp_path):
    kw = dict(phonemes=files['ph'], pose='still', size=64)
    x = toy.speech(1.0)
    ref = an(asset('portrait.png'), files['wav'], **kw)
    from PIL import Image

    im = np.asarray(Image.open(asset('portrait.png')).convert('RGB'))
    Clip(np.stack([im] * 3), x).save(tmp_path / 'c.mp4')
    for image in (im, Image.fromarray(im), Clip(im[None])):
        assert (an(image, files['wav'], **kw).frames == ref.frames).all()
    near = lambda c: len(c) == len(ref) and np.abs(c.frames.astype(int) - ref.frames).mean() < 3
    assert near(an(tmp_path / 'c.mp4', files['wav'], **kw))  # a video's first frame
    for audio in (x, (x, 16000), Clip(im[None], x), (np.repeat(x, 3), 48000)):
        assert near(an(im, audio, **kw))
    assert near(an(im, np.repeat(x, 2), sr=32000, **kw))
    assert len(an(im, tmp_path / 'c.mp4', **kw)) in (
        3,
        4,
        5,
    )  # sound of a video; AAC comes in blocks of 64 ms


def test_the_video_keeps_the_sound(an, me, files, tmp_path):
    "A 44.1 kHz file keeps its treble in the video, although the networks hear 16 kHz."
    from talkface.media import read_audio

    t = np.arange(44100) / 44100
    toy.wav(tmp_path / 'hi.wav', 0.5 * np.sin(2 * np.pi * 12000 * t), 44100)
    an.save(
        me, tmp_path / 'hi.wav', tmp_path / 'v.mp4', phonemes=files['ph'], pose='still', size=64
    )
    x, _ = read_audio(tmp_path / 'v.mp4', 44100)
    f = np.abs(np.fft.rfft(x[4000:40000]))
    assert abs(np.argmax(f) * 44100 / 36000 - 12000) < 5 and np.abs(x[4000:40000]).max() > 0.3


def test_same_twice(an, files):
    a, b = (
        an(asset('portrait.png'), files['wav'], phonemes=files['ph'], size=64, seed=s)
        for s in (0, 0)
    )
    assert (a.frames == b.frames).all()


def test_phonemes_and_text_exclude_each_other(an, me, files):
    with pytest.raises(TalkfaceError, match='leave the text out'):
        an(me, files['wav'], text='hello', phonemes=files['ph'])


def test_poses(an, me, files, tmp_path):
    a = np.zeros((40, 4, 41), np.float32)
    walk = np.cumsum(np.random.default_rng(0).normal(size=(30, 6)) * 0.01, 0)
    assert np.allclose(an.poses(me, a, 'still'), me.pose)
    got = an.poses(me, a, walk)
    assert (
        got.shape == (40, 6)
        and np.allclose(got[0], me.pose)
        and np.allclose(got[29] - got[0], walk[29] - walk[0])
        and np.allclose(got[31], got[27])
    )
    assert np.allclose(an.poses(me, a, walk, absolute=True)[:30], walk)
    assert np.allclose(an.poses(me, a, walk, amplitude=2)[:30] - me.pose, 2 * (walk - walk[0]))
    np.save(tmp_path / 'w.npy', walk)
    assert np.allclose(an.poses(me, a, tmp_path / 'w.npy'), got)
    names = [f'pose_{k}' for k in ('Rx', 'Ry', 'Rz', 'Tx', 'Ty', 'Tz')]
    for gap in (', ', ','):  # the two builds of OpenFace
        (tmp_path / 'w.csv').write_text(
            gap.join(['frame', 'success', *names])
            + '\n'
            + '\n'.join(gap.join([str(i + 1), '1', *map(str, p)]) for i, p in enumerate(walk))
        )
        assert np.allclose(an.poses(me, a, str(tmp_path / 'w.csv')), got, atol=1e-6)
    assert np.allclose(an.poses(me, a)[0], me.pose, atol=1e-3)
    im = np.asarray(me.draw(320))
    for bad, words in (
        (np.zeros((3, 5)), r'\(3, 5\)'),
        (tmp_path / 'no.csv', 'no pose file'),
        (toy.wav(tmp_path / 's.wav', np.zeros(99)), 'pictures'),
    ):
        with pytest.raises(TalkfaceError, match=words):
            an.poses(me, a, bad)


def test_pose_of_a_video(an, me, tmp_path):
    from PIL import Image

    im = Image.open(asset('portrait.png')).convert('RGB').resize((320, 320))
    f = np.stack(
        [
            np.asarray(im.transform((320, 320), Image.AFFINE, (1, 0, -4 * i, 0, 1, 0)))
            for i in range(11)
        ]
    )
    Clip(f).save(tmp_path / 'move.mp4')
    got = an.poses(me, np.zeros((15, 4, 41), np.float32), tmp_path / 'move.mp4')
    assert (
        got.shape == (15, 6) and np.allclose(got[0], me.pose) and got[10, 3] > got[0, 3] + 5
    )  # it went to the right


def test_no_head_motion_network(files, tmp_path):
    ck = load_checkpoint(files['weights'])
    save_checkpoint(tmp_path / 'w.safetensors', {n: ck[n] for n in toy.NAMES[:3]}, ck.config)
    an = Animator.from_pretrained(tmp_path / 'w.safetensors', 'cpu')
    with pytest.raises(TalkfaceError, match="'still'"):
        an(asset('portrait.png'), files['wav'], phonemes=files['ph'])
    assert (
        len(an(asset('portrait.png'), files['wav'], phonemes=files['ph'], pose='still', size=64))
        == 25
    )


# ---- switches


def test_chunks_leave_no_seams(an, me, files):
    m = an.motion(me, np.tile(toy.speech(1.0), 3), phonemes=files['ph'])
    lab = m.timeline.labels(len(m))
    whole = an._driving(lab, m.poses, m.features, me.feature_map, chunk=10**6)
    for chunk in (9, 40):
        close(whole, an._driving(lab, m.poses, m.features, me.feature_map, chunk=chunk))


def test_every_switch_reaches_the_networks(files, me):
    base = preset('best', anchor='first', pad_audio='zero', label='start', pose_lag=1)

    def run(**change):
        a = Animator.from_pretrained(files['weights'], 'cpu', preset(base, **change), fast=False)
        return a.motion(me, files['wav'], phonemes=files['ph'])

    ref = run()
    for change in (
        dict(pad_audio='edge'),
        dict(pad_audio='silence'),
        dict(label='majority'),
        dict(phone_shift_ms=60.0),
        dict(pose_lag=0),
        dict(adapt_scale=True),
        dict(anchor='silence'),
    ):
        m = run(**change)
        assert max((m.kp[k] - ref.kp[k]).abs().max().item() for k in m.kp) > 1e-7, change
    same = run()
    close(same.kp, ref.kp, 0)
    assert (
        ref.kp['value'][0] - me.kp['value'][0]
    ).abs().max() < 1e-6  # anchor 'first': frame 0 is the portrait


def test_rounding_and_align_corners(files, me):
    a, b, c = (
        Animator.from_pretrained(files['weights'], 'cpu', p, fast=False)
        for p in ('best', preset('best', rounding='truncate'), preset('best', align_corners=True))
    )
    m = a.motion(me, files['wav'], phonemes=files['ph'], pose='still')
    x, y, z = (
        np.stack(list(o.render(me, {k: v[:3] for k, v in m.kp.items()}))).astype(int)
        for o in (a, b, c)
    )
    assert (
        set(np.unique(x - y)) == {0, 1}
        and (x != z).any()
        and a.models['generator'].align_corners is False
    )


def test_silence_anchor_is_the_portrait_at_rest(an, me):
    "Silence itself, in the portrait's pose, moves nothing."
    from talkface.audio_features import silence_row

    T = 20
    a = np.tile(silence_row().astype(np.float32), (T, 4, 1))
    d = an._driving(np.full(T, 31), np.tile(me.pose, (T, 1)), a, me.feature_map)
    close(
        an._transfer(me, d, me.pose, me.feature_map, a),
        {k: v.expand(T, *v.shape[1:]) for k, v in me.kp.items()},
        1e-4,
    )


def test_speaker_reference(files, me):
    own, known = (
        Animator.from_pretrained(files['weights'], 'cpu', avct_portrait=w, fast=False)
        for w in ('own', 'speaker')
    )
    kw = dict(phonemes=files['ph'], pose='still')
    a, b = (o.motion(me, files['wav'], **kw) for o in (own, known))
    assert (a.kp['value'] - b.kp['value']).abs().max() > 1e-7
    moved = Portrait(
        **{**me.__dict__, 'pose': me.pose + [0, 0, 0, 5, 0, 0], 'feature_map': me.feature_map * 2}
    )
    close(
        known.motion(moved, files['wav'], **kw).kp, b.kp, 1e-6
    )  # neither pose nor features of the portrait reach AVCT
    assert np.allclose(known.poses(me, a.features)[0], me.pose, atol=1e-3)


def test_config_sets_the_speaker(tmp_path):
    f = toy.weights(tmp_path / 'w.safetensors', speaker=True, avct_portrait='speaker')
    assert Animator.from_pretrained(f, 'cpu').avct_portrait == 'speaker'
    with pytest.raises(TalkfaceError, match='own'):
        Animator.from_pretrained(f, 'cpu', avct_portrait='mine')


def test_official_layout(tmp_path, monkeypatch):
    "generator.ckpt with audio2pose.ckpt beside it, by folder and by file; preset 'released', the whole picture."
    small = {**toy.CONFIG, 'size': 64}
    small.pop('crop')
    small.pop('preset')
    monkeypatch.setattr('talkface.core.full_config', lambda image_channels=1: small)
    nets = toy.networks(small)
    torch.save(
        {n: nets[n].state_dict() for n in ('kp_detector', 'generator', 'ph2kp')},
        tmp_path / 'generator.ckpt',
    )
    torch.save({'generator': nets['audio2pose'].state_dict()}, tmp_path / 'audio2pose.ckpt')
    for where in (tmp_path, tmp_path / 'generator.ckpt'):
        an = Animator.from_pretrained(where, 'cpu')
        assert (
            an.switches.name == 'released'
            and an.crop is None
            and an.models['audio2pose'] is not None
            and not an.fast
        )
    face = np.full((90, 120, 3), 127, np.uint8)
    p = an.portrait(face, pose=[0, 0, 0, 0, 20, 250])
    assert (
        p.image.shape == (64, 64, 3)
        and len(an(p, toy.speech(0.5), phonemes=toy.phonemes(tmp_path / 'p.json', 0.5), size=64))
        == 13
    )
    with pytest.raises(TalkfaceError, match='has no kp_detector'):
        Animator.from_pretrained(tmp_path / 'audio2pose.ckpt', 'cpu')
    assert Animator.from_pretrained(tmp_path, 'cpu', 'best', crop={'scale': 1.3}).crop == {
        'scale': 1.3
    }


# ---- the command as a process


def talkface(*args, **kw):
    return subprocess.run(
        [sys.executable, '-m', 'talkface.cli', *map(str, args)],
        capture_output=True,
        text=True,
        timeout=600,
        **kw,
    )


def test_process(files, tmp_path):
    r = talkface(
        'animate', '--weights', files['weights'], '--size', 64, '--device', 'cpu', cwd=tmp_path
    )
    assert r.returncode == 0, r.stderr
    assert (
        str(tmp_path / 'talkface.mp4') in r.stdout
        and '144 frames' in r.stdout
        and [p.name for p in tmp_path.iterdir()] == ['talkface.mp4']
    )
    c = read_clip(tmp_path / 'talkface.mp4')
    assert len(c) == 144 and c.wav is not None and 'Traceback' not in r.stderr


def test_version_and_help():
    import talkface as t

    r = talkface('--version')
    assert r.returncode == 0 and t.__version__ in r.stdout
    r = talkface('--help')
    assert r.returncode == 0 and 'animate' in r.stdout and 'prepare' in r.stdout
    r = talkface()
    assert r.returncode == 0 and 'animate' in r.stdout and not r.stderr
    r = talkface('animate', '--size', 'big')
    assert r.returncode == 2 and 'Traceback' not in r.stderr


def test_help_says_what_parameters_mean():
    def missing(thing, *names):
        rows = (thing.__doc__ or '').partition('Parameters:')[2]
        return [n for n in names if f'    {n}: ' not in rows]

    assert not missing(Animator, 'models', 'size', 'speaker', 'device', 'fast')
    assert not missing(Animator.save, 'image', 'audio', 'out', 'text', '**options')
    assert not missing(Animator.from_pretrained, 'path', 'compat', 'system')
    assert not missing(Portrait, 'image', 'kp', 'gain')
    told = subprocess.run(
        [sys.executable, '-c', 'import talkface.animate as a; help(a.Animator.portrait)'],
        capture_output=True,
        text=True,
    ).stdout
    assert 'pose: (6,) where it is known' in told


def test_import_is_light():
    "The help must not wait for torch, and Ctrl-C in the first second must not meet a half-imported one."
    code = "import talkface.cli, sys; print([m for m in ('torch', 'cv2', 'matplotlib', 'mediapipe', 'scipy') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip()
        == '[]'
    )


MEMORY = """
import resource, sys, numpy as np, toy
from talkface.animate import Animator
from talkface.core import asset
weights, folder, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3])
an = Animator.from_pretrained(weights, 'cpu')
me = an.portrait(asset('portrait.png'))
an.save(me, toy.speech(2.), f'{folder}/warm.mp4', phonemes=toy.phonemes(f'{folder}/p.json', 2), size=256)
x = np.tile(toy.speech(2.), seconds//2)
an.save(me, x, f'{folder}/{seconds}.mp4', phonemes=toy.phonemes(f'{folder}/p.json', seconds), size=256)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024)
"""


def test_memory_does_not_grow_with_the_sound(files, tmp_path):
    "60 s need hardly more than 10 s: 1,250 frames of 256x256 alone would be 245 MB, their pose maps 328 MB."
    env = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[1]), 'OMP_NUM_THREADS': '1'}
    peak = {}
    for s in (10, 60):
        r = subprocess.run(
            [sys.executable, '-c', MEMORY, files['weights'], tmp_path, str(s)],
            capture_output=True,
            text=True,
            env=env,
        )
        assert r.returncode == 0, r.stderr
        peak[s] = float(r.stdout)
    print(peak)
    assert peak[60] - peak[10] < 60, peak


# ---- the bundled weights


@pytest.fixture(scope='module')
def bundled():
    from talkface.core import weights_path

    try:
        weights_path('talkface-compact')
    except TalkfaceError:
        pytest.skip('the package carries no weights yet')
    return Animator.from_pretrained(device='cpu')


def test_bundled_identity(bundled):
    "The portrait under its own key points is the portrait."
    me = bundled.portrait(asset('portrait.png'))
    f = next(bundled.render(me, me.kp)).astype(float)
    assert (
        np.abs(f - me.image).mean() < 12 and np.corrcoef(f.ravel(), me.image.ravel())[0, 1] > 0.95
    )


def test_bundled_silence_is_still(bundled):
    "In digital silence, and in a pause of a second and a half, the mouth rests."
    me, text = bundled.portrait(asset('portrait.png')), asset('sentence.txt').read_text()
    from talkface.media import read_audio

    w, _ = read_audio(asset('sentence.wav'))
    spread = lambda m, s=slice(None): m.kp['value'][s].std(0).mean().item()
    said = spread(bundled.motion(me, w, text=text, pose='still'))
    quiet = bundled.motion(me, np.zeros(32000), pose='still')
    pause = bundled.motion(
        me, np.concatenate([w[:40000], np.zeros(24000), w[40000:]]), text=text, pose='still'
    )
    assert spread(quiet) < 0.2 * said and spread(pause, slice(68, 95)) < 0.4 * said, (
        spread(quiet) / said,
        spread(pause, slice(68, 95)) / said,
    )
    assert (quiet.kp['value'] - me.kp['value']).abs().mean() < 5 * said
