"""Numbers of our own small networks, kept in `tests/fixtures/`: a change of an output is seen.

    python tools/make_fixtures.py [NAME ...]

writes them again; do that only when an output is meant to change. Weights and inputs are made from
names by numpy's legacy generator, which is the same everywhere: the files hold only outputs.
"""

import json
import math
import sys
import zlib
from pathlib import Path
import numpy as np
import torch

FOLDER = Path(__file__).resolve().parents[1] / 'tests' / 'fixtures'


def numbers(name, *shape):
    return np.random.RandomState(zlib.crc32(name.encode())).randn(*shape).astype(np.float32)


def tensor(name, *shape):
    return torch.from_numpy(numbers(name, *shape))


def weight(key, shape):
    "A tensor for a key of a state_dict that keeps activations near 1."
    x = numbers(key, *shape)
    if key.endswith('running_var'):
        return 1 + 0.3 * np.tanh(x)
    if key.endswith(('running_mean', 'bias')) and not key.endswith('jacobian.bias'):
        return 0.1 * x
    if key.endswith('jacobian.bias'):
        return np.tile([1, 0, 0, 1], len(x) // 4) + 0.1 * x
    if len(shape) == 1:
        return 1 + 0.1 * x
    return (
        x
        * math.sqrt(1.5 / (x.size / shape[0]))
        * (0.02 if key.endswith('resnet.conv1.weight') else 1)
    )  # pose maps hold 255


def settle(model):
    "Fill every trained tensor of a model by its name; fixed tables stay. Evaluation mode."
    fixed = ('num_batches_tracked', 'pos_table', 'down.weight', 'down_pose.weight')
    model.load_state_dict(
        {
            k: v if k.endswith(fixed) else torch.as_tensor(weight(k, tuple(v.shape)), dtype=v.dtype)
            for k, v in model.state_dict().items()
        }
    )
    return model.eval().requires_grad_(False)


def keypoints(name, n=1):
    return dict(
        value=0.5 * torch.tanh(tensor(name + 'v', n, 10, 2)),
        jacobian=torch.eye(2) + 0.2 * tensor(name + 'j', n, 10, 2, 2),
    )


def picture(name, size=64):
    return torch.nn.functional.interpolate(
        torch.sigmoid(tensor(name, 1, 3, 8, 8)), size=size, mode='bilinear', align_corners=False
    )


def flat(prefix, d):
    return {f'{prefix}/{k}': v for k, v in d.items()}


def pose_box(n):
    "Pose maps (n,1,256,256) of a square that wanders."
    m = torch.zeros(n, 1, 256, 256)
    for i in range(n):
        a, b = 60 + 4 * i, 180 - 3 * i
        m[i, 0, a:b, a] = m[i, 0, a:b, b] = m[i, 0, a, a:b] = m[i, 0, b, a:b] = 255
    return m


DENSE = dict(block_expansion=8, max_features=32, num_blocks=2, scale_factor=0.25)


def kp_detector():
    from talkface.fomm import KPDetector

    m = settle(KPDetector(block_expansion=8, max_features=32, num_blocks=2))
    one = settle(
        KPDetector(
            8, max_features=16, num_blocks=2, scale_factor=1, single_jacobian_map=True, pad=3
        )
    )
    return m, {
        **flat('plain', m(picture('face'), with_feature=True)),
        **flat('single', one(picture('face', 32))),
    }


def generator():
    from talkface.fomm import OcclusionAwareGenerator

    out = {}
    for name, corners in (('released', False), ('corners', True)):
        m = settle(
            OcclusionAwareGenerator(
                block_expansion=8,
                max_features=32,
                num_bottleneck_blocks=1,
                dense_motion_params=DENSE,
                align_corners=corners,
            )
        )
        o = m(picture('face'), kp_driving=keypoints('driving'), kp_source=keypoints('source'))
        out.update(
            flat(name, {k: o[k] for k in ('prediction', 'deformation', 'occlusion_map', 'mask')})
        )
    return m, out


def small_avct(**kw):
    from talkface.avct import AVCT

    return settle(
        AVCT(
            **{
                **dict(
                    d_model=32,
                    nhead=4,
                    num_layers=2,
                    dim_feedforward=48,
                    widths=(4, 8, 16, 24, 32),
                    fr_channels=11,
                    embedding_dim=64,
                ),
                **kw,
            }
        )
    )


def avct():
    ph = torch.from_numpy(np.random.RandomState(0).randint(0, 41, 14))
    audio, fr = tensor('audio', 14, 4, 41), tensor('fr', 1, 11, 32, 32)
    out = {}
    for name, kw in dict(
        blur={},
        binary64=dict(pose_map='binary64'),
        prenorm=dict(normalize_before=True),
        colourless=dict(fr_channels=8),
    ).items():
        m = small_avct(**kw)
        for pad in ('zero', 'edge', 'silence') if name == 'blur' else ('zero',):
            out.update(
                flat(
                    f'{name}_{pad}',
                    m.sequence(ph, pose_box(14), audio, fr, pad, torch.full((4, 41), -7.0)),
                )
            )
    m = small_avct()
    out.update(flat('rest', m.rest(pose_box(1)[0], fr)))
    return m, out


def head_motion():
    from talkface.head_motion import HeadMotionPredictor, predict_poses
    from talkface.head_training import HEAD_WEIGHTS, HeadLoss, shape_curves

    kw = dict(width=4, hidden=16, layers=(1, 2, 1, 1))
    audio = tensor('sound', 1, 12, 4, 41)
    one, three = settle(HeadMotionPredictor(1, **kw)), settle(HeadMotionPredictor(3, **kw))
    first = np.array([0.1, -0.2, 0.05, 5, 20, 250])
    x, y = torch.tanh(tensor('x', 2, 12, 6)), torch.tanh(tensor('y', 2, 13, 6))
    loss = HeadLoss(lambda *_: y, None, np.linspace(0.1, 0.6, 6), HEAD_WEIGHTS)
    return one, dict(
        pose_map=one(audio, pose_box(1)),
        portrait=three(audio, picture('face', 256)),
        poses=predict_poses(one, audio[0], first, ease=0),
        shape=shape_curves(x, y[:, 1:]),
        **flat('loss', loss(dict(features=None, map=x, target=x, first=x[:, 0]), {})[0]),
    )


def motion_transfer():
    from talkface.motion_transfer import relative_motion, anchor_keypoints, hull_area

    s, d = keypoints('source'), keypoints('driver', 5)
    d0 = anchor_keypoints(d)
    return None, {
        **flat('plain', relative_motion(s, d, d0)),
        **flat('scaled', relative_motion(s, d, d0, adapt_scale=True)),
        **flat('movement', relative_motion(s, d, d0, use_relative_jacobian=False)),
        'area': np.array([hull_area(v) for v in d['value'].numpy()]),
    }


def losses():
    from talkface import fomm_losses as losses

    t = losses.Transform(
        torch.eye(2, 3)[None] + 0.1 * tensor('theta', 1, 2, 3),
        0.02 * tensor('control', 1, 1, 25),
        5,
    )
    k = keypoints('source')
    critic = settle(losses.Discriminator(block_expansion=8, num_blocks=2, sn=False))
    maps, pred = critic(picture('face'))
    a, b = picture('face'), picture('other')
    return critic, {
        'points': t.warp_coordinates(k['value']),
        'jacobian': t.jacobian(k['value']),
        'frame': t.transform_frame(a)[..., ::2, ::2],
        'critic': pred,
        'multiscale_l1': losses.multiscale_l1(a, b),
        **losses.equivariance_losses(k, keypoints('driving'), t),
    }


def audio_features():
    from talkface.audio_features import feature_rows

    t = np.arange(8000) / 16000
    wav = 0.5 * np.sin(2 * np.pi * (120 * t + 40 * t * t)) * (
        1 + 0.5 * np.sin(30 * t)
    ) + 0.01 * numbers('noise', 8000)
    return None, dict(rows=feature_rows(wav, 16000, lambda x: np.full(51, 120.0))[:, :39])


CASES = dict(
    kp_detector=kp_detector,
    generator=generator,
    avct=avct,
    head_motion=head_motion,
    motion_transfer=motion_transfer,
    losses=losses,
    audio_features=audio_features,
)


def keys_of(model):
    return {} if model is None else {k: list(v.shape) for k, v in model.state_dict().items()}


def compute(name):
    "The model that a case is about, and its outputs as float32 tensors."
    model, out = CASES[name]()
    return model, {
        k: torch.as_tensor(np.asarray(v) if not torch.is_tensor(v) else v)
        .detach()
        .float()
        .contiguous()
        .clone()
        for k, v in out.items()
    }


if __name__ == '__main__':
    from safetensors.torch import save_file

    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or CASES:
        model, out = compute(name)
        save_file(
            {f'out/{k}': v for k, v in out.items()},
            str(FOLDER / f'{name}.safetensors'),
            metadata={'meta': json.dumps(dict(keys=keys_of(model)))},
        )
        largest = max(v.abs().max().item() for v in out.values())
        print(f'{name:16} {len(out):2} outputs, largest {largest:.3g}')
