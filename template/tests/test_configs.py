"Every config is a promise that it works."
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from mlops_kit.configs import compose

folder = Path(__file__).parents[1]/'configs'
choices = [f'{f.parent.relative_to(folder).as_posix()}={f.stem}' for f in sorted(folder.glob('*/**/*.yaml')) if f.parent.name!='notebooks']


@pytest.mark.parametrize('choice', choices)
def test_choice_builds(choice):
    "Each choice of each group composes, and builds what it names"
    if choice=='trainer=gpu' and not torch.cuda.is_available(): pytest.skip('needs a GPU')
    cfg = compose([choice])
    for part in ('data', 'model', 'trainer'): assert instantiate(cfg[part])
