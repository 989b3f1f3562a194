"""What a release reaches over the network, for one that is tried: an image registry, GitHub, a DVC remote, and a cluster of one node.
Images are built and run for real, by buildah. Called as `docker`, `kubectl`, `gh`, `dvc` or `pip`; `OUTSIDE` is the folder of its state."""
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(os.environ['OUTSIDE'])
CALLED = ' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def told(name, default=None):
    "A part of the state"
    return json.loads((HERE / name).read_text()) if (HERE / name).exists() else default


def tell(name, value): (HERE / name).write_text(json.dumps(value))


def buildah(*words): return subprocess.run([*told('buildah'), *words], check=True, capture_output=True, text=True).stdout.strip()


def after(flag): return sys.argv[sys.argv.index(flag) + 1]


def docker(verb):
    "Build by buildah; pushed is what the registry has"
    pushed = told('pushed', {})
    if verb == 'pull': return 0 if sys.argv[-1] in pushed else 1
    words, tag = [*told('build'), '-f', after('--file'), '-t', after('--tag'), '.'] if verb == 'build' else [], sys.argv[-1]
    if verb == 'build': subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    if verb == 'push': tell('pushed', pushed | {tag: buildah('inspect', '--type', 'image', '--format', '{{.FromImageDigest}}', tag)})
    if verb == 'inspect': print(f'{tag.rpartition(":")[0]}@{pushed[tag]}')


def stop():
    "End what runs on the node"
    if not (there := told('running')): return
    subprocess.run(['pkill', '-TERM', '-s', str(there['session'])], check=False)
    while subprocess.run(['pgrep', '-s', str(there['session'])], check=False, capture_output=True).stdout: time.sleep(.1)
    buildah('rm', there['container'])
    tell('running', None)


def start(image, env):
    "Run an image on the node"
    [tag] = [t for t, digest in told('pushed').items() if f'{t.rpartition(":")[0]}@{digest}' == image]
    name = buildah('from', '--pull-never', tag)
    env = [w for k, v in (env | told('pod')).items() for w in ('-e', f'{k}={v}')]
    with open(HERE / 'pod.log', 'a') as log:
        words = [*told('buildah'), 'run', '--isolation', 'chroot', *env, name, '--', 'mlops-kit', 'serve']
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    tell('running', {'session': process.pid, 'container': name, 'image': image})


def kubectl(*words):
    "Apply, and go back"
    if 'apply' in words:
        import yaml
        rendered = subprocess.run(['kustomize', 'build', after('--kustomize')], check=True, capture_output=True, text=True).stdout
        [pods] = [d for d in yaml.safe_load_all(rendered) if d['kind'] == 'Deployment']
        [pod] = pods['spec']['template']['spec']['containers']
        tell('revisions', [*told('revisions', []), [pod['image'], {e['name']: e['value'] for e in pod['env']} | told('applied', {})]])
    revisions = told('revisions', [])
    if {told('fails')} & {*words}:
        tell('fails', None)  # once
        return 1
    if 'get' in words: print(len(revisions) or '')
    if 'undo' in words: tell('revisions', [*revisions, revisions[int(after('--to-revision')) - 1]])
    if 'delete' in words: tell('revisions', [])
    if {'apply', 'undo', 'delete'} & {*words}: stop()
    if {'apply', 'undo'} & {*words}: start(*told('revisions')[-1])


def main():
    name, *words = CALLED.split()
    with open(HERE / 'log', 'a') as log: log.write(f'{CALLED}\n')
    if name == 'docker': return docker(words[0])
    if name == 'kubectl': return kubectl(*words)
    if name == 'gh': return subprocess.run(['jq', '-r', after('--jq'), HERE / 'approvals'], check=False).returncode
    if name == 'dvc': shutil.copytree(HERE / 'remote', 'registry/packages', dirs_exist_ok=True)
    if name == 'pip' and words[0] != 'install': return subprocess.run([sys.executable, '-m', 'pip', *words], check=False).returncode


if __name__ == '__main__': sys.exit(main())
