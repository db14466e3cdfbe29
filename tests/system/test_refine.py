"The refiner: trained by the command on a corpus of twice the size, used, switched off, missing."

import json

import numpy as np
import pytest
import toy

from talkface.animate import Animator
from talkface.cli import main
from talkface.core import TalkfaceError, asset, load_checkpoint
from talkface.refine import Refiner
from talkface.refine_training import add_refiner
from talkface.toy import TOY, toy_corpus
from talkface.train import train


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    "A run of the stage on a toy corpus of 128 px, from toy weights of 64 px."
    d = tmp_path_factory.mktemp('refine')
    weights = toy.weights(d / 'toy.safetensors', speaker=True, half=True)
    toy_corpus(d / 'corpus', 4, 12, size=128)
    toy_corpus(d / 'small', 4, 12, size=64)
    config = d / 'toy.json'
    config.write_text(json.dumps(TOY))
    given = dict(corpus=d / 'corpus', config=config, init=str(weights), device='cpu')
    made = train(out=d / 'run', stage='refine', steps=2, **given)
    return dict(dir=d, weights=weights, made=made.out / 'talkface.safetensors', given=given)


def test_the_command_adds_the_refiner_to_the_weights_it_began_with(run):
    before, after = load_checkpoint(run['weights']), load_checkpoint(run['made'])
    assert set(after) == {*before, 'refiner'}
    for name, state in before.items():
        assert all(np.allclose(state[k], after[name][k], atol=1e-2) for k in state), name
    trained = Refiner(**after.config['refiner'])
    trained.load_state_dict({k: v.float() for k, v in after['refiner'].items()})
    assert trained.last.weight.abs().max() > 0  # zero before training


def test_a_run_goes_on_from_its_refiner(run):
    given = dict(run['given'], init=str(run['made']))
    again = train(out=run['dir'] / 'again', stage='refine', steps=1, **given)
    assert (again.out / 'report.html').is_file()


@pytest.mark.parametrize(
    'stage, corpus, words', [('refine', 'small', 'needs 128'), ('head', 'corpus', 'needs 64')]
)
def test_a_corpus_of_the_wrong_size_is_refused(run, stage, corpus, words):
    given = dict(run['given'], corpus=run['dir'] / corpus)
    with pytest.raises(TalkfaceError, match=words):
        train(out=run['dir'] / f'wrong_{stage}', stage=stage, steps=1, **given)


@pytest.fixture(scope='module')
def strong(run):
    "Weights whose refiner keeps all detail and paints nothing, for tests of the switch."
    return add_refiner(run['weights'], Refiner(8, 1, keep=20.0), run['dir'] / 'strong.safetensors')


def frames_of(weights, **settings):
    animator = Animator.from_pretrained(weights, 'cpu', fast=False, **settings)
    portrait = animator.portrait(asset('portrait.png'))
    kp = portrait.kp.repeat_interleave(2)
    return np.stack(list(animator.shown_frames(portrait, kp, 256, frame='face', blinks=False)))


def test_weights_without_a_refiner_work_as_before(run, strong):
    plain = frames_of(run['weights'])
    assert (plain == frames_of(strong, refine=False)).all()
    assert (plain != frames_of(strong)).any()


def test_the_rewritten_refiner_is_the_trained_one(strong):
    fast, slow = frames_of(strong).astype(int), frames_of(strong, rewritten=False)
    assert np.abs(fast - slow).max() <= 1


def test_the_command_line_switches_it_off(run, strong):
    sound = toy.wav(run['dir'] / 'a.wav', toy.speech(0.3))
    phonemes = toy.phonemes(run['dir'] / 'a.json', 0.3)
    made = {}
    for refine in ('on', 'off'):
        out = run['dir'] / f'{refine}.mp4'
        args = ['animate', asset('portrait.png'), sound, '-o', out, '--weights', strong]
        args += ['--phonemes', phonemes, '--pose', 'still', '--device', 'cpu', '--refine', refine]
        assert main([*map(str, args), '--frame', 'face', '--size', '256']) == 0
        made[refine] = out.read_bytes()
    assert made['on'] != made['off']
