"""Our networks against numbers of the papers' released programs, under the official key names."""

import gc
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from talkface import fomm, fomm_losses, avct, head_motion, motion_transfer

BUILT = (
    'down.weight',
    'down_pose.weight',
    'pos_table',
    'num_batches_tracked',
)  # buffers that a model makes itself


def strict(model, state):
    "Load every official key: none missing, none left over; evaluation mode."
    model.load_state_dict(state, strict=True)
    return model.eval().requires_grad_(False)


def full(released, model, keys, table):
    "A full-size model with weights made from its official key list, which is compared first."
    want, have = released.keys(keys), model.state_dict()
    assert set(want) == set(have)
    assert {k: tuple(v.shape) for k, v in have.items()} == want
    missing, extra = model.load_state_dict(released.weights(keys, table), strict=False)
    assert not extra and all(m.endswith(BUILT) for m in missing)
    return model.eval().requires_grad_(False)


@pytest.fixture(autouse=True)
def _free():
    yield
    gc.collect()


# ---------------------------------------------------------------- parts


def test_ops(released):
    f = released.load('ops')
    for s in (0.5, 0.25, 0.125):
        down = fomm.AntiAliasInterpolation2d(3, s)
        f.check(down.weight, f.state[f'{s}.weight'], 1e-6, 'kernel')
        f.check(down(f.inp['x']), f.out[str(s)], 1e-6, f'scale {s}')
    f.check(fomm.make_coordinate_grid((5, 7)), f.out['grid_5x7'], 1e-6, 'grid')
    f.check(
        fomm.kp2gaussian(f.inp['kp_value'], (16, 16), 0.01),
        f.out['kp2gaussian_16x16_var0.01'],
        1e-6,
        'kp2gaussian',
    )
    f.check(fomm.gaussian2kp(f.inp['heatmap'].float()), f.out['gaussian2kp'], 1e-6, 'gaussian2kp')
    f.check(
        avct.PositionalEncoding(512, 20).pos_table, f.out['pos_table_20x512'], 1e-6, 'pos_table'
    )


BLOCKS = dict(
    same=lambda: fomm.SameBlock2d(3, 6, 7, 3),
    down=lambda: fomm.DownBlock2d(4, 6),
    up=lambda: fomm.UpBlock2d(6, 4),
    res=lambda: fomm.ResBlock2d(5),
    hourglass=lambda: fomm.Hourglass(4, 3, 3, 16),
    downres=lambda: avct.DownResBlock2d(2, 8),
    downres_sq=lambda: avct.DownResBlock2d(6, 6),
)


@pytest.mark.parametrize('name', BLOCKS)
def test_blocks(released, name):
    f = released.load('blocks_small')
    m = strict(
        BLOCKS[name](),
        {k[len(name) + 1 :]: v for k, v in f.state.items() if k.startswith(name + '.')},
    )
    f.check(m(f.inp[name]), f.out[name], 1e-5, name)


# ---------------------------------------------------------- key points, dense motion, renderer


def kp_outputs(model, x):
    "What the released detector returns, from ours."
    fm = model.features(x)
    p, jacobian_maps = model.maps(fm)
    return dict(
        model.from_features(fm),
        jacobian_map=jacobian_maps.flatten(1, 2),
        pred_feature=p,
        feature_map=fm,
    )


def test_kp_detector_small(released):
    f = released.load('kp_detector_small')
    m = strict(fomm.KPDetector(**f.meta['args']), f.state)
    assert set(m(f.inp['source'], with_feature=True)) == {'value', 'jacobian', 'feature_map'}
    for name in ('source', 'driving'):
        got, want = kp_outputs(m, f.inp[name]), f.out.dict(name)
        if 'pred_feature' in want and np.abs(want['pred_feature'].numpy()).max() > 1:
            got['pred_feature'] = m.kp(got['feature_map'])
        for k, v in want.items():
            f.check(got[k].reshape(v.shape), v, 1e-5, f'{name}/{k}')


def test_kp_detector_small_singlejac_pad3(released):
    f = released.load('kp_detector_small_singlejac_pad3')
    m = strict(fomm.KPDetector(**f.meta['args']), f.state)
    got = kp_outputs(m, f.inp['x'])
    for k, v in f.out.items():
        g = m.kp(got['feature_map']) if k == 'pred_feature' and v.abs().max() > 1 else got[k]
        f.check(g.reshape(v.shape), v, 1e-5, k)


def test_dense_motion_small(released):
    f = released.load('dense_motion_small')
    m = strict(fomm.DenseMotionNetwork(**f.meta['args']), f.state)
    kd, ks = f.inp.dict('kp_driving'), f.inp.dict('kp_source')
    small = m.down(f.inp['source'])
    motions, _, heat = m.inputs(small, kd, ks)
    got = dict(m(f.inp['source'], kd, ks), down=small, heatmap=heat, sparse_motion=motions)
    for k, v in f.out.items():
        f.check(got[k], v, 1e-5, k)


def test_generator_small(released):
    f = released.load('generator_small')
    m = strict(fomm.OcclusionAwareGenerator(**f.meta['args']), f.state)
    got = m(f.inp['source'], kp_driving=f.inp.dict('kp_driving'), kp_source=f.inp.dict('kp_source'))
    for k, v in f.out.items():
        f.check(got[k], v, 2e-5, k)


def test_align_corners_is_told_apart(released):
    "The other sampling convention must be seen as wrong, by far."
    f = released.load('generator_small')
    m = strict(fomm.OcclusionAwareGenerator(**f.meta['args'], align_corners=True), f.state)
    got = m(f.inp['source'], kp_driving=f.inp.dict('kp_driving'), kp_source=f.inp.dict('kp_source'))
    assert (got['prediction'] - f.out['prediction']).abs().max() > 1e-3


def test_kp_detector_full(released):
    f = released.load('kp_detector_full')
    m = full(released, fomm.KPDetector(), 'kp_detector', 'kp_detector')
    got = kp_outputs(m, f.inp['source'].float() / 255)
    for k, v in f.out.items():
        g = m.kp(got['feature_map']) if k == 'pred_feature' and v.abs().max() > 1 else got[k]
        f.check(g, v, 1e-4, k)


VOX256 = dict(
    dense_motion_params=dict(block_expansion=64, max_features=1024, num_blocks=5, scale_factor=0.25)
)


def test_generator_full(released):
    f = released.load('generator_full')
    m = full(released, fomm.OcclusionAwareGenerator(**VOX256), 'generator', 'generator')
    got = m(
        f.inp['source'].float() / 255,
        kp_driving=f.inp.dict('kp_driving'),
        kp_source=f.inp.dict('kp_source'),
    )
    got.update(
        deformed_every4=got['deformed'][..., ::4, ::4],
        sparse_deformed_every4=got['sparse_deformed'][..., ::4, ::4],
    )
    for k, v in f.out.items():
        f.check(got[k], v, 1e-4, k)


# ---------------------------------------------------------------- AVCT


@pytest.mark.parametrize('name', ['transformer_small', 'transformer_small_prenorm'])
def test_transformer_small(released, name):
    f = released.load(name)
    a = f.meta['args']
    m = strict(
        avct.Transformer(
            a['d_model'],
            a['nhead'],
            a['num_encoder_layers'],
            a['num_decoder_layers'],
            a['dim_feedforward'],
            normalize_before=a['normalize_before'],
        ),
        f.state,
    )
    hs, memory = m(f.inp['src'], f.inp['query'], f.inp['pos'])
    f.check(hs.transpose(1, 2), f.out['hs'], 1e-5, 'hs')
    if 'memory' in f.out:
        f.check(memory.transpose(0, 1), f.out['memory'], 1e-5, 'memory')


SMALL = dict(
    d_model=32, nhead=4, num_layers=1, dim_feedforward=64, widths=(8, 8, 16, 16, 32), fr_channels=35
)


def test_avct_audio_embedding(released):
    f = released.load('avct_audio_embedding')
    m = strict(avct.AVCT(**SMALL).audio_embedding, f.state)
    e = m(f.inp['audio'])
    f.check(e, f.out['embedding_32x32'], 1e-3, '32x32', rtol=1e-4)
    f.check(F.interpolate(e, size=64), f.out['upsampled_64x64'], 1e-3, '64x64', rtol=1e-4)


def test_avct_full(released):
    f = released.load('avct_full')
    m = full(released, avct.AVCT(), 'ph2kp', 'ph2kp')
    i = f.inp
    maps = i['pose_maps'][0, :, None].float() * 255
    pics, apics = (
        m.phoneme_pictures(i['ph'][0], maps),
        m.audio_pictures(i['audio'][0], i['feature_map']),
    )
    f.check(pics[5:6, :1], f.out['down_pose_frame5'], 1e-3, 'pose map')
    f.check(apics[5:6, :35, ::2, ::2], f.out['audio_embedding_frame5'], 1e-3, 'audio embedding')
    f_ph, f_ra = (
        m.encode_phonemes(i['ph'][0], maps)[None],
        m.encode_audio(i['audio'][0], i['feature_map'])[None],
    )
    f.check(f_ph, f.out['f_ph'], 1e-3, 'f_ph')
    f.check(f_ra, f.out['f_ra'], 1e-3, 'f_ra')
    hs, memory = m.transformer(f_ph, f_ra, m.pos_enc(11))
    f.check(memory.transpose(0, 1), f.out['memory'], 1e-3, 'memory')
    f.check(hs[-1].transpose(0, 1), f.out['hs_last'], 1e-3, 'hs_last')
    kp = m(i['ph'], maps[None], i['audio'], i['feature_map'])
    for k in ('value', 'jacobian'):
        f.check(kp[k], f.out[k], 1e-3, k)


# ---------------------------------------------------------------- head motion


@pytest.mark.parametrize('name', ['audio2pose_avct_full', 'audio2pose_audio2head_full'])
def test_head_motion_full(released, name):
    f = released.load(name)
    one = name == 'audio2pose_avct_full'
    m = full(
        released,
        head_motion.HeadMotionPredictor(1 if one else 3),
        name.removesuffix('_full'),
        'audio2pose',
    )
    pic = f.inp['pose_map'].float() * 255 if one else f.inp['image_uint8'].float() / 255
    f.check(m.embed_image(pic), f.out['em_pose' if one else 'em_img'], 1e-3, 'image')
    f.check(m.embed_audio(f.inp['audio']), f.out['em_audio'], 1e-3, 'audio')
    raw = m(f.inp['audio'], pic)
    f.check(raw, f.out['raw'], 1e-3, 'raw')
    f.check(
        head_motion.denormalize_pose(raw, 'avct' if one else 'audio2head'),
        f.out['denorm'],
        1e-3,
        'denorm',
    )


# ---------------------------------------------------------------- transfer, warps, losses


def test_normalize_kp(released):
    f = released.load('normalize_kp')
    s, d, d0 = (f.inp.dict(k) for k in ('source', 'driving', 'driving_initial'))
    off, rel, jac = (
        dict(use_relative_movement=False, use_relative_jacobian=False),
        dict(use_relative_jacobian=False),
        {},
    )
    for name, kw in dict(
        none=off, rel=rel, rel_jac=jac, rel_jac_adapt=dict(adapt_scale=True)
    ).items():
        f.check(motion_transfer.relative_motion(s, d, d0, **kw), f.out.dict(name), 1e-5, name)
    f.check(motion_transfer.motion_scale(s, d0).flatten()[0], f.out['scale'], 1e-5, 'scale')


@pytest.mark.parametrize('kind', ['', 'strong_'])
def test_tps_transform(released, kind):
    f = released.load('tps_transform')
    i = f.inp
    t = fomm_losses.Transform(i[kind + 'theta'], i[kind + 'control_params'], 5)
    f.check(t.points.reshape(1, 5, 5, 2), f.out['control_points'], 1e-5, 'control points')
    f.check(t.warp_coordinates(i['points']), f.out[kind + 'points'], 1e-5, kind + 'points')
    f.check(t.transform_frame(i['frame']), f.out[kind + 'frame'], 1e-5, kind + 'frame')
    f.check(t.jacobian(i['points']), f.out[kind + 'jacobian'], 1e-5, kind + 'jacobian')


def test_fomm_losses_small(released):
    f = released.load('fomm_losses_small')
    a, i, o = f.meta, f.inp, f.out
    part = lambda name: {
        k[len(name) + 1 :]: v for k, v in f.state.items() if k.startswith(name + '.')
    }
    g = dict(a['gen_args'])
    g['dense_motion_params'] = g.pop('dense')
    det = strict(fomm.KPDetector(**a['kp_args']), part('kp_detector'))
    gen = strict(fomm.OcclusionAwareGenerator(**g), part('generator'))
    critic = strict(fomm_losses.MultiScaleDiscriminator(**a['disc_args']), part('discriminator'))
    vgg = fomm_losses.VGG19Features()
    vgg.load_state_dict(
        {
            k: torch.from_numpy(released.recipe.tensor(k, tuple(v.shape)))
            for k, v in vgg.state_dict().items()
        }
    )
    vgg.eval()
    scales = a['train_params']['scales']
    pyramid = fomm_losses.Pyramid(scales)
    check = lambda got, name: f.check(got, o[name], 1e-5, name, rtol=1e-3)

    ks, kd = det(i['source']), det(i['driving'])
    f.check(ks, o.dict('kp_source'), 1e-5, 'kp_source', 1e-3)
    f.check(kd, o.dict('kp_driving'), 1e-5, 'kp_driving', 1e-3)
    fake = gen(i['source'], kp_driving=kd, kp_source=ks)['prediction']
    check(fake, 'prediction')
    total, table = fomm_losses.perceptual_loss(vgg, pyramid, fake, i['driving'])
    check(table / 10, 'perceptual_terms_scale_layer')
    check(total, 'loss/perceptual')

    real_p, fake_p = (
        [p for s, p in zip(scales, pyramid(x)) if s in a['disc_args']['scales']]
        for x in (i['driving'], fake)
    )
    ((real_maps, real),) = critic(real_p)
    ((fake_maps, fake_map),) = critic(fake_p)
    for n, m in enumerate(real_maps):
        check(m, f'disc/feature_maps_real_{n}')
    check(real, 'disc/prediction_map_real')
    check(fomm_losses.lsgan_generator(fake_map), 'loss/gen_gan')
    check(fomm_losses.lsgan_critic(real, fake_map), 'loss/disc_gan')
    check(fomm_losses.feature_matching(real_maps, fake_maps, (10, 10, 10)), 'loss/feature_matching')

    t = fomm_losses.Transform(i['theta'], i['control_params'], 5)
    warped = t.transform_frame(i['driving'])
    check(warped, 'transformed_frame')
    kw = det(warped)
    f.check(kw, o.dict('transformed_kp'), 1e-5, 'transformed_kp', 1e-3)
    for k, v in fomm_losses.equivariance_losses(kd, kw, t).items():
        check(10 * v, f'loss/{k}')


# ---------------------------------------------------------------- the released program, end to end


def test_pipeline_full(released):
    "Portrait, pose, sound and phonemes to frames, in the order of the released script."
    from talkface.audio_features import feature_rows, acoustic_features, has_harvest
    from talkface.core import preset
    from talkface.faces import pose_map
    from talkface.phonemes import PhonemeTimeline

    f, p = released.load('pipeline_full', parts=True), preset('released')
    rows = f.out['features'].numpy()
    wav = f.inp['pcm_int16'].numpy() / 32768.0
    f0 = (
        'harvest' if has_harvest() else (lambda x: rows[:, 39] * rows[:, 40])
    )  # without pyworld the stored pitch stands in
    f.check(feature_rows(wav, 16000, f0), rows, 1e-6, 'features')
    feats = torch.from_numpy(acoustic_features(wav, 16000, f0, stereo=p.stereo))
    labels = PhonemeTimeline.from_json(f.meta['phoneme_json']).labels(
        how=p.label, shift_ms=p.phone_shift_ms
    )
    T = min(len(feats), len(labels))
    assert T == f.meta['n_frames']

    first = f.inp['first_pose'].numpy()
    e_h = full(released, head_motion.HeadMotionPredictor(1), 'audio2pose_avct', 'audio2pose')
    poses = head_motion.predict_poses(e_h, feats, first, pose_lag=p.pose_lag, anchor=False)
    f.check(poses, f.out['pose_denorm'][:-1], 1e-3, 'poses')
    f.check(
        head_motion.predict_poses(e_h, feats, first, pose_lag=0, anchor=False),
        f.out['pose_denorm'][1:],
        1e-3,
        'poses',
    )
    del e_h

    image = f.inp['image_uint8_hwc'].permute(2, 0, 1)[None].float() / 255
    e_kd = full(released, fomm.KPDetector(), 'kp_detector', 'kp_detector')
    source = e_kd(image, with_feature=True)
    fr = source.pop('feature_map')
    f.check(source, f.out.dict('kp_source'), 1e-3, 'kp_source')

    model = full(
        released, avct.AVCT(pose_map=p.pose_map, fr_channels=p.fr_channels), 'ph2kp', 'ph2kp'
    )
    maps = torch.from_numpy(pose_map(poses[:T]))
    kp = model.sequence(torch.from_numpy(labels[:T]), maps, feats[:T], fr, p.pad_audio)
    f.check(kp, f.out.dict('kp_gen'), 1e-3, 'kp_gen')
    new = motion_transfer.relative_motion(
        source, kp, motion_transfer.anchor_keypoints(kp, p.anchor), adapt_scale=p.adapt_scale
    )
    f.check(new, f.out.dict('kp_norm'), 1e-3, 'kp_norm')
    del model, e_kd

    e_r = full(
        released,
        fomm.OcclusionAwareGenerator(**VOX256, align_corners=p.align_corners),
        'generator',
        'generator',
    )
    enc = e_r.encode(image)
    shot = lambda i: e_r(
        image,
        kp_driving={k: v[i : i + 1] for k, v in new.items()},
        kp_source=source,
        encoded=enc,
        with_deformed=False,
    )['prediction'][0]
    assert p.rounding == 'truncate'
    frames = np.stack([(255 * shot(i).permute(1, 2, 0).numpy()).astype(np.uint8) for i in range(T)])
    f.check(frames[:, ::4, ::4], f.out['frames_uint8_every4'], 2, 'frames')
    f.check(frames[-1], f.out['frame_last_uint8'], 2, 'last frame')
