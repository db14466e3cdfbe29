"Training is killed, continued and shared between processes."

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip('accelerate')

ENV = {**os.environ, 'OMP_NUM_THREADS': '1', 'TQDM_DISABLE': '1', 'CUDA_VISIBLE_DEVICES': ''}


def process(*args, seconds=900):
    "Exit code, standard output and standard error of a Python process."
    told = [sys.executable, *map(str, args)]
    r = subprocess.run(told, env=ENV, capture_output=True, text=True, timeout=seconds)
    return r.returncode, r.stdout, r.stderr


def accelerated(n, *args):
    "The same of `n` processes under `accelerate launch`; they must succeed."
    one_machine = '--num_machines 1 --mixed_precision no --dynamo_backend no'.split()
    launch = 'accelerate.commands.accelerate_cli', 'launch', '--cpu', '--num_processes', n
    code, out, err = process('-m', *launch, *one_machine, *args)
    assert code == 0, err[-3000:]
    return out


def command(*args):
    "The same of `talkface train`."
    return process('-m', 'talkface.cli', 'train', *args)


KILL = """
import os, random, signal, sys, time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from talkface.trainer import Stage, fit

torch.set_num_threads(1)
STEPS = 1000


class Loss(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, batch, outputs):
        error = self.net(batch['x']) - batch['x'].sum(1, keepdim=True)
        return {'l2': (error**2).mean()}, {}


class Tiny(Stage):
    name = 'tiny'
    ema = 0.9

    def __init__(self):
        torch.manual_seed(0)
        first = nn.Linear(8, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2)
        net = nn.Sequential(*first, nn.Linear(64, 1))
        self.nets = {'net': net}
        self.updates = {'net': (Loss(net), torch.optim.Adam(net.parameters(), 1e-2))}

    def sample(self, rng):
        return dict(x=rng.normal(size=8).astype(np.float32))

    def preview(self):
        return np.zeros((64, 64, 3), np.uint8)


def go(out, steps=STEPS):
    stage = Tiny()
    fit(stage, out, steps=steps, batch=8, amp=False, device='cpu', every=0)
    return stage


def killed_after(seconds, out):
    child = os.fork()
    if not child:
        try:
            go(out)
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def equal(a, b):
    pairs = zip(a.state_dict().values(), b.state_dict().values())
    return all(torch.equal(x, y) for x, y in pairs)


out, rng = Path(sys.argv[1]), random.Random(5)
whole = go(out / 'whole')
begun = time.time()
go(out / 'pace', 20)
pace = (time.time() - begun) / 20
kills, reached = 0, [0]
for _ in range(10):
    kills += killed_after(rng.uniform(3, 25) * pace, out / 'killed')
    path = out / 'killed' / 'tiny.pt'
    if path.exists():
        reached.append(torch.load(path, weights_only=True)['step'])
stage = go(out / 'killed')
same = equal(whole.nets['net'], stage.nets['net'])
same = same and equal(whole.ema_nets['net'], stage.ema_nets['net'])
rows = (out / 'killed' / 'tiny.csv').read_text().count('\\n') - 1
left = len(list((out / 'killed').glob('.*')))
print(kills, same, reached == sorted(reached), rows, left)
"""


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_killed_ten_times(tmp_path):
    "kill -9 at random moments, writing included: the end is that of the unbroken run, bit by bit."
    code, out, err = process('-c', KILL, tmp_path)
    assert code == 0, err[-3000:]
    kills, same, forward, rows, left = out.split()
    assert int(kills) == 10
    assert same == forward == 'True'
    assert int(rows) == 50
    assert int(left) == 0  # nothing unfinished lies about


SHARED = """
import json
import sys

import torch
from talkface.avct import AVCT
from talkface.bst_training import BstStage, feature_stats
from talkface.core import seed_everything
from talkface.fomm import build_fomm
from talkface.sync import SyncNet
from talkface.toy import film, toy_speaker
from talkface.trainer import fit

torch.set_num_threads(1)
clips = toy_speaker(4, 32)
for c in clips:
    film(c, 32)
seed_everything(1)
small = dict(block_expansion=4, max_features=8, num_blocks=2)
painter = dict(block_expansion=4, max_features=8, num_down_blocks=1, num_bottleneck_blocks=1)
painter['dense_motion_params'] = dict(small, scale_factor=0.5)
nets = build_fomm(dict(kp_detector=dict(small, scale_factor=1.0), generator=painter))
sizes = dict(widths=(4, 8, 16, 32, 32), d_model=32, nhead=4, num_layers=1, dim_feedforward=64)
stats = feature_stats(clips)
avct = AVCT(**sizes, embedding_dim=64, fr_channels=4, dropout=0.0, audio_stats=stats)
d_seq = dict(block_expansion=4, num_blocks=2, max_features=8)
how = dict(T=6, lr=1e-3, eq='distill', d_seq=d_seq)
stage = BstStage(avct, *nets, SyncNet(1 / 16), clips, **how)
rows = fit(stage, sys.argv[1], steps=6, batch=4, amp=False, device='cpu', log_every=1)
if len(rows):
    rows = [{k: v for k, v in row.items() if k != 'seconds'} for row in rows]
    with open(sys.argv[1] + '/rows.json', 'w') as f:
        json.dump(rows, f)
"""


def test_two_processes_are_one_with_twice_the_batch(tmp_path):
    "Half the batch in each of two processes: step by step the losses of one with the whole batch."
    script = tmp_path / 'shared.py'
    script.write_text(SHARED)
    logs = []
    for n in (1, 2):
        (tmp_path / str(n)).mkdir()
        accelerated(n, script, tmp_path / str(n))
        logs.append(json.loads((tmp_path / str(n) / 'rows.json').read_text()))
    one, two = logs
    assert len(one) == len(two) == 6
    for a, b in zip(one, two):
        for k in a:
            assert a[k] == pytest.approx(b[k], rel=2e-3, abs=1e-5), (k, a, b)
    assert one[-1]['loss'] != pytest.approx(one[0]['loss'], rel=1e-3)  # something was learnt


@pytest.fixture(scope='module')
def toy(tmp_path_factory):
    from talkface.toy import TOY, toy_corpus

    d = tmp_path_factory.mktemp('toy')
    toy_corpus(d / 'corpus', 4, 32)
    (d / 'toy.json').write_text(json.dumps(TOY))
    return d


def test_command(toy):
    run = toy / 'run'
    begin = toy / 'corpus', '--out', run, '--config', toy / 'toy.json', '--steps', 2
    code, out, err = command(*begin, '--device', 'cpu')
    assert code == 0, err
    kept = [f'{s}.{e}' for s in ('fomm', 'sync', 'avct', 'bst', 'head') for e in ('pt', 'csv')]
    for name in ('run.json', 'report.html', 'talkface.safetensors', *kept):
        assert (run / name).is_file(), name
    code, _, err = command(*begin)
    assert code == 2 and '--resume' in err and 'Traceback' not in err
    more = '--resume', '--stage', 'head', '--steps', 4, '--device', 'cpu'
    code, _, err = command('--out', run, *more)
    assert code == 0, err
    assert json.loads((run / 'run.json').read_text())['stages']['head']['steps'] == 4


def test_command_in_two_processes(toy):
    how = '--config', toy / 'toy.json', '--stage', 'head', '--steps', 2, '--device', 'cpu'
    accelerated(2, '-m', 'talkface.cli', 'train', toy / 'corpus', '--out', toy / 'two', *how)
    assert json.loads((toy / 'two' / 'run.json').read_text())['stages']['head']['done']
    assert (toy / 'two' / 'talkface.safetensors').is_file()


def weights_of(run, name, kind='averaged'):
    "A network's state dict in the checkpoint of the stage fomm."
    import torch

    state = torch.load(run / 'fomm.pt', weights_only=True)
    return state[kind].get(name) or state['nets'][name]


def differ(a, b):
    "Whether any tensor of two state dicts is different."
    return any((a[k] != b[k]).any() for k in a)


def test_frozen_network(toy):
    "E_kd stays while E_r learns: in a new run, and from where an earlier training has brought it."
    run = toy / 'frozen'
    begin = toy / 'corpus', '--out', run, '--config', toy / 'toy.json', '--device', 'cpu'
    code, _, err = command(*begin, '--stage', 'fomm', '--steps', 3)
    assert code == 0, err
    before = {name: weights_of(run, name) for name in ('kp_detector', 'generator')}
    more = '--resume', '--stage', 'fomm', '--steps', 6, '--freeze', 'kp_detector'
    code, _, err = command('--out', run, *more, '--device', 'cpu')
    assert code == 0, err
    assert not differ(weights_of(run, 'kp_detector'), before['kp_detector'])
    assert differ(weights_of(run, 'generator'), before['generator'])
    code, _, err = command('--out', run, *more, '--freeze', 'sync')
    assert code == 2 and 'kp_detector or generator' in err


def test_photographs_in_pairs(toy, tmp_path):
    "Two photographs of one person are a clip of two frames, the others are alone."
    from PIL import Image

    from talkface.core import asset
    from talkface.train import photo_clips

    face = Image.open(asset('portrait.png')).convert('RGB')
    for name in ('ann_a', 'ann_b', 'ben', 'cleo_b'):
        face.save(tmp_path / f'{name}.png')
    Image.new('RGB', (300, 300)).save(tmp_path / 'nobody.png')
    clips = photo_clips(tmp_path, 64)
    assert [len(c['frames']) for c in clips] == [2, 1, 1]
    for c in clips:
        assert c['frames'].shape[1:] == (64, 64, 3)
        assert c['mouth'].shape == (len(c['frames']), 4)
        assert np.isfinite(c['opening']).all()
    how = '--config', toy / 'toy.json', '--stage', 'fomm', '--steps', 2, '--device', 'cpu'
    code, _, err = command(toy / 'corpus', '--out', toy / 'photos', '--photos', tmp_path, *how)
    assert code == 0, err


@pytest.mark.parametrize(
    'args,word',
    [
        (['none', '--steps', 1], 'is no corpus'),
        (['corpus'], '--minutes'),
        (['corpus', '--steps', 1, '--config', 'gone.json'], 'gone.json'),
        (['corpus', '--steps', 1], 'crops of 64 px'),
        (['corpus', '--steps', 1, '--config', 'toy.json', '--validate', 'gone.txt'], 'gone.txt'),
        (['corpus', '--steps', 1, '--config', 'toy.json', '--speaker', 'nobody'], 'nobody'),
        (
            ['corpus', '--steps', 1, '--config', 'toy.json', '--init', 'gone.safetensors'],
            'gone.safetensors',
        ),
    ],
)
def test_mistakes(toy, tmp_path, args, word):
    args = [toy / a if a in ('corpus', 'none', 'toy.json') else a for a in args]
    code, out, err = command(*args, '--out', tmp_path / 'new', '--device', 'cpu')
    assert code == 2 and word in err and 'Traceback' not in err, err
    assert len([line for line in err.splitlines() if line.strip()]) == 1, err
    assert not (tmp_path / 'new').exists() or not any((tmp_path / 'new').iterdir())


def test_bst_alone(tmp_path):
    "Without a warm start of its own BST begins at what AVCT is, and keeps its share of that."
    import torch
    from talkface.toy import TOY, toy_corpus
    from talkface.train import train

    toy_corpus(tmp_path / 'c')
    train(tmp_path / 'c', tmp_path / 'r', 'sync', steps=1, config=TOY, device='cpu')
    run = train(None, tmp_path / 'r', 'bst', steps=1, device='cpu', resume=True)
    net, where = run.network('ph2kp')
    trained = torch.load(tmp_path / 'r' / 'bst.pt', weights_only=True)['averaged']['ph2kp']
    k = next(iter(trained))
    assert where.startswith('bst') and torch.allclose(
        net.state_dict()[k], (trained[k] + run.before_bst()[k]) / 2, atol=1e-6
    )


def test_one_training_at_a_time(toy, tmp_path):
    "A second training in one folder is refused; after kill -9 of the first, another goes on."
    out = tmp_path / 'run'
    args = ['--out', out, '--stage', 'head', '--steps', 100_000, '--device', 'cpu']
    begin = [toy / 'corpus', *args, '--config', toy / 'toy.json']
    first = subprocess.Popen(
        [sys.executable, '-m', 'talkface.cli', 'train', *map(str, begin)],
        env=ENV,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(1200):
            if (out / 'head.csv').is_file() or first.poll() is not None:
                break
            time.sleep(0.1)
        assert first.poll() is None
        code, _, err = command(*args, '--resume')
        assert code == 2 and 'another training' in err and 'Traceback' not in err, err
    finally:
        first.kill()
        first.wait()
    code, said, err = command('--out', out, '--stage', 'head', '--steps', 1, '--resume')
    assert code == 0, err
    assert 'enough to see that everything runs' in said


def test_minutes_are_divided():
    "Stages get their shares of what is left; time spent before counts."
    from talkface.train import Budget

    budget = Budget(10, dict(fomm=3, avct=1), dict(fomm=300))
    assert budget.begin('fomm') == pytest.approx((600 - 30 - 300) / 2, abs=1)
    budget.finish()
    assert budget.begin('avct') == pytest.approx(600 - 30 - 300, abs=1)
