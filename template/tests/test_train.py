"What every model must be able to do, whatever it is."
from mlops_kit.train import compose, train


def test_learns_a_batch_by_heart():
    "A model that cannot fit one batch has a bug"
    prepared = compose().data.path
    first,long = [train(compose(['debug=overfit', f'trainer.max_epochs={n}', f'data.path={prepared}', 'out=build/test'])) for n in (1, 60)]
    assert long < first/2
