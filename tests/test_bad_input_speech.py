"Sounds and texts as people really bring them: the right result, or one clear sentence."
import warnings
import numpy as np, pytest
from talkface.core import TalkfaceError, asset
from talkface.media import read_audio
from talkface.audio_features import acoustic_features, feature_rows, resample
from talkface.phonemes import PHONES, PhonemeTimeline, phonemes_for, read_transcript, recognize

@pytest.fixture(scope='module')
def wav(): return read_audio(asset('sentence.wav'))[0]

@pytest.fixture(scope='module')
def text(): return asset('sentence.txt').read_text()

@pytest.fixture(scope='module')
def own(wav, text): return recognize(wav, 16000, text)

def one_sentence(f, *words):
    with pytest.raises(TalkfaceError) as e: f()
    m = str(e.value)
    assert '\n' not in m and 20 < len(m) < 400
    for w in words: assert w in m, m

def features_ok(a): assert a.ndim == 3 and a.shape[1:] == (4, 41) and a.dtype == np.float32 and np.isfinite(a).all()

def test_empty():
    one_sentence(lambda: acoustic_features(np.zeros(0)), 'empty')
    one_sentence(lambda: recognize(np.zeros(0), 16000, 'hello'), 'empty')

def test_ten_milliseconds():
    one_sentence(lambda: acoustic_features(np.ones(160)*.1), '10 ms')
    t = recognize(np.random.default_rng(0).standard_normal(160)*.1)
    assert [s.label for s in t] == ['SIL'] and t.duration == pytest.approx(.01)

@pytest.mark.parametrize('n', [1, 2, 399, 400, 401, 799, 800, 1599, 1601, 2400])
def test_short(n):
    x = np.random.default_rng(0).standard_normal(n)*.1
    assert recognize(x).duration == pytest.approx(n/16000, abs=1e-5)
    assert len(feature_rows(x, f0='yin')) == min(1 + max(0, -(-(n-400)//160)), n//160 + 1)

@pytest.mark.parametrize('level', [0, 1e-7])
def test_silence(level):
    x = level*np.sign(np.sin(np.arange(32000)))
    features_ok(acoustic_features(x, f0='yin'))
    t = recognize(x); assert {s.label for s in t} == {'SIL'} and t.duration == pytest.approx(2)
    one_sentence(lambda: recognize(x, text='hello there', method='align'), 'silent')
    with pytest.warns(UserWarning, match='silent'): assert {s.label for s in recognize(x, text='hello there')} == {'SIL'}

def test_digital_silence_inside_speech_is_silence(wav, text, own):
    x = np.concatenate([wav, np.zeros(32000, np.float32)])
    t = recognize(x, 16000, text); assert (t.labels(int(t.duration*25))[-45:] == PHONES.index('SIL')).all()

@pytest.mark.parametrize('layout', ['samples first', 'channels first', 'one silent channel'])
def test_stereo(wav, text, own, layout):
    x = np.stack([wav, wav], 1)
    if layout == 'channels first': x = x.T
    if layout == 'one silent channel': x = np.stack([wav, 0*wav], 1)
    assert np.allclose(acoustic_features(x, f0='yin')[..., :39], acoustic_features(wav, f0='yin')[..., :39], atol=1e-3)
    assert (recognize(x, 16000, text).labels(140) == own.labels(140)).mean() > .9

@pytest.mark.parametrize('rate', [8000, 11025, 22050, 44100, 48000, 96000])
def test_other_rates(wav, text, own, rate):
    x = resample(wav, 16000, rate); a, b = acoustic_features(x, rate, f0='yin'), acoustic_features(wav, f0='yin')
    features_ok(a); assert abs(len(a) - len(b)) <= 1
    with warnings.catch_warnings():
        warnings.simplefilter('ignore'); t = recognize(x, rate, text)       # half of the band is missing at 8 kHz: a warning is allowed there
    assert t.duration == pytest.approx(len(wav)/16000, abs=2e-3)
    assert (t.labels(140) == own.labels(140)).mean() > (.25 if rate < 12000 else .9)

def test_wrong_rates(wav): one_sentence(lambda: acoustic_features(wav, 0), 'Hz')

def test_clipped(wav, text, own):
    x = np.clip(wav*8, -.99, .99); features_ok(acoustic_features(x, f0='yin'))
    assert (recognize(x, 16000, text).labels(140) == own.labels(140)).mean() > .7

def test_integers(wav, text, own):
    x = np.clip(np.rint(wav*32767), -32768, 32767).astype(np.int16)
    assert np.allclose(acoustic_features(x, f0='yin')[..., :39], acoustic_features(wav, f0='yin')[..., :39], atol=.05)
    assert (recognize(x, 16000, text).labels(140) == own.labels(140)).mean() > .9

def test_not_a_number(wav):
    x = wav.copy(); x[100] = np.nan
    one_sentence(lambda: acoustic_features(x), '1 sample'); one_sentence(lambda: recognize(x), '1 sample')

def test_not_sound(): one_sentence(lambda: acoustic_features(np.zeros((2, 3, 4))), '(2, 3, 4)')

def test_text_file_named_wav(tmp_path):
    p = tmp_path/'speech.wav'; p.write_text('I am no sound at all.\n'*50)
    one_sentence(lambda: read_audio(p), 'speech.wav')

WRONG = 'The quick brown fox jumps over the lazy dog.'

def test_text_that_does_not_match(wav, own):
    one_sentence(lambda: recognize(wav, 16000, WRONG, 'align'), 'does not match')
    with pytest.warns(UserWarning, match='does not match'): t = recognize(wav, 16000, WRONG)
    assert t.source in ('words', 'allphone') and t.duration == pytest.approx(own.duration)

def test_half_of_the_text(wav, text): one_sentence(lambda: recognize(wav, 16000, ' '.join(text.split()[:8]), 'align'), 'does not match')

def test_far_too_much_text(wav, text): one_sentence(lambda: recognize(wav, 16000, text*6, 'align'), 'does not match')

def test_text_without_words(wav):
    one_sentence(lambda: recognize(wav, 16000, ' ... ?! ', 'align'), 'at least one word')
    assert recognize(wav[:16000], 16000, ' ... ').duration == pytest.approx(1)

def test_unknown_word_is_named(wav): one_sentence(lambda: recognize(wav, 16000, 'please bring мама a big bowl'), "'мама'", 'lexicon')

def test_own_lexicon(wav, text, own):
    t = recognize(wav, 16000, text.replace('plum', 'plxqm'), lexicon={'plxqm': 'P L AH M'})
    assert t.labels(140).tolist() == own.labels(140).tolist()

def test_lexicon_beats_the_dictionary(wav, text):
    t = recognize(wav, 16000, text, lexicon={'plum': 'B L AA M'}); assert [s.label for s in t if s.word == 'plum'] == 'B L AA M'.split()
    t = recognize(wav, 16000, text); assert [s.label for s in t if s.word == 'plum'] == 'P L AH M'.split()

def test_same_sound_same_phones_whatever_came_before(wav, text, own):
    recognize(np.random.default_rng(0).standard_normal(16000)*.1, method='allphone'); recognize(wav[20000:60000], 16000, 'bowl of warm plum jam')
    assert recognize(wav, 16000, text) == own

def test_decoder_survives_errors(wav, text, own):
    for bad in (lambda: recognize(np.zeros(0)), lambda: recognize(wav, 16000, WRONG, 'align'), lambda: recognize(np.ones(10), text='a')):
        try: bad()
        except TalkfaceError: pass
    assert recognize(wav, 16000, text) == own

@pytest.mark.parametrize('name, content, words', [
    ('a.json', '{"no": "list"', ['a.json']), ('a.json', '[1, 2]', ['a.json']), ('a.TextGrid', 'hello', ['a.TextGrid']), ('a.TextGrid', 'File type = "ooTextFile"\nObject class = "TextGrid"\n0\n1\n<exists>\n1\n"IntervalTier"\n"phones"\n0\n1\n4\n0\n', ['a.TextGrid', 'cut off']),
    ('a.ctm', 'a 1 zero 1 AA\n', ['Line 1']), ('a.align', '0 100\n', ['Line 1'])])
def test_damaged_files(tmp_path, name, content, words):
    p = tmp_path/name; p.write_text(content); one_sentence(lambda: read_transcript(p), *words)

def test_missing_file(tmp_path): one_sentence(lambda: PhonemeTimeline.load(tmp_path/'none.json'), 'none.json')

def test_transcript_kinds(tmp_path, wav, text, own):
    (tmp_path/'s.txt').write_bytes(text.encode('utf-16'))
    assert phonemes_for(wav, 16000, tmp_path/'s.txt') == own
    words = [(w, a, b) for w, a, b in own.words()]
    (tmp_path/'s.align').write_text('\n'.join(f'{round(a*25000)} {round(b*25000)} {w or "sil"}' for w, a, b in words))
    t = phonemes_for(wav, 16000, tmp_path/'s.align'); assert (t.labels(140) == own.labels(140)).mean() > .95
    own.save(tmp_path/'s.TextGrid'); assert phonemes_for(wav, 16000, tmp_path/'s.TextGrid').labels(140).tolist() == own.labels(140).tolist()
