"`talkface evaluate` as a user runs it: processes, cache, resumption, bad videos, weights on a corpus; and the user study's file."

import csv
import json
import os
import shutil
import numpy as np
import pytest
import toy
from talkface.cli import main
from talkface.core import asset
from talkface.metrics import spoken_mask
from talkface.media import Clip, read_image


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    "real/ and two systems of moving portraits; one made video is damaged, one has no real counterpart."
    d = tmp_path_factory.mktemp('videos')
    face = read_image(asset('portrait.png'))[::4, ::4]
    f = np.stack([np.roll(face, t, 0) for t in (0, 0, 1, 2, 2, 1, 0, 0)])
    wav = toy.speech(8 / 25)
    for k, n in enumerate(('anna', 'bob')):
        Clip(f[k:], wav).save(d / 'real' / f'{n}.mp4')
        Clip(f[k:], wav).save(d / 'same' / f'{n}.mp4', crf=30)
        for s in (0, 1):
            Clip(np.roll(f[k:], 1 + s, 0), wav).save(d / 'late' / f'{n}_seed{s}.mp4')
    (d / 'same' / 'bob_x.mp4').write_bytes(b'no video')
    Clip(f, wav).save(d / 'late' / 'nobody.mp4')
    return d


def run(*a, capsys=None):
    capsys.readouterr()
    return main([str(x) for x in a]), *capsys.readouterr()


def test_command(folders, tmp_path, monkeypatch, capsys):
    w = toy.weights(
        tmp_path / 'toy.safetensors'
    )  # untrained, so that no face is found in what it renders
    monkeypatch.setenv('TALKFACE_CACHE', str(tmp_path / 'cache'))
    go = lambda: run(
        'evaluate',
        folders / 'same',
        folders / 'late',
        '--against',
        folders / 'real',
        '--out',
        tmp_path / 'r',
        '--jobs',
        2,
        '--size',
        64,
        '--weights',
        w,
        capsys=capsys,
    )
    code, out, err = go()
    assert code == 0, err
    rep = json.loads((tmp_path / 'r' / 'report.json').read_text())
    by = {t['system']: t for t in rep['table']}
    assert list(by)[:3] == ['real video', 'same', 'late'] and {'still image', 'other words'} <= set(
        by
    )
    assert (
        by['late']['seeds'] == 2
        and by['late']['psnr']['seed_sd'] is not None
        and by['same']['psnr']['mean'] > by['late']['psnr']['mean']
    )
    assert (
        any('nobody' in n for n in rep['notes'])
        and any('bob' in n and 'same' in n for n in rep['notes'])
        and any('FID' in n for n in rep['notes'])
        and any('driven by the real video' in n or 'not made again' in n for n in rep['notes'])
    )
    rows = list(csv.DictReader(open(tmp_path / 'r' / 'rows.csv', newline='')))
    assert len(rows) == len(rep['rows']) and 'report.html' in out
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / 'cache' / 'evaluate').iterdir()}
    assert len(kept) == 2 + 3 + 4 and go()[0] == 0
    assert kept == {
        p: p.stat().st_mtime_ns for p in (tmp_path / 'cache' / 'evaluate').iterdir()
    }  # nothing was measured again
    assert 'nan' not in (tmp_path / 'r' / 'report.json').read_text().lower().replace('banana', '')


@pytest.mark.parametrize(
    'args,says',
    [
        (['nowhere'], 'nowhere'),
        (['{d}/same', '--against', '{d}/late'], 'real video'),
        (['{d}/same', '--syncnet', 'no.model'], 'no.model'),
        (['{d}/same', '--size', '9'], '32 to 1024'),
        (['{d}/same', '{d}/late', '--weights', 'talkface-compact'], 'one corpus'),
        ([], 'nothing to measure'),
        (['{d}/same', '--weights', 'talkface-compact'], 'no corpus'),
    ],
)
def test_mistakes(folders, tmp_path, monkeypatch, capsys, args, says):
    monkeypatch.setenv('TALKFACE_CACHE', str(tmp_path / 'cache'))
    monkeypatch.chdir(tmp_path)
    code, out, err = run(
        'evaluate',
        *[a.replace('{d}', str(folders)) for a in args],
        '--out',
        tmp_path / 'r',
        '--jobs',
        1,
        capsys=capsys,
    )
    assert (
        code == 2
        and says in err
        and len([l for l in err.splitlines() if l.startswith('talkface: ')]) == 1
        and not (tmp_path / 'r' / 'report.html').exists()
    )


@pytest.mark.skipif(
    not os.environ.get('TALKFACE_FACE_MODEL'), reason='head poses need the face landmarker'
)
def test_weights_beside_others(tmp_path, monkeypatch, capsys):
    "The bundled weights speak the real videos again, in the same table as a folder of another system."
    from talkface.animate import Animator
    from talkface.media import read_audio
    from talkface.phonemes import recognize

    monkeypatch.setenv('TALKFACE_CACHE', str(tmp_path / 'cache'))
    wav, sr = read_audio(asset('sentence.wav'))
    line = recognize(wav, sr, text=asset('sentence.txt').read_text())
    for k, n in enumerate(('anna', 'bob')):
        c = Animator.from_pretrained()(
            asset('portrait.png'),
            (wav[k * 24000 : (k + 1) * 24000], sr),
            phonemes=line.crop(1.5 * k, 1.5 * k + 1.5),
        )
        c.save(tmp_path / 'real' / f'{n}.mp4')
        Clip(c.frames[::-1], c.wav).save(tmp_path / 'back' / f'{n}.mp4')
        line.crop(1.5 * k, 1.5 * k + 1.5).save(tmp_path / 'real' / f'{n}.json')
    code, out, err = run(
        'evaluate',
        tmp_path / 'back',
        '--against',
        tmp_path / 'real',
        '--weights',
        'talkface-compact',
        '--out',
        tmp_path / 'r',
        '--jobs',
        2,
        capsys=capsys,
    )
    assert code == 0, err
    by = {t['system']: t for t in json.loads((tmp_path / 'r' / 'report.json').read_text())['table']}
    assert {
        'back',
        'talkface-compact',
        'talkface-compact, driven by the real video',
        'talkface-compact, other sound',
        'still image',
    } <= set(by)
    assert by['talkface-compact']['mouth_corr']['mean'] > 0.7 > by['back']['mouth_corr']['mean']
    assert len(list((tmp_path / 'r' / 'videos').glob('*/*.mp4'))) == 6


def test_weights_on_a_corpus(tmp_path, monkeypatch, capsys):
    "Drawn faces are no faces to a detector, so the rendered rows become notes; the real ones and the floors stand."
    from talkface.toy import TOY, toy_corpus
    from talkface.train import Run, TrainConfig

    monkeypatch.setenv('TALKFACE_CACHE', str(tmp_path / 'cache'))
    toy_corpus(tmp_path / 'c', 3, 24)
    w = toy.weights(tmp_path / 'toy_seed1.safetensors')
    (tmp_path / 'list.txt').write_text('toy__00\n02\n')
    code, out, err = run(
        'evaluate',
        '--weights',
        w,
        tmp_path / 'c',
        '--clips',
        tmp_path / 'list.txt',
        '--out',
        tmp_path / 'r',
        '--size',
        64,
        '--jobs',
        1,
        capsys=capsys,
    )
    assert code == 0, err
    rep = json.loads((tmp_path / 'r' / 'report.json').read_text())
    by = {t['system']: t for t in rep['table']}
    assert (
        rep['settings']['clips'] == ['toy__00', 'toy__02']
        and by['real video']['psnr']['mean'] == 100
        and by['copied frames']['clips'] == 2
    )
    assert len(list((tmp_path / 'r' / 'videos').glob('*/*.mp4'))) == 8
    (tmp_path / 'leave.txt').write_text('00\n01\n')
    told = TrainConfig(str(tmp_path / 'c'), TOY, str(tmp_path / 'leave.txt'))
    r = Run.create(tmp_path / 'run_seed1', told, 'cpu')
    before = (r.out / 'run.json').read_bytes()
    shutil.copy(w, r.out / 'talkface.safetensors')
    code, out, err = run(
        'evaluate', r.out, '--out', tmp_path / 'r3', '--size', 64, '--jobs', 1, capsys=capsys
    )  # a run knows its corpus and what it left out
    assert code == 0, err
    rep = json.loads((tmp_path / 'r3' / 'report.json').read_text())
    assert (
        rep['settings']['clips'] == ['toy__00', 'toy__01']
        and (tmp_path / 'r3' / 'videos' / 'run_seed1').is_dir()
        and (r.out / 'run.json').read_bytes() == before
    )
    assert any(n.startswith('run, toy__00') for n in rep['notes'])
    code, out, err = run(
        'evaluate', r.out, tmp_path / 'r3' / 'videos', '--out', tmp_path / 'r4', capsys=capsys
    )
    assert code == 2 and '--against' in err
    (tmp_path / 'list.txt').write_text('nobody\n')
    assert (
        run(
            'evaluate',
            '--weights',
            w,
            tmp_path / 'c',
            '--clips',
            tmp_path / 'list.txt',
            '--out',
            tmp_path / 'r2',
            capsys=capsys,
        )[0]
        == 2
    )


def test_study(tmp_path):
    from talkface.user_study import Study, result

    for m in ('real', 'ours'):
        for s in 'ab':
            (tmp_path / m).mkdir(exist_ok=True)
            (tmp_path / m / f'{s}.mp4').write_bytes(b'x')
    st = Study(tmp_path)
    for r in ('one', 'two, "quoted"'):
        for i in st.left(r):
            st.answer(r, i, {q: 5 if i[1] == 'real' else 3 for q in ('sync', 'head', 'real')})
    assert (
        len(st.read()) == 8
        and not st.left('one')
        and {(x['system'], x['mean']) for x in result(st.read())} == {('real', 5.0), ('ours', 3.0)}
    )
    assert all(x['gap'] == -2 for x in result(st.read()) if x['system'] == 'ours')


def test_m_is_speech():
    "Without words, every phoneme but silence and noise counts as spoken: M as much as AA."
    from talkface.phonemes import PhonemeTimeline

    line = PhonemeTimeline([('SIL', 0, 0.2), ('M', 0.2, 0.4), ('NSN', 0.4, 0.6), ('AA', 0.6, 1)])
    assert spoken_mask(line, 25).nonzero()[0].tolist() == [*range(5, 10), *range(15, 25)]
