"Pose maps against the released program's, and pose conversion on a real clip's landmarks."

import os
from pathlib import Path
import numpy as np
import pytest
from talkface.faces import (
    BOX3D,
    MESH68,
    change_camera,
    crop_pose,
    clip_box,
    FaceTrack,
    fit_translation,
    matrix_to_euler,
    mouth_open,
    openface_camera,
    pose_map,
)

folder = os.environ.get('TALKFACE_FIXTURES')
pytestmark = pytest.mark.skipif(not folder, reason='TALKFACE_FIXTURES names no folder of fixtures')


@pytest.fixture
def maps(released):
    return released.load('pose_maps_cv5')


def test_points(maps):
    import cv2

    K = np.array([[233.333, 0, 128], [0, 233.333, 128], [0, 0, 1]])
    for p, want in zip(maps.inp['poses'].numpy(), maps.out['points_2d']):
        maps.check(cv2.projectPoints(BOX3D, p[:3], p[3:], K, None)[0][:, 0], want, 1e-3, 'points')


def test_maps(maps):
    got, want = pose_map(maps.inp['poses'].numpy()), maps.out['map256_01'].numpy()
    assert got.shape == (8, 1, 256, 256) and set(np.unique(got)) == {0, 255}
    maps.check((got[:, 0] / 255 != want).mean(), 0.0, 0.005, 'share of pixels that differ')


def test_blurred_map(maps):
    import torch
    from talkface.fomm import AntiAliasInterpolation2d

    got = AntiAliasInterpolation2d(1, 0.25)(torch.tensor(pose_map(maps.inp['poses'].numpy())))
    maps.check(got, maps.out['map64_from255'], 1e-2, 'blurred')


@pytest.fixture
def track():
    z = np.load(Path(folder) / 'metrics' / 'face_tracks_aoc.npz')
    mesh = z['task_landmarks'].astype(float) * 512
    flip = np.diag([1.0, -1, -1])
    R = flip @ z['task_matrix'][:, :3, :3].astype(float) @ flip
    return z, mesh, R


def test_68_points_lie_where_dlib_puts_them(track):
    z, mesh, _ = track
    d = np.linalg.norm(mesh[:, MESH68, :2] - z['dlib68_px'], axis=-1)
    eye = np.linalg.norm(
        z['dlib68_px'][:, 36:42].mean(1) - z['dlib68_px'][:, 42:48].mean(1), axis=-1
    ).mean()
    assert d[:, 17:].mean() < 0.05 * eye and d.mean() < 0.08 * eye


def test_mouth_open_agrees_with_dlib(track):
    z, mesh, _ = track
    assert np.corrcoef(mouth_open(mesh[:, MESH68, :2]), mouth_open(z['dlib68_px']))[0, 1] > 0.85


def test_pose_in_openface_range(track):
    _, mesh, R = track
    pts, cam = mesh[:, MESH68, :2], openface_camera((512, 512))
    mp = (256 / np.tan(np.radians(31.5)), 256, 256)
    pose = change_camera(R, fit_translation(R, pts, mp), pts, cam)
    assert (
        np.abs(pose[:, :3] - matrix_to_euler(R)).max() < 0.06
    )  # nearly the same camera, nearly the same angles
    assert (
        (np.abs(pose[:, :3]) < 0.6).all()
        and (np.abs(pose[:, 3:5]) < 128).all()
        and (128 < pose[:, 5]).all()
        and (pose[:, 5] < 384).all()
    )
    box = np.concatenate([mesh[..., :2].min(1), mesh[..., :2].max(1)], 1)
    t = FaceTrack(np.ones(len(pts), bool), box, pts, mesh, pose, (512, 512), 'fixture')
    c = crop_pose(t, clip_box(t))
    assert np.abs(c[:, 3]).mean() < 15 and 150 < c[:, 5].mean() < 230
