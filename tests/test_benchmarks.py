"The benchmark notebooks with small sizes: they run, and a tool that fails is never a fast tool."
import json
import sys
from pathlib import Path

import nbformat
import pytest
from children import QUIET
from helpers import ROOT, service, sh

pytestmark = [pytest.mark.xdist_group('bench'), pytest.mark.skipif(sys.platform != 'linux', reason='it forks')]
full, soak = pytest.mark.full, pytest.mark.soak  # those that install other projects first are soaks
KIT = Path(sys.executable).with_name('mlops-kit')
ENGINES = 'nbs/benchmarks/notebook_engines.ipynb'
PEERS = ['papermill CLI', 'papermill API', 'nbmake', 'nbclient', 'nbdev_test']
FRESH = {*PEERS, 'mlops-kit run', 'fork floor'} - {'nbdev_test'}
SMALL = {'notebooks': 2, 'many': 3, 'rounds': 1, 'unchanged': 10, 'kernels': 2, 'imports': 'numpy'}


def measured(notebook, **params):
    "The record of a benchmark with these parameters"
    values = {k: v if isinstance(v, str) else json.dumps(v) for k, v in params.items()}
    words = [word for k, v in values.items() for word in ('-p', f'{k}={v}')]
    done = sh([KIT, 'run', notebook, '--force', '--json', *words], cwd=ROOT, env=QUIET, ok=False)
    return json.loads(done.stdout.splitlines()[-1])


def bench(**params):
    "The record of a small run of the benchmark of engines"
    return measured(ENGINES, **{**SMALL, **params})


@full
def test_data_checks():
    "Every operation is measured, and the goals are in the record"
    record = measured('nbs/benchmarks/data_checks.ipynb', rows=3000, many=6000, large=12000, rounds=1)
    assert record['status'] == 'passed', record['error']
    assert {k for k, v in record['metrics'].items() if v > 0} == {'check', 'fingerprint', 'leaks', 'memory'}


@soak
def test_drift():
    "Seconds, false alarms and finds are in the record, without a peer to be installed"
    record = measured('nbs/benchmarks/drift.ipynb', rows=2000, many=5000, windows=2, sizes=[300], peers=[], months=[7], rounds=1)
    assert record['status'] == 'passed', record['error']
    assert record['metrics'].keys() == {'seconds', 'large', 'found', 'false_alarms'}
    assert record['metrics']['found'] > .5


@soak
def test_cluster():
    "A suite is measured here and on Ray, with one worker and two"
    record = measured('nbs/benchmarks/cluster.ipynb', notebooks=2, seconds=.1, rounds=1)
    assert record['status'] == 'passed', record['error']
    assert {k for k, v in record['metrics'].items() if v > 0} == {'here', 'ray', 'start', 'cost'}


@soak
def test_training_step():
    "Every way to train is measured, and the ratio to the loop by hand is in the record"
    record = measured('nbs/benchmarks/training_step.ipynb', tasks=['image'], rounds=1, epochs=1)
    assert record['status'] == 'passed', record['error']
    assert record['metrics']['image'] > 0


@soak
def test_batch_predictions():
    "A table is answered with and without a log, and what the graph took is a part of it"
    record = measured('nbs/benchmarks/batch_predictions.ipynb', rows=3000, rounds=1)
    assert record['status'] == 'passed', record['error']
    assert record['metrics'].keys() == {'seconds', 'logged', 'graph', 'memory'}
    assert 0 < record['metrics']['graph'] < record['metrics']['seconds']


@soak
def test_sweeps():
    "Every way to try a trial is measured"
    record = measured('nbs/benchmarks/sweeps.ipynb', rounds=1, epochs=1)
    assert record['status'] == 'passed', record['error']
    assert {k for k, v in record['metrics'].items() if v > 0} == {'here', 'fork', 'forks', 'process'}


@soak
def test_pruning():
    "The epochs that we need, of those that hydra-optuna-sweeper needed, with Optuna 2"
    record = measured('nbs/benchmarks/pruning.ipynb', seeds=1, drawn=1, trials=2, epochs=1)
    assert record['status'] == 'passed', record['error']
    assert {k for k, v in record['metrics'].items() if v > 0} == {'share', 'share_drawn'}


@soak
def test_serving():
    "The service and a peer are measured against the bare function, and so are memory and start"
    service('wrk')
    record = measured('nbs/benchmarks/serving.ipynb', peers=['FastAPI'], rounds=1, seconds=1, connections=[2], large=0)
    assert record['status'] == 'passed', record['error']
    assert {k for k, v in record['metrics'].items() if v > 0} >= {'small_2', 'memory', 'start'}


@soak
def test_year():
    "Months of flights are served, measured and trained again, and no call fails"
    record = measured('nbs/benchmarks/year.ipynb', last=4)
    assert record['status'] == 'passed', record['error']
    assert record['metrics']['promoted'] + record['metrics']['refused'] == 2


@soak
def test_engines():
    "Every tool runs every notebook, each of ours in a process of its own, and the goals are in the record and on the page"
    record = bench()
    assert record['status'] == 'passed', record['error']
    assert {'floor', 'papermill', 'one_more', 'nbdev', 'unchanged', 'memory', 'goals_met'} <= record['metrics'].keys()
    assert all(v > 0 for k, v in record['metrics'].items() if k not in ('one_more', 'goals_met'))
    cells = nbformat.read(Path(record['path'], 'notebook_engines.ipynb'), 4).cells
    texts = [o.data.get('text/plain', '') for c in cells for o in c.get('outputs', []) if 'data' in o]
    table = next(t for t in texts if 'processes' in t).split('\n\n')[0]  # the first columns, where it wraps
    rows = {line[:13].strip(): line[13:].split() for line in table.splitlines()}
    assert {t: float(rows[t][2]) for t in FRESH} == dict.fromkeys(FRESH, 2)
    assert 'nbdev_test' in rows
    assert '2 kernels: memory warm / cold' in texts[-2]


@soak
@pytest.mark.parametrize('peer', PEERS)
def test_peer_that_fails(peer):
    "A peer whose notebooks fail fails the benchmark, which says whose and why"
    record = bench(peers=[peer], imports='numpy, no_such_module')
    assert (record['status'], record['error']['type']) == ('failed', 'ToolFailed')
    assert record['error']['message'].startswith(f'{peer} ended with exit code')
    assert 'no_such_module' in record['error']['message']


@soak
def test_quiet_failure():
    "An exit code of 0 is not believed when the notebooks did not come to their end"
    record = bench(peers=[], imports='numpy, json; raise SystemExit')
    assert (record['status'], record['error']['type']) == ('failed', 'ToolFailed')
    assert 'exit code 0, 0 notebooks came to their end' in record['error']['message']
