"The usual edits of a project, kept as patches in tests/edits: what each is for, what shows that it works, and what it costs."
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
    "For each file, the lines that went and those that came: of a notebook, lines of its cells, as they look in JupyterLab"
    for part in re.split(r'^diff --git ', diff, flags=re.M)[1:]:
        name, body = re.match(r'a/(\S+)', part)[1], part[part.find('\n@@'):]
        line = r'^{} {{4}}"((?:[^"\\]|\\.)*?)(?:\\n)?",?$' if name.endswith('.ipynb') else r'^{}(.*)$'
        yield name, *(re.findall(line.format(re.escape(sign)), body, re.M) for sign in '-+')


def cost(diff):
    "How many files, and how many lines of them, somebody has to write"
    found = [(len([x for x in old if x not in new]), len([x for x in new if x not in old])) for _, old, new in changed(diff)]
    return len(found), sum(max(pair) for pair in found)
