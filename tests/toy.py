"A talkface of toy size: random weights, sounds, phoneme files (the speaker is `talkface.toy`)."

import wave
from pathlib import Path

import numpy as np

from talkface.phonemes import PhonemeTimeline, Segment
from talkface.toy import TOY_WEIGHTS as CONFIG
from talkface.toy import toy_phonemes
from talkface.toy import toy_speech as speech  # noqa: F401

NAMES = 'kp_detector', 'generator', 'ph2kp', 'audio2pose'


def networks(config=CONFIG, seed=0):
    "The four modules with random weights."
    import torch

    from talkface.animate import build
    from talkface.core import preset, seed_everything

    seed_everything(seed)
    nets = {n: build(n, config, preset('best')) for n in NAMES}
    for p in (nets['ph2kp'].jacobian.weight, nets['kp_detector'].jacobian.weight):
        torch.nn.init.normal_(p, 0, 0.02)  # zero in a fresh model
    return nets


def weights(path, config=CONFIG, speaker=False, half=False, **changes):
    "Random weights in our own layout."
    import torch

    from talkface.core import save_checkpoint

    states = dict(networks(config))
    if speaker:
        pose = torch.tensor([0.1, 0.05, 0.0, 2.0, 10.0, 200.0])
        states['speaker'] = dict(feature_map=torch.rand(7, 64, 64), pose=pose)
    return save_checkpoint(path, states, {**config, **changes}, half=half)


def wav(path, x, rate=16000):
    "16-bit PCM of (n,) or (n, channels)."
    x = np.atleast_2d(np.asarray(x).T).T
    with wave.open(str(path), 'wb') as f:
        f.setnchannels(x.shape[1])
        f.setsampwidth(2)
        f.setframerate(rate)
        f.writeframes((np.clip(x, -1, 1) * 32767).astype('<i2').tobytes())
    return Path(path)


def phonemes(path, seconds=1.0):
    "Some phonemes that fill the time, as a file."
    toy_phonemes(seconds).save(path)
    return Path(path)


def silence(path, seconds=1.0):
    "Nobody speaks, as a file."
    PhonemeTimeline([Segment('SIL', 0.0, seconds)], source='given').save(path)
    return Path(path)
