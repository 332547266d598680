"""The denoiser that is told the level of noise and meets the same task at each, against closed forms."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from registry import generator, real
from sklearn.base import clone

from skae import Bernoulli, DenoisingAE, Gaussian, GaussianNoise, Masking
from skae.model.autoencoder import Autoencoder
from skae.model.corruptions import Corrupted
from skae.model.step import PreconditionedStep, Step

LOW, HIGH = 0.05, 2.0
SCALES = (0.05, 0.1, 0.5, 1.0, 2.0)
DAE = DenoisingAE(
    4,
    hidden_layer_sizes=(32,),
    init="random",
    corruption=GaussianNoise((LOW, HIGH)),
    conditioning="noise_level",
    batch_size=100,
    learning_rate=5e-3,
    early_stopping=False,
    random_state=0,
)


def _gaussian(n):
    """Rows of a normal distribution, their mean, their covariance, and the unit of noise."""
    rng = np.random.default_rng(0)
    A = np.array([[2.0, 0, 0, 0], [1, 1, 0, 0], [0.5, -0.5, 1, 0], [0, 0.5, 0.5, 1.5]])
    X = rng.standard_normal((n, 4)) @ A.T + [1, -2, 3, 0]
    return X, X.mean(axis=0), np.cov(X.T, bias=True), np.sqrt(X.var(axis=0).mean())


def _errors(dae, n=2000):
    """Root mean squared distance from the best guess at each level, in units of the data's spread."""
    X, mean, covariance, spread = _gaussian(n)
    dae.fit(X)
    made = []
    for scale in SCALES:
        shrink = covariance @ np.linalg.inv(covariance + (scale * spread) ** 2 * np.eye(4))
        best = mean + (X - mean) @ shrink.T
        made.append(np.sqrt(np.square(dae.reconstruct(X, scale=scale) - best).mean()) / spread)
    return np.array(made)


def _without_preconditioning(monkeypatch):
    build = Autoencoder._build

    def plain(self, shortcut):
        build(self, shortcut)
        self.preconditioned, self.step_class = False, Step

    monkeypatch.setattr(Autoencoder, "_build", plain)


def test_at_each_level_it_is_nearer_to_the_posterior_mean_than_without(monkeypatch):
    """r*(x, s) = μ + Σ(Σ + s²I)⁻¹(x − μ)."""
    dae = clone(DAE).set_params(max_iter=60)
    told = _errors(dae)
    assert (told <= [0.008, 0.012, 0.06, 0.08, 0.1]).all()
    _without_preconditioning(monkeypatch)
    plain = _errors(clone(dae))
    assert (told < plain).all()
    assert told[0] < 0.2 * plain[0] and told.mean() < 0.5 * plain.mean()


def _with_noise(n, scale, conditioned=DAE):
    """A step of white rows with noise of one level, of a model whose weights are the first."""
    X = np.random.default_rng(1).standard_normal((n, 4))
    model = clone(conditioned).set_params(max_iter=1).fit(X).model_
    x, target, _ = model.prepare_for_training(torch.tensor(X))
    step = model.step(x, target, generator=generator())
    level = torch.full((n, 1), scale)
    step.corrupted = Corrupted(x + level * torch.randn(x.shape, generator=generator()), log_level=level.log())
    return model, step


@pytest.mark.parametrize("scale", SCALES)
def test_what_the_network_sees_and_fills_in_has_unit_variance_at_each_level(scale):
    _, step = _with_noise(20_000, scale)
    for rows in (step.seen, step.target):
        np.testing.assert_allclose(np.cov(rows.T, bias=True), np.eye(4), atol=0.05)
    # Nothing is left of the best linear guess: they have nothing in common.
    assert float((step.seen * step.target).mean().abs()) < 0.02


@pytest.mark.parametrize("scale", SCALES)
def test_the_target_is_what_makes_the_guess_right(scale):
    _, step = _with_noise(50, scale)
    step.eta = step.target
    torch.testing.assert_close(step.rebuilt, step.input, rtol=0, atol=1e-5)


def test_a_silent_network_shrinks_rows_to_the_mean():
    """r(x, s) = μ + (x − μ)/(1 + s²)."""
    X = real(60, 4)
    dae = clone(DAE).set_params(max_iter=1).fit(X)
    with torch.no_grad():
        for parameter in dae.model_.decoder.parameters():
            parameter.zero_()
    mean = X.mean(axis=0)
    for scale in SCALES:
        np.testing.assert_allclose(
            dae.reconstruct(X, scale=scale), mean + (X - mean) / (1 + scale**2), rtol=1e-6, atol=1e-6
        )


@pytest.fixture(scope="module")
def fitted():
    """A denoiser after a short training, and its rows."""
    X = real(200, 4)
    return X, clone(DAE).set_params(max_iter=3).fit(X)


def test_by_default_it_is_told_of_the_least_noise(fitted):
    X, dae = fitted
    np.testing.assert_allclose(dae.reconstruct(X), dae.reconstruct(X, scale=LOW), rtol=1e-9)
    assert np.abs(dae.reconstruct(X) - dae.reconstruct(X, scale=HIGH)).mean() > 0.1


def test_the_scale_is_in_the_units_of_the_noise(fitted):
    X, dae = fitted
    spread = np.sqrt(X.var(axis=0).mean())
    noise = GaussianNoise((LOW * spread, HIGH * spread), relative=False)
    other = clone(dae).set_params(corruption=noise).fit(X)
    for scale in SCALES[:-1]:
        one, same = dae.reconstruct(X, scale=scale), other.reconstruct(X, scale=scale * spread)
        np.testing.assert_allclose(one, same, atol=1e-3 * spread)


def test_the_score_is_the_change_over_the_variance_of_the_noise(fitted):
    X, dae = fitted
    spread = np.sqrt(X.var(axis=0).mean())
    for scale in SCALES:
        by_hand = (dae.reconstruct(X, scale=scale) - X) / (scale * spread) ** 2
        np.testing.assert_allclose(dae.score_function(X, scale=scale), by_hand, rtol=1e-6, atol=1e-6)


def test_rows_do_not_know_of_each_other(fitted):
    X, dae = fitted
    np.testing.assert_allclose(dae.reconstruct(X[7:9], scale=0.5), dae.reconstruct(X, scale=0.5)[7:9], rtol=1e-9)
    made = dae.reconstruct(X.astype(np.float32), scale=0.5)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, dae.reconstruct(X, scale=0.5), rtol=1e-3, atol=1e-3)


def test_gaps_are_filled_at_each_level(fitted):
    """A gap is filled nearer to its value than by the mean: the other columns tell."""
    X, _ = fitted
    gaps = np.random.default_rng(0).random(X.shape) < 0.1
    dae = clone(DAE).set_params(max_iter=40).fit(X)
    middle = dae.reconstruct(np.where(gaps, np.nan, X), scale=0.3)
    spread = X.std(axis=0)
    by_mean = np.square((X - X.mean(axis=0)) / spread)[gaps].mean()
    assert np.square((middle - X) / spread)[gaps].mean() < 0.9 * by_mean


def test_pickles_reconstruct_the_same_at_each_level(fitted):
    X, dae = fitted
    other = pickle.loads(pickle.dumps(dae))
    assert other.model_.preconditioned
    for scale in SCALES:
        np.testing.assert_array_equal(other.reconstruct(X, scale=scale), dae.reconstruct(X, scale=scale))


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
@pytest.mark.parametrize("unit", [None, "shared", "columns"])
def test_training_is_the_same_by_hand_and_by_autograd(unit, gaps, weighted, monkeypatch):
    rng = np.random.default_rng(0)
    X = real(80, 4)
    X[rng.random(X.shape) < 0.2 * gaps] = np.nan
    weight = rng.random(80) if weighted else None
    dae = clone(DAE).set_params(max_iter=5, batch_size=16)
    if unit is not None:
        dae.set_params(likelihood=Gaussian(scale=unit))
    by_hand = clone(dae).fit(X, sample_weight=weight)
    monkeypatch.setattr("skae.training.trainer.DenseGradient", SimpleNamespace(covers=lambda *_: False))
    by_autograd = clone(dae).fit(X, sample_weight=weight)
    np.testing.assert_allclose(by_hand.loss_curve_, by_autograd.loss_curve_, rtol=1e-5)
    made, expected = (ae.reconstruct(X, scale=0.5) for ae in (by_hand, by_autograd))
    np.testing.assert_allclose(made, expected, rtol=0, atol=1e-3 * expected.std())


@pytest.mark.parametrize("scale", [0.01, 2.5])
def test_levels_that_were_not_trained_on(fitted, scale):
    X, dae = fitted
    with pytest.raises(ValueError, match=rf"scale={scale} is outside of what was trained on, \[0.05, 2\]"):
        dae.reconstruct(X, scale=scale)


@pytest.mark.parametrize(
    "options",
    [{"conditioning": None}, {"conditioning": "mask", "corruption": Masking(0.3)}],
    ids=["none", "mask"],
)
def test_a_network_that_is_told_of_no_level(fitted, options):
    X, _ = fitted
    dae = clone(DAE).set_params(max_iter=1, **options).fit(X)
    with pytest.raises(ValueError, match="scale=0.5 needs conditioning='noise_level', but it is"):
        dae.reconstruct(X, scale=0.5)


@pytest.mark.parametrize(
    ("options", "preconditioned"),
    [
        ({}, True),
        ({"corruption": GaussianNoise(0.3)}, True),
        ({"conditioning": None}, False),
        ({"init": "pca"}, False),
        ({"likelihood": Bernoulli(bounds="auto")}, False),
    ],
    ids=str,
)
def test_where_it_is_preconditioned(fitted, options, preconditioned):
    X, _ = fitted
    dae = clone(DAE).set_params(max_iter=1, **options).fit(X)
    assert issubclass(dae.model_.step_class, PreconditionedStep) == preconditioned
    assert np.isfinite(dae.reconstruct(X)).all()


def test_a_code_alone_is_not_a_row():
    X, *_ = _gaussian(200)
    dae = clone(DAE).set_params(max_iter=2).fit(X)
    with pytest.raises(ValueError, match="Use reconstruct, or init='pca'"):
        dae.inverse_transform(dae.transform(X))
