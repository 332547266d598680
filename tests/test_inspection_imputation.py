"""What the display of an imputer draws is what the imputer says, and what hiding cells shows."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.impute import KNNImputer

from skae import AutoencoderImputer, MaskedAE
from skae.inspection import ImputationDisplay
from skae.inspection._imputation import LEVELS, MAX_BARS


def imputer(*, likelihood="gaussian", **options):
    """One that fits in a moment: it hardly leaves the linear guess."""
    small = MaskedAE(4, hidden_layer_sizes=(8,), likelihood=likelihood, max_iter=2, early_stopping=False)
    return AutoencoderImputer(small, **{"n_estimators": 2, "random_state": 0, **options})


@pytest.fixture(scope="module")
def table(iris):
    """Numbers, a category, a boolean and an integer, without gaps."""
    X, y = iris
    frame = pd.DataFrame(X, columns=["sepal length", "sepal width", "petal length", "petal width"])
    frame["species"] = pd.Categorical.from_codes(y, ["setosa", "versicolor", "virginica"])
    frame["long"] = X[:, 0] > 5.8
    frame["rings"] = np.round(10 * X[:, 2]).astype(int)
    return frame.sample(frac=1, random_state=0, ignore_index=True)


@pytest.fixture(scope="module")
def gappy(table):
    return table.mask(np.random.default_rng(0).random(table.shape) < 0.3)


@pytest.fixture(scope="module")
def fitted(gappy):
    return imputer(likelihood="mixed").fit(gappy)


def test_without_matplotlib_the_error_says_what_to_install(fitted, gappy, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    for call, run in {
        "from_estimator": lambda: ImputationDisplay.from_estimator(fitted, gappy),
        "plot": lambda: ImputationDisplay("errors", {"a": 0.5}).plot(),
    }.items():
        with pytest.raises(ImportError, match=rf"ImputationDisplay.{call} needs matplotlib.*skae\[plot\]"):
            run()


def test_errors_are_in_units_of_the_mean_s_or_the_most_frequent_category_s(fitted, gappy):
    display = ImputationDisplay.from_estimator(fitted, gappy)
    assert list(display.columns) == list(gappy)
    deviation = gappy["petal length"].std(ddof=0)
    assert_allclose(display.columns["petal length"], fitted.holdout_error_[2] / deviation)
    for index, name in ((4, "species"), (5, "long")):
        naive = 1 - gappy[name].value_counts(normalize=True).max()
        assert_allclose(display.columns[name], fitted.holdout_error_[index] / naive)
    widths = [bar.get_width() for bar in display.artists_.values()]
    assert_allclose(widths, list(display.columns.values()))
    assert [label.get_text() for label in display.axes_[0].get_yticklabels()] == list(gappy)


def test_of_many_columns_the_worst_are_drawn(rng):
    shared = rng.normal(size=(60, 1))
    noise = np.linspace(0, 2, MAX_BARS + 5)
    X = shared + noise * rng.normal(size=(60, len(noise)))
    X[rng.random(X.shape) < 0.1] = np.nan
    display = ImputationDisplay.from_estimator(imputer().fit(X), X)
    assert len(display.columns) == MAX_BARS
    assert "x0" not in display.columns
    indices = [int(name[1:]) for name in display.columns]
    assert indices == sorted(indices)


def test_distributions_are_of_the_cells_that_are_there_and_of_the_filled_ones(fitted, gappy):
    features = ["species", 2, "rings", "long"]
    display = ImputationDisplay.from_estimator(fitted, gappy, kind="distributions", features=features, n_imputations=3)
    assert list(display.columns) == ["species", "petal length", "rings", "long"]
    for name, values in display.columns.items():
        gaps = gappy[name].isna()
        observed, guess = gappy[name][~gaps], fitted.transform(gappy)[name][gaps]
        if name in ("species", "long"):
            observed, guess = observed.astype(str), guess.astype(str)
        assert_array_equal(values["observed"], observed.to_numpy())
        assert_array_equal(values["single guess"], guess.to_numpy())
        assert len(values["drawn"]) == 3 * gaps.sum()
    bars = display.artists_["species"]["observed"]
    shares = gappy["species"].value_counts(normalize=True)[["setosa", "versicolor", "virginica"]]
    assert_allclose([bar.get_height() for bar in bars], shares)


def test_draws_scatter_more_than_single_guesses(fitted, gappy):
    display = ImputationDisplay.from_estimator(
        fitted, gappy, kind="distributions", features=["sepal width"], n_imputations=20
    )
    values = display.columns["sepal width"]
    assert values["drawn"].std() > 1.2 * values["single guess"].std()
    assert_allclose(values["drawn"].std(), values["observed"].std(), rtol=0.2)


def test_the_six_columns_with_the_most_gaps_are_drawn_in_their_order(table):
    gappy = table.mask(np.arange(len(table))[:, None] < [4, 9, 3, 7, 30, 20, 10])
    fitted = imputer(likelihood="mixed").fit(gappy)
    display = ImputationDisplay.from_estimator(fitted, gappy, kind="distributions", n_imputations=1)
    assert list(display.columns) == [name for name in table if name != "petal length"]


def test_coverage_of_a_normal_distribution_is_as_promised(rng):
    rows = rng.normal(size=(900, 2)) @ rng.normal(size=(2, 6)) + 0.5 * rng.normal(size=(900, 6))
    gappy = np.where(rng.random(rows.shape) < 0.2, np.nan, rows)
    display = ImputationDisplay.from_estimator(imputer().fit(gappy[:500]), gappy[500:], kind="coverage")
    held = np.concatenate(list(display.columns.values()))
    assert abs(len(held) / (400 * 6 * 0.8 * 0.2) - 1) < 0.2
    assert np.all(np.diff(held.mean(0)) > 0)
    # Five standard errors of a share of so many cells.
    limit = 5 * np.sqrt(np.multiply(LEVELS, np.subtract(1, LEVELS)) / len(held))
    assert np.all(np.abs(held.mean(0) - LEVELS) < limit)
    assert_allclose(display.artists_[None].get_ydata(), held.mean(0))
    assert set(display.artists_) == {None, *display.columns}


def test_coverage_hides_observed_cells_of_numbers_alone(fitted, gappy):
    display = ImputationDisplay.from_estimator(fitted, gappy, kind="coverage", share=0.5)
    numbers = ["sepal length", "sepal width", "petal length", "petal width", "rings"]
    assert list(display.columns) == numbers
    for name in numbers:
        n_observed = gappy[name].notna().sum()
        assert abs(len(display.columns[name]) / n_observed - 0.5) < 0.2
    again = ImputationDisplay.from_estimator(fitted, gappy, kind="coverage", share=0.5)
    for name in numbers:
        assert_array_equal(display.columns[name], again.columns[name])


@pytest.mark.filterwarnings("ignore:Skipping features without any observed")
def test_arrays_markers_and_columns_that_were_dropped(iris):
    X = np.insert(iris[0], 1, -1.0, axis=1)
    X[::3, 3] = X[1::4, 2] = -1
    fitted = imputer(missing_values=-1, add_indicator=True).fit(X)
    assert list(ImputationDisplay.from_estimator(fitted, X).columns) == ["x0", "x2", "x3", "x4"]
    drawn = ImputationDisplay.from_estimator(fitted, X, kind="distributions", n_imputations=1).columns
    assert list(drawn) == ["x2", "x3"]
    assert_array_equal(drawn["x3"]["observed"], X[X[:, 3] != -1, 3])
    assert_array_equal(drawn["x3"]["single guess"], fitted.transform(X)[X[:, 3] == -1, 2])
    held = ImputationDisplay.from_estimator(fitted, X, kind="coverage").columns
    assert list(held) == ["x0", "x2", "x3", "x4"]


def test_arrays_of_integers(rng):
    X = rng.integers(0, 9, size=(80, 1)) + rng.integers(0, 3, size=(80, 4))
    display = ImputationDisplay.from_estimator(imputer().fit(X), X, kind="coverage")
    assert list(display.columns) == ["x0", "x1", "x2", "x3"]


def test_it_goes_where_it_is_told_and_changes_nothing(fitted, gappy, nothing_global_changed):
    figure, axes = plt.subplots(1, 2)
    before = gappy.copy()
    display = ImputationDisplay.from_estimator(
        fitted, gappy, kind="distributions", features=["species", "rings"], n_imputations=1, ax=axes
    )
    assert list(display.axes_) == list(axes) and display.figure_ is figure
    assert len(axes[0].get_legend().get_texts()) == 3
    pd.testing.assert_frame_equal(gappy, before)
    again = display.plot(name="mine")
    assert again.figure_ is not figure and again.figure_.get_suptitle() == "mine"
    _, ax = plt.subplots()
    assert ImputationDisplay.from_estimator(fitted, gappy, ax=ax, name="yours").axes_[0] is ax
    assert ax.get_title() == "yours"


def test_what_cannot_be_drawn_is_refused(fitted, gappy, table):
    with pytest.raises(NotFittedError):
        ImputationDisplay.from_estimator(AutoencoderImputer(), gappy)
    with pytest.raises(ValueError, match="KNNImputer has no table_encoder_, which kind='coverage' draws"):
        ImputationDisplay.from_estimator(KNNImputer().fit(np.eye(3)), np.eye(3), kind="coverage")
    with pytest.raises(ValueError, match="features names 'petals', which is no column"):
        ImputationDisplay.from_estimator(fitted, gappy, features=["petals"])
    with pytest.raises(ValueError, match="features has 7: X has 7 columns"):
        ImputationDisplay.from_estimator(fitted, gappy, features=[7])
    with pytest.raises(ValueError, match="expecting 7 features"):
        ImputationDisplay.from_estimator(fitted, gappy.iloc[:, :3])
    with pytest.raises(ValueError, match="Give rows with gaps"):
        ImputationDisplay.from_estimator(fitted, table, kind="distributions")
    with pytest.raises(ValueError, match="Intervals are those of numbers"):
        ImputationDisplay.from_estimator(fitted, gappy, kind="coverage", features=["species"])
    with pytest.raises(ValueError, match="ax holds 1 axes, but there are 6 panels"):
        ImputationDisplay.from_estimator(fitted, gappy, kind="distributions", ax=plt.subplots()[1])
