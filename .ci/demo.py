"Make a project as a new user would, run it until its model is replaced by a better one, and say what came out."
import argparse
import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import webbrowser
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).resolve().parent.parent
CHILD = ROOT / 'build' / 'digits'
BIN = Path(sys.executable).parent
SHORT = {'hparams_search/optuna.yaml': ('n_trials: 24', 'n_trials: 3'), 'evaluate/digits.yaml': ('seeds: 5', 'seeds: 2')}
LOOP = [  # a day of traffic, what is found in it, and a better model
    'monitor simulate digits@champion data/digits.parquet --target digit --out predictions --days 1 --lag 1h --drift sudden:image@0.4',
    'retrain retrain.windows.every=3h retrain.cooldown=null evaluate.seeds=1']
PICTURES = [
    'monitor page predictions/digits data/digits.parquet --labels predictions/digits.labels.parquet --every 3h --package package'
    ' -o reports/monitor.html',
    'models lineage digits --picture reports/lineage.png', 'retrain retrain.windows.every=3h --list --picture reports/story.png']


def step(said, *command, cwd=ROOT):
    "Say it, do it, and stop with what the command said when it fails"
    print(f'$ {said}', flush=True)
    env = dict(os.environ, PATH=f'{BIN}{os.pathsep}{os.environ["PATH"]}', WANDB_MODE='offline', PYTHONUNBUFFERED='1')
    with subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as p:
        lines = [line for line in p.stdout if not print(f'  {line}', end='', flush=True)]
    if p.returncode: sys.exit(f'\n{said} failed (exit code {p.returncode})')
    return ''.join(lines)


def shorten():
    "Change settings, as anybody would in an editor: three minutes are for a demo, not for a result"
    for name, (old, new) in SHORT.items():
        file = CHILD / 'configs' / name
        print(f'  {new} in {file.relative_to(ROOT)}, not {old.split()[-1]}')
        assert old in file.read_text(), f'{file} has no {old}'
        file.write_text(file.read_text().replace(old, new))


def chapters():
    "The record and the folder of each chapter's run"
    files = sorted(CHILD.glob('runs/*/*/run.json'))
    found = [(json.loads(f.read_text()), f.parent) for f in files]
    return {r['name']: (r, folder) for r, folder in found if r['kind'] == 'notebook'}


def row(name, score, verdict=''):
    "A model, its score with the interval, and how the network compares"
    return f'  {name:<9}{score["value"]:.3f} [{score["low"]:.3f}, {score["high"]:.3f}]  {verdict}'.rstrip()


def summary(seconds):
    "What a reader wants to know, in one screen"
    result = json.loads((CHILD / 'reports' / 'evaluation.json').read_text())
    study = json.loads((CHILD / 'reports' / 'sweep.json').read_text())
    yield f'{result["metric"]} on {result["rows"]} test images, mean of {result["seeds"]} networks, with its 95% interval'
    yield row('network', result['network'])
    for name, b in result['baselines'].items(): yield row(name, b, f'the network is {b["verdict"]}' if b['verdict'] != 'tied' else 'tied')
    answer = result['gate']['answer']
    yield f'  gate     {answer if answer == "pass" else "; ".join(answer)}'
    counts = ', '.join(f'{n} {state.lower()}' for state, n in study['trials'].items())
    yield f'best of {sum(study["trials"].values())} trials ({counts}): {study["monitor"]} {study["value"]:.4f}'
    yield '  ' + ' '.join(short(o) for o in study['overrides'])
    yield from shipped()
    yield from looped()
    yield f'seconds: {seconds:.0f} in all'
    yield '  ' + ', '.join(f'{name} {r["seconds"]:.0f}' for name, (r, _) in chapters().items() if name != 'index')


def shipped():
    "What became of the model: its package, its version, and an answer of the service"
    proof, served = json.loads((CHILD / 'package' / 'proof.json').read_text())['parity'], chapters()['08_serve'][0]['metrics']
    far, size = max(b['max'] for b in proof['batches']), (CHILD / 'package' / 'model.onnx').stat().st_size
    yield f'packaged: {size / 1024:.0f} kB, at most {far:.0e} from the model on {proof["rows"]} images'
    yield f'served: half of {served["questions"]:.0f} answers within {served["ms"]:.1f} ms, 99% within {served["p99"]:.1f} ms'


def looped():
    "What a day of darker images did to it"
    tried = json.loads(sorted(CHILD.glob('registry/retrains/*.json'))[-1].read_text())
    if tried['outcome'] != 'promoted': sys.exit('\nthe retraining promoted nothing: ' + tried['steps'][-1]['said'])
    yield 'a day of traffic, its images darker from the middle of the morning on'
    for why in re.split('; (?=[a-z]+: )', tried['because']): yield f'  {why}'
    yield f'retrained with {tried["added"]} new images: version {tried["version"]} is the champion'
    c = tried['verdicts']['recent']
    yield f'  {c["verdict"]} on those it has not learned from: accuracy {c["value"]:+.3f} [{c["low"]:+.3f}, {c["high"]:+.3f}]'


def told(*words):
    "What a command says in the project"
    done = subprocess.run([BIN / 'mlops-kit', *words], cwd=CHILD, capture_output=True, text=True)
    if done.returncode: sys.exit(f'\nmlops-kit {" ".join(words)} failed (exit code {done.returncode})\n{done.stderr}')
    return done.stdout


def short(override):
    "An override as a person would say it"
    name, value = override.split('=', 1)
    with contextlib.suppress(ValueError): value = f'{float(value):.3g}'
    return f'{name.split(".")[-1]}={value}'


def picture():
    "The learning curves of all trials, as bytes"
    nb = json.loads((chapters()['04_sweep'][1] / '04_sweep.ipynb').read_text())
    [cell] = [c for c in nb['cells'] if c['cell_type'] == 'code' and 'plot_trials(study)' in ''.join(c['source'])]
    [image] = [o['data']['image/png'] for o in cell['outputs'] if 'image/png' in o.get('data', {})]
    return base64.b64decode(''.join(image))


def main():
    "Scaffold, install, run, and show"
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument('--keep', action='store_true', help='keep the output and the picture for the README, in nbs/images')
    keep, start = args.parse_args().keep, perf_counter()
    shutil.rmtree(CHILD, ignore_errors=True)
    step('mlops-kit new build/digits --defaults -d profile=full', BIN / 'mlops-kit', 'new', CHILD, '--defaults', '-d', 'profile=full')
    step('pip install -e build/digits', sys.executable, '-m', 'pip', 'install', '-qq', '--no-deps', '--no-build-isolation', '-e', CHILD)
    shorten()
    step('mlops-kit run nbs/0[0-8]*.ipynb', BIN / 'mlops-kit', 'run', *sorted(CHILD.glob('nbs/0[0-8]*.ipynb')), cwd=CHILD)
    for words in LOOP: step(f'mlops-kit {words}', BIN / 'mlops-kit', *words.split(), cwd=CHILD)
    for words in PICTURES: print(f'$ mlops-kit {words}', flush=True)
    with ThreadPoolExecutor() as pool: list(pool.map(lambda words: told(*words.split()), PICTURES))
    text = '\n'.join(summary(perf_counter() - start))
    evaluated = chapters()['05_evaluate'][1].relative_to(ROOT) / '05_evaluate.ipynb'
    print(f'\n{text}\nto open\n  build/digits/nbs  the chapters\n  {evaluated}  whether it is any good, in pictures')
    print('  build/digits/reports/lineage.png  where the champion comes from')
    print('  build/digits/reports/story.png  what was decided, and how good each version was')
    print('  build/digits/reports/monitor.html  the day on which it was replaced, for whoever was on duty')
    if os.environ.get('DISPLAY') or sys.platform in ('darwin', 'win32'): webbrowser.open((CHILD / 'reports/monitor.html').as_uri())
    if keep:
        (ROOT / 'nbs' / 'images').mkdir(exist_ok=True)
        (ROOT / 'nbs' / 'images' / 'demo.txt').write_text(text + '\n')
        (ROOT / 'nbs' / 'images' / 'demo.png').write_bytes(picture())


if __name__ == '__main__': main()
