"Official layouts, built from the key lists of the released classes, fit our modules."

import pytest
import torch
from talkface.core import TalkfaceError, load_checkpoint, load_into


def spread(shape, name):
    "A tensor of this shape whose storage is one number, so that full-size files stay tiny."
    if name.endswith('num_batches_tracked'):
        return torch.tensor(0)
    return torch.full((1,), 0.5).expand(shape) if shape else torch.tensor(0.5)


@pytest.fixture
def states(released):
    return lambda keys: {n: spread(s, n) for n, s in released.keys(keys).items()}


def saved(path, d, zipped=True):
    torch.save(d, path, _use_new_zipfile_serialization=zipped)
    return load_checkpoint(path)


def modules(config):
    from talkface.avct import AVCT
    from talkface.fomm import KPDetector, OcclusionAwareGenerator
    from talkface.head_motion import HeadMotionPredictor

    return {
        'kp_detector': KPDetector,
        'generator': OcclusionAwareGenerator,
        'ph2kp': AVCT,
        'audio2pose': HeadMotionPredictor,
    }


def fits(c, names):
    for n in names:
        m = modules(c.config)[n](**c.config[n])
        load_into(m, c, n)
        assert all((v == 0.5).all() for k, v in m.state_dict().items() if v.is_floating_point()), n


def test_generator_ckpt(tmp_path, states):
    c = saved(
        tmp_path / 'generator.ckpt',
        {k: states(f'{k}') for k in ('kp_detector', 'generator', 'ph2kp')},
    )
    assert (c.kind, set(c)) == ('avct', {'kp_detector', 'generator', 'ph2kp'})
    assert c.config['size'] == 256
    fits(c, c)


def test_audio2pose_ckpt(tmp_path, states):
    c = saved(tmp_path / 'audio2pose.ckpt', {'generator': states('audio2pose_avct')})
    assert (c.kind, set(c)) == ('audio2pose', {'audio2pose'})
    fits(c, c)


@pytest.mark.parametrize('zipped', [False, True])
def test_vox_cpk(tmp_path, states, zipped):
    d = {
        'generator': states('fomm_generator'),
        'kp_detector': states('fomm_kp_detector'),
        'discriminator': states('fomm_discriminator_vox256'),
        'optimizer_generator': {
            'state': {0: {'step': 3}},
            'param_groups': [{'lr': 2e-4, 'betas': (0.5, 0.999)}],
        },
        'epoch': 99,
    }
    c = saved(tmp_path / 'vox-cpk.pth.tar', d, zipped)
    assert (c.kind, set(c)) == ('fomm', {'generator', 'kp_detector', 'discriminator'})
    fits(c, ('generator', 'kp_detector'))


def test_audio2head(tmp_path, states):
    c = saved(
        tmp_path / 'audio2head.pth.tar',
        {
            'kp_detector': states('kp_detector'),
            'generator': states('generator'),
            'audio2kp': states('audio2kp_audio2head'),
            'audio2pose': states('audio2pose_audio2head'),
        },
    )
    assert (c.kind, set(c)) == (
        'audio2head',
        {'kp_detector', 'generator', 'audio2kp', 'audio2pose'},
    )
    assert c.config['audio2pose']['image_channels'] == 3
    fits(c, ('kp_detector', 'generator', 'audio2pose'))


def test_data_parallel_names(tmp_path, states):
    c = saved(
        tmp_path / 'a.ckpt',
        {'generator': {f'module.{k}': v for k, v in states('audio2pose_avct').items()}},
    )
    assert c.kind == 'audio2pose'
    fits(c, c)


def test_one_key_gone_one_shape_wrong(tmp_path, states):
    d = {k: states(k) for k in ('kp_detector', 'generator', 'ph2kp')}
    del d['kp_detector']['kp.bias']
    d['generator']['first.conv.weight'] = torch.zeros(64, 3, 5, 5)
    c = saved(tmp_path / 'generator.ckpt', d)
    for n, words in (
        ('kp_detector', ('kp.bias', 'missing')),
        ('generator', ('first.conv.weight', '[64, 3, 5, 5]')),
    ):
        with pytest.raises(TalkfaceError) as e:
            load_into(modules(c.config)[n](**c.config[n]), c, n)
        assert all(w in str(e.value) for w in (*words, 'generator.ckpt'))
