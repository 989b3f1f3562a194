"Images that tests build and run: with buildah, on a base made here, by this machine's way to the indexes. No registry, no daemon."
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import ROOT, service, sh

# What Docker's own python:3.11-slim has: Debian, and Python in /usr/local with the libraries that it loads.
LIBRARIES = 'ca-certificates netbase tzdata libbz2-1.0 libffi8 liblzma5 libncursesw6 libreadline8 libsqlite3-0 libssl3 libuuid1 zlib1g'
BASE = '''FROM scratch
ADD debian.tar /
COPY python /usr/local
RUN ldconfig && python3 -m ensurepip && ln -sf pip3 /usr/local/bin/pip
CMD ["python3"]
'''
HEAVY = shutil.ignore_patterns('site-packages', '__pycache__', 'test', 'tests', 'idlelib', 'config-3*', '*.a', 'share', 'include')


def unneeded(folder, names):
    "What a base can do without: tests, and scripts that name this machine's Python"
    return [n for n in names if n in HEAVY(folder, names) or (Path(folder).name == 'bin' and not n.startswith('python3'))]


def bases(*files):
    "The images that Dockerfiles begin with"
    lines = [line.split() for f in files for line in f.read_text(encoding='utf-8').splitlines()]
    return {f'docker.io/library/{words[1]}' for words in lines if words[:1] == ['FROM']}


class Images:
    "A store of images, and what builds and runs them"

    def __init__(self, folder):
        self.folder, self.wheels = folder, folder / 'wheels'
        self.wheels.mkdir()
        pip = '[global]\nno-index = true\nfind-links = /wheels\n'
        (folder / 'pip.conf').write_text(pip)
        certs = os.environ.get('SSL_CERT_FILE', '/etc/ssl/certs/ca-certificates.crt')
        (folder / 'npmrc').write_text(f'cafile={certs}\n')
        self.volumes = {folder / 'pip.conf': '/etc/pip.conf', self.wheels: '/wheels', folder / 'npmrc': '/etc/skel/.npmrc',
                        certs: certs}

    def words(self): return ['buildah', '--root', f'{self.folder}/store', '--runroot', f'{self.folder}/running']

    def building(self):
        "The words that build"
        volumes = [w for here, there in self.volumes.items() for w in ('-v', f'{here}:{there}:ro')]
        return ['bud', '--format', 'docker', '--isolation', 'chroot', '--pull-never', '--layers', *volumes]

    def run(self, verb, *words, **kw):
        "What buildah says"
        return sh([*self.words(), *verb.split(), *words], **kw).stdout.strip()

    def make_base(self, names):
        "Debian from its archive, with the Python that runs this"
        context = self.folder / 'base'
        context.mkdir()
        packages = LIBRARIES.replace(' ', ',')
        words = ['--variant=minbase', f'--include={packages}', '--dpkgopt=force-unsafe-io', '--format=tar']
        sh(['mmdebstrap', *words, 'bookworm', context / 'debian.tar'])
        shutil.copytree(sys.base_prefix, context / 'python', symlinks=True, ignore=unneeded)
        (context / 'Dockerfile').write_text(BASE)
        self.build(context, 'Dockerfile', 'base')
        for name in names: self.run('tag', 'base', name)

    def fetch(self, *wanted, lock=ROOT / 'constraints.txt'):
        "Bring wheels for what a build will ask for"
        sh([sys.executable, '-m', 'pip', 'wheel', '-q', '--wheel-dir', self.wheels, '-c', lock, *wanted])

    def build(self, context, file, tag):
        "An image of a Dockerfile, as Docker would build it"
        return sh([*self.words(), *self.building(), '-f', Path(context) / file, '-t', tag, context])

    def about(self, image):
        "What Docker knows of an image: its Config"
        return json.loads(self.run('inspect --type image', image))['Docker']['config']

    def size(self, image):
        "Megabytes, with its base"
        with self.container(image) as name: said = self.run('run --isolation chroot --user root', name, '--', 'du', '-sxb', '/')
        return int(said.split()[0]) / 1e6

    @contextmanager
    def container(self, image):
        "A container's name, for as long as the block lasts"
        name = self.run('from --pull-never', image)
        try: yield name
        finally: self.run('rm', name)

    @contextmanager
    def started(self, image, command=None, **variables):
        "A process in a container, and the file of what it says; by default what the image is for"
        with self.container(image) as name, tempfile.NamedTemporaryFile('w+') as said:
            env = [w for k, v in variables.items() for w in ('-e', f'{k}={v}')]
            words = ['run', '--isolation', 'chroot', *env, name, '--', *(command or self.about(image)['Cmd'])]
            process = subprocess.Popen([*self.words(), *words], stdin=subprocess.DEVNULL, stdout=said, stderr=said)
            try: yield name, Path(said.name)
            finally:
                process.terminate()
                process.wait(30)


@pytest.fixture(scope='module')
def images():
    "A store with the base of our Dockerfiles"
    service('buildah', 'mmdebstrap')
    with tempfile.TemporaryDirectory(prefix='kit-images-', ignore_cleanup_errors=True) as folder:
        store = Images(Path(folder))
        store.make_base(bases(*ROOT.glob('docker/*.Dockerfile'), *ROOT.glob('template/docker/*.Dockerfile')))
        yield store
        store.run('rm --all')
        store.run('rmi --all --force')
