"The bundled head motion: begins at the portrait's pose and stays around it for a minute."

import numpy as np
import pytest


@pytest.fixture(scope='module')
def minute():
    from talkface.core import asset
    from talkface.media import read_audio
    from talkface.audio_features import acoustic_features

    f = acoustic_features(*read_audio(asset('sentence.wav')))
    return np.concatenate([f] * (1500 // len(f) + 1))[:1500]


@pytest.fixture(scope='module')
def net():
    from talkface.core import load_checkpoint, load_into, weights_path
    from talkface.head_motion import HeadMotionPredictor

    ck = load_checkpoint(weights_path('talkface-compact.safetensors'))
    m = HeadMotionPredictor(**ck.config['audio2pose'])
    load_into(m, ck['audio2pose'], 'audio2pose')
    return m.eval()


@pytest.mark.parametrize('first', [(0.1, -0.05, 0, 5, 10, 192), (0.2, 0.25, -0.1, -15, 22, 240)])
def test_a_minute_around_the_portrait(net, minute, first):
    from talkface.head_motion import predict_poses, POSE_UNITS

    first = np.array(first)
    p = predict_poses(net, minute, first, pose_lag=0)
    assert p.shape == (1500, 6) and (p[0] == first).all()
    ends = np.abs(p[-250:].mean(0) - p[:250].mean(0)) * POSE_UNITS
    assert ends[:3].max() < 2 and ends[3:].max() < 5, f'drifts by {ends.round(2)} (degrees, mm)'
    steps = np.abs(np.diff(p, axis=0)).max(0) * POSE_UNITS
    assert steps[:3].max() < 3 and steps[3:].max() < 6, f'jumps by {steps.round(2)} in a frame'
    assert (p[25:].std(0) * POSE_UNITS)[:3].max() > 0.15, 'a nailed-down head'
    still = predict_poses(net, minute[:100], first, pose_lag=0, amplitude=0)
    assert (still == first).all()
