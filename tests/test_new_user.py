"A new user, in a folder elsewhere, who types what the generated README says."
import shlex

import pytest
from children import Child, passed_in_full
from helpers import kit_env, sh, typed


@pytest.mark.soak
def test_as_a_new_user(kit, wheel, tmp_path):
    "`copier copy` without trust from the clone, then each command of the child's README in one shell, on a fresh environment"
    project, words = tmp_path / 'somewhere else' / 'digits', shlex.split('copier copy --defaults')
    project.parent.mkdir()
    kit_env('base', wheel).run(*words, kit, project, cwd=tmp_path)
    lines = [c if c != 'mlops-kit lab' else 'mlops-kit lab --help' for c in typed((project / 'README.md').read_text())]
    assert [c for c in lines if 'requirements.txt' in c]
    assert [c for c in lines if c == 'mlops-kit run nbs']
    (tmp_path / 'typed.sh').write_text('set -ex\n' + '\n'.join(lines))
    path = {'PYTHONPATH': '', 'CI': '', 'WANDB_MODE': 'offline', 'BROWSER': 'true'}
    sh(['bash', tmp_path / 'typed.sh'], cwd=project, env=path, timeout=1500)
    assert sh(['git', 'status'], cwd=project, ok=False).returncode  # nobody made it a repo
    passed_in_full(Child(project, None))
