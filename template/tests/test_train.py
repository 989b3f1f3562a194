"What every model must be able to do, whatever it is."
from mlops_kit.configs import compose
from mlops_kit.train import fit, load_best, train

quick = ['debug=overfit', 'out=build/test']


def test_learns_a_batch_by_heart():
    "A model that cannot fit one batch has a bug"
    def loss(epochs): return train(compose([*quick, f'trainer.max_epochs={epochs}']))
    assert loss(60) < 0.7*loss(1)


def test_trained_again_it_is_the_same():
    "Two trainings from one seed give the same weights, and each of them is a number"
    def weights(): return load_best(fit(compose([*quick, 'trainer.max_epochs=2']))).state_dict().values()
    for a,b in zip(weights(), weights(), strict=True): assert a.isfinite().all() and a.equal(b)
