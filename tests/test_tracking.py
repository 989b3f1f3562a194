"Trackers are witnesses: they see what happened, offline and online, and nothing that befalls them stops a training."
import json
import os
import socket
import subprocess

import pexpect
import pytest
from children import Layer
from helpers import ROOT, extras

pytestmark = [pytest.mark.full, pytest.mark.parametrize('flavour', ['image'])]
SMALL = 'trainer.max_epochs=2'
READ = """
import json, sys
from pathlib import Path
import mlflow, pandas as pd
from mlops_kit.tracking import read_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
run, out, name = Path(sys.argv[1]), sys.argv[2], 'valid/loss'
client = mlflow.MlflowClient(f'sqlite:///{out}/mlflow.db')
[found] = client.search_runs([e.experiment_id for e in client.search_experiments()])
board = EventAccumulator(str(run / 'tensorboard')).Reload()
seen = dict(csv=pd.read_csv(run / 'csv/metrics.csv')[name].dropna().tolist(), wandb=read_run(run).history[name].dropna().tolist(),
    tensorboard=[e.value for e in board.Scalars(name)], mlflow=[m.value for m in client.get_metric_history(found.info.run_id, name)])
print(json.dumps(seen))"""

TRACKED = """
import json, sys
from mlops_kit.tracking import read_run
r = read_run(sys.argv[1])
print(json.dumps([r.config, r.summary, r.exit_code]))"""


def trained(child, out, words='', ok=True, **env):
    "What a short training says, and its record"
    said = child.kit(f'train {SMALL} out=build/{out} {words}', env=env, ok=ok)
    [file] = (child.path / f'build/{out}/runs/train').glob('*/run.json')
    return said.stdout, json.loads(file.read_text()), file.parent


def test_tracked_run_equals_record(child):
    "What W&B stored offline is what run.json says: the config and where the run comes from, the metrics, how it ended"
    child.kit('train trainer.max_epochs=2 out=build/tracked')
    folder = next((child.path / 'build/tracked/runs/train').iterdir())
    config, summary, code = json.loads(child.run('python', '-c', TRACKED, folder).stdout.splitlines()[-1])
    record = json.loads((folder / 'run.json').read_text())
    assert (config, code) == ({**record['config'], **{k: record[k] for k in ('id', 'overrides', 'provenance')}}, 0)
    last = {k.removeprefix('last/'): v for k, v in record['metrics'].items() if k.startswith('last/')}
    assert last
    assert {k: summary[k] for k in last} == pytest.approx(last)


def test_online_run_is_sent(child, wandb_server):
    "With one setting a run goes to the server while it trains: its config, origin, metrics and curves"
    said, record, _ = trained(child, 'online', 'logger.wandb.mode=online', **wandb_server.variables)
    config = {k: v['value'] for r in wandb_server.runs for k, v in json.loads(r.get('config') or '{}').items()}
    assert record['status'] == 'passed', said
    assert (config['seed'], config['provenance']['commit'], config['id']) == (42, record['provenance']['commit'], record['id'])
    summary = json.loads(wandb_server.files['wandb-summary.json'])
    assert summary['valid/loss'] == pytest.approx(record['metrics']['last/valid/loss'])
    assert any(f.startswith('media/images/curves') for f in wandb_server.files)


def test_online_run_gets_the_executed_notebook(child, wandb_server):
    "A notebook that trains online is sent as it was executed, once it has been"
    words = ['run', 'nbs/03_train.ipynb', '--set', 'ci', '--force', 'logger.wandb.mode=online']
    child.run('mlops-kit', *words, env=wandb_server.variables)
    book = max((child.path / 'build/ci/runs').glob('03_train/*/03_train.ipynb'), key=os.path.getmtime)
    assert json.loads((book.parent / 'run.json').read_text())['notes'] == []
    assert wandb_server.files['03_train.ipynb'] == book.read_bytes()
    assert not (book.parent / 'online.json').exists()


def test_offline_run_is_sent_later(child, wandb_server):
    "`wandb sync` sends an offline run, and with it the executed notebook that trained"
    child.kit('run nbs/03_train.ipynb --set ci --force')
    runs = child.path / 'build/ci/runs'
    book = max(runs.glob('03_train/*/03_train.ipynb'), key=os.path.getmtime)
    [run] = [f.parent for f in runs.glob('train/*/run.json') if json.loads(f.read_text())['parent'] == book.parent.name]
    child.run('wandb', 'sync', next(run.glob('wandb/offline-run-*')), env=wandb_server.variables)
    assert wandb_server.files['03_train.ipynb'] == book.read_bytes()
    assert b'image/png' in book.read_bytes()


@pytest.mark.parametrize('network', ['gone', *(pytest.param(n, marks=pytest.mark.soak) for n in ('refused', 'silent', 'no key'))])
def test_bad_network_stops_no_training(child, wandb_server, network, tmp_path):
    "No server, one that never answers, one that goes away, or no key: a warning, and the same result"
    env = {**wandb_server.variables, 'NETRC': str(tmp_path / 'none')}
    with socket.create_server(('127.0.0.1', 0)) as silent:
        if network == 'silent': env['WANDB_BASE_URL'] = f'http://127.0.0.1:{silent.getsockname()[1]}'
        if network == 'refused': env['WANDB_BASE_URL'] = 'http://127.0.0.1:9'
        if network == 'no key': env['WANDB_API_KEY'] = ''
        if network == 'gone': wandb_server.RequestHandlerClass = dies_after_the_start(wandb_server)
        words = 'logger.wandb.mode=online +logger.wandb.settings={init_timeout:4,finish_timeout:5}'
        said, record, folder = trained(child, network.replace(' ', ''), words, **env)
    assert record['status'] == 'passed'
    assert 'kept offline' in said or network == 'gone', said
    assert list(folder.glob('wandb/*run-*/run-*.wandb'))
    assert bool(wandb_server.runs) is (network == 'gone')
    assert 'wandb-summary.json' not in wandb_server.files


def dies_after_the_start(server):
    "A handler that agrees to the run, and then hangs up on everybody"
    class Dies(server.RequestHandlerClass):
        def do_POST(self):
            if server.runs: self.connection.close()
            else: super().do_POST()
        do_PUT = do_GET = lambda self: self.connection.close()
    return Dies


@pytest.mark.soak
def test_bad_disk_stops_no_training(child, tmp_path):
    "A tracker whose disk is full falls silent; the run folder has the numbers"
    if os.geteuid() or subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=16k', 'tmpfs', tmp_path]).returncode:
        pytest.skip('only root may mount a disk')
    try: said, record, folder = trained(child, 'disk', f'logger.wandb.out={tmp_path}/w logger=[wandb,csv] logger.csv.save_dir={tmp_path}')
    finally: subprocess.run(['umount', '-l', tmp_path], check=True)
    assert record['status'] == 'passed'
    assert 'stopped' in said or 'cannot be offline' in said, said
    assert len(json.loads((folder / 'history.json').read_text())) == 2


def test_nobody_is_asked_for_a_key(child, tmp_path):
    "At a terminal, online and without a key: no question, and the run is offline"
    env = {**os.environ, **child.variables, 'PATH': f'{child.env.bin}:{os.environ["PATH"]}', 'HOME': str(tmp_path), 'WANDB_MODE': 'online'}
    words = ['train', *SMALL.split(), 'out=build/asked', 'logger.wandb.mode=online']
    said = pexpect.run(f'mlops-kit {" ".join(words)}', cwd=str(child.path), env=env, timeout=120).decode()
    assert 'kept offline' in said
    assert 'in epoch' in said


@pytest.mark.soak
def test_every_logger_at_once(child, tmp_path):
    "W&B, CSV, TensorBoard and MLflow see the same numbers, which are those of the run folder"
    env = Layer(child.env, tmp_path / 'env')
    env.run('python', '-m', 'pip', 'install', '-q', '-c', ROOT / 'constraints.txt', *extras()['loggers'])
    words = [*SMALL.split(), 'out=build/all', 'logger=[wandb,csv,tensorboard,mlflow]']
    said = env.run('mlops-kit', 'train', *words, cwd=child.path, env=child.variables).stdout
    [run] = (child.path / 'build/all/runs/train').iterdir()
    seen = json.loads(env.run('python', '-c', READ, run, run.parents[1], cwd=child.path, env=child.variables).stdout.splitlines()[-1])
    right = pytest.approx([row['valid/loss'] for row in json.loads((run / 'history.json').read_text())])
    assert seen == {k: right for k in ('csv', 'wandb', 'tensorboard', 'mlflow')}
    assert said.count('\n') == 1, said


def test_missing_tracker_is_named(child):
    "A tracker that is not installed is one sentence with exit code 3"
    done = child.kit(f'train {SMALL} out=build/missing logger=tensorboard', ok=False)
    assert (done.returncode, done.stdout.count('\n'), 'tensorboard' in done.stdout) == (3, 1, True), done.stdout


def test_runs_are_compared(child):
    "`runs compare` says what differed and what came of it, and its page has the curves and the notebook"
    child.kit('train -m model.opt.lr=0.001,0.01 trainer.max_epochs=2 out=build/compared logger=none')
    ids = [f.name for f in (child.path / 'build/compared/runs/train').iterdir()]
    rows = json.loads(child.kit('runs compare --json', *ids).stdout)
    assert sorted(r['model.opt.lr'] for r in rows) == [.001, .01]
    child.kit('run nbs/index.ipynb')
    book = next((child.path / 'runs/index').iterdir()).name
    page = child.path / child.kit('runs open --no-browser', *ids, book).stdout.strip()
    assert [page.read_text().count(word) for word in ('<svg', '<iframe')] == [1, 1]
