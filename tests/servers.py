"Servers that tests talk to: started here, on loopback, and stopped."
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from helpers import service

USER, PASSWORD = 'kit', 'rather-secret-7391'
SMALL = 'fsync=off shared_buffers=16MB max_connections=20 listen_addresses=127.0.0.1 unix_socket_directories='.split()


def free_port():
    "A port that nobody listens on"
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def as_postgres():
    "PostgreSQL does not run as root: Debian's user for it, where we are root"
    return {'user': 'postgres', 'group': 'postgres', 'extra_groups': []} if os.geteuid() == 0 else {}


def made_cluster(folder):
    "An empty cluster whose superuser has a password; the folder of the programs"
    programs = max(Path('/usr/lib/postgresql').glob('*/bin'), key=lambda p: int(p.parent.name))
    (folder / 'password').write_text(PASSWORD)
    if as_postgres(): [shutil.chown(p, 'postgres', 'postgres') for p in (folder, folder / 'password')]
    words = f'-D {folder}/data -U {USER} --pwfile={folder}/password --auth=scram-sha-256 --locale=C.UTF-8 -E UTF8'
    subprocess.run([programs / 'initdb', *words.split()], check=True, cwd=folder, stdout=subprocess.DEVNULL, **as_postgres())
    return programs


def wait_until_it_answers(url, process, seconds=60):
    "Connect until it works"
    import psycopg
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with suppress(psycopg.OperationalError): return psycopg.connect(url).close()
        time.sleep(.1)
    pytest.fail(f'no answer from PostgreSQL, exit code {process.poll()}')


@pytest.fixture(scope='session')
def postgres():
    "The address of a real PostgreSQL, with user and password"
    service('pg_ctlcluster')
    folder, port = Path(tempfile.mkdtemp(prefix='kit-postgres-')), free_port()
    programs = made_cluster(folder)
    options = [w for o in (*SMALL, f'port={port}') for w in ('-c', o)]
    with open(folder / 'log', 'w') as log:
        process = subprocess.Popen([programs / 'postgres', '-D', folder / 'data', *options], cwd=folder, stderr=log, **as_postgres())
    url = f'postgresql://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres'
    try:
        wait_until_it_answers(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder)


@contextmanager
def moto():
    "A server that behaves like S3"
    from moto.server import ThreadedMotoServer
    server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)
    server.start()
    url = f'http://127.0.0.1:{server.get_host_and_port()[1]}'
    urlopen(Request(f'{url}/moto-api/reset', method='POST')).close()
    try: yield url
    finally: server.stop()


@pytest.fixture
def s3(monkeypatch):
    "The environment of a process that may use a store with an empty bucket `shop`; gives a client of it"
    import boto3
    with moto() as url:
        keys = {'AWS_ACCESS_KEY_ID': 'kit', 'AWS_SECRET_ACCESS_KEY': PASSWORD}
        place = {'AWS_ENDPOINT_URL': url, 'AWS_DEFAULT_REGION': 'eu-central-1', **keys}
        for k, v in place.items(): monkeypatch.setenv(k, v)
        client = boto3.client('s3')
        client.create_bucket(Bucket='shop', CreateBucketConfiguration={'LocationConstraint': 'eu-central-1'})
        yield client


class Wandb(BaseHTTPRequestHandler):
    "The part of W&B's server that a run needs: it agrees to everything, and remembers what it was sent"
    protocol_version = 'HTTP/1.1'

    def log_message(self, *args): pass

    def answer(self, obj=None):
        data = json.dumps(obj or {}).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self): return self.rfile.read(int(self.headers.get('Content-Length') or 0))

    def do_GET(self): self.answer()

    def do_PUT(self):
        self.server.files[self.path.removeprefix('/put/')] = self.body()
        self.answer()

    def do_POST(self):
        data = self.body()
        if self.path != '/graphql':
            if self.path.endswith('file_stream'): self.server.streams.append(json.loads(data))
            return self.answer()
        asked = json.loads(data)
        query, given = asked['query'], asked.get('variables') or {}
        if 'upsertBucket' in query:
            self.server.runs.append(given)
            project = {'id': 'p', 'name': given.get('project') or 'p', 'entity': {'id': 'e', 'name': 'e'}}
            bucket = {'id': 'r', 'name': given.get('name'), 'displayName': given.get('displayName'), 'config': '{}', 'summaryMetrics': '{}'}
            bucket |= {'historyLineCount': 0, 'project': project}
            return self.answer({'data': {'upsertBucket': {'bucket': bucket, 'inserted': True}}})
        if 'createRunFiles' in query:
            files = [{'name': f, 'uploadUrl': f'{self.server.url}/put/{f}'} for f in given['files']]
            return self.answer({'data': {'createRunFiles': {'runID': 'r', 'uploadHeaders': [], 'files': files}}})
        if 'query Run' in query:
            run = {'id': 'r', 'name': given['name'], 'displayName': 'run', 'state': 'finished', 'projectId': '1'}
            nodes = [{'node': {'id': n, 'name': n, 'url': n, 'sizeBytes': 1}, 'cursor': n} for n in given.get('fileNames') or []]
            files = {'edges': nodes, 'pageInfo': {'endCursor': '', 'hasNextPage': False}}
            run |= {'config': '{}', 'summaryMetrics': '{}', 'fileCount': len(nodes), 'files': files}
            return self.answer({'data': {'project': {'internalId': 'UHJvamVjdDox', 'run': run}}})
        viewer = {'id': 'u', 'entity': 'e', 'username': 'me', 'flags': '{}', 'teams': {'edges': []}}
        info = {'cliVersionInfo': {'max_cli_version': '9.9.9'}, 'features': []}
        return self.answer({'data': {'viewer': viewer, 'serverInfo': info} if 'viewer' in query else {'serverInfo': info}})


@pytest.fixture
def wandb_server():
    "Such a server; `variables` is what a program needs to find it"
    with ThreadingHTTPServer(('127.0.0.1', 0), Wandb) as server:
        server.url = f'http://127.0.0.1:{server.server_port}'
        server.files, server.streams, server.runs = {}, [], []
        server.variables = {'WANDB_BASE_URL': server.url, 'WANDB_API_KEY': 'x' * 40, 'WANDB_MODE': 'online'}
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class GitHub(BaseHTTPRequestHandler):
    "The comments of pull request 7: listed, made and changed; `broken` is the status of every answer"
    protocol_version = 'HTTP/1.1'

    def log_message(self, *args): pass

    def answer(self, obj, status=200):
        data = json.dumps(obj).encode()
        self.send_response(self.server.broken or status)
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def given(self):
        assert self.headers['Authorization'] == f'Bearer {self.server.token}'
        return json.loads(self.rfile.read(int(self.headers.get('Content-Length') or 0)) or '{}')

    def do_GET(self):
        first = 100 * int(self.path.rpartition('=')[2]) - 100
        self.answer(self.server.comments[first:first + 100])

    def do_POST(self):
        assert self.path == '/repos/ada/digits/issues/7/comments'
        number = len(self.server.comments) + 1
        self.server.comments.append({'id': number, 'html_url': f'https://example.com/{number}', **self.given()})
        self.answer(self.server.comments[-1], 201)

    def do_PATCH(self):
        found = self.server.comments[int(self.path.removeprefix('/repos/ada/digits/issues/comments/')) - 1]
        found.update(self.given())
        self.answer(found)


@pytest.fixture
def github(tmp_path):
    "Such a server, with comments of other people; `variables` is what a job of the pull request has"
    (tmp_path / 'event.json').write_text('{"pull_request": {"number": 7}}')
    with ThreadingHTTPServer(('127.0.0.1', 0), GitHub) as server:
        server.comments, server.broken, server.token = [{'id': i + 1, 'body': 'I like it'} for i in range(101)], None, 'x' * 40
        server.variables = {'GITHUB_API_URL': f'http://127.0.0.1:{server.server_port}', 'GITHUB_REPOSITORY': 'ada/digits',
                            'GITHUB_EVENT_PATH': str(tmp_path / 'event.json'), 'GITHUB_TOKEN': server.token, 'GITHUB_BASE_REF': 'main',
                            'GITHUB_STEP_SUMMARY': str(tmp_path / 'summary.md')}
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
