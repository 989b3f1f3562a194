"A generated project, installed from the wheel in a folder that cannot see the kit, does all that it promises."
import json
import re
import shutil
from pathlib import Path

import jsonschema
import pytest
import yaml
from children import CHAPTERS, Child, Layer, each_flavour, git
from helpers import ROOT, lint_workflows

pytestmark = each_flavour
HASH = """
from hashlib import sha256
from mlops_kit.configs import compose
from mlops_kit.train import fit, load_best
run = fit(compose(['trainer.max_epochs=1', 'out=build/same', f'data.path={compose().data.path}']))
state = load_best(run).state_dict()
print(sha256(b''.join(v.cpu().numpy().tobytes() for v in state.values())).hexdigest())"""
STUDY = """
import json, optuna, sys
storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(sys.argv[1]))
[name] = optuna.get_all_study_names(storage)
print(json.dumps([[t.number, t.state.name, t.params] for t in optuna.load_study(study_name=name, storage=storage).trials]))"""
TRACKED = """
import json, sys
from mlops_kit.tracking import read_run
r = read_run(sys.argv[1])
print(json.dumps([r.config, r.summary, r.exit_code]))"""


@pytest.fixture
def ran(child):
    "The child after `mlops-kit run nbs --set ci`"
    return child if child.ci else None


def test_kit_is_out_of_sight(child):
    "The child's library comes from the wheel, and no path leads to this checkout"
    paths = child.python('import hydra_plugins, mlops_kit, sys; print(mlops_kit.__file__, *hydra_plugins.__path__, *sys.path, sep="\\n")')
    found = [Path(p) for p in paths.split()]
    assert 'site-packages' in found[0].parts
    assert not {ROOT, ROOT / 'mlops_kit', ROOT / 'hydra_plugins'} & {*found, *(p.parent for p in found)}


def test_all_is_in_step(child):
    "`mlops-kit check` says ok to every question, and exporting again changes nothing"
    found = json.loads(child.kit('check --json', ok=False).stdout)
    assert not [f for f in found if f['ok'] is not True]
    child.run('nbdev_export')
    assert git(child.path, 'status', '--porcelain') == ''


def test_chapters_pass(ran):
    "Every chapter passes with the parameter set `ci`"
    assert ran.ci.returncode == 0, ran.ci.stdout
    assert {n: r['status'] for n, r in ran.records().items() if n in CHAPTERS} == dict.fromkeys(CHAPTERS, 'passed')


def test_ci_stays_below_build(ran):
    "A parameter set writes below build/SET: real results and sources stay as they were, byte for byte"
    assert ran.ci.returncode == 0
    assert ran.states[0] == ran.states[1]
    assert {'data', 'models', 'reports', 'runs'} <= {f.name for f in (ran.path / 'build/ci').iterdir()}


def test_run_records_are_valid(ran):
    "Each run.json keeps the schema, and says what ran, from which commit, with which lock"
    from mlops_kit.runs import RUN_SCHEMA
    files = list((ran.path / 'build/ci/runs').glob('*/*/run.json'))
    assert len(files) > len(CHAPTERS)
    for file in files:
        record = json.loads(file.read_text(encoding='utf-8'))
        jsonschema.validate(record, RUN_SCHEMA)
        assert record['status'] == 'passed'
        assert record['provenance']['commit'] == git(ran.path, 'rev-parse', 'HEAD').strip()
        assert record['provenance']['lock']
        assert not record['provenance']['dirty']


def test_trainings_know_their_chapter(ran):
    "A training run names the notebook run that it was part of"
    found = [json.loads(f.read_text()) for f in (ran.path / 'build/ci/runs').glob('*/*/run.json')]
    notebooks = {r['id'] for r in found if r['kind'] == 'notebook'}
    trained = [r for r in found if r['kind'] != 'notebook']
    assert trained
    assert {r['parent'] for r in trained} <= notebooks


def test_plain_papermill_runs_a_chapter(ran, tmp_path):
    "A chapter is an ordinary notebook: papermill runs it, and injects overrides"
    words = ['nbs/03_train.ipynb', tmp_path / 'out.ipynb', '--cwd', 'nbs', '-k', 'python3', '--no-progress-bar']
    ran.run('papermill', *words, '-y', 'overrides: [out=build/papermill, trainer.max_epochs=1]')
    cells = json.loads((tmp_path / 'out.ipynb').read_text())['cells']
    assert any('injected-parameters' in c['metadata'].get('tags', []) for c in cells)


def test_own_tests_pass(ran):
    "The child's pytest passes, and tries every config"
    out = ran.run('pytest', '-q', '-p', 'no:cacheprovider').stdout
    configs = [f for f in (ran.path / 'configs').glob('*/*.yaml') if f.parent.name != 'notebooks']
    counts = {word: int(n) for n, word in re.findall(r'(\d+) (passed|skipped)', out)}
    assert sum(counts.values()) >= len(configs)
    assert counts.get('skipped', 0) <= 1, out


def test_configs_are_short(child):
    "A choice of a group is at most 15 lines"
    found = {f.relative_to(child.path).as_posix(): len(f.read_text().splitlines()) for f in (child.path / 'configs').glob('*/*.yaml')}
    assert not {name: n for name, n in found.items() if n > 15}
    groups = {f.parent.name for f in (child.path / 'configs').glob('*/*.yaml')}
    assert groups >= set('data model trainer logger callbacks evaluate experiment hparams_search debug notebooks'.split())


def test_workflows_are_clean(child):
    "The child's workflows pass actionlint, zizmor and check-jsonschema, and stay small"
    assert lint_workflows(child.path / '.github/workflows') == ''
    flows = [yaml.safe_load(f.read_text()) for f in (child.path / '.github/workflows').glob('*.yml')]
    assert sum(len(job['steps']) for flow in flows for job in flow['jobs'].values()) <= 8


@pytest.mark.full
def test_chapters_in_full(child, flavour):
    "Every chapter passes in full, the model beats its baseline by an interval that excludes zero, and the gate lets it go on"
    child.kit('run nbs')
    assert {n: r['status'] for n, r in child.records('.').items() if n in CHAPTERS} == dict.fromkeys(CHAPTERS, 'passed')
    report = json.loads((child.path / 'reports/evaluation.json').read_text())
    assert (report['baselines'].pop('naive')['verdict'], report['seeds']) == ('better', 5), report
    assert {b['verdict'] for b in report['baselines'].values()} <= {'better', 'tied'}
    assert child.kit('gate').stdout.endswith('pass\n')


def trials(child):
    "Number, state and settings of each trial of the one study below build/study, as Optuna itself reads its file"
    return json.loads(child.run('python', '-c', STUDY, 'build/study/runs/studies.journal').stdout.splitlines()[-1])


@pytest.mark.full
def test_sweep_resumes(child):
    "A study of 6 trials has 6; asked for 8, it goes on with the same file and keeps the first 6"
    child.kit('sweep out=build/study hydra.sweeper.n_trials=6 trainer.max_epochs=3')
    first = trials(child)
    assert [n for n, *_ in first] == list(range(6))
    assert {state for _, state, _ in first} <= {'COMPLETE', 'PRUNED'}
    child.kit('sweep out=build/study hydra.sweeper.n_trials=8 trainer.max_epochs=3')
    assert (len(trials(child)), trials(child)[:6]) == (8, first)


@pytest.mark.full
def test_same_seed_same_weights(child):
    "Two processes with the same seed and threads train the same weights, bit for bit"
    first, second = (child.python(HASH).splitlines()[-1] for _ in range(2))
    assert first == second
    assert re.fullmatch('[0-9a-f]{64}', first)


@pytest.mark.full
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


def run_workflow(file, checkout, env, known, event='pull_request'):
    "Run each `run:` step of each job in order, as the runner would, with what it knows, without a warning; `uses:` steps are the runner's"
    flow = yaml.safe_load(file.read_text(encoding='utf-8'))
    for job in flow['jobs'].values():
        for step in job['steps']:
            if 'run' not in step or ('pull_request' in step.get('if', '') and event == 'push'): continue
            given = {**flow.get('env', {}), **job.get('env', {}), **step.get('env', {}), 'CI': 'true', 'GITHUB_ACTIONS': 'true'}
            assert '${{' not in step['run']
            given = {k: v for k, v in given.items() if '${{' not in v} | known
            where = checkout / step.get('working-directory', '.')
            said = env.run('/bin/bash', '--noprofile', '--norc', '-eo', 'pipefail', '-c', step['run'], cwd=where, env=given).stdout
            assert not re.search(r'Warning:|::warning', said), said
        yield from (s['with']['path'].split() for s in job['steps'] if 'upload-artifact' in s.get('uses', ''))


@pytest.fixture
def branch(ran, tmp_path):
    "A checkout of a branch on which the last chapter got a cell, with what main's workflow left in the caches"
    git(tmp_path, 'clone', '-q', ran.path, 'checkout')
    for cached in ('.mlops_kit', 'build/ci'): shutil.copytree(ran.path / cached, tmp_path / 'checkout' / cached)
    git(tmp_path / 'checkout', 'switch', '-q', '-c', 'more')
    chapter = tmp_path / 'checkout/nbs/05_evaluate.ipynb'
    page = json.loads(chapter.read_text(encoding='utf-8'))
    page['cells'].append({'cell_type': 'code', 'id': 'more', 'metadata': {}, 'outputs': [], 'execution_count': None, 'source': ['len(y)']})
    chapter.write_text(json.dumps(page, indent=1, ensure_ascii=False, sort_keys=True) + '\n', encoding='utf-8')
    git(tmp_path / 'checkout', 'commit', '-q', '-a', '-m', 'More')
    return tmp_path / 'checkout'


@pytest.mark.full
def test_prune(ran, tmp_path):
    "Old runs go, but for those that something rests on: afterwards no notebook has to run again"
    copy = Child(shutil.copytree(ran.path, tmp_path / 'copy'), ran.env, {'PYTHONPATH': str(tmp_path / 'copy')})
    copy.kit('run nbs/03_train.ipynb --set ci --force')
    before = len(list(copy.path.glob('build/ci/runs/*/*/run.json')))
    assert re.search(r'03_train +1\b', copy.kit('runs prune --keep 1 --yes').stdout)
    assert len(list(copy.path.glob('build/ci/runs/*/*/run.json'))) < before - 1
    assert 'Nothing has changed' in copy.kit('run nbs/00_data.ipynb nbs/03_train.ipynb --set ci').stdout


@pytest.mark.full
def test_workflows_run(ran, branch, github, tmp_path):
    "The workflows run as they stand, leave what they upload, and keep one comment that says what the branch changes"
    env = Layer(ran.env, tmp_path / 'env')
    for file in sorted((branch / '.github/workflows').glob('*.yml')):
        for paths in run_workflow(file, branch, env, github.variables): assert not [p for p in paths if not list(branch.glob(p))]
    env.run('mlops-kit', 'runs', 'diff', '--comment', cwd=branch, env=github.variables)
    [said] = [c['body'] for c in github.comments[101:]]
    assert 'compared on the same' in said
    assert re.search(r'nbs/05_evaluate.ipynb: 1 added', said)
