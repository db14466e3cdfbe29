"""Valid files of every kind, changed at random: the right answer or our error, in 10 s and 2 GB.

Mutation number k of a kind is always the same. `TALKFACE_FUZZ` is the time in seconds (default
150); `PYTHONPATH=tests python tests/bad_input/test_fuzz.py --long 3600` goes on for so long, prints a
table, and keeps in the folder `fuzz_failures` what ended otherwise.
"""

import io
import json
import os
import resource
import select
import shutil
import signal
import sys
import time
import traceback
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import toy
import torch
from PIL import Image

from talkface.animate import Animator, read_poses
from talkface.batch import read_list, read_report
from talkface.core import TalkfaceError, asset, writing
from talkface.corpus import Corpus
from talkface.media import Clip, read_audio, read_clip, read_image
from talkface.schemas import CorpusSettings, SpeakerRow, read_arrays, read_json, read_table
from talkface.streaming import read_pcm
from talkface.timeline import PhonemeTimeline, read_align
from talkface.toy import TOY, toy_corpus
from talkface.train import Run, TrainConfig, training_config
from talkface.trainer import read_log
from talkface.transcripts import spoken_text

pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs processes that are copies')
SECONDS, BYTES = 10, 2 << 30  # that reading one file may take
EXTREMES = [b'\0\0\0\0', b'\xff\xff\xff\xff', b'\xff\xff\xff\x7f', b'\x80\0\0\0', b'\1\0\0\0']
NUMBERS = b'-1', b'0', b'1e999', b'nan', b'9' * 400, b'99999999999', b'0.5', b'""', b'[]', b'null'
WORDS = (
    b'{',
    b'}',
    b'[[',
    b'"',
    b',',
    b'\n',
    b'\0',
    b'\xff\xfe',
    b'<img src=x>',
    b'../',
    b'\xf0\x9f',
)


def audio(path):
    wav, _ = read_audio(path)
    assert wav.dtype == np.float32 and wav.ndim == 1 and np.isfinite(wav).all()


def picture(path):
    image = read_image(path)
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


def video(path):
    clip = read_clip(path, max_seconds=2)
    assert clip.frames.dtype == np.uint8 and len(clip)


def timeline(path):
    t = PhonemeTimeline.load(path)
    ends = [0, *(s.end for s in t)]
    assert all(0 <= s.start <= s.end < 1e7 for s in t) and ends == sorted(ends)
    t.labels()
    t._repr_html_()


def align(path):
    rows = read_align(path)
    assert isinstance(rows, list)


def poses(path):
    p = read_poses(path)
    assert p.shape[1] == 6 and np.isfinite(p).all()


def weights(path):
    an = Animator.from_pretrained(path, 'cpu')
    assert all(t.isfinite().all() for t in an.models['generator'].parameters())


def corpus(path):
    folder = path.parents[2] if path.parent.parent.name == 'clips' else path.parent
    for clip in Corpus(folder):
        assert len(clip) > 0 and clip.seconds >= 0 and str(clip.speaker)
        for name in ('features', 'poses', 'points'):
            assert len(clip.load(name)) >= 0
        clip.wav
        clip.phonemes.labels()
        clip.frames[0]


def run(path):
    r = Run.open(path.parent)
    r.done()
    r.worth()


def pipe(path):
    rate, blocks = read_pcm(io.BytesIO(path.read_bytes()))
    assert 1000 <= rate <= 192000
    assert all(np.isfinite(b).all() for b in blocks)


def jobs(path):
    read_list(path, path.parent / 'videos')


def made(path):
    read_report(path.parent)


def clip_files(folder, name):
    return next(folder.glob(f'corpus/clips/*/{name}'))


KINDS = {  # name of a file in `good_files` -> what reads it
    'a.wav': audio,
    'a.mp3': audio,
    'a.flac': audio,
    'a.ogg': audio,
    'a.m4a': audio,
    'pipe.wav': pipe,
    'v.mp4': video,
    'v.mkv': video,
    'me.png': picture,
    'me.jpg': picture,
    'me.webp': picture,
    'me.gif': picture,
    'me.tiff': picture,
    'me.avif': picture,
    'a.json': timeline,
    'a.TextGrid': timeline,
    'short.TextGrid': timeline,
    'a.ctm': timeline,
    'a.align': align,
    'a.txt': lambda p: spoken_text(str(p)),
    'pose.csv': poses,
    'pose.npy': poses,
    'a.npz': read_arrays,
    'toy.safetensors': weights,
    'toy.ckpt': weights,
    'c.json': training_config,
    'list.csv': jobs,
    'report.csv': made,
    'speakers.csv': lambda p: read_table(SpeakerRow, p),
    'settings.json': lambda p: read_json(CorpusSettings, p),
    'fomm.csv': read_log,
    'corpus/manifest.json': corpus,
    'corpus/settings.json': corpus,
    'corpus/clips/*/clip.json': corpus,
    'corpus/clips/*/features.npy': corpus,
    'corpus/clips/*/frames.npy': corpus,
    'corpus/clips/*/offsets.npy': corpus,
    'corpus/clips/*/audio.wav': corpus,
    'corpus/clips/*/phonemes.json': corpus,
    'run/run.json': run,
    'run/avct_scores.csv': run,
}


def save_sound(path, codec, wav):
    import av

    with av.open(str(path), 'w') as c:
        rate = 48000 if codec == 'libopus' else 16000
        stream = c.add_stream(codec, rate=rate, layout='mono')
        change = av.AudioResampler(format=stream.format, layout='mono', rate=rate, frame_size=960)
        frame = av.AudioFrame.from_ndarray(wav[None].astype(np.float32), 'fltp', 'mono')
        frame.rate = 16000
        for part in [*change.resample(frame), *change.resample(None)]:
            c.mux(stream.encode(part))
        c.mux(stream.encode(None))


def good_files(folder):
    "A small valid file of every kind."
    sound = toy.speech(0.6).astype(np.float32)
    toy.wav(folder / 'a.wav', sound)
    shutil.copy(folder / 'a.wav', folder / 'pipe.wav')
    for name, codec in dict(mp3='libmp3lame', flac='flac', ogg='libopus', m4a='aac').items():
        save_sound(folder / f'a.{name}', codec, sound)
    me = Image.open(asset('portrait.png')).convert('RGB').resize((96, 96))
    for ending in ('png', 'jpg', 'webp', 'gif', 'tiff', 'avif'):
        me.save(folder / f'me.{ending}')
    for ending in ('mp4', 'mkv'):
        Clip(np.stack([np.asarray(me)] * 5), sound[:3200]).save(folder / f'v.{ending}')
    texts(folder, toy.toy_phonemes(0.6))
    np.save(folder / 'pose.npy', np.zeros((15, 6)))
    np.savez(folder / 'a.npz', x=np.arange(9), y=np.zeros((3, 4)))
    toy.weights(folder / 'toy.safetensors')
    torch.save(dict(generator=dict(a=torch.zeros(3)), kp_detector={}), folder / 'toy.ckpt')
    folders(folder)
    return folder


def texts(folder, t):
    for name in ('a.json', 'a.TextGrid', 'a.ctm'):
        t.save(folder / name)
    (folder / 'short.TextGrid').write_text(t.to_textgrid(False))
    (folder / 'a.align').write_text('0 5000 sil\n5000 15000 bin\n')
    (folder / 'a.txt').write_text('bin blue at f two now\n')
    names = ['frame', 'timestamp', *(f'pose_{k}' for k in ('Tx', 'Ty', 'Tz', 'Rx', 'Ry', 'Rz'))]
    rows = [','.join(names), *('%d,%g,0,0,500,0,0,0' % (i + 1, i / 25) for i in range(12))]
    (folder / 'pose.csv').write_text('\n'.join(rows))
    (folder / 'c.json').write_text(json.dumps(TOY))
    (folder / 'list.csv').write_text('image,audio,size,seed\nme.png,a.wav,64,1\nyou.jpg,b.mp3,,\n')
    (folder / 'report.csv').write_text(
        'out,status,frames,seconds,what,key\n/o.mp4,made,13,0.5,,abc\n'
    )
    (folder / 'speakers.csv').write_text('file,speaker\na.mp4,ann\nb.mp4,bob\n')
    (folder / 'settings.json').write_text('{"size": 64, "scale": 1.3, "fps": 25}')
    (folder / 'fomm.csv').write_text('step,seconds,loss\n1,0.5,2.5\n2,1.0,2.25\n')


def folders(folder):
    corpus = toy_corpus(folder / 'corpus', n=4)
    rows = [clip.meta for clip in corpus]
    (folder / 'corpus' / 'manifest.json').write_text(json.dumps(dict(version=1, clips=rows)))
    r = Run.create(folder / 'run', TrainConfig(str(folder / 'corpus'), TOY), 'cpu')
    r.record('fomm', done=True, steps=3, seconds=1.0, batch=2)
    r.write()
    (folder / 'run' / 'avct_scores.csv').write_text('step,mouth_corr_kp\n1,0.5\n')


def changed(raw, rng):
    "Bytes with one random change, or up to four."
    raw = bytearray(raw)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 4])):
        how = rng.integers(10)
        at = int(rng.integers(max(1, min(len(raw), 64 if how % 2 else 10**9))))
        n = int(rng.integers(1, 30))
        if how < 2:
            raw[at : at + 1] = bytes([int(rng.integers(256))])
        elif how == 2:
            del raw[at:]
        elif how == 3:
            del raw[at : at + n]
        elif how == 4:
            raw[at:at] = raw[int(rng.integers(len(raw) + 1)) :][:n]
        elif how == 5:
            raw[at : at + 4] = EXTREMES[rng.integers(len(EXTREMES))]
        elif how == 6:
            raw[at : at + n] = bytes(n)
        elif how == 7:
            raw[at:at] = WORDS[rng.integers(len(WORDS))]
        else:
            raw = bytearray(other_number(bytes(raw), rng))
    return bytes(raw)


def other_number(raw, rng):
    "Bytes in which one run of digits is another number."
    digits = [i for i, b in enumerate(raw[:20000]) if 48 <= b < 58]
    if not digits:
        return raw
    start = end = digits[rng.integers(len(digits))]
    while end < len(raw) and 48 <= raw[end] < 58:
        end += 1
    return raw[:start] + NUMBERS[rng.integers(len(NUMBERS))] + raw[end:]


def mutation(path, kind, k):
    "The changed content number k of a file."
    return changed(path.read_bytes(), np.random.default_rng([k, zlib.crc32(kind.encode())]))


def read_changed(kind, folder, numbers, say):
    "Read changed files one by one; `say` hears what is begun and how it ended."
    paths = sorted(folder.glob(kind))
    for k in numbers:
        path = paths[k % len(paths)]
        good = path.read_bytes()
        path.write_bytes(mutation(path, kind, k))
        say(k=k)
        began = time.time()
        try:
            KINDS[kind](path)
            end = 'read'
        except TalkfaceError as e:
            end = 'refused' if '\n' not in str(e) and len(str(e)) < 1000 else f'long: {e}'
        except BaseException as e:
            where = traceback.extract_tb(e.__traceback__)[-1]
            end = f'{type(e).__name__}: {str(e)[:100]} ({Path(where.filename).name}:{where.lineno})'
        say(k=k, end=end, seconds=time.time() - began)
        path.write_bytes(good)


def child(kind, folder, numbers, pipe):
    "In a copy of this process: read with little memory, tell through a pipe."
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    size = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + BYTES, size + BYTES))

    def say(**what):
        what['mb'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        os.write(pipe, json.dumps(what).encode() + b'\n')

    read_changed(kind, folder, numbers, say)


def lines_of(pipe, until):
    "Yield what a child says, line by line; None where it is silent for too long."
    waiting = b''
    while time.time() < until:
        if not select.select([pipe], [], [], SECONDS + 5)[0]:
            yield None
            return
        more = os.read(pipe, 1 << 16)
        if not more:
            return
        *whole, waiting = (waiting + more).split(b'\n')
        yield from map(json.loads, whole)


def fuzz(kind, folder, first, seconds, most=10**9):
    "(number of the next mutation, rows of what ended how) of one kind, in a process of its own."
    out, into = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            child(kind, folder, range(first, first + most), into)
        finally:
            os._exit(0)
    os.close(into)
    rows, last, said = [], dict(k=first - 1), {}
    for said in lines_of(out, time.time() + seconds):
        if said is None:
            break
        last = said
        if 'end' in said:
            rows.append(said)
            if said['seconds'] > SECONDS:
                said['end'] = f'took {said["seconds"]:.0f} s'
    if 'end' not in last and 'mb' in last and not alive(pid):
        rows.append(dict(last, end='the process died', seconds=0))
    elif 'end' not in last and 'mb' in last and said is None:
        rows.append(dict(last, end=f'longer than {SECONDS} s', seconds=SECONDS))
    stopped(pid)
    os.close(out)
    return last['k'] + 1, rows


def alive(pid):
    return os.waitpid(pid, os.WNOHANG)[0] == 0


def stopped(pid):
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def table(rows_of):
    "What became of all mutations, a dict of a row for each kind."
    for kind, rows in rows_of.items():
        ends = [r['end'] for r in rows]
        told = [e for e in ends if e not in ('read', 'refused')]
        yield dict(
            kind=kind,
            mutations=len(rows),
            refused=ends.count('refused'),
            read=ends.count('read'),
            other=len(told),
            slowest=max((r['seconds'] for r in rows), default=0),
            mb=max((r['mb'] for r in rows), default=0),
        )


def all_kinds(folder, seconds, keep=None):
    "{kind: rows} of mutations of every kind, the time divided evenly."
    rows_of = {}
    end = time.time() + seconds
    for i, kind in enumerate(KINDS):
        box = folder / 'box'
        shutil.copytree(folder / 'good', box)
        absolute(box, folder / 'good')
        share = (end - time.time()) / (len(KINDS) - i)
        first, rows, until = 0, [], time.time() + share
        while time.time() < until:
            first, more = fuzz(kind, box, first, until - time.time())
            rows += more
        rows_of[kind] = rows
        shutil.rmtree(box)
        for r in rows if keep else ():
            if r['end'] not in ('read', 'refused'):
                path = sorted((folder / 'good').glob(kind))[0]
                name = f'{kind.replace("/", "_").replace("*", "")}.{r["k"]}'
                with writing(Path(keep) / name) as tmp:
                    tmp.write_bytes(mutation(path, kind, r['k']))
    return rows_of


def absolute(box, good):
    "The run of a copied folder reads the copied corpus."
    path = box / 'run' / 'run.json'
    path.write_text(path.read_text().replace(str(good), str(box)))


def test_mutations(tmp_path):
    (tmp_path / 'good').mkdir()
    good_files(tmp_path / 'good')
    for kind in KINDS:
        for path in (tmp_path / 'good').glob(kind):
            if kind != 'toy.ckpt':
                KINDS[kind](path)
    rows_of = all_kinds(tmp_path, float(os.environ.get('TALKFACE_FUZZ', 150)))
    wrong = [
        (kind, r['k'], r['end'])
        for kind, rows in rows_of.items()
        for r in rows
        if r['end'] not in ('read', 'refused')
    ]
    assert not wrong, '\n'.join(map(str, wrong))
    assert min(len(rows) for rows in rows_of.values()) > 0


if __name__ == '__main__':
    from talkface.display import text_table

    seconds = float(sys.argv[sys.argv.index('--long') + 1]) if '--long' in sys.argv else 150
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, 'good').mkdir()
        good_files(Path(scratch, 'good'))
        found = all_kinds(Path(scratch), seconds, 'fuzz_failures')
    print(text_table(list(table(found)), formats=dict(slowest='.1f', mb='.0f')))
    print(f'{sum(map(len, found.values()))} mutations')
    for kind, rows in found.items():
        for r in rows:
            if r['end'] not in ('read', 'refused'):
                print(kind, r['k'], r['end'])
