"Which files a project has: the list by flavour and profile, the published example, and a stage that is added as CONTRIBUTING says."
import json
import re

import example
import pytest
import yaml
from helpers import illegal
from play import copied, write

ROW = '    audit:    {from: full, chapter: 20_audit, files: [configs/audit], brings: a second opinion, try: {mlops-kit audit: ask}}\n'
SNIPPETS = {
    'dvc.yaml': '  20_audit:\n    cmd: mlops-kit run nbs/20_audit.ipynb\n    deps: [nbs/20_audit.ipynb, {= package =}, models]\n',
    'train.yaml': '  - audit: slow\n', 'ci.yaml': '20_audit:\n  overrides: [audit.rows=10]\n',
    'contributing.md': '**An audit**: ask somebody else.\n\n'}
AFTER = r"""{= (after['20_audit']|to_json(ensure_ascii=False))[1:-1]|replace('\n', line_end) =}"""


def test_file_list_is_true(bare):
    "tests/files.txt says which files a project has; a file that comes or goes shows in its diff"
    assert example.file_list(bare) == example.FILES.read_text(encoding='utf-8'), 'type make example, and look at the diff'


def test_example_is_true(bare, tmp_path):
    "The example is what the template makes now"
    assert example.digests(example.example(bare, tmp_path / 'example')) == example.DIGESTS.read_text(), 'type make example'


def test_projects_are_legal_on_windows():
    "No project has a path that Windows refuses, or two that differ in case only"
    paths = [line.split(' ')[0] for line in example.FILES.read_text(encoding='utf-8').splitlines()[2:]]
    assert not [p for p in paths if any(illegal(part) for part in p.split('/')) or len(p) > 80]
    assert len({p.lower() for p in paths}) == len(paths)


def with_toy(folder):
    "The template with one stage more: its files, a row in the table, and its snippets. No other file is touched"
    cell = {'cell_type': 'markdown', 'id': 'audit', 'metadata': {}, 'source': [f'**Next:** {AFTER}']}
    files = {'nbs/20_audit.ipynb': json.dumps({'cells': [cell], 'metadata': {}, 'nbformat': 4, 'nbformat_minor': 5}, indent=1) + '\n',
             'configs/audit/slow.yaml': 'rows: 1000\n', **{f'stages/audit/{f}': text for f, text in SNIPPETS.items()}}
    questions = (example.ROOT / 'copier.yml').read_text(encoding='utf-8')
    questions = re.sub(r'\n(?=\n# ---- questions)', lambda m: f'\n{ROW}', questions, count=1)
    write(example.kit(folder), {**{f'template/{f}': text for f, text in files.items()}, 'copier.yml': questions})
    return folder


@pytest.fixture(scope='module')
def toy(quick_copier, tmp_path_factory): return with_toy(tmp_path_factory.mktemp('toy'))


def test_there_is_a_line_for_each_path():
    "All that stages own fits in the lines of `_exclude` that wait for it"
    text = (example.ROOT / 'copier.yml').read_text(encoding='utf-8')
    stages = yaml.safe_load(yaml.safe_load(text)['stage_table']['default']).values()
    owned = sum(('chapter' in s) + len(s.get('files', [])) for s in stages if s['from'] != 'minimal')
    assert owned <= len(re.findall(r'"\{= gone\[(\d+)\] =\}"', text))


def made(kit, folder, **answers):
    "A project without its answers file"
    files = copied(kit, folder, {'project': 'toy', 'kit_source': '1.0', **answers})
    return {f: text for f, text in files.items() if f != '.copier-answers.yml'}


def test_a_new_stage_is_off(bare, toy, tmp_path):
    "Where a new stage is not asked for, it changes nothing, byte for byte"
    assert made(toy, tmp_path / 'off') == made(bare, tmp_path / 'before')


@pytest.mark.parametrize('answers', [{'profile': 'full'}, {'profile': 'choose', 'stages': ['audit']}], ids=['full', 'chosen'])
def test_a_new_stage_is_on(bare, toy, tmp_path, answers):
    "A new stage asked for brings its files, and is in each list of the project"
    on = made(toy, tmp_path / 'on', **answers)
    off = made(bare, tmp_path / 'off', **{**answers, 'stages': []} if 'stages' in answers else answers)
    assert on.keys() - off.keys() == {'nbs/20_audit.ipynb', 'configs/audit/slow.yaml'}
    last = sorted(f for f in off if f.startswith(('nbs/0', 'nbs/1')))[-1]
    lists = {'dvc.yaml', 'configs/train.yaml', 'configs/notebooks/ci.yaml', 'CONTRIBUTING.md', 'AGENTS.md', 'README.md', 'nbs/index.ipynb'}
    assert {f for f in off if on[f] != off[f]} == lists | {last}
    assert '[20_audit](20_audit.ipynb): a second opinion.' in on[last]
    assert yaml.safe_load(on['dvc.yaml'])['stages']['20_audit']['deps'][1] == 'toy'
    assert {'audit': 'slow'} in yaml.safe_load(on['configs/train.yaml'])['defaults']
    assert all('mlops-kit audit' in on[f] for f in ('AGENTS.md', 'README.md', 'nbs/index.ipynb'))
