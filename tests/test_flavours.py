"What a project does at length: its workflows, all that the parameter set leaves out, and the flavours that costly tests pass over."
import json
import re
import shutil

import pytest
from children import CHAPTERS, FLAVOURS, THOROUGH, Child, Layer, full_then_soak, git, in_flavours, passed_in_full
from runner import Job, jobs


def run_workflow(file, checkout, env, folder, variables, event='pull_request'):
    "Run each job in order, without a warning; the paths that they would upload"
    for name in jobs(file):
        given, known = {**env.variables, **variables}, {'github': {'event_name': event}, 'matrix': {'python': '3.11'}}
        done = Job(file, name, checkout, folder / name, given, **known)
        assert done.result == 'success', done.said
        assert not re.search(r'Warning:|::warning', done.said), done.said
        yield done.uploads


TIERS = {f: pytest.mark.soak if f in THOROUGH else pytest.mark.full for f in FLAVOURS if f != THOROUGH[0]}
SHORT = [pytest.param(f, marks=[pytest.mark.xdist_group(f), tier]) for f, tier in TIERS.items()]


@pytest.mark.parametrize('flavour', SHORT)
def test_flavour_works(child, tmp_path):
    "Its own workflow runs as it stands: checks, tests and every chapter pass; and the gate answers as the last chapter did"
    for _ in run_workflow(child.path / '.github/workflows/ci.yml', child.path, child.env, tmp_path, {}, event='push'): pass
    assert {n: r['status'] for n, r in child.records().items() if n in CHAPTERS} == dict.fromkeys(CHAPTERS, 'passed')
    chapter = json.loads((child.path / 'build/ci/reports/evaluation.json').read_text())
    said = child.kit('gate out=build/ci --json', ok=False)
    assert (json.loads(said.stdout), said.returncode) == (chapter['gate'], chapter['gate']['answer'] != 'pass')


@pytest.mark.soak
@pytest.mark.parametrize('flavour', [in_flavours['tabular']])  # of images, test_as_a_new_user types this, in the soak
def test_chapters_in_full(child):
    "Every chapter passes in full, the model beats its baseline by an interval that excludes zero, and the gate lets it go on"
    child.kit('run nbs')
    passed_in_full(child)
    assert child.kit('gate').stdout.endswith('pass\n')


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


@full_then_soak
def test_prune(ran, tmp_path):
    "Old runs go, but for those that something rests on: afterwards no notebook has to run again"
    copy = Child(shutil.copytree(ran.path, tmp_path / 'copy'), ran.env, {'PYTHONPATH': str(tmp_path / 'copy')})
    copy.kit('run nbs/03_train.ipynb --set ci --force')
    before = len(list(copy.path.glob('build/ci/runs/*/*/run.json')))
    assert re.search(r'03_train +1\b', copy.kit('runs prune --keep 1 --yes').stdout)
    assert len(list(copy.path.glob('build/ci/runs/*/*/run.json'))) < before - 1
    assert 'Nothing has changed' in copy.kit('run nbs/00_data.ipynb nbs/03_train.ipynb --set ci').stdout


@full_then_soak
def test_workflows_run(ran, branch, github, tmp_path):
    "The workflows run as they stand, leave what they upload, and keep one comment that says what the branch changes"
    env = Layer(ran.env, tmp_path / 'env')
    for file in sorted((branch / '.github/workflows').glob('*.yml')):
        for paths in run_workflow(file, branch, env, tmp_path / 'runner', github.variables):
            assert not [p for p in paths if not list(branch.glob(p))]
    env.run('mlops-kit', 'runs', 'diff', '--comment', cwd=branch, env=github.variables)
    [said] = [c['body'] for c in github.comments[101:]]
    assert 'compared on the same' in said
    assert re.search(r'nbs/05_evaluate.ipynb: 1 added', said)
