"The usual edits of a project, kept as patches in tests/edits: what each is for, what shows that it works, and what it costs."
import json
import re
from collections import namedtuple
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / 'tests' / 'edits'
Edit = namedtuple('Edit', 'title project types shows diff')  # `types`: commands after the patch; the last of them prints `shows`


def read(path):
    "A patch: a title, a line each for project, commands and what they show, an empty line, the diff"
    head, _, diff = path.read_text(encoding='utf-8').partition('\n\n')
    title, *lines = head.splitlines()
    said = [line.split(': ', 1) for line in lines]
    one = dict(said)
    return Edit(title, one['Project'], [v for k, v in said if k == 'Type'], one['Shows'].strip(), diff)


def edits(): return {f.stem: read(f) for f in sorted(FOLDER.glob('*.patch'))}


def changed(diff):
    "For each file its lines that went (`-`) and came (`+`), in order: of a notebook, lines of its cells, as they look in JupyterLab"
    for part in re.split(r'^diff --git ', diff, flags=re.M)[1:]:
        name, body = re.match(r'a/(\S+)', part)[1], part[part.find('\n@@'):]
        lines = re.findall(r'^([-+]) {4}("(?:[^"\\]|\\.)*"),?$' if name.endswith('.ipynb') else r'^([-+])(.*)$', body, re.M)
        if name.endswith('.ipynb'): lines = [(sign, json.loads(line).removesuffix('\n')) for sign, line in lines]
        yield name, [(sign, line) for sign, line in lines if ('-+'.replace(sign, ''), line) not in lines]


def cost(diff):
    "How many files, and how many lines of them, somebody has to write"
    signs = [[sign for sign, _ in lines] for _, lines in changed(diff)]
    return len(signs), sum(max(s.count('-'), s.count('+')) for s in signs)
