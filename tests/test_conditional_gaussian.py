"""The guess of a normal distribution against numpy's closed forms, and its moments against the rows they are of."""

import numpy as np
import pytest
import torch

from skae.model import conditional_gaussian
from skae.model.conditional_gaussian import (
    MAX_ESTIMATED,
    OWN_SHARE,
    PRIOR_ROWS,
    estimate,
    estimate_normal,
    factors_of,
    guess,
    guess_by_factors,
    guess_hidden,
    n_factors_of,
)

P = 6


def a_covariance(p=P, k=3, seed=0):
    """Mean, loadings and own variances; columns are of different size."""
    rng = np.random.default_rng(seed)
    unit = 10.0 ** rng.uniform(-1, 1, p)
    return 5 * rng.standard_normal(p), unit[:, None] * rng.standard_normal((p, k)), unit**2 * rng.uniform(0.2, 1, p)


def rows_of(n, mean, loadings, own, seed=0):
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((n, loadings.shape[1])) @ loadings.T
    return mean + common + np.sqrt(own) * rng.standard_normal((n, len(mean)))


def with_gaps(X, share, seed=0):
    """Rows with a zero in each gap, and what is known: all, nothing and one entry among them."""
    known = np.random.default_rng(seed).random(X.shape) >= share
    known[:3] = [[True], [False], [False]]
    known[2, 0] = True
    return np.where(known, X, 0.0), known.astype(float)


def tensors(*arrays):
    return tuple(torch.tensor(array, dtype=torch.float64) for array in arrays)


def closed_form(x, known, mean, covariance):
    """Conditional mean and variance of the entries of one row that are not known."""
    o, h = known > 0, known == 0
    across = np.linalg.solve(covariance[np.ix_(o, o)], covariance[np.ix_(o, h)])
    filled, variance = x.copy(), np.zeros_like(x)
    filled[h] = mean[h] + (x[o] - mean[o]) @ across
    variance[h] = np.diagonal(covariance[np.ix_(h, h)] - covariance[np.ix_(h, o)] @ across)
    return filled, variance


@pytest.mark.parametrize("block", [2**22, 3 * P**2], ids=["whole", "blocks"])
def test_the_guess_is_the_conditional_mean_and_variance(block, monkeypatch):
    monkeypatch.setattr(conditional_gaussian, "BLOCK_ELEMENTS", block)
    mean, loadings, own = a_covariance()
    covariance = loadings @ loadings.T + np.diag(own)
    X, known = with_gaps(rows_of(40, mean, loadings, own), 0.5)
    filled, variance = guess_hidden(*tensors(X, known, mean, covariance))
    expected = [closed_form(x, k, mean, covariance) for x, k in zip(X, known, strict=True)]
    np.testing.assert_allclose(filled, [m for m, _ in expected], rtol=1e-9)
    np.testing.assert_allclose(variance, [v for _, v in expected], rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(filled[0], X[0])
    np.testing.assert_allclose(filled[1], mean)
    np.testing.assert_allclose(variance[1], covariance.diagonal())


@pytest.mark.parametrize("block", [2**22, 3 * 40, 3 * 9], ids=["whole", "rows", "rows and columns"])
def test_factors_guess_as_their_covariance_does(block, monkeypatch):
    mean, loadings, own = a_covariance(40)
    X, known = with_gaps(rows_of(30, mean, loadings, own), 0.5)
    expected = guess_hidden(*tensors(X, known, mean, loadings @ loadings.T + np.diag(own)))
    monkeypatch.setattr(conditional_gaussian, "BLOCK_ELEMENTS", block)
    filled, variance = guess_by_factors(*tensors(X, known, mean, loadings, own))
    np.testing.assert_allclose(filled, expected[0], rtol=1e-9)
    np.testing.assert_allclose(variance, expected[1], rtol=1e-7, atol=1e-9)


def test_factors_of_a_covariance_of_factors_are_its_own():
    _, loadings, own = a_covariance(40)
    (covariance,) = tensors(loadings @ loadings.T + np.diag(own))
    found, left = factors_of(covariance, 3)
    unit = covariance.diagonal().sqrt()
    difference = (found @ found.T + torch.diag(left) - covariance) / torch.outer(unit, unit)
    assert float(difference.abs().max()) < 0.01
    np.testing.assert_allclose(left, own, rtol=0.1)


def test_factors_explain_at_most_what_there_is():
    """Whatever the number of factors, no column has less than nothing to itself, nor more variance than it had."""
    X = rows_of(60, *a_covariance(50, 8))
    (covariance,) = tensors(np.cov(X.T))
    for n_factors in (1, 8, 32):
        loadings, own = factors_of(covariance, n_factors)
        share = own / covariance.diagonal()
        assert float(share.min()) >= 0.01 - 1e-9 and float(share.max()) <= 1 + 1e-9
        made = loadings.square().sum(1) + own
        assert float((made / covariance.diagonal()).max()) < 1.05


def test_without_gaps_the_estimate_is_the_sample_covariance():
    """Σ: the sample's, with a row's worth of independent columns, and what each column keeps to itself."""
    X = rows_of(50, *a_covariance())
    mean, covariance = estimate(*tensors(X, np.ones_like(X)))
    sample, n = np.cov(X.T, bias=True), len(X)
    diagonal = np.diag(sample.diagonal())
    expected = (n * sample + PRIOR_ROWS * diagonal) / (n + PRIOR_ROWS) + OWN_SHARE * diagonal
    np.testing.assert_allclose(mean, X.mean(0))
    np.testing.assert_allclose(covariance, expected, rtol=1e-6)


def log_likelihood(X, known, mean, covariance):
    total = 0.0
    for x, k in zip(X, known > 0, strict=True):
        part, deviation = covariance[np.ix_(k, k)], (x - mean)[k]
        total -= 0.5 * (np.linalg.slogdet(part)[1] + deviation @ np.linalg.solve(part, deviation))
    return total


def test_with_gaps_the_estimate_is_near_the_truth_and_likelier():
    mean, loadings, own = a_covariance()
    truth = loadings @ loadings.T + np.diag(own)
    X, known = with_gaps(rows_of(2000, mean, loadings, own), 0.3)
    found, covariance = (values.numpy() for values in estimate(*tensors(X, known)))
    unit = np.sqrt(truth.diagonal())
    assert np.abs((found - mean) / unit).max() < 0.1
    assert np.abs((covariance - truth) / np.outer(unit, unit)).max() < 0.1
    assert log_likelihood(X, known, found, covariance) > log_likelihood(X, known, mean, truth)


def test_gaps_that_depend_on_what_is_seen_do_not_bias_the_mean():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(4000)
    X = np.column_stack([x, x + 0.5 * rng.standard_normal(4000)])
    known = np.column_stack([np.ones(4000), x < 0])
    mean, covariance = estimate(*tensors(X * known, known))
    assert X[known[:, 1] > 0, 1].mean() < -0.7
    assert abs(float(mean[1])) < 0.06
    np.testing.assert_allclose(covariance, [[1, 1], [1, 1.25]], atol=0.08)


def estimated(X, known, weight=None):
    """The distribution that tables of this size get."""
    weight = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    return estimate_normal(*tensors(X, known), weight, n_factors_of(40, X.shape[1]))


KINDS = pytest.mark.parametrize("p", [P, MAX_ESTIMATED + 1], ids=["matrix", "factors"])


@KINDS
def test_a_weight_is_a_row_that_many_times(p):
    mean, loadings, own = a_covariance(p)
    X, known = with_gaps(rows_of(40, mean, loadings, own), 0.3)
    times = np.random.default_rng(0).integers(1, 4, len(X))
    weighted = estimated(X, known, times)
    repeated = estimated(np.repeat(X, times, 0), np.repeat(known, times, 0))
    np.testing.assert_allclose(weighted.mean, repeated.mean, rtol=1e-6, atol=1e-6)
    unit = weighted.variance.sqrt()
    difference = (weighted.covariance - repeated.covariance) / torch.outer(unit, unit)
    assert float(difference.abs().max()) < 1e-6


@KINDS
@pytest.mark.parametrize("share", [0.0, 0.4], ids=["whole", "gaps"])
def test_columns_without_information_do_no_harm(p, share):
    mean, loadings, own = a_covariance(p)
    X, known = with_gaps(rows_of(60, mean, loadings, own), share)
    X[:, 0] = 7.0  # constant
    X[:, 1], known[:, 1] = X[:, 2], known[:, 2]  # a copy
    known[:, 3] = 0.0  # empty
    known[:, 4], known[9, 4] = 0.0, 1.0  # one value
    X *= known
    normal = estimated(X, known)
    np.linalg.cholesky(normal.covariance)
    hidden = known.copy()
    hidden[:, 1] = 0.0
    filled, variance = guess(*tensors(X, hidden), normal)
    assert torch.isfinite(filled).all() and torch.isfinite(variance).all() and float(variance.min()) >= 0
    np.testing.assert_allclose(filled[:, 0], 7.0, atol=1e-2)
    np.testing.assert_allclose(filled[:, 4], X[9, 4], atol=0.01 * X.std(0).max())
    if p == P:
        told = known[:, 2] > 0
        miss = (filled[:, 1].numpy() - X[:, 2])[told] / X[told, 2].std()
        assert np.abs(miss).max() < 0.1


@KINDS
def test_the_rounding_of_a_constant_columns_mean_is_no_variance(p):
    """As of a category that is in none of the rows: a row that has it after all is filled like others."""
    X = np.random.default_rng(0).standard_normal((1000, p))
    X[:, 0] = -0.1 / 3000
    known = np.ones_like(X)
    rounding = float(((tensors(X)[0][:, 0] - tensors(X)[0][:, 0].sum() / 1000) ** 2).sum())
    assert 0 < rounding < 1e-30
    normal = estimated(X, known)
    assert normal.variance[0] > 1e-8
    hidden = known[:1].copy()
    hidden[:, 1] = 0.0
    row = X[:1].copy()
    row[0, 0] = 1.0
    filled, _ = guess(*tensors(row, hidden), normal)
    assert abs(float(filled[0, 1])) < 2


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_rows_are_enough(n):
    X = rows_of(n, *a_covariance())
    mean, covariance = estimate(*tensors(X, np.ones_like(X)))
    np.testing.assert_allclose(mean, X.mean(0))
    assert torch.isfinite(torch.linalg.cholesky(covariance)).all()
