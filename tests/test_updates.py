"A project is brought from any released template to the next, and whatever its user did is still there, or in a marked conflict."
import json
import shutil
import subprocess
import sys

import nbformat
import pytest
from children import QUIET, commit_all, git, render, tree
from helpers import ROOT, sh, write
from test_workflows import played, steps  # noqa: F401  (a fixture)
from typer.testing import CliRunner

pytestmark = pytest.mark.xdist_group('updates')
RELEASES = sorted(f.stem for f in (ROOT / 'tests/releases').glob('*.bundle'))
NEXT = '99.0'


@pytest.fixture(scope='module')
def history(kit, tmp_path_factory):
    "The template with its past: every released version, this one, and one more in which every chapter changed"
    repo = shutil.copytree(kit, tmp_path_factory.mktemp('history') / 'kit')
    for v in RELEASES: git(repo, 'fetch', '-q', ROOT / f'tests/releases/{v}.bundle', f'refs/tags/v{v}:refs/tags/v{v}')
    git(repo, 'tag', 'v98.0')
    for file in [f for f in repo.glob('template/**/*.ipynb') if f.read_text().startswith('{\n')]: file.write_text(newer(file.read_text()))
    for name in ('configs/trainer/cpu.yaml', '.github/workflows/ci.yml', 'tests/test_train.py'):
        (repo / 'template' / name).write_text((repo / 'template' / name).read_text() + '# newer\n')
    git(repo, 'commit', '-q', '-a', '-m', 'The next one')
    git(repo, 'tag', f'v{NEXT}')
    return repo


def newer(text):
    "A notebook whose second cell says more, with a cell more at the end"
    nb = json.loads(text)
    nb['cells'][1]['source'][-1] += ' Newer.'
    nb['cells'].insert(-1, {'cell_type': 'markdown', 'id': 'newer', 'metadata': {}, 'source': ['The template has more to say.']})
    return json.dumps(nb, indent=1, ensure_ascii=False) + '\n'


def project_at(history, version, folder, **answers):
    "A project as it was made then"
    from copier import run_copy
    run_copy(str(history), folder, data=answers, defaults=True, quiet=True, vcs_ref=f'v{version}')
    return commit_all(folder)


def fresh(history, version, folder, **answers):
    "What a fresh copy would be, exported"
    from mlops_kit.check import remake
    remake(project_at(history, version, folder, **answers))
    return {n: data for n, data in tree(folder).items() if n != 'README.md'}


@pytest.mark.full
@pytest.mark.parametrize('task', ['image', 'tabular'])
@pytest.mark.parametrize(('old', 'new'), [*((v, '98.0') for v in RELEASES), ('98.0', NEXT)])
def test_untouched_becomes_a_fresh_copy(history, tmp_path, old, new, task):
    "A project that nobody edited is afterwards, byte by byte, what a fresh copy is"
    from mlops_kit.update import update
    answers = {'project': 'same', 'task': task}
    done = update(project_at(history, old, tmp_path / 'same', **answers), ref=f'v{new}')
    assert (done.plan.conflicts, done.plan.notes) == ({}, [])
    found = {n: data for n, data in tree(tmp_path / 'same').items() if n != 'README.md'}
    assert found == fresh(history, new, tmp_path / 'fresh' / 'same', **answers)


def edited(folder, name, change):
    "Edit the cells of a chapter"
    file = folder / f'nbs/{name}.ipynb'
    nb = json.loads(file.read_text())
    for cell in nb['cells']: cell['source'] = ''.join(cell['source']).splitlines(True)
    change(nb['cells'])
    file.write_text(json.dumps(nb, indent=1, ensure_ascii=False) + '\n')


def ran(cells):
    "As after a run, and nothing else"
    for n, cell in enumerate(c for c in cells if c['cell_type'] == 'code'):
        cell['execution_count'], cell['outputs'] = n, [{'output_type': 'stream', 'name': 'stdout', 'text': ['MINE: an output\n']}]


def text(source): return {'cell_type': 'markdown', 'id': 'mine', 'metadata': {}, 'source': [source]}


def same_line(cells): cells[1]['source'][-1] += ' MINE: the same line.'


def next_line(cells): cells[1]['source'] = [*cells[1]['source'][:-1], cells[1]['source'][-1] + '\n', '\n', 'MINE: the line below.']


def other_ids(cells):
    "New ids, as some tools write them, and an edit"
    for n, cell in enumerate(cells): cell['id'] = f'other-{n}'
    cells[4]['source'] = ['MINE = 4\n', *cells[4]['source']]


def make_edits(folder):
    "One edit of each kind, each in a file of its own"
    edited(folder, '00_data', lambda cells: cells.insert(3, text('MINE: a cell more')))
    edited(folder, '01_explore', lambda cells: cells.insert(-2, cells.pop(1)))
    edited(folder, '02_model', same_line)
    edited(folder, '03_train', next_line)
    edited(folder, '04_sweep', other_ids)
    edited(folder, '05_evaluate', same_line)
    (folder / 'nbs/05_evaluate.ipynb').rename(folder / 'nbs/06_judge.ipynb')
    edited(folder, 'index', ran)
    (folder / 'tests/test_train.py').unlink()
    for file in (folder / 'configs/trainer/cpu.yaml', folder / '.github/workflows/ci.yml'): file.write_text(file.read_text() + '# MINE\n')
    (folder / 'nbs/07_mine.ipynb').write_text(nbformat.writes(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell('MINE = 1')])))


@pytest.fixture(scope='module', params=[*((v, '98.0') for v in RELEASES), ('98.0', NEXT)], ids=lambda p: p[0])
def updated(history, tmp_path_factory, request):
    "A project with every kind of edit after an update, and what that said"
    from mlops_kit.update import update
    old, new = request.param
    folder = project_at(history, old, tmp_path_factory.mktemp('edited') / 'mine', project='mine')
    make_edits(folder)
    git(folder, 'add', '-A')
    git(folder, 'commit', '-q', '-m', 'Mine')
    return folder, update(folder, ref=f'v{new}', here=True, keep=True)


MINE = '00_data 02_model 03_train 04_sweep 06_judge 07_mine'.split()


@pytest.mark.full
def test_notebooks_survive(updated):
    "Every notebook is one, opens, and is either merged or marked; nothing that the user wrote is lost"
    folder, done = updated
    for file in folder.glob('nbs/*.ipynb'): nbformat.validate(nbformat.reads(file.read_text(), 4))
    texts = {f.stem: f.read_text() for f in folder.glob('nbs/*.ipynb')}
    assert all('MINE' in texts[name] for name in MINE)
    marked = {f'nbs/{n}.ipynb' for n, t in texts.items() if '`<<<<<<< yours`' in t}
    assert marked == {p for p in done.plan.conflicts if p.endswith('.ipynb')}
    if done.plan.before == 'v98.0': assert '<<<<<<<' not in texts['00_data'] + texts['04_sweep'] + texts['07_mine']


@pytest.mark.full
def test_other_files_survive(history, updated):
    "A removed file stays away and is named if it changed, an edited config or workflow has both edits, and git knows of every conflict"
    folder, done = updated
    assert not (folder / 'tests/test_train.py').exists()
    changed = git(history, 'diff', '--name-only', done.plan.before, done.plan.after, '--', 'template/tests/test_train.py')
    assert any('tests/test_train.py' in note for note in done.plan.notes) == bool(changed)
    for name in ('configs/trainer/cpu.yaml', '.github/workflows/ci.yml'): assert '# MINE' in (folder / name).read_text()
    unmerged = {line[3:] for line in git(folder, 'status', '--porcelain').splitlines() if line[:2] in ('UU', 'AA', 'DU', 'UD')}
    assert unmerged == set(done.plan.conflicts)


@pytest.mark.full
def test_what_does_not_meet_is_merged(history, tmp_path):
    "An edit and a change of different cells, or of a notebook that was renamed, are no conflict, and outputs stay where their code stays"
    from mlops_kit.update import update
    folder = project_at(history, '98.0', tmp_path / 'mine', project='mine')
    edited(folder, '00_data', lambda cells: [ran(cells), cells.insert(3, text('MINE'))])
    (folder / 'nbs/04_sweep.ipynb').rename(folder / 'nbs/04_search.ipynb')
    git(folder, 'add', '-A')
    git(folder, 'commit', '-q', '-m', 'Mine')
    done = update(folder, ref=f'v{NEXT}', here=True)
    assert (done.plan.conflicts, (folder / 'nbs/04_sweep.ipynb').exists()) == ({}, False)
    assert 'The template has more to say.' in (folder / 'nbs/04_search.ipynb').read_text()
    cells = json.loads((folder / 'nbs/00_data.ipynb').read_text())['cells']
    assert {'MINE', 'The template has more to say.'} <= {''.join(c['source']) for c in cells}


def run(folder, *words):
    "Exit code and words of `mlops-kit`, where nobody can answer"
    command = [sys.executable, '-c', 'from mlops_kit.cli import main; main()', *words]
    done = sh(command, cwd=folder, ok=False, env={**QUIET, 'PYTHONPATH': str(folder)})
    return done.returncode, done.stdout


@pytest.mark.full
def test_exit_codes(history, tmp_path):
    "0 up to date, 1 there is an update, 2 a dirty tree or an edited file that would be lost; then nothing has changed"
    folder = project_at(history, '98.0', tmp_path / 'mine', project='mine')
    before = git(folder, 'rev-parse', 'HEAD')
    assert run(folder, 'update', '--check')[0] == 1
    assert run(folder, 'update', '--check', '--ref', 'v98.0') == (0, 'This project is up to date.\n')
    edited(folder, '04_sweep', same_line)
    code, said = run(folder, 'update')
    assert (code, 'M nbs/04_sweep.ipynb' in said) == (2, True)
    git(folder, 'commit', '-q', '-a', '-m', 'Mine')
    code, said = run(folder, 'disable', 'sweep')
    assert (code, 'nbs/04_sweep.ipynb (would be removed)' in said) == (2, True)
    assert (git(folder, 'status', '--porcelain'), git(folder, 'rev-parse', 'HEAD~1')) == ('', before)


@pytest.mark.full
@pytest.mark.parametrize('touched', [False, True])
def test_workflow_proposes_an_update(history, tmp_path, played, touched):  # noqa: F811
    "The workflow pushes a branch and opens a pull request: a draft with marks where somebody has to decide"
    folder = project_at(history, '98.0', tmp_path / 'mine', project='mine', profile='full')
    if touched: edited(folder, '03_train', same_line)
    git(folder, 'commit', '-q', '--allow-empty', '-a', '-m', 'Mine')
    git(tmp_path, 'clone', '-q', '--bare', folder, 'origin')
    git(folder, 'remote', 'add', 'origin', tmp_path / 'origin')
    done, log = steps(folder, 'template-update', 'update', played, RUNNER_TEMP=str(tmp_path), GITHUB_REF_NAME='main')
    assert done.result == 'success', done.said
    assert ('pr create --head template-v99.0' in log, '--draft' in log) == (True, touched)
    page = git(tmp_path / 'origin', 'show', 'template-v99.0:nbs/03_train.ipynb')
    assert ('The template has more to say.' in page, '`<<<<<<< yours`' in page, 'MINE' in page) == (True, touched, touched)


@pytest.mark.full
def test_git_need_not_know_who_updates(history, tmp_path):
    "Where git knows no name and no address, an update is committed all the same"
    folder = project_at(history, '98.0', tmp_path / 'mine', project='mine')
    code, said = run(folder, 'update', '--no-run')
    assert (code, git(folder, 'log', '-1', '--format=%an %s')) == (0, 'mlops-kit Update the template from v98.0 to v99.0\n'), said


@pytest.mark.full
def test_stages_come_and_go(history, tmp_path):
    "A stage that is taken out and brought back leaves the project as a fresh copy with that choice"
    from mlops_kit.update import disable, enable
    folder = project_at(history, '98.0', tmp_path / 'same', project='same')
    disable(['sweep'], folder)
    assert not {n for n in tree(folder) if 'sweep' in n or 'hparams_search' in n}
    enable(['sweep'], folder)
    wanted = {'project': 'same', 'profile': 'choose', 'stages': ['explore', 'sweep', 'evaluate', 'editor']}
    assert {n: d for n, d in tree(folder).items() if n != 'README.md'} == fresh(history, '98.0', tmp_path / 'fresh' / 'same', **wanted)


SMALL = {
    'copier.yml': """_subdirectory: template
_templates_suffix: ""
profile: {type: str, default: choose}
stages: {type: yaml, default: []}
stage_table: {type: yaml, when: false, default: "{ask: {from: full}, answer: {from: full}}"}
""",
    'template/.copier-answers.yml': '{{ _copier_answers|to_nice_yaml }}',
    'template/settings.ini': '[DEFAULT]\n' + '\n'.join(f'{k} = mine' for k in 'lib_name lib_path repo user author author_email'.split()),
    'template/requirements.txt': 'rich\n{% for s in stages %}{{ s }}-of-tomorrow\n{% endfor %}',
    'template/nbs/say.ipynb': nbformat.writes(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell('print(1)', id='a')]))}


def test_a_stage_says_what_it_lacks(tmp_path, monkeypatch):
    "Where a package that a stage asks for is not installed, that is said with the line to type, and no chapter begins"
    from copier import run_copy

    from mlops_kit.cli import app
    for name, content in SMALL.items(): write(tmp_path / 'kit' / name, content)
    run_copy(str(commit_all(tmp_path / 'kit')), tmp_path / 'mine', defaults=True, quiet=True, vcs_ref='HEAD')
    monkeypatch.chdir(commit_all(tmp_path / 'mine'))
    done = CliRunner().invoke(app, ['enable', 'ask'])
    assert (done.exit_code, 'ask-of-tomorrow is not installed yet, so no chapter was run' in done.stdout) == (0, True)
    assert 'pip install -r requirements.txt, then mlops-kit run nbs --set ci\nWhen they pass: git switch - ' in done.stdout
    assert ('on branch enable-ask' in done.stdout, (tmp_path / 'mine/build').exists()) == (True, False)
    done = CliRunner().invoke(app, ['enable', 'answer', '--json'])
    assert (done.exit_code, json.loads(done.stdout)['missing']) == (0, ['ask-of-tomorrow', 'answer-of-tomorrow'])


@pytest.mark.full
def test_nothing_is_half_done(history, tmp_path, monkeypatch):
    "A disk that fills up in the middle leaves the project, and its branch, as they were"
    from mlops_kit import update
    folder = project_at(history, '98.0', tmp_path / 'mine', project='mine')
    before, full = tree(folder), iter([None] * 3)
    copy = shutil.copy2
    monkeypatch.setattr(update.shutil, 'copy2', lambda *a, **kw: copy(*a, **kw) if next(full, 1) is None else no_space())
    with pytest.raises(OSError, match='No space'): update.update(folder)
    assert (tree(folder), git(folder, 'branch', '--show-current').strip(), git(folder, 'branch').count('\n')) == (before, 'main', 1)


def no_space(): raise OSError(28, 'No space left on device')


@pytest.mark.full
def test_old_projects_are_told(history, tmp_path):
    "A chapter of the first release that no longer runs names the fix"
    folder = project_at(history, RELEASES[0], tmp_path / 'old', project='old')
    sh(['nbdev_export'], cwd=folder)
    code, said = run(folder, 'run', 'nbs/00_data.ipynb', 'nbs/03_train.ipynb', '--set', 'ci')
    assert code == 0 or '`mlops-kit update` is the fix' in said, said


def test_bundles_are_small():
    "Each released template is kept, with nothing but what is rendered"
    found = {v: (ROOT / f'tests/releases/{v}.bundle').stat().st_size for v in RELEASES}
    assert found
    assert max(found.values()) < 300_000
    for v in RELEASES: subprocess.run(['git', 'bundle', 'verify', '-q', ROOT / f'tests/releases/{v}.bundle'], cwd=ROOT, check=True)


@pytest.mark.full
def test_an_unsettled_merge_is_found(history, tmp_path):
    "`mlops-kit check` names the cells that wait for a person, and nothing is exported before"
    from mlops_kit.check import check
    from mlops_kit.update import update
    folder = project_at(history, '98.0', tmp_path / 'mine', project='mine')
    edited(folder, '03_train', same_line)
    git(folder, 'commit', '-q', '-a', '-m', 'Mine')
    assert update(folder).plan.conflicts.keys() == {'nbs/03_train.ipynb'}
    [found] = check(folder)
    assert (found.ok, found.detail) == (False, ['nbs/03_train.ipynb: cell 2'])


def test_copier_makes_the_same(kit, tmp_path):
    "A plain `copier copy` can be updated, too: it records where it came from"
    from mlops_kit.update import origins
    folder = render(kit, tmp_path / 'plain')
    assert [o.source for o in origins(folder)] == [str(kit)]
