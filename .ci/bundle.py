"Keep the template of a release as a small git bundle in tests/releases, for the tests of updates."
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RELEASES = ROOT / 'tests/releases'
PARTS = 'copier.yml', 'constraints.txt', 'template'  # all that is rendered


def git(*words, **kw):
    "What git says, without the end of the line"
    return subprocess.run(['git', *words], cwd=ROOT, check=True, capture_output=True, text=True, **kw).stdout.strip()


def bundle(version, commit='HEAD'):
    "One commit without history, tagged, that holds only what a project is rendered from"
    rows = git('ls-tree', commit, *PARTS)
    who = ['-c', 'user.name=mlops-kit', '-c', 'user.email=mlops-kit@localhost']
    made = git(*who, 'commit-tree', git('mktree', input=rows + '\n'), '-m', f'Template {version}')
    with tempfile.TemporaryDirectory() as d:
        subprocess.run(['git', 'init', '-q', '--bare', d], check=True)
        git('push', '-q', d, f'{made}:refs/tags/v{version}')
        RELEASES.mkdir(exist_ok=True)
        subprocess.run(['git', 'bundle', 'create', '-q', RELEASES / f'{version}.bundle', f'v{version}'], cwd=d, check=True)
    return RELEASES / f'{version}.bundle'


if __name__ == '__main__': print(bundle(*sys.argv[1:]).relative_to(ROOT))
