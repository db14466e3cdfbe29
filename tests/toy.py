"A talkface of toy size with random weights, short sounds and phoneme files: what tests of the whole road need."
import json, wave
from pathlib import Path
import numpy as np

CONFIG = dict(size=64, preset='best', crop={'scale': 1.3},
    kp_detector=dict(block_expansion=4, max_features=16, num_blocks=2, scale_factor=1),
    generator=dict(block_expansion=4, max_features=16, num_bottleneck_blocks=1,
                   dense_motion_params=dict(block_expansion=4, max_features=16, num_blocks=2, scale_factor=.5)),
    ph2kp=dict(embedding_dim=64, d_model=16, nhead=2, num_layers=1, dim_feedforward=32, widths=(4, 4, 8, 8, 16), fr_channels=7),
    audio2pose=dict(width=4, hidden=16, layers=(1, 1, 1, 1)))
NAMES = 'kp_detector', 'generator', 'ph2kp', 'audio2pose'

def networks(config=CONFIG, seed=0):
    "The four modules with random weights."
    from talkface.animate import build
    from talkface.core import preset, seed_everything
    import torch
    seed_everything(seed)
    nets = {n: build(n, config, preset('best')) for n in NAMES}
    for p in (nets['ph2kp'].jacobian.weight, nets['kp_detector'].jacobian.weight): torch.nn.init.normal_(p, 0, .02)   # zero in a fresh model
    return nets

def weights(path, config=CONFIG, speaker=False, half=False, **changes):
    "Random weights in our own layout."
    from talkface.core import save_checkpoint
    import torch
    states = dict(networks(config))
    if speaker: states['speaker'] = dict(feature_map=torch.rand(7, 64, 64), pose=torch.tensor([.1, .05, 0., 2., 10., 200.]))
    return save_checkpoint(path, states, {**config, **changes}, half=half)

def wav(path, x, rate=16000):
    "16-bit PCM of (n,) or (n, channels)."
    x = np.atleast_2d(np.asarray(x).T).T
    with wave.open(str(path), 'wb') as f:
        f.setnchannels(x.shape[1]); f.setsampwidth(2); f.setframerate(rate)
        f.writeframes((np.clip(x, -1, 1)*32767).astype('<i2').tobytes())
    return Path(path)

def speech(seconds=1., start=.5):
    "A piece of the bundled sentence, (n,) at 16 kHz."
    from talkface.core import asset
    from talkface.media import read_audio
    x = read_audio(asset('sentence.wav'))[0]
    return x[int(start*16000):int((start+seconds)*16000)]

def phonemes(path, seconds=1.):
    "Some phonemes that fill the time, in the authors' format."
    n, names = int(seconds*100), 'SIL HH AH L OW SIL W ER L D'.split()
    words = [dict(word='w', phones=[dict(ph=names[i % 10], bg=b, ed=min(b+9, n))]) for i, b in enumerate(range(0, n, 9))]
    Path(path).write_text(json.dumps(words))
    return Path(path)

def silence(path, seconds=1.):
    Path(path).write_text(json.dumps([dict(word='sil', phones=[dict(ph='SIL', bg=0, ed=int(seconds*100))])]))
    return Path(path)
