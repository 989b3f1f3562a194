"""Run all notebooks of the working folder with papermill's own engine, two at a time: the other side of test_kernels.py.

A kernel of ipykernel 7.4 may hang when it is to end, once in some hundred times. Then a signal ends it, and what it had not
written yet is lost. So where a signal was needed, the notebook is run once more, for its files; what it says is that of the first time.
Some always need one, by what they leave running.
"""
import json
import sys
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


def run(path):
    "Execute one notebook; what it raised is in the result"
    for out in (f'{path.stem}.out', None):
        seen.terminated = False
        try: papermill.execute_notebook(path.name, out, values.get(path.stem, {}), kernel_name='python3', progress_bar=False)
        except Exception as e: print(path, repr(e)[:2000], file=sys.stderr)
        if not seen.terminated: return


seen = Seen()
LocalProvisioner.terminate = terminate
values = json.loads(sys.argv[1])
with ThreadPoolExecutor(2) as pool: list(pool.map(run, sorted(Path().glob('*.ipynb'))))
