"Metrics against numbers that the usual programs gave: CPBD, FID, landmarks, SSIM, SyncNet."

import contextlib
import json
import numpy as np
import pytest
import torch
from PIL import Image
from fixture_files import ROWS
from talkface import metric_networks as N
from talkface import metrics as M


@pytest.fixture(scope='module')
def folder(released):
    f = released.folder / 'metrics'
    if not f.is_dir():
        pytest.skip(f'{released.folder} holds no folder of metrics')
    return f


def check(row, got, want, atol, rtol=0.0):
    "Compare, and remember the largest difference for the table at the end of the run."
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, f'{row}: shape {got.shape}, wanted {want.shape}'
    d = np.abs(got - want)
    over = (
        float((d / (atol + rtol * np.abs(want))).max())
        if atol + rtol > 0 and d.size
        else float(d.max() > 0)
    )
    tol = f'{atol:g}' + (f' + {rtol:g} rel' if rtol else '')
    if row not in ROWS or over > ROWS[row][0]:
        ROWS[row] = over, float(d.max()), tol
    assert over <= 1, f'{row}: largest difference {d.max():.3g}, tolerance {tol}'


def filled(keys, base, gain=1.0):
    "Weights by the rule of the fixtures: one generator a tensor, batch norms near 1."
    means = {k.rsplit('.', 1)[0] for k, _, _ in keys if k.endswith('running_mean')}
    out = {}
    for i, (k, shape, kind) in enumerate(keys):
        r, (pre, last) = np.random.RandomState(base + i), k.rsplit('.', 1)
        if kind == 'int64':
            v = np.zeros(shape, np.int64)
        elif last == 'running_var':
            v = 0.5 + r.random_sample(shape)
        elif last == 'running_mean':
            v = 0.1 * r.standard_normal(shape)
        elif pre in means:
            v = (1 if last == 'weight' else 0) + 0.1 * r.standard_normal(shape)
        elif last == 'weight':
            v = gain * r.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        else:
            v = 0.1 * r.standard_normal(shape)
        out[k] = torch.from_numpy(np.asarray(v, np.int64 if kind == 'int64' else np.float32))
    return out


# ---- frechet
def test_frechet(folder):
    z, want = (
        np.load(folder / 'fid_gaussians.npz'),
        json.loads((folder / 'fid_gaussians.json').read_text()),
    )
    f, I = M.frechet_distance, np.eye(16)
    check(
        'metrics fid_gaussians',
        f(np.zeros(16), I, 0.1 * np.arange(16), 4 * I),
        want['iso']['exact'],
        1e-8,
    )
    check(
        'metrics fid_gaussians',
        f(np.zeros(16), z['commuting_S1'], z['mean2'], z['commuting_S2']),
        want['commuting']['exact'],
        1e-8,
    )
    for names, k, key, tol in (('XY', '', 'samples', 1e-8), ('XY', 'r', 'rank_deficient', 1e-6)):
        with pytest.warns(UserWarning, match='biased') if k else contextlib.nullcontext():
            got = M.frechet(z[names[0] + k], z[names[1] + k])
        check(
            'metrics fid_gaussians' + (' (rank deficient)' if k else ''),
            got['value'],
            want[key]['pytorch_fid_0.3.0'],
            tol,
        )


# ---- cpbd
def cpbd_cases(folder):
    return json.loads((folder / 'cpbd' / 'cpbd.json').read_text())['images']


def picture(folder, name):
    return np.asarray(Image.open(folder / 'cpbd' / f'{name}.png').convert('L'))


def test_cpbd(folder):
    for n, w in cpbd_cases(folder).items():
        im = picture(folder, n)
        check('metrics cpbd 0..255', M.cpbd(im), w['cpbd_0_255'], 1e-9)
        check(
            'metrics cpbd 0..1', [M.cpbd_unit(im), M.cpbd(im / 255, 1)], [w['cpbd_0_1']] * 2, 1e-9
        )


def test_cpbd_counts(folder):
    for n, w in cpbd_cases(folder).items():
        x = picture(folder, n).astype(float)
        e = M.edge_widths(x)
        got = [M.canny(x).sum(), M.vertical_edges(x).sum(), (e > 0).sum(), e.sum()]
        check(
            'metrics cpbd counts',
            got,
            [w[k] for k in ('n_canny', 'n_sobel_thinned', 'n_edge_widths', 'sum_edge_widths')],
            0,
        )


@pytest.mark.parametrize('name', ['hill_f000_256', 'hill_f000_256_blur1'])
def test_cpbd_maps(folder, name):
    z, x = np.load(folder / 'cpbd' / f'{name}_maps.npz'), picture(folder, name).astype(float)
    bits = lambda k: np.unpackbits(z[k])[: np.prod(z['shape'])].reshape(z['shape'])
    check('metrics cpbd maps', M.canny(x), bits('canny'), 0)
    check('metrics cpbd maps', M.vertical_edges(x), bits('sobel'), 0)
    check('metrics cpbd maps', M.edge_widths(x), z['widths'], 0)


# ---- pictures in pairs
def test_psnr_ssim(folder):
    for pair, w in json.loads((folder / 'ssim_psnr.json').read_text()).items():
        a, b = (picture(folder, n) for n in pair.split('|'))
        check('metrics psnr', M.psnr(a, b), w['psnr'], 1e-6)
        check('metrics ssim', M.ssim(a, b), w['ssim_gauss11'], 1e-6)


# ---- lips
def test_lmd(folder):
    z, w = np.load(folder / 'lmd_landmarks.npz'), json.loads((folder / 'lmd.json').read_text())
    for key, g in (
        ('real_vs_gen0', 'gen_same_frame'),
        ('real_vs_gen', 'gen_moved'),
        ('real_vs_real', 'real'),
    ):
        check(
            'metrics lmd',
            M.lmd_px(z['real'], z[g]),
            w['lmd_atvgnet_sum_px'][key],
            1e-6 * max(w['lmd_atvgnet_sum_px'][key], 1),
        )
        check('metrics nlmd', M.nlmd(z['real'], z[g]), w['nlmd_mean'][key], 1e-6)
        if key in w['lmd_mean_px']:
            check('metrics lmd', M.lmd_px(z['real'], z[g], mean=True), w['lmd_mean_px'][key], 1e-5)
        if key in w['nlmd_sum20']:
            check('metrics nlmd', 20 * M.nlmd(z['real'], z[g]), w['nlmd_sum20'][key], 2e-5)


def test_nlmd_of_a_released_track(folder):
    "The precomputed back-end: landmarks of two detectors on the same frames."
    from talkface.faces import MESH68

    z = np.load(folder / 'face_tracks_aoc.npz')
    a, b = z['task_landmarks'][:, MESH68, :2] * 512, z['dlib68_px']
    own, other = M.nlmd(b, a), M.nlmd(b, b[np.random.default_rng(0).permutation(len(b))])
    assert (
        0 < own < 0.09 and 0 < other < 0.09
    )  # two detectors differ by as much as a shuffled mouth does: they must not be mixed
    assert M.nlmd(a, a * 0.5 + np.array([30.0, -8])) < 1e-5


# ---- syncnet
def test_mfcc(folder):
    z = np.load(folder / 'syncnet_mfcc.npz')
    check('metrics syncnet_mfcc', N.syncnet_mfcc(z['pcm16']), z['mfcc'], 1e-3)
    check(
        'metrics syncnet_mfcc',
        N.syncnet_mfcc(z['pcm16'].astype(np.float32) / 32767),
        z['mfcc'],
        1e-3,
    )


def test_offset(folder):
    z, w = (
        np.load(folder / 'syncnet_offset.npz'),
        json.loads((folder / 'syncnet_offset.json').read_text()),
    )
    for k, c in w['cases'].items():
        t = M.sync_table(z['video'], z[f'audio_{k}'])
        r = M.sync_readout(t)
        assert r['avoff'] == c['av_offset'] and (
            k == 'unrelated' or r['avoff'] == -c['audio_delay_frames']
        )
        check('metrics syncnet_offset', r['mean'], z[f'mdist_{k}'], 1e-4)
        check('metrics syncnet_offset', [r['lse_d'], r['avconf']], [c['min_dist'], c['conf']], 1e-4)
        if f'fconf_{k}' in z:
            check('metrics syncnet_offset', r['frames'], z[f'fconf_{k}'], 1e-4)
        if f'dists_{k}' in z:
            check('metrics syncnet_offset', t, z[f'dists_{k}'], 1e-4)


def test_windows(folder):
    w = json.loads((folder / 'audio_windows.json').read_text())
    assert (
        w['syncnet_mfcc_window_for_frame_i'] == '[4i,4i+20)'
        and N.sync_windows(1000, w['n_samples']) == w['n_samples'] // 640 - 5
    )


@pytest.fixture(scope='module')
def syncnet(folder):
    keys = json.loads((folder / 'keys_syncnet_v2.json').read_text())['keys']
    sd, want = (
        filled(keys, 3000),
        json.loads((folder / 'fill_check.json').read_text())['syncnet_v2']['check'],
    )
    for k, (total, first) in want.items():
        v = sd[k].double().reshape(-1)
        check('metrics fill_check', [float(v.sum()), float(v[0])], [total, first], 1e-4, 1e-7)
    net = N.SyncNet().eval()
    assert [
        [k, list(v.shape), str(v.dtype).removeprefix('torch.')] for k, v in net.state_dict().items()
    ] == keys
    net.load_state_dict(sd)
    return net


@torch.inference_mode()
def test_syncnet_forward(folder, syncnet):
    z = np.load(folder / 'syncnet_v2_forward.npz')
    x = torch.from_numpy(
        np.random.RandomState(77).randint(0, 256, (1, 3, 5, 224, 224)).astype(np.float32)
    )
    big = lambda a: 1e-4 * float(np.abs(a).max())
    check(
        'metrics syncnet_v2 sound',
        syncnet.sound(torch.from_numpy(z['mfcc'])),
        z['aud'],
        big(z['aud']),
    )
    check(
        'metrics syncnet_v2 lip features', syncnet.lip_features(x), z['lipfeat'], big(z['lipfeat'])
    )
    check('metrics syncnet_v2 lips', syncnet.lips(x), z['lip'], big(z['lip']))


@torch.inference_mode()
def test_syncnet_layers(folder, syncnet):
    x = torch.from_numpy(
        np.random.RandomState(77).randint(0, 256, (1, 3, 5, 224, 224)).astype(np.float32)
    )
    s = torch.from_numpy(np.load(folder / 'syncnet_v2_forward.npz')['mfcc'])
    for part, rows in json.loads((folder / 'syncnet_v2_layers.json').read_text()).items():
        net = getattr(syncnet, part)
        h = x if part == 'netcnnlip' else s
        assert [r[1] for r in rows] == [type(m).__name__ for m in net]
        for (i, _, shape, mean, std), m in zip(rows, net):
            h = m(h)
            assert list(h.shape)[1:] == shape[1:], (part, i)
            if part == 'netcnnaud':
                check(
                    'metrics syncnet_v2 sound layers',
                    [float(h.mean()), float(h.std())],
                    [mean, std],
                    1e-5 * std,
                )
            else:
                assert (
                    abs(float(h.std()) / std - 1) < 0.02
                )  # these came from other noise, so only their size agrees


def test_syncnet_file(folder, syncnet, tmp_path):
    "A file without counters and with a prefix loads; a file of something else is refused."
    sd = {
        f'module.{k}': v
        for k, v in syncnet.state_dict().items()
        if not k.endswith('num_batches_tracked')
    }
    torch.save({'state_dict': sd}, p := tmp_path / 'syncnet.model')
    net = N.load_syncnet(p)
    assert all(
        torch.equal(a, b) for a, b in zip(net.state_dict().values(), syncnet.state_dict().values())
    )
    p.unlink()
    torch.save({'a': torch.zeros(2)}, q := tmp_path / 'other.pth')
    with pytest.raises(M.TalkfaceError, match='official SyncNet'):
        N.load_syncnet(q)
    with pytest.raises(M.TalkfaceError, match='official SyncNet'):
        N.load_syncnet(tmp_path / 'nothing.model')
