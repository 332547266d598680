"""What imputed numbers may be: bounds, exact values that many rows hold, counts and bits, cells far out."""

import numpy as np
import pandas as pd
import pytest
from registry import real
from sklearn.base import clone

from skae import VAE, AutoencoderImputer, AutoencoderTransformer, MaskedAE
from skae.imputation._bounds import ConditionalDistribution, observed_range, point_masses

MAE = MaskedAE(4, hidden_layer_sizes=(8,), max_iter=2, early_stopping=False)
CHEAP = AutoencoderImputer(MAE, n_estimators=2, random_state=0)


def amounts(n=150, seed=0):
    """A log-normal amount, a share, a column below 0 and one of both signs; with gaps."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    share = 1 / (1 + np.exp(-2 * x - 2 * rng.standard_normal(n)))
    X = np.column_stack([np.exp(1.5 * x), share, -np.exp(x), x + rng.standard_normal(n)])
    return X, np.where(rng.random(X.shape) < 0.3, np.nan, X)


def tables_of(imputer, X):
    """All that an imputer says of a table's gaps."""
    return [imputer.transform(X), *imputer.sample(X, 5, random_state=0), *imputer.interval(X, 0.99)]


def test_signs_and_shares_are_kept_unless_told_otherwise():
    X, gaps = amounts()
    miss = np.isnan(gaps)
    imputer = clone(CHEAP).fit(gaps)
    np.testing.assert_array_equal(imputer.min_value_, [0, 0, -np.inf, -np.inf])
    np.testing.assert_array_equal(imputer.max_value_, [np.inf, 1, 0, np.inf])
    for made in tables_of(imputer, gaps):
        assert (made >= imputer.min_value_).all() and (made <= imputer.max_value_).all()
    # Without bounds the same, but for what lies beyond them.
    free = clone(CHEAP).set_params(min_value=-np.inf, max_value=np.inf).fit(gaps)
    assert (free.sample(gaps, 1, random_state=0)[0][miss][:, None] < 0).any()
    np.testing.assert_allclose(
        imputer.transform(gaps), np.clip(free.transform(gaps), imputer.min_value_, imputer.max_value_), atol=1e-9
    )


@pytest.mark.parametrize("low, high", [(-0.5, 0.75), ([-1, "auto", -2, 0.1], [2, 0.6, "auto", np.inf])])
def test_bounds_hold_in_gaps_and_not_beside_them(low, high):
    X, gaps = amounts()
    miss = np.isnan(gaps)
    imputer = clone(CHEAP).set_params(min_value=low, max_value=high).fit(gaps)
    expected = np.broadcast_to(low, 4) if np.ndim(low) == 0 else [-1, 0, -2, 0.1]
    np.testing.assert_array_equal(imputer.min_value_, expected)
    for made in tables_of(imputer, gaps):
        beyond = (made < imputer.min_value_) | (made > imputer.max_value_)
        assert not beyond[miss].any()
        np.testing.assert_array_equal(made[~miss], X[~miss])
    assert (
        imputer.imputation_std(gaps)[miss] <= (imputer.max_value_ - imputer.min_value_ + np.zeros((150, 4)))[miss]
    ).all()


def test_bounds_of_frames_leave_categories_alone():
    X, gaps = amounts()
    table = pd.DataFrame(gaps, columns=list("abcd")).assign(word=["x", "y", None] * 50, told=[True, False] * 75)
    imputer = clone(CHEAP).set_params(max_value=0.5).fit(table)
    np.testing.assert_array_equal(imputer.max_value_, [0.5] * 4 + [np.inf] * 2)
    filled = imputer.transform(table)
    assert (filled.iloc[:, :4].to_numpy()[np.isnan(gaps)] <= 0.5).all() and filled["word"].isin(["x", "y"]).all()


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"min_value": 2, "max_value": 1}, "min_value is above max_value in column 0: 2 > 1"),
        ({"min_value": [0, 0]}, "min_value has 2 entries, but X has 4 columns"),
        ({"max_value": [1, "most", 1, 1]}, "'max_value' parameter"),
        ({"max_value": [1, np.nan, 1, 1]}, "'max_value' parameter"),
    ],
    ids=str,
)
def test_bounds_that_are_none(bounds, message):
    with pytest.raises(ValueError, match=message):
        clone(CHEAP).set_params(**bounds).fit(amounts()[1])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 3, 7], (0, np.inf)),
        ([0.2, np.nan, 1.0], (0, 1)),
        ([-3.0, -1], (-np.inf, 0)),
        ([-1.0, 1], (-np.inf, np.inf)),
        ([np.nan], (-np.inf, np.inf)),
    ],
)
def test_the_range_that_values_suggest(values, expected):
    assert observed_range(np.array(values)) == expected


# Values that many rows hold ----------------------------------------------------------------------


def test_semicontinuous_columns_draw_exact_zeros_at_their_rate():
    """Half of the amounts are zero, more often where x is small."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(800)
    amount = np.where(x + rng.standard_normal(800) > 0, np.exp(1 + 0.5 * x + 0.3 * rng.standard_normal(800)), 0.0)
    X = np.column_stack([x, amount])
    gaps = X.copy()
    miss = rng.random(800) < 0.4
    gaps[miss, 1] = np.nan
    imputer = clone(CHEAP).fit(gaps)
    drawn = np.array(imputer.sample(gaps, 20, random_state=0))[:, miss, 1]
    for part in (x[miss] < -0.5, np.abs(x[miss]) < 0.5, x[miss] > 0.5):
        true = (amount[miss][part] == 0).mean()
        assert (drawn[:, part] == 0).mean() == pytest.approx(true, abs=3 * np.sqrt(0.25 / part.sum()))
    assert drawn.min() == 0 and drawn.mean() == pytest.approx(amount[miss].mean(), rel=0.15)
    low, high = imputer.interval(gaps, 0.9)
    assert ((low <= X) & (X <= high))[miss, 1].mean() >= 0.85
    # Also away from 0, and at the upper end.
    top = clone(CHEAP).fit(3 - gaps)
    again = np.array(top.sample(3 - gaps, 20, random_state=0))[:, miss, 1]
    assert (again == 3).mean() == pytest.approx((drawn == 0).mean(), abs=0.03)


def test_which_columns_are_semicontinuous():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(200)
    Z = np.column_stack([np.maximum(x, 0), x.clip(-1, 1), x, np.round(x), (x > 0), np.full(200, 2.0)])
    made = point_masses(np.where(rng.random(Z.shape) < 0.1, np.nan, Z), np.ones(6, dtype=bool))
    assert {index: values.tolist() for index, values in made.items()} == {0: [0.0], 1: [-1.0, 1.0]}


def test_quantiles_of_similar_predictions():
    """Of a normal distribution around the prediction, within the errors of some 60 values."""
    rng = np.random.default_rng(0)
    predicted = rng.uniform(-3, 3, 3000)
    made = ConditionalDistribution(predicted, 10 * predicted + rng.standard_normal(3000))
    # A window of 300 of 3000 values holds .6 of the predictions, so that values have a deviation of √(1 + 36 / 12).
    for level in (0.05, 0.5, 0.95):
        found = made.quantile(np.array([-1.0, 0.0, 2.0]), np.full(3, level)) - [-10, 0, 20]
        quantile = np.quantile(rng.uniform(-3, 3, 100_000) + rng.standard_normal(100_000), level)
        np.testing.assert_allclose(found, quantile, atol=0.8)
    assert ConditionalDistribution([1.0], [5.0]).quantile(np.array([0.0, 9.0]), np.array([0.1, 0.9])).tolist() == [5, 5]


# Likelihoods with a unit of their own --------------------------------------------------------------

SHORT = {"hidden_layer_sizes": (16,), "max_iter": 30, "early_stopping": False}


@pytest.mark.parametrize(
    "autoencoder",
    [VAE(3, likelihood="poisson", **SHORT), AutoencoderTransformer(3, likelihood="poisson", **SHORT)],
    ids=str,
)
def test_counts_are_filled_by_a_likelihood_of_counts(autoencoder):
    rng = np.random.default_rng(0)
    X = rng.poisson(np.exp(1.5 + rng.standard_normal((300, 1)) * [1.0, 0.8, -0.8, 0.6, -1.0, 0.7])).astype(float)
    gaps = np.where(rng.random(X.shape) < 0.2, np.nan, X)
    imputer = AutoencoderImputer(autoencoder, n_estimators=2, random_state=0).fit(gaps)
    # It has seen counts, and not standardised ones.
    largest = imputer.estimators_[0].model_.scaling.columns.high.numpy()
    np.testing.assert_allclose(largest, np.round(largest), atol=1e-4)
    filled, miss = imputer.transform(gaps), np.isnan(gaps)
    error, by_mean = (np.square((made - X) / X.std(0))[miss].mean() for made in (filled, np.nanmean(gaps, 0)))
    assert error < 0.7 * by_mean and (filled >= 0).all()


def test_bits_are_filled_by_a_bernoulli_likelihood():
    rng = np.random.default_rng(0)
    code = rng.standard_normal((400, 1))
    X = (code + 0.5 * rng.standard_normal((400, 6)) > 0).astype(float)
    gaps = np.where(rng.random(X.shape) < 0.2, np.nan, X)
    for autoencoder in (
        VAE(2, likelihood="bernoulli", **SHORT),
        AutoencoderTransformer(2, likelihood="bernoulli", **SHORT),
    ):
        imputer = AutoencoderImputer(autoencoder, n_estimators=2, random_state=0).fit(gaps)
        filled, miss = imputer.transform(gaps), np.isnan(gaps)
        assert ((filled > 0.5) == X)[miss].mean() > 0.75
        assert ((filled >= 0) & (filled <= 1)).all()


# Without gaps, and far out --------------------------------------------------------------------------


def test_a_table_without_gaps_under_a_model_of_missingness():
    X = np.abs(real(60, 3))
    gaps = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    autoencoder = VAE(2, hidden_layer_sizes=(8,), max_iter=2, early_stopping=False, n_importance_samples=2)
    imputer = AutoencoderImputer(autoencoder, missingness="self_masking", random_state=0).fit(gaps)
    # Observed values do not tell a range where others hide themselves.
    assert np.isinf(imputer.min_value_).all() and np.isinf(imputer.max_value_).all()
    np.testing.assert_array_equal(imputer.interval(X), [X, X])
    np.testing.assert_array_equal(imputer.imputation_std(X), 0)
    np.testing.assert_array_equal(imputer.sample(X, 2), [X, X])
    np.testing.assert_array_equal(imputer.transform(X), X)


@pytest.mark.parametrize("far", [1e20, -1e38, 1e150])
@pytest.mark.parametrize(
    "autoencoder",
    [MAE, VAE(2, hidden_layer_sizes=(8,), max_iter=2), AutoencoderTransformer(2, hidden_layer_sizes=(8,), max_iter=2)],
    ids=["MaskedAE", "VAE", "AutoencoderTransformer"],
)
def test_a_cell_far_out_leaves_no_gap(autoencoder, far):
    X = real(80, 4)
    gaps = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    gaps[0] = [far, 0.0, np.nan, np.nan]
    for rows in (gaps[1:], gaps):
        imputer = clone(CHEAP).set_params(autoencoder=autoencoder).fit(rows)
        for made in tables_of(imputer, gaps):
            assert np.isfinite(made).all()
