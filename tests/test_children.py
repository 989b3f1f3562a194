"A generated project, installed from the wheel in a folder that cannot see the kit, does all that it promises."
import json
import re
from pathlib import Path

import jsonschema
import yaml
from children import CHAPTERS, each_flavour, git
from helpers import ROOT, lint_workflows

pytestmark = each_flavour


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
