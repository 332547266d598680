"""What rows of fit that are alike tell an imputer."""

import numpy as np
import pytest
from scipy.stats import norm

from skae import AutoencoderImputer, MaskedAE
from skae.imputation._calibration import _shares
from skae.imputation._similar import WIDTHS, SimilarRows

# Two numbers, a boolean and a category of three.
GROUP = np.array([0, 1, 2, 3, 3, 3])
IS_NUMBER = np.array([True, True, False, False, False, False])


def _rows(n, seed=0):
    """Rows with gaps, the same filled, and by how much that may be off."""
    rng = np.random.default_rng(seed)
    whole = np.hstack([rng.normal(size=(n, 2)), rng.integers(0, 2, (n, 1)), np.eye(3)[rng.integers(0, 3, n)]])
    missing = (rng.random((n, 4)) < 0.3)[:, GROUP]
    guess = np.hstack([rng.normal(size=(n, 2)), rng.random((n, 1)), rng.dirichlet(np.ones(3), n)])
    deviation = np.where(missing & IS_NUMBER, rng.uniform(0.2, 1, (n, 6)), 0)
    return np.where(missing, np.nan, whole), np.where(missing, guess, whole), deviation


def _density(row, filled, deviation, frequent, width):
    """Of what is known of a row, under a component."""
    made = 1.0
    for column in np.flatnonzero(~np.isnan(row)):
        if IS_NUMBER[column]:
            made *= norm.pdf(row[column], filled[column], np.hypot(width, deviation[column]))
        else:
            right = (1 - width) * filled[column] + width * frequent[column]
            alone = (GROUP == GROUP[column]).sum() == 1
            made *= right ** row[column] * ((1 - right) ** (1 - row[column]) if alone else 1)
    return made


def test_the_expectation_is_that_of_the_densities():
    Z, filled, deviation = _rows(40)
    new = _rows(7, seed=1)[0]
    similar = SimilarRows(Z, filled, deviation, GROUP, IS_NUMBER)
    for width, made in zip(WIDTHS, similar(new, np.full(7, -1)), strict=True):
        for row, expected in zip(new, made, strict=True):
            weight = [
                _density(row, *component, filled.mean(0), width) for component in zip(filled, deviation, strict=True)
            ]
            np.testing.assert_allclose(expected, np.array(weight) @ filled / np.sum(weight), atol=2e-3)


def test_rows_far_away_and_rows_without_values_get_an_answer():
    Z, filled, deviation = _rows(20)
    new = np.array([[1e6, -1e6, 1, 0, 0, 1], np.full(6, np.nan)])
    for made in SimilarRows(Z, filled, deviation, GROUP, IS_NUMBER)(new, np.array([-1, -1])):
        assert np.isfinite(made).all()
        np.testing.assert_allclose(made[1], filled.mean(0), rtol=1e-5)


def test_a_row_of_fit_is_found_and_tells_itself_nothing():
    Z, filled, deviation = _rows(30)
    similar = SimilarRows(Z, filled, deviation, GROUP, IS_NUMBER)
    order = np.random.default_rng(0).permutation(30)
    np.testing.assert_array_equal(similar.find(Z[order]), order)
    further = Z.copy()
    further[np.arange(30), [np.flatnonzero(~np.isnan(row))[0] for row in Z]] = np.nan
    assert (similar.find(further) == -1).all()
    others = SimilarRows(Z[1:], filled[1:], deviation[1:], GROUP, IS_NUMBER)
    for made, expected in zip(similar(Z[:1], np.array([0])), others(Z[:1], np.array([-1])), strict=True):
        # Frequencies of categories are those of all rows.
        np.testing.assert_allclose(made[:, :2], expected[:, :2], atol=0.02)


def test_many_rows_are_compared_in_pieces(monkeypatch):
    Z, filled, deviation = _rows(50)
    similar = SimilarRows(Z, filled, deviation, GROUP, IS_NUMBER)
    whole = list(similar(Z, np.arange(50)))
    monkeypatch.setattr("skae.imputation._similar.CHUNK_PAIRS", 400)
    np.testing.assert_allclose(list(similar(Z, np.arange(50))), whole, atol=1e-5)


@pytest.mark.parametrize(
    ("along", "size", "shares"),
    [
        ([2.0, 1.0], np.diag([4.0, 4.0]), [0.5, 0.25]),
        ([2.0, -1.0], np.diag([4.0, 4.0]), [0.5, 0.0]),
        ([4.0, 4.0], np.diag([4.0, 4.0]), [0.5, 0.5]),
        ([1.0, 1.0], np.full((2, 2), 2.0), [0.25, 0.25]),
        ([-1.0, -1.0], np.eye(2), [0.0, 0.0]),
        ([0.0, 0.0], np.zeros((2, 2)), [0.0, 0.0]),
    ],
)
def test_shares_are_least_squares_within_bounds(along, size, shares):
    made = _shares(np.array(along), size)
    assert made.sum() == pytest.approx(sum(shares), abs=1e-6)
    assert made @ size @ made - 2 * made @ along == pytest.approx(
        np.array(shares) @ size @ shares - 2 * np.dot(shares, along)
    )


# In the imputer ------------------------------------------------------------------------------


def _imputer(**parameters):
    autoencoder = MaskedAE(4, hidden_layer_sizes=(16,), max_iter=3, early_stopping=False)
    return AutoencoderImputer(autoencoder, n_estimators=2, random_state=0, **parameters)


def _twice(n=150, n_features=5):
    """Independent columns, each row twice, and a fifth of the cells hidden."""
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(n, n_features)), 2, axis=0)
    X += 0.01 * rng.normal(size=X.shape)
    return X, rng.random(X.shape) < 0.2


def test_rows_that_come_back_are_remembered():
    X, hidden = _twice()
    gappy = np.where(hidden, np.nan, X)
    errors = {}
    for n_reference_rows in (5000, 0):
        imputer = _imputer(n_reference_rows=n_reference_rows).fit(gappy)
        errors[n_reference_rows] = np.square(imputer.transform(gappy) - X)[hidden].mean()
        assert imputer.reference_share_.shape == (5,)
        assert ((imputer.reference_share_ > 0.5) == bool(n_reference_rows)).all()
    # A fifth of what is hidden is hidden in the other row too.
    assert errors[5000] < 0.45 < 0.9 < errors[0]


def test_held_out_errors_and_intervals_are_those_with_similar_rows():
    X, hidden = _twice()
    gappy = np.where(hidden, np.nan, X)
    with_rows, without = (_imputer(n_reference_rows=n).fit(gappy) for n in (5000, 0))
    assert (with_rows.holdout_error_ < 0.9 * without.holdout_error_).all()
    low, high = with_rows.interval(gappy, coverage=0.8)
    assert 0.7 < ((low <= X) & (X <= high))[hidden].mean() < 0.97
    drawn = [
        np.square(imputer.sample(gappy, 5, random_state=0) - X)[:, hidden].mean() for imputer in (with_rows, without)
    ]
    assert drawn[0] < 0.7 * drawn[1] < 2


def test_a_row_of_fit_does_not_tell_its_own_score():
    X = np.random.default_rng(0).normal(size=(200, 5))
    rng = np.random.default_rng(1)
    X[:, 4] = X[:, 3] + 0.3 * rng.normal(size=200)
    imputer = _imputer().fit(X)
    new = rng.normal(size=(200, 5))
    new[:, 4] = new[:, 3] + 0.3 * rng.normal(size=200)
    assert abs(imputer.score(X) - imputer.score(new)) < 0.15


def test_columns_that_do_not_tell_each_other_are_left_alone():
    X = np.random.default_rng(0).normal(size=(400, 6))
    imputer = _imputer().fit(X)
    assert imputer.reference_share_.mean() < 0.05


def test_categories_come_back_too():
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    table = pandas.DataFrame({name: rng.choice(list("abcdef"), 150) for name in "uvwxyz"})
    table = pandas.concat([table, table], ignore_index=True)
    hidden = rng.random(table.shape) < 0.15
    gappy = table.mask(hidden)
    wrong = [(_imputer(n_reference_rows=n).fit_transform(gappy) != table).to_numpy()[hidden].mean() for n in (5000, 0)]
    assert wrong[0] < 0.35 < 0.6 < wrong[1]


@pytest.mark.parametrize("n_reference_rows", [1, 2, 40])
def test_fewer_rows_than_there_are_may_be_kept(n_reference_rows):
    X, hidden = _twice()
    gappy = np.where(hidden, np.nan, X)
    imputer = _imputer(n_reference_rows=n_reference_rows).fit(gappy)
    assert np.isfinite(imputer.transform(gappy)).all()
    similar = imputer._calibration_.similar
    assert similar is None or len(similar) == n_reference_rows > 1


def test_a_negative_number_of_rows_is_refused():
    with pytest.raises(ValueError, match="n_reference_rows"):
        _imputer(n_reference_rows=-1).fit(_twice()[0])
