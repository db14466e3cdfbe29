"A long sound with its text is aligned like a short one; a text that is not said is still refused."

import numpy as np
import pytest

pytest.importorskip('pocketsphinx')
from talkface.core import TalkfaceError, asset
from talkface.media import read_audio
from talkface.phonemes import plain_words, recognize


@pytest.fixture(scope='module')
def long():
    wav, sr = read_audio(asset('sentence.wav'))
    return np.tile(wav, 4), sr, ' '.join([asset('sentence.txt').read_text()] * 4), len(wav) / sr


def test_right_text(long):
    wav, sr, text, one = long
    t = recognize(wav, sr, text)
    said = [(w, a) for w, a, _ in t.words() if w]
    assert t.source == 'align' and [w for w, _ in said] == plain_words(text)
    n = len(said) // 4
    starts = np.array([a for _, a in said]).reshape(4, n) - one * np.arange(4)[:, None]
    assert np.median(np.abs(starts - starts[0])) < 0.03


@pytest.mark.parametrize(
    'words',
    [
        'the quick brown fox jumps over the lazy dog',
        ' '.join(['the quick brown fox jumps over the lazy dog'] * 8),
    ],
    ids=['short', 'long'],
)
def test_wrong_text(long, words):
    with pytest.raises(TalkfaceError, match='does not match'):
        recognize(long[0], long[1], words, method='align')
