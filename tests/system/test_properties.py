"What holds for every value: readers give a right answer or our error, edits keep a timeline whole."

import csv
import io
import json

import numpy as np
import pytest

pytest.importorskip('hypothesis')

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from talkface import schemas
from talkface.core import TalkfaceError
from talkface.media import read_audio, read_image, to_bytes, to_mono
from talkface.schemas import bounded, checked, parse_json, read_table, read_text, shown
from talkface.streaming import read_pcm
from talkface.timeline import PHONES, PhonemeTimeline, Segment, phone

QUICK = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
DECLARED = [
    c for n, c in sorted(vars(schemas).items()) if hasattr(c, '__total__') and n != 'ConfigDict'
]
numbers = st.integers(-(10**30), 10**30) | st.floats()
plain = st.none() | st.booleans() | numbers | st.text(max_size=12)
known_keys = sorted({k for c in DECLARED for k in c.__annotations__})
keys = st.sampled_from(known_keys) | st.text(max_size=8)


def nested(inner):
    return st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5)


values = st.recursive(plain, nested, max_leaves=12)


def answer(f, *args):
    "What a reader gives; None where it refuses in one sentence."
    try:
        return f(*args)
    except TalkfaceError as e:
        assert '\n' not in str(e) and 5 < len(str(e)) < 1000, str(e)


@pytest.mark.parametrize('schema', DECLARED, ids=lambda c: c.__name__)
@QUICK
@given(value=values)
def test_declarations(schema, value):
    "A value obeys or is refused; what obeys, obeys again and comes through JSON unchanged."
    got = answer(checked, schema, value, 'x.json')
    if got is not None:
        assert checked(schema, got, 'x.json') == got
        again = answer(parse_json, schema, json.dumps(got), 'x.json')
        assert again == got or 'NaN' in shown(got, 10**6)


@QUICK
@given(text=st.text() | values.map(json.dumps))
def test_json_of_any_text(text):
    answer(parse_json, schemas.TrainingConfig, text, 'x.json')
    answer(PhonemeTimeline.from_json, '[' + text)


@QUICK
@given(raw=st.binary(max_size=200))
def test_texts_of_any_bytes(tmp_path, raw):
    path = tmp_path / 'a.txt'
    path.write_bytes(raw)
    text = answer(read_text, path)
    assert text is None or '\0' not in text


@QUICK
@given(rows=st.lists(st.lists(st.text(max_size=6), min_size=1, max_size=4), max_size=4))
def test_tables_of_any_cells(tmp_path, rows):
    out = io.StringIO()
    csv.writer(out).writerows([['image', 'audio', 'size'], *rows])
    (tmp_path / 'a.csv').write_text(out.getvalue(), encoding='utf-8', errors='replace')
    for row in answer(read_table, schemas.VideoRow, tmp_path / 'a.csv') or ():
        assert 32 <= row.get('size', 32) <= 4096 and row['image']


@QUICK
@given(name=st.sampled_from(sorted(schemas.Options.__annotations__)), value=plain)
def test_options(name, value):
    "An option that is accepted is finite and within its bounds, as a number, whatever it came as."
    got = answer(lambda: bounded(**{name: value}))
    assert got is None or got == 'auto' or (np.isfinite(got) and 0 <= got < 2**33)
    if isinstance(got, (int, float)):
        assert bounded(**{name: got}) == got == bounded(**{name: str(got)})


@QUICK
@given(raw=st.binary(max_size=300), riff=st.booleans())
def test_pipes_of_any_bytes(raw, riff):
    head = b'RIFF\0\0\0\0WAVEfmt \x10\0\0\0' if riff else b''
    found = answer(read_pcm, io.BytesIO(head + raw))
    if found:
        for block in found[1]:
            assert np.isfinite(block).all() and abs(block).max() <= 1


shapes = st.lists(st.integers(0, 70), min_size=0, max_size=4).map(tuple)
kinds = st.sampled_from(['uint8', 'int16', 'float32', 'float64', 'bool', 'complex64'])


@QUICK
@given(shape=shapes, kind=kinds, fill=st.sampled_from([0, 1, 255, -1, 1e30, np.nan, np.inf]))
def test_arrays(shape, kind, fill):
    "Arrays as pictures and as sounds."
    with np.errstate(all='ignore'):
        a = np.full(shape, fill).astype(kind)
        image = answer(read_image, a)
        sound = answer(read_audio, a)
    if image is not None:
        assert image.dtype == np.uint8 and image.shape[2] == 3
    if sound is not None:
        assert np.isfinite(sound[0]).all() and len(sound[0]) >= 800


lengths = st.lists(st.floats(0.02, 0.4), min_size=1, max_size=12)


@st.composite
def timelines(draw):
    "Phones one after the other."
    segments, at = [], 0.0
    for n, seconds in enumerate(draw(lengths)):
        label = draw(st.sampled_from(PHONES))
        segments.append(Segment(label, at, at + seconds, 'w', n % 3 == 0))
        at += seconds
    return PhonemeTimeline(segments)


def whole(t):
    "Segments follow each other without gaps, from 0 to the end."
    at = 0.0
    for s in t:
        assert s.start == pytest.approx(at, abs=1e-6) and s.end >= s.start and s.label in PHONES
        at = s.end
    assert t.duration == pytest.approx(at, abs=1e-6)
    assert len(t.labels()) <= t.duration * 25 + 2


place = st.integers(-3, 14)
seconds = st.floats(-1, 6, allow_nan=False)
EDITS = dict(
    replace=st.tuples(place, st.sampled_from(PHONES) | st.text(max_size=3)),
    move=st.tuples(place, seconds),
    delete=st.tuples(place),
    insert=st.tuples(seconds, seconds, st.sampled_from(PHONES)),
    split=st.tuples(seconds),
    stretch=st.tuples(st.floats(0.1, 4)),
    shift=st.tuples(seconds),
    crop=st.tuples(seconds, seconds),
    fit=st.tuples(seconds),
)
edits = st.one_of(*(st.tuples(st.just(n), args) for n, args in EDITS.items()))


@settings(QUICK, max_examples=150)
@given(t=timelines(), changes=st.lists(edits, max_size=6))
def test_edits_keep_a_timeline_whole(t, changes):
    "Any edits, in any order: a whole timeline, or a refusal that leaves it as it was."
    whole(t)
    for name, args in changes:
        before = list(t)
        try:
            t = getattr(t, name)(*args)
        except (TalkfaceError, IndexError):
            assert list(t) == before
        whole(t)
    again = PhonemeTimeline.from_json(json.dumps(t.to_json()))
    assert abs(again.duration - t.duration) < 0.02 or not t.duration


@QUICK
@given(t=timelines())
def test_files_of_a_timeline(tmp_path, t):
    "What is written is read again."
    for ending, within in (('json', 0.006), ('TextGrid', 1e-5), ('ctm', 0.006)):
        t.save(tmp_path / f'a.{ending}')
        back = PhonemeTimeline.load(tmp_path / f'a.{ending}')
        assert abs(back.duration - t.duration) < 2 * within


@QUICK
@given(label=st.text(max_size=6))
def test_labels(label):
    assert answer(phone, label) in (None, *PHONES)


@QUICK
@given(a=st.lists(st.floats(width=32), min_size=1, max_size=30))
def test_numbers_as_bytes(a):
    with np.errstate(all='ignore'):
        assert to_bytes(np.array(a)).dtype == np.uint8
        assert to_mono(np.array(a)).dtype == np.float32
