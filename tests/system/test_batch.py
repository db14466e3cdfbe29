"Lists of videos: frames do not depend on the processes, a failure is a line, names are checked."

import csv
import os
import sys

import pytest
import toy

from talkface.batch import read_list, render_list
from talkface.cli import main
from talkface.core import TalkfaceError, asset
from talkface.media import read_clip


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('toy')
    return dict(dir=folder, weights=toy.weights(folder / 'toy.safetensors', speaker=True))


@pytest.fixture
def many(files, tmp_path):
    from PIL import Image

    Image.open(asset('portrait.png')).convert('RGB').save(tmp_path / 'me.png')
    Image.new('RGB', (200, 200), (90, 120, 90)).save(tmp_path / 'grass.png')
    for n in 'abc':
        toy.wav(tmp_path / f'{n}.wav', toy.speech(0.6, 0.5 + 0.2 * ord(n) - 19))
    toy.phonemes(tmp_path / 'p.json', 0.6)
    with open(tmp_path / 'list.csv', 'w', newline='') as f:
        w = csv.writer(f)
        w.writerow(['image', 'audio', 'phonemes', 'pose', 'size', 'out'])
        w.writerows(
            [
                ['me.png', 'a.wav', 'p.json', 'still', 64, ''],
                ['grass.png', 'b.wav', 'p.json', 'still', 64, ''],
                ['me.png', 'none.wav', 'p.json', 'still', 64, ''],
                ['me.png', 'b.wav', 'p.json', '', '', 'b b.mp4'],
                ['me.png', 'c.wav', 'p.json', 'still', 64, ''],
            ]
        )
    return tmp_path


def test_batch(many, files, capsys):
    kw = dict(weights=str(files['weights']), device='cpu')
    one = render_list(many / 'list.csv', many / 'one', jobs=1, **kw)
    assert (
        [r['status'] for r in one] == ['made', 'failed', 'failed', 'made', 'made']
        and 'no face' in one[1]['what']
        and 'none.wav' in one[2]['what']
    )
    render_list(many / 'list.csv', many / 'two', jobs=2, **kw)
    for n in ('me_a.mp4', 'b b.mp4', 'me_c.mp4'):
        assert (read_clip(many / 'one' / n).frames == read_clip(many / 'two' / n).frames).all()
    assert sorted(p.name for p in (many / 'two').iterdir()) == [
        'b b.mp4',
        'me_a.mp4',
        'me_c.mp4',
        'report.csv',
    ]
    (many / 'one' / 'me_a.mp4').unlink()
    toy.wav(many / 'c.wav', toy.speech(0.8))
    kept = (many / 'one' / 'b b.mp4').stat().st_mtime_ns
    code = main(
        [
            'animate',
            '--batch',
            str(many / 'list.csv'),
            '-o',
            str(many / 'one'),
            '--weights',
            kw['weights'],
            '--device',
            'cpu',
            '--jobs',
            '1',
        ]
    )
    out, err = capsys.readouterr()
    assert (
        code == 2
        and '2 videos made, 1 were done before, 2 failed' in out
        and '2 of 5' in err
        and 'Traceback' not in err
    )
    assert (many / 'one' / 'b b.mp4').stat().st_mtime_ns == kept and len(
        read_clip(many / 'one' / 'me_c.mp4')
    ) == 20


def test_batch_refuses(many, capsys):
    (many / 'bad.csv').write_text('image,sound\na,b\n')
    for args in (
        ['--batch', many / 'bad.csv'],
        ['--batch', many / 'none.csv'],
        ['x.png', '--batch', many / 'list.csv'],
        ['--batch', many / 'list.csv', '-o', many / 'o.mp4'],
        ['--batch', many / 'list.csv', '--jobs', 0],
    ):
        assert main(['animate', *map(str, args)]) == 2
    assert 'Traceback' not in capsys.readouterr().err


REFUSED = {
    'image,audio,out\na,b,../../../../esc.mp4\n': 'leave the folder',
    'image,audio,out\na,b,/elsewhere/a.mp4\n': 'leave the folder',
    'image,audio,out\na,b,a.mp4\na,c,x/../a.mp4\n': 'both write',
    'image,audio,out\na,b,A.mp4\na,c,a.mp4\n': 'both write',
    'image,audio,out,pose\na,b,o/d.mp4,\na,c,e.mp4,videos/o/d.mp4\n': 'would overwrite',
    'image,audio,frame\na,b,half\n': 'frame',
    'image,audio,articulation\na,b,9\n': 'articulation',
    'image,audio,blinks\na,b,1\n': 'blinks',
    'image,audio,size\na,b,4\n': 'size',
}


@pytest.mark.parametrize('text', REFUSED)
def test_lists_that_are_refused(tmp_path, text):
    (tmp_path / 'list.csv').write_text(text)
    with pytest.raises(TalkfaceError, match=REFUSED[text]):
        read_list(tmp_path / 'list.csv', tmp_path / 'videos')


def test_a_link_does_not_leave_the_folder(tmp_path):
    (tmp_path / 'videos').mkdir()
    (tmp_path / 'videos' / 'away').symlink_to(tmp_path)
    (tmp_path / 'list.csv').write_text('image,audio,out\na,b,away/a.mp4\n')
    with pytest.raises(TalkfaceError, match='leave the folder'):
        read_list(tmp_path / 'list.csv', tmp_path / 'videos')


@pytest.mark.skipif(
    not os.environ.get('TALKFACE_RAY'),
    reason='TALKFACE_RAY is not set: a Ray cluster takes minutes to start',
)
def test_ray(many, files):
    pytest.importorskip('ray')
    kw = dict(weights=str(files['weights']), device='cpu')
    a, b = (
        render_list(many / 'list.csv', many / 'p', jobs=1, **kw),
        render_list(many / 'list.csv', many / 'r', jobs=1, ray='local', **kw),
    )
    assert [r['status'] for r in a] == [r['status'] for r in b]
    for n in ('me_a.mp4', 'b b.mp4', 'me_c.mp4'):
        assert (read_clip(many / 'p' / n).frames == read_clip(many / 'r' / n).frames).all()


def test_ray_missing(many, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'ray', None)
    assert (
        main(['animate', '--batch', str(many / 'list.csv'), '--ray', 'local']) == 2
        and 'talkface[ray]' in capsys.readouterr().err
    )
