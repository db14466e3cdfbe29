"Pictures without a face, with two, broken models and tables: one sentence each."

import os
import numpy as np
import pytest
from talkface.core import TalkfaceError, asset
from talkface.media import read_image
from talkface import faces

MODEL = os.environ.get('TALKFACE_FACE_MODEL')
BACKENDS = ['haar'] + (['mediapipe'] if MODEL else [])


@pytest.fixture(scope='module')
def portrait():
    return read_image(asset('portrait.png'))


def sentence(e):
    s = str(e.value)
    assert '\n' not in s and len(s) < 300 and 'Traceback' not in s
    return s


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize(
    'picture',
    [
        np.full((200, 300, 3), 128, np.uint8),
        np.zeros((64, 64, 3), np.uint8),
        np.random.default_rng(0).integers(0, 255, (400, 400, 3)).astype(np.uint8),
    ],
)
def test_no_face(backend, picture):
    with pytest.raises(TalkfaceError) as e:
        faces.analyze(picture, backend=backend)
    assert 'no face was found' in sentence(e) and f'{picture.shape[1]}x{picture.shape[0]}' in str(
        e.value
    )


@pytest.mark.parametrize('backend', BACKENDS)
def test_several_faces(backend, portrait):
    two = np.concatenate([portrait[90:450, 90:420]] * 2, 1)
    with pytest.raises(TalkfaceError) as e:
        faces.analyze(two, backend=backend)
    assert '2 faces' in sentence(e)
    clip = np.stack([two] * 6)
    with pytest.raises(TalkfaceError) as e:
        faces.analyze(clip, backend=backend)
    assert '2 faces' in sentence(e) and 'the clip' in str(e.value)


@pytest.mark.parametrize('backend', BACKENDS)
def test_main_face_of_two(backend, portrait):
    import cv2

    scene = np.full((512, 900, 3), 90, np.uint8)
    scene[:, :512] = portrait
    scene[150:350, 650:850] = cv2.resize(portrait, (200, 200), interpolation=cv2.INTER_AREA)
    t = faces.analyze(scene, backend=backend)
    assert t.n_faces[0] >= 1 and t.box[0, 2] < 512


@pytest.mark.parametrize('backend', BACKENDS)
def test_empty_clip(backend):
    with pytest.raises(TalkfaceError) as e:
        faces.analyze(iter(()), backend=backend)
    assert 'no frames' in sentence(e)


@pytest.mark.parametrize('backend', BACKENDS)
def test_face_that_goes_away(backend, portrait):
    clip = np.stack([portrait] * 10 + [np.zeros_like(portrait)] * 10 + [portrait] * 10)
    t = faces.analyze(clip, backend=backend)
    assert len(t) == 30 and t.ok[:9].all() and t.ok[-5:].all() and np.isfinite(t.box).all()
    if backend == 'mediapipe':
        assert not t.ok[10:20].any()


@pytest.mark.parametrize(
    'wrong',
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((64, 64, 4), np.uint8),
        np.zeros((64, 64, 3), np.float32),
        np.zeros((2, 2, 64, 64, 3), np.uint8),
    ],
)
def test_wrong_arrays(wrong):
    with pytest.raises(TalkfaceError) as e:
        faces.analyze(wrong, backend='haar')
    sentence(e)


def test_model_that_is_not_there(portrait, monkeypatch, tmp_path):
    with pytest.raises(TalkfaceError) as e:
        faces.analyze(portrait, model=tmp_path / 'none.task')
    assert 'none.task' in sentence(e)
    monkeypatch.setenv('TALKFACE_FACE_MODEL', str(tmp_path / 'gone.task'))
    with pytest.raises(TalkfaceError) as e:
        faces.analyze(portrait)
    assert 'gone.task' in sentence(e)


def test_broken_model_file(portrait, tmp_path):
    stub = tmp_path / 'stub.task'
    stub.write_bytes(b'version https://git-lfs.github.com/spec/v1\n')
    with pytest.raises(TalkfaceError) as e:
        faces.analyze(portrait, model=stub)
    assert 'stub.task' in sentence(e) and 'damaged' in str(e.value)
    import zipfile

    fake = tmp_path / 'fake.task'
    with zipfile.ZipFile(fake, 'w') as z:
        z.writestr('face_detector.tflite', b'x' * 100)
    with pytest.raises(TalkfaceError) as e:
        faces.analyze(portrait, model=fake)
    assert 'fake.task' in sentence(e)


def test_damaged_cache(portrait, monkeypatch, tmp_path):
    monkeypatch.delenv('TALKFACE_FACE_MODEL', raising=False)
    monkeypatch.setenv('TALKFACE_CACHE', str(tmp_path))
    (tmp_path / 'face_landmarker.task').write_bytes(b'x' * 1000)
    with pytest.raises(TalkfaceError) as e:
        faces.analyze(portrait)
    assert 'delete it' in sentence(e)


def test_no_model_falls_back(portrait, monkeypatch, tmp_path):
    monkeypatch.delenv('TALKFACE_FACE_MODEL', raising=False)
    monkeypatch.setenv('TALKFACE_CACHE', str(tmp_path))
    t = faces.analyze(portrait)
    assert t.backend == 'haar' and t.pose.shape == (1, 6)
    with pytest.raises(TalkfaceError) as e:
        faces.analyze(portrait, backend='mediapipe')
    assert 'download_face_model' in sentence(e)


@pytest.mark.parametrize(
    'text,says',
    [
        ('', 'no column'),
        ('frame,x_0\n1,2\n', 'no column pose_Rx'),
        ('pose_Rx,pose_Ry,pose_Rz,pose_Tx,pose_Ty,pose_Tz\n', 'no rows'),
        ('pose_Rx,pose_Ry,pose_Rz,pose_Tx,pose_Ty,pose_Tz\n1,2,3,x,5,6\n', 'no number'),
        ('pose_Rx,pose_Ry,pose_Rz,pose_Tx,pose_Ty,pose_Tz\n1,2,3\n', 'cut off'),
        (
            'success, pose_Rx, pose_Ry, pose_Rz, pose_Tx, pose_Ty, pose_Tz\n0, 0,0,0,0,0,0\n',
            'no successful row',
        ),
    ],
)
def test_wrong_tables(portrait, tmp_path, text, says):
    p = tmp_path / 'face.csv'
    p.write_text(text)
    with pytest.raises(TalkfaceError) as e:
        faces.analyze(portrait, csv=p)
    assert says in sentence(e) and 'face.csv' in str(e.value)


def test_table_that_is_binary_or_missing(portrait, tmp_path):
    (tmp_path / 'b.csv').write_bytes(bytes(range(256)) * 4)
    for n in ('b.csv', 'none.csv'):
        with pytest.raises(TalkfaceError) as e:
            faces.analyze(portrait, csv=tmp_path / n)
        assert n in sentence(e)


def test_pose_only_table(portrait, tmp_path):
    for sep in (',', ', '):
        p = tmp_path / 'pose.csv'
        p.write_text(
            sep.join(
                [
                    'frame',
                    'face_id',
                    'timestamp',
                    'confidence',
                    'success',
                    'pose_Tx',
                    'pose_Ty',
                    'pose_Tz',
                    'pose_Rx',
                    'pose_Ry',
                    'pose_Rz',
                ]
            )
            + '\n'
            + '1, 0, 0, .98, 1, -2.7, 13.1, 321, .142, .018, .049\n'
        )
        t = faces.analyze(portrait, csv=p)
        assert (
            t.points.shape == (1, 68, 2)
            and abs(t.box[0, 0] - 158) < 15
            and abs(t.box[0, 3] - 382) < 20
        )


def test_wrong_boxes(portrait):
    for b, says in (
        ([0, 0, 0, 5], 'empty'),
        ([[0, 0, 5, 5]] * 3, '3 boxes'),
        ([0, 0, float('nan'), 5], 'empty'),
    ):
        with pytest.raises(TalkfaceError) as e:
            faces.analyze(portrait, boxes=b)
        assert says in sentence(e)


def test_the_other_detector_is_asked(portrait, monkeypatch):
    "MediaPipe sees nothing: with 'auto' Haar is asked, for pictures, clips and one-pass iterators."
    if not MODEL:
        pytest.skip('no MediaPipe model')
    nothing = np.zeros((0, 478, 3), np.float32), np.zeros((0, 3, 3))
    monkeypatch.setattr(faces, '_meshes', lambda *a, **k: nothing)
    assert faces.analyze(portrait).backend == 'haar'
    clip = np.stack([portrait] * 4)
    for frames in (clip, iter(clip)):
        t = faces.analyze(frames)
        assert t.backend == 'haar' and len(t) == 4 and t.ok.all()
    with pytest.raises(TalkfaceError, match='no face was found'):
        faces.analyze(portrait, backend='mediapipe')


def test_a_late_face_is_followed_by_mediapipe(portrait):
    if not MODEL:
        pytest.skip('no MediaPipe model')
    t = faces.analyze(np.stack([np.full_like(portrait, 90)] * 3 + [portrait] * 5))
    assert t.backend == 'mediapipe' and list(t.ok) == [False] * 3 + [True] * 5


@pytest.mark.parametrize('backend', BACKENDS)
def test_the_larger_of_two(backend, portrait):
    import cv2

    small = cv2.resize(portrait[60:480, 60:480], (360, 360), interpolation=cv2.INTER_AREA)
    two = np.full((420, 800, 3), 120, np.uint8)
    two[:, :420] = portrait[60:480, 60:480]
    two[:360, 430:790] = small
    with pytest.raises(TalkfaceError, match='2 faces'):
        faces.analyze(two, backend=backend)
    with pytest.warns(UserWarning, match='2 faces .* the larger one is taken'):
        t = faces.analyze(two, backend=backend, several='largest')
    assert t.box[0, 2] < 420


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('side', [64, 8000])
def test_portraits_of_any_size(backend, side, portrait):
    import cv2

    how = cv2.INTER_AREA if side < 512 else cv2.INTER_CUBIC
    big = cv2.resize(portrait, (side, side), interpolation=how)
    a = faces.analyze(big, backend=backend).box[0] / side
    b = faces.analyze(portrait, backend=backend).box[0] / 512
    assert np.abs(a - b).max() < 0.05


@pytest.mark.parametrize('backend', BACKENDS)
def test_faces_at_the_border(backend, portrait):
    cut = portrait[:, 170:]  # the face begins 10 px from the edge
    t = faces.analyze(cut, backend=backend)
    box = faces.clip_box(t)
    assert faces.crop(cut, box, 128).shape == (128, 128, 3)
    whole = faces.analyze(portrait, backend=backend)
    assert np.abs(t.box[0] + [170, 0, 170, 0] - whole.box[0]).max() < 40


@pytest.mark.parametrize('yaw,warned', [(0.9, True), (-0.9, True), (0.5, False)])
def test_turned_heads(yaw, warned, portrait, tmp_path, recwarn):
    p = tmp_path / 'pose.csv'
    p.write_text(f'{",".join(faces.POSE_COLUMNS)}\n0,{yaw},0,0,0,320\n')
    faces.analyze(portrait, csv=p)
    told = [str(w.message) for w in recwarn if 'turned by' in str(w.message)]
    assert bool(told) == warned
    assert not warned or 'turned by 52 degrees' in told[0]


def test_no_home_to_write_to(portrait, monkeypatch, tmp_path):
    monkeypatch.delenv('TALKFACE_FACE_MODEL', raising=False)
    monkeypatch.setenv('TALKFACE_CACHE', str(tmp_path / 'file' / 'cache'))
    (tmp_path / 'file').write_text('not a folder')
    assert faces.analyze(portrait).backend == 'haar'
