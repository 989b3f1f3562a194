"`make play` and `make keep`: what is edited in a rendered project arrives in the template, or is refused by name."
import json
import re

import pytest
import yaml
from children import FLAVOURS, OWN, Child, Layer, git
from helpers import ROOT
from play import (
    MADE,
    MARK,
    SENTINELS,
    TRACES,
    Refused,
    copied,
    file_changes,
    host_of,
    keep,
    placeholders,
    split,
    template_of,
    text_of,
    write,
)
from play import render as rendered

pytestmark = pytest.mark.usefixtures('quick_copier')
PLAYED = {**SENTINELS, 'kit_source': '1.0', 'profile': 'full'}
STAGES = yaml.safe_load(yaml.safe_load((ROOT / 'copier.yml').read_text(encoding='utf-8'))['stage_table']['default'])
TRIES = [command for stage in STAGES.values() for command in stage.get('try', {})]
OWNED = {f'own {task}': {'task': task, 'data': 'quokka.csv', 'target': 'price of "Vexworth"'} for task in OWN}
PROJECTS = [pytest.param({**PLAYED, **flavour, 'profile': profile}, id=f'{name}-{profile}')
            for name, flavour in {**FLAVOURS, **OWNED}.items() for profile in ('minimal', 'recommended', 'full')]


def edited(path, text):
    "A file as a busy user leaves it: something new at both ends, and in every cell"
    new = f'# zebra {SENTINELS["package"]}'
    if not path.endswith('.ipynb'): return f'{new}\n{text}{new}\n'
    nb = json.loads(text)
    for c in nb['cells']: c['source'] = ''.join(c['source']) + f'\n{new}'
    nb['cells'].insert(0, {'cell_type': 'markdown', 'id': 'first', 'metadata': {}, 'source': new})
    return json.dumps(nb, indent=1, ensure_ascii=False) + '\n'


def kit_of(folder, files):
    "A template of these files"
    write(folder, {**files, 'copier.yml': (ROOT / 'copier.yml').read_bytes()})
    return folder


@pytest.mark.parametrize('answers', PROJECTS)
def test_what_is_kept_comes_out_again(tmp_path, answers):
    "Render, edit every file, keep: the template now makes that project. Take the edits back: it is the old template, byte for byte"
    sources, made = rendered(ROOT, answers)
    before = {f: text_of(found) for f, found in made.items() if f not in MADE}
    kept = keep(ROOT, (sources, made), answers, {f: edited(f, text) for f, text in before.items()})
    kit = kit_of(tmp_path / 'kit', {**sources, **kept.files})
    after = copied(kit, tmp_path / 'project', answers)
    assert {f: after[f] for f in before} == {f: edited(f, text) for f, text in before.items()}
    assert not kept.losses
    if answers['profile'] == 'full':
        back = keep(kit, rendered(kit, answers), answers, before)
        assert {**sources, **kept.files, **back.files} == sources


@pytest.fixture(scope='module')
def image():
    "The template, and the pieces of a project with all stages"
    return rendered(ROOT, {**PLAYED, 'task': 'image'})


def edit(image, path, old, new):
    "The template's changes for an edit of one file"
    found = image[1][path]
    text = text_of(found)
    assert old in text
    host = host_of(path, found, SENTINELS['package'])
    wanted, losses = file_changes(path, found, text.replace(old, new, 1), placeholders(image[1], SENTINELS['package']), host)
    return {(c.file, c.new.strip()) for c in wanted}, losses


@pytest.mark.parametrize(('path', 'old', 'new', 'file', 'kept'), [
    ('AGENTS.md', '\n| see what ran', '\n| play | `zyx_quokka` |\n| see what ran', 'template/AGENTS.md', '| play | `{= package =}` |'),
    ('configs/train.yaml', '  - debug: null', '  - mine: null\n  - debug: null', 'template/configs/train.yaml', '- mine: null'),
    ('dvc.yaml', 'nbs/03_train.ipynb, ', 'nbs/03_train.ipynb, mine, ', 'template/stages/train/dvc.yaml', ', mine'),
    ('constraints.txt', '\nnumpy==', '\nmine==1\nnumpy==', 'constraints.txt', 'mine==1'),
    ('nbs/index.ipynb', '**Limits.** ', '**Limits.** \\"Zyx Quokka\\" ', 'template/flavours/image/scope.md', '"{= project =}"'),
    ('nbs/02_model.ipynb', '"# Model', '"# Model of Zyx Quokka', 'template/flavours/image/02_model.ipynb',
     'of {= (project|to_json(ensure_ascii=False))[1:-1] =}'),
    ('nbs/03_train.ipynb', '"# Train', '"# Train zyx_quokka.model', 'template/nbs/03_train.ipynb', '{= package =}.model')])
def test_each_edit_finds_its_home(image, path, old, new, file, kept):
    "An edit goes to the file that its place was included from, and answers in it become placeholders"
    assert edit(image, path, old, new) == ({(file, kept)}, [])


@pytest.mark.parametrize(('path', 'old', 'new', 'says'), [
    ('configs/train.yaml', '  - evaluate', '  - mine: null\n  - evaluate', 'train.yaml:10: .*between .*sweep/train.yaml and .*evaluate'),
    ('nbs/03_train.ipynb', 'a search for better', 'a hunt for better', r'03_train.ipynb, cell \d+: .* part of what `\{= \(after'),
    ('nbs/index.ipynb', '**Limits.** ', '**Limits.** "', 'index.ipynb, cell 4: .*end the text'),
    ('AGENTS.md', '# ', '# {= x =} ', r'`\{=` would be taken for a placeholder'),
    ('configs/model/cnn.yaml', 'width:', '# by Quilla Vexworth\n  width:', 'Quilla Vexworth" holds an answer, and no .yaml file shows')])
def test_what_cannot_be_kept_is_refused(image, path, old, new, says):
    "An edit of what placeholders write, or one without a home, is refused by file, line and reason"
    with pytest.raises(Refused, match=says): edit(image, path, old, new)


def test_a_placeholder_is_not_lost_silently(image):
    "A placeholder that goes is named; one that moved is kept without a question"
    _, losses = edit(image, 'settings.ini', 'author = Quilla Vexworth\n', 'maker = 1\nauthor = by Quilla Vexworth\n')
    assert not losses
    _, [loss] = edit(image, 'settings.ini', 'author = Quilla Vexworth\n', 'author = Ada\n')
    assert loss.startswith('settings.ini:10: "Quilla Vexworth" is gone, which `{= user_name')


def test_an_edit_reaches_other_projects(image, tmp_path):
    "What an edit says of its own project, a project with other answers says of itself"
    text = text_of(image[1]['nbs/02_model.ipynb']).replace('"# Model', '"# Zyx Quokka: `zyx_quokka.model`')
    new = {'nbs/02_model.ipynb': text, 'configs/model/rnn.yaml': '_target_: zyx_quokka.model.rnn\n'}
    kept = keep(ROOT, image, {**PLAYED, 'task': 'image'}, new)
    kit = kit_of(tmp_path / 'kit', {**image[0], **kept.files})
    made = copied(kit, tmp_path / 'project', {'project': 'Ink "8"', 'package': 'ink', 'task': 'image'})
    assert '# Ink "8": `ink.model`' in str(json.loads(made['nbs/02_model.ipynb']))
    assert made['configs/model/rnn.yaml'] == '_target_: ink.model.rnn\n'


def test_turns_of_a_loop_are_edited_alike(image):
    "What is written for each stage can be edited in all of its turns; in one of them it is refused, and nothing is kept"
    answers, text = {**PLAYED, 'task': 'image'}, text_of(image[1]['AGENTS.md'])
    rows = [line for line in text.split('\n') if any(f'`{command}`' in line for command in TRIES)]
    assert len(rows) == len(TRIES)
    for row in rows: text = text.replace(row, f'{row} mine |')
    assert '| mine |\n{~ endfor' in keep(ROOT, image, answers, {'AGENTS.md': text}).files['template/AGENTS.md']
    with pytest.raises(Refused, match=r'AGENTS.md:\d+: template/AGENTS.md writes this for each'):
        keep(ROOT, image, answers, {'AGENTS.md': text.replace(' mine |', '', 1)})


def test_files_come_and_go(image):
    "A new file gets a place and a hint, a deleted one is named, and one that several files make is not deleted"
    answers = {**PLAYED, 'task': 'image'}
    new = {'zyx_quokka/by_hand.py': 'import zyx_quokka.data\n', 'configs/model/cnn.yaml': None}
    kept = keep(ROOT, image, answers, new)
    assert kept.files == {'template/{= package =}/by_hand.py': 'import {= package =}.data\n', 'template/configs/model/cnn.yaml': None}
    assert (len(kept.notes), kept.losses) == (1, ['configs/model/cnn.yaml is gone, and so would be template/configs/model/cnn.yaml'])
    with pytest.raises(Refused, match=r'dvc.yaml is gone, but comes from .*template/stages/train/dvc.yaml'):
        keep(ROOT, image, answers, {'dvc.yaml': None})
    with pytest.raises(Refused, match=r'README.md is made from nbs/index.ipynb'): keep(ROOT, image, answers, {'README.md': 'mine'})


def test_sentinels_are_unmistakable():
    "Each free text that is asked has a sentinel, a sentinel stands nowhere in the template, and each holds a trace of its own"
    questions = yaml.safe_load((ROOT / 'copier.yml').read_text(encoding='utf-8'))
    asked = {k: q for k, q in questions.items() if isinstance(q, dict) and q.get('ask') is not False and 'when' not in q}
    assert {k for k, q in asked.items() if q.get('type') == 'str' and 'choices' not in q} <= SENTINELS.keys()
    assert not [f for f, text in template_of(ROOT).items() if isinstance(text, str) and (TRACES.search(text) or MARK.search(text))]
    assert all(TRACES.search(s) for s in SENTINELS.values())


@pytest.mark.parametrize('name', [f for f in template_of(ROOT) if f.endswith('.ipynb')])
def test_notebooks_are_written_as_jupyter_does(name):
    "Taking the lines of a cell in one string and apart again gives the same bytes"
    assert split(template_of(ROOT)[name]) == (ROOT / name).read_text(encoding='utf-8')


def played(kit, env, *words, ok=True):
    "What `make play` or `make keep` of that clone says"
    return env.run('python', '.ci/play.py', *words, cwd=kit, ok=ok).stdout


@pytest.mark.soak
@pytest.mark.xdist_group('image')
def test_the_whole_loop(kit, project_env, tmp_path):
    "Play, edit and run a chapter as a user does, keep: the template has the edit without outputs; what would be lost is asked for"
    clone, env = tmp_path / 'kit', Layer(project_env, tmp_path / 'env')
    git(tmp_path, 'clone', '-q', kit, clone)
    assert 'make keep FLAVOUR=image' in played(clone, env, 'play', 'image')
    project = Child(clone / 'build/play/image', env)
    chapter = project.path / 'nbs/00_data.ipynb'
    chapter.write_text(chapter.read_text().replace('"# ', '"# Zyx Quokka: ', 1))
    project.run('jupyter', 'execute', '--inplace', chapter)
    assert 'wrote template/flavours/image/00_data.ipynb' in played(clone, env, 'keep')
    [_, new] = [line for line in git(clone, 'diff', '-U0').splitlines() if re.match('[+-] ', line)]
    assert new.startswith('+    "# {= (project|to_json(ensure_ascii=False))[1:-1] =}: ')
    assert 'nothing to keep' in played(clone, env, 'keep', 'image')
    (project.path / 'configs/model/cnn.yaml').unlink()
    assert 'make keep YES=1' in played(clone, env, 'keep', ok=False)
    assert 'deleted template/configs/model/cnn.yaml' in played(clone, env, 'keep', '--yes')
