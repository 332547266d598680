"""Columns that others nearly determine: they are filled as exactly, and intervals are as narrow, as that allows."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skae import AutoencoderImputer, MaskedAE
from skae.imputation._hiding import hide_entries, rarely_missing
from skae.model.conditional_gaussian import estimate

CHEAP = AutoencoderImputer(MaskedAE(4, hidden_layer_sizes=(8,), max_iter=5, early_stopping=False), random_state=0)


def line(n, noise, share=0.3, seed=0, others=0):
    """Rows of x and 2 x with noise, beside columns of noise, and the same with gaps in the second column."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    X = np.column_stack([x, 2 * x + noise * rng.standard_normal(n), rng.standard_normal((n, others))])
    gaps = X.copy()
    gaps[rng.random(n) < share, 1] = np.nan
    return X, gaps


@pytest.mark.parametrize("others", [0, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_nearly_determined_column_is_told_to_its_noise(others, seed):
    X, gaps = line(200, 0.02, seed=seed, others=others)
    imputer = clone(CHEAP).fit(gaps)
    miss = np.isnan(gaps)
    error = np.sqrt(np.square(imputer.transform(gaps) - X)[miss].mean())
    assert error < 0.026
    low, high = imputer.interval(gaps, 0.9)
    # Of normal noise, 3.29 deviations.
    assert 0.8 < (high - low)[miss].mean() / (3.29 * 0.02) < 1.6
    assert ((low <= X) & (X <= high))[miss].mean() > 0.82
    assert imputer.holdout_error_[1] == pytest.approx(0.02, rel=0.35)
    drawn = np.array(imputer.sample(gaps, 10, random_state=0))[:, miss]
    assert np.sqrt(np.square(drawn - X[miss]).mean()) < 0.05


@pytest.mark.parametrize("n", [6, 10, 30])
def test_an_exact_relation_is_exact(n):
    x = np.arange(1.0, n + 1)
    X = np.column_stack([x, 2 * x])
    gaps = X.copy()
    gaps[-1, 1] = np.nan
    assert clone(CHEAP).fit(gaps).transform(gaps)[-1, 1] == pytest.approx(2 * n, rel=2e-3)
    # The same where the gap comes later, and in the other column.
    later = clone(CHEAP).fit(X)
    assert later.transform([[x[1], np.nan], [np.nan, 6.0]]) == pytest.approx(X[1:3], rel=5e-3)


def test_a_sum_of_parts_is_exact():
    rng = np.random.default_rng(0)
    parts = rng.standard_normal((30, 3))
    X = np.column_stack([parts, parts.sum(1)])
    gaps = X.copy()
    gaps[:3, 3], gaps[3:6, 0] = np.nan, np.nan
    np.testing.assert_allclose(clone(CHEAP).fit(gaps).transform(gaps), X, atol=0.02)


def moments(X):
    rows = torch.from_numpy(np.nan_to_num(X))
    mean, covariance = estimate(rows, (~torch.from_numpy(np.isnan(X))).double())
    return mean.numpy(), covariance.numpy()


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_residual_variance_of_an_estimate_is_that_of_the_noise(share):
    _, gaps = line(500, 0.05, share)
    _, covariance = moments(gaps)
    assert covariance[1, 0] / covariance[0, 0] == pytest.approx(2, abs=0.01)
    assert np.sqrt(covariance[1, 1] - covariance[1, 0] ** 2 / covariance[0, 0]) == pytest.approx(0.05, rel=0.2)


def test_independent_columns_are_drawn_together_by_a_row_of_independent_ones():
    """Where no column is nearly determined, the prior is a row of the columns' own variances."""
    X = np.random.default_rng(0).standard_normal((40, 3)) * [1, 5, 0.1]
    mean, covariance = moments(X)
    scatter = (X - X.mean(0)).T @ (X - X.mean(0))
    expected = (scatter + np.diag(scatter.diagonal()) / 40) / 41
    np.testing.assert_allclose(covariance, expected + np.diag(1e-5 * expected.diagonal()), rtol=1e-4, atol=1e-9)


# Which entries are hidden to be told ---------------------------------------------------------------


def test_columns_that_are_rarely_missing_are_hidden_alone():
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((4000, 5))
    Z[rng.random(4000) < 0.4, 0] = np.nan
    Z[rng.random(4000) < 0.3, 1] = np.nan
    Z[rng.random(4000) < 0.01, 3] = np.nan
    # The last two columns are one of the table.
    group = np.array([0, 1, 2, 3, 3])
    Z[np.isnan(Z[:, 3]), 4] = np.nan
    rare = rarely_missing(Z, group)
    np.testing.assert_array_equal(rare, [False, False, True, True])
    _, hidden = hide_entries(Z, group, rare, np.random.RandomState(0))
    np.testing.assert_array_equal(hidden[:, 3], hidden[:, 4])
    alone = hidden[:, 2] | hidden[:, 3]
    assert not (hidden[:, :2].any(1) & alone).any() and not (hidden[:, 2] & hidden[:, 3]).any()
    assert alone.mean() == pytest.approx(0.15, abs=0.03)
    for column, known in ((0, 0.6), (1, 0.7)):
        assert hidden[:, column].mean() == pytest.approx(0.85 * 0.2 * known, abs=0.02)


def test_a_table_without_gaps_has_none_that_is_rare():
    Z = np.random.default_rng(0).standard_normal((2000, 3))
    rare = rarely_missing(Z, np.arange(3))
    assert not rare.any()
    _, hidden = hide_entries(Z, np.arange(3), rare, np.random.RandomState(0))
    np.testing.assert_allclose(hidden.mean(0), 0.2, atol=0.03)
