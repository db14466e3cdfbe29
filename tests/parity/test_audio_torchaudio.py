"Our filters beside torchaudio's, where torchaudio imports."

import numpy as np
import pytest
from talkface import audio_features as af

try:
    import torch
    import torchaudio
except Exception as e:
    pytest.skip(f'torchaudio does not import here: {e}', allow_module_level=True)


def test_cosine_transform():
    assert np.allclose(
        af.dct_matrix().numpy(),
        torchaudio.functional.create_dct(13, 26, 'ortho').T.double().numpy(),
        atol=1e-6,
    )


def test_mel_bank_is_torchaudios_up_to_rounded_corners():
    ours = af.mel_bank().numpy()
    ref = (
        torchaudio.functional.melscale_fbanks(
            257, 0.0, 8000.0, 26, 16000, norm=None, mel_scale='htk'
        )
        .T.double()
        .numpy()
    )
    k = np.arange(257)
    centre = lambda b: (b * k).sum(1) / b.sum(1)
    assert np.abs(centre(ours) - centre(ref)).max() < 1.5  # bins


@pytest.mark.parametrize('rate', [8000, 22050, 44100, 48000])
def test_resampling(rate):
    t = np.arange(rate) / rate
    x = sum(np.sin(2 * np.pi * f * t + f) for f in (110.0, 700.0, 1900.0, 3300.0))
    ref = torchaudio.functional.resample(
        torch.from_numpy(x), rate, 16000, lowpass_filter_width=64, rolloff=0.97
    ).numpy()
    got = af.resample(x, rate)
    n = min(len(ref), len(got))
    assert abs(len(ref) - len(got)) <= 1 and np.abs(got[:n] - ref[:n])[800:-800].max() < 5e-3
