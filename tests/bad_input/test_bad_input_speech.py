"Sounds and texts as people really bring them: the right result, or one clear sentence."

import json
import time
import warnings

import numpy as np
import pytest

from talkface.audio_features import acoustic_features, feature_rows, resample
from talkface.core import TalkfaceError, asset
from talkface.media import read_audio
from talkface.phonemes import phonemes_for, recognize
from talkface.timeline import PHONES, PhonemeTimeline, phone
from talkface.transcripts import plain_words, pronounce, read_transcript, spoken_text


@pytest.fixture(scope='module')
def wav():
    return read_audio(asset('sentence.wav'))[0]


@pytest.fixture(scope='module')
def text():
    return asset('sentence.txt').read_text()


@pytest.fixture(scope='module')
def own(wav, text):
    return recognize(wav, 16000, text)


def one_sentence(f, *words):
    with pytest.raises(TalkfaceError) as e:
        f()
    m = str(e.value)
    assert '\n' not in m and 20 < len(m) < 400
    for w in words:
        assert w in m, m


def features_ok(a):
    assert a.ndim == 3 and a.shape[1:] == (4, 41) and a.dtype == np.float32 and np.isfinite(a).all()


def test_empty():
    one_sentence(lambda: acoustic_features(np.zeros(0)), 'empty')
    one_sentence(lambda: recognize(np.zeros(0), 16000, 'hello'), 'empty')


def test_ten_milliseconds():
    one_sentence(lambda: acoustic_features(np.ones(160) * 0.1), '10 ms')
    t = recognize(np.random.default_rng(0).standard_normal(160) * 0.1)
    assert [s.label for s in t] == ['SIL'] and t.duration == pytest.approx(0.01)


@pytest.mark.parametrize('n', [1, 2, 399, 400, 401, 799, 800, 1599, 1601, 2400])
def test_short(n):
    x = np.random.default_rng(0).standard_normal(n) * 0.1
    assert recognize(x).duration == pytest.approx(n / 16000, abs=1e-5)
    assert len(feature_rows(x, f0='yin')) == min(1 + max(0, -(-(n - 400) // 160)), n // 160 + 1)


@pytest.mark.parametrize('level', [0, 1e-7])
def test_silence(level):
    x = level * np.sign(np.sin(np.arange(32000)))
    features_ok(acoustic_features(x, f0='yin'))
    t = recognize(x)
    assert {s.label for s in t} == {'SIL'} and t.duration == pytest.approx(2)
    one_sentence(lambda: recognize(x, text='hello there', method='align'), 'silent')
    with pytest.warns(UserWarning, match='silent'):
        assert {s.label for s in recognize(x, text='hello there')} == {'SIL'}


def test_digital_silence_inside_speech_is_silence(wav, text, own):
    x = np.concatenate([wav, np.zeros(32000, np.float32)])
    t = recognize(x, 16000, text)
    assert (t.labels(int(t.duration * 25))[-45:] == PHONES.index('SIL')).all()


@pytest.mark.parametrize('layout', ['samples first', 'channels first', 'one silent channel'])
def test_stereo(wav, text, own, layout):
    x = np.stack([wav, wav], 1)
    if layout == 'channels first':
        x = x.T
    if layout == 'one silent channel':
        x = np.stack([wav, 0 * wav], 1)
    assert np.allclose(
        acoustic_features(x, f0='yin')[..., :39],
        acoustic_features(wav, f0='yin')[..., :39],
        atol=1e-3,
    )
    assert (recognize(x, 16000, text).labels(140) == own.labels(140)).mean() > 0.9


@pytest.mark.parametrize('rate', [8000, 11025, 22050, 44100, 48000, 96000])
def test_other_rates(wav, text, own, rate):
    x = resample(wav, 16000, rate)
    a, b = acoustic_features(x, rate, f0='yin'), acoustic_features(wav, f0='yin')
    features_ok(a)
    assert abs(len(a) - len(b)) <= 1
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        t = recognize(
            x, rate, text
        )  # half of the band is missing at 8 kHz: a warning is allowed there
    assert t.duration == pytest.approx(len(wav) / 16000, abs=2e-3)
    assert (t.labels(140) == own.labels(140)).mean() > (0.25 if rate < 12000 else 0.9)


def test_wrong_rates(wav):
    one_sentence(lambda: acoustic_features(wav, 0), 'Hz')


def test_clipped(wav, text, own):
    x = np.clip(wav * 8, -0.99, 0.99)
    features_ok(acoustic_features(x, f0='yin'))
    assert (recognize(x, 16000, text).labels(140) == own.labels(140)).mean() > 0.7


def test_integers(wav, text, own):
    x = np.clip(np.rint(wav * 32767), -32768, 32767).astype(np.int16)
    assert np.allclose(
        acoustic_features(x, f0='yin')[..., :39],
        acoustic_features(wav, f0='yin')[..., :39],
        atol=0.05,
    )
    assert (recognize(x, 16000, text).labels(140) == own.labels(140)).mean() > 0.9


def test_not_a_number(wav):
    x = wav.copy()
    x[100] = np.nan
    one_sentence(lambda: acoustic_features(x), '1 sample')
    one_sentence(lambda: recognize(x), '1 sample')


def test_not_sound():
    one_sentence(lambda: acoustic_features(np.zeros((2, 3, 4))), '(2, 3, 4)')


def test_text_file_named_wav(tmp_path):
    p = tmp_path / 'speech.wav'
    p.write_text('I am no sound at all.\n' * 50)
    one_sentence(lambda: read_audio(p), 'speech.wav')


WRONG = 'The quick brown fox jumps over the lazy dog.'


def test_text_that_does_not_match(wav, own):
    one_sentence(lambda: recognize(wav, 16000, WRONG, 'align'), 'does not match')
    with pytest.warns(UserWarning, match='does not match'):
        t = recognize(wav, 16000, WRONG)
    assert t.source in ('words', 'allphone') and t.duration == pytest.approx(own.duration)


def test_half_of_the_text(wav, text):
    one_sentence(
        lambda: recognize(wav, 16000, ' '.join(text.split()[:8]), 'align'), 'does not match'
    )


def test_far_too_much_text(wav, text):
    one_sentence(lambda: recognize(wav, 16000, text * 6, 'align'), 'does not match')


def test_text_without_words(wav):
    one_sentence(lambda: recognize(wav, 16000, ' ... ?! ', 'align'), 'at least one word')
    assert recognize(wav[:16000], 16000, ' ... ').duration == pytest.approx(1)


def test_unknown_word_is_named(wav):
    one_sentence(lambda: recognize(wav, 16000, 'please bring мама a big bowl'), "'мама'", 'lexicon')


def test_own_lexicon(wav, text, own):
    t = recognize(wav, 16000, text.replace('plum', 'plxqm'), lexicon={'plxqm': 'P L AH M'})
    assert t.labels(140).tolist() == own.labels(140).tolist()


def test_lexicon_beats_the_dictionary(wav, text):
    t = recognize(wav, 16000, text, lexicon={'plum': 'B L AA M'})
    assert [s.label for s in t if s.word == 'plum'] == 'B L AA M'.split()
    t = recognize(wav, 16000, text)
    assert [s.label for s in t if s.word == 'plum'] == 'P L AH M'.split()


def test_same_sound_same_phones_whatever_came_before(wav, text, own):
    recognize(np.random.default_rng(0).standard_normal(16000) * 0.1, method='allphone')
    recognize(wav[20000:60000], 16000, 'bowl of warm plum jam')
    assert recognize(wav, 16000, text) == own


def test_decoder_survives_errors(wav, text, own):
    for bad in (
        lambda: recognize(np.zeros(0)),
        lambda: recognize(wav, 16000, WRONG, 'align'),
        lambda: recognize(np.ones(10), text='a'),
    ):
        try:
            bad()
        except TalkfaceError:
            pass
    assert recognize(wav, 16000, text) == own


@pytest.mark.parametrize(
    'name, content, words',
    [
        ('a.json', '{"no": "list"', ['a.json']),
        ('a.json', '[1, 2]', ['a.json']),
        ('a.TextGrid', 'hello', ['a.TextGrid']),
        (
            'a.TextGrid',
            'File type = "ooTextFile"\nObject class = "TextGrid"\n0\n1\n<exists>\n1\n'
            '"IntervalTier"\n"phones"\n0\n1\n4\n0\n',
            ['a.TextGrid', 'cut off'],
        ),
        ('a.ctm', 'a 1 zero 1 AA\n', ['line 1']),
        ('a.align', '0 100\n', ['line 1']),
    ],
)
def test_damaged_files(tmp_path, name, content, words):
    p = tmp_path / name
    p.write_text(content)
    one_sentence(lambda: read_transcript(p), *words)


def test_missing_file(tmp_path):
    one_sentence(lambda: PhonemeTimeline.load(tmp_path / 'none.json'), 'none.json')


def test_transcript_kinds(tmp_path, wav, text, own):
    (tmp_path / 's.txt').write_bytes(text.encode('utf-16'))
    assert phonemes_for(wav, 16000, tmp_path / 's.txt') == own
    words = [(w, a, b) for w, a, b in own.words()]
    (tmp_path / 's.align').write_text(
        '\n'.join(f'{round(a * 25000)} {round(b * 25000)} {w or "sil"}' for w, a, b in words)
    )
    t = phonemes_for(wav, 16000, tmp_path / 's.align')
    assert (t.labels(140) == own.labels(140)).mean() > 0.95
    own.save(tmp_path / 's.TextGrid')
    assert (
        phonemes_for(wav, 16000, tmp_path / 's.TextGrid').labels(140).tolist()
        == own.labels(140).tolist()
    )


def refused(read, path, *words):
    "A reader tells one sentence with the file's name."
    one_sentence(lambda: read(path), *words)


def one_phone(bg=0, ed=10, ph='AA', word='a'):
    "The authors' JSON of one phone."
    return [{'word': word, 'phones': [{'ph': ph, 'bg': bg, 'ed': ed}]}]


GRID = PhonemeTimeline([('B', 0, 0.2, 'bin'), ('IH', 0.2, 0.5, 'bin', False)]).to_textgrid(False)
FAR = '9' * 400


@pytest.mark.parametrize('ending', ['TextGrid', 'ctm', 'align', 'txt', 'json'])
@pytest.mark.parametrize('cut', [-1, -3])
def test_utf16_of_odd_length(tmp_path, ending, cut):
    p = tmp_path / f'odd.{ending}'
    p.write_bytes(GRID.encode('utf-16')[:cut])
    refused(read_transcript, p, p.name)


@pytest.mark.parametrize('ending', ['TextGrid', 'ctm', 'align', 'txt', 'json'])
def test_zero_bytes_in_a_text(tmp_path, ending):
    p = tmp_path / f'zero.{ending}'
    p.write_bytes(b'h\0llo, this is no text in any code')
    refused(read_transcript, p, p.name, 'not a text file')


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le', 'utf-16-be'])
def test_every_usual_code_is_read(tmp_path, encoding):
    p = tmp_path / 'a.TextGrid'
    p.write_bytes(GRID.encode(encoding))
    assert [s.label for s in read_transcript(p)] == ['B', 'IH']


def test_text_of_windows(tmp_path):
    p = tmp_path / 'a.txt'
    p.write_bytes('don’t stop, café'.encode('cp1252'))
    assert plain_words(read_transcript(p)) == ["don't", 'stop', 'cafe']


@pytest.mark.parametrize('text', ['[' * 100000, '[{"a":' * 50000, '[' * 500 + ']' * 500])
def test_nested_json(tmp_path, text):
    p = tmp_path / 'nested.json'
    p.write_text(text)
    refused(read_transcript, p, 'nested.json')


@pytest.mark.parametrize(
    'content',
    [
        one_phone(ed=10**400),
        one_phone(ed=10**200),
        one_phone(bg=20, ed=10),
        one_phone(bg=-20, ed=-10),
        one_phone(bg='soon'),
        one_phone(ed=None),
        one_phone(ph=['AA']),
        one_phone(word=7),
        [{'word': 'a'}],
        {'no': 'list'},
        [],
        7,
    ],
    ids=lambda c: str(c)[:40],
)
def test_impossible_json(tmp_path, content):
    p = tmp_path / 'a.json'
    p.write_text(json.dumps(content))
    refused(read_transcript, p, 'a.json')


@pytest.mark.parametrize('number', ['9' * 5000, 'NaN', 'Infinity', '1e400'])
def test_impossible_numbers_in_json(tmp_path, number):
    p = tmp_path / 'a.json'
    p.write_text(json.dumps(one_phone(ed=10)).replace('10', number))
    one_sentence(lambda: read_transcript(p))


@pytest.mark.parametrize(
    'line', [f'a 1 {FAR} 1 AA', f'a 1 0 {FAR} AA', 'a 1 nan 1 AA', 'a 1 1 -1 AA']
)
def test_impossible_times_in_ctm(tmp_path, line):
    p = tmp_path / 'a.ctm'
    p.write_text(line + '\n')
    refused(read_transcript, p, 'line 1', 'a.ctm')


@pytest.mark.parametrize(
    'line', [f'0 {FAR} bin', f'0 {"9" * 5000} bin', '9 5 bin', '-5 9 bin', '0 1e5 bin']
)
def test_impossible_times_in_align(tmp_path, line):
    p = tmp_path / 'a.align'
    p.write_text(line + '\n')
    refused(read_transcript, p, 'line 1', 'a.align')


@pytest.mark.parametrize(
    'old, new',
    [
        ('<exists>\n2', '<exists>\n1e999'),
        ('<exists>\n2', '<exists>\n-5'),
        ('<exists>\n2', '<exists>\n2.5'),
        ('<exists>\n2', '<exists>\n1e300'),
        ('0.5\n"IH"', FAR + '\n"IH"'),
        ('0.5\n"IH"', '-0.5\n"IH"'),
        ('"phones"', '7'),
        ('"IH"', '<IH>'),
    ],
)
def test_damaged_textgrid(tmp_path, old, new):
    assert old in GRID
    p = tmp_path / 'a.TextGrid'
    p.write_text(GRID.replace(old, new))
    one_sentence(lambda: read_transcript(p))


@pytest.mark.parametrize('ending', ['json', 'ctm', 'TextGrid'])
def test_file_without_phones(tmp_path, ending):
    p = tmp_path / f'empty.{ending}'
    PhonemeTimeline().save(p)
    refused(PhonemeTimeline.load, p, p.name, 'holds no phones')


@pytest.mark.parametrize('ending', ['json', 'ctm'])
def test_phones_that_are_not_in_order(tmp_path, own, ending):
    p = tmp_path / f'a.{ending}'
    own.save(p)
    want = PhonemeTimeline.load(p)
    if ending == 'json':
        p.write_text(json.dumps(json.loads(p.read_text())[::-1]))
    else:
        p.write_text('\n'.join(p.read_text().splitlines()[::-1]) + '\n')
    got = PhonemeTimeline.load(p)
    assert [(s.label, s.start, s.end) for s in got] == [(s.label, s.start, s.end) for s in want]


def test_names_of_a_file_are_no_html():
    evil = '<img src=x onerror=alert(1)>'
    grid = GRID.replace('"phones"', f'"{evil}phones"').replace('bin', evil)
    t = PhonemeTimeline.from_textgrid(grid)
    assert evil in t.source and t.words()[0][0] == evil
    assert '<img' not in t._repr_html_()


@pytest.mark.parametrize(
    'text, n',
    [
        ('9' * 5000, 5000),
        ('$' + '9' * 5000, 5001),
        ('9' * 5000 + 'th', 5000),
        ('9' * 5000 + 's', 5000),
        ('1.' + '9' * 5000 + '%', 5003),
        ('$1.' + '9' * 5000, 5003),
        ('0,123', 4),
        ('9,999,' * 500 + '999', None),
    ],
    ids=lambda v: str(v)[:8],
)
def test_numbers_of_5000_digits(tmp_path, text, n):
    p = tmp_path / 'a.txt'
    p.write_text(text)
    words = plain_words(read_transcript(p))
    assert n is None or len(words) == n
    assert not pronounce(words)  # all are in the dictionary


def test_text_or_file(tmp_path):
    p = tmp_path / 'my words.txt'
    p.write_text('good morning')
    assert spoken_text(str(p)) == 'good morning'
    for words in ('good evening', 'Read readme.txt aloud', 'and/or', 'U.S.A.', 'a. b.', 'w' * 5000):
        assert spoken_text(words) == words


@pytest.mark.parametrize('name', ['missing.txt', 'MISSING.TXT', 'x/missing.lab', 'x.TextGrid'])
def test_text_file_that_is_missing(name):
    one_sentence(lambda: spoken_text(name), name, 'no text file')


def test_text_file_that_is_missing_in_a_folder_with_a_space(tmp_path):
    one_sentence(lambda: spoken_text(str(tmp_path / 'my words.txt')), 'no text file')


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize(
    'text',
    ['9' * 10000 + 'x', '[' * 20000, 'a.' * 5000 + 'a', '<' * 20000, '"' * 9999, '_B' * 9999],
)
def test_long_nonsense_is_quick(tmp_path, text):
    "No regular expression of a reader takes more than linear time (or little more)."
    began = time.process_time()
    plain_words(text)
    phone(text)
    for name, content in {
        'a.ctm': f'a 1 0 1 {text}',
        'a.TextGrid': f'{GRID} {text}',
        'b.TextGrid': GRID.replace('"IH"', text),
        'a.align': f'0 1 {text}',
    }.items():
        (tmp_path / name).write_text(content)
        try:
            read_transcript(tmp_path / name)
        except TalkfaceError:
            pass
    assert time.process_time() - began < 5


SEEDS = {
    'a.TextGrid': GRID.encode(),
    'b.TextGrid': GRID.encode('utf-16'),
    'c.json': json.dumps(one_phone()).encode(),
    'd.ctm': b'a 1 0.0 0.2 AA\na 1 0.2 0.2 B 0.5\n',
    'e.align': b'0 5000 sil\n5000 9000 bin\n',
    'f.txt': b'Bin blue at F 2 now, 1984 or $3.50; 10:05.',
}


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', SEEDS)
def test_mutations(tmp_path, name):
    "Whatever happens to a file's bytes: it is read, or refused in one sentence."
    rng = np.random.default_rng(0)
    p = tmp_path / name
    for _ in range(200):
        raw = bytearray(SEEDS[name])
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(len(raw)))
            some = bytes(rng.integers(0, 256, rng.integers(0, 4)).tolist())
            digits = str(
                rng.choice(['9' * 400, '-1', '1e999', '0', '"', '<x>', '[', 'nan'])
            ).encode()
            raw[at : at + int(rng.integers(0, 6))] = some if rng.random() < 0.6 else digits
        p.write_bytes(raw)
        try:
            found = read_transcript(p)
        except TalkfaceError as e:
            assert '\n' not in str(e) and len(str(e)) < 500
            continue
        if isinstance(found, str):
            plain_words(found)
        elif isinstance(found, PhonemeTimeline):
            found._repr_html_()
            found.labels(10)
