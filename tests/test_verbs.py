"Every verb of the command: its help, its example, and options that mean the same wherever they stand."
import inspect
import re
import shlex

import pytest
import typer
from typer.testing import CliRunner

from mlops_kit.cli import app

ROOT = typer.main.get_command(app)
TWO_MEANINGS = {  # an option of this name takes different things, and why that is no trap
    '--why': 'asks `run` for its reason, and gives the history one', '--force': 'overrules: `models promote` asks for a reason',
    '--registry': 'serving knows no environments of configs/env', '--from': 'where it comes from: a template, or an environment',
    '--out': 'where the result goes: a file, or a folder', '-o': 'the same', '--to': 'where a version goes: an alias, or an environment'}


def verbs(command=ROOT, name=''):
    "Each verb with the words that lead to it"
    if not hasattr(command, 'commands'): return {name: command}
    return {k: v for n, c in command.commands.items() for k, v in verbs(c, f'{name} {n}'.strip()).items()}


VERBS = verbs()
EVERY = [(verb, p) for verb, c in VERBS.items() for p in c.params]


@pytest.mark.parametrize('verb', VERBS)
def test_example_can_be_typed(verb):
    "Help is one line and ends with an example, whose words are taken by the verb as it is"
    command = VERBS[verb]
    assert command.help, verb
    assert '\n' not in command.help
    assert command.epilog.startswith(f'Example: mlops-kit {verb}')
    words = shlex.split(command.epilog.removeprefix(f'Example: mlops-kit {verb}').partition('>>')[0])
    command.make_context(verb, words)


def test_every_option_is_explained():
    "Each option and argument has a help that begins like a sentence, and a value that is no number says what it is"
    assert not [(v, p.name) for v, p in EVERY if not p.help]
    assert not [(v, p.name) for v, p in EVERY if p.help.split()[0] in ('the', 'a', 'by')]


def test_help_is_said_as_it_is_typed():
    "What may be left out stands in one pair of brackets, what may not in none, and an option without a value has no type"
    said = {v: CliRunner().invoke(app, [*v.split(), '--help'], prog_name='mlops-kit', env={'COLUMNS': '200'}).output for v in VERBS}
    assert len(said) > 40
    assert not [v for v, text in said.items() if '<bool>' in text]
    usage = {v: re.search(rf'Usage: mlops-kit {v} (.*?)\s*\n', text)[1] for v, text in said.items()}
    assert not [u for u in usage.values() if '[[' in u or '{' in u]
    assert (usage['new'], usage['runs show'], usage['runs present']) == ('[OPTIONS] DEST', '[OPTIONS] RUN', '[OPTIONS] [RUN]')


def test_tables_come_as_json_too():
    "A verb that prints a table takes --json"
    sources = {v: inspect.getsource(inspect.unwrap(c.callback)) for v, c in VERBS.items()}
    tables = [v for v, text in sources.items() if re.search(r'\b(_table|_findings)\(', text)]
    assert len(tables) > 15
    assert not [v for v in tables if not any('--json' in p.opts for p in VERBS[v].params)]


def test_names_mean_one_thing():
    "An option of one name is a flag, a number or a text of the same kind in every verb"
    kinds = {}
    for v, p in EVERY:
        kind = str(p.type_descriptor.annotation), getattr(p, 'metavar', None)
        for name in p.opts if p.param_type_name == 'option' else []: kinds.setdefault(name, {}).setdefault(kind, []).append(v)
    assert {n: k for n, k in kinds.items() if len(k) > 1 and n not in TWO_MEANINGS} == {}
    assert not [n for n in TWO_MEANINGS if len(kinds[n]) == 1], 'these have one meaning now'


def test_short_names_have_long_ones():
    "One letter stands for the same word everywhere: `-q` is `--quiet`, `-o` is `--out`"
    pairs = {(s, max(p.opts, key=len)) for _, p in EVERY if len(p.opts) > 1 for s in p.opts if len(s) == 2}
    longs = {s: {long for short, long in pairs if short == s} for s, _ in pairs}
    assert {s for s, of in longs.items() if len(of) > 1} <= {'-y'}  # `--defaults` answers questions, and `--yes` the only one
    alone = {o for _, p in EVERY if len(p.opts) == 1 for o in p.opts if len(o) == 2 and o[0] == '-'}
    assert alone <= {'-k', '-n'}  # k of n windows
