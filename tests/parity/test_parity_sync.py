"""The sync expert against numbers of Wav2Lip's released program: keys, layers, windows, losses."""

import json
import numpy as np
import pytest
import torch
from fixture_files import Fixture
from talkface import sync
from talkface.sync_training import load_expert


@pytest.fixture(scope='module')
def metrics(released):
    folder = released.folder / 'metrics'
    if not folder.is_dir():
        pytest.skip(f'{folder} is missing')
    return folder


def check(name, got, want, atol, what='', rtol=0.0):
    "As `Fixture.check`, for arrays out of an .npz."
    f = Fixture.__new__(Fixture)
    f.name, f.parts = name, False
    f.check(got, want, atol, what, rtol)


def seeded(keys, base=1000):
    "Weights by the rule of the metrics fixtures: tensor i from RandomState(base+i)."
    norms, out = {k.rsplit('.', 1)[0] for k, *_ in keys if k.endswith('running_mean')}, {}
    for i, (k, shape, dtype) in enumerate(keys):
        r, (stem, leaf) = np.random.RandomState(base + i), k.rsplit('.', 1)
        if dtype == 'int64':
            out[k] = torch.zeros(shape, dtype=torch.int64)
            continue
        if leaf == 'running_var':
            v = 0.5 + r.random_sample(shape)
        elif leaf == 'running_mean' or (leaf == 'bias' and stem in norms):
            v = 0.1 * r.standard_normal(shape)
        elif leaf == 'bias':
            v = 0.1 * r.standard_normal(shape)
        elif stem in norms:
            v = 1 + 0.1 * r.standard_normal(shape)
        else:
            v = r.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        out[k] = torch.from_numpy(np.asarray(v, np.float32))
    return out


@pytest.fixture(scope='module')
def expert(metrics):
    keys = json.loads((metrics / 'keys_wav2lip_syncnet_color.json').read_text())['keys']
    net = sync.SyncNet()
    assert [
        [k, list(v.shape), str(v.dtype).removeprefix('torch.')] for k, v in net.state_dict().items()
    ] == keys  # order too
    net.load_state_dict(seeded(keys), strict=True)
    return sync.freeze(net)


def test_seeded_embeddings(expert, metrics):
    f = np.load(metrics / 'wav2lip_syncnet_forward.npz')
    face, m = torch.from_numpy(f['face']).float(), torch.from_numpy(f['mel'])
    v, s = expert.face(face), expert.audio(m)
    check('wav2lip_syncnet_forward', v, f['face_emb'], 1e-5, 'face', 1e-4)
    check('wav2lip_syncnet_forward', s, f['audio_emb'], 1e-5, 'audio', 1e-4)
    P = expert(face, m)
    check('wav2lip_syncnet_forward', P, f['cos'], 1e-5, 'P', 1e-4)
    check(
        'wav2lip_syncnet_forward',
        torch.nn.functional.binary_cross_entropy(P, torch.tensor([1.0, 0.0])),
        f['bce_y10'],
        1e-5,
        'bce',
        1e-4,
    )
    check('wav2lip_syncnet_forward', -torch.log(P), f['neglog_p'], 1e-5, '-log P', 1e-4)
    assert abs(float((sync.nll(P) + torch.log(P)).abs().max())) < 3e-4  # what the floor adds


def test_layers(expert, metrics):
    f, want = (
        np.load(metrics / 'wav2lip_syncnet_forward.npz'),
        json.loads((metrics / 'wav2lip_syncnet_layers.json').read_text()),
    )
    for tower, x in (
        ('face_encoder', torch.from_numpy(f['face']).float()),
        ('audio_encoder', torch.from_numpy(f['mel'])),
    ):
        blocks = getattr(expert, tower)
        assert len(blocks) == len(want[tower])
        for block, (i, _, shape, mean, std) in zip(blocks, want[tower]):
            x = block(x)
            assert list(x.shape) == shape
            check(
                'wav2lip_syncnet_layers',
                [x.mean(), x.std()],
                [mean, std],
                1e-3,
                f'{tower} {i}',
                1e-3,
            )


def test_full_by_names(released):
    "The other rule of weights, from the key list."
    f, net = released.load('wav2lip_syncnet_full'), sync.SyncNet()
    want = released.keys('wav2lip_syncnet')
    have = net.state_dict()
    assert {k: tuple(v.shape) for k, v in have.items()} == want
    missing, extra = net.load_state_dict(released.weights('wav2lip_syncnet', None), strict=False)
    assert not extra and all(k.endswith('num_batches_tracked') for k in missing)
    sync.freeze(net)
    f.check(net.face(f.inp['face'].float()), f.out['face_emb'], 1e-4, 'face')
    f.check(net.audio(f.inp['mel']), f.out['audio_emb'], 1e-4, 'audio')


def test_official_file(expert, metrics, tmp_path):
    "lipsync_expert.pth's layout: nested, with DataParallel's prefix, an optimizer beside it."
    torch.save(
        dict(
            state_dict={f'module.{k}': v for k, v in expert.state_dict().items()},
            optimizer=None,
            global_step=1,
            global_epoch=1,
        ),
        tmp_path / 'lipsync_expert.pth',
    )
    got = load_expert(tmp_path / 'lipsync_expert.pth')
    assert got.config == dict(multiplier=1.0, stem=1) and not got.training
    f = np.load(metrics / 'wav2lip_syncnet_forward.npz')
    assert torch.equal(
        got.audio(torch.from_numpy(f['mel'])), expert.audio(torch.from_numpy(f['mel']))
    )


def test_mel(metrics):
    f = np.load(metrics / 'wav2lip_mel.npz')
    m = sync.mel(f['pcm16'].astype(np.float32) / 32768)
    check('wav2lip_mel', m, f['mel_reflect'], 1e-4, 'mel')
    inner = slice(2, 239)
    check('wav2lip_mel', m[:, inner], f['mel_constant'][:, inner], 1e-4, 'mel without its ends')
    check('wav2lip_mel', sync.slaney_bank().sum(1), f['mel_basis_sum'], 1e-4, 'bank')
    assert (sync.slaney_bank().argmax(1) == f['mel_basis_argmax']).all()


def test_windows(metrics):
    w = json.loads((metrics / 'audio_windows.json').read_text())
    m = np.tile(np.arange(w['total_mel_frames'], dtype=np.float32), (80, 1))
    for i, (a, b) in enumerate(w['wav2lip_mel_windows_start_end_for_frame']):
        assert (sync.mel_window(m, i)[0] == np.arange(a, b)).all()


def test_offset_sign(metrics):
    "The sign of the offset, on the features for which the released read-out gave one."
    f, want = (
        np.load(metrics / 'syncnet_offset.npz'),
        json.loads((metrics / 'syncnet_offset.json').read_text()),
    )
    v = torch.from_numpy(f['video']).float()
    for case, w in want['cases'].items():
        if 'audio_delay_frames' not in w:
            continue
        got = sync.sync_readouts(sync.shift_curve(v, torch.from_numpy(f[f'audio_{case}']).float()))
        assert got['p_sync_off'] == w['av_offset'] == -w['audio_delay_frames']
