"The flavours that the costly tests leave out: all of each of them works, once."
import json

import pytest
from children import CHAPTERS, other_flavours
from test_children import run_workflow


@pytest.mark.full
@other_flavours
def test_flavour_works(child):
    "Its own workflow runs as it stands: checks, tests and every chapter pass; and the gate answers as the last chapter did"
    for _ in run_workflow(child.path / '.github/workflows/ci.yml', child.path, child.env, {}, event='push'): pass
    assert {n: r['status'] for n, r in child.records().items() if n in CHAPTERS} == dict.fromkeys(CHAPTERS, 'passed')
    chapter = json.loads((child.path / 'build/ci/reports/evaluation.json').read_text())
    said = child.kit('gate out=build/ci --json', ok=False)
    assert (json.loads(said.stdout), said.returncode) == (chapter['gate'], chapter['gate']['answer'] != 'pass')
