"Write the project that the template makes by default, and the lists that tests hold the template to."
import re
import shutil
from hashlib import sha256
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from play import copied, template_of, write

from mlops_kit.check import remake
from mlops_kit.project import settings

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / 'build' / 'example'
FILES, DIGESTS = ROOT / 'tests' / 'files.txt', ROOT / 'tests' / 'example.sha256'
OWN = {'data': 'my.csv', 'target': 'price'}


def choices(question):
    "The answers that a question of copier.yml can have"
    return [*yaml.safe_load((ROOT / 'copier.yml').read_text(encoding='utf-8'))[question]['choices'].values()]


def projects():
    "Each kind of project and the answers that ask for it: the flavours, each with a table of one's own where it can"
    kinds = {f'{task}{" own" * bool(own)}': {'task': task, **own} for task, own in product(choices('task'), ({}, OWN))}
    return {kind: {**answers, 'project': 'example', 'kit_source': settings(ROOT)['version']} for kind, answers in kinds.items()}


def kit(folder):
    "The template as it is, far from git: the quickest source for Copier"
    write(folder, {f: (ROOT / f).read_bytes() for f in [*template_of(ROOT), 'copier.yml']})
    return folder


def smallest_profiles(source, answers):
    "The smallest profile that brings each file; none where the template refuses the answers"
    found = {}
    with TemporaryDirectory() as d:
        for profile in reversed([p for p in choices('profile') if p != 'choose']):
            try: found |= dict.fromkeys(copied(source, Path(d, profile), {**answers, 'profile': profile}), profile)
            except ValueError: return {}
    return found


def file_list(source):
    "tests/files.txt: a line a file, a column a kind of project"
    kinds = {kind: found for kind, answers in projects().items() if (found := smallest_profiles(source, answers))}
    width = max(len(f) for found in kinds.values() for f in found)
    rows = [['', *kinds], *([f, *(found.get(f, '-') for found in kinds.values())] for f in sorted(set().union(*kinds.values())))]
    lines = [' '.join([row[0].ljust(width), *(cell.ljust(12) for cell in row[1:])]).rstrip() for row in rows]
    return '\n'.join(['# The smallest profile that brings a file, for each kind of project. `make example` writes this list.', *lines, ''])


def example(source, dest):
    "The default project, exported, as if it had been made from the release"
    copied(source, dest, projects()[choices('task')[0]])
    answers, cfg = dest / '.copier-answers.yml', settings(ROOT)
    origin = f'_commit: v{cfg["version"]}\n_src_path: {cfg["git_url"]}'
    answers.write_text(re.sub(r'^_src_path: .*', origin, answers.read_text(encoding='utf-8'), flags=re.M), encoding='utf-8')
    remake(dest)
    return dest


def digests(folder):
    "tests/example.sha256: what `sha256sum` says of each file"
    found = sorted(f for f in folder.rglob('*') if f.is_file())
    return ''.join(f'{sha256(f.read_bytes()).hexdigest()}  {f.relative_to(folder).as_posix()}\n' for f in found)


def main():
    "Write all of it"
    shutil.rmtree(HOME, ignore_errors=True)
    with TemporaryDirectory() as d:
        source = kit(Path(d))
        FILES.write_text(file_list(source), encoding='utf-8')
        DIGESTS.write_text(digests(example(source, HOME)), encoding='utf-8')
    for path in HOME, DIGESTS, FILES: print(path.relative_to(ROOT))


if __name__ == '__main__': main()
