"Twelve usual edits of a project, kept as patches: each applies to what the template makes now, passes every check, works, and is cheap."
import shlex
import shutil
from functools import cache
from statistics import median

import edits
import pytest
from children import FLAVOURS, Child, commit_all, git, new_project, render

FOUND = edits.edits()
GROUPS = [pytest.param(name, marks=pytest.mark.xdist_group(e.project)) for name, e in FOUND.items()]


@pytest.fixture(scope='module')
def project(kit, wheel, project_env, children, tmp_path_factory):
    "Make the project of a flavour on the first call for it, called `example` as in the patches; its network is trained"
    folder = tmp_path_factory.mktemp('edited')

    @cache
    def made(flavour):
        (folder / flavour).mkdir()
        found = new_project(kit, project_env, wheel, folder / flavour / 'example', **FLAVOURS[flavour])
        found.env = children(flavour).env
        found.kit('run nbs/00_data.ipynb nbs/03_train.ipynb --set ci')
        return found

    return made


@pytest.mark.parametrize('name', [n for n, e in FOUND.items() if e.diff])
def test_patch_applies(bare, tmp_path, name):
    "To what the template makes now"
    render(bare, tmp_path / 'example', **FLAVOURS[FOUND[name].project])
    commit_all(tmp_path / 'example')
    (tmp_path / 'patch').write_text(FOUND[name].diff, encoding='utf-8')
    git(tmp_path / 'example', 'apply', '--check', tmp_path / 'patch')


@pytest.mark.soak
@pytest.mark.parametrize('name', GROUPS)
def test_edit(project, tmp_path, name):
    "Apply the patch, export, type its commands: the project is in order, and the last one shows what the edit was for"
    edit, start, folder = FOUND[name], project(FOUND[name].project), tmp_path / 'example'
    shutil.copytree(start.path, folder)
    child = Child(folder, start.env, {'PYTHONPATH': str(folder), 'NO_COLOR': '1', 'COLUMNS': '200'})
    if edit.diff:
        (tmp_path / 'patch').write_text(edit.diff, encoding='utf-8')
        git(folder, 'apply', tmp_path / 'patch')
    child.kit('check --fix')
    said = [child.run(*shlex.split(line)).stdout for line in edit.types]
    assert edit.shows in said[-1]


def test_edits_are_cheap():
    "Twelve of them, and half need one file and eight lines, or less"
    files, lines = zip(*(edits.cost(e.diff) for e in FOUND.values()))
    assert len(FOUND) == 12
    assert (median(files), median(lines)) <= (1, 8)
