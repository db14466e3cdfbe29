"`talkface strangers` with videos and arguments that cannot be judged."

import json

import numpy as np
import pytest
import toy
from talkface.cli import main
from talkface.core import asset
from talkface.media import Clip, read_image


@pytest.fixture
def films(tmp_path):
    "A silent video of a face, one that is too short, and a file that is no video."
    face = read_image(asset('portrait.png'))[::4, ::4]
    Clip(np.repeat(face[None], 30, 0)).save(tmp_path / 'films' / 'silent.mp4')
    Clip(np.repeat(face[None], 10, 0), toy.speech(0.4)).save(tmp_path / 'films' / 'short.mp4')
    (tmp_path / 'films' / 'damaged.mp4').write_bytes(b'no video')
    return tmp_path / 'films'


def run(capsys, *arguments):
    "(code, what is said) of the command."
    capsys.readouterr()
    code = main(['strangers', *map(str, arguments)])
    said = [s for s in capsys.readouterr().err.splitlines() if s.startswith('talkface: ')]
    return code, said


@pytest.mark.parametrize(
    'name,why', [('silent', 'no sound'), ('short', '10 frames'), ('damaged', 'damaged')]
)
def test_video_that_cannot_be_judged(films, tmp_path, monkeypatch, capsys, name, why):
    monkeypatch.setenv('TALKFACE_CACHE', str(tmp_path / 'cache'))
    out = tmp_path / 'out.json'
    code, said = run(capsys, films / f'{name}.mp4', '--out', out, '--jobs', 1)
    assert code == 2 and len(said) == 1 and 'no video could be judged' in said[0]
    assert why in said[0] and name in said[0]
    assert not out.exists() and not out.with_suffix('.png').exists()


@pytest.mark.parametrize(
    'arguments,why',
    [
        (['--out', 'numbers.txt'], '.json'),
        (['--system', 'nobody'], 'nobody'),
        (['--system', 'linear'], 'no linear'),
        (['--weights', 'nothing.safetensors'], 'nothing.safetensors'),
        (['--identity', 'no.onnx'], 'no.onnx'),
    ],
)
def test_mistakes(films, tmp_path, monkeypatch, capsys, arguments, why):
    monkeypatch.setenv('TALKFACE_CACHE', str(tmp_path / 'cache'))
    monkeypatch.chdir(tmp_path)
    code, said = run(capsys, films, *arguments, '--jobs', 1)
    assert code == 2 and len(said) == 1 and why in said[0]
    assert not (tmp_path / 'strangers.json').exists()


@pytest.mark.skipif(
    'not __import__("os").environ.get("TALKFACE_FACE_MODEL")', reason='needs landmarks'
)
def test_one_bad_video_does_not_stop_the_others(films, tmp_path, monkeypatch, capsys):
    from talkface.animate import Animator
    from talkface.media import read_audio

    monkeypatch.setenv('TALKFACE_CACHE', str(tmp_path / 'cache'))
    wav, sr = read_audio(asset('sentence.wav'))
    speaking = Animator.from_pretrained()(asset('portrait.png'), (wav[: 2 * sr], sr), size=256)
    speaking.save(films / 'speaking.mp4')
    out = tmp_path / 'out.json'
    code, said = run(capsys, films, '--seconds', 1.2, '--out', out, '--jobs', 1)
    assert code == 0, said
    found = json.loads(out.read_text())
    roles = {line['system']: line['role'] for line in found['table']}
    assert roles['talkface-compact'] == 'system' and roles['still image'] == 'floor'
    assert {n.split(':')[0] for n in found['notes'][:3]} == {'silent', 'short', 'damaged'}
    assert out.with_suffix('.png').stat().st_size > 10000
    assert 'nan' not in out.read_text().lower()
