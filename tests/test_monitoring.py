"What a real service was asked is found again: by day, with its labels, and with what has drifted; whatever is killed meanwhile."
import json
import shutil
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from mlops_kit.cli import main
from mlops_kit.logs import compact_log, load_log
from mlops_kit.package import toy_package
from mlops_kit.signature import Field
from mlops_kit.smoke import serving

FIELDS = [Field('size', 'number', min=0, max=1e6), Field('kind', 'category', categories=['flat', 'house']),
          Field('name', 'text', nullable=True, pii=True)]


def homes(n, larger=0., seed=0):
    "Rows to ask about"
    rng = np.random.default_rng(seed)
    return pd.DataFrame({'size': rng.normal(50 + larger, 10, n), 'kind': rng.choice(['flat', 'house'], n), 'name': 'Ada'})


@pytest.fixture(scope='module')
def log(tmp_path_factory):
    "The log of a service, of which 300 rows were asked, larger than those of the table beside it"
    folder = tmp_path_factory.mktemp('served')
    homes(2000).assign(price=1).to_csv(folder / 'train.csv', index=False)
    with serving(toy_package(folder / 'package', 3, 'homes', FIELDS), '--log', folder / 'kept') as remote:
        for i in range(3): remote.predict(homes(100, 10, i + 1).to_dict('records'))
    return folder / 'kept/homes'


@pytest.fixture
def monitor(monkeypatch, capsys):
    "Type `mlops-kit monitor WORDS`: its exit code, and both outputs"
    def typed(*words):
        monkeypatch.setattr(sys, 'argv', ['mlops-kit', 'monitor', *map(str, words)])
        with pytest.raises(SystemExit) as end: main()
        return end.value.code, *capsys.readouterr()
    return typed


def test_drift_of_a_service(log, monitor):
    "The column that moved is found, no other, and what is personal is not in the log; the exit code is for a scheduler"
    asked = log, log.parents[1] / 'train.csv', '--every', '1D', '-k', 1, '-n', 1, '--json'
    code, out, err = monitor('drift', *asked, '--fail-on-drift')
    assert (code, list(json.loads(out)['alarm'])) == (1, ['size'])
    assert 'no row was asked with name, price' in err
    assert monitor('drift', *asked, '--least', 9, '--fail-on-drift')[0] == 0


def test_labels_of_a_service(log, tmp_path, monitor):
    "Labels find their rows by the ids of the log"
    ids = load_log(log).rows.id
    pd.DataFrame({'id': ids[:75], 'label': 1}).to_parquet(tmp_path / 'labels.parquet')
    assert json.loads(monitor('labels', log, tmp_path / 'labels.parquet', '--json')[1])['coverage'] == .25


def test_what_was_planted_is_found(tmp_path, monitor):
    "Two weeks in seconds: what was planted is found, in what is asked and in what is true, since the day it was planted"
    sold = homes(3000)
    sold.assign(price=3 * sold['size'] + np.random.default_rng(1).normal(0, 5, 3000)).to_csv(tmp_path / 'train.csv', index=False)
    package = toy_package(tmp_path / 'package', 3, 'homes', FIELDS)
    plan = '--target', 'price', '--drift', 'sudden:kind@8*.5', '--drift', 'concept@10', '--lag', '6h', '--start', '2026-11-01', '--json'
    made = json.loads(monitor('simulate', package, tmp_path / 'train.csv', '--out', tmp_path / 'kept', *plan)[1])
    code, out, _ = monitor('drift', made['log'], tmp_path / 'train.csv', '--json', '--fail-on-drift')
    assert (code, json.loads(out)['alarm']) == (1, {'kind': '2026-11-09T00:00:00+00:00'})
    code, out, _ = monitor('performance', made['log'], made['labels'], '--slice', 'large=size > 60', '--json', '--fail-on-worse')
    scored = json.loads(out)
    assert (code, scored['since'], scored['metric'], scored['believed']) == (1, '2026-11-11T00:00:00+00:00', 'rmse', False)
    assert scored['windows'][3]['slices'][0]['slice'] == 'large'
    assert monitor('performance', made['log'], made['labels'], '--until', '2026-11-10', '--fail-on-worse')[0] == 0
    words = '--labels', made['labels'], '-o', tmp_path / 'page.html'
    assert monitor('page', made['log'], tmp_path / 'train.csv', *words)[:2] == (0, f'{tmp_path}/page.html\n')
    page = (tmp_path / 'page.html').read_text()
    assert [t in page for t in ('kind (since 2026-11-09', 'worse since 2026-11-11', 'mlops-kit models rollback homes<')] == [True] * 3


LABELLED = 'performance', '{log}', '{table}', '--id', 'name', '--label', 'price'
SIMULATE = 'simulate', '{package}', '{table}'


def images(n, seed=0):
    "Images of 4 x 4, a column for each point"
    return pd.DataFrame(np.random.default_rng(seed).integers(0, 9, (n, 16)), columns=[f'p{i}' for i in range(16)])


@pytest.fixture(scope='module')
def eyes(tmp_path_factory):
    "A package that is asked with images, of a network that was never trained"
    import torch

    from mlops_kit.export import export_onnx
    from mlops_kit.package import write_package
    from mlops_kit.signature import Signature, from_table, outputs_of
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3), torch.nn.Softmax(1))
    field = Field('image', 'integer', (4, 4), min=0, max=16, columns=list(images(1)))
    signature = Signature('eyes', 'classification', [field], outputs_of(['a', 'b', 'c']))
    graph = export_onnx(net.eval(), signature, from_table(images(7), [field]))
    return write_package(tmp_path_factory.mktemp('eyes') / 'package', graph, signature, '# eyes', {}, {})


def test_images_of_a_service(eyes, tmp_path, monitor):
    "No point of an image means anything by itself: what the model sees in them has changed, and since when; the service says what it said"
    images(2000).assign(mark='x').to_parquet(tmp_path / 'train.parquet')
    images(400, 1).assign(mark='x').to_parquet(tmp_path / 'new.parquet')
    with serving(eyes) as remote: [answer] = remote.predict([{'image': images(1).to_numpy().reshape(4, 4).tolist()}])
    assert sorted(answer) == ['label', 'probability']
    plan = '--drift', 'sudden:image@8', '--start', '2026-11-01', '--rows', 200, '--json'
    made = json.loads(monitor('simulate', eyes, tmp_path / 'new.parquet', '--out', tmp_path / 'kept', *plan)[1])
    code, out, err = monitor('drift', made['log'], tmp_path / 'train.parquet', '--package', eyes, '--json', '--fail-on-drift')
    assert (code, json.loads(out)['alarm']['embedding']) == (1, '2026-11-09T00:00:00+00:00')
    assert err == 'no row was asked with mark, which %s has\n' % (tmp_path / 'train.parquet')
    calm = monitor('drift', made['log'], tmp_path / 'train.parquet', '--package', eyes, '--until', '2026-11-09', '--fail-on-drift')
    assert calm[0] == 0, calm
    code, out, err = monitor('drift', made['log'], tmp_path / 'train.parquet')
    assert (code, 'name the package that answers with --package' in err) == (2, True), err
    assert monitor('page', made['log'], tmp_path / 'train.parquet', '--package', eyes, '-o', tmp_path / 'page.html')[0] == 0
    assert 'The same rows' in (tmp_path / 'page.html').read_text()
    seen = monitor('watch', made['log'], tmp_path / 'train.parquet', '--package', eyes, '--windows', 60, '--once')[1]
    assert 'mlops_kit_drifted{column="embedding",model="eyes"} 1.0' in seen


@pytest.mark.parametrize(('words', 'told'), [
    (['drift', 'nowhere', 'train.csv'], 'nowhere is no prediction log'), (['drift', '{log}', 'nothing.csv'], 'nothing.csv'),
    (['drift', '{log}', '{table}', '--every', 'often'], "'often' is no length"),
    (['drift', '{log}', '{table}', '-k', '4'], '4 of 3 windows is no rule'),
    (['drift', '{log}', '{table}', '--since', 'once'], "since is 'once'"),
    (['labels', '{log}', '{table}'], 'no column id'), (['compact', 'nowhere'], 'nowhere is no'),
    (['performance', '{log}', '{table}'], 'no column id'), ([*LABELLED, '--slice', 'large'], 'NAME=PREDICATE'),
    ([*LABELLED, '--metric', 'rmes'], 'did you mean rmse'), ([*LABELLED, '--package', '.'], 'is no package'),
    (['watch', '{log}', 'nothing.csv'], 'nothing.csv'), (['watch', 'nowhere', '{table}', '--once'], 'nowhere is no prediction log'),
    (['watch', '{log}', '{table}', '--windows', '2'], 'cannot be seen by looking at 2'),
    (['watch', '{log}', '{table}', '--every', 'often'], 'is no length'),
    (['watch', '{log}', '{table}', '--port', '99999999'], 'cannot be listened at'),
    (['drift', '{log}', '{table}', '--picture', 'drift.jpeg'], 'ends in .png'),
    (['labels', '{log}', '{table}', '--id', 'name', '--label', 'price', '--time', 'kind'], 'has no times'),
    ([*SIMULATE, '--drift', 'suden:size'], 'did you mean sudden'), ([*SIMULATE, '--drift', 'sudden:siz'], 'did you mean size'),
    ([*SIMULATE, '--lag', 'long'], 'is no length'), ([*SIMULATE, '--start', 'once'], "start is 'once'"),
    ([*SIMULATE, '--out', '{kept}'], 'must not be mixed')])
def test_wrong_words(log, words, told, monitor):
    "What is wrong is said in one sentence, with exit code 2"
    known = {'log': log, 'kept': log.parent, 'table': log.parents[1] / 'train.csv', 'package': log.parents[1] / 'package'}
    code, out, err = monitor(*[w.format(**known) for w in words])
    assert (code, out) == (2, '')
    assert told in err
    assert err.splitlines()[-1].startswith('error: ')


def record(i):
    "What a service writes of one row"
    who = {'id': f'r{i}', 'time': '2026-11-01T05:00:00.000+00:00', 'version': '1', 'package': 'ab', 'role': 'champion', 'ms': .1}
    return {**who, 'features': {'x': i}, 'prediction': {'value': 1.}}


READS = """
import sys
from mlops_kit.logs import compact_log, load_log
folder, left = sys.argv[1], int(sys.argv[2])
def look(event, args):
    global left
    if event in ('open', 'os.scandir') and str(args[0]).startswith(folder):
        left -= 1
        if left == -1: compact_log(folder)
sys.addaudithook(look)
log = load_log(folder)
print(len(log.rows), log.twice, left)"""


def write_files(folder, names):
    "Files of a service, of ten rows each"
    for name in names:
        lines = [json.dumps(record(f'{name}-{i}')) for i in range(10)]
        (folder / f'2026-11-01T{name}.jsonl').write_text('\n'.join(lines) + '\n')


def test_read_while_it_is_compacted(tmp_path):
    "Whoever reads sees every row once, wherever in the middle of it files become Parquet"
    for step in range(99):
        folder = tmp_path / str(step)
        folder.mkdir()
        write_files(folder, ('05-1-a', '05-2-b', '06-1-a', '06-2-b'))
        rows, twice, left = map(int, subprocess.check_output([sys.executable, '-c', READS, folder, str(step)]).split())
        assert (rows, twice) == (40, 0)
        if left >= 0: break  # Reading had fewer steps than that
        assert not list(folder.glob('*.jsonl'))
    assert step >= 6  # Two folders that are listed, and four files


DIES = """
import os, signal, sys
from mlops_kit.logs import compact_log
left = int(sys.argv[2])
def look(event, args):
    global left
    if event in ('os.rename', 'os.remove') and str(args[0]).startswith(sys.argv[1]):
        left -= 1
        if left < 0: os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(look)
compact_log(sys.argv[1])"""


def test_kills_lose_no_row(tmp_path):
    "Wherever compacting is killed, before each rename and each removal, every row is there once; in the end the files are gone"
    for step in range(99):
        write_files(tmp_path, [f'{name}{step}' for name in ('05-1-a', '05-2-b', '06-1-a', '06-2-b')])
        code = subprocess.run([sys.executable, '-c', DIES, tmp_path, str(step)]).returncode
        assert code in (0, -signal.SIGKILL)
        assert (len(load_log(tmp_path).rows), load_log(tmp_path).twice) == (40, 0)
        compact_log(tmp_path)
        assert (len(load_log(tmp_path).rows), load_log(tmp_path).twice, list(tmp_path.glob('*.jsonl'))) == (40, 0, [])
        if code == 0: break
        for p in tmp_path.glob('day=*'): shutil.rmtree(p)
    assert step >= 6  # two hours of two files each: twice a rename and two removals, at least
