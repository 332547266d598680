"""Likelihoods against torch.distributions, autograd and scipy."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from registry import LIKELIHOODS, columns_of, generator, over, real, scaling_of
from sklearn.base import clone

from skae import (
    VAE,
    AutoencoderTransformer,
    Bernoulli,
    BoundedGaussian,
    DenseNetwork,
    Gaussian,
    Multinomial,
    NegativeBinomial,
    Poisson,
)

P = 4
SLOPED = {name: example for name, example in LIKELIHOODS.items() if hasattr(example.part, "slope")}


def _entries(example, variational=False, dtype=torch.float64):
    """Decoder outputs, targets and extras as in a fit."""
    X = example.rows(30, P)
    scaling = scaling_of(X, example.part)
    eta = torch.randn(30, P, generator=generator(), dtype=dtype)
    target = scaling.target(torch.tensor(X, dtype=dtype))
    extras = example.part.extras(P, variational, float(scaling.columns.spread))
    return eta, target, {name: value.to(dtype) - 0.1 for name, (value, _) in extras.items()}


@pytest.mark.parametrize("example", **over(LIKELIHOODS))
def test_log_prob_is_that_of_torch_distributions(example):
    eta, target, extras = _entries(example)
    distribution, found = example.part.distribution(eta, extras), example.part.log_prob(eta, target, extras)
    if distribution.event_shape:
        # Of whole rows, with the coefficient that counts the orders in which the same words can come.
        found = found.sum(1) + torch.lgamma(target.sum(1) + 1) - torch.lgamma(target + 1).sum(1)
    torch.testing.assert_close(found, distribution.log_prob(target))


@pytest.mark.parametrize("example", **over(LIKELIHOODS))
def test_mean_is_that_of_the_distribution(example):
    eta, _, extras = _entries(example)
    torch.testing.assert_close(example.part.mean(eta), example.part.distribution(eta, extras).mean)


@pytest.mark.parametrize("example", **over(LIKELIHOODS))
def test_draws_have_the_mean_and_variance_of_the_distribution(example):
    eta, _, extras = _entries(example)
    eta = eta[:1].clamp(-2, 2)
    n = 40000
    draws = example.part.sample(eta.expand(n, P), extras, generator())
    distribution = example.part.distribution(eta, extras)
    # Five standard errors of the mean; the variance of a t with 3 degrees of freedom has none.
    error = 5 * (distribution.variance / n).sqrt()
    assert ((draws.mean(0) - distribution.mean).abs() < error).all()
    if not (hasattr(example.part, "df") and example.part.df <= 4):
        torch.testing.assert_close(draws.var(0), distribution.variance[0], rtol=0.1, atol=0)


@pytest.mark.parametrize("example", **over(SLOPED))
def test_slope_is_the_gradient_of_minus_the_log_prob(example):
    eta, target, extras = _entries(example)
    eta.requires_grad_()
    (expected,) = torch.autograd.grad(-example.part.log_prob(eta, target, extras).sum(), eta)
    torch.testing.assert_close(example.part.slope(eta.detach(), target), expected)


def test_bernoulli_clips_what_is_beyond_the_bounds():
    eta, beyond = torch.linspace(-3, 3, 7), torch.tensor([-0.5, 1.5])[:, None]
    clipped, part = beyond.clamp(0, 1), Bernoulli()
    torch.testing.assert_close(part.log_prob(eta, beyond, {}), part.log_prob(eta, clipped, {}))
    torch.testing.assert_close(part.slope(eta, beyond), part.slope(eta, clipped))


@pytest.mark.parametrize("example", **over(LIKELIHOODS))
def test_log_prob_has_gradients_where_numbers_are_extreme(example):
    eta, target, extras = _entries(example, dtype=torch.float32)
    eta = (1e4 * eta).requires_grad_()
    log_prob = example.part.log_prob(eta, target, extras)
    (gradient,) = torch.autograd.grad(log_prob.sum(), eta)
    assert torch.isfinite(log_prob).all() and torch.isfinite(gradient).all()


@pytest.mark.parametrize("example", **over(LIKELIHOODS))
def test_units_there_and_back(example):
    X = example.rows(20, P)
    scaling = scaling_of(X, example.part)
    x = torch.tensor(X)
    input, observed = scaling.input(x)
    assert observed is None
    np.testing.assert_allclose(scaling.from_input(input), X, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(scaling.from_target(scaling.target(x)), X, rtol=1e-9, atol=1e-9)
    # One scale for all columns: the mean of the variances is one.
    assert float(input.mean(0).abs().max()) < 1e-9
    assert float(input.var(0, correction=0).mean()) == pytest.approx(1)


def _scipy_log_density(part, X, mean, model):
    """log p(x | z) of each row in the data's units, by scipy, from the expected rows."""
    extras = {name: value.detach().double().numpy() for name, value in model.extras.items()}
    unit = float(model.scaling.columns.spread)
    name = type(part).__name__
    if name == "Gaussian":
        return scipy.stats.norm(mean, unit * np.exp(extras["log_scale"])).logpdf(X)
    if name == "BoundedGaussian":
        return scipy.stats.norm(mean, np.ptp(part.bounds) * np.exp(extras["log_scale"])).logpdf(X)
    if name == "StudentT":
        return scipy.stats.t(part.df, mean, unit * np.exp(extras["log_scale"])).logpdf(X)
    if name == "Laplace":
        return scipy.stats.laplace(mean, unit * np.exp(extras["log_scale"])).logpdf(X)
    if name == "Poisson":
        return scipy.stats.poisson(mean).logpmf(X)
    if name == "NegativeBinomial":
        theta = np.exp(extras["log_dispersion"])
        return scipy.stats.nbinom(theta, theta / (theta + mean)).logpmf(X)
    if name == "Multinomial":
        return scipy.special.xlogy(X, mean / part.n_trials)
    location, scale = (c.numpy() for c in part.target_affine(model.scaling.columns))
    x, r = (X - location) / scale, (mean - location) / scale
    return x * np.log(r) + (1 - x) * np.log1p(-r)


@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
@pytest.mark.parametrize("example", **over(LIKELIHOODS))
def test_score_samples_is_the_density_in_the_units_of_the_data(example, gaps):
    X = example.rows(60, P)
    ae = AutoencoderTransformer(
        2, hidden_layer_sizes=(6,), likelihood=clone(example.part), max_iter=3, early_stopping=False, random_state=0
    ).fit(X)
    if gaps:
        X = np.where(np.random.default_rng(1).random(X.shape) < 0.2, np.nan, X)
    expected = ae.reconstruct(X)
    if isinstance(ae.likelihood, Multinomial):
        # Of the words that are observed, each has its share among these.
        expected = expected / np.where(np.isnan(X), 0, expected).sum(1, keepdims=True) * ae.likelihood.n_trials
    entries = _scipy_log_density(ae.likelihood, X, expected, ae.model_)
    scores = ae.score_samples(X)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, np.nansum(entries, axis=1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("example", **over(LIKELIHOODS))
def test_loss_is_minus_the_mean_score(example):
    """One full batch at the start: the loss before the first update is that of the start."""
    X = example.rows(60, P).astype(np.float32)
    options = {"likelihood": clone(example.part), "max_iter": 1, "early_stopping": False, "batch_size": 60}
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(6,), learning_rate=1e-30, random_state=0, **options).fit(X)
    assert ae.loss_curve_[0] == pytest.approx(-ae.score(X), rel=1e-4)


def test_squared_error_is_what_the_default_measures():
    X = real(60, P)
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(6,), max_iter=3, random_state=0).fit(X)
    unit = float(ae.model_.scaling.columns.spread)
    error = ((X - ae.reconstruct(X)) ** 2).sum(1)
    scale = float(np.exp(ae.model_.extras["log_scale"].item())) * unit
    assert scale == pytest.approx(1, rel=1e-6)
    np.testing.assert_allclose(ae.score_samples(X), -0.5 * error - P * 0.5 * np.log(2 * np.pi), rtol=1e-5)


def test_a_learnt_scale_is_the_residual_standard_deviation():
    X = real(300, P)
    options = {"hidden_layer_sizes": (), "optimizer": "lbfgs", "max_iter": 20, "early_stopping": False}
    ae = AutoencoderTransformer(2, likelihood=Gaussian(scale="shared"), random_state=0, **options).fit(X)
    learnt = np.exp(ae.model_.extras["log_scale"].item()) * float(ae.model_.scaling.columns.spread)
    assert learnt == pytest.approx((X - ae.reconstruct(X)).std(), rel=0.01)


@pytest.mark.parametrize("example", **over(LIKELIHOODS))
def test_samples_of_a_vae_have_the_moments_of_the_data(example):
    X = example.rows(400, P)
    vae = VAE(2, hidden_layer_sizes=(), likelihood=clone(example.part), max_iter=30, random_state=0).fit(X)
    draws = vae.sample(4000, random_state=0)
    assert draws.shape == (4000, P)
    spread = X.std(0)
    assert (np.abs(draws.mean(0) - X.mean(0)) < 0.35 * spread).all()


@pytest.mark.parametrize("example", **over(LIKELIHOODS))
def test_linear_start_rebuilds_the_mean(example):
    X = example.rows(500, P)
    bias, slope = example.part.linear_start(columns_of(X, example.part))
    rebuilt = scaling_of(X, example.part).from_target(example.part.mean(bias))
    # Counts start at the geometric mean of one plus them, shares at those of its logarithm.
    expected = X.mean(0)
    if type(example.part).__name__ in ("Poisson", "NegativeBinomial"):
        expected = np.expm1(np.log1p(X).mean(0))
    elif type(example.part).__name__ == "Multinomial":
        logs = np.log1p(X).mean(0)
        expected = example.part.n_trials * logs / logs.sum()
    np.testing.assert_allclose(rebuilt, expected, rtol=1e-6, atol=1e-6)
    assert (slope > 0).all()


def test_the_autoencoder_of_the_textbooks():
    """h = σ(Wx + b), r = σ(Wᵀh + b'), squared error: by hand, from the fitted weights."""
    X = LIKELIHOODS["bounded_gaussian"].rows(200, P)
    network = DenseNetwork((), tied=True)
    options = {"code_activation": "logistic", "init": "random", "likelihood": "bounded_gaussian", "random_state": 0}
    ae = AutoencoderTransformer(3, network=network, max_iter=50, **options).fit(X)
    (encoder,), (bias,) = ae.model_.encoder.layers, ae.model_.decoder.biases
    columns = ae.model_.scaling.columns
    Z = (X - columns.mean.numpy()) / float(columns.spread)
    W, b, back = (part.detach().double().numpy() for part in (encoder.weight, encoder.bias, bias))
    h = scipy.special.expit(Z @ W.T + b)
    r = scipy.special.expit(h @ W + back)
    np.testing.assert_allclose(ae.transform(X), h, rtol=1e-6)
    np.testing.assert_allclose(ae.reconstruct(X), r, rtol=1e-6)
    expected = -0.5 * np.square(X - r).sum(axis=1) - 0.5 * P * np.log(2 * np.pi)
    np.testing.assert_allclose(ae.score_samples(X), expected, rtol=1e-6)
    assert np.square(X - r).sum(axis=1).mean() < 0.8 * np.square(X - X.mean(axis=0)).sum(axis=1).mean()
    with pytest.raises(ValueError, match="init='random'"):
        clone(ae).set_params(init="pca").fit(X)


def test_bounded_squared_error_is_in_the_data_units():
    X = 100 * LIKELIHOODS["bounded_gaussian"].rows(50, P) - 20
    ae = AutoencoderTransformer(2, likelihood=BoundedGaussian((-20, 80)), max_iter=3, random_state=0).fit(X)
    rebuilt = ae.reconstruct(X)
    assert rebuilt.min() >= -20 and rebuilt.max() <= 80
    expected = -0.5 * np.square(X - rebuilt).sum(axis=1) - 0.5 * P * np.log(2 * np.pi)
    np.testing.assert_allclose(ae.score_samples(X), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="BoundedGaussian likelihood takes values in .-20, 80.*column"):
        ae.fit(X + 30)


INDEPENDENT = ("multinomial-trials",)


@pytest.mark.parametrize("name", [name for name in LIKELIHOODS if name not in INDEPENDENT])
def test_a_draw_like_another_is_the_other_where_the_parameters_are_equal(name):
    example = LIKELIHOODS[name]
    eta, _, extras = _entries(example)
    other = example.part.sample(eta, extras, generator())
    drawn = example.part.sample_like(eta, eta.clone(), other, extras, generator(1))
    torch.testing.assert_close(drawn, other)


@pytest.mark.parametrize("name", [name for name in LIKELIHOODS if name not in INDEPENDENT])
def test_draws_like_others_have_the_mean(name):
    """Where `other` is a draw at its own parameter, the draw has the mean at the new one, by five standard errors."""
    part = LIKELIHOODS[name].part
    eta, _, extras = _entries(LIKELIHOODS[name])
    # Counts that are not small, so that no draw is cut off at zero.
    few = name == "poisson" or name.startswith("negative_binomial")
    eta = (eta[:2] + 5.0 if few else eta[:2]).clamp(-2, 5).repeat_interleave(20000, 0)
    first, second = eta[:20000], eta[20000:]
    drawn = part.sample_like(second, first, part.sample(first, extras, generator()), extras, generator(1))
    error = 5 * (drawn.var(0) / len(drawn)).sqrt()
    assert ((drawn.mean(0) - part.mean(second)[0]).abs() < error).all()


def test_bits_drawn_alike_differ_as_seldom_as_they_can():
    """P(x ≠ x') = |p − p'|."""
    eta, other_eta = torch.full((40000, 1), 0.3), torch.full((40000, 1), 0.8)
    part = Bernoulli()
    other = part.sample(other_eta, {}, generator())
    drawn = part.sample_like(eta, other_eta, other, {}, generator(1))
    expected = float(torch.sigmoid(other_eta[0]) - torch.sigmoid(eta[0]))
    assert float((drawn != other).float().mean()) == pytest.approx(expected, abs=0.01)


def test_the_dispersion_of_each_column_is_learnt():
    """And counts that vary more than Poisson's are scored better: by nats that are those of the true distributions."""
    rng = np.random.default_rng(0)
    theta = np.array([0.7, 3.0, 20.0])
    X = rng.negative_binomial(theta, theta / (theta + 6.0), (4000, 3)).astype(float)
    options = {"hidden_layer_sizes": (4,), "max_iter": 60, "learning_rate": 0.01, "random_state": 0}
    # A β that leaves nothing to the code, which else explains a part of what varies, and of θ.
    vae = VAE(1, likelihood="negative_binomial", beta=20.0, early_stopping=False, **options).fit(X)
    found = np.exp(vae.model_.extras["log_dispersion"].detach().numpy())
    assert (np.abs(found / theta - 1) < [0.1, 0.1, 0.3]).all()
    best = scipy.stats.nbinom(theta, theta / (theta + 6.0)).logpmf(X).sum(1).mean()
    assert vae.score(X) == pytest.approx(best, abs=0.05)
    drawn = vae.sample(4000, random_state=0)
    np.testing.assert_allclose(drawn.mean(0), X.mean(0), rtol=0.1)
    np.testing.assert_allclose(drawn.var(0), X.var(0), rtol=0.2)


def test_a_large_dispersion_is_poisson():
    eta, target, _ = _entries(LIKELIHOODS["poisson"])
    fixed = NegativeBinomial(1e7)
    extras = {name: value.double() for name, (value, _) in fixed.extras(P, False, 1.0).items()}
    torch.testing.assert_close(
        fixed.log_prob(eta, target, extras), Poisson().log_prob(eta, target, {}), atol=1e-4, rtol=0
    )


def test_categories_drawn_alike_keep_their_frequencies_where_the_network_is_sure():
    """Also where a share is below what a float32 tells from zero."""
    shares = torch.tensor([0.6, 0.3, 0.1])
    sure = torch.randn(30000, 3, generator=generator()) * 30
    part = LIKELIHOODS["multinomial"].part
    other = torch.nn.functional.one_hot(torch.multinomial(shares.expand(30000, 3), 1, generator=generator())[:, 0], 3)
    drawn = part.sample_like(sure + 1e-3, sure, other.float(), {}, generator(1))
    torch.testing.assert_close(drawn, other.float())
    assert torch.equal(drawn.sum(1), torch.ones(30000))
