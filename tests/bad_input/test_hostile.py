"""Files that somebody else made, wrong in every way that was found: each answer is one sentence, exit code 2,
nothing is left behind and nothing of the user's is overwritten.

`PYTHONPATH=tests python tests/bad_input/test_hostile.py` prints the sentences as a table.
"""

import contextlib
import io
import json
import os
import pickle
import shutil
import struct
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import toy
from talkface.cli import main
from talkface.core import asset, load_checkpoint, save_checkpoint
from talkface.media import Clip
from talkface.toy import TOY, TOY_WEIGHTS, toy_corpus

CASES = {}  # name -> (function of a folder of good files: arguments of talkface; words of the answer)


def case(name, *words):
    "Enter a function that prepares a mistake and returns the command that makes it."

    def enter(f):
        assert name not in CASES, name
        CASES[name] = f, words
        return f

    return enter


def good_files(folder):
    "A folder of files that are all right, small ones."
    folder = Path(folder)
    Image.open(asset('portrait.png')).convert('RGB').resize((256, 256)).save(folder / 'me.png')
    toy.weights(folder / 'toy.safetensors')
    toy.wav(folder / 'a.wav', toy.speech(0.6))
    toy.phonemes(folder / 'a.json', 0.6)
    frame = np.asarray(Image.open(folder / 'me.png').resize((128, 128)))
    Clip(np.stack([frame] * 5)).save(folder / 'drive.mp4')
    toy_corpus(folder / 'corpus', n=4)
    (folder / 'toy.json').write_text(json.dumps(TOY))
    return folder


def animate(box, *more, image=None, audio=None, out=None, weights=None, ph=True, pose='still'):
    "Arguments of `talkface animate` with small files."
    words = ['animate', image or box / 'me.png', audio or box / 'a.wav']
    words += ['-o', out or box / 'new' / 'o.mp4', '--weights', weights or box / 'toy.safetensors']
    words += ['--device', 'cpu', '--size', 64, '--frame', 'face']
    words += ['--pose', pose] if pose else []
    words += ['--phonemes', box / 'a.json'] if ph else []
    return [*words, *more]


def stream(box, *more, audio=None, out=None):
    "Arguments of `talkface stream` with small files."
    words = ['stream', box / 'me.png', audio or box / 'a.wav', '-o', out or box / 'new' / 'o.mp4']
    words += ['--weights', box / 'toy.safetensors', '--device', 'cpu', '--size', 64]
    return [*words, *more]


def train(box, *more, corpus=None, config=None):
    "Arguments of `talkface train` with a corpus of toy size."
    words = ['train', corpus or box / 'corpus', '--out', box / 'new' / 'run', '--device', 'cpu']
    return [*words, '--config', config or box / 'toy.json', *more]


def tried(arguments):
    "(exit code, sentences on stderr, notes left out) of a command in this process."
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as e:
            code = e.code
    lines = err.getvalue().replace('\r', '\n').split('\n')
    said = [line for line in lines if line.startswith(('talkface: ', 'Traceback'))]
    return code, [line for line in said if not line.startswith('talkface: note: ')]


# ---- outputs that are inputs


def same(kind, make):
    @case(f'output is the {kind}', 'input')
    def _(box):
        return make(box)


same('picture', lambda b: animate(b, image=b / 'drive.mp4', out=b / 'drive.mp4'))
same('sound', lambda b: animate(b, audio=b / 'drive.mp4', out=b / 'drive.mp4'))
same('pose video', lambda b: animate(b, pose=b / 'drive.mp4', out=b / 'drive.mp4'))
same('stream, sound', lambda b: stream(b, audio=b / 'drive.mp4', out=b / 'drive.mp4'))
same('stream, pose', lambda b: stream(b, '--pose', b / 'drive.mp4', out=b / 'drive.mp4'))


@case('output is the weights', 'input')
def _(box):
    shutil.copy(box / 'toy.safetensors', box / 'w.mp4')
    return animate(box, weights=box / 'w.mp4', out=box / 'w.mp4')


@case('output is the text', 'input')
def _(box):
    (box / 't.mp4').write_text('hello')
    return animate(box, '--text', box / 't.mp4', out=box / 't.mp4', ph=False)


@case('output is a link to the pose video', 'input')
def _(box):
    (box / 'link.mp4').symlink_to(box / 'drive.mp4')
    return animate(box, pose=box / 'drive.mp4', out=box / 'link.mp4')


def batch(box, text):
    (box / 'list.csv').write_text(text)
    words = animate(box, '--batch', box / 'list.csv', '-o', box / 'new' / 'o', ph=False)
    return [words[0], *words[3:]]


for title, text, words in (
    ('row writes its pose', 'image,audio,out,pose\nme.png,a.wav,d.mp4,new/o/d.mp4\n', 'input'),
    ('row leaves the folder', 'image,audio,out\nme.png,a.wav,../../esc.mp4\n', 'leave'),
    ('row with an absolute name', 'image,audio,out\nme.png,a.wav,/elsewhere/a.mp4\n', 'leave'),
    (
        'two rows, one name',
        'image,audio,out\nme.png,a.wav,a.mp4\nme.png,a.wav,x/../a.mp4\n',
        'both',
    ),
    ('row with a size of words', 'image,audio,size\nme.png,a.wav,big\n', 'size is "big"'),
    ('row with a seed of -1', 'image,audio,seed\nme.png,a.wav,-1\n', 'seed is'),
    ('row with more cells than columns', 'image,audio\nme.png,a.wav,x\n', 'more cells'),
    ('row with an unknown column', 'image,audio,mood\nme.png,a.wav,good\n', 'mood is unknown'),
    ('list without rows', 'image,audio\n', 'no rows'),
    ('list of zero bytes', 'image,audio\0\nme.png,a.wav\n', 'zero bytes'),
):
    case(f'batch: {title}', words)(lambda box, text=text: batch(box, text))


def with_manifest(box, name):
    rows = [dict(json.loads(p.read_text())) for p in (box / 'corpus').glob('clips/*/clip.json')]
    manifest = dict(clips=[{**row, 'id': name} for row in rows])
    (box / 'corpus' / 'manifest.json').write_text(json.dumps(manifest))
    return train(box, '--steps', 1)


for name in ('/ELSEWHERE/clip', '../stolen', 'a/b', ''):
    case(f'corpus: clip id {name!r}', 'clips[0].id', 'letters')(
        lambda box, name=name: with_manifest(box, name)
    )

# ---- numbers of the command line

for flag, value in (
    *(('--minutes', v) for v in ('nan', '-1', 'inf', '0')),
    *(('--steps', v) for v in ('-3', '0', 10**30)),
    *(('--seed', v) for v in ('-1', 10**30)),
    ('--every', 'nan'),
):
    case(f'train {flag} {value}', flag.strip('-'), 'not sensible')(
        lambda box, pair=(flag, value): train(box, *pair)
    )
for flag, value in (
    *(('--seed', v) for v in ('-1', 10**30)),
    ('--motion', 'inf'),
    ('--size', 10**9),
    ('--articulation', 'nan'),
):
    case(f'animate {flag} {value}', flag.strip('-'), 'not sensible')(
        lambda box, pair=(flag, value): animate(box, *pair)
    )
for flag, value in (('--gain', 'inf'), ('--gain', 'nan'), ('--rate', 0), ('--channels', 10**9)):
    case(f'stream {flag} {value}', flag.strip('-'), 'not sensible')(
        lambda box, pair=(flag, value): stream(box, *pair)
    )
for flag, value in (('--limit', -1), ('--limit', 0), ('--jobs', 0), ('--jobs', -3), ('--size', -5)):
    word = 'crop' if flag == '--size' else flag.strip('-')
    case(f'prepare {flag} {value}', word, 'not sensible')(
        lambda box, pair=(flag, value): ['prepare', box, box / 'new' / 'c', *pair]
    )
for flag, value in (('--seconds', 'nan'), ('--seconds', -1), ('--limit', -1), ('--jobs', 0)):
    case(f'evaluate {flag} {value}', flag.strip('-'), 'not sensible')(
        lambda box, pair=(flag, value): ['evaluate', f's={box}', '--against', box, *pair]
    )

# ---- files that are not what they seem


@case('text file that is missing', 'missing.txt')
def _(box):
    return animate(box, '--text', 'missing.txt', ph=False)


@case('phonemes: empty list', 'a.json')
def _(box):
    (box / 'a.json').write_text('[]')
    return animate(box)


@case('phonemes: time of 400 digits', 'a.json')
def _(box):
    word = dict(word='a', phones=[dict(ph='AA', bg=0, ed=1)])
    (box / 'a.json').write_text(json.dumps([word]).replace('"ed": 1', '"ed": 1' + '0' * 400))
    return animate(box)


@case('phonemes: brackets in brackets', 'a.json', 'recursion')
def _(box):
    (box / 'a.json').write_text('[' * 10**5)
    return animate(box)


@case('phonemes: UTF-16 of odd length', 'a.TextGrid')
def _(box):
    (box / 'a.TextGrid').write_bytes('File type'.encode('utf-16') + b'\0')
    return animate(box, '--phonemes', box / 'a.TextGrid', ph=False)


def picture(box, name, content):
    (box / name).write_bytes(content)
    return animate(box, image=box / name)


@case('EPS named .png', 'is not a picture')
def _(box):
    return picture(box, 'e.png', b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 300 300\nshowpage\n')


@case('picture of 2,000,000 x 33', '2000000x33')
def _(box):
    Image.new('L', (2_000_000, 33)).save(box / 'wide.png')
    return animate(box, image=box / 'wide.png')


@case('AVIF cut off', 'a.avif')
def _(box):
    made = io.BytesIO()
    Image.open(box / 'me.png').save(made, 'AVIF')
    return picture(box, 'a.avif', made.getvalue()[:-400])


for title, content in dict(
    ffconcat=b"ffconcat version 1.0\nfile 'a.wav'\n",
    HLS=b'#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\na.wav\n#EXT-X-ENDLIST\n',
    DASH=b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period/></MPD>',
    SDP=b'v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n',
).items():

    @case(f'playlist as sound: {title}', 'list.wav', 'is not a sound')
    def _(box, content=content):
        (box / 'list.wav').write_bytes(content)
        return animate(box, audio=box / 'list.wav')


def wav_of(box, channels=1, rate=16000, bits=16, tag=1, data=b'\0' * 32000, cut=None):
    form = struct.pack('<HHIIHH', tag, channels, rate, 2 * rate % 2**32, 2 * channels % 2**16, bits)
    body = (
        b'WAVEfmt ' + struct.pack('<I', 16) + form + b'data' + struct.pack('<I', len(data)) + data
    )
    content = (b'RIFF' + struct.pack('<I', len(body)) + body)[:cut]
    (box / 'b.wav').write_bytes(content)
    return box / 'b.wav'


case('WAV of 65,535 channels', 'b.wav')(lambda b: animate(b, audio=wav_of(b, channels=65535 // 2)))
case('WAV of 255 channels', 'b.wav')(lambda b: animate(b, audio=wav_of(b, channels=255)))
case('WAV cut in its format', 'b.wav')(lambda b: animate(b, audio=wav_of(b, cut=30)))
case('WAV of 2^31 Hz', 'b.wav')(lambda b: animate(b, audio=wav_of(b, rate=2**31)))


@case('NPY with a damaged header', 'p.npy')
def _(box):
    np.save(box / 'p.npy', np.zeros((15, 6)))
    raw = (box / 'p.npy').read_bytes()
    (box / 'p.npy').write_bytes(raw[:20] + b'((((' + raw[24:])
    return animate(box, pose=box / 'p.npy')


@case('NPY that lies about its length', 'p.npy')
def _(box):
    np.save(box / 'p.npy', np.zeros((15, 6)))
    raw = (box / 'p.npy').read_bytes()
    (box / 'p.npy').write_bytes(raw.replace(b'(15, 6)', b'(9999999999, 6)'.ljust(15)))
    return animate(box, pose=box / 'p.npy')


@case('poses of 1e300', 'p.npy')
def _(box):
    np.save(box / 'p.npy', np.full((15, 6), 1e300))
    return animate(box, pose=box / 'p.npy')


def forbidden(box, name):
    (box / name).chmod(0)
    return animate(box)


if os.geteuid():  # root may read everything
    for name in ('me.png', 'a.wav', 'toy.safetensors'):
        case(f'{name} without read permission', 'permission')(
            lambda box, name=name: forbidden(box, name)
        )


# ---- weights


def raw_header(box, header):
    "Our file with another header."
    content = (box / 'toy.safetensors').read_bytes()
    n = struct.unpack('<Q', content[:8])[0]
    head = json.loads(content[8 : 8 + n])
    head['__metadata__'] = dict(talkface=header)
    new = json.dumps(head).encode()
    new += b' ' * (-len(new) % 8)
    (box / 'w.safetensors').write_bytes(struct.pack('<Q', len(new)) + new + content[8 + n :])
    return animate(box, weights=box / 'w.safetensors')


for title, header in dict(
    list='[]',
    text='"x"',
    nested='[' * 50000,
    number='5',
    empty='{}',
    without_models=json.dumps(dict(config=TOY_WEIGHTS)),
    without_config=json.dumps(dict(models=['generator'])),
    config_list=json.dumps(dict(config=[], models=[])),
    models_number=json.dumps(dict(config=TOY_WEIGHTS, models=5)),
    models_nested=json.dumps(dict(config=TOY_WEIGHTS, models=[[]])),
).items():
    case(f'weights: header is {title}', 'w.safetensors')(
        lambda box, header=header: raw_header(box, header)
    )


def changed(box, place, value):
    "Weights with another value in their configuration."
    ck = load_checkpoint(box / 'toy.safetensors')
    config = json.loads(json.dumps(ck.config))
    node = config
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    save_checkpoint(box / 'w.safetensors', dict(ck), config, half=False)
    return animate(box, weights=box / 'w.safetensors')


for place, values in {
    'size': (0, 65, -5, 10**9, 20000, None, 64.5, '64'),
    'crop': (5, [1], 'a', 1e9, {'scale': 0}, {'skale': 1}),
    'preset': ({}, 'beast', 3),
    'ph2kp.nhead': (0, 3),
    'ph2kp.num_w': (-3, 10**6),
    'ph2kp.num_layers': (10**8, 2),
    'ph2kp.widths': (['a'], [], 5),
    'kp_detector.scale_factor': (0, -1),
    'kp_detector.block_expansion': (10**6, 8),
    'generator.num_bottleneck_blocks': (10**9, 3),
    'generator.dense_motion_params': (5,),
    'audio2pose.hidden': (10**9, 32),
    'audio2pose': (None, [], 'x'),
    'ph2kp.colour': (1,),
}.items():
    for value in values:
        case(f'weights: {place} = {json.dumps(value)[:20]}', 'w.safetensors')(
            lambda box, pair=(place.split('.'), value): changed(box, *pair)
        )


def other_tensors(box, change):
    ck = load_checkpoint(box / 'toy.safetensors')
    change(ck)
    save_checkpoint(box / 'w.safetensors', dict(ck), ck.config, half=False)
    return animate(box, weights=box / 'w.safetensors')


def filled(value):
    def change(ck):
        for state in ck.values():
            for key, tensor in state.items():
                if tensor.is_floating_point():
                    state[key] = torch.full_like(tensor, value)

    return change


for value in (float('nan'), float('inf')):
    case(f'weights: all {value}', 'nan or infinity')(
        lambda box, value=value: other_tensors(box, filled(value))
    )


@case('weights: a pickle named .safetensors', 'refused')
def _(box):
    class Evil:
        def __reduce__(self):
            return print, ('evil',)

    (box / 'w.safetensors').write_bytes(pickle.dumps(Evil()))
    return animate(box, weights=box / 'w.safetensors')


@case('weights: keys that are numbers', 'w.ckpt')
def _(box):
    torch.save({1: {2: torch.zeros(1)}}, box / 'w.ckpt')
    return animate(box, weights=box / 'w.ckpt')


@case('weights: an empty name', 'give')
def _(box):
    return animate(box, '--weights', '')


@case('weights: keys that are numbers inside', 'w.ckpt')
def _(box):
    inner = {5: torch.zeros(1)}
    torch.save(dict(generator=inner, kp_detector=inner, ph2kp=inner), box / 'w.ckpt')
    return animate(box, weights=box / 'w.ckpt')


# ---- training


def configured(box, text):
    (box / 'c.json').write_text(text)
    return train(box, '--steps', 1, config=box / 'c.json')


for text in (
    *('[]', '5', 'null', '"cpu"', '[' * 50000, '{"base": []}', '{"fomm": 5}', '{"models": 5}'),
    *('{"fomm": {"batch": %s}}' % v for v in ('0', '-1', '"x"', '1.5', 'null')),
    *('{"fomm": {"lr": %s}}' % v for v in ('NaN', '"a"', '0', '1e99')),
    *('{"workers": -1}', '{"fomm": {"bach": 8}}', '{"init": 5}', '{"size": "64"}', '{"size": 1e9}'),
    *('{"bst": {"keep": 7}}', '{"fomm": {"share": -1}}', '{"fomm": {"critic": []}}'),
    '{"models": {"ph2kp": {"num_layers": 100000000}}}',
    '{"size": 64, "init": null, "vgg": "missing.pth"}',
):
    case(f'train: configuration {text[:40]}', 'c.json' if 'missing' not in text else 'missing.pth')(
        lambda box, text=text: configured(box, text)
    )


def spoilt(box, name, content):
    path = box / 'corpus' / name
    path.write_bytes(content)
    return train(box, '--steps', 1)


for name, content in (
    *(('settings.json', c) for c in (b'{', b'{}', b'[1]', b'{"size": "64"}', b'\xff\xfe\0')),
    *(('manifest.json', c) for c in (b'{', b'[]', b'{"clips": 3}', b'{"clips": [{}]}')),
):
    case(f'train: {name} is {content.decode("latin1")[:20]!r}', name)(
        lambda box, pair=(name, content): spoilt(box, *pair)
    )


def resumed(box, name, content):
    run = box / 'new' / 'run'
    run.mkdir(parents=True)
    (run / 'run.json').write_text(json.dumps(run_record(box)))
    (run / name).write_bytes(content)
    return train(box, '--resume', '--steps', 1, '--stage', 'head', config=box / 'toy.json')


def run_record(box):
    "A `run.json`."
    about = dict(corpus=str(box / 'corpus'), config={}, speaker='toy', stages={})
    return about


for content in (b'{', b'[]', b'{}', b'{"stages": 3}', b'5', b'\xff\xfe\0'):
    case(f'train: run.json is {content.decode("latin1")!r}', 'run.json')(
        lambda box, content=content: resumed(box, 'run.json', content)
    )


@pytest.fixture(scope='module')
def given(tmp_path_factory):
    return good_files(tmp_path_factory.mktemp('good'))


def answer(box, name):
    "(exit code, sentences, what is left in the folder `new`, names of files that were changed)."
    make, _ = CASES[name]
    (box / 'new').mkdir(exist_ok=True)
    arguments = make(box)
    before = {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in box.rglob('*') if p.is_file()}
    code, said = tried(arguments)
    after = {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in box.rglob('*') if p.is_file()}
    return SimpleNamespace(
        code=code,
        said=said,
        new=sorted(str(p.relative_to(box)) for p in after.keys() - before.keys()),
        changed=sorted(str(p.relative_to(box)) for p in before if after.get(p) != before[p]),
    )


@pytest.mark.parametrize('name', CASES)
def test_one_sentence(given, tmp_path, name):
    box = tmp_path / 'box'
    shutil.copytree(given, box, symlinks=True)
    got = answer(box, name)
    assert got.code == 2 and len(got.said) == 1, got
    for word in CASES[name][1]:
        assert word in got.said[0], got
    assert len(got.said[0]) < 500 and not got.new and not got.changed, got


if __name__ == '__main__':
    only = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder, 'good')
        start.mkdir()
        good_files(start)
        print('| case | exit code | sentence |\n| --- | --- | --- |')
        for k, name in enumerate(CASES):
            if only and not any(word in name for word in only):
                continue
            box = Path(folder, str(k))
            shutil.copytree(start, box, symlinks=True)
            got = answer(box, name)
            said = ' / '.join(got.said).replace(str(box) + '/', '').replace('|', '\\|')
            left = f' LEFT {got.new}' if got.new else ''
            left += f' CHANGED {got.changed}' if got.changed else ''
            right = got.code == 2 and len(got.said) == 1 and not left
            right = right and all(word in got.said[0] for word in CASES[name][1])
            mark = '' if right else ' **WRONG**'
            print(f'| {name} | {got.code}{mark}{left} | {said[:400]} |', flush=True)
            shutil.rmtree(box)
