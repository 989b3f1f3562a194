"Run all notebooks of the working folder with papermill's own engine, two at a time: the other side of test_kernels.py."
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import papermill


def run(path):
    "Execute one notebook; what it raised is in the result"
    try: papermill.execute_notebook(path.name, f'{path.stem}.out', values.get(path.stem, {}), kernel_name='python3', progress_bar=False)
    except Exception as e: print(path, repr(e)[:2000], file=sys.stderr)


values = json.loads(sys.argv[1])
with ThreadPoolExecutor(2) as pool: list(pool.map(run, sorted(Path().glob('*.ipynb'))))
