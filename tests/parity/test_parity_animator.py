"Official checkpoint files: `Animator.from_pretrained(folder)`, and the released script's frames."

import json
import numpy as np
import torch
from talkface.animate import Animator, build
from talkface.core import full_config, preset


def files(released, folder):
    "generator.ckpt and audio2pose.ckpt, made from the key lists."

    def state(keys, model):
        return {
            **build(model, full_config(), preset('released')).state_dict(),
            **released.weights(keys, model),
        }  # the recipe leaves out counters and fixed tables

    torch.save(
        {n: state(n, n) for n in ('kp_detector', 'generator', 'ph2kp')}, folder / 'generator.ckpt'
    )
    torch.save({'generator': state('audio2pose_avct', 'audio2pose')}, folder / 'audio2pose.ckpt')
    return folder


def test_animator_repeats_the_released_script(released, tmp_path, monkeypatch):
    from talkface import audio_features

    f = released.load('pipeline_full')
    try:
        an = Animator.from_pretrained(files(released, tmp_path), 'cpu')
    finally:
        [p.unlink(missing_ok=True) for p in tmp_path.glob('*.ckpt')]  # half a gigabyte
    (tmp_path / 'p.json').write_text(json.dumps(f.meta['phoneme_json']))
    rows, n = f.out['features'].numpy(), f.meta['n_frames']
    heard = rows[: len(rows) // 4 * 4].reshape(-1, 4, 41).astype(np.float32)
    # WORLD's pitch is not installed everywhere
    monkeypatch.setattr(audio_features, 'acoustic_features', lambda *a, **k: heard)
    me = an.portrait(f.inp['image_uint8_hwc'].numpy(), pose=f.inp['first_pose'].numpy())
    m = an.motion(
        me,
        (f.inp['pcm_int16'].numpy().astype(np.float32) / 32768, 16000),
        phonemes=tmp_path / 'p.json',
    )
    assert (
        len(m) == n and m.n_frames == 15
    )  # the released video ends before the sound; ours holds the last frame
    f.check(m.poses, f.out['pose_denorm'][:n], 1e-3, 'animator poses')
    f.check(me.kp, f.out.dict('kp_source'), 1e-3, 'animator kp_source')
    f.check(m.kp, f.out.dict('kp_norm'), 1e-3, 'animator kp_norm')
    shown = np.stack(list(an.render(me, m, size=256)))
    f.check(shown[:, ::4, ::4], f.out['frames_uint8_every4'], 2, 'animator frames')
    f.check(shown[-1], f.out['frame_last_uint8'], 2, 'animator last frame')
