"Portraits of every size and place, and the options of `talkface animate` that shape the frames."

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import toy
from PIL import Image

from talkface.animate import Animator
from talkface.cli import main
from talkface.core import asset
from talkface.faces import POSE_COLUMNS, analyze
from talkface.media import read_clip
from talkface.native import face_side


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    d = tmp_path_factory.mktemp('toy')
    image = Image.open(asset('portrait.png')).convert('RGB')
    image.save(d / 'me.png')
    return dict(
        image=image,
        me=d / 'me.png',
        weights=toy.weights(d / 'toy.safetensors', speaker=True),
        wav=toy.wav(d / 'a.wav', toy.speech(0.3)),
        phonemes=toy.phonemes(d / 'a.json', 0.3),
    )


@pytest.fixture(scope='module')
def animator(files):
    return Animator.from_pretrained(files['weights'], 'cpu', fast=False)


@pytest.fixture(scope='module')
def wide(files):
    "A picture of 900x700 with the face in the middle."
    picture = Image.new('RGB', (900, 700), (90, 110, 130))
    picture.paste(files['image'].resize((360, 360)), (270, 170))
    return picture


def speak(animator, files, image, **changes):
    "A short clip of a picture."
    given = dict(phonemes=files['phonemes'], pose='still', **changes)
    return animator(image, toy.speech(0.3), **given)


@pytest.fixture
def run(files, tmp_path, capsys):
    "run(*options, image=..., out=...) -> (exit code, stderr) of the command."

    def go(*options, image=files['me'], out=tmp_path / 'o.mp4'):
        args = ['animate', image, files['wav'], '-o', out, '--weights', files['weights']]
        args += ['--device', 'cpu', '--phonemes', files['phonemes'], '--pose', 'still', *options]
        capsys.readouterr()
        return main([str(a) for a in args]), capsys.readouterr().err

    go.out = tmp_path / 'o.mp4'
    return go


# ---- portraits


@pytest.mark.parametrize('side', [64, 512, 2000, 8000])
def test_sizes_of_the_portrait(animator, files, side):
    clip = speak(animator, files, files['image'].resize((side, side), Image.LANCZOS))
    height, width = clip.frames.shape[1:3]
    assert height % 2 == width % 2 == 0
    assert min(side, 256) <= max(height, width) <= min(max(side, 256), 1280)


@pytest.mark.parametrize('corner', [(0, 0), (540, 340)])
def test_face_at_the_border(animator, files, corner):
    picture = Image.new('RGB', (900, 700), (90, 110, 130))
    picture.paste(files['image'].resize((360, 360)), corner)
    clip = speak(animator, files, picture, frame='full')
    assert clip.frames.shape[1:] == (700, 900, 3)
    square = speak(animator, files, picture, frame='face')
    assert square.frames.shape[1] == square.frames.shape[2]


def test_the_larger_of_two_faces_speaks(animator, files):
    picture = Image.new('RGB', (920, 520), (120, 130, 120))
    picture.paste(files['image'], (0, 4))
    picture.paste(files['image'].resize((300, 300)), (600, 20))
    with pytest.warns(UserWarning, match='2 faces; the largest'):
        portrait = animator.portrait(picture)
    assert portrait.box[0] < 512


@pytest.mark.parametrize('yaw,warned', [(50, True), (-60, True), (30, False)])
def test_profiles_are_tried_with_a_warning(
    animator, files, monkeypatch, tmp_path, recwarn, yaw, warned
):
    "No picture that may be shared shows a profile: the detector says that this one is."
    table = tmp_path / 'pose.csv'
    table.write_text(f'{",".join(POSE_COLUMNS)}\n0,{np.radians(yaw)},0,0,0,320\n')
    monkeypatch.setattr('talkface.animate.analyze', partial(analyze, csv=table))
    portrait = animator.portrait(files['image'])
    assert np.isfinite(portrait.pose).all()
    told = [str(w.message) for w in recwarn if 'turned by' in str(w.message)]
    assert bool(told) == warned
    assert not warned or f'turned by {abs(yaw)} degrees' in told[0]


PORTRAITS = Path(__file__).resolve().parents[2] / '../shared/data/portraits'
PEOPLE = {
    'glasses': '3DDFA_V2__JianzhuGuo.jpg',
    'more glasses': 'openface__clapton-2.jpg',
    'beard': 'sber-swap__source4.jpg',
    'dark beard': 'stargan-v2__156498.jpg',
    'open mouth': 'DECA__image02673.jpg',
    'teeth': 'ATVGnet__tcd00002.jpg',
}


@pytest.fixture(scope='module')
def shipped():
    return Animator.from_pretrained(device='cpu')


@pytest.mark.parametrize('kind', PEOPLE)
def test_people(shipped, files, kind):
    "Found, articulated within bounds, drawn: the mouth moves, the greater part does not."
    path = PORTRAITS / PEOPLE[kind]
    if not path.is_file():
        pytest.skip(f'{path.name} is not at hand')
    portrait = shipped.portrait(path)
    assert 0.7 <= portrait.gain <= 1.9
    clip = shipped(portrait, toy.speech(0.3), phonemes=files['phonemes'], pose='still')
    moved = abs(clip.frames.astype(int) - clip.frames[:1]).max((0, 3))
    assert moved.max() > 20
    assert (moved > 8).mean() < 0.5


def test_far_from_the_face_nothing_moves(animator, files, wide):
    clip = speak(animator, files, wide, frame='full')
    assert (clip.frames[:, :20, :20] == np.asarray(wide)[:20, :20]).all()


# ---- options


@pytest.mark.parametrize('frame,shape', [('full', (700, 900)), ('auto', (700, 900))])
def test_whole_picture(run, wide, tmp_path, frame, shape):
    wide.save(tmp_path / 'wide.png')
    code, err = run('--frame', frame, image=tmp_path / 'wide.png')
    assert code == 0, err
    assert read_clip(run.out).frames.shape[1:3] == shape


def test_frame_of_the_face(run, animator, wide, tmp_path):
    wide.save(tmp_path / 'wide.png')
    assert run('--frame', 'face', image=tmp_path / 'wide.png')[0] == 0
    side = face_side(animator.portrait(wide).box)
    assert read_clip(run.out).frames.shape[1:3] == (side, side)


def test_size(run):
    assert run('--size', 1024, '--frame', 'face')[0] == 0
    assert read_clip(run.out).frames.shape[1:3] == (1024, 1024)


def test_articulation(files, animator):
    louder = Animator.from_pretrained(files['weights'], 'cpu', articulation=2.0, fast=False)
    given = dict(phonemes=files['phonemes'], pose='still')
    moved = []
    for a in (animator, louder):
        portrait = a.portrait(files['image'])
        kp = a.motion(portrait, toy.speech(0.3), **given).kp
        moved.append((kp.value - portrait.kp.value).norm())
    assert moved[1] > 1.5 * moved[0]


@pytest.mark.parametrize('option', ['auto', '0', '1.5'])
def test_articulation_of_the_command(run, option):
    assert run('--articulation', option, '--size', 64)[0] == 0


@pytest.mark.parametrize(
    'options,words',
    [
        (['--articulation', 'loud'], 'or a number from 0 to 5'),
        (['--articulation', '7'], '0 to 5'),
        (['--motion', '-1'], '0 to 5'),
        (['--size', '5000'], 'not sensible'),
        (['--system', 'nobody'], 'no system'),
        (['--system', 'linear'], 'has no linear'),
    ],
)
def test_options_refused(run, options, words):
    code, err = run(*options)
    assert code == 2 and words in err and len(err.strip().splitlines()) == 1
    assert not run.out.exists()


def test_motion_scales_the_head(animator, files):
    portrait = animator.portrait(files['image'])
    features = animator.speech(portrait, toy.speech(0.6), phonemes=files['phonemes']).features
    once, twice = (animator.poses(portrait, features, amplitude=a) for a in (1.0, 2.0))
    assert np.allclose(twice - portrait.pose, 2 * (once - portrait.pose))
    still = animator.poses(portrait, features, amplitude=0.0)
    assert np.allclose(still, portrait.pose)


def test_blinks(files):
    "With the bundled weights: random ones draw a face without eyes."
    animator = Animator.from_pretrained(device='cpu')
    portrait = animator.portrait(files['image'])
    if portrait.points is None:
        pytest.skip('this face detector gives no landmarks')
    kp = portrait.kp.expand(80)
    off, on = (
        np.stack(list(animator.shown_frames(portrait, kp, 128, blinks=b))).astype(int)
        for b in (False, True)
    )
    changed = abs(on - off).max((1, 2, 3)) > 8
    assert (off == off[:1]).all() and 3 <= changed.sum() < 40
    again = np.stack(list(animator.shown_frames(portrait, kp, 128, blinks=True)))
    assert (again == on).all()


def test_output_that_is_an_input(run, files, tmp_path):
    run('--size', 64)
    before = run.out.read_bytes()
    for options in (['--pose', run.out], ['--phonemes', run.out], ['--text', run.out]):
        code, err = run(*options, '--size', 64)
        assert code == 2 and 'input as well as the output' in err
    code, err = run(image=run.out)
    assert code == 2 and 'input as well as the output' in err
    assert run.out.read_bytes() == before
