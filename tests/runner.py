"A workflow as GitHub's runner reads it, as far as ours go: expressions, conditions, shells, outputs; `uses:` steps are its own."
import re

import yaml
from helpers import sh

STRICT, PLAIN = ['/bin/bash', '--noprofile', '--norc', '-eo', 'pipefail'], ['/bin/bash', '-e']  # with `shell: bash`, and without a word


class Nothing(str):
    "What a context does not have: empty, and so is all below it"

    def __getattr__(self, name): return self


class Known(dict):
    "A context of expressions"

    def __getattr__(self, name): return self.get(name, self.get(name.replace('_', '-'), Nothing()))


def known(value): return Known({k: known(v) for k, v in value.items()}) if isinstance(value, dict) else value


def python_of(words): return re.sub(r'!(?!=)', ' not ', re.sub(r'(?<=\w)-(?=\w)', '_', words.replace('&&', ' and ').replace('||', ' or ')))


def asked(text, context):
    "What an expression says"
    parts = re.split(r"('[^']*')", text)
    return eval(''.join(p if p.startswith("'") else python_of(p) for p in parts).strip(), {'__builtins__': {}}, context)


def filled(value, context):
    "A text with its expressions filled in"
    return re.sub(r'\$\{\{\s*(.*?)\s*\}\}', lambda m: str(asked(m[1], context)), str(value))


class Job:
    "A job that ran: its `result`, what its steps `said`, its `outputs`, and the paths that it would upload"

    def __init__(self, file, name, where, folder, env=None, **context):
        flow = yaml.safe_load(file.read_text(encoding='utf-8'))
        self.job, self.result, self.said, self.steps = flow['jobs'][name], 'success', '', {}
        self.where, self.folder, self.outer = where, folder, env or {}
        folder.mkdir(parents=True, exist_ok=True)
        self.context = known({'steps': {}, 'needs': {}, 'inputs': {}, 'vars': {}, 'secrets': {}, 'github': {}, 'matrix': {}, **context}) | {
            'always': lambda: True, 'failure': lambda: self.result == 'failure', 'success': lambda: self.result == 'success',
            'cancelled': lambda: False}
        self.shell = STRICT if flow.get('defaults', {}).get('run', {}).get('shell') == 'bash' else PLAIN
        self.env = [flow.get('env', {}), self.job.get('env', {})]
        for i, step in enumerate(s for s in self.job['steps'] if 'run' in s): self.take(step, i)
        self.outputs = Known({k: filled(v, self.context) for k, v in self.job.get('outputs', {}).items()})
        self.uploads = [p for s in self.job['steps'] if 'upload-artifact' in s.get('uses', '') for p in s['with']['path'].split()]

    def take(self, step, i):
        "Run a step, or pass over it"
        condition = str(step.get('if', 'success()')).strip().removeprefix('${{').removesuffix('}}')
        if not re.search(r'(always|failure|success|cancelled)\(\)', condition): condition = f'success() && ({condition})'
        if not asked(condition, self.context): return self.note(step, 'skipped')
        assert '${{' not in step['run'], 'an expression in a script can be an injection'
        output = self.folder / f'output-{i}'
        output.touch()
        given = {k: filled(v, self.context) for env in (*self.env, step.get('env', {})) for k, v in env.items()}
        given |= {'GITHUB_OUTPUT': str(output), 'RUNNER_TEMP': str(self.folder), 'CI': 'true', 'GITHUB_ACTIONS': 'true', **self.outer}
        done = sh([*self.shell, '-c', step['run']], cwd=self.where / step.get('working-directory', '.'), env=given, ok=False)
        self.said += done.stdout
        if done.returncode: self.result = 'failure'
        self.note(step, 'failure' if done.returncode else 'success', dict(line.split('=', 1) for line in output.read_text().splitlines()))

    def note(self, step, outcome, outputs=()):
        self.steps[step.get('name', step['run'].split('\n')[0])] = outcome
        if 'id' in step: self.context['steps'][step['id']] = known({'outcome': outcome, 'outputs': dict(outputs)})


def jobs(file): return list(yaml.safe_load(file.read_text(encoding='utf-8'))['jobs'])
