"A user's own table gives a project whose chapters all pass, or one clear sentence."
import pytest
from children import CHAPTERS, Child, new_project, render
from tables import MESSY, REAL, REFUSED, write

TIER = {'penguins': [], 'semicolons': [], **{t: [pytest.mark.soak] for t in ('breast_cancer', 'diabetes', 'linnerud')}}
TABLES = [pytest.param(t, marks=[*TIER.get(t, [pytest.mark.full]), pytest.mark.xdist_group(t)]) for t in [*REAL, *MESSY]]


@pytest.mark.parametrize('table', [t for t in TABLES if t.values[0] not in REFUSED])
def test_own_table_works(kit, project_env, wheel, tmp_path, table):
    "`mlops-kit new --data FILE --target COLUMN`, then every chapter passes with the set `ci`, and nothing else is touched"
    file, target = write(table, tmp_path)
    before = file.read_bytes()
    child = new_project(kit, project_env, wheel, tmp_path / f'own-{table}', '--data', file, '--target', target)
    child.kit('run nbs --set ci')
    assert {n: r['status'] for n, r in child.records().items() if n in CHAPTERS} == dict.fromkeys(CHAPTERS, 'passed')
    assert file.read_bytes() == before
    assert (child.path / 'contracts/table.yaml').exists()


@pytest.mark.parametrize('table', [pytest.param('wine', marks=pytest.mark.soak), pytest.param('unicode', marks=pytest.mark.full)])
def test_own_table_by_copier(kit, project_env, wheel, tmp_path, table):
    "`copier copy -d data=FILE -d target=COLUMN` gives such a project too: its first chapter infers the contract"
    file, target = write(table, tmp_path)
    path = render(kit, tmp_path / 'by copier' / 'own', kit_source=str(wheel), task='tabular', data=str(file), target=target)
    child = Child(path, project_env, {'PYTHONPATH': str(path)})
    child.run('nbdev_export')
    child.kit('run nbs --set ci')
    assert {r['status'] for r in child.records().values()} == {'passed'}


@pytest.mark.parametrize('table', REFUSED)
def test_hopeless_table_is_refused(kit, project_env, tmp_path, table):
    "A table that nothing can be learned from is refused in one sentence with exit code 2, and no folder is left"
    file, target = write(table, tmp_path)
    words = ['new', tmp_path / 'own', '--from', kit, '--data', file, '--target', target, '-y']
    done = project_env.run('mlops-kit', *words, cwd=tmp_path, ok=False)
    assert (done.returncode, REFUSED[table] in done.stdout) == (2, True), done.stdout
    assert len(done.stdout.strip().splitlines()) == 1
    assert not (tmp_path / 'own').exists()


@pytest.mark.full
def test_hopeless_table_by_copier(kit, project_env, wheel, tmp_path):
    "Copier cannot look into a table: then the first chapter says the sentence, and the rest is blocked"
    file, target = write('one_class', tmp_path)
    path = render(kit, tmp_path / 'own', kit_source=str(wheel), task='tabular', data=str(file), target=target)
    child = Child(path, project_env, {'PYTHONPATH': str(path)})
    child.run('nbdev_export')
    done = child.kit('run nbs --set ci', ok=False)
    assert done.returncode == 1
    said = [line for line in done.stdout.splitlines() if 'failed' in line and '00_data' in line]
    assert REFUSED['one_class'] in ''.join(said), done.stdout
    assert child.records()['03_train']['status'] == 'blocked'
