"Training as it is typed: every choice, several processes, a run that is killed, a disk that is full, and a shell that helps."
import json
import os
import random
import re
import signal
import subprocess
import time

import pexpect
import pytest
from children import THOROUGH, Layer, each_flavour, full_then_soak, one_flavour, tiered
from helpers import ROOT, service

SMALL = 'trainer.max_epochs=2 logger=none'
STATE = """
import sys, torch
from hashlib import sha256
state = torch.load(sys.argv[1], weights_only=True)['state_dict']
print(sha256(b''.join(v.numpy().tobytes() for v in state.values())).hexdigest())"""
BAD = {
    'data/source=file data.source.path=no.csv data.path=build/bad/x.parquet': 'no.csv',
    'data.batch_size=many': "'many' is not int",
    'data.batch_size=0': 'batch_size',
    'model.opt.lr=1e30 model.opt._target_=torch.optim.SGD': 'the loss became',
    'monitor=valid/f1': 'did you mean valid/',
    'mode=maximum': 'did you mean max',
    'trainer.precision=bf16-mxied': 'did you mean bf16-mixed',
    'trainer.max_epochs=many': 'not Optional[int]',
    'trainer.max_epochs=0': 'epoch',
    'model.net.width=wide': 'not int',
    'threads=0': 'at least 1',
    'seed=-1': 'at least 0',
    'trainer.accumulate_grad_batches=0': 'at least 1',
    'evaluate.seeds=0': 'at least 1',
    'evaluate.tie=-1': 'at least 0',
    'model.opt=null': 'None is not Callable',
    '~model._target_': 'model has no _target_',
    'model.opt._target_=torch.optim.Adma': 'torch.optim.Adma cannot be found',
    '+callbacks.early_stopping.patiense=3': 'did you mean patience'}
EMPTY = {'image': 'data.valid=0.5 data.test=0.5 data.path=build/bad/y.parquet',
         'tabular': 'data.prepare.valid=2014-02-01 data.prepare.test=2014-03-01 data.path=build/bad/y.parquet'}
TRY = """
import json, sys
from mlops_kit.configs import compose
from mlops_kit.project import InputError
from mlops_kit.train import train
said = []
for words in json.loads(sys.argv[1]):
    epochs = [] if 'max_epochs' in words else ['trainer.max_epochs=1']
    try: said.append(str(train(compose([*words.split(), *epochs, 'logger=none', 'out=build/bad']))))
    except InputError as e: said.append(str(e))
print(json.dumps(said))"""


def trainings(child, out):
    "The run.json of every training below `out`, oldest first"
    found = [json.loads(f.read_text()) for f in (child.path / out / 'runs/train').glob('*/run.json')]
    return sorted(found, key=lambda r: r['started'])


@pytest.mark.soak  # in CI, `test_two_workers_train_as_two_processes` trains so
@each_flavour
def test_two_processes_make_one_run(child):
    "`trainer=ddp` trains in two processes, records one run, and leaves no process behind"
    out = f'build/ddp-{child.path.name}'
    said = child.kit(f'train trainer=ddp {SMALL} out={out}').stdout
    run, = trainings(child, out)
    assert (run['status'], said.count('\n')) == ('passed', 1), said
    assert len(json.loads((child.path / out / 'runs/train' / run['id'] / 'history.json').read_text())) == 2
    assert subprocess.run(['pgrep', '-f', f'out={out}'], capture_output=True).stdout == b''
    child.kit(f'train resume={run["id"][:-2]} trainer.max_epochs=3')
    assert [(r['status'], r.get('resumes')) for r in trainings(child, out)] == [('passed', None), ('passed', run['id'])]


@pytest.mark.parametrize(('flavour', 'seed'), [tiered(f, seed) for f in THOROUGH for seed in range(6)])
def test_killed_run_goes_on(child, seed):
    "Whenever it is killed, `resume=RUN` ends with the weights of a run that was never stopped"
    out, rnd = f'build/killed{seed}', random.Random(seed)
    words = ['train', f'out={out}', 'trainer.max_epochs=6', 'callbacks.early_stopping=null', 'logger=none', f'seed={seed}']
    first = child.env.bin / 'mlops-kit'
    env = {**os.environ, **child.variables, 'PATH': f'{child.env.bin}:{os.environ["PATH"]}'}
    with subprocess.Popen([first, *words], cwd=child.path, env=env, start_new_session=True) as p:
        while not list((child.path / out).glob('runs/train/*/checkpoints/last.ckpt')) and p.poll() is None: time.sleep(.01)
        time.sleep(rnd.uniform(0, 1))
        os.killpg(p.pid, signal.SIGKILL)
    dead, = trainings(child, out)
    child.kit(f'train resume={dead["id"]}')
    child.run('mlops-kit', *words)
    files = [child.path / out / 'runs/train' / r['id'] / 'checkpoints/last.ckpt' for r in trainings(child, out)]
    assert len({child.run('python', '-c', STATE, f).stdout for f in files[1:]}) == 1
    assert [(r['status'], r.get('resumes')) for r in trainings(child, out)[1:]] == [('passed', dead['id']), ('passed', None)]


@pytest.mark.full
@one_flavour
def test_told_to_end(child):
    "A scheduler knows the process that was typed, and tells it alone to end: it says how to go on, and leaves nothing that runs"
    out = f'build/told-{child.path.name}'
    words = ['train', f'out={out}', 'trainer.max_epochs=500', 'callbacks.early_stopping=null', 'logger=none']
    env = {**os.environ, **child.variables}
    with subprocess.Popen([child.env.bin / 'mlops-kit', *words], cwd=child.path, env=env, stdout=subprocess.PIPE, text=True) as p:
        while not list((child.path / out).glob('runs/train/*/checkpoints/last.ckpt')) and p.poll() is None: time.sleep(.01)
        p.terminate()
        said, _ = p.communicate(timeout=60)
    run, = trainings(child, out)
    assert (p.returncode, run['status']) == (130, 'cancelled')
    assert said == f'stopped; to go on: mlops-kit train resume={run["id"]}\n'
    assert subprocess.run(['pgrep', '-f', f'out={out}'], capture_output=True).stdout == b''


@full_then_soak
def test_every_choice_trains(child):
    "Choices of the trainer and for debugging do what they say, from the command line"
    child.kit(f'train -m debug=fast_dev_run,limit,overfit,profiler trainer=cpu,deterministic {SMALL} out=build/each')
    runs = trainings(child, 'build/each')
    assert [r['status'] for r in runs] == ['passed'] * 8
    kept = [sorted(f.name for f in (child.path / f'build/each/runs/train/{r["id"]}').rglob('*.*') if f.name != 'run.json') for r in runs]
    assert kept[0] == kept[1] == ['history.json']
    assert kept[-1] == ['best.safetensors', 'fit-profile.txt', 'history.json', 'last.ckpt']


@full_then_soak
def test_precision_and_compiling(child):
    "bf16, accumulated and clipped gradients, another batch size and torch.compile are words on the command line"
    service('g++')
    words = 'trainer.precision=bf16-mixed trainer.accumulate_grad_batches=2 trainer.gradient_clip_val=1 data.batch_size=128 compile=true'
    child.kit(f'train {words} {SMALL} out=build/words')
    run, = trainings(child, 'build/words')
    assert (run['status'], run['config']['compile'], run['config']['trainer']['gradient_clip_val']) == ('passed', True, 1)


@pytest.mark.soak
@one_flavour
def test_launcher(child, tmp_path):
    "Hydra's launchers work: two runs at a time, each in a process of joblib"
    env = Layer(child.env, tmp_path / 'env')
    env.run('python', '-m', 'pip', 'install', '-q', '-c', ROOT / 'constraints.txt', 'hydra-joblib-launcher')
    said = env.run('mlops-kit', 'train', 'hydra/launcher=joblib', 'out=build/two', 'seed=1,2', '-m', *SMALL.split(), cwd=child.path,
                   env=child.variables).stdout
    assert len(re.findall('valid/.* in epoch', said)) == 2, said
    assert len({r['process']['pid'] for r in trainings(child, 'build/two')}) == 2


@full_then_soak
def test_bad_input_is_answered(child, flavour):
    "A value that cannot be right is answered in words, before or after the run begins, and no run is left without an end"
    bad = {**BAD, EMPTY[flavour]: 'is empty' if flavour == 'tabular' else 'leave a rest'}
    said = json.loads(child.run('python', '-c', TRY, json.dumps(list(bad))).stdout.splitlines()[-1])
    assert not {words: s for (words, right), s in zip(bad.items(), said, strict=True) if right not in s}
    assert {r['status'] for r in trainings(child, 'build/bad')} == {'failed'}


@pytest.mark.full
@one_flavour
def test_full_disk(child, tmp_path):
    "A disk that is full when weights are written ends the run with one sentence and exit code 3, and its record says so"
    if os.geteuid() or subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=8k', 'tmpfs', tmp_path]).returncode:
        pytest.skip('only root may mount a disk')
    try: done = child.kit(f'train {SMALL} out=build/full callbacks.checkpoint.folder={tmp_path}', ok=False)
    finally: subprocess.run(['umount', '-l', tmp_path], check=True)
    assert (done.returncode, done.stdout.count('\n'), 'make some room' in done.stdout) == (3, 1, True), done.stdout
    assert trainings(child, 'build/full')[0]['status'] == 'failed'


@pytest.fixture
def terminal(child):
    "A real bash in the child, with the completion that `mlops-kit completion bash` prints"
    env = {**os.environ, **child.variables, 'PATH': f'{child.env.bin}:{os.environ["PATH"]}', 'PS1': '> ', 'TERM': 'dumb', 'CI': ''}
    how = {'cwd': str(child.path), 'env': env, 'encoding': 'utf-8', 'timeout': 180, 'dimensions': (40, 200)}
    bash = pexpect.spawn('bash', ['--norc', '--noprofile', '-i'], **how)
    bash.expect('> ')
    bash.sendline('source <(mlops-kit completion bash); echo rea""dy')
    bash.expect('ready\r\n> ')
    yield bash
    bash.close(force=True)


@pytest.mark.full
@one_flavour
def test_tab_completes(terminal):
    "Tab completes verbs, notebooks, choices and keys, and adds no space where more must follow"
    for typed, seen in (('tra', 'train '), ('train trainer=deter', 'trainer=deterministic '),
                        ('train model.opt.weight_d', 'model.opt.weight_decay='), ('run nbs/03', 'nbs/03_train.ipynb ')):
        terminal.send(f'mlops-kit {typed}\t')
        terminal.expect_exact(seen)
        terminal.send('\x15\r')  # Ctrl-U empties the line: a key, where Ctrl-C would be a signal that bash may see only at the next key
        terminal.expect_exact('\r\n> ')


@pytest.mark.soak
@one_flavour
def test_progress_is_for_people(terminal, child):
    "At a terminal a bar shows how far it is; under CI and in a pipe there is one line"
    terminal.sendline(f'mlops-kit train {SMALL} out=build/bar')
    terminal.expect('Epoch 1')
    terminal.expect('in epoch .*build/bar')
    assert child.kit(f'train {SMALL} out=build/bar', env={'CI': '1'}).stdout.count('\n') == 1
