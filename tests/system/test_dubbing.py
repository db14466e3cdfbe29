"Dubbing: what moves and what stays, films of any rate and length, films that are refused."

import numpy as np
import pytest
import torch
import toy
from PIL import Image

from talkface.animate import Animator
from talkface.cli import main
from talkface.core import TalkfaceError, asset
from talkface.dubbing import Film, follow_face, mouth_mask, play_order, redraw_mouth
from talkface.faces import read_openface
from talkface.fomm import KeyPoints
from talkface.head_pose import FaceTrack
from talkface.media import Clip, read_clip
from talkface.native import identity_field


def filmed(n=30, width=320, height=260, gone=()):
    "The bundled portrait, moving to the right in front of a wall; in some frames it is away."
    face = Image.open(asset('portrait.png')).convert('RGB').resize((220, 220))
    frames = []
    for t in range(n):
        wall = Image.new('RGB', (width, height), (90, 110, 130))
        if t not in gone:
            wall.paste(face, (20 + t, 20))
        frames.append(np.asarray(wall))
    return np.stack(frames)


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    d = tmp_path_factory.mktemp('dub')
    return dict(
        dir=d,
        weights=toy.weights(d / 'toy.safetensors', speaker=True),
        wav=toy.wav(d / 'a.wav', toy.speech(1.0)),
        phonemes=toy.phonemes(d / 'a.json', 1.0),
        film=Clip(filmed(), toy.speech(1.2)).save(d / 'film.mp4'),
    )


@pytest.fixture(scope='module')
def animator(files):
    return Animator.from_pretrained(files['weights'], 'cpu', fast=False)


@pytest.fixture
def run(files, tmp_path, capsys):
    "run(film, *options, out=...) -> (exit code, what was said); the output is alone in its folder."

    def go(film, *options, out=None):
        args = ['animate', '--video', film, files['wav'], '-o', out or go.out]
        args += ['--weights', files['weights'], '--phonemes', files['phonemes'], '--device', 'cpu']
        capsys.readouterr()
        return main([str(a) for a in [*args, *options]]), capsys.readouterr().err

    go.out = tmp_path / 'out' / 'o.mp4'
    return go


def refused(run, answer, *words):
    "One sentence with these words, exit code 2, and no video."
    code, err = answer
    said = [line for line in err.splitlines() if not line.startswith('talkface: note: ')]
    assert code == 2 and len(said) == 1, err
    assert all(word in said[0] for word in words), said
    assert not run.out.exists()


# ---- what changes and what stays


def test_size_length_and_sound(run, files):
    code, err = run(files['film'])
    assert code == 0, err
    clip = read_clip(run.out)
    assert clip.frames.shape == (25, 260, 320, 3) and clip.wav is not None
    assert 'film.mp4 is cut to the 1.0 s of the sound' in err


def test_nothing_but_the_mouth_changes(animator, files):
    film = animator.film(Clip(filmed()))
    said = animator.dubbed_motion(film, (toy.speech(1.0), 16000), phonemes=files['phonemes'])
    made = np.stack(list(animator.dubbed_frames(film, said)))
    changed = (made != filmed()[: len(made)]).any(-1)
    assert changed.any()
    for t, frame in enumerate(changed):
        rows, columns = np.nonzero(frame)
        left, top = film.boxes[t, :2] - film.boxes[t, 2] / 2
        side = film.boxes[t, 2]
        assert left <= columns.min() and columns.max() < left + side
        assert rows.min() > top + 0.45 * side and rows.max() < top + side


def test_batches_change_nothing(animator, files):
    film = animator.film(Clip(filmed(12)))
    said = animator.dubbed_motion(film, (toy.speech(0.4), 16000))
    one, five = (
        np.stack(list(animator.dubbed_frames(film, said, batch=b))).astype(int) for b in (1, 5)
    )
    assert abs(one - five).max() <= 1


def test_zero_mask_and_same_drawing_are_the_frame():
    frame = np.random.default_rng(0).integers(0, 255, (90, 120, 3)).astype(np.uint8)
    drawn = np.full((32, 32, 3), 200.0, np.float32), identity_field(16) + 0.2
    box = np.array([60.0, 40.0, 64.0])
    assert (redraw_mouth(frame, box, drawn, np.zeros((32, 32), np.float32)) == frame).all()
    mask = np.zeros((32, 32), np.float32)
    mask[12:20, 12:20] = 1
    changed = (redraw_mouth(frame, box, drawn, mask) != frame).any(-1)
    rows, columns = np.nonzero(changed)
    assert rows.min() > 8 + 20 and rows.max() < 8 + 44
    assert columns.min() > 28 + 20 and columns.max() < 28 + 44


def test_the_mask_turns_with_the_face():
    points = read_openface(asset('portrait_openface.csv'), (512, 512), 1).points[0, :, :2]
    middle = points.mean(0)
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])  # a quarter
    lying = (points - middle) @ turn + middle
    box = np.array([*middle, 400.0])
    standing, turned = mouth_mask(points, box, 64), mouth_mask(lying, box, 64)
    assert standing.max() == 1 and 0.02 < standing.mean() < 0.4
    assert min(abs(np.rot90(standing, k) - turned).max() for k in (1, 3)) < 0.2


def test_a_mouth_is_shut_by_what_the_film_teaches():
    "Keypoints that are head motion plus an opening along one direction: the opening goes."
    rng = np.random.default_rng(0)
    n = 120
    opening, poses = rng.uniform(0, 0.3, n), rng.normal(0, 1, (n, 6))
    direction, by_head = rng.normal(0, 1, 60), rng.normal(0, 0.1, (6, 60))
    numbers = opening[:, None] * direction + poses @ by_head
    value = numbers[:, :20].reshape(n, 10, 2)
    kp = KeyPoints(value, numbers[:, 20:].reshape(n, 10, 2, 2)).map(
        lambda x: torch.as_tensor(x).float()
    )
    film = Film(None, None, np.zeros((n, 3)), None, poses, kp, opening)
    assert np.corrcoef(film.mouth_motion(), direction)[0, 1] > 0.99
    left = film.shut().numbers().numpy() - poses @ by_head
    assert abs(left).mean() < 0.1 * abs(numbers - poses @ by_head).mean()


def test_the_square_follows_and_lies_on_whole_pixels():
    n = 40
    low = np.column_stack([np.arange(n) * 3.0 + 10, np.full(n, 20.0)])
    track = FaceTrack(np.ones(n, bool), np.hstack([low, low + [80, 100]]), size=(200, 300))
    boxes = follow_face(track)
    corners = boxes[:, :2] - boxes[:, 2:] / 2
    assert (corners == corners.round()).all() and (boxes[:, 2] == 130).all()
    assert abs(boxes[5:-5, 0] - (low[5:-5, 0] + 40)).max() <= 1


# ---- lengths and rates


def test_a_longer_sound_plays_the_film_back_and_forth(run, files, tmp_path):
    short = Clip(filmed(15)).save(tmp_path / 'short.mp4')
    code, err = run(short)
    assert code == 0 and 'short.mp4 is 0.4 s shorter than the sound' in err
    frames = read_clip(run.out).frames.astype(int)
    assert len(frames) == 25
    there, back = frames[10, :, :20], frames[18, :, :20]  # both show frame 10 of the film
    assert abs(there - back).mean() < 3


@pytest.mark.parametrize('fps', [30, 30000 / 1001, 50, 24])
def test_other_rates(run, tmp_path, fps):
    film = Clip(filmed(40), fps=fps).save(tmp_path / 'film.mp4')
    code, err = run(film)
    assert code == 0, err
    assert f'{fps:.4g} frames a second; it is dubbed at 25' in err
    assert abs(len(read_clip(run.out)) - 25) <= 1


def test_one_frame_is_enough(animator, files, tmp_path):
    film = Clip(filmed(1))
    with pytest.warns(UserWarning, match='played back and forth'):
        done = animator.dub(film, files['wav'], tmp_path / 'o.mp4', phonemes=files['phonemes'])
    assert done.n_frames == 25


def test_order():
    assert play_order(3, 7).tolist() == [0, 1, 2, 1, 0, 1, 2]


# ---- films that are refused


def test_no_face(run, tmp_path):
    wall = Clip(np.full((20, 120, 160, 3), 90, np.uint8)).save(tmp_path / 'wall.mp4')
    refused(run, run(wall), 'no face')


def test_a_face_that_is_lost(run, tmp_path):
    film = Clip(filmed(60, gone=range(5, 24))).save(tmp_path / 'lost.mp4')
    refused(run, run(film), 'lost.mp4', 'the face is lost from 0.2 to')


def test_a_short_gap_is_bridged(run, tmp_path):
    film = Clip(filmed(40, gone=range(12, 16))).save(tmp_path / 'gap.mp4')
    code, err = run(film)
    assert code == 0, err


def test_what_would_change_the_film(run, files):
    for option in (['--pose', 'still'], ['--motion', '2'], ['--size', '256'], ['--frame', 'face']):
        refused(run, run(files['film'], *option), option[0], 'leave')
    refused(run, run(files['film'], '--blinks', 'off'), '--blinks')


def test_a_picture_beside_the_film(files, capsys):
    given = ['animate', '--video', files['film'], asset('portrait.png'), files['wav']]
    assert main([str(a) for a in given]) == 2
    assert 'portrait.png is in the place of --video' in capsys.readouterr().err


def test_films_that_are_none(run, files, tmp_path):
    refused(run, run(tmp_path / 'none.mp4'), 'no video file', 'none.mp4')
    refused(run, run(files['wav']), 'no pictures')
    (tmp_path / 'bad.mp4').write_text('no video')
    refused(run, run(tmp_path / 'bad.mp4'), 'bad.mp4')


def test_output_that_is_an_input(run, files):
    before = files['film'].read_bytes()
    for given in ('film', 'phonemes', 'weights'):
        out = files[given]
        code, err = run(files['film'], out=out)
        assert code == 2 and ('input as well' in err or 'does not end in' in err)
    assert files['film'].read_bytes() == before


def test_two_people(animator, tmp_path):
    wide = filmed(10, 420, 260)
    small = Image.fromarray(filmed(1)[0][20:240, 20:240]).resize((140, 140))
    wide[:, 20:160, 270:410] = np.asarray(small)
    with pytest.warns(UserWarning, match='2 faces; the largest is dubbed'):
        film = animator.film(Clip(wide))
    assert film.boxes[:, 0].max() < 200


def test_too_large_to_be_played_back(animator, monkeypatch):
    monkeypatch.setattr('talkface.dubbing.MAX_BYTES', 1000)
    film = animator.film(Clip(filmed(5)))
    said = animator.dubbed_motion(film, (toy.speech(0.6), 16000))
    with pytest.raises(TalkfaceError, match='too large to be played back'):
        next(animator.dubbed_frames(film, said))
