"""The denoising autoencoder against what is known of the best denoiser."""

import copy

import numpy as np
import pytest
import torch
from registry import CORRUPTIONS, generator, over, real
from sklearn.base import clone

from skae import AutoencoderTransformer, DenoisingAE, GaussianNoise, Masking, Swap
from skae.model.step import Step

LINEAR = {"hidden_layer_sizes": (), "early_stopping": False, "random_state": 0}


@pytest.mark.parametrize("n_components", [3, 8])
@pytest.mark.parametrize("sigma", [0.5, 2.0])
@pytest.mark.parametrize("init", ["pca", "random"])
def test_on_gaussian_data_it_is_the_posterior_mean(init, sigma, n_components):
    """Also of an overcomplete code: r*(x) = μ + Σ(Σ + σ²I)⁻¹(x − μ), within 3 % of the data's spread."""
    rng = np.random.default_rng(0)
    A = np.array([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.5, -0.5, 0.5]])
    X = rng.standard_normal((4000, 3)) @ A.T + [1, 2, 3]
    noise = GaussianNoise(sigma, relative=False)
    dae = DenoisingAE(n_components, corruption=noise, init=init, max_iter=100, batch_size=250, **LINEAR)
    dae.set_params(learning_rate=0.01).fit(X)
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


def assert_like_the_ring(samples):
    """Radius 3, thickness 0.1, and each sixth visited: within 2.5 standard errors of 500 rows, and 10 % for the fit."""
    samples = samples - [4, -1]
    radius = np.linalg.norm(samples, axis=1)
    assert radius.mean() == pytest.approx(3, abs=0.02)
    assert radius.std() == pytest.approx(0.1, rel=0.18)
    assert np.abs(radius - 3).max() < 0.6
    sixth = np.floor((np.arctan2(samples[:, 1], samples[:, 0]) + np.pi) / (np.pi / 3)).astype(int)
    assert np.bincount(sixth.clip(0, 5), minlength=6).min() > 50


def test_the_chain_has_the_radius_and_the_thickness_of_the_ring(ring):
    X, dae = ring
    assert_like_the_ring(dae.sample(500, n_steps=50, random_state=0))
    # From elsewhere it goes there.
    far = np.random.default_rng(1).normal([4, -1], 3, (500, 2))
    assert_like_the_ring(dae.sample(500, n_steps=50, init=far, random_state=0))


@pytest.mark.parametrize("corruption", [GaussianNoise(0.3), Masking(0.5), Swap(0.5)], ids=str)
def test_the_chain_with_one_strength_of_corruption_has_them_too(ring, corruption):
    X, _ = ring
    dae = DenoisingAE(2, hidden_layer_sizes=(64, 64), corruption=corruption, max_iter=20, batch_size=125)
    dae.set_params(learning_rate=5e-3, early_stopping=False, random_state=0)
    assert_like_the_ring(dae.fit(X).sample(500, n_steps=50, random_state=0))


@pytest.mark.parametrize("sigma", [0.3, 1.0])
@pytest.mark.parametrize("variances", [(1.0, 1.0, 1.0), (2.0, 1.0)], ids=str)
def test_the_chain_has_the_moments_of_gaussian_data(variances, sigma):
    """Also from a start that has others; six standard errors of the training rows and of the draws together."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, len(variances))) * np.sqrt(variances) + 5
    dae = DenoisingAE(len(variances), corruption=GaussianNoise(sigma), max_iter=20, random_state=0).fit(X)
    start = 5 + rng.standard_normal((4000, len(variances))) * [0.2, 2.0, 3.0][: len(variances)]
    for init in (None, start):
        drawn = dae.sample(4000, init=init, random_state=0)
        np.testing.assert_allclose(drawn.var(0) / variances, 1, atol=6 * np.sqrt(2 / 2000 + 2 / 4000))
        np.testing.assert_allclose(drawn.mean(0), 5, atol=0.15)
        assert np.abs(np.corrcoef(drawn.T) - np.eye(len(variances))).max() < 0.1


def test_the_chain_is_stable_where_the_start_is_kept():
    """A start at PCA undoes no noise: with residuals as they are, the variance would grow at each step."""
    X = real(40, 10)
    dae = DenoisingAE("auto", corruption=GaussianNoise(0.5), random_state=0).fit(X)
    assert dae.n_iter_ <= 1
    drawn = dae.sample(500, n_steps=200, random_state=0)
    assert 0.4 < drawn.var(0).sum() / X.var(0).sum() < 1.6


def _two_counts(rng):
    z = rng.random(2000)
    return np.column_stack([rng.poisson(5, 2000), *(rng.poisson(1 + 15 * z) for _ in range(2))]).astype(float)


def _two_bits(rng):
    first = rng.random(2000) < 0.3
    return np.column_stack([rng.random(2000) < 0.5, first, first ^ (rng.random(2000) < 0.05)]).astype(float)


@pytest.mark.parametrize("corruption", [GaussianNoise(1.0), Masking(0.5)], ids=str)
@pytest.mark.parametrize("likelihood, rows", [("poisson", _two_counts), ("bernoulli", _two_bits)])
def test_counts_and_bits_are_drawn_with_their_moments(likelihood, rows, corruption):
    X = rows(np.random.default_rng(0))
    dae = DenoisingAE(3, likelihood=likelihood, corruption=corruption, hidden_layer_sizes=(32,), max_iter=20)
    drawn = dae.set_params(random_state=0).fit(X).sample(2000, random_state=0)
    np.testing.assert_array_equal(drawn, drawn.round())
    assert drawn.min() >= 0
    np.testing.assert_allclose(drawn.mean(0), X.mean(0), rtol=0.12)
    np.testing.assert_allclose(drawn.var(0), X.var(0), rtol=0.2)
    assert np.abs(np.corrcoef(drawn.T) - np.corrcoef(X.T)).max() < 0.15


@pytest.mark.parametrize("corruption", **over(CORRUPTIONS))
def test_every_corruption_has_a_chain(corruption):
    X = real(100, 4)
    X[::7, 1] = np.nan
    dae = DenoisingAE(2, hidden_layer_sizes=(6,), corruption=corruption, walkback=2, max_iter=2, random_state=0).fit(X)
    drawn = dae.sample(30, n_steps=3, random_state=0)
    assert drawn.shape == (30, 4) and np.isfinite(drawn).all()
    np.testing.assert_array_equal(drawn, dae.sample(30, n_steps=3, random_state=0))


def test_kept_rows_are_those_of_all_calls_and_follow_the_weights():
    X = np.column_stack([np.arange(3000.0), np.zeros(3000)])
    weight = (X[:, 0] >= 1500) + 1.0
    dae = DenoisingAE(1, hidden_layer_sizes=(4,), max_iter=1, early_stopping=False, random_state=0)
    kept = dae.fit(X, sample_weight=weight).chain_rows_
    assert kept.shape == (2000, 2) and np.mean(kept[:, 0] >= 1500) == pytest.approx(2 / 3, abs=0.01)
    parts = clone(dae).partial_fit(X[:500]).partial_fit(X[500:1000]).partial_fit(X[1000:])
    assert parts.n_samples_seen_ == 3000 and len(np.unique(parts.chain_rows_[:, 0])) == 2000
    assert np.mean(parts.chain_rows_[:, 0] < 1000) == pytest.approx(1 / 3, abs=0.01)


def test_walkback_goes_further_with_half_of_the_rows():
    """A chain of a denoiser of a point stays near it, so copies that went on are as near as those that did not."""
    X = real(400, 3)
    dae = DenoisingAE(3, hidden_layer_sizes=(), corruption=GaussianNoise(0.5), max_iter=30, random_state=0).fit(X)
    further = copy.deepcopy(dae.model_)
    further.walkback = 1
    x, _ = dae.model_.scaling.input(torch.tensor(X, dtype=torch.float32))
    with torch.no_grad():
        once, more = (Step(m, x, x, generator=generator()).corrupted.rows for m in (dae.model_, further))
    stayed = (once == more).all(1)
    assert stayed.float().mean() == pytest.approx(0.5, abs=0.08)
    # Those that went on are draws of p(x | x̃) with noise: as large as the corrupted rows, and not the same noise.
    assert more[~stayed].var(0).sum() == pytest.approx(float(once.var(0).sum()), rel=0.15)
    assert (more - x)[~stayed].square().mean() > 1.2 * (once - x)[~stayed].square().mean()


def test_walkback_training_lowers_the_loss_and_keeps_the_distribution():
    X = np.random.default_rng(0).standard_normal((1000, 2)) * [1.5, 1.0]
    dae = DenoisingAE(2, corruption=GaussianNoise(0.5), walkback=2, max_iter=20, random_state=0, early_stopping=False)
    dae.fit(X)
    assert dae.loss_curve_[-1] < dae.loss_curve_[0]
    np.testing.assert_allclose(dae.sample(2000, random_state=0).var(0), X.var(0), rtol=0.2)


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
