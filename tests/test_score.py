"`mlops-kit doctor --score` gives a point only for what is there: take the proof away, and the point is gone."
import json
import shutil

import pytest
from children import FLAVOURS, commit_all, git, render
from typer.testing import CliRunner

from mlops_kit.score import RUBRIC, Evidence, Proof, score

pytestmark = pytest.mark.xdist_group('score')
LEAST = {'minimal': 10, 'recommended': 14, 'full': 24}


@pytest.fixture(scope='module')
def made(bare, tmp_path_factory):
    "Make a project of a profile, in git"
    folder = tmp_path_factory.mktemp('scored')

    def make(profile, **answers):
        path = folder / f'{profile}-{answers.get("task", "image")}'
        return path if path.exists() else commit_all(render(bare, path, profile=profile, **answers))

    return make


@pytest.fixture(scope='module')
def full(made): return made('full')


@pytest.fixture(scope='module')
def spoilt(full, tmp_path_factory): return shutil.copytree(full, tmp_path_factory.mktemp('spoilt') / 'copy')


@pytest.fixture
def copy(spoilt):
    "A copy in which a test may destroy what it likes"
    yield spoilt
    git(spoilt, 'checkout', '-q', '--', '.')


PROJECTS = [('image', 'minimal'), ('image', 'recommended'), ('tabular', 'recommended'), *((f, 'full') for f in FLAVOURS)]


@pytest.mark.parametrize(('flavour', 'profile'), PROJECTS)
def test_profiles_have_what_they_promise(made, flavour, profile):
    "At least 14 of 28 for `recommended`, 24 for `full`, whatever is learned; and every proof is a place that is there"
    path = made(profile, **FLAVOURS[flavour])
    found = score(path)
    assert found.total >= LEAST[profile], found.to_dict()
    for proof in (p for i in found.items for p in i.proofs):
        text = (path / proof.path).read_text(encoding='utf-8')
        if proof.place.startswith(':'): assert text.splitlines()[int(proof.place[1:]) - 1].strip(), proof
        elif proof.place: assert json.loads(text)['cells'][int(proof.place.split()[1]) - 1]['cell_type'] == 'code', proof
    assert [bool(i.todo) for i in found.items] == [i.points < 1 for i in found.items]
    assert [bool(i.proofs) for i in found.items] == [i.points > 0 for i in found.items]


def take_away(root, proof):
    "Remove the line, the cell or the file that a proof names"
    file = root / proof.path
    if not proof.place: return file.unlink()
    text = file.read_text(encoding='utf-8')
    if proof.place.startswith(':'): lines = text.splitlines(keepends=True)
    else: nb = json.loads(text)
    number = int(proof.place.lstrip(': cel')) - 1
    if proof.place.startswith(':'): file.write_text(''.join(lines[:number] + lines[number + 1:]), encoding='utf-8')
    else: file.write_text(json.dumps({**nb, 'cells': nb['cells'][:number] + nb['cells'][number + 1:]}), encoding='utf-8')


JUDGES = [pytest.param(judge, id=test) for asked in RUBRIC.values() for test, judge, *_ in asked]


def points_without(root, judge, k):
    "What is left when the k-th proof is taken away, and whatever would do in its place; of many lines, the file"
    points, proofs = left = judge(Evidence(root))
    for n in range(9):
        take_away(root, proofs[k] if n < 8 else Proof(proofs[k].path, '', ''))
        if (left := judge(Evidence(root)))[0] < points: break
        proofs = left[1]
    git(root, 'checkout', '-q', '--', '.')
    return left[0]


@pytest.mark.parametrize('judge', JUDGES)
def test_no_proof_no_point(copy, judge):
    "Each proof of each point: without it, the points are fewer"
    points, proofs = judge(Evidence(copy))
    assert proofs
    for k, proof in enumerate(proofs): assert points_without(copy, judge, k) < points, proof


SAYS_OTHERWISE = [
    ('contracts/digits.yaml', 'use: feature, nullable: false, min: 0, max: 16}\n  p01', 'use: feature}\n  p01', ('data', 1)),
    ('configs/evaluate/digits.yaml', 'strong: tied, ', '', ('model', 5)),
    ('configs/evaluate/digits.yaml', 'slices: {little', 'parts: {little', ('model', 6)),
    ('configs/evaluate/digits.yaml', 'behaviour.Invariance', 'behaviour.Minimum', ('model', 7)),
    ('configs/retrain/default.yaml', 'every: 30D', 'every: null', ('monitoring', 4)),
    ('deploy/base/network.yaml', 'policyTypes: [Ingress, Egress]', 'policyTypes: [Ingress]', ('data', 5)),
    ('deploy/monitoring/rules.yml', 'alert: Drift', 'record: drifted', ('monitoring', 3)),
    ('.github/workflows/scheduled.yml', '  schedule:\n', '  push:\n', ('model', 3)),
    ('.github/workflows/*.yml', 'mlops-kit run nbs', 'mlops-kit ran nbs', ('infrastructure', 3)),
    ('tests/test_train.py', 'assert a.isfinite().all() and a.equal(b)', 'print(a.equal(b))', ('infrastructure', 1)),
    ('nbs/08_serve.ipynb', 'checked = smoke(', 'checked = 1 # smoke(', ('data', 3))]


@pytest.mark.parametrize(('path', 'old', 'new', 'which'), SAYS_OTHERWISE)
def test_it_is_read_not_guessed(full, copy, path, old, new, which):
    "A place that is there but says something else gives no point"
    said = {f: f.read_text(encoding='utf-8') for f in copy.glob(path)}
    assert any(old in text for text in said.values())
    for f, text in said.items(): f.write_text(text.replace(old, new), encoding='utf-8')
    before, after = ({(i.section, i.number): i.points for i in score(p).items} for p in (full, copy))
    assert after[which] < before[which]


def test_command_prints_both_numbers(full, monkeypatch):
    "The sum of 28 and the lowest section with its reading, a proof in each row; and the same as JSON"
    from mlops_kit.cli import app
    monkeypatch.chdir(full / 'nbs')
    said, told = (CliRunner().invoke(app, ['doctor', '--score', *words]).output for words in ([], ['--json']))
    score = json.loads(told)
    assert score['total'] == sum(score['sections'].values()) >= 24
    assert score['final'] == min(score['sections'].values())
    assert said.startswith(f'ML Test Score: {score["total"]:g} of 28; the lowest section has {score["final"]:g} of 7: exceptional')
    assert 'contracts/digits.yaml:7' in said
    assert len(score['tests']) == 28
