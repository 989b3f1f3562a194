"A user's own table gives a project whose chapters all pass, or one clear sentence."
import pytest
from children import CHAPTERS, Child, new_project, render
from tables import MESSY, REAL, REFUSED, write
from test_package import answers_as_its_model

QUICK = ['penguins']
SOAK = ['mixed', 'untidy', 'breast_cancer', 'diabetes', 'linnerud', 'wine', 'weather', 'semicolons']


def marks(table):
    "The tier of a table, and a group of its own"
    tier = [] if table in QUICK else [pytest.mark.soak if table in SOAK else pytest.mark.full]
    return [*tier, pytest.mark.xdist_group(table)]


TABLES = [pytest.param(t, marks=marks(t)) for t in (*REAL, *MESSY) if t not in REFUSED]


@pytest.mark.parametrize('table', TABLES)
def test_own_table_works(kit, project_env, wheel, tmp_path, table):
    "`mlops-kit new --data FILE --target COLUMN`, then every chapter passes with the set `ci`, and nothing else is touched"
    file, target = write(table, tmp_path)
    before, profile = file.read_bytes(), 'recommended' if table in QUICK else 'full'
    child = new_project(kit, project_env, wheel, tmp_path / f'own-{table}', '--data', file, '--target', target, profile=profile)
    child.kit('run nbs --set ci')
    assert {n: r['status'] for n, r in child.records().items() if n in CHAPTERS} == dict.fromkeys(CHAPTERS, 'passed')
    assert file.read_bytes() == before
    assert (child.path / 'contracts/table.yaml').exists()
    if profile == 'full': answers_as_its_model(child)


@pytest.mark.full
def test_own_table_by_copier(kit, project_env, wheel, tmp_path):
    "`copier copy -d data=FILE -d target=COLUMN` gives such a project too: its first chapter infers the contract"
    file, target = write('untidy', tmp_path)
    path = render(kit, tmp_path / 'by copier' / 'own', kit_source=str(wheel), task='tabular', data=str(file), target=target)
    child = Child(path, project_env, {'PYTHONPATH': str(path)})
    child.run('nbdev_export')
    child.kit('run nbs/00_data.ipynb nbs/03_train.ipynb --set ci')
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
