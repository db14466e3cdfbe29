"""Action units: tables, footage and weights that are wrong end in one sentence and exit code 2.

Also data sets as they are distributed, and a small run, continued.
"""

import numpy as np
import pytest
import torch
import toy

from talkface.au_fusion import AUS
from talkface.au_training import AU_NETWORKS, arrange_dataset, read_aus, write_aus
from talkface.au_use import save_networks
from talkface.cli import main
from talkface.core import asset, load_checkpoint, save_checkpoint
from talkface.media import Clip, read_image
from talkface.phonemes import PhonemeTimeline
from talkface.toy import TOY, TOY_WEIGHTS, toy_corpus
from talkface.train import plain_config, train

SECONDS = 0.6
FRAMES = 15


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    "A portrait, a voice with its phonemes, toy weights of the system au, a good table."
    d = tmp_path_factory.mktemp('au')
    torch.manual_seed(0)
    nets = {name: make() for name, make in AU_NETWORKS.items()}
    config = {name: plain_config(net.config) for name, net in nets.items()}
    states = {**toy.networks(), **nets}
    weights = save_checkpoint(d / 'toy.safetensors', states, {**TOY_WEIGHTS, **config})
    write_aus(d / 'good.csv', np.full((FRAMES, 5), 2.0))
    wav = toy.wav(d / 'a.wav', toy.speech(SECONDS))
    return dict(dir=d, weights=weights, wav=wav, ph=toy.phonemes(d / 'a.json', SECONDS))


def told(capsys, *args):
    "Exit code, and the sentences on stderr, of a command."
    capsys.readouterr()
    code = main([str(a) for a in args])
    err = capsys.readouterr().err.replace('\r', '\n').split('\n')
    return code, [line for line in err if line.startswith('talkface: ')]


@pytest.fixture
def animate(files, tmp_path, capsys):
    "animate(table, *more) -> (code, sentences); the video would be o.mp4, alone in its folder."

    def go(*more, weights=None):
        weights = weights or files['weights']
        out = tmp_path / 'out' / 'o.mp4'
        out.parent.mkdir(exist_ok=True)
        args = ['animate', asset('portrait.png'), files['wav'], '-o', out, '--weights', weights]
        args += ['--phonemes', files['ph'], '--pose', 'still', '--size', 64, '--device', 'cpu']
        return told(capsys, *args, *more)

    go.folder = tmp_path / 'out'
    return go


def refused(result, words, folder=None):
    "One sentence with these words, exit code 2, nothing written."
    code, lines = result
    assert code == 2, lines
    assert len([line for line in lines if not line.startswith('talkface: note')]) == 1, lines
    assert words in lines[-1], lines
    assert folder is None or not list(folder.iterdir())


def test_a_table_drives(files, animate):
    code, lines = animate('--aus', files['dir'] / 'good.csv')
    assert code == 0, lines
    assert [p.name for p in animate.folder.iterdir()] == ['o.mp4']


def test_the_system_by_name(animate):
    assert animate('--system', 'au')[0] == 0


LATE = '\n'.join(
    f'{t + 1}, {t / 30:.3f}, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0' for t in range(FRAMES)
)


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda text: text.replace('AU26_r', 'AU27_r'), 'no column AU26_r'),
        (lambda text: text.replace('\n7, ', '\n9, '), 'goes from frame 6 to 9'),
        (lambda text: text.replace('0.240, 1.00, 1,', '0.240, 0.10, 0,'), 'lost the face in 1 of'),
        (lambda text: text.splitlines()[0] + '\n' + LATE + '\n', 'frames a second'),
        (lambda text: text.replace(', 2.00', ', 7.00', 1), 'AU10_r = 7 in row 2'),
        (lambda text: text.replace(', 2.00', ', -1', 1), 'AU10_r = -1 in row 2'),
        (lambda text: text.replace(', 2.00', ', nan', 1), 'AU10_r = nan in row 2'),
        (lambda text: text.replace(', 2.00', ', much', 1), 'no number'),
        (lambda text: '\n'.join(text.splitlines()[:6]) + '\n', '5 rows (0.20 s) and the sound'),
        (lambda text: text + text.split('\n', 1)[1], 'goes from frame 15 to 1'),
        (lambda text: text.splitlines()[0] + '\n', 'has no rows'),
        (lambda text: '', 'has no rows'),
        (lambda text: text[:-20], 'cut off'),
    ],
)
def test_tables_refused(files, animate, change, words):
    table = files['dir'] / 'changed.csv'
    table.write_text(change((files['dir'] / 'good.csv').read_text()))
    refused(animate('--aus', table), words, animate.folder)


def test_no_table(files, animate):
    refused(animate('--aus', files['dir'] / 'none.csv'), 'there is no AU table', animate.folder)


def test_a_picture_as_table(animate):
    refused(animate('--aus', asset('portrait.png')), 'is no CSV table', animate.folder)


def test_openface_writes_spaces_and_more_columns(tmp_path):
    names = [f'{n}_r' for n in ('AU01', *AUS, 'AU45')]
    rows = [', '.join(['frame', ' face_id', ' success', *names])]
    rows += [', '.join([str(t), '0', '1', *['0.5'] * 7]) for t in range(1, 9)]
    (tmp_path / 'of.csv').write_text('\n'.join(rows))
    assert (read_aus(tmp_path / 'of.csv') == 0.5).all()


def test_weights_of_another_list(files, animate, tmp_path):
    checkpoint = load_checkpoint(files['weights'])
    checkpoint.config['audio2au']['aus'] = ['AU10', 'AU12', 'AU20', 'AU25', 'AU26']
    other = save_checkpoint(tmp_path / 'other.safetensors', checkpoint, checkpoint.config)
    result = animate('--system', 'au', weights=other)
    refused(result, 'was trained for AU10, AU12', animate.folder)


def test_weights_without_a_part(files, animate, tmp_path):
    checkpoint = load_checkpoint(files['weights'])
    del checkpoint['au_fusion']
    half = save_checkpoint(tmp_path / 'half.safetensors', checkpoint, checkpoint.config)
    refused(animate('--system', 'au', weights=half), 'has no au_fusion', animate.folder)


def test_bundled_networks_refuse_another_detector(animate, tmp_path):
    strange = toy.weights(tmp_path / 'strange.safetensors')
    result = animate('--system', 'au', weights=strange)
    refused(result, 'talkface train --system au', animate.folder)


def test_the_table_of_a_sound(files, tmp_path, capsys):
    out = tmp_path / 'a.csv'
    nets = {name: make() for name, make in AU_NETWORKS.items()}
    weights = save_networks(tmp_path / 'nets.safetensors', nets)
    args = ['aus', files['wav'], '-o', out, '--phonemes', files['ph'], '--weights', weights]
    assert told(capsys, *args)[0] == 0
    assert read_aus(out).shape[1] == 5
    refused(told(capsys, *args[:3], tmp_path / 'a.xls'), 'ends in .csv')


def test_tables_of_a_corpus(tmp_path, capsys):
    corpus = toy_corpus(tmp_path / 'corpus', n=2)
    assert told(capsys, 'aus', corpus.path)[0] == 0
    tables = sorted((corpus.path / 'aus' / 'geometry').iterdir())
    assert [p.stem for p in tables] == [c.id for c in corpus]
    refused(told(capsys, 'aus', tmp_path), 'no corpus')


def test_hidden_lower_face(tmp_path, capsys):
    picture = read_image(asset('portrait.png'))
    Clip(np.stack([picture] * 30)).save(tmp_path / 'masked.mp4')
    out = tmp_path / 'seen.csv'
    result = told(capsys, 'aus', tmp_path / 'masked.mp4', '-o', out, '--seen')
    refused(result, 'lips')
    assert not out.exists()


def tcd_timit(folder):
    "TCD-TIMIT in miniature: two volunteers, two cameras, one label file."
    lines = ['#!MLF!#']
    for who in ('01M', '02F'):
        for camera in ('straightcam', '30degcam'):
            clips = folder / 'volunteers' / who / 'Clips' / camera
            clips.mkdir(parents=True)
            (clips / 'sa1.mp4').write_bytes(who.encode() + camera.encode())
        lines += [
            f'"*/{who}/Clips/straightcam/sa1.rec"',
            '0 1500000 sil',
            '1500000 2500000 sh',
            '.',
        ]
    (folder / 'volunteer_labelfiles.mlf').write_text('\n'.join(lines))


def test_tcd_timit(tmp_path, capsys):
    tcd_timit(tmp_path / 'tcd')
    assert told(capsys, 'arrange', tmp_path / 'tcd', tmp_path / 'plain')[0] == 0
    videos = sorted(tmp_path.glob('plain/*/*.mp4'))
    assert [p.parent.name for p in videos] == ['01M', '02F']
    assert videos[0].read_bytes() == b'01Mstraightcam'
    phones = PhonemeTimeline.load(videos[1].with_suffix('.ctm'))
    assert [(s.label, s.end) for s in phones] == [('SIL', 0.15), ('SH', 0.25)]
    assert arrange_dataset(tmp_path / 'tcd', tmp_path / 'plain') == 2  # once more is no harm


def test_neither_grid_nor_tcd(tmp_path, capsys):
    (tmp_path / 'films').mkdir()
    (tmp_path / 'films/me.mp4').touch()
    refused(told(capsys, 'arrange', tmp_path / 'films', tmp_path / 'plain'), 'neither GRID nor')


SMALL = dict(
    audio2au=dict(hidden=8), au_classifier=dict(width=2), au_fusion=dict(widths=[8, 8], code=8)
)
CONFIG = dict(
    TOY,
    models={**TOY['models'], **SMALL},
    au_audio=dict(batch=2, T=12),
    au_classifier=dict(batch=4),
    au_fusion=dict(batch=2, T=12),
)


def test_train_and_continue(tmp_path, capsys):
    corpus = toy_corpus(tmp_path / 'corpus', n=5)
    (tmp_path / 'left_out.txt').write_text('00\n01\n')
    how = dict(config=CONFIG, validate=tmp_path / 'left_out.txt', device='cpu', system='au')
    run = train(corpus.path, tmp_path / 'run', steps=2, **how)
    assert run.done() == ['au_audio', 'au_classifier', 'au_fusion']
    assert set(SMALL) <= set(load_checkpoint(run.out / 'talkface.safetensors'))
    assert 'mouth_corr_kp' in (run.out / 'au_fusion_scores.csv').read_text()
    again = train(None, run.out, 'au_audio', steps=4, resume=True, device='cpu', system='au')
    assert again.about['stages']['au_audio']['steps'] == 4


def test_unknown_stage(tmp_path, capsys):
    corpus = toy_corpus(tmp_path / 'corpus', n=2)
    args = ['train', corpus.path, '--out', tmp_path / 'run', '--steps', 1]
    refused(told(capsys, *args, '--system', 'au', '--stage', 'bst'), "no stage 'bst'")
