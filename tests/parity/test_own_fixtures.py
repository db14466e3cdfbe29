"Our small networks give the numbers that they gave when `make_fixtures.py` was run."

import pytest
import make_fixtures


@pytest.mark.parametrize('name', make_fixtures.CASES)
def test_numbers_stay(own, name):
    f = own(name)
    model, out = make_fixtures.compute(name)
    assert make_fixtures.keys_of(model) == f.meta['keys'], (
        'names or shapes of the weights have changed'
    )
    assert set(out) == set(f.out)
    for k, v in f.out.items():
        assert v.isfinite().all() and (v.numel() == 1 or v.std() > 0), (
            k
        )  # a constant output would test nothing
        f.check(out[k], v, 1e-4, k, rtol=1e-3)


def test_presets_differ(own):
    "Every switch moves the numbers; otherwise a preset would do nothing."
    o = own('avct').out
    base = o['blur_zero/value']
    for other in ('blur_edge', 'blur_silence', 'binary64_zero', 'prenorm_zero', 'colourless_zero'):
        assert (o[f'{other}/value'] - base).abs().max() > 1e-4, other
    g = own('generator').out
    assert (g['released/prediction'] - g['corners/prediction']).abs().max() > 1e-4
