"A corpus as a process sees it: killed and continued, several processes, bad folders."

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
import numpy as np
import pytest
from talkface.core import TalkfaceError, asset
from talkface.corpus import Corpus, prepare
from talkface.media import Clip, read_image


def videos(folder, n=3, seconds=1.2):
    import cv2

    folder.mkdir(parents=True)
    face = cv2.resize(
        read_image(asset('portrait.png'))[60:480, 60:480], (200, 200), interpolation=cv2.INTER_AREA
    )
    T = int(seconds * 25)
    for k in range(n):
        Clip(np.stack([np.roll(face, int(2 * np.sin(i / 5)), 1) for i in range(T)])).save(
            folder / f'v{k}.mp4'
        )
    return folder


CALL = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from talkface.corpus import prepare
if __name__ == '__main__':
    prepare({src!r}, {out!r}, jobs={jobs}, backend='haar')
"""


def start(tmp_path, src, out, jobs=1):
    f = tmp_path / 'run.py'
    f.write_text(CALL.format(src=str(src), out=str(out), jobs=jobs))
    return subprocess.Popen(
        [sys.executable, str(f)],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])},
    )


def started(tmp_path, src, out):
    "A preparation in another process that has written its first clip."
    p = start(tmp_path, src, out)
    t0 = time.time()
    while not list(out.glob('clips/*/clip.json')) and time.time() - t0 < 120:
        time.sleep(0.02)
    return p


def test_kill_and_continue(tmp_path):
    src, out = videos(tmp_path / 'in', 5), tmp_path / 'out'
    p = started(tmp_path, src, out)
    p.send_signal(signal.SIGKILL)
    p.wait()
    done = {c.parent.name: c.stat().st_mtime_ns for c in out.glob('clips/*/clip.json')}
    assert 1 <= len(done) <= 5
    for d in out.glob('clips/[!.]*'):
        assert (d / 'clip.json').is_file()  # what has its final name is whole
    assert Corpus(out).check() == []  # readable even without a manifest
    ruin = out / 'clips' / '.in__v4.99999999.part'
    ruin.mkdir(exist_ok=True)
    (ruin / 'frames.npy').write_bytes(b'x')
    c = prepare(src, out, jobs=1, backend='haar')
    assert len(c) == 5 and c.check() == [] and not list(out.glob('clips/.*'))
    for k, t in done.items():
        assert (out / 'clips' / k / 'clip.json').stat().st_mtime_ns == t


def test_two_processes(tmp_path):
    src = videos(tmp_path / 'in', 3)
    p = start(tmp_path, src, tmp_path / 'two', jobs=2)
    assert p.wait(timeout=300) == 0
    a, b = Corpus(tmp_path / 'two'), prepare(src, tmp_path / 'one', jobs=1, backend='haar')
    assert [c.id for c in a] == [c.id for c in b] == ['in__v0', 'in__v1', 'in__v2']
    for x, y in zip(a, b):
        assert x.meta['files'] == y.meta['files']  # the same bytes


def test_interrupt(tmp_path):
    src, out = videos(tmp_path / 'in', 6), tmp_path / 'out'
    p = started(tmp_path, src, out)
    p.send_signal(signal.SIGINT)
    p.wait(timeout=60)
    assert (
        not list(out.glob('clips/.*.part'))
        and (out / 'manifest.json').is_file()
        and Corpus(out).check() == []
    )


def test_changed_video_is_done_again(tmp_path):
    src, out = videos(tmp_path / 'in', 1), tmp_path / 'out'
    a = prepare(src, out, jobs=1, backend='haar')[0].meta['frames']
    videos(tmp_path / 'new', 1, 1.6)
    os.replace(tmp_path / 'new' / 'v0.mp4', src / 'v0.mp4')
    assert prepare(src, out, jobs=1, backend='haar')[0].meta['frames'] == 40 != a


def test_bad_folders(tmp_path):
    src = videos(tmp_path / 'in', 1)
    (tmp_path / 'file').write_text('x')
    (tmp_path / 'empty').mkdir()
    for v, o, says in (
        (tmp_path / 'nothing', tmp_path / 'o', 'no video or folder'),
        (tmp_path / 'empty', tmp_path / 'o', 'no video was found'),
        (src, tmp_path / 'file', 'is a file'),
        (src, tmp_path / 'file' / 'o', 'cannot write'),
        (src, src, 'holds other files'),
    ):
        with pytest.raises(TalkfaceError) as e:
            prepare(v, o, jobs=1, backend='haar')
        assert says in str(e.value) and '\n' not in str(e.value)
    with pytest.raises(TalkfaceError, match='64..512'):
        prepare(src, tmp_path / 'o', size=8)
    with pytest.raises(TalkfaceError, match='no table of speakers'):
        prepare(src, tmp_path / 'o', speakers=tmp_path / 'none.csv')


def test_damaged_corpus(tmp_path):
    out = tmp_path / 'out'
    prepare(videos(tmp_path / 'in', 1), out, jobs=1, backend='haar')
    (out / 'manifest.json').write_text('{')
    with pytest.raises(TalkfaceError, match='manifest.json'):
        Corpus(out)
    (out / 'manifest.json').unlink()
    c = Corpus(out)
    assert len(c) == 1
    f = out / 'clips' / 'in__v0' / 'poses.npy'
    f.write_bytes(f.read_bytes()[:40])
    assert c.check() == ['in__v0']
    with pytest.raises(TalkfaceError, match='prepare again'):
        c[0].poses


BAD_TRANSCRIPTS = {
    'nested.json': b'[' * 100_000,
    'odd.TextGrid': 'File type = "ooTextFile"'.encode('utf-16')[:-1],
    'odd.txt': 'hello'.encode('utf-16')[:-1],
    'late.align': b'0 ' + b'9' * 400 + b' bin\n',
    'long.txt': b'1' * 5000,
    'zero.ctm': b'a\x00b c d',
}


@pytest.mark.parametrize('name', BAD_TRANSCRIPTS)
def test_a_bad_transcript_is_not_used(tmp_path, name):
    "A clip keeps its phonemes by listening, and a note says why."
    from talkface.corpus import clip_timeline
    from talkface.media import read_audio

    (tmp_path / name).write_bytes(BAD_TRANSCRIPTS[name])
    wav = read_audio(asset('sentence.wav'))[0][:32000]
    line, note = clip_timeline(wav, tmp_path / name)
    assert name in note and len(line) and '\n' not in note


def test_one_bad_video_ends_itself_alone(tmp_path):
    src = videos(tmp_path / 'in', 2)
    flat = np.random.default_rng(0).integers(0, 255, (30, 2, 4096, 3)).astype(np.uint8)
    Clip(flat).save(src / 'a_flat.mp4')
    (src / 'b_text.mp4').write_text('no video')
    (src / 'c_gone.mp4').symlink_to(src / 'nowhere.mp4')
    os.replace(src / 'v1.mp4', src / f'{"视" * 80}.mp4')  # 240 bytes
    c = prepare(src, tmp_path / 'out', jobs=1, backend='haar')
    assert len(c) == 2 and c.check() == []
    rows = [json.loads(p.read_text()) for p in (tmp_path / 'out/rejected').glob('*.json')]
    said = {Path(r['source']).name: (r['code'], r['why']) for r in rows}
    assert set(said) == {'a_flat.mp4', 'b_text.mp4', 'c_gone.mp4'}
    assert said['a_flat.mp4'][0] == 'unreadable' and '4096x2' in said['a_flat.mp4'][1]
    assert 'a_flat.mp4' in (tmp_path / 'out' / 'report.html').read_text()


def test_a_failure_of_any_kind_is_one_row(tmp_path, monkeypatch):
    "Whatever is raised over one video, the others are made, and the next run tries it again."
    from talkface import corpus

    src = videos(tmp_path / 'in', 2)
    real = corpus.follow_face

    def follow(frames, *a):
        if frames.path.name == 'v0.mp4':
            raise RecursionError('too deep')
        return real(frames, *a)

    monkeypatch.setattr(corpus, 'follow_face', follow)
    assert [c.id for c in prepare(src, tmp_path / 'out', jobs=1, backend='haar')] == ['in__v1']
    row = json.loads((tmp_path / 'out/rejected/in__v0.json').read_text())
    assert row['code'] == 'failed' and 'RecursionError: too deep' in row['why']
    monkeypatch.undo()
    assert len(prepare(src, tmp_path / 'out', jobs=1, backend='haar')) == 2


@pytest.mark.parametrize('name', ['/elsewhere/clip', '../stolen', 'a/b', '..', '', 7, 'x' * 300])
def test_ids_are_names(tmp_path, name):
    from talkface.corpus import write_clip

    out = tmp_path / 'corpus'
    (out / 'clips').mkdir(parents=True)
    (out / 'settings.json').write_text('{}')
    clip = dict(id=name, seconds=1.0, frames=25, speech=True, files={})
    (out / 'manifest.json').write_text(json.dumps(dict(clips=[clip])))
    with pytest.raises(TalkfaceError, match='id is'):
        Corpus(out)
    with pytest.raises(TalkfaceError, match='id is'):
        write_clip(out / 'clips', name, dict(meta={}))
    assert sorted(p.name for p in tmp_path.iterdir()) == ['corpus']


@pytest.mark.parametrize('text', ['{', '[]', '{"clips": 3}', '{"clips": [{}]}', '{"clips": [[]]}'])
def test_damaged_manifests(tmp_path, text):
    (tmp_path / 'settings.json').write_text('{}')
    (tmp_path / 'manifest.json').write_text(text)
    with pytest.raises(TalkfaceError, match='manifest.json'):
        Corpus(tmp_path)


@pytest.mark.parametrize('text', ['{', '[1]', '3'])
def test_damaged_settings(tmp_path, text):
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'settings.json').write_text(text)
    with pytest.raises(TalkfaceError, match='settings.json'):
        prepare(videos(tmp_path / 'in', 1), out, jobs=1, backend='haar')


def test_numbers_that_make_no_sense(tmp_path):
    src = videos(tmp_path / 'in', 1)
    for wrong in (dict(jobs=0), dict(jobs=-3), dict(limit=0), dict(limit=-1)):
        with pytest.raises(TalkfaceError, match='give (1 or more|a whole number from 1)'):
            prepare(src, tmp_path / 'out', backend='haar', **wrong)
    assert not (tmp_path / 'out').exists()
