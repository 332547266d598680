"""Skewed columns, heavy tails, and residuals whose size follows the prediction."""

import numpy as np
import pytest
from registry import over
from scipy import stats
from sklearn.base import clone

from skae import AutoencoderImputer, MaskedAE
from skae.imputation._calibration import LEVELS
from skae.imputation._choice import chosen_shapes
from skae.imputation._scale import ColumnScale
from skae.imputation._shapes import AsinhShape, LogShape, likeliest_shape
from skae.imputation._spread import Spread
from skae.imputation._tails import residual_quantiles

CHEAP = AutoencoderImputer(MaskedAE(4, hidden_layer_sizes=(8,), max_iter=5, early_stopping=False), random_state=0)
SHAPES = {
    "log": LogShape(1.0, 0.5, 0.2),
    "log of a lower tail": LogShape(-1.0, -3.0, 2.0),
    "asinh": AsinhShape(1.0, 0.5),
}


@pytest.mark.parametrize("shape", **over(SHAPES))
def test_a_map_is_monotone_and_has_its_inverse_and_slope(shape):
    x = np.linspace(-20, 20, 400)
    t = shape.forward(x)
    assert (np.diff(t) > 0).all()
    np.testing.assert_allclose(shape.backward(t), x, atol=1e-9)
    step = 1e-6
    difference = (shape.forward(x + step) - shape.forward(x - step)) / (2 * step)
    np.testing.assert_allclose(shape.slope(x), difference, rtol=1e-4)
    assert (shape.forward(np.array([-np.inf, np.inf])) == [-np.inf, np.inf]).all()


def test_the_likeliest_map():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(400)
    for values, side in ((np.exp(x), 1), (5 - np.exp(x), -1)):
        shape = likeliest_shape(values)
        assert isinstance(shape, LogShape) and shape.sign == side
        # As the logarithm: the order and nearly the distances of x.
        assert np.corrcoef(shape.forward(values), x)[0, 1] ** 2 > 0.97
    assert isinstance(likeliest_shape(rng.standard_t(1.5, 400)), AsinhShape)
    for values in (x, rng.uniform(size=400), rng.integers(0, 4, 400).astype(float), np.ones(400), x[:20]):
        assert likeliest_shape(values) is None


def test_a_scale_with_maps_comes_back():
    rng = np.random.default_rng(0)
    Z = np.exp(rng.standard_normal((200, 2)))
    columns = ColumnScale(Z, np.array([True, True]), {1: likeliest_shape(Z[:, 1])})
    made = columns.standardise(Z)
    np.testing.assert_allclose(made.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(made.std(0), 1)
    np.testing.assert_allclose(columns.restore(made), Z)
    np.testing.assert_allclose(columns.restore_cells(made[:, 1], np.ones(200, dtype=int)), Z[:, 1])
    np.testing.assert_allclose(columns.deviation, Z.std(0))


def test_maps_are_taken_where_held_out_rows_gain():
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal((2, 400))
    number = np.ones(2, dtype=bool)

    def chosen(*columns):
        return set(chosen_shapes(np.column_stack(columns), np.arange(2), number, np.random.RandomState(0)))

    # A logarithm that is linear in the other column; both of a product.
    assert chosen(x, np.exp(1.5 * x + 0.5 * noise)) == {1}
    assert chosen(np.exp(x), np.exp(x + 0.5 * noise)) == {0, 1}
    # Linear without a map, or a parabola, which the network tells.
    assert chosen(np.exp(x), 2 * np.exp(x) + 0.1 * noise) == set()
    assert chosen(x, x**2 + 0.1 * noise) == set()
    assert chosen(x, x + noise) == set()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("tail", ["log-normal", "student"])
def test_draws_beside_a_heavy_tailed_column_stay_near_the_observed_values(tail, seed):
    rng = np.random.default_rng(seed)
    age = rng.uniform(18, 88, 300)
    heavy = (
        np.exp(9 + 0.01 * age + 1.3 * rng.standard_normal(300)) if tail == "log-normal" else rng.standard_t(1.5, 300)
    )
    X = np.column_stack([age, heavy, rng.standard_normal(300)])
    miss = rng.random(X.shape) < 0.2
    gaps = np.where(miss, np.nan, X)
    imputer = clone(CHEAP).fit(gaps)
    drawn = np.array(imputer.sample(gaps, 20, random_state=0))[:, miss[:, 0], 0]
    # Of a normal distribution with the ages' mean and deviation, 99.9 % lie between −14 and 120.
    assert drawn.min() >= 0 and drawn.max() < 140
    low, high = imputer.interval(gaps, 0.99)
    assert high[miss[:, 0], 0].max() < 140
    assert ((low <= X) & (X <= high))[miss].mean() > 0.95


def test_expectations_of_mapped_columns_are_means_and_not_medians():
    """Of a log-normal column of which nothing is known: exp(σ²/2), not 1."""
    rng = np.random.default_rng(0)
    X = np.exp(rng.standard_normal((1500, 2)))
    gaps = X.copy()
    gaps[::3, 1] = np.nan
    imputer = clone(CHEAP).fit(gaps)
    assert imputer._columns_.shapes
    assert imputer.transform(gaps)[::3, 1].mean() == pytest.approx(np.nanmean(gaps[:, 1]), rel=0.05)
    assert imputer.imputation_std(gaps)[::3, 1].mean() == pytest.approx(np.sqrt(np.e**2 - np.e), rel=0.25)
    assert imputer.holdout_error_[1] == pytest.approx(np.nanstd(gaps[:, 1]), rel=0.15)
    nothing = imputer.transform(np.full((1, 2), np.nan))
    np.testing.assert_allclose(nothing, [np.nanmean(gaps, axis=0)], rtol=1e-6)
    low, high = imputer.interval(gaps, 0.9)
    np.testing.assert_allclose(np.median(low[::3, 1]), np.exp(-1.645), rtol=0.25)
    np.testing.assert_allclose(np.median(high[::3, 1]), np.exp(1.645), rtol=0.25)


# Quantiles of residuals ---------------------------------------------------------------------------


def test_fitted_tails_are_those_of_the_distribution():
    for distribution in (stats.norm, stats.laplace, stats.t(5)):
        values = distribution.rvs(size=20_000, random_state=0)
        made = residual_quantiles(values, LEVELS, 1.0)
        np.testing.assert_allclose(made, distribution.ppf(LEVELS), rtol=0.12, atol=0.06)


def test_one_residual_far_out_does_not_decide():
    values = stats.norm.rvs(size=300, random_state=0)
    values[7] = 1000.0
    made = residual_quantiles(values, LEVELS, 1.0)
    assert made[-1] < 5 and (np.diff(made) >= -1e-9).all()


def test_few_residuals_have_their_own_quantiles():
    values = np.arange(21.0)
    np.testing.assert_allclose(residual_quantiles(values, np.array([0.5]), 1.0), [10])
    np.testing.assert_allclose(residual_quantiles(np.zeros(0), np.array([0.5, 0.975]), 1.0), [0, 1.96], atol=1e-3)


def test_a_spread_follows_the_prediction():
    rng = np.random.default_rng(0)
    predicted = rng.standard_normal(4000)
    for factor in (lambda a: np.exp(0.5 * a), lambda a: np.exp(0.4 * np.abs(a)), np.ones_like):
        made = Spread(predicted, factor(predicted) * rng.standard_normal(4000), 1.0)
        at = np.array([-1.5, 0.0, 1.5])
        ratio = made(at) / factor(at)
        np.testing.assert_allclose(ratio / ratio[1], 1, atol=0.12)
    # Few cells tell nothing.
    np.testing.assert_array_equal(Spread(predicted[:20], predicted[:20], 1.0)(at), 1)


@pytest.mark.parametrize("kind", ["exponential", "proportional", "constant"])
def test_intervals_cover_where_the_spread_grows_with_what_is_missing(kind):
    """Missing at random: large values are missing, as another column has it."""
    inside = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x = rng.uniform(1, 10, 500) if kind == "proportional" else rng.standard_normal(500)
        width = {"exponential": np.exp(0.5 * x), "proportional": 0.3 * x, "constant": np.ones(500)}[kind]
        X = np.column_stack([x, 2 * x + width * rng.standard_normal(500)])
        share = 1 / (1 + np.exp(0.9 - 1.5 * (x - x.mean()) / x.std()))
        gaps = X.copy()
        gaps[rng.random(500) < share, 1] = np.nan
        miss = np.isnan(gaps)
        low, high = clone(CHEAP).set_params(random_state=seed).fit(gaps).interval(gaps, 0.9)
        inside.append(((low <= X) & (X <= high))[miss].mean())
    assert np.mean(inside) == pytest.approx(0.9, abs=0.05)
