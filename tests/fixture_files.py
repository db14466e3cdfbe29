"Number fixtures: files with weights, inputs and outputs of a network, and how to compare them."

import importlib.util
import json
from pathlib import Path

import numpy as np

ROWS = {}  # fixture -> (largest difference in tolerances, largest difference, tolerance)


def as_numpy(x):
    "Tensor or array as float64 (integers stay)."
    x = x.detach().cpu().numpy() if hasattr(x, 'detach') else np.asarray(x)
    return x.astype(np.float64) if x.dtype.kind in 'fu' else x.astype(np.int64)


class Group(dict):
    "Entries of a fixture below one prefix; `g.dict('kp')` collects 'kp/value', 'kp/jacobian'."

    def dict(self, prefix):
        return {k[len(prefix) + 1 :]: v for k, v in self.items() if k.startswith(prefix + '/')}


class Fixture:
    "A safetensors file: `state`, `inp`, `out`, `meta`; `check` compares (`parts`: row by row)."

    def __init__(self, path, parts=False):
        from safetensors import safe_open

        self.name, self.parts, self.state, self.inp, self.out = (
            Path(path).stem,
            parts,
            Group(),
            Group(),
            Group(),
        )
        with safe_open(str(path), 'pt') as f:
            self.meta = json.loads((f.metadata() or {}).get('meta', '{}'))
            for k in f.keys():
                a, b = k.split('/', 1)
                {'state': self.state, 'in': self.inp, 'out': self.out}[a][b] = f.get_tensor(k)

    def check(self, got, want, atol, what='', rtol=0.0):
        "Largest |got-want| must not exceed atol + rtol*|want|; mappings are compared by entry."
        if hasattr(got, 'keys'):
            for k in want:
                self.check(got[k], want[k], atol, f'{what}/{k}', rtol)
            return
        got, want = as_numpy(got), as_numpy(want)
        assert got.shape == want.shape, (
            f'{self.name} {what}: shape {got.shape}, wanted {want.shape}'
        )
        d = np.abs(got - want)
        over = float((d / (atol + rtol * np.abs(want))).max()) if d.size else 0.0
        tol = f'{atol:g}' + (f' + {rtol:g} rel' if rtol else '')
        row = self.name if not self.parts else f'{self.name}: {what.split("/")[0]}'
        if row not in ROWS or over > ROWS[row][0]:
            ROWS[row] = over, float(d.max()) if d.size else 0.0, tol
        assert over <= 1, f'{self.name} {what}: largest difference {d.max():.3g}, tolerance {tol}'


class Released:
    "The folder of released numbers: `load(name)`, and full-size weights made from the key lists."

    def __init__(self, folder):
        self.folder = Path(folder)
        spec = importlib.util.spec_from_file_location('fixture_recipe', self.folder / 'recipe.py')
        self.recipe = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.recipe)

    def load(self, name, parts=False):
        return Fixture(self.folder / f'{name}.safetensors', parts)

    def keys(self, name):
        return self.recipe.read_keys(self.folder / f'keys_{name}.txt')

    def weights(self, keys, model):
        import torch

        return {
            k: torch.from_numpy(v)
            for k, v in self.recipe.fill(self.keys(keys), model=model).items()
        }
