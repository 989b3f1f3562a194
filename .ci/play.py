"Render a project to edit as its user would, and carry the edits back into the template: `make play`, `make keep`."
import argparse
import difflib
import json
import os
import re
import shutil
import subprocess
import sys
from bisect import bisect_right
from collections import Counter, defaultdict, namedtuple
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory

import jinja2
import nbformat
import yaml
from readme import template_readme

from mlops_kit.project import InputError, MachineError

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / 'build' / 'play'

# Answers that stand nowhere in the template, so that each is found again wherever a user wrote it.
SENTINELS = {'project': 'Zyx Quokka', 'package': 'zyx_quokka', 'description': 'Tells quokkas from wallabies at dusk.',
             'user_name': 'Quilla Vexworth', 'user_email': 'quilla@vexworth.example', 'github_user': 'QuillaVex'}
TRACES = re.compile('quokka|vexworth|quilla', re.I)
MADE = {'README.md', '.copier-answers.yml'}  # by tools, from what else is there


class Refused(Exception):
    "Edits that cannot be carried back, a sentence each"


# ---- marks: which character of a rendered file comes from where ----
# Each literal of a template file and each `{= =}` gets a character of its own before it and END behind it, in a copy of the template.
# Copier renders the copy, marks and all, so loops, includes and filters need not be understood: what stands between two marks says
# where it comes from. Each file begins and ends with an empty piece, to which new lines can belong. Notebooks are taken with the
# lines of a cell in one string, as filters write them.
Mark = namedtuple('Mark', 'file start stop kind')
Piece = namedtuple('Piece', 'text file start stop kind source')  # kind: text as it stands, `cell` when escaped for JSON, or `slot`
FIRST, LAST, END = 0xF0000, 0xFFFFD, '\U0010FFFD'
MARK = re.compile(f'([{chr(FIRST)}-{chr(LAST)}{END}])')


def joined(text): return text.replace('\\n",\n    "', '\\n')


def split(text): return re.sub(r'\\n(?!")|\\.', lambda m: m[0] + ('",\n    "' if m[0] == '\\n' else ''), text)


def unescaped(text): return json.loads(f'"{text}"')


def parts(text, lexer):
    "Where each literal (`text`), `{= =}` (`slot`) and `tag` of a template begins and ends; blanks that a `-` removes are in none"
    at, begun = 0, None
    yield 0, 0, 'text'
    for _, token, value in lexer.tokeniter(text, None):
        start = text.index(value, at)
        at = start + len(value)
        if token == 'variable_begin': begun = start
        elif token == 'variable_end':
            yield begun, at, 'slot'
            begun = None
        elif begun is None: yield start, at, 'text' if token == 'data' else 'tag'


def marked(text, file, lexer, marks):
    "The template with marks; the last line end stays outside, since a template strips it from what it includes in a cell"
    out, body = [], text.removesuffix('\n')
    for start, stop, kind in [*parts(text, lexer), (len(body), len(body), 'text')]:
        if kind == 'tag': out.append(text[start:stop])
        elif start <= len(body):
            stop = min(stop, len(body))
            out += chr(FIRST + len(marks)), text[start:stop], END
            marks.append(Mark(file, start, stop, kind))
    return ''.join([*out, text[len(body):]])


def pieces(text, marks, sources, notebook):
    "A rendered file, cut where its origin changes"
    found, inside, last = [], [], None
    for part in filter(None, MARK.split(text)):
        escaped = notebook and len(inside) > 1
        if part == END:
            last, before = inside.pop()
            if len(found) == before: found.append(piece('', last, sources, escaped))
        elif MARK.fullmatch(part): inside.append((marks[ord(part) - FIRST], len(found)))
        elif inside: found.append(piece(part, inside[-1][0], sources, escaped))
        else: found.append(Piece(part, last.file, last.stop, last.stop + len(part), 'text', part))
    return found


def piece(text, mark, sources, escaped):
    "What a mark stands for; a literal that a filter has changed can only be edited where it stands"
    source, kind = sources[mark.file][mark.start:mark.stop], mark.kind
    if kind == 'text' and escaped: kind = 'cell' if unescaped(text) == source else 'slot'
    elif text != source: kind = 'slot'
    return Piece(text, *mark[:3], kind, source)


def readable(path):
    "The text of a file, or its bytes when it is none"
    try: text = path.read_text(encoding='utf-8')
    except UnicodeDecodeError: return path.read_bytes()
    return joined(text) if path.suffix == '.ipynb' else text


def template_of(root):
    "The files that Copier renders or includes"
    files = {f.relative_to(root).as_posix(): readable(f) for f in sorted((root / 'template').rglob('*')) if f.is_file()}
    included = {name for text in files.values() if isinstance(text, str) for name in re.findall(r"include '([^']+)' ~\}", text)}
    return files | {name: readable(root / name) for name in sorted(included - files.keys())}


def write(folder, files):
    "Files by path, from texts or bytes"
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)


def copied(root, dest, answers):
    "What Copier makes of the template at `root`"
    from copier import run_copy
    run_copy(str(root), dest, data=answers, defaults=True, quiet=True)
    return {f.relative_to(dest).as_posix(): readable(f) for f in sorted(Path(dest).rglob('*')) if f.is_file()}


def render(root, answers):
    "The template's files, and those of a project with these answers: a list of pieces each, or bytes"
    questions = (root / 'copier.yml').read_text(encoding='utf-8')
    lexer, sources, marks = jinja2.Environment(**yaml.safe_load(questions)['_envops']).lexer, template_of(root), []
    drafts = {f: marked(t, f, lexer, marks) if isinstance(t, str) else t for f, t in sources.items()}
    with TemporaryDirectory() as d:
        write(Path(d, 'kit'), {**drafts, 'copier.yml': questions})
        made = copied(Path(d, 'kit'), Path(d, 'project'), answers)
    return sources, {f: pieces(t, marks, sources, f.endswith('.ipynb')) if isinstance(t, str) else t for f, t in made.items()}


# ---- edits: what a user changed in a rendered file, as changes of template files ----
Edit = namedtuple('Edit', 'start stop new at')  # a stretch of the rendered file, what came in its place, and where that stands now
Change = namedtuple('Change', 'file start stop new')  # the same for a file of the template


def text_of(found): return ''.join(p.text for p in found)


def lines(text): return [line for line in re.findall(r'(?:\\[^n]|[^\\\n])*(?:\\n|\n|\\?\Z)', text) if line]


def words(text, whole=()): return re.findall('|'.join([*map(re.escape, whole), r'\\.', r'\w+', r'[^\S\n]+', r'[\s\S]']), text)


def differing(old, new):
    "The stretches in which two lists of strings differ, in characters"
    ends = [[0, *accumulate(map(len, part))] for part in (old, new)]
    for tag, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != 'equal': yield ends[0][i], ends[0][j], ends[1][k], ends[1][m]


def edits(found, edited):
    "The edits between a rendered file and the edited one: by lines first, then by words, where a slot is one word"
    text, starts = text_of(found), [*accumulate((len(p.text) for p in found), initial=0)]
    for a, b, c, d in differing(lines(text), lines(edited)):
        old = [(p, p.text[i:j]) for p, i, j in overlapped(found, a, b)]
        slots = sorted({text for p, text in old if p.kind == 'slot'}, key=len, reverse=True)
        old = [word for p, text in old for word in ([text] if p.kind == 'slot' else words(text))]
        for i, j, k, m in differing(old, words(edited[c:d], slots)):
            yield early(text, Edit(a + i, a + j, edited[c + k:c + m], c + k), starts[bisect_right(starts, a + i) - 1])


def early(text, edit, floor):
    "Of the ways to say what came or went, the first in its piece: so the same is said of each turn of a loop"
    start, stop, new, at = edit
    while start - 1 > floor and (start == stop or not new) and text[start - 1] == (new or text[:stop])[-1]:
        start, stop, new, at = start - 1, stop - 1, new[-1:] + new[:-1], at - 1
    return Edit(start, stop, new, at)


def overlapped(found, start, stop):
    "The pieces that a stretch goes through, and which part of each"
    at = 0
    for p in found:
        i, j = max(start - at, 0), min(stop - at, len(p.text))
        if i < j: yield p, i, j
        at += len(p.text)


def within(p, offset):
    "Where in the template's file a place in a piece is"
    if p.kind == 'slot': return p.stop if offset else p.start
    return p.start + (len(unescaped(p.text[:offset])) if p.kind == 'cell' else offset)


def spot(found, at, host):
    "The piece that something new belongs to, and the place in it; the file's own text goes before what it includes"
    start, times, near = 0, Counter(p[1:4] for p in found), []
    for p in found:
        if start <= at <= start + len(p.text): near.append((p, at - start))
        start += len(p.text)
    p, offset = min(near, key=lambda n: (n[0].kind != 'cell', times[n[0][1:4]] > 1, n[0].file != host, n[0].kind == 'slot'))
    if p.kind == 'slot' and 0 < offset < len(p.text): raise Refused(f'is inside of what `{p.source}` writes in {p.file}')
    if p.file != host and p.kind != 'cell' and (others := {q.file for q, _ in near} - {p.file}):
        raise Refused(f'stands between what comes from {p.file} and {", ".join(others)}; write it into one of them')
    return p, offset


def carried(found, edit, host):
    "An edit of a rendered file as changes of the template, and the slots that it removes"
    gone = [*overlapped(found, edit.start, edit.stop)]
    for p, i, j in gone:
        if p.kind == 'slot' and j - i < len(p.text): raise Refused(f'is a part of what `{p.source}` writes in {p.file}')
    p, offset = (gone[0][:2] if gone else spot(found, edit.start, host))
    new = edit.new if p.kind != 'cell' else unescaped(edit.new)
    out = [Change(p.file, within(p, i), within(p, j), '') for p, i, j in gone[bool(edit.new):]]
    if edit.new: out.append(Change(p.file, within(p, offset), within(p, gone[0][2]) if gone else within(p, offset), new))
    return out, [p for p, _, _ in gone if p.kind == 'slot']


def place(path, text, at):
    "Where in a file that is, for a person"
    if path.endswith('.ipynb'): return f'{path}, cell {text.count(CELL, 0, at)}'
    return f'{path}:{text.count(chr(10), 0, at) + 1}'


# ---- keep: the edits of a whole project ----
Kept = namedtuple('Kept', 'files notes losses')
CELL = '"cell_type": '


def placeholders(made, package):
    "How each kind of file writes an answer: {suffix: {as rendered: as in the template}}"
    slots = [p for found in made.values() if isinstance(found, list) for p in found if p.kind == 'slot' and TRACES.search(p.text)]
    seen = Counter((Path(p.file).suffix, p.text, p.source) for p in slots)
    known = defaultdict(lambda: {package: '{= package =}'})
    for (suffix, text, slot), _ in reversed(seen.most_common()): known[suffix][text] = slot
    return known


def generalised(text, file, known):
    "New text of a template file: answers become placeholders again"
    if found := re.search(rf'\{{[=~;]|{MARK.pattern}', text): raise Refused(f'`{found[0]}` would be taken for a placeholder')
    for value, slot in sorted(known[Path(file).suffix].items(), key=lambda pair: -len(pair[0])): text = text.replace(value, slot)
    if found := re.search(rf'.*({TRACES.pattern}).*', re.sub(r'\{=.*?=\}', '', text), re.I):
        raise Refused(f'"{found[0].strip()}" holds an answer, and no {Path(file).suffix} file shows how to write it; edit {file} itself')
    return text


def host_of(path, found, package):
    "The template file that a file of the project comes from: the one of its name, unless all that does is include another"
    host = 'template/' + re.sub(rf'^{package}(?=/)', '{= package =}', path)
    files = {p.file for p in found if p.text.strip()} if isinstance(found, list) else {host}
    return host if host in files or len(files) != 1 else files.pop()


def file_changes(path, found, edited, known, host):
    "The changes that the edits of one file ask for, and a sentence for each placeholder that would be gone"
    out, gone, losses = set(), [], []
    for edit in edits(found, edited):
        where = place(path, edited, edit.at)
        try: asked, slots = carried(found, edit, host)
        except Refused as e: raise Refused(f'{where}: what was edited {e}') from e
        except ValueError: raise Refused(f'{where}: what was edited would end the text of a cell') from None
        out |= {c._replace(new=generalised(c.new, c.file, known)) for c in asked}
        gone += [(p, where) for p in slots]
    came = ''.join(c.new for c in out)
    for p, where in gone:
        if p.source in came: came = came.replace(p.source, '', 1)
        else: losses.append(f'{where}: "{p.text.strip()}" is gone, which `{p.source}` writes in {p.file}')
    return out, losses


def removed(found, host):
    "The template file of a file that was deleted"
    files = {p.file for p in found} if isinstance(found, list) else {host}
    if len(files) > 1: raise Refused(f'is gone, but comes from {", ".join(sorted(files))}; take out of these what should go')
    return host


def changed(text, wanted):
    "A text with all changes"
    for c in sorted(wanted, key=lambda c: (c.start, c.stop), reverse=True): text = text[:c.start] + c.new + text[c.stop:]
    return text


def keep(root, rendered, answers, edited):
    "The template files that make a project come out as `edited` ({path: text, bytes, or None if it is gone}), or why there are none"
    sources, made = rendered
    known, wanted = placeholders(made, answers['package']), defaultdict(set)
    files, notes, losses, refused = {}, [], [], []
    for path, new in edited.items():
        found = made.get(path)
        host = host_of(path, found, answers['package'])
        try:
            if path in MADE: continue
            if found is None: files[host] = generalised(new, host, known) if isinstance(new, str) else new
            elif new is None: files[removed(found, host)] = None
            elif isinstance(new, bytes) or isinstance(found, bytes): files[host] = new
            else:
                asked, lost = file_changes(path, found, new, known, host)
                losses += lost
                for c in asked: wanted[c.file].add(c)
        except Refused as e: refused.append(str(e) if str(e).startswith(path) else f'{path} {e}')
        if found is None: notes.append(f'{path} is new: every project has it, unless copier.yml gives it to a stage (`files`)')
        elif new is None: losses.append(f'{path} is gone, and so would be {host}')
    files |= {f: changed(sources[f], found) for f, found in wanted.items()}
    refused = refused or [*mistakes(root, answers, edited, {**sources, **files})]
    if refused: raise Refused('\n'.join(refused))
    return Kept(files, notes, losses)


def mistakes(root, answers, edited, files):
    "Render the changed template, and say where the project does not come out as edited"
    with TemporaryDirectory() as d:
        write(Path(d), {f: t for f, t in files.items() if t is not None} | {'copier.yml': (root / 'copier.yml').read_bytes()})
        write(Path(d), {'template/README.md': template_readme(Path(d))})
        try: _, made = render(Path(d), answers)
        except Exception as e: return [f'the template would not render any more: {e}']
    return [said for path, new in edited.items() if (said := mistake(path, new, made.get(path)))]


def mistake(path, new, found):
    "How a file that comes out differs from the edited one, or None"
    made = text_of(found) if isinstance(found, list) else found
    if made == new: return None
    if path in MADE: return f'{path} is made from nbs/index.ipynb and your answers: edit those, and type mlops-kit check --fix'
    if not isinstance(made, str) or not isinstance(new, str): return f'{path} would not come out as it is'
    start, stop, at, _ = next(differing(lines(made), lines(new)))
    origin = next((p.file for p, _, _ in overlapped(found, start, max(stop, start + 1))), 'the template')
    return f'{place(path, new, at)}: {origin} writes this for each of several things, which were not edited alike; edit it there'


# ---- the two commands ----
def git(folder, *args):
    "What git says, as bytes"
    done = subprocess.run(['git', *args], cwd=folder, capture_output=True)
    if done.returncode: raise Refused(f'git {args[0]} in {folder}: {done.stderr.decode().strip()}')
    return done.stdout


def names(folder, *args): return [name for name in git(folder, *args).decode().split('\0') if name]


def cleaned(path, data, allowed=('tags',)):
    "A file as the template holds it: text where it is text, notebooks without outputs"
    try: text = data.decode()
    except UnicodeDecodeError: return data
    if not path.endswith('.ipynb') or not text: return text
    from nbdev.clean import clean_nb
    try: _, nb = nbformat.validator.normalize(nbformat.reads(text, 4))
    except Exception as e: raise Refused(f'{path} is no notebook: {e}') from e
    clean_nb(nb, allowed_cell_metadata_keys=allowed)
    for c in nb.cells:
        if c.cell_type == 'code': c.outputs = []
    return joined(nbformat.writes(nb) + '\n')


def merged(path, edited, old, new):
    "The edits on top of what the template has become since `make play`"
    with TemporaryDirectory() as d:
        write(Path(d), {'edited': edited, 'old': old, 'new': new})
        done = subprocess.run(['git', 'merge-file', '-p', 'edited', 'old', 'new'], cwd=d, capture_output=True)
    if done.returncode: raise Refused(f'{path} was edited where the template has changed since; edit template/ itself')
    return done.stdout.decode()


def edited_files(project, made):
    "What the user changed since `make play`, and which files are left out: not in git, or none of the template's"
    changed = names(project, 'diff', '--name-only', '--no-renames', '-z', 'play')
    started = names(project, 'ls-tree', '-r', '--name-only', '-z', 'play')
    left, out = names(project, 'ls-files', '--others', '--exclude-standard', '-z'), {}
    for name in changed:
        data = (project / name).read_bytes() if (project / name).is_file() else None
        old = git(project, 'show', f'play:{name}') if name in started else b''
        exported = b'AUTOGENERATED!' in old + (data or b'')
        if name not in made and (exported or name in started): left += [] if exported else [name]
        elif data is None: out[name] = None
        elif (new := cleaned(name, data)) != (was := cleaned(name, old)):
            now = text_of(made[name]) if isinstance(made.get(name), list) else was
            if now != was: new = merged(name, new, was, now)
            if new != now or name not in made: out[name] = new
    return out, left


def answers_of(project):
    "What a project was rendered with"
    found = yaml.safe_load((project / '.copier-answers.yml').read_text(encoding='utf-8'))
    return {k: v for k, v in found.items() if not k.startswith('_')}


def play(flavour, profile, more):
    "Render a project into build/play, installed beside the kit"
    from mlops_kit.scaffold import new
    project = HOME / flavour
    if project.exists() and any(edited_files(project, render(ROOT, answers_of(project))[1])):
        raise Refused(f'build/play/{flavour} has edits that nobody kept: make keep FLAVOUR={flavour}, or delete that folder')
    shutil.rmtree(project, ignore_errors=True)
    package = f'{SENTINELS["package"]}_{flavour}'
    given = {**SENTINELS, 'package': package, 'task': flavour, 'profile': profile, 'kit_source': str(ROOT)}
    new(project, given, source=str(ROOT), defaults=True, **more)
    git(project, 'tag', 'play')
    subprocess.run([sys.executable, '-m', 'pip', 'install', '-qq', '--no-deps', '-e', str(project)], check=True)
    lab = os.path.relpath(Path(sys.executable).parent / 'mlops-kit', project)
    print(f'edit it as its user would:\n  cd {project.relative_to(ROOT)} && {lab} lab')
    print(f'then carry the edits back:\n  make keep FLAVOUR={flavour}')


def carry_back(project, yes):
    "Write the edits of a project into the template, after asking about what would be lost"
    answers = answers_of(project)
    rendered = render(ROOT, answers)
    edited, left = edited_files(project, rendered[1])
    if left: print(f'left out, as not in git (git add what the template should have) or none of its files: {", ".join(left)}')
    if not edited: return print(f'{project.relative_to(ROOT)}: nothing to keep')
    kept = keep(ROOT, rendered, answers, edited)
    if kept.losses: agree(kept.losses, yes)
    for file, text in kept.files.items():
        if text is None: (ROOT / file).unlink()
        else: write(ROOT, {file: split(text) if file.endswith('.ipynb') else text})
        print(f'{"deleted" if text is None else "wrote"} {file}')
    write(ROOT, {'template/README.md': template_readme()})
    git(project, '-c', 'user.name=play', '-c', 'user.email=play@example.com', 'commit', '-q', '-a', '--allow-empty', '-m', 'Kept')
    git(project, 'tag', '-f', 'play')
    for note in kept.notes: print(note)


def agree(losses, yes):
    "Name what would be lost, and go on only if that is meant"
    print('\n'.join(losses))
    if not yes and not (sys.stdin.isatty() and input('Take it out of the template? [y/N] ').strip().lower() in ('y', 'yes')):
        raise Refused('put it back in the project; or, if it should go, make keep YES=1')


def main():
    "Play or keep"
    choices = [*yaml.safe_load((ROOT / 'copier.yml').read_text(encoding='utf-8'))['task']['choices'].values()]
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument('verb', choices=['play', 'keep'])
    args.add_argument('flavour', nargs='?', choices=choices)
    args.add_argument('--profile', default='full')
    args.add_argument('--data', help='a table of your own, with --target')
    args.add_argument('--target')
    args.add_argument('--yes', action='store_true', help='take out of the template what was deleted')
    args = args.parse_args()
    try:
        if args.verb == 'play': return play(args.flavour or choices[0], args.profile, {'data': args.data, 'target': args.target})
        projects = [HOME / args.flavour] if args.flavour else sorted(f.parent for f in HOME.glob('*/.copier-answers.yml'))
        if missing := [p for p in projects or [HOME / choices[0]] if not p.exists()]:
            raise Refused(f'no {missing[0].relative_to(ROOT)}: type make play FLAVOUR={missing[0].name} first')
        for project in projects: carry_back(project, args.yes)
    except (Refused, InputError, MachineError) as e: sys.exit(f'{e}\nNothing was kept.' if args.verb == 'keep' else str(e))


if __name__ == '__main__': main()
