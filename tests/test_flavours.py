"The flavours that the costly tests leave out: all of each of them works, once."
import json

import pytest
from children import CHAPTERS, other_flavours


@pytest.mark.full
@other_flavours
def test_flavour_works(child):
    "Every chapter passes with the set `ci`, the gate answers as the last one did, and the project's own checks and tests agree"
    assert child.ci.returncode == 0, child.ci.stdout
    assert {n: r['status'] for n, r in child.records().items() if n in CHAPTERS} == dict.fromkeys(CHAPTERS, 'passed')
    chapter = json.loads((child.path / 'build/ci/reports/evaluation.json').read_text())
    said = child.kit('gate out=build/ci --json', ok=False)
    assert (json.loads(said.stdout), said.returncode) == (chapter['gate'], chapter['gate']['answer'] != 'pass')
    found = json.loads(child.kit('check --json', ok=False).stdout)
    assert not [f for f in found if f['ok'] is not True]
    assert ' passed' in child.run('pytest', '-q', '-p', 'no:cacheprovider').stdout
