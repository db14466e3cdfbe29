"Fast, live, long and many: the rewritten networks, the stream, long files in constant memory, lists of videos, the benchmark."
import csv, io, json, os, signal, subprocess, sys, time
from pathlib import Path
import numpy as np, pytest, torch
import toy
from talkface.animate import Animator, ahead, frames_for, main
from talkface.audio_features import acoustic_features, clip_gain, pad_window
from talkface.batch import read_list, render_list
from talkface.core import TalkfaceError, asset
from talkface.faces import pose_map
from talkface.media import read_audio, read_clip
from talkface.phonemes import PhonemeTimeline
from talkface.streaming import Ears, Stream, read_pcm

@pytest.fixture(scope='module')
def files(tmp_path_factory):
    d = tmp_path_factory.mktemp('toy')
    return dict(dir=d, weights=toy.weights(d/'toy.safetensors', speaker=True), ph=toy.phonemes(d/'a.json', 2.), wav=toy.wav(d/'a.wav', toy.speech(2.)))

@pytest.fixture(scope='module')
def an(files): return Animator.from_pretrained(files['weights'], 'cpu', fast=False)

@pytest.fixture(scope='module')
def me(an): return an.portrait(asset('portrait.png'))

def apart(a, b): return max((a[k]-b[k]).abs().max().item() for k in a)

# ---- one road

@pytest.mark.parametrize('compat', ['best', 'released'])
def test_frame_by_frame(files, compat):
    "float32 against the networks as trained, each frame with a window of its own and everything anew."
    an = Animator.from_pretrained(files['weights'], 'cpu', compat, fast=False); me, p, nets, w = an.portrait(asset('portrait.png')), an.switches, an.models, 5
    m = an.motion(me, files['wav'], phonemes=files['ph'], pose='still')
    T = len(m); ph = np.pad(m.timeline.labels(T, p.label, p.phone_shift_ms), w, constant_values=nets['ph2kp'].sil)
    a, h = pad_window(m.features, w, p.pad_audio), np.pad(m.poses, ((w, w), (0, 0)), mode='edge')
    from talkface.motion_transfer import relative_motion
    slow = Animator.from_pretrained(files['weights'], 'cpu', compat, fast=False, rewritten=False)
    with torch.inference_mode():
        def drive(t):
            i = slice(t, t+2*w+1)
            return nets['ph2kp'](torch.from_numpy(ph[i])[None], torch.as_tensor(pose_map(h[i]))[None], torch.from_numpy(a[i])[None], nets['kp_detector'](me.source, with_feature=True)['feature_map'])
        rest = slow._rest(me.pose, me.feature_map, m.features) or drive(0)
        for t in (0, 3, T//2, T-1):
            kp = relative_motion(nets['kp_detector'](me.source), drive(t), rest)
            assert apart({k: v[t:t+1] for k, v in m.kp.items()}, kp) < 1e-4
            want = nets['generator'](me.source, kp, nets['kp_detector'](me.source))['prediction']
            got = an.ready('generator')(me.source, {k: v[t:t+1] for k, v in m.kp.items()}, me.kp, me.encoded)
            assert (got-want).abs().max() < 1e-4

def test_batches_and_chunks(an, me, files):
    m = an.motion(me, files['wav'], phonemes=files['ph'])
    f, seen = m.features, me.feature_map
    one = an._driving(m.timeline.labels(len(f)), m.poses, f, seen)
    for chunk in (1, 7, 1000): assert apart(an._driving(m.timeline.labels(len(f)), m.poses, f, seen, chunk=chunk), one) < 1e-5
    pics = [np.stack(list(an.render(me, m, batch=b))).astype(int) for b in (1, 5, 64)]
    assert max(abs(p-pics[0]).max() for p in pics) <= 1

def test_sixteen_bits_are_near(files, me, an):
    short = Animator.from_pretrained(files['weights'], 'cpu', fast=True)
    m = an.motion(me, files['wav'], phonemes=files['ph'], pose='still')
    a, b = (np.stack(list(x.render(me, m))).astype(float) for x in (an, short))
    assert np.abs(a-b).mean() < 2

def test_ahead():
    made = []
    def source():
        for i in range(100): made.append(i); yield i
    g = ahead(source(), 4); assert next(g) == 0; g.close(); time.sleep(.1); n = len(made); time.sleep(.1)
    assert n == len(made) < 20
    assert list(ahead(range(1000), 2)) == list(range(1000))
    def broken(): yield 1; raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): list(ahead(broken()))

# ---- live

flat = lambda x: np.full(len(x)//160+1, 120.)

@pytest.mark.parametrize('drop', [37, 640, 6400])
@pytest.mark.parametrize('compat', ['best', 'released'])
def test_stream_is_the_clip(files, drop, compat):
    "With gain, pitch and phones known and a still head."
    an = Animator.from_pretrained(files['weights'], 'cpu', compat, fast=False); me = an.portrait(asset('portrait.png'))
    wav = toy.speech(2.)[:31234]; off, gain = clip_gain(wav); line = PhonemeTimeline.load(files['ph'])
    f = acoustic_features(wav, f0=flat); p = an.switches; seen, first = an._shown(me)
    want = an._transfer(me, an._driving(line.labels(len(f), p.label, p.phone_shift_ms), an.poses(me, f, 'still')-me.pose+first, f, seen), first, seen, f)
    s, kps, n = Stream(an, me, size=64, pose='still', phonemes=line, gain=gain, offset=off, f0=flat), [], 0
    for i in range(0, len(wav), drop):
        if got := s.push(wav[i:i+drop]): kps.append(s.kp); n += len(got)
    n += len(s.finish()); kps.append(s.kp)
    assert n == frames_for(len(wav), 16000) and apart({k: torch.cat([q[k] for q in kps]) for k in want}, want) < 1e-4

def test_delay(an, me):
    "A frame leaves with the sample that completes the features of its fifth follower."
    wav, s, n = toy.speech(2.), Stream(an, me, size=64), 0
    for i in range(0, 16000, 80):
        n += len(s.push(wav[i:i+80])); heard = i+80
        assert n == max(0, (heard-880)//640+1-5 if heard >= 880 else 0), heard

@pytest.mark.parametrize('n', [100, 700, 880, 5000, 16001])
def test_short_streams(an, me, n):
    s = Stream(an, me, size=64); x = toy.speech(1.1)[:n]
    out = s.push(x)+s.finish()
    assert len(out) == (frames_for(n, 16000) if n > 720 else 0)

def test_stream_rates_and_unknowns(an, me):
    x, _ = read_audio((toy.speech(1.), 16000), 44100)
    frames = list(an.stream(me, np.array_split(x, 30), sr=44100, size=64))
    assert len(frames) == 25 and frames[0].shape == (64, 64, 3)
    with pytest.raises(TalkfaceError, match='one channel'): Stream(an, me).push(np.zeros((10, 2)))

def test_running_gain():
    "A faint voice reaches the features of a loud one after a second."
    x = np.tile(toy.speech(2.), 2); whole = acoustic_features(x, f0=flat)
    for scale in (1, .05):
        e = Ears(f0=flat); got = np.concatenate([e.push(scale*x[i:i+640]) for i in range(0, len(x), 640)])
        d = np.abs(got[50:, :, 13:39]-whole[50:len(got), :, 13:39]).mean()
        assert d < .3, (scale, d)

def process(*args, **kw): return subprocess.Popen([sys.executable, '-m', 'talkface.animate', *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)

def test_pipe(files):
    pcm = (toy.speech(1.)*32767).astype('<i2').tobytes()
    p = process('stream', '--weights', files['weights'], '--device', 'cpu', '--size', 64, stdin=subprocess.PIPE)
    out, err = p.communicate(pcm, timeout=300)
    assert p.returncode == 0 and len(out) == 25*64*64*3, err
    assert b'25 frames' in err and b'Traceback' not in err

def test_pipe_closed_by_the_reader(files):
    pcm = (np.tile(toy.speech(2.), 10)*32767).astype('<i2').tobytes()
    p = process('stream', asset('portrait.png'), '-', '--weights', files['weights'], '--device', 'cpu', '--size', 256, stdin=subprocess.PIPE)
    import threading
    def feed():
        try: p.stdin.write(pcm); p.stdin.close()
        except OSError: pass
    threading.Thread(target=feed, daemon=True).start()
    p.stdout.read(1000); p.stdout.close()
    assert p.wait(300) == 141 and b'Traceback' not in p.stderr.read()

def test_stream_refuses(files, tmp_path, capsys):
    run = lambda *a: main(['stream', str(asset('portrait.png')), *map(str, a), '--weights', str(files['weights']), '--device', 'cpu'])
    assert run(tmp_path/'none.wav') == 2
    assert run(files['wav'], '-o', tmp_path/'o.gif') == 2
    assert run(files['wav'], '--gain', 0, '-o', tmp_path/'o.mp4') == 2
    (tmp_path/'f.wav').write_bytes(files['wav'].read_bytes().replace(b'\x10\x00data', b'\x18\x00data')); assert run(tmp_path/'f.wav', '-o', tmp_path/'o.mp4') == 2
    (tmp_path/'e.wav').touch(); assert run(tmp_path/'e.wav', '-o', tmp_path/'o.mp4') == 2
    err = capsys.readouterr().err; assert 'Traceback' not in err and not list(tmp_path.glob('*.mp4'))
    assert run(files['wav'], '-o', tmp_path/'o.mp4', '--pose', 'still', '--size', 64) == 0
    c = read_clip(tmp_path/'o.mp4'); assert len(c) == 50 and abs(len(c.wav)/c.sr-2) < .1

# ---- long

def test_long_files_are_streamed(an, me, files, tmp_path):
    kw = dict(phonemes=files['ph'], pose='still', size=64)
    m = an.save(me, files['wav'], tmp_path/'a.mp4', longest=1., **kw); n = an.save(me, files['wav'], tmp_path/'b.mp4', **kw)
    a, b = read_clip(tmp_path/'a.mp4'), read_clip(tmp_path/'b.mp4')
    assert m.n_frames == len(a) == len(b) == n.n_frames == 50 and np.abs(a.frames.astype(int)-b.frames).mean() < 2
    assert abs(len(a.wav)-len(b.wav)) < 2000 and np.corrcoef(a.wav[:30000], b.wav[:30000])[0, 1] > .95

MEMORY = """
import resource, sys, numpy as np, toy
from talkface.animate import Animator
from talkface.core import asset
weights, folder, seconds, longest = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
import talkface.phonemes as ph, functools
ph.recognize = functools.partial(ph.recognize, method='allphone')     # words take longer
an = Animator.from_pretrained(weights, 'cpu')
me = an.portrait(asset('portrait.png'))
x = np.tile(toy.speech(2.), 5)
import wave
with wave.open(f'{folder}/{seconds}.wav', 'wb') as f:
    f.setnchannels(1); f.setsampwidth(2); f.setframerate(16000)
    for _ in range(seconds//10): f.writeframes((x*32767).astype('<i2').tobytes())
m = an.save(me, f'{folder}/{seconds}.wav', f'{folder}/{seconds}.mp4', longest=longest, size=64)
assert m.n_frames == 25*seconds, m.n_frames
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024)
"""

def peaks(files, folder, seconds, longest):
    "Peak memory in MB of processes that animate so many seconds."
    env = {**os.environ, 'PYTHONPATH': str(Path(__file__).parent), 'OMP_NUM_THREADS': '1'}
    peak = {}
    for s in seconds:
        r = subprocess.run([sys.executable, '-c', MEMORY, files['weights'], folder, str(s), str(longest)], capture_output=True, text=True, env=env)
        assert r.returncode == 0, r.stderr
        peak[s] = float(r.stdout)
    print(peak)
    return peak

def test_memory_of_long_files(files, tmp_path):
    "A sound four times as long needs what the short one needs, within a tenth, phones, head and all."
    peak = peaks(files, tmp_path, (20, 80), 5)
    assert peak[80] < 1.1*peak[20], peak

@pytest.mark.skipif(not os.environ.get('TALKFACE_HOUR'), reason='TALKFACE_HOUR is not set: an hour of sound takes ten minutes or more')
def test_memory_of_an_hour(files, tmp_path):
    "An hour, streamed, against a minute as one clip."
    peak = peaks(files, tmp_path, (60, 3600), 300)
    assert peak[3600] < 1.1*peak[60], peak

# ---- many

@pytest.fixture
def many(files, tmp_path):
    from PIL import Image
    Image.open(asset('portrait.png')).convert('RGB').save(tmp_path/'me.png'); Image.new('RGB', (200, 200), (90, 120, 90)).save(tmp_path/'grass.png')
    for n in 'abc': toy.wav(tmp_path/f'{n}.wav', toy.speech(.6, .5+.2*ord(n)-19))
    toy.phonemes(tmp_path/'p.json', .6)
    with open(tmp_path/'list.csv', 'w', newline='') as f:
        w = csv.writer(f); w.writerow(['image', 'audio', 'phonemes', 'pose', 'size', 'out'])
        w.writerows([['me.png', 'a.wav', 'p.json', 'still', 64, ''], ['grass.png', 'b.wav', 'p.json', 'still', 64, ''], ['me.png', 'none.wav', 'p.json', 'still', 64, ''], ['me.png', 'b.wav', 'p.json', '', '', 'b b.mp4'], ['me.png', 'c.wav', 'p.json', 'still', 64, '']])
    return tmp_path

def test_batch(many, files, capsys):
    kw = dict(weights=str(files['weights']), device='cpu')
    one = render_list(many/'list.csv', many/'one', jobs=1, **kw)
    assert [r['status'] for r in one] == ['made', 'failed', 'failed', 'made', 'made'] and 'no face' in one[1]['what'] and 'none.wav' in one[2]['what']
    two = render_list(many/'list.csv', many/'two', jobs=2, **kw)
    for n in ('me_a.mp4', 'b b.mp4', 'me_c.mp4'): assert (read_clip(many/'one'/n).frames == read_clip(many/'two'/n).frames).all()
    assert sorted(p.name for p in (many/'two').iterdir()) == ['b b.mp4', 'me_a.mp4', 'me_c.mp4', 'report.csv']
    (many/'one'/'me_a.mp4').unlink(); toy.wav(many/'c.wav', toy.speech(.8)); kept = (many/'one'/'b b.mp4').stat().st_mtime_ns
    code = main(['animate', '--batch', str(many/'list.csv'), '-o', str(many/'one'), '--weights', kw['weights'], '--device', 'cpu', '--jobs', '1'])
    out, err = capsys.readouterr()
    assert code == 2 and '2 videos made, 1 were done before, 2 failed' in out and '2 of 5' in err and 'Traceback' not in err
    assert (many/'one'/'b b.mp4').stat().st_mtime_ns == kept and len(read_clip(many/'one'/'me_c.mp4')) == 20

def test_batch_refuses(many, capsys):
    (many/'bad.csv').write_text('image,sound\na,b\n')
    for args in (['--batch', many/'bad.csv'], ['--batch', many/'none.csv'], ['x.png', '--batch', many/'list.csv'], ['--batch', many/'list.csv', '-o', many/'o.mp4'], ['--batch', many/'list.csv', '--jobs', 0]):
        assert main(['animate', *map(str, args)]) == 2
    assert 'Traceback' not in capsys.readouterr().err

@pytest.mark.skipif(not os.environ.get('TALKFACE_RAY'), reason='TALKFACE_RAY is not set: a Ray cluster takes minutes to start')
def test_ray(many, files):
    pytest.importorskip('ray')
    kw = dict(weights=str(files['weights']), device='cpu')
    a, b = render_list(many/'list.csv', many/'p', jobs=1, **kw), render_list(many/'list.csv', many/'r', jobs=1, ray='local', **kw)
    assert [r['status'] for r in a] == [r['status'] for r in b]
    for n in ('me_a.mp4', 'b b.mp4', 'me_c.mp4'): assert (read_clip(many/'p'/n).frames == read_clip(many/'r'/n).frames).all()

def test_ray_missing(many, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'ray', None)
    assert main(['animate', '--batch', str(many/'list.csv'), '--ray', 'local']) == 2 and 'talkface[ray]' in capsys.readouterr().err

# ---- measured

def test_bench(files, tmp_path, capsys):
    assert main(['bench', '--quick', '--no-full', '--weights', str(files['weights']), '--device', 'cpu', '--json', str(tmp_path/'b.json')]) == 0
    r = json.loads((tmp_path/'b.json').read_text()); out = capsys.readouterr().out
    assert 'frames a second' in out and r['stages'][0]['fps'] > 0 and r['compact']['ours']['float32']['gmac'] > 0
    assert main(['bench', '--threads', '0']) == 2

def test_counts():
    "MACs of a convolution, a transposed one, a product and attention are those of the formulas."
    from talkface.fast import Macs
    from torch import nn
    with torch.inference_mode(), Macs() as m:
        nn.Conv2d(4, 6, 3, padding=1, groups=2)(torch.rand(1, 4, 8, 8)); nn.ConvTranspose2d(2, 3, 5)(torch.rand(1, 2, 4, 4)); nn.Linear(7, 5)(torch.rand(3, 7))
    assert m.total == 6*64*2*9+2*16*3*25+3*7*5
