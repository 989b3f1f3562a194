"Pages that tell what to type: every command is executed here or shown to be executed elsewhere; the tree of the first is the real one."
import json
import re
import shlex
import sys

import pytest
from children import new_project
from helpers import ROOT, settings, sh, typed

pytestmark = pytest.mark.xdist_group('image')
README = (ROOT / 'README.md').read_text(encoding='utf-8')
COMMANDS = [*typed(README), *re.findall(r'^\| `(.*?)`', README, re.M)]


def said(notebook):
    "The markdown of a notebook"
    cells = json.loads(notebook.read_text(encoding='utf-8'))['cells']
    return '\n\n'.join(''.join(c['source']) for c in cells if c['cell_type'] == 'markdown')


ELSEWHERE = [c for folder in ('tutorials', 'howto') for nb in sorted((ROOT / 'nbs' / folder).glob('*.ipynb')) for c in typed(said(nb))]
PLUMBING = {'setup.py', 'pyproject.toml'}


@pytest.fixture
def image(children): return children('image')


def in_child(*more):
    "The command as it stands in a project, with `more` to keep it short and away from real results"
    return lambda command, image, **_: image.run('/bin/bash', '-ec', f'{command} {" ".join(more)}')


def runs(command, image, **_): assert (image.ci.args[1:], image.ci.returncode) == (command.split()[1:], 0), image.ci.stdout


def makes(command, **_):
    "CI runs `make demo` and `make test`: here it is enough that they are targets"
    listed = sh('make', cwd=ROOT).stdout
    assert re.search(rf'^{command}  +\S', listed, re.M)


def clones(command, **_): assert command == f'git clone {settings()["git_url"]} && cd {settings()["repo"]}'


def installs(command, **_):
    "The requirement names this kit, and what it brings is what the children of these tests are installed from"
    requirement = shlex.split(command)[2]
    assert re.sub(r'\[project\]', '', requirement) == f'{settings()["lib_name"]} @ git+{settings()["git_url"]}'


def copies(command, kit, tmp_path, **_):
    "Copier from the clone in place of the address"
    assert settings()['git_url'] in command
    words = shlex.split(command.replace(settings()['git_url'], str(kit)))
    sh([sys.executable, '-m', 'copier', 'copy', '--defaults', *[w for w in words[2:] if w != '--defaults']], cwd=tmp_path)
    assert (tmp_path / words[-1] / 'settings.ini').exists()


def news(command, kit, image, wheel, tmp_path, **_):
    "A project on a table of one's own"
    words = dict(zip(*[iter(shlex.split(command)[3:])] * 2))
    table = tmp_path / words['--data']
    table.write_text(f'{words["--target"]},rooms\n' + ''.join(f'{i * 3.5},{i % 7}\n' for i in range(40)))
    new_project(kit, image.env, wheel, tmp_path / shlex.split(command)[2], '--data', table, '--target', words['--target'])


def begins(command, kit, image, tmp_path, **_):
    "The example, from the clone"
    [_, _, name, *_] = shlex.split(command)
    image.kit('new', name, '-y', '--from', kit, cwd=tmp_path)
    assert (tmp_path / name / 'settings.ini').exists()


def in_git(command, tmp_path, **_):
    "In a folder that git knows, with something new in it"
    sh(['git', 'init', '-q'], cwd=tmp_path)
    (tmp_path / 'new.txt').touch()
    sh(['/bin/bash', '-ec', f'git config user.name You; git config user.email you@example.com; {command}'], cwd=tmp_path)


def in_test(name, word):
    "Another test does it"
    return lambda command, **_: word in (ROOT / 'tests' / name).read_text(encoding='utf-8') or pytest.fail(f'{name} no longer has {word}')


def checks(command, image, tmp_path, **_):
    "A table against the contract that it suggested"
    words = shlex.split(command)
    (tmp_path / 'contracts').mkdir()
    (tmp_path / words[3]).write_text('a,b\n' + ''.join(f'{i},{i % 3}\n' for i in range(30)))
    image.kit('data infer', words[3], '-o', words[4], cwd=tmp_path)
    image.run('/bin/bash', '-ec', command, cwd=tmp_path)


def compares(command, image, **_):
    "Two trainings, which there must be"
    image.kit('train -m seed=1,2 trainer.max_epochs=1 logger=none out=build/readme')
    image.run('/bin/bash', '-ec', command)


def studies(command, image, **_):
    "After a small one"
    image.kit('sweep hydra.sweeper.n_trials=2 trainer.max_epochs=1 logger=none out=build/readme')
    image.run('/bin/bash', '-ec', command)


def any_notebooks(command, image, tmp_path, **_):
    "In a folder of its own, on notebooks that belong to no project"
    for name in ('analyses', 'sales', 'out'): (tmp_path / name).mkdir()
    cell = {'cell_type': 'code', 'id': 'a', 'metadata': {}, 'execution_count': None, 'outputs': [], 'source': 'assert 1 + 1 == 2'}
    spec = {'kernelspec': {'name': 'python3', 'language': 'python', 'display_name': 'Python 3'}}
    for name in ('in', 'analyses/sales', 'analyses/costs', 'sales/march'):
        (tmp_path / f'{name}.ipynb').write_text(json.dumps({'cells': [cell], 'metadata': spec, 'nbformat': 4, 'nbformat_minor': 5}))
    image.run('/bin/bash', '-ec', command, cwd=tmp_path)


def sited(command, image, **_):
    said = image.kit('docs').stdout.splitlines()
    assert said[0] == '_docs/index.html'
    pages = {f.stem: (image.path / f'_docs/{f.stem}.html').read_text() for f in sorted(image.path.glob('nbs/[01]*.ipynb'))}
    without = ', '.join(name for name, page in pages.items() if 'Outputs of the run' not in page)
    told = f'note: no outputs in {without}, of which no run passed without parameters and overrides; type: mlops-kit run nbs'
    assert [line for line in said[1:] if line.startswith('note: ')] == ([told] if without else [])
    assert (image.path / '_docs/03_train.html').is_file()


def in_new_user_test(command, **_):
    "test_as_a_new_user types this, since the child's own page says it too"
    page = ''.join((ROOT / f).read_text(encoding='utf-8') for f in ('template/nbs/index.ipynb', 'copier.yml'))  # its stages', too
    assert all(part in page or part.startswith('cd ') for part in command.split(' && '))


def in_environment(command, tmp_path, **_):
    "As it stands, with this Python"
    sh(['/bin/bash', '-ec', command.replace('python ', f'{sys.executable} ', 1)], cwd=tmp_path)


HOW = {
    r'git clone \S+ && cd \S+': clones, r'make [a-z-]+': makes, r'(tools/bin/)?pip install "mlops-kit.*"': installs,
    r'(tools/bin/)?copier copy .*': copies, r'tools/bin/pip install copier': in_test('test_rendering.py', "'copier'"),
    r'mlops-kit new \S+ --data \S+ --target \S+( -y)?': news, r'(tools/bin/)?mlops-kit new \S+ -y( && cd \S+)?': begins,
    r'mlops-kit data check \S+ \S+': checks,
    r'mlops-kit run nbs --set ci': runs, r'mlops-kit train .*': in_child('trainer.max_epochs=1', 'out=build/readme'),
    r'mlops-kit sweep .*': in_child('hydra.sweeper.n_trials=2', 'trainer.max_epochs=1', 'out=build/readme'),
    r'mlops-kit runs compare.*': compares, r'mlops-kit studies show': studies,
    r'mlops-kit runs diff main': in_child('--html build/readme.html'), r'mlops-kit update': in_child('--check'),
    r'mlops-kit (check --fix|runs list|params \S+)': in_child(),
    r'mlops-kit (lab|package|models|serve .*|smoke .*|predict .*|monitor .*|retrain .*|pipeline .*|enable deploy)': in_child('--help'),
    r'mlops-kit run nbs/00_data.ipynb': in_child('--set', 'ci'),
    r'mlops-kit run nbs --on ray': in_child('--help'), r'mlops-kit docs --open': sited,
    r'mlops-kit run analyses/ .*|papermill --engine .*|mlops-kit warm .*': any_notebooks,
    r'git (init|add) .*': in_git, r'python -m venv tools': in_environment,
    r'docker compose .*|curl .*': in_test('test_images.py', 'compose.yaml'),
    r'JUPYTER_DEFAULT_PROVISIONER_NAME=warm pytest .*': in_test('test_kernels.py', "'--nbmake'"),
    r'cd (digits|coffee|\.\.)': in_new_user_test,
    r'python -m venv \.venv .*|pip install -r requirements.txt|mlops-kit (run nbs|gate)': in_new_user_test}


@pytest.mark.parametrize('command', dict.fromkeys([*COMMANDS, *ELSEWHERE]))
def test_command_works(command, kit, image, wheel, tmp_path):
    "Whoever types what the page says gets what it promises"
    ways = [way for pattern, way in HOW.items() if re.fullmatch(pattern, command)]
    assert len(ways) == 1, f'say in HOW how {command!r} is executed'
    ways[0](command, kit=kit, image=image, wheel=wheel, tmp_path=tmp_path)


def test_page_is_short():
    "At most 150 lines, the first command by line 12, every picture there"
    lines = README.splitlines()
    assert len(lines) <= 150
    assert next(n for n, line in enumerate(lines, 1) if COMMANDS[0] in line) <= 12
    assert not [p for p in re.findall(r'!\[.*?\]\((?!http)(.*?)\)', README) if not (ROOT / p).is_file()]
    assert not [p for p in re.findall(r'(?<!!)\[[^\]]*\]\((?!http|#)(.*?)\)', README) if not (ROOT / p).exists()]


def printed_tree():
    "Path to purpose, as the page prints it"
    block = re.search(r'^( *)digits/\n((?:\1 *\S.*\n)+)', README, re.M)
    found, top = {}, ''
    for line in block[2].splitlines():
        indent, name, why = re.fullmatch(rf'{block[1]}( *)(\S+)\s+(\S.*)', line).groups()
        top = top if indent else name
        found[(top if indent else '') + name] = why
    return found


def test_tree_is_real(image):
    "The tree on the page is the generated one: a purpose for each file, nothing made up, nothing left out but plumbing"
    names = sh(['git', 'ls-files', '-z'], cwd=image.path).stdout.split('\0')[:-1]
    tops = {n.split('/')[0] + '/' * ('/' in n) for n in names} - PLUMBING
    renamed = {p.replace('digits/', 'image_child/') for p in printed_tree()}
    chapters = {n for n in names if n.startswith('nbs/')}
    assert renamed == {t for t in tops if not t.startswith('.') or t == '.github/'} | chapters
