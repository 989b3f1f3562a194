"A model is served without torch and MLflow, and nothing that clients, disks or registries do makes it answer wrongly."
import http.client
import json
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from helpers import Env, kit_env, sh

from mlops_kit.guard import add_key, make_key
from mlops_kit.package import toy_package
from mlops_kit.predlog import read_log_lines
from mlops_kit.registry import Registry
from mlops_kit.signature import Field

FIELDS = [Field('size', 'number', min=0, max=1e6), Field('kind', 'category', categories=['flat', 'house']),
          Field('name', 'text', nullable=True, pii=True), Field('rooms', 'integer', nullable=True, max=9),
          Field('sold', 'date', nullable=True), Field('past', 'number', (3,), nullable=True)]
ROW = {'size': 3, 'kind': 'flat'}


@pytest.fixture
def registry(tmp_path):
    "Three versions of a model, the first of them champion"
    made = Registry(folder=tmp_path / 'registry')
    for i in (1, 2, 3): made.register(toy_package(tmp_path / f'p{i}', i, 'homes', FIELDS))
    made.promote('homes', 1)
    return made


class Served:
    "A process that serves, and a client for it"

    def __init__(self, process, address, said):
        self.process, self.address, self.said = process, address, said
        self.host = urlsplit(address).netloc

    def ask(self, path='/predict', body=None, headers=(), method='POST'):
        "Status, headers and body of one request; a dict goes as JSON"
        c = http.client.HTTPConnection(self.host, timeout=30)
        raw = json.dumps(body) if isinstance(body, dict) else body
        c.request(method, path, raw, {'content-type': 'application/json', **dict(headers)})
        r = c.getresponse()
        told = r.read()
        c.close()
        kind = r.headers['content-type']
        return r.status, r.headers, json.loads(told) if 'json' in kind and 'octet' not in kind else told.decode()

    def get(self, path): return self.ask(path, method='GET')
    def version(self): return self.ask(body={'rows': [ROW]})[2].get('version')
    def until(self, wanted, seconds=20): return until(lambda: wanted(self), seconds)
    def memory(self): return int(re.search(r'VmRSS:\s+(\d+)', Path(f'/proc/{self.process.pid}/status').read_text())[1]) / 1024  # MB


def until(f, seconds=20):
    "Wait until `f` gives something"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := f(): return found
        time.sleep(.05)
    pytest.fail(f'nothing after {seconds} s')


@contextmanager
def serving(env, *words, cwd, **limits):
    "A service on a free port, by a command of its own, stopped at the end"
    command, said = [env.bin / 'mlops-kit', 'serve', *map(str, words), '--port', '0', '--wait', '.2'], cwd / 'said.log'

    def limited(): [resource.setrlimit(getattr(resource, k), (v, resource.RLIM_INFINITY)) for k, v in limits.items()]
    with open(said, 'w') as log: p = subprocess.Popen(command, cwd=cwd, stderr=log, preexec_fn=limited, env=os.environ | {'PYTHONPATH': ''})
    try:
        address = until(lambda: p.poll() or re.search(r'http://[\d.:]+', said.read_text()))
        assert not isinstance(address, int), said.read_text()
        served = Served(p, address[0], said)
        until(lambda: answers(served))
        yield served
    finally:
        p.send_signal(signal.SIGTERM)
        p.wait(20)


def answers(served):
    "Is it ready?"
    try: return served.get('/health/ready')[0] == 200
    except OSError: return False


@pytest.fixture
def env(wheel):
    "What a container has: the wheel with its extra `serve`"
    return kit_env('serve', wheel)


@pytest.mark.full
def test_light(env, registry, tmp_path):
    "It needs neither torch nor MLflow nor pandas, tells what it did, and ends when it is told to"
    heavy = 'torch pytorch_lightning mlflow pyarrow pandas onnx sklearn hydra nbdev sqlalchemy'.split()
    found = f'import importlib.util as u; print([m for m in {heavy} if u.find_spec(m)])'
    assert env.run('python', '-c', found).stdout.strip() == '[]'
    with serving(env, 'homes@champion', '--log', 'kept', cwd=tmp_path) as s:
        status, headers, said = s.ask(body={'rows': [ROW, ROW | {'name': 'Ada'}]}, headers={'x-request-id': 'order-17'})
        assert (status, headers['x-request-id'], [p['value'] for p in said['predictions']]) == (200, 'order-17', [3, 3])
        assert 'mlops_kit_requests_total{path="/predict",status="200"} 1.0' in s.get('/metrics')[2]
        assert 'src=' not in s.get('/docs')[2]
        assert s.memory() < 120
    assert s.process.returncode in (0, -signal.SIGTERM)
    events = [json.loads(line) for line in s.said.read_text().splitlines() if line.startswith('{')]
    assert any(e['event'] == 'request' and e['id'] == 'order-17' for e in events)
    kept = list(read_log_lines(tmp_path / 'kept/homes'))
    assert [k['id'] for k in kept] == ['order-17/0', 'order-17/1']
    assert not [k for k in kept if 'name' in k['features']]


SPEC = 'mlserver==1.7.1'  # ships the public OpenAPI of the protocol
TRITON = '''
import sys, numpy as np, tritonclient.http as t
client = t.InferenceServerClient(sys.argv[1])
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready('homes') and client.is_model_ready('homes', '1')
kinds = {i['name']: i for i in client.get_model_metadata('homes')['inputs']}
values = dict(size=np.array([3, 4], 'float32'), kind=np.array(['flat', 'house'], object), rooms=np.array([1, 2], 'float32'),
    name=np.array(['Ada', 'Zoe'], object), sold=np.array([0, 86400], 'int64'), past=np.ones((2, 3), 'float32'))
for binary in (True, False):
    inputs = []
    for name, v in values.items():
        inputs.append(t.InferInput(name, v.shape, kinds[name]['datatype']))
        inputs[-1].set_data_from_numpy(v, binary_data=binary)
    outputs = [t.InferRequestedOutput('value', binary_data=binary)]
    said = client.infer('homes', inputs, outputs=outputs, request_id='r7')
    assert said.get_response()['id'] == 'r7'
    print(said.as_numpy('value').tolist())
try: client.infer('flats', inputs)
except t.InferenceServerException as e: print(e.message() if callable(e.message) else e)
'''


@pytest.mark.full
def test_another_client_and_the_specification(env, registry, tmp_path):
    "Triton's client gets its answers, as bytes and as JSON, and every reply is what the public specification says"
    other = Env('v2-client', 'tritonclient[http]==2.73.0', 'jsonschema==4.26.0')
    (tmp_path / 'ask.py').write_text(TRITON)
    with serving(env, 'homes@champion', cwd=tmp_path) as s:
        said = other.run('python', tmp_path / 'ask.py', s.host).stdout.splitlines()
        assert said[:2] == ['[3.0, 4.0]'] * 2
        assert 'no model flats is served here' in said[2]
        other.pip('download', '--no-deps', '-d', tmp_path, SPEC)
        with zipfile.ZipFile(next(tmp_path.glob('mlserver*.whl'))) as z: spec = z.read('mlserver/rest/openapi/dataplane.json').decode()
        sent = {'size': ('FP32', 3), 'kind': ('BYTES', 'flat'), 'rooms': ('INT32', 2), 'name': ('BYTES', ''), 'sold': ('INT64', 0)}
        tensors = [{'name': n, 'shape': [1], 'datatype': d, 'data': [v]} for n, (d, v) in sent.items()]
        request = {'id': 'a', 'inputs': [*tensors, {'name': 'past', 'shape': [1, 3], 'datatype': 'FP64', 'data': [1, 2, 3]}]}
        answer = s.ask('/v2/models/homes/versions/1/infer', request)[2]
        replies = {'InferenceRequest': request, 'InferenceResponse': answer,
                   'MetadataServerResponse': s.get('/v2')[2], 'MetadataModelResponse': s.get('/v2/models/homes')[2],
                   'InferenceErrorResponse': s.ask('/v2/models/homes/infer', {'inputs': []})[2]}
    assert replies['InferenceResponse']['outputs'][0]['data'] == [3]
    spec = json.loads(spec.replace('"bytes"', '"string"'))  # which is no type of JSON
    check = ('import json, sys; from jsonschema import Draft7Validator as V; spec, replies = json.load(sys.stdin)\n'
             'for name, reply in replies.items(): V({"$ref": f"#/components/schemas/{name}", **spec}).validate(reply)')
    subprocess.run([other.bin / 'python', '-c', check], input=json.dumps([spec, replies]), text=True, check=True)


MANY = [pytest.param(120, 500, marks=pytest.mark.full), pytest.param(3000, 5000, marks=pytest.mark.soak)]


@pytest.mark.parametrize(('examples', 'cases'), MANY)
def test_bombarded_by_its_own_description(env, registry, tmp_path, examples, cases):
    "Whatever the OpenAPI document allows or forbids is answered as it says, and never with a server error"
    tool = Env('schemathesis', 'schemathesis==4.32.5')
    with serving(env, 'homes@champion', '--quiet', '--log', 'kept', cwd=tmp_path) as s:
        words = f'run {s.address}/openapi.json --max-examples {examples} --seed 7 --phases examples,coverage,fuzzing --no-color'.split()
        (tmp_path / 'schemathesis.toml').write_text(TENSORS)
        said = tool.run('st', *words, cwd=tmp_path, timeout=1200, ok=False)
        assert said.returncode == 0, said.stdout[-5000:]
        made = int(re.search(r'(\d[\d,]*) generated', said.stdout)[1].replace(',', ''))
        counts = re.findall(r'mlops_kit_requests_total\{.*status="5..".* (\S+)', s.get('/metrics')[2])
    assert made >= cases
    assert not counts


TENSORS = '''
# A schema cannot say that a tensor has as many data as its shape says, nor that every input is there once.
[[operations]]
include-path-regex = "/infer$"
checks.positive_data_acceptance.enabled = false
'''


class Load(threading.Thread):
    "A client that asks again and again on one connection, and keeps every answer"

    def __init__(self, served, body=None, pause=0.):
        super().__init__(daemon=True)
        self.served, self.body, self.pause, self.seen, self.done = served, json.dumps(body or {'rows': [ROW]}), pause, [], threading.Event()
        self.start()

    def run(self):
        c = http.client.HTTPConnection(self.served.host, timeout=30)
        while not self.done.wait(self.pause):
            start = time.perf_counter()
            try:
                c.request('POST', '/predict', self.body, {'content-type': 'application/json'})
                r = c.getresponse()
                self.seen.append((r.status, time.perf_counter() - start, json.loads(r.read())))
            except (OSError, http.client.HTTPException) as e:
                self.seen.append((0, time.perf_counter() - start, {'detail': repr(e)}))
                c.close()

    def stop(self):
        self.done.set()
        self.join(30)
        return self.seen


@pytest.mark.full
def test_swapped_under_load(env, registry, tmp_path):
    "Ten promotions while four clients ask lose no request, and end with the last one"
    with serving(env, 'homes@champion', '--quiet', cwd=tmp_path) as s:
        clients = [Load(s) for _ in range(4)]
        for i in range(10):
            registry.promote('homes', 2 - i % 2)
            s.until(lambda s, v=str(2 - i % 2): s.version() == v)
        seen = [x for c in clients for x in c.stop()]
    assert {status for status, *_ in seen} == {200}
    assert {said['version'] for *_, said in seen} == {'1', '2'}
    assert all(said['predictions'] == [{'value': 3. * int(said['version'])}] for *_, said in seen)


@pytest.mark.full
def test_registry_goes_bad(env, registry, tmp_path):
    "A registry that is damaged while it is served changes nothing; mended, it is followed again; a tampered package never takes over"
    file = tmp_path / 'registry/registry.db'
    with serving(env, 'homes@champion', cwd=tmp_path) as s:
        kept = file.read_bytes()
        file.write_bytes(random.Random(0).randbytes(len(kept)))
        s.until(lambda s: s.get('/health')[2]['status'] == 'degraded')
        assert s.version() == '1'
        assert s.get('/health/ready')[0] == 200
        file.write_bytes(kept)
        s.until(lambda s: s.get('/health')[2]['status'] == 'ok')
        with open(registry.fetch('homes', '2')[1] / 'model.onnx', 'ab') as f: f.write(b' ')
        registry.promote('homes', 2)
        s.until(lambda s: 'not the file that was written' in str(s.get('/health')[2]['problem']))
        assert s.version() == '1'
    with pytest.raises(AssertionError, match='not the file that was written'), serving(env, 'homes@champion', cwd=tmp_path): pass


@pytest.mark.full
def test_retired(env, registry, tmp_path):
    "A version that is retired while it is served is served no more"
    registry.promote('homes', 2)
    with serving(env, 'homes@1', cwd=tmp_path) as s:
        registry.retire('homes', 1)
        s.until(lambda s: s.ask(body={'rows': [ROW]})[0] == 503)
        assert s.get('/health/live')[0] == 200
        assert s.get('/health/ready')[0] == 503


@pytest.mark.full
def test_full_disk(env, registry, tmp_path):
    "When the prediction log cannot be written, every answer still comes, what is lost is counted, and what was written is whole"
    with serving(env, 'homes@champion', '--quiet', '--log', 'kept', cwd=tmp_path, RLIMIT_FSIZE=2000) as s:
        assert {s.ask(body={'rows': [ROW] * 100})[0] for _ in range(250)} == {200}
        log = s.until(lambda s: (h := s.get('/health')[2])['log']['problem'] and h)['log']
        assert log['dropped'] > 0
        assert 'mlops_kit_log_dropped' in s.get('/metrics')[2]
    assert not [r for r in read_log_lines(tmp_path / 'kept/homes') if 'damaged' in r]


@pytest.mark.full
def test_workers_are_killed(env, registry, tmp_path):
    "Workers that are killed are replaced; whoever asks again gets an answer, and after that none fails"
    with serving(env, 'homes@champion', '--quiet', '--workers', '2', cwd=tmp_path) as s:
        def workers(): return [int(c) for c in sh(['pgrep', '-P', s.process.pid, '-f', 'spawn_main'], ok=False).stdout.split()]
        until(lambda: len(workers()) == 2)
        client, chosen = Load(s, pause=.01), random.Random(1)
        for _ in range(3):
            victim = chosen.choice(workers())
            os.kill(victim, signal.SIGKILL)
            until(lambda gone=victim: len(now := workers()) == 2 and gone not in now)
            time.sleep(1)
        seen = client.stop()
        lost = sum(status != 200 for status, *_ in seen)
        assert lost <= 3 < len(seen)
        assert {s.ask(body={'rows': [ROW]})[0] for _ in range(20)} == {200}


def all_at_once(served, bodies):
    "Send each body by a connection of its own while the process stands still, and then read: ids, statuses and what was told"
    calls = [http.client.HTTPConnection(served.host, timeout=30) for _ in bodies]

    def said(c): return (r := c.getresponse()).headers['x-request-id'], r.status, json.loads(r.read())
    for c in calls: c.request('GET', '/health/live'), said(c)
    served.process.send_signal(signal.SIGSTOP)
    for i, (c, body) in enumerate(zip(calls, bodies)): c.request('POST', '/predict', json.dumps(body), {'x-request-id': str(i)})
    served.process.send_signal(signal.SIGCONT)
    return [(said(c), c.close())[0] for c in calls]


@pytest.mark.full
def test_many_at_once(env, registry, tmp_path):
    "Who comes with others is answered with them, gets what is his, and stands in the log once; who is wrong stands alone"
    sizes = [[100 * i + j for j in range(i % 3 + 1)] for i in range(60)]
    with serving(env, 'homes@champion', '--log', 'kept', '--quiet', cwd=tmp_path) as s:
        def asked(): return float(re.search(r'inference_seconds_count\S* (\S+)', s.get('/metrics')[2])[1])
        told = all_at_once(s, [{'rows': [ROW | {'size': v} for v in vs]} for vs in sizes])
        assert [(int(i), status) for i, status, _ in told] == [(i, 200) for i in range(60)]
        assert [[p['value'] for p in body['predictions']] for *_, body in told] == sizes
        assert asked() < 20
        empty = all_at_once(s, [{'rows': [ROW] * (i != 7)} for i in range(30)])
        assert [status for _, status, _ in empty] == [422 if i == 7 else 200 for i in range(30)]
        wrong = all_at_once(s, [{'rows': [ROW | {'size': -1 if i % 7 else i}]} if i % 5 else {'rows': []} for i in range(60)])
        assert [status for _, status, _ in wrong] == [200 if i % 5 and not i % 7 else 422 for i in range(60)]
    kept = {k['id']: k for k in read_log_lines(tmp_path / 'kept/homes') if '/' in k['id']}
    assert {i: (k['features']['size'], k['prediction']['value']) for i, k in kept.items()} == {
        f'{i}/{j}': (v, v) for i, vs in enumerate(sizes) if len(vs) > 1 for j, v in enumerate(vs)}


def raw(served, *parts, pause=0.):
    "Send bytes as they are, and read what comes"
    with socket.create_connection(tuple(served.host.split(':')), timeout=30) as c:
        for p in parts:
            c.sendall(p)
            time.sleep(pause)
        got = b''
        while b'\r\n\r\n' not in got and (more := c.recv(65536)): got += more
        return int(got.split()[1]) if got else 0


HEAD = b'POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n'


TORN = '{"rows":[{"size":NaN}]}', '{"rows":[{"size":1e999}]}', '[' * 4000, b'\xff\xfe', '{}', '[]', 'null', '{"rows":[]', '{"row":[]}'
WRONG = ({}, None, 7, ROW | {'size': '3'}, ROW | {'size': -1}, ROW | {'size': 10**50}, ROW | {'kind': 'barn'},
         ROW | {'sold': 'soon'}, ROW | {'past': [1]}, ROW | {'rooms': 1.5}, ROW | {'rooms': 10}, ROW | {'size': True}, ROW | {'name': 7})


@pytest.mark.full
def test_rough_clients(env, registry, tmp_path):
    "Slow, huge, torn and empty requests get the answer that HTTP has for them, and nobody else waits for it"
    with serving(env, 'homes@champion', '--quiet', '--max-seconds', '5', '--max-body', '5000', cwd=tmp_path) as s:
        slow = threading.Thread(target=lambda: codes.append(raw(s, HEAD % 50, b'{"rows"')))
        codes = []
        slow.start()
        assert s.ask(body={'rows': [ROW]})[0] == 200
        assert slow.is_alive()  # it has five seconds
        slow.join()
        codes += [raw(s, HEAD % 10**9), raw(s, b'nonsense\r\n\r\n'), raw(s, HEAD % 0)]
        chunks = b''.join(b'400\r\n' + b' ' * 1024 + b'\r\n' for _ in range(8))
        codes += [raw(s, HEAD.replace(b'content-length: %d', b'transfer-encoding: chunked'), chunks)]
        assert codes == [408, 413, 400, 400, 413]
        assert {s.ask(body=b)[0] for b in TORN} == {400}
        assert {s.ask(body={'rows': [row]})[0] for row in WRONG} == {422}
        assert s.ask('/v2/models/flats/infer', {})[0] == 404


@pytest.mark.full
def test_a_thousand_say_nothing(env, registry, tmp_path):
    "Connections that send half a request keep nobody from being answered, and are closed in time"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with serving(env, 'homes@champion', '--quiet', '--max-seconds', '4', cwd=tmp_path) as s, ExitStack() as stack:
        mute = [stack.enter_context(socket.create_connection(tuple(s.host.split(':')), timeout=30)) for _ in range(1100)]
        for c in mute: c.sendall(HEAD[:40])
        assert s.ask(body={'rows': [ROW]})[0] == 200
        assert {c.recv(100)[:12] for c in mute} == {b'HTTP/1.1 408'}
        assert s.ask(body={'rows': [ROW]})[0] == 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.full
def test_keys(env, registry, tmp_path):
    "Who has a key is answered and named in the log; a guess, none, and one that has expired are not"
    file = tmp_path / 'keys'
    good = env.run('mlops-kit', 'keys', 'add', 'ada', '--file', file).stdout.split()[-1]
    old, line = make_key('old', days=1)
    with file.open('a') as f: f.write(line.rpartition(':')[0] + ':2026-01-31')  # and no end of its line
    add_key(file, 'new')
    with serving(env, 'homes@champion', '--keys', file, '--rate', '1', cwd=tmp_path) as s:
        said = [s.ask(body={'rows': [ROW]}, headers=h) for h in ({}, {'x-api-key': 'guess'}, {'x-api-key': old}, {'x-api-key': good})]
        assert [status for status, *_ in said] == [401, 401, 401, 200]
        assert 'was good until' in said[2][2]['detail']
        assert 429 in [s.ask(body={'rows': [ROW]}, headers={'x-api-key': good})[0] for _ in range(5)]
    assert '"who":"ada"' in s.said.read_text()
    assert good not in s.said.read_text() + file.read_text()


@pytest.mark.full
def test_a_challenger(env, registry, tmp_path):
    "A canary gets its share of the keys, the same key the same version; one that has no finite answer goes, and nobody notices"
    registry.promote('homes', 2, to='challenger')
    row = {'rows': [ROW]}
    with serving(env, 'homes@champion', '--canary', '.3', '--log', 'kept', cwd=tmp_path) as s:
        def versions(): return {k: s.ask(body=row, headers={'x-request-key': str(k)})[2]['version'] for k in range(100)}
        first = versions()
        assert 15 < sum(v == '2' for v in first.values()) < 45
        assert versions() == first
        registry.register(toy_package(tmp_path / 'broken', float('inf'), 'homes', FIELDS))
        registry.promote('homes', 4, to='challenger')
        s.until(lambda s: s.get('/health')[2]['roles'].get('challenger', {}).get('version') == '4')
        assert set(versions().values()) == {'1'}
        assert 'answers failed' in str(s.get('/health')[2]['rolled_back'])
    kept = list(read_log_lines(tmp_path / 'kept/homes'))
    assert len(kept) == 300
    assert {k['version'] for k in kept} == {'1', '2'}


SLOW = '''
import time
from dataclasses import replace
import mlops_kit.rollout as r
load = r.load_package
def slower(*args):
    made = load(*args)
    return replace(made, ask=lambda arrays: (time.sleep(.02), made.ask(arrays))[1])
r.load_package = slower
from mlops_kit.cli import main
main()
'''


@pytest.mark.full
def test_ten_times_too_many(env, registry, tmp_path):
    "With far more clients than it can serve it answers some in time, tells the others to come again, keeps its memory, and recovers"
    (tmp_path / 'slow.py').write_text(SLOW)
    fake = type('Slow', (), {'bin': tmp_path})
    (tmp_path / 'mlops-kit').write_text(f'#!/bin/sh\nexec {env.bin}/python {tmp_path}/slow.py "$@"\n')
    (tmp_path / 'mlops-kit').chmod(0o755)
    with serving(fake, 'homes@champion', '--quiet', '--max-at-once', '8', cwd=tmp_path) as s:
        alone = Load(s)
        time.sleep(2)
        calm = sorted(t for status, t, _ in alone.stop())
        before = s.memory()
        crowd = [Load(s) for _ in range(80)]
        time.sleep(6)
        seen = [x for c in crowd for x in c.stop()]
        status = {x[0] for x in seen}
        served = sorted(t for code, t, _ in seen if code == 200)
        assert status == {200, 503}
        assert len(served) >= 6 * .5 / calm[len(calm) // 2]
        assert served[int(.99 * len(served))] < 2
        assert s.memory() < before + 30
        assert s.ask(body={'rows': [ROW]})[0] == 200


MLFLOW = 'mlflow==3.17.2', 'psycopg2-binary==2.9.11'
RACE = '''
import sys
from mlops_kit.project import KitError
from mlops_kit.registry import Registry
registry, won = Registry(sys.argv[1], sys.argv[2]), 0
print('ready', flush=True), sys.stdin.readline()
for i in range(4):
    try: won += bool(registry.promote('homes', 1 + (i + int(sys.argv[3])) % 3))
    except KitError as e: assert 'nothing changed' in str(e), e
print(won)
'''


@pytest.fixture
def mlflow_server(postgres, tmp_path):
    "The address of a real MLflow server on a real PostgreSQL"
    import psycopg
    from servers import free_port
    with psycopg.connect(postgres, autocommit=True) as db: db.execute('create database registry')
    env, port = Env('mlflow-server', *MLFLOW), free_port()
    store = re.sub(r'/[^/?]*(\?|$)', r'/registry\1', postgres.replace('postgresql://', 'postgresql+psycopg2://'), count=1)
    words = f'server --backend-store-uri {store} --artifacts-destination {tmp_path}/artifacts --port {port} --workers 2'.split()
    known = os.environ | {'PATH': f'{env.bin}:{os.environ["PATH"]}', 'MLFLOW_DISABLE_TELEMETRY': 'true'}
    with open(tmp_path / 'mlflow.log', 'w') as log:
        p = subprocess.Popen([env.bin / 'mlflow', *words], env=known, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    address = f'http://127.0.0.1:{port}'

    def up():
        assert p.poll() is None, (tmp_path / 'mlflow.log').read_text()[-3000:]
        try: return urlopen(f'{address}/health', timeout=5).status == 200
        except OSError: return False
    try:
        until(up, 120)
        yield address
    finally:
        os.killpg(p.pid, signal.SIGTERM)
        p.wait(20)


@pytest.mark.soak
def test_a_real_mlflow_server(env, mlflow_server, tmp_path):
    "On MLflow's own server with PostgreSQL the registry keeps its promises, and a service follows it over HTTP"
    registry = Registry(mlflow_server, tmp_path / 'registry')
    for i in (1, 2, 3): registry.register(toy_package(tmp_path / f'p{i}', i, 'homes', FIELDS))
    race = [sys.executable, '-c', RACE, mlflow_server, tmp_path / 'registry']
    racers = [subprocess.Popen([*race, str(i)], stdin=-1, stdout=-1, text=True) for i in range(4)]
    for p in racers: p.stdout.readline()
    for p in racers:
        p.stdin.write('go\n')
        p.stdin.flush()
    won = sum(int(p.communicate()[0]) for p in racers)
    history = registry.history('homes')
    assert len([t for t in history if not t['void']]) == won
    assert len(history) == 16
    champion = registry.state('homes').champion
    assert int(registry.client.get_model_version_by_alias('homes', 'champion').version) == champion
    with serving(env, 'homes@champion', '--registry', mlflow_server, cwd=tmp_path) as s:
        assert s.version() == str(champion)
        registry.promote('homes', champion % 3 + 1)
        s.until(lambda s: s.version() == str(champion % 3 + 1))
        registry.rollback('homes')
        s.until(lambda s: s.version() == str(champion))
