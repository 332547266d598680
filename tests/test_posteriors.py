"""Random codes: KL, bounds, probabilistic PCA, and what keeps a code from collapse."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from registry import generator, real
from sklearn.base import clone
from sklearn.decomposition import PCA, FactorAnalysis
from torch.distributions import Normal, kl_divergence

from skae import VAE, Gaussian
from skae.model.posteriors import DiagonalGaussian
from skae.model.step import Step


def _encoded(n=50, d=3):
    encoded = 1.5 * torch.randn(n, 2 * d, generator=generator(), dtype=torch.float64)
    return encoded, Normal(encoded[:, :d], torch.exp(0.5 * encoded[:, d:]))


def test_kl_is_that_of_torch_distributions():
    encoded, q = _encoded()
    expected = kl_divergence(q, Normal(torch.zeros(3).double(), torch.ones(3).double()))
    torch.testing.assert_close(DiagonalGaussian().kl_divergence(encoded), expected)


def test_log_ratio_is_that_of_torch_distributions():
    encoded, q = _encoded()
    sample = q.sample((4,))
    expected = (Normal(0.0, 1.0).log_prob(sample) - q.log_prob(sample)).sum(-1)
    torch.testing.assert_close(DiagonalGaussian().log_ratio(encoded, sample, None), expected)


def test_minus_the_mean_log_ratio_is_the_kl():
    encoded, _ = _encoded(n=1)
    posterior = DiagonalGaussian(n_importance_samples=100_000)
    ratio = posterior.log_ratio(encoded, posterior.sample(encoded, generator()), None)
    error = 5 * float(ratio.std()) / 100_000**0.5
    assert float(-ratio.mean()) == pytest.approx(float(posterior.kl_divergence(encoded).sum()), abs=error)


def test_samples_have_the_posteriors_moments():
    encoded, q = _encoded(n=2)
    draws = DiagonalGaussian(n_importance_samples=50_000).sample(encoded, generator())
    assert draws.shape == (50_000, 2, 3)
    torch.testing.assert_close(draws.mean(0), q.mean, rtol=0, atol=0.05)
    torch.testing.assert_close(draws.std(0), q.stddev, rtol=0.02, atol=0)


def test_extreme_encodings_stay_finite():
    encoded = torch.full((2, 4), 1e6)
    posterior = DiagonalGaussian()
    assert torch.isfinite(posterior.kl_divergence(encoded)).all()
    assert torch.isfinite(posterior.sample(-encoded, generator())).all()


@pytest.fixture(scope="module")
def linear():
    """A linear VAE and PCA of the same size."""
    X = real(300, 6)
    return X, VAE(3, hidden_layer_sizes=(), random_state=0).fit(X), PCA(3).fit(X)


def test_linear_vae_has_the_likelihood_of_probabilistic_pca(linear):
    X, vae, pca = linear
    # scikit-learn divides by n − 1, the maximum of the likelihood by n.
    assert vae.score(X) == pytest.approx(pca.score(X), abs=0.01)
    np.testing.assert_allclose(vae.score_samples(X), pca.score_samples(X), atol=0.15)


def test_linear_vae_has_it_after_training_from_a_random_start():
    X = real(300, 6)
    options = {"init": "random", "max_iter": 400, "batch_size": 100, "early_stopping": False, "learning_rate": 0.01}
    vae = VAE(3, hidden_layer_sizes=(), random_state=0, **options).fit(X)
    assert vae.score(X) == pytest.approx(PCA(3).fit(X).score(X), abs=0.2)


def test_a_scale_a_column_is_factor_analysis():
    X = real(300, 6)
    vae = VAE(2, hidden_layer_sizes=(), likelihood=Gaussian("columns"), max_iter=400, early_stopping=False)
    vae.set_params(batch_size=300, learning_rate=0.02, random_state=0).fit(X)
    assert vae.score(X) == pytest.approx(FactorAnalysis(2).fit(X).score(X), abs=0.15)


def test_the_linear_posterior_is_exact(linear):
    """Tipping and Bishop: covariance M⁻¹σ², so the bound does not depend on the number of samples."""
    X, vae, _ = linear
    np.testing.assert_allclose(vae.score_samples(X, n_samples=1), vae.score_samples(X, n_samples=500), atol=0.02)


def test_the_posterior_is_the_encoders(linear):
    X, vae, _ = linear
    mean, scale = vae.posterior(X)
    np.testing.assert_array_equal(mean, vae.transform(X))
    assert mean.shape == scale.shape == (300, 3)
    kl = 0.5 * (mean**2 + scale**2 - 2 * np.log(scale) - 1)
    np.testing.assert_allclose(vae.kl_by_component_, kl.mean(0), rtol=1e-4)


@pytest.fixture(scope="module")
def curved():
    """A VAE whose posterior is not exact."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 400)
    X = np.c_[np.cos(angle), np.sin(angle), np.cos(2 * angle)] + 0.05 * rng.standard_normal((400, 3))
    return X, VAE(
        2, hidden_layer_sizes=(32,), max_iter=60, learning_rate=0.02, early_stopping=False, random_state=0
    ).fit(X)


def test_the_bound_rises_with_the_number_of_samples(curved):
    X, vae = curved
    means = [
        np.mean([vae.score_samples(X, n_samples=k, random_state=seed).mean() for seed in range(30)]) for k in (1, 5, 50)
    ]
    assert means[0] < means[1] < means[2]


def test_the_bound_of_one_sample_is_likelihood_minus_kl(curved):
    X, vae = curved
    x, observed = vae.model_.scaling.input(torch.tensor(X, dtype=torch.float32))
    bounds = []
    for seed in range(200):
        with torch.no_grad():
            bounds.append(
                -float(sum(Step(vae.model_, x, x, observed, generator=generator(seed)).terms.values()).mean())
            )
    scores = [vae.score_samples(X, n_samples=1, random_state=seed).mean() for seed in range(200)]
    error = 5 * (np.std(scores) + np.std(bounds)) / 200**0.5
    assert np.mean(scores) == pytest.approx(np.mean(bounds), abs=error)


def test_a_rows_score_does_not_depend_on_the_others(curved):
    X, vae = curved
    np.testing.assert_allclose(vae.score_samples(X[:7]), vae.score_samples(X)[:7], rtol=1e-9)


def test_scores_repeat(curved):
    X, vae = curved
    np.testing.assert_array_equal(vae.score_samples(X), vae.score_samples(X))
    assert not np.array_equal(vae.score_samples(X), vae.score_samples(X, random_state=1))


def test_one_importance_sample_trains_on_the_bound_of_several():
    X = real(200, 5)
    options = {"hidden_layer_sizes": (8,), "max_iter": 30, "early_stopping": False, "random_state": 0}
    vae = VAE(2, n_importance_samples=5, **options).fit(X)
    assert list(vae.loss_terms_) == ["negative_importance_weighted_bound"]
    assert vae.loss_curve_[-1] <= vae.loss_curve_[0]
    # The loss is minus the mean bound of 5 samples; training goes on within the last epoch.
    assert -vae.loss_curve_[-1] == pytest.approx(vae.score_samples(X, n_samples=5).mean(), abs=0.3)


def test_beta_weighs_the_kl():
    X = real(200, 5)
    options = {"hidden_layer_sizes": (8,), "max_iter": 60, "early_stopping": False, "random_state": 0}
    total = [VAE(3, beta=beta, **options).fit(X).kl_by_component_.sum() for beta in (0.2, 1.0, 20.0)]
    assert total[0] > total[1] > 2 * total[2]


def test_the_kl_term_is_beta_times_the_kl():
    X = real(60, 4).astype(np.float32)
    options = {"max_iter": 1, "batch_size": 60, "early_stopping": False, "learning_rate": 1e-30, "random_state": 0}
    for beta in (0.5, 4.0):
        vae = VAE(2, hidden_layer_sizes=(8,), beta=beta, **options).fit(X)
        assert vae.loss_terms_["kl_divergence"][0] == pytest.approx(beta * vae.kl_by_component_.sum(), rel=1e-4)


def test_kl_warms_up_linearly():
    posterior = DiagonalGaussian(2.0, kl_warm_up=0.5)
    assert [posterior.weight(progress) for progress in (0, 0.125, 0.25, 0.5, 1)] == [0, 0.5, 1, 2, 2]
    assert DiagonalGaussian(2.0).weight(0) == 2
    vae = VAE(2, hidden_layer_sizes=(8,), kl_warm_up=0.5, max_iter=10, early_stopping=False, random_state=0)
    kl = vae.set_params(batch_size=60).fit(real(60, 4)).loss_terms_["kl_divergence"]
    assert kl[0] == 0 and all(a < b for a, b in zip(kl[:4], kl[1:5], strict=True))


def test_free_bits_cost_a_constant_and_pull_at_nothing():
    encoded = torch.tensor([[0.1, 2.0, 0.0, 0.0], [-0.1, 1.0, 0.0, 0.0]], requires_grad=True)
    step = SimpleNamespace(encoded=encoded, progress=1.0, log_likelihood=torch.zeros(2), sample=encoded[:, :2])
    step.batch_mean = lambda values: values.mean(0)
    posterior = DiagonalGaussian(free_bits=0.5)
    kl = posterior.terms(step)["kl_divergence"]
    exact = posterior.kl_divergence(encoded).mean(0)
    assert exact[0] < 0.5 < exact[1]
    assert float(kl.detach().mean()) == pytest.approx(0.5 + float(exact.detach()[1]))
    kl.sum().backward()
    assert (encoded.grad[:, [0, 2]] == 0).all() and (encoded.grad[:, 1] != 0).all()


def test_free_bits_are_of_the_mean_by_the_weights_of_the_rows():
    X, weight = real(60, 4), np.arange(60) % 3
    options = {"hidden_layer_sizes": (8,), "max_iter": 1, "early_stopping": False, "learning_rate": 1e-30}
    vae = VAE(2, free_bits=0.2, batch_size=1000, random_state=0, **options)
    weighted, repeated = (
        clone(vae).fit(rows, sample_weight=w).loss_terms_["kl_divergence"]
        for rows, w in ((X, weight), (np.repeat(X, weight, axis=0), None))
    )
    np.testing.assert_allclose(weighted, repeated, rtol=1e-5)


def test_free_bits_keep_components_in_use():
    X = real(200, 5)
    options = {"hidden_layer_sizes": (8,), "max_iter": 60, "learning_rate": 0.01, "early_stopping": False}
    options |= {"likelihood": Gaussian(3.0), "beta": 5.0, "random_state": 0}
    plain, free = VAE(3, **options).fit(X), VAE(3, free_bits=0.5, **options).fit(X)
    assert plain.kl_by_component_.min() < 0.01
    assert free.kl_by_component_.min() > 0.3


def test_active_units_are_those_the_data_need():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 2)) @ rng.standard_normal((2, 8)) + 0.1 * rng.standard_normal((400, 8))
    options = {"hidden_layer_sizes": (16,), "max_iter": 60, "learning_rate": 0.02, "early_stopping": False}
    vae = VAE(4, beta=3.0, random_state=0, **options).fit(X)
    assert vae.active_units_ == 2
    assert (np.sort(vae.kl_by_component_)[::-1][:2] > 1).all()


def test_scores_of_rows_and_of_samples_agree():
    """Samples of the model are as likely under it as the data it was fitted to."""
    X = real(500, 5)
    vae = VAE(3, hidden_layer_sizes=(), random_state=0).fit(X)
    assert vae.score(vae.sample(4000, random_state=0)) == pytest.approx(vae.score(X), abs=0.15)


def test_mean_samples_have_less_noise():
    X = real(300, 5)
    vae = VAE(2, hidden_layer_sizes=(), random_state=0).fit(X)
    noisy, mean = vae.sample(2000, random_state=0), vae.sample(2000, random_state=0, return_mean=True)
    assert np.linalg.matrix_rank(mean - mean.mean(0), tol=1e-2) == 2
    np.testing.assert_allclose(np.cov(noisy.T), np.cov(X.T), atol=0.15 * np.cov(X.T).max())
