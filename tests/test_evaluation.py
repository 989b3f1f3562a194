"What chapter 5 finds, and what the gate makes of it, in real projects."
import json

import pytest
from children import CHAPTERS, each_flavour, full_then_soak, new_project, one_flavour
from tables import write


def found(child, out='build/ci'):
    "What chapter 5 wrote down"
    return json.loads((child.path / out / 'reports/evaluation.json').read_text())


@each_flavour
def test_gate_answers_as_the_chapter_did(child):
    "`mlops-kit gate` repeats the chapter's answer, with exit code 1 for a no, and each requirement has its line"
    assert child.ci.returncode == 0
    chapter = found(child)
    said = child.kit('gate out=build/ci --json', ok=False)
    assert json.loads(said.stdout) == chapter['gate']
    assert said.returncode == (chapter['gate']['answer'] != 'pass')
    assert {c['name'] for c in chapter['gate']['checks']} >= {'over naive', 'slices', *(b['test'] for b in chapter['behaviour'])}


@each_flavour
def test_nothing_but_the_requirements_decides(child):
    "Without requirements every model passes; with one that it misses none does, and the reason is told"
    assert child.ci.returncode == 0
    none = [f'evaluate.gate.{k}=null' for k in ('floor', 'naive', 'strong', 'against', 'slices', 'behaviour')]
    assert child.kit('gate out=build/ci', *none).stdout.endswith('pass\n')
    high = child.kit('gate out=build/ci', *none[1:], 'evaluate.gate.floor=1.5', ok=False)
    assert (high.returncode, 'at least 1.5' in high.stdout) == (1, True), high.stdout


@one_flavour
@pytest.mark.parametrize(('words', 'says'), [
    ('out=build/ci evaluate.gate.floor=high', 'is not a number'), ('out=build/ci +evaluate.gate.flor=1', 'did you mean floor'),
    ('out=build/ci evaluate.tie=0.3', 'another evaluate.tie'), ('out=build/nowhere', 'nothing was evaluated yet')])
def test_wrong_question_to_the_gate(child, words, says):
    "A requirement that means nothing, or nothing to judge, is one sentence and exit code 2"
    assert child.ci.returncode == 0
    said = child.kit('gate', *words.split(), ok=False)
    assert (said.returncode, said.stdout.count('\n'), says in said.stdout) == (2, 1, True), said.stdout


@full_then_soak
def test_two_runs_are_compared(child):
    "Against a run of its own weights a model is tied and passes; one that is named wrongly is refused"
    assert child.ci.returncode == 0
    me = found(child)['run']
    child.kit(f'run nbs/05_evaluate.ipynb --set ci evaluate.against={me} evaluate.seeds=1')
    other = found(child)['against']
    assert (other['run'], other['verdict'], other['difference']['value']) == (me, 'tied', 0)
    assert [c['ok'] for c in found(child)['gate']['checks'] if c['name'] == f'over {me}'] == [True]
    assert '0 runs begin with' in child.kit('run nbs/05_evaluate.ipynb --set ci evaluate.against=19990101', ok=False).stdout


@pytest.mark.full
@one_flavour
@pytest.mark.parametrize(('words', 'says'), [
    ('evaluate.metric=acuracy', 'did you mean accuracy'),
    *(pytest.param(*case, marks=pytest.mark.soak) for case in (
        ('+evaluate.slices.old="inc > 1"', 'did you mean ink'), ('evaluate.prices.wrong=-1', 'from 0 on'),
        ('evaluate.gate.naive=best', 'is not better or tied')))])
def test_mistake_is_told_before_the_work(child, words, says):
    "What cannot be evaluated is said by name, before any sibling is trained"
    assert child.ci.returncode == 0
    before = len(list((child.path / 'build/ci/runs/train').iterdir()))
    said = child.kit('run nbs/05_evaluate.ipynb --set ci', words, ok=False)
    assert (said.returncode, says in said.stdout) == (1, True), said.stdout
    assert len(list((child.path / 'build/ci/runs/train').iterdir())) == before


@pytest.mark.soak
def test_own_quantity_is_judged(kit, project_env, wheel, tmp_path):
    "A regression on somebody's own table: named parts, prices and a gate, in the unit of the target"
    file, target = write('diabetes', tmp_path)
    child = new_project(kit, project_env, wheel, tmp_path / 'own', '--data', file, '--target', target)
    asked = ['+evaluate.slices.heavy="bmi > 0.05"', 'evaluate.prices={under:3,over:1}', 'evaluate.gate.floor=1']
    child.kit('run nbs --set ci', *asked)
    assert {n: r['status'] for n, r in child.records().items() if n in CHAPTERS} == dict.fromkeys(CHAPTERS, 'passed')
    report = found(child)
    assert (report['metric'], report['higher_is_better'], report['cut']['kind']) == ('rmse', False, 'margin')
    assert (report['slices'][0]['slice'], report['slices'][0]['rows'] > 5) == ('heavy', True)
    assert 'wanted at most 1, found rmse' in report['gate']['answer'][0]
