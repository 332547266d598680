"""Factor analysis of rows with gaps: against the truth, the full covariance, and itself in wider tables."""

import numpy as np
import pytest
import torch
from test_conditional_gaussian import a_covariance, log_likelihood, rows_of, tensors, with_gaps

from skae.model import factor_analysis
from skae.model.conditional_gaussian import estimate, estimate_normal, guess, n_factors_of
from skae.model.factor_analysis import LEAST_UNIQUENESS, Factors, estimate_factors, max_factors


def low_rank(n, p, rank=3, noise=0.1, share=0.2, seed=0):
    """Rows, and the same with gaps."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, p)) + noise * rng.standard_normal((n, p))
    return X, *with_gaps(X, share, seed)


def relative_error(X, gappy, known):
    """Root of the squared error in the gaps of rows of which most is known, in that of the columns' means."""
    normal = estimate_normal(*tensors(gappy, known), None, n_factors_of(*X.shape))
    filled, _ = guess(*tensors(gappy, known), normal)
    mean, rows = gappy.sum(0) / known.sum(0), known.mean(1) > 0.5
    gaps = (known == 0) & rows[:, None]
    return np.sqrt(np.square(filled.numpy() - X)[gaps].sum() / np.square(mean - X)[gaps].sum())


def test_many_rows_find_the_truth():
    mean, loadings, own = a_covariance(40)
    truth = loadings @ loadings.T + np.diag(own)
    X, known = with_gaps(rows_of(3000, mean, loadings, own), 0.3)
    found = estimate_factors(*tensors(X, known), None, 8)
    unit = np.sqrt(truth.diagonal())
    assert np.abs((found.mean.numpy() - mean) / unit).max() < 0.1
    assert np.abs((found.covariance.numpy() - truth) / np.outer(unit, unit)).max() < 0.1
    np.testing.assert_allclose(found.uniqueness, own, rtol=0.2)
    found = found.mean.numpy(), found.covariance.numpy()
    assert log_likelihood(X, known, *found) > log_likelihood(X, known, mean, truth) - 0.5 * len(X)


def test_without_gaps_as_many_factors_as_columns_are_the_covariance_matrix():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20_000, 6)) @ rng.standard_normal((6, 6))
    known = np.ones_like(X)
    factors, (_, covariance) = estimate_factors(*tensors(X, known), None, 6), estimate(*tensors(X, known))
    unit = covariance.diagonal().sqrt()
    difference = (factors.covariance - covariance) / torch.outer(unit, unit)
    assert float(difference.abs().max()) < 0.02


@pytest.mark.parametrize("noise", [0.1, 0.3, 1.0])
def test_wider_tables_are_filled_no_worse(noise):
    """More columns tell more of the same three factors."""
    errors = {p: relative_error(*low_rank(100, p, noise=noise)) for p in (50, 100, 101, 150, 300)}
    for p in (100, 101, 150, 300):
        assert errors[p] < 1.1 * min(errors[50], errors[100])
    # No better than knowing the factors: what is left is the noise.
    assert 0.9 * noise / np.sqrt(3 + noise**2) < errors[300] < 1.25 * noise / np.sqrt(3 + noise**2)


def test_noise_has_no_factors():
    X = np.random.default_rng(0).standard_normal((60, 200))
    found = estimate_factors(*tensors(X, np.ones_like(X)), None, max_factors(*X.shape, 32))
    assert float(found.loadings.square().sum(1).max()) < 0.1


def test_blocks_of_columns_change_nothing(monkeypatch):
    _, X, known = low_rank(40, 120)
    whole = estimate_factors(*tensors(X, known), None, 5)
    monkeypatch.setattr(factor_analysis, "BLOCK_ELEMENTS", 25 * 7)
    parts = estimate_factors(*tensors(X, known), None, 5)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one.abs(), other.abs(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("unit", [1e-30, 1e30])
def test_units_are_units(unit):
    _, X, known = low_rank(40, 120)
    one, other = (estimate_factors(*tensors(rows, known), None, 5) for rows in (X, unit * X))
    for a, b in zip(one.scaled(torch.full((120,), unit).double()), other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_factors_that_are_zero_change_nothing():
    _, X, known = low_rank(40, 120)
    found = estimate_factors(*tensors(X, known), None, 5)
    padded = found.with_factors(9)
    assert padded.loadings.shape == (120, 9)
    for one, other in zip(guess(*tensors(X, known), found), guess(*tensors(X, known), padded), strict=True):
        torch.testing.assert_close(one, other)


def test_every_column_keeps_some_variance():
    _, X, known = low_rank(100, 60, noise=0.0)
    found = estimate_factors(*tensors(X, known), None, 5)
    assert isinstance(found, Factors)
    assert float((found.uniqueness / found.variance).min()) > 0.9 * LEAST_UNIQUENESS
