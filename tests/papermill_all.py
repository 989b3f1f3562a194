"""Run all notebooks of the working folder with papermill's own engine, two at a time: the other side of test_kernels.py.

A kernel of ipykernel 7.4 may hang when it is to end, once in some hundred times. Then a signal ends it, and what it had not
written yet is lost. So where a signal was needed, the notebook is run once more, in an empty folder, and the files that it writes there
are taken instead; what it says is that of the first time. Some always need one, by what they leave running.
"""
import json
import shutil
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import papermill
from jupyter_client.provisioning.local_provisioner import LocalProvisioner


class Seen(threading.local):
    "Whether a kernel of this thread was ended by a signal"
    terminated = False


async def terminate(self, restart=False, own=LocalProvisioner.terminate):
    "End it, and take a note"
    seen.terminated = True
    await own(self, restart)


def execute(path, out=None, cwd=None):
    "Execute one notebook, and tell whether its kernel ended by itself; what it raised is in the result"
    seen.terminated = False
    try: papermill.execute_notebook(path.name, out, values.get(path.stem, {}), kernel_name='python3', progress_bar=False, cwd=cwd)
    except Exception as e: print(path, repr(e)[:2000], file=sys.stderr)
    return not seen.terminated


def execute_elsewhere(path):
    "Execute it for its files: where it stood, a log would be continued"
    with tempfile.TemporaryDirectory() as folder:
        execute(path, cwd=folder)
        shutil.copytree(folder, '.', dirs_exist_ok=True)


seen = Seen()
LocalProvisioner.terminate = terminate
values = json.loads(sys.argv[1])
paths = sorted(Path().glob('*.ipynb'))
with ThreadPoolExecutor(2) as pool: ended = list(pool.map(lambda p: execute(p, f'{p.stem}.out'), paths))
for path in [p for p, e in zip(paths, ended) if not e]: execute_elsewhere(path)  # one after the other: papermill moves the whole process
