"What every model must be able to do, whatever it is."
from mlops_kit.configs import compose
from mlops_kit.train import train


def test_learns_a_batch_by_heart():
    "A model that cannot fit one batch has a bug"
    def loss(epochs): return train(compose(['debug=overfit', f'trainer.max_epochs={epochs}', 'out=build/test']))
    assert loss(60) < 0.7*loss(1)
