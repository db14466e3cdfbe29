"Training is killed, continued and shared between processes."

import json, os, subprocess, sys, textwrap, time
import pytest

pytest.importorskip('accelerate')

ENV = {**os.environ, 'OMP_NUM_THREADS': '1', 'TQDM_DISABLE': '1', 'CUDA_VISIBLE_DEVICES': ''}


def python(code, *args, launch=()):
    r = subprocess.run(
        [sys.executable, *launch, code, *map(str, args)]
        if launch
        else [sys.executable, '-c', textwrap.dedent(code), *map(str, args)],
        env=ENV,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert r.returncode == 0, r.stderr[-3000:]
    return r.stdout


KILL = """
import os, random, signal, sys, time, torch
from pathlib import Path
import numpy as np
from torch import nn
from talkface.trainer import Stage, fit
torch.set_num_threads(1)
class Loss(nn.Module):
    def __init__(self, net): super().__init__(); self.net = net
    def forward(self, b, outputs): return {'l2': ((self.net(b['x'])-b['x'].sum(1, keepdim=True))**2).mean()}, {}
class Tiny(Stage):
    name, ema = 'tiny', .9
    def __init__(self):
        torch.manual_seed(0); net = nn.Sequential(nn.Linear(8, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(.2), nn.Linear(64, 1))
        self.nets = {'net': net}; self.updates = {'net': (Loss(net), torch.optim.Adam(net.parameters(), 1e-2))}
    def sample(self, rng): return dict(x=rng.normal(size=8).astype(np.float32))
    def preview(self): return np.zeros((64,64,3), np.uint8)
def go(out, steps): s = Tiny(); fit(s, out, steps=steps, batch=8, amp=False, device='cpu', every=0); return s
out, steps, rng = Path(sys.argv[1]), 1000, random.Random(5)
whole = go(out/'whole', steps); kills = 0; t0 = time.time(); go(out/'pace', 20); pace = (time.time()-t0)/20
reached = [0]
for i in range(10):
    pid = os.fork()
    if not pid:
        try: go(out/'killed', steps)
        finally: os._exit(0)
    time.sleep(rng.uniform(3, 25)*pace); os.kill(pid, signal.SIGKILL); _, code = os.waitpid(pid, 0); kills += code == signal.SIGKILL
    if (out/'killed'/'tiny.pt').exists(): reached.append(torch.load(out/'killed'/'tiny.pt', weights_only=True)['step'])
s = go(out/'killed', steps)
same = all(torch.equal(a, b) for a, b in zip(whole.nets['net'].state_dict().values(), s.nets['net'].state_dict().values())) and all(torch.equal(a, b) for a, b in zip(whole.ema_nets['net'].state_dict().values(), s.ema_nets['net'].state_dict().values()))
rows = (out/'killed'/'tiny.csv').read_text().count('\\n')-1
print(kills, same, reached == sorted(reached), rows, len(list((out/'killed').glob('.*'))))
"""


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_killed_ten_times(tmp_path):
    "kill -9 at random moments, writing included: the end is the unbroken run's, to the last bit, and nothing unfinished lies about."
    kills, same, forward, rows, left = python(KILL, tmp_path).split()
    assert (
        int(kills) == 10
        and same == 'True'
        and forward == 'True'
        and int(rows) == 50
        and int(left) == 0
    )


SHARED = """
import json, sys, numpy as np, torch
torch.set_num_threads(1)
from talkface.avct import AVCT
from talkface.bst_training import BstStage, feature_stats
from talkface.toy import film, toy_speaker
from talkface.core import seed_everything
from talkface.fomm import build_fomm
from talkface.sync import SyncNet
from talkface.trainer import fit
clips = toy_speaker(4, 32)
for c in clips: film(c, 32)
seed_everything(1)
k, g = build_fomm(dict(kp_detector=dict(block_expansion=4, max_features=8, num_blocks=2, scale_factor=1.), generator=dict(block_expansion=4, max_features=8, num_down_blocks=1, num_bottleneck_blocks=1,
                  dense_motion_params=dict(block_expansion=4, max_features=8, num_blocks=2, scale_factor=.5))))
m = AVCT(widths=(4,8,16,32,32), d_model=32, nhead=4, num_layers=1, dim_feedforward=64, embedding_dim=64, fr_channels=4, dropout=0., audio_stats=feature_stats(clips))
s = BstStage(m, k, g, SyncNet(1/16), clips, T=6, lr=1e-3, eq='distill', d_seq=dict(block_expansion=4, num_blocks=2, max_features=8))
rows = fit(s, sys.argv[1], steps=6, batch=4, amp=False, device='cpu', log_every=1)
if len(rows): json.dump([{k: v for k, v in r.items() if k != 'seconds'} for r in rows], open(sys.argv[1]+'/rows.json', 'w'))
"""


def test_two_processes_are_one_with_twice_the_batch(tmp_path):
    "Half the batch in each of two processes: the losses of one process with the whole batch, step by step."
    script = tmp_path / 'shared.py'
    script.write_text(SHARED)
    for name, launch in (
        (
            'one',
            [
                '-m',
                'accelerate.commands.accelerate_cli',
                'launch',
                '--cpu',
                '--num_processes',
                '1',
                '--num_machines',
                '1',
                '--mixed_precision',
                'no',
                '--dynamo_backend',
                'no',
            ],
        ),
        (
            'two',
            [
                '-m',
                'accelerate.commands.accelerate_cli',
                'launch',
                '--cpu',
                '--num_processes',
                '2',
                '--num_machines',
                '1',
                '--mixed_precision',
                'no',
                '--dynamo_backend',
                'no',
            ],
        ),
    ):
        (tmp_path / name).mkdir()
        python(str(script), tmp_path / name, launch=launch)
    one, two = (json.loads((tmp_path / n / 'rows.json').read_text()) for n in ('one', 'two'))
    assert len(one) == len(two) == 6
    for a, b in zip(one, two):
        for k in a:
            assert a[k] == pytest.approx(b[k], rel=2e-3, abs=1e-5), (k, a, b)
    assert one[-1]['loss'] != pytest.approx(one[0]['loss'], rel=1e-3)  # something was learnt


def command(*args):
    r = subprocess.run(
        [sys.executable, '-m', 'talkface.cli', 'train', *map(str, args)],
        env=ENV,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return r.returncode, r.stdout, r.stderr


@pytest.fixture(scope='module')
def toy(tmp_path_factory):
    from talkface.toy import TOY, toy_corpus

    d = tmp_path_factory.mktemp('toy')
    toy_corpus(d / 'corpus', 4, 32)
    (d / 'toy.json').write_text(json.dumps(TOY))
    return d


def test_command(toy):
    code, out, err = command(
        toy / 'corpus',
        '--out',
        toy / 'run',
        '--config',
        toy / 'toy.json',
        '--steps',
        2,
        '--device',
        'cpu',
    )
    assert code == 0, err
    for f in (
        'run.json',
        'report.html',
        'talkface.safetensors',
        *(f'{s}.{e}' for s in ('fomm', 'sync', 'avct', 'bst', 'head') for e in ('pt', 'csv')),
    ):
        assert (toy / 'run' / f).is_file(), f
    code, _, err = command(
        toy / 'corpus', '--out', toy / 'run', '--config', toy / 'toy.json', '--steps', 2
    )
    assert code == 2 and '--resume' in err and 'Traceback' not in err
    code, _, err = command(
        '--out', toy / 'run', '--resume', '--stage', 'head', '--steps', 4, '--device', 'cpu'
    )
    assert code == 0, err
    assert json.loads((toy / 'run' / 'run.json').read_text())['stages']['head']['steps'] == 4


def test_command_in_two_processes(toy):
    python(
        'talkface.cli',
        'train',
        toy / 'corpus',
        '--out',
        toy / 'two',
        '--config',
        toy / 'toy.json',
        '--stage',
        'head',
        '--steps',
        2,
        '--device',
        'cpu',
        launch=[
            '-m',
            'accelerate.commands.accelerate_cli',
            'launch',
            '--cpu',
            '--num_processes',
            '2',
            '--num_machines',
            '1',
            '--mixed_precision',
            'no',
            '--dynamo_backend',
            'no',
            '-m',
        ],
    )
    assert (
        json.loads((toy / 'two' / 'run.json').read_text())['stages']['head']['done']
        and (toy / 'two' / 'talkface.safetensors').is_file()
    )


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
    assert (
        code == 2
        and word in err
        and 'Traceback' not in err
        and len([l for l in err.splitlines() if l.strip()]) == 1
    ), err
    assert not (tmp_path / 'new').exists() or not any((tmp_path / 'new').iterdir())


def test_bst_alone(tmp_path):
    "BST without a warm start of its own begins at what AVCT is without it, and keeps its share of that."
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
    "A second training in the same folder is refused; after kill -9 of the first, another may go on."
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
    assert budget.begin('fomm') == pytest.approx((600 - 15 - 300) / 2, abs=1)
    budget.finish()
    assert budget.begin('avct') == pytest.approx(600 - 15 - 300, abs=1)
