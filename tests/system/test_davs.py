"Bad input for DAVS: one clear sentence on stderr, exit code 2, nothing half-written."

import json

import numpy as np
import pytest

from talkface.cli import main
from talkface.core import TalkfaceError, asset, weights_path
from talkface.davs_training import TOY_DAVS, Davs, davs_config, davs_data, fresh_davs, save_davs
from talkface.davs_training import load_davs, toy_davs_clips, toy_davs_corpus
from talkface.media import Clip, read_clip, read_image


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
    return toy_davs_corpus(tmp_path_factory.mktemp('toy') / 'corpus', people=2, each=4)


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp('config') / 'toy.json'
    path.write_text(json.dumps(dict(nets=TOY_DAVS, keypoints=None, least=2)))
    return path


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    data = davs_data(toy_davs_clips(2, 4), [], TOY_DAVS, least=2)
    nets = {name: net.eval() for name, net in fresh_davs(data).items()}
    davs = Davs(nets, data.vocabulary, davs_config(dict(nets=TOY_DAVS)))
    return save_davs(davs, tmp_path_factory.mktemp('weights') / 'davs.safetensors')


@pytest.fixture
def refused(capsys):
    "refused(*words, part): the command ends with 2 and one sentence that holds `part`."

    def check(*words, part):
        capsys.readouterr()
        assert main([str(w) for w in words]) == 2
        told = [line for line in capsys.readouterr().err.splitlines() if 'talkface: ' in line]
        said = [line for line in told if 'note: ' not in line]
        assert len(said) == 1 and part in said[0], told

    return check


def rewritten(corpus, folder, **changes):
    "A copy of a corpus whose clips say something else of themselves."
    import shutil

    shutil.copytree(corpus.path, folder)
    for path in folder.glob('clips/*/clip.json'):
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def train(folder, out, config, *more):
    "The words of a short training."
    return (
        'train',
        '--system',
        'davs',
        folder,
        '--out',
        out,
        '--config',
        config,
        '--steps',
        2,
        *more,
    )


def test_no_word_times(corpus, config, tmp_path, refused):
    folder = rewritten(corpus, tmp_path / 'heard', phonemes='words')
    refused(*train(folder, tmp_path / 'run', config), part='no word times')
    assert not (tmp_path / 'run').exists()


def test_one_speaker(corpus, config, tmp_path, refused):
    folder = rewritten(corpus, tmp_path / 'one', speaker='me')
    refused(*train(folder, tmp_path / 'run', config), part='one speaker (me)')
    assert not (tmp_path / 'run').exists()


def test_word_seen_once(corpus, tmp_path, refused):
    rare = tmp_path / 'rare.json'
    changes = dict(nets=TOY_DAVS, keypoints=None, vocabulary=['un', 'quark'])
    rare.write_text(json.dumps(changes))
    refused(*train(corpus.path, tmp_path / 'run', rare), part="'quark' is spoken 0 times")
    assert not (tmp_path / 'run').exists()


def test_unknown_stage_and_setting(corpus, config, tmp_path, refused):
    words = train(corpus.path, tmp_path / 'run', config, '--stage', 'fomm')
    refused(*words, part="no stage 'fomm'")
    odd = tmp_path / 'odd.json'
    odd.write_text('{"size": 96}')
    refused(*train(corpus.path, tmp_path / 'run', odd), part="no setting 'size'")
    assert not (tmp_path / 'run').exists()


def test_stopped_and_continued(corpus, config, tmp_path, capsys):
    words = train(corpus.path, tmp_path / 'run', config, '--device', 'cpu')
    assert main([str(w) for w in (*words, '--stage', 'person')]) == 0
    more = 'train', '--system', 'davs', '--out', tmp_path / 'run', '--resume', '--steps', 2
    assert main([str(w) for w in (*more, '--device', 'cpu')]) == 0
    assert 'davs.safetensors' in capsys.readouterr().out
    assert load_davs(tmp_path / 'run' / 'davs.safetensors').vocabulary


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    "The portrait for a second, without a sound."
    face = read_image(asset('portrait.png'))[::2, ::2]
    path = tmp_path_factory.mktemp('video') / 'mute.mp4'
    Clip(np.stack([face] * 26), None).save(path)
    return path


@pytest.fixture(scope='module')
def times(tmp_path_factory):
    path = tmp_path_factory.mktemp('times') / 'words.align'
    path.write_text('0 5000 sil\n5000 12000 un\n12000 25000 sil\n')
    return path


def test_silent_video(video, times, weights, refused, capsys):
    read = 'read', video, '--davs', weights
    refused(*read, part='no sound')
    refused(*read, '--words', times, '--audio', part='no sound')
    assert main([str(w) for w in (*read, '--words', times, '--video', '--json')]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found[0]) == ['start', 'end', 'word', 'p', 'top5'] and len(found) == 1
    assert (found[0]['start'], found[0]['end']) == (0.2, 0.48)


def test_face_lost_in_the_middle(video, weights, tmp_path, refused):
    frames = read_clip(video).frames
    empty = np.full_like(frames, 90)
    path = tmp_path / 'lost.mp4'
    Clip(np.concatenate([frames, empty, frames]), None).save(path)
    out = tmp_path / 'out.mp4'
    words = 'animate', asset('portrait.png'), '--system', 'davs', '--davs', weights
    refused(*words, '--drive', path, '-o', out, part='no face')
    assert not out.exists()


def test_weights_of_another_vocabulary(corpus, config, weights, tmp_path, refused):
    davs = load_davs(weights)
    other = Davs(davs.nets, [f'word{i}' for i in range(len(davs.vocabulary))], davs.config)
    path = save_davs(other, tmp_path / 'other.safetensors')
    refused('retrieve', corpus.path, '--davs', path, part='same vocabulary')
    changes = dict(nets=TOY_DAVS, keypoints=None, least=2, init=str(path))
    (tmp_path / 'init.json').write_text(json.dumps(changes))
    begun = train(corpus.path, tmp_path / 'run', tmp_path / 'init.json')
    refused(*begun, part='words')
    assert not (tmp_path / 'run').exists()


def test_weights_that_are_none(corpus, video, refused):
    refused('read', video, '--davs', weights_path('talkface-compact'), part='holds no DAVS')
    refused('retrieve', corpus.path, '--davs', 'none.safetensors', part='no weight file')


def test_times_of_another_video(video, weights, tmp_path, refused):
    late = tmp_path / 'late.ctm'
    late.write_text('x 1 5.0 0.5 un\n')
    refused('read', video, '--davs', weights, '--words', late, part='ends at 5.50 s')
    late.write_text('x 1 five 0.5 un\n')
    refused('read', video, '--davs', weights, '--words', late, part='line 1')


def test_drive_belongs_to_davs(video, refused):
    refused('animate', asset('portrait.png'), '--drive', video, part='--system davs')


def test_without_weights(tmp_path, refused):
    try:
        weights_path('talkface-davs')
    except TalkfaceError:
        out = tmp_path / 'out.mp4'
        refused('animate', '--system', 'davs', '-o', out, part='talkface train --system davs')
        assert not out.exists()
    else:
        pytest.skip('weights are bundled')
