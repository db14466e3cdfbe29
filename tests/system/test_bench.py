"The benchmark; the rewritten networks and the batches give the frames of the trained ones."

import json
import time

import numpy as np
import pytest
import torch

from talkface.animate import Animator
from talkface.audio_features import pad_window
from talkface.cli import main
from talkface.core import asset, prefetch
from talkface.head_pose import pose_map


def apart(a, b):
    return max((a[k] - b[k]).abs().max().item() for k in a)


@pytest.mark.parametrize('compat', ['best', 'released'])
def test_frame_by_frame(files, compat):
    "float32 against the networks as trained, each frame with a window of its own."
    an = Animator.from_pretrained(files['weights'], 'cpu', compat, fast=False)
    me, p, nets, w = an.portrait(asset('portrait.png')), an.switches, an.models, 5
    m = an.motion(me, files['wav'], phonemes=files['ph'], pose='still')
    T = len(m)
    ph = np.pad(
        m.timeline.labels(T, p.label, p.phone_shift_ms), w, constant_values=nets['ph2kp'].sil
    )
    a, h = pad_window(m.features, w, p.pad_audio), np.pad(m.poses, ((w, w), (0, 0)), mode='edge')
    from talkface.motion_transfer import relative_motion

    slow = Animator.from_pretrained(files['weights'], 'cpu', compat, fast=False, rewritten=False)
    with torch.inference_mode():

        def drive(t):
            i = slice(t, t + 2 * w + 1)
            return nets['ph2kp'](
                torch.from_numpy(ph[i])[None],
                torch.as_tensor(pose_map(h[i]))[None],
                torch.from_numpy(a[i])[None],
                nets['kp_detector'](me.source, with_feature=True)['feature_map'],
            )

        rest = slow._rest(me.pose, me.feature_map, m.features) or drive(0)
        for t in (0, 3, T // 2, T - 1):
            kp = relative_motion(nets['kp_detector'](me.source), drive(t), rest)
            assert apart({k: v[t : t + 1] for k, v in m.kp.items()}, kp) < 1e-4
            want = nets['generator'](me.source, kp, nets['kp_detector'](me.source))['prediction']
            got = an.ready('generator')(
                me.source, {k: v[t : t + 1] for k, v in m.kp.items()}, me.kp, me.encoded
            )
            assert (got - want).abs().max() < 1e-4


def test_batches_and_chunks(an, me, files):
    m = an.motion(me, files['wav'], phonemes=files['ph'])
    f, seen = m.features, me.feature_map
    one = an._driving(m.timeline.labels(len(f)), m.poses, f, seen)
    for chunk in (1, 7, 1000):
        assert (
            apart(an._driving(m.timeline.labels(len(f)), m.poses, f, seen, chunk=chunk), one) < 1e-5
        )
    pics = [np.stack(list(an.render(me, m, batch=b))).astype(int) for b in (1, 5, 64)]
    assert max(abs(p - pics[0]).max() for p in pics) <= 1


def test_sixteen_bits_are_near(files, me, an):
    short = Animator.from_pretrained(files['weights'], 'cpu', fast=True)
    m = an.motion(me, files['wav'], phonemes=files['ph'], pose='still')
    a, b = (np.stack(list(x.render(me, m))).astype(float) for x in (an, short))
    assert np.abs(a - b).mean() < 2


def test_prefetch():
    made = []

    def source():
        for i in range(100):
            made.append(i)
            yield i

    g = prefetch(source(), 4)
    assert next(g) == 0
    g.close()
    time.sleep(0.1)
    n = len(made)
    time.sleep(0.1)
    assert n == len(made) < 20
    assert list(prefetch(range(1000), 2)) == list(range(1000))

    def broken():
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(prefetch(broken()))


def test_bench(files, tmp_path, capsys):
    assert (
        main(
            [
                'bench',
                '--quick',
                '--no-full',
                '--weights',
                str(files['weights']),
                '--device',
                'cpu',
                '--json',
                str(tmp_path / 'b.json'),
            ]
        )
        == 0
    )
    r = json.loads((tmp_path / 'b.json').read_text())
    out = capsys.readouterr().out
    assert (
        'frames a second' in out
        and r['stages'][0]['fps'] > 0
        and r['compact']['cached']['float32']['gmac'] > 0
    )
    assert main(['bench', '--threads', '0']) == 2


def test_counts():
    "MACs of a convolution, a transposed one, a product and attention are those of the formulas."
    from talkface.render import MacCounter
    from torch import nn

    with torch.inference_mode(), MacCounter() as m:
        nn.Conv2d(4, 6, 3, padding=1, groups=2)(torch.rand(1, 4, 8, 8))
        nn.ConvTranspose2d(2, 3, 5)(torch.rand(1, 2, 4, 4))
        nn.Linear(7, 5)(torch.rand(3, 7))
    assert m.total == 6 * 64 * 2 * 9 + 2 * 16 * 3 * 25 + 3 * 7 * 5
