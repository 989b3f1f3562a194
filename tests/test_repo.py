"The repo itself: its top level, names, requirements, functions, imports, workflows and images."
import ast
import json
import re
import sys
from importlib.metadata import distributions
from statistics import median, quantiles

import pytest
from helpers import ROOT, extras, files, illegal, lint_workflows, service, settings, sh
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

TOP = set('''settings.ini README.md nbs template mlops_kit tests .github docker copier.yml setup.py pyproject.toml constraints.txt
    hydra_plugins Makefile CHANGELOG.md CONTRIBUTING.md LICENSE .gitignore .ci'''.split())


def test_top_level():
    "The top level holds what the design names, and nothing else"
    assert {name.split('/')[0] for name in files()} == TOP


def test_paths_are_legal_on_windows():
    "Copier clones the whole repo, so one bad path stops every Windows user"
    assert not [name for name in files() if len(name) > 150 or any(illegal(part) for part in name.split('/'))]
    assert len({name.lower() for name in files()}) == len(files())


def test_files_are_small():
    "Every clone has all of them: none over half a megabyte, and below nbs nothing that a run left behind"
    assert not [name for name in files() if (ROOT / name).stat().st_size > 500_000]
    folders = {name.split('/')[1] for name in files() if name.startswith('nbs/') and name.count('/') > 1}
    assert folders == {'benchmarks', 'explanation', 'howto', 'images', 'tutorials'}


def test_outputs_name_no_machine():
    "What a notebook of the library printed says nothing of where somebody keeps an environment"
    outputs = {f: [o for c in json.loads((ROOT / f).read_text(encoding='utf-8'))['cells'] for o in c.get('outputs', ())]
               for f in files() if f.startswith('nbs/') and f.endswith('.ipynb')}
    assert [f for f, said in outputs.items() if '/site-packages/' in json.dumps(said)] == []


@pytest.mark.parametrize('part', ['a<b', 'what?', 'end.', 'end ', 'AUX', 'com1.txt', 'a:b'])
def test_illegal_names_are_seen(part):
    "The check above sees what Windows refuses"
    assert illegal(part)


def locked():
    "constraints.txt as {name: version}"
    lines = (ROOT / 'constraints.txt').read_text().splitlines()
    pins = [line.split('==') for line in lines if line and not line.startswith('#')]
    return {canonicalize_name(name): version for name, version in pins}


def test_every_requirement_has_a_floor_and_a_lock():
    "Without a floor a resolver falls back to ancient versions; without a lock two installs differ"
    wanted = [Requirement(r) for rs in extras().values() for r in rs]
    assert not [str(r) for r in wanted if not any(s.operator in ('>=', '==') for s in r.specifier)]
    assert not [str(r) for r in wanted if not r.specifier.contains(locked().get(canonicalize_name(r.name), '0'))]


@pytest.mark.skipif(sys.platform != 'linux', reason='the lock is made on Linux')
def test_lock_names_all_that_is_installed():
    "constraints.txt locks all that came from an index; torch's CUDA build brings libraries that it pins itself"
    apart = re.compile(r'pip|setuptools|wheel|uv|mlops-kit|triton|(nvidia|cuda)-.*')
    here = {canonicalize_name(d.metadata['Name']): d.version for d in distributions() if not d.read_text('direct_url.json')}
    assert not {n: v for n, v in here.items() if not apart.fullmatch(n) and locked().get(n, '').split('+')[0] != v.split('+')[0]}


def test_lock_is_for_every_index():
    "A local version such as 2.13.0+cpu is on no public index"
    assert not [n for n, v in locked().items() if '+' in v]


def test_lock_is_for_the_oldest_python():
    "settings.ini promises 3.11: what is locked takes 3.11.0, Debian's 3.11.2 too"
    asked = {d.metadata['Name']: d.metadata.get('Requires-Python') or '' for d in distributions()}
    assert not {n: v for n, v in asked.items() if not SpecifierSet(v).contains(settings()['min_python'] + '.0')}


def functions():
    "Name and lines of each function in the library"
    for path in sorted((ROOT / 'mlops_kit').glob('*.py')):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f'{path.stem}.{node.name}', node.end_lineno - node.lineno + 1


def test_functions_are_short():
    "Functions: median at most 6 lines, nine in ten at most 20, none over 50"
    sizes = dict(functions())
    assert not {n: s for n, s in sizes.items() if s > 50}
    assert median(sizes.values()) <= 6
    assert quantiles(sizes.values(), n=10)[-1] <= 20


def library_map():
    "The modules in the order of their notebooks' numbers"
    found = {}
    for path in sorted((ROOT / 'nbs').glob('[0-9]*.ipynb')):
        cells = json.loads(path.read_text(encoding='utf-8'))['cells']
        names = re.findall(r'^#\| default_exp (\S+)', '\n'.join(''.join(c['source']) for c in cells), re.M)
        found.update(dict.fromkeys(names, path.name))
    return found


def imported(path):
    "Modules of the kit that a module imports, anywhere in it"
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import): names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            stem = f'mlops_kit.{node.module or ""}'.rstrip('.') if node.level else node.module
            names = [stem, *(f'{stem}.{a.name}' for a in node.names)]
        else: continue
        yield from (n.split('.')[1] for n in names if n.startswith('mlops_kit.'))


def test_imports_point_down():
    "A module imports only modules above it in the library map (or itself, to be one module when run as a script)"
    number = library_map()
    found = {(m, n) for m in number for n in imported(ROOT / f'mlops_kit/{m.replace(".", "/")}.py') if n in number}
    assert not {(m, n) for m, n in found if number[n] >= number[m] and n != m}


def test_run_time_code_needs_no_nbdev():
    "The library imports neither nbdev nor fastcore at run time, but where a verb's work is nbdev's own"
    text = {f.stem: f.read_text(encoding='utf-8') for f in (ROOT / 'mlops_kit').glob('*.py') if f.stem != '_modidx'}
    assert not [m for m, t in text.items() if re.search(r'^(import|from) (nbdev|fastcore|execnb)', t, re.M)]


def targets():
    "The targets that `make` lists"
    return re.findall(r'^make (\S+)  +\S', sh('make', cwd=ROOT).stdout, re.M)


def test_make_lists_every_target():
    "`make` alone says what can be made, a line each"
    phony = re.search(r'^\.PHONY: (.*)', (ROOT / 'Makefile').read_text(), re.M)[1].split()
    assert targets() == phony


def test_old_python_is_told(tmp_path):
    "With a Python that is too old, make says so and what to type"
    (tmp_path / 'old').write_text('#!/bin/sh\nexit 1\n')
    (tmp_path / 'old').chmod(0o755)
    for name in ('Makefile', 'settings.ini', 'setup.py', 'constraints.txt'): (tmp_path / name).write_text((ROOT / name).read_text())
    res = sh(['make', 'test', f'PYTHON={tmp_path}/old'], cwd=tmp_path, ok=False)
    assert res.returncode == 2
    assert 'not Python 3.11 or newer. Name one that is: make PYTHON=python3.11 test' in res.stdout


def test_readme_commands_exist():
    "Each `make` and `mlops-kit` command of the README and CONTRIBUTING is a target or a verb"
    from mlops_kit.cli import app
    text = ''.join((ROOT / f).read_text(encoding='utf-8') for f in ('README.md', 'CONTRIBUTING.md'))
    commands = re.findall(r'^ *(?:\$ )?(make|mlops-kit) ([a-z][\w-]*)|`(?:.venv/bin/)?(make|mlops-kit) ([a-z][\w-]*)', text, re.M)
    used = {(a or c, b or d) for a, b, c, d in commands}
    verbs = {c.name or c.callback.__name__ for c in app.registered_commands} | {g.name for g in app.registered_groups}
    assert used
    assert not used - {('make', t) for t in targets()} - {('mlops-kit', v) for v in verbs}


def test_changelog_has_this_version():
    "Unreleased stands on top, and the version of settings.ini has its dated section"
    heads = re.findall(r'^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$', (ROOT / 'CHANGELOG.md').read_text(), re.M)
    assert heads[0] == ('Unreleased', '')
    assert dict(heads).get(settings()['version'])


def test_workflows_are_clean():
    "The kit's workflows pass actionlint, zizmor and check-jsonschema"
    assert lint_workflows(ROOT / '.github/workflows') == ''


@pytest.mark.parametrize(('break_it', 'says'), [
    (('contents: read', 'contens: read'), 'contens'),
    (('9c091bb21b7c1c1d1991bb908d89e4e9dddfe3e0 # v7.0.0', 'v7'), 'unpinned-uses'),
    (('runs-on:', 'runs_on:'), 'runs_on')], ids=['actionlint', 'zizmor', 'check-jsonschema'])
def test_workflow_linters_bite(tmp_path, break_it, says):
    "Each of the three linters is really run"
    (tmp_path / 'ci.yml').write_text((ROOT / '.github/workflows/ci.yml').read_text().replace(*break_it))
    assert says in lint_workflows(tmp_path)


def test_actions_are_pinned():
    "Every action is pinned by a full commit, with its version beside it"
    uses = [line for f in (ROOT / '.github/workflows').glob('*.yml') for line in re.findall(r'uses: (.*)', f.read_text())]
    assert uses
    assert not [u for u in uses if not re.fullmatch(r'[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+', u)]


def test_dockerfiles_are_clean():
    "The images pass hadolint, run as nobody special, and hold no token"
    images = sorted((ROOT / 'docker').glob('*.Dockerfile'))
    sh([ROOT / '.lint/bin/hadolint', *images])
    for image in images:
        text = image.read_text()
        assert re.findall(r'^USER (.*)', text, re.M) == ['1000']
        assert not re.search(r'^(ENV|ARG).*(TOKEN|PASSWORD|KEY)', text, re.M)


def test_a_missing_service_is_told(monkeypatch):
    "A missing service skips with what to type, and fails where CI promised it"
    monkeypatch.delenv('CI', raising=False)
    with pytest.raises(pytest.skip.Exception, match='nosuchd not installed; type: make services'): service('nosuchd')
    monkeypatch.setenv('CI', '1')
    with pytest.raises(pytest.fail.Exception): service('sh', 'nosuchd')
