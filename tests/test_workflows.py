"The workflows of a project with every stage: clean, and their steps do what they say, with the outside world played by small scripts."
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from children import commit_all, render
from helpers import lint_workflows, sh
from runner import Job

from mlops_kit.stages import undeclared

PLAYED = '''#!/bin/sh
echo "$(basename "$0") $*" >> "$PLAYED/log"
[ -f newest.txt ] && cp newest.txt "$PLAYED/"
[ "$2" = list ] && cat "$PLAYED/answer"
exit 0
'''


@pytest.fixture(scope='module')
def full(kit, tmp_path_factory):
    "A project with every stage, in git"
    return commit_all(render(kit, tmp_path_factory.mktemp('full') / 'shop', profile='full', project='Shop'))


@pytest.fixture
def played(tmp_path):
    "A folder of programs that only write down how they were called, and what is in its log"
    for name in ('gh', 'pip'):
        (tmp_path / name).write_text(PLAYED)
        (tmp_path / name).chmod(0o755)
    (tmp_path / 'answer').touch()
    return tmp_path


def steps(project, name, job, played, **variables):
    "Run a job; it, and what the played programs wrote down"
    path = os.pathsep.join([str(played), str(Path(sys.executable).parent), os.environ['PATH']])
    env = {'PATH': path, 'PLAYED': str(played), 'PIP_NO_BUILD_ISOLATION': 'false', **variables}
    done = Job(project / f'.github/workflows/{name}.yml', job, project, played / 'runner', env)
    return done, (played / 'log').read_text() if (played / 'log').exists() else ''


def test_workflows_are_clean(full):
    "The workflows of every stage pass actionlint, zizmor and check-jsonschema"
    assert {f.stem for f in (full / '.github/workflows').glob('*.yml')} >= {'ci', 'release', 'scheduled'}
    assert lint_workflows(full / '.github/workflows') == ''


def test_stages_are_in_step(full):
    "With every stage, dvc.yaml says what each chapter reads and makes"
    assert undeclared(full) == []


@pytest.fixture
def tagged(full, tmp_path):
    "The project with a section for 0.1.0, and one for the time before"
    shutil.copytree(full, tmp_path / 'shop')
    log = tmp_path / 'shop/CHANGELOG.md'
    sections = '## [0.1.0] - 2026-12-24\n\n- It reads digits.\n', '## [0.0.1] - 2026-12-01\n\n- Nothing.\n'
    log.write_text('\n'.join([log.read_text(encoding='utf-8'), *sections]))
    return tmp_path / 'shop'


def test_release(tagged, played):
    "A tag makes a release of its version, with the section of the changelog that has its name"
    (played / 'pip').unlink()
    done, log = steps(tagged, 'release', 'release', played, GITHUB_REF_NAME='v0.1.0')
    assert done.result == 'success', done.said
    assert log.startswith('gh release create v0.1.0 dist/shop-0.1.0-py3-none-any.whl --verify-tag')
    assert (tagged / 'build/notes.md').read_text(encoding='utf-8').strip() == '- It reads digits.'


@pytest.mark.parametrize(('tag', 'reason'), [('v0.1.1', 'another version'), ('v0.1', 'another version'), ('v0.1.0', 'nothing below')])
def test_wrong_tag(full, tagged, played, tag, reason):
    "A tag that is not the version, or has no section, releases nothing"
    done, log = steps(full if 'nothing' in reason else tagged, 'release', 'release', played, GITHUB_REF_NAME=tag)
    assert (done.result, log) == ('failure', '')
    assert re.search(f'^::error file=.*{reason}', done.said, re.M)


def test_newest_libraries(full, played):
    "The canary installs what requirements.txt asks for, without the lock"
    shutil.copy(played / 'pip', played / 'mlops-kit')
    done, log = steps(full, 'scheduled', 'newest', played)
    assert done.result == 'success', done.said
    assert [line.split()[0] for line in (played / 'newest.txt').read_text().splitlines()] == ['mlops-kit[project,registry,serve]', '-e']
    assert log.splitlines()[0] == 'pip install -r newest.txt'
    assert log.splitlines()[2:] == ['mlops-kit check', 'mlops-kit run nbs --set ci --html build/ci/report.html']


def test_site(full, played):
    "Every merge runs the chapters, and makes the site of them that is published"
    real = Path(sys.executable).with_name('mlops-kit')
    (played / 'mlops-kit').write_text(f'{PLAYED[: PLAYED.index("[")]}[ "$1" = docs ] && exec {real} "$@"\nexit 0\n')
    (played / 'mlops-kit').chmod(0o755)
    done, log = steps(full, 'docs', 'build', played)
    assert done.result == 'success', done.said
    assert log.splitlines()[1:] == ['mlops-kit run nbs', 'mlops-kit docs']
    assert {'index.html', '03_train.html'} <= {f.name for f in (full / '_docs').glob('*.html')}


@pytest.mark.parametrize(('open_issue', 'word'), [('', 'create --title The scheduled run failed'), ('12', 'comment 12')])
def test_one_issue(full, played, open_issue, word):
    "A scheduled run that fails opens an issue, or adds to the one that is open"
    (played / 'answer').write_text(open_issue)
    done, log = steps(full, 'scheduled', 'tell', played, FRESH='failure', NEWEST='success', RUN='https://example.com/1')
    assert done.result == 'success', done.said
    assert f'gh issue {word} --body Fresh data: failure. Newest libraries: success. https://example.com/1' in log


ASKED = {'schedule': ({}, 'auto'), 'push': ({}, 'code'),
         'workflow_dispatch': ({'inputs': {'reason': 'manual', 'why': 'a new sensor'}}, 'manual'),
         'repository_dispatch': ({'event': {'action': 'drift', 'client_payload': {'why': 'temp since Monday'}}}, 'drift')}


@pytest.mark.parametrize('event', ASKED)
def test_retrain(full, played, event):
    "Whoever asks is passed on as the reason; a refusal fails the job and stands in its summary, and packages are kept all the same"
    for name in ('dvc', 'mlops-kit'): (played / name).write_text(PLAYED.replace('exit 0', f'echo refused; exit {int(name != "dvc")}'))
    for name in ('dvc', 'mlops-kit'): (played / name).chmod(0o755)
    more, reason = ASKED[event]
    path = os.pathsep.join([str(played), os.environ['PATH']])
    env = {'PATH': path, 'PLAYED': str(played), 'GITHUB_STEP_SUMMARY': str(played / 'summary'), 'MLFLOW_REGISTRY_URI': 'http://models'}
    context = {'github': {'event_name': event, **{k: v for k, v in more.items() if k == 'event'}}, 'inputs': more.get('inputs', {})}
    done = Job(full / '.github/workflows/retrain.yml', 'retrain', full, played / 'runner', env, **context)
    why = more.get('inputs', more.get('event', {}).get('client_payload', {})).get('why', '')
    assert f'mlops-kit retrain --reason {reason} --why {why}\n' in (played / 'log').read_text()
    assert (done.result, done.steps['Keep the packages']) == ('failure', 'success'), done.said
    assert 'refused' in (played / 'summary').read_text()


def test_precommit(full):
    "The hook runs for files that `check` looks at, and its command is one of ours"
    [hook] = yaml.safe_load((full / '.pre-commit-config.yaml').read_text())['repos'][0]['hooks']
    names = sh('git ls-files nbs configs settings.ini README.md', cwd=full).stdout.split()
    assert [n for n in names if not re.search(hook['files'], n)] == []
    assert hook['entry'].startswith('mlops-kit check')
    assert hook['entry'].split()[-1] in sh([Path(sys.executable).with_name('mlops-kit'), 'check', '--help'], env={'NO_COLOR': '1'}).stdout
