"""The denoising autoencoder against what is known of the best denoiser."""

import numpy as np
import pytest
import torch
from registry import real
from sklearn.base import clone

from skae import AutoencoderTransformer, DenoisingAE, GaussianNoise, Masking, Swap
from skae.model.step import Step

LINEAR = {"hidden_layer_sizes": (), "early_stopping": False, "random_state": 0}


@pytest.mark.parametrize("sigma", [0.5, 2.0])
@pytest.mark.parametrize("init", ["pca", "random"])
def test_on_gaussian_data_it_is_the_posterior_mean(init, sigma):
    """r*(x) = μ + Σ(Σ + σ²I)⁻¹(x − μ), within 3 % of the data's spread."""
    rng = np.random.default_rng(0)
    A = np.array([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.5, -0.5, 0.5]])
    X = rng.standard_normal((4000, 3)) @ A.T + [1, 2, 3]
    noise = GaussianNoise(sigma, relative=False)
    dae = DenoisingAE(3, corruption=noise, init=init, max_iter=100, learning_rate=0.01, batch_size=250, **LINEAR).fit(X)
    mean, covariance = X.mean(0), np.cov(X.T)
    shrink = covariance @ np.linalg.inv(covariance + sigma**2 * np.eye(3))
    expected = mean + (X - mean) @ shrink.T
    rms = np.sqrt(np.mean((dae.reconstruct(X) - expected) ** 2))
    assert rms < 0.03 * X.std()


def test_the_score_of_gaussian_data():
    """∇ log p_σ(x) = −(Σ + σ²I)⁻¹(x − μ), also in units of their own."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((4000, 2)) @ [[2.0, 0.0], [1.0, 1.0]] + 5
    for noise in (GaussianNoise(0.7, relative=False), GaussianNoise(0.4)):
        options = {"corruption": noise, "max_iter": 60, "learning_rate": 0.01, "batch_size": 500, **LINEAR}
        dae = DenoisingAE(2, **options).fit(X)
        sigma = noise.scale * (np.sqrt(X.var(0).mean()) if noise.relative else 1)
        smoothed = np.linalg.inv(np.cov(X.T) + sigma**2 * np.eye(2))
        expected = -(X - X.mean(0)) @ smoothed
        np.testing.assert_allclose(dae.score_function(X), expected, atol=0.1 * np.abs(expected).std())


def _mixture(n, rng):
    centres = np.array([[-2.0, 0.0], [2.0, 0.0], [0.0, 2.5]])
    return centres[rng.integers(3, size=n)] + 0.5 * rng.standard_normal((n, 2)), centres


def _cosine(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_the_score_of_a_gaussian_mixture():
    rng = np.random.default_rng(0)
    X, centres = _mixture(4000, rng)
    sigma = 0.3
    dae = DenoisingAE(
        2, hidden_layer_sizes=(64, 64), corruption=GaussianNoise(sigma, relative=False), max_iter=60, learning_rate=5e-3
    ).set_params(batch_size=250, early_stopping=False, random_state=0)
    found = dae.fit(X).score_function(X)
    variance = 0.25 + sigma**2
    towards = centres - X[:, None]
    weight = np.exp(-0.5 * (towards**2).sum(2) / variance)
    true = (weight[:, :, None] * towards).sum(1) / weight.sum(1, keepdims=True) / variance
    assert _cosine(found, true).mean() >= 0.99


@pytest.fixture(scope="module")
def ring():
    """A denoiser of a noisy ring of radius 3, trained on a range of scales that it is told of."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 2000)
    X = (3 + 0.1 * rng.standard_normal(2000))[:, None] * np.c_[np.cos(angle), np.sin(angle)] + [4, -1]
    noise = GaussianNoise((0.1, 1.0), relative=False)
    options = {"hidden_layer_sizes": (64, 64), "max_iter": 40, "learning_rate": 5e-3, "early_stopping": False}
    dae = DenoisingAE(2, corruption=noise, conditioning="noise_level", random_state=0, batch_size=125, **options)
    return X, dae.fit(X)


def test_walkback_stays_on_the_ring(ring):
    _, dae = ring
    samples = dae.sample(500, n_steps=50, random_state=0) - [4, -1]
    radius = np.linalg.norm(samples, axis=1)
    assert np.mean(np.abs(radius - 3) < 0.6) > 0.95
    # All the way round: each sixth of the ring is visited.
    sixth = np.floor((np.arctan2(samples[:, 1], samples[:, 0]) + np.pi) / (np.pi / 3)).astype(int)
    assert np.bincount(sixth.clip(0, 5), minlength=6).min() > 20


def test_walkback_from_given_rows(ring):
    X, dae = ring
    np.testing.assert_array_equal(
        dae.sample(5, n_steps=3, init=X[:5], random_state=0), dae.sample(5, n_steps=3, init=X[:5], random_state=0)
    )
    one_step = dae.sample(200, n_steps=1, init=X[:200], random_state=0)
    assert np.linalg.norm(one_step - X[:200], axis=1).mean() < 1


def test_the_score_at_several_scales(ring):
    """Inside and outside of the ring it points at the ring, at each scale that was trained on."""
    _, dae = ring
    angle = np.linspace(0, 2 * np.pi, 50)
    ray = np.c_[np.cos(angle), np.sin(angle)]
    for scale in (0.2, 0.5, 1.0):
        inward = dae.score_function(3.6 * ray + [4, -1], scale=scale)
        outward = dae.score_function(2.4 * ray + [4, -1], scale=scale)
        assert _cosine(inward, -ray).mean() > 0.95 and _cosine(outward, ray).mean() > 0.9


def test_the_network_told_of_the_noise_denoises_each_level_better():
    X = real(1000, 4)
    options = {"corruption": GaussianNoise((0.03, 3.0)), "max_iter": 40, "hidden_layer_sizes": (32,)}
    dae = DenoisingAE(4, early_stopping=False, random_state=0, learning_rate=5e-3, **options)
    told, untold = (clone(dae).set_params(conditioning=c).fit(X) for c in ("noise_level", None))
    assert told.loss_curve_[-1] < 0.95 * untold.loss_curve_[-1] < 0.95 * untold.loss_curve_[0]


def test_the_network_told_of_the_mask_fills_gaps_better():
    X = real(1000, 4)
    options = {"corruption": Masking(0.5, fill="mean"), "max_iter": 40, "hidden_layer_sizes": (32,)}
    dae = DenoisingAE(4, early_stopping=False, random_state=0, learning_rate=5e-3, **options)
    told, untold = (clone(dae).set_params(conditioning=c).fit(X) for c in ("mask", None))
    assert told.loss_curve_[-1] < untold.loss_curve_[-1]
    gaps = np.random.default_rng(1).random(X.shape) < 0.3
    filled = told.reconstruct(np.where(gaps, np.nan, X))
    by_mean = np.broadcast_to(X.mean(0), X.shape)
    assert ((filled - X)[gaps] ** 2).mean() < 0.6 * ((by_mean - X)[gaps] ** 2).mean()


def _step(emphasis):
    X = real(40, 4)
    options = {"corruption": Masking(0.5), "max_iter": 1, "early_stopping": False, "random_state": 0}
    model = DenoisingAE(2, hidden_layer_sizes=(6,), emphasis=emphasis, **options).fit(X).model_
    x, _ = model.scaling.input(torch.tensor(X, dtype=torch.float32))
    return model, Step(model, x, x, generator=torch.Generator().manual_seed(0))


def test_emphasis_weighs_the_corrupted_entries():
    model, step = _step(7.0)
    with torch.no_grad():
        entries = model.likelihood.log_prob(step.eta, step.target, model.extras)
        weight = torch.where(step.corrupted.changed, 7.0, 1.0)
        torch.testing.assert_close(step.log_likelihood, (weight * entries).sum(1) + model.log_jacobian_sum)


@pytest.mark.parametrize("corruption", [Masking(0.3), Swap(0.3)], ids=str)
def test_emphasis_rebuilds_corrupted_entries_better(corruption):
    X = real(500, 4)
    options = {"hidden_layer_sizes": (32,), "max_iter": 40, "early_stopping": False, "learning_rate": 5e-3}
    errors = []
    for emphasis in (0.05, 20.0):
        dae = DenoisingAE(3, corruption=corruption, emphasis=emphasis, random_state=0, **options).fit(X)
        model = dae.model_
        x, _ = model.scaling.input(torch.tensor(X, dtype=torch.float32))
        with torch.no_grad():
            step = Step(model, x, x, generator=torch.Generator().manual_seed(0))
            errors.append(float((step.eta - x)[step.corrupted.changed].square().mean()))
    assert errors[1] < 0.9 * errors[0]


def test_it_denoises():
    """Rows come out nearer to the clean ones than they went in, and nearer than a plain autoencoder's."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1000, 2)) @ rng.standard_normal((2, 20))
    noisy = X + rng.standard_normal(X.shape)
    options = {"hidden_layer_sizes": (32,), "max_iter": 30, "early_stopping": False, "random_state": 0}
    dae = DenoisingAE(10, corruption=GaussianNoise(1.0, relative=False), **options).fit(X)
    ae = AutoencoderTransformer(10, **options).fit(X)
    error = [((Z - X) ** 2).mean() for Z in (noisy, ae.reconstruct(noisy), dae.reconstruct(noisy))]
    assert error[2] < 0.25 * error[0] and error[2] < 0.8 * error[1]


def test_noise_level_needs_gaussian_noise():
    with pytest.raises(ValueError, match="conditioning='noise_level' needs Gaussian noise"):
        DenoisingAE(2, corruption="masking", conditioning="noise_level").fit(real(30, 3))


def test_the_score_needs_gaussian_noise_and_a_scale_that_was_trained_on(ring):
    X, dae = ring
    with pytest.raises(ValueError, match=r"scale=2.0 is outside of what was trained on, \[0.1, 1\]"):
        dae.score_function(X, scale=2.0)
    masking = DenoisingAE(2, corruption="masking", max_iter=1).fit(X)
    with pytest.raises(ValueError, match=r"score_function needs corruption=GaussianNoise\(...\)"):
        masking.score_function(X)
