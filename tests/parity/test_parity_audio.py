"Audio features against numbers made by the authors' released code (folder in TALKFACE_FIXTURES)."

import json
import os
from pathlib import Path
import numpy as np
import pytest
from talkface import audio_features as af

root = os.environ.get('TALKFACE_FIXTURES')
pytestmark = pytest.mark.skipif(not root, reason='TALKFACE_FIXTURES is not set')


def load(name):
    from safetensors.numpy import load_file

    return load_file(str(Path(root) / f'{name}.safetensors'))


@pytest.mark.parametrize('name', ['audio_features_real', 'audio_features_synth'])
def test_mfcc_and_filter_bank(name):
    f = load(name)
    ref = f['out/features_rows']
    got = af.feature_rows(f['in/pcm_int16'], f0='yin')
    assert got.shape == ref.shape
    assert np.abs(got[:, :39] - ref[:, :39]).max() < 1e-6


@pytest.mark.parametrize('name', ['audio_features_real', 'audio_features_synth'])
def test_grouping(name):
    f = load(name)
    ref = f['out/features_T_4_41']
    got = af.acoustic_features(f['in/pcm_int16'], f0='yin')
    assert got.shape == ref.shape and got.dtype == np.float32
    assert np.abs(got[..., :39] - ref[..., :39]).max() < 1e-5  # both rounded to float32


@pytest.mark.skipif(not af.has_harvest(), reason='pyworld does not import here')
@pytest.mark.parametrize('name', ['audio_features_real', 'audio_features_synth'])
def test_harvest(name):
    f = load(name)
    pcm = f['in/pcm_int16']
    assert np.abs(af.feature_rows(pcm, f0='harvest') - f['out/features_rows']).max() < 1e-6
    if 'out/harvest_f0_raw' in f:
        assert np.abs(af.f0_harvest(af.level(af.mono(pcm))) - f['out/harvest_f0_raw']).max() < 1e-6


@pytest.mark.parametrize('name', ['audio_features_real', 'audio_features_synth'])
def test_own_pitch_against_harvest(name):
    "Another tracker: same voice most of the time, same pitch where both hear one."
    f = load(name)
    ref = f['out/features_rows']
    got = af.feature_rows(f['in/pcm_int16'], f0='yin')
    both = (got[:, 40] > 0) & (ref[:, 40] > 0)
    assert ((got[:, 40] > 0) == (ref[:, 40] > 0)).mean() > 0.8
    assert (np.abs(got[both, 39] / ref[both, 39] - 1) > 0.2).mean() < 0.06


def test_released_raw_harvest_gives_released_columns():
    f = load('audio_features_synth')
    ref = f['out/features_rows']
    got = af.feature_rows(f['in/pcm_int16'], f0=lambda x: f['out/harvest_f0_raw'])
    assert np.abs(got - ref).max() < 1e-6


def test_gap_filling():
    for c in json.loads((Path(root) / 'phonemes_pitch.json').read_text())['inter_pitch_cases']:
        f, v = af.fill_pitch(c['f0'])
        assert f.tolist() == c['out'] and v.tolist() == c['flag']
