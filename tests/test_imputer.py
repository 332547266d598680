"""AutoencoderImputer: observed cells stay, gaps are filled well, and it says how sure it is."""

import pickle

import numpy as np
import pandas as pd
import pytest
from registry import over, real
from scipy import stats
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from skae import VAE, AutoencoderImputer, AutoencoderTransformer, DenoisingAE, MaskedAE, Masking, SparseAE

P = 5
MAE = MaskedAE(4, hidden_layer_sizes=(8,), max_iter=2, early_stopping=False)
CHEAP = AutoencoderImputer(MAE, n_estimators=2, random_state=0)
NAMES = list("abcde")


def gappy(n=120, p=P, share=0.3, seed=0):
    """Rows, and the same with gaps."""
    X = real(n, p, seed)
    return X, np.where(np.random.default_rng(seed + 1).random(X.shape) < share, np.nan, X)


def mixed_table(n=80, seed=0, gaps=True):
    """A frame with a column of each dtype, whose index and columns are in no order."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    word = np.where(x > 0.5, "high", np.where(x < -0.5, "low", "mid"))

    def holes(values, missing=None):
        return [missing if gaps and hole else value for value, hole in zip(values, rng.random(n) < 0.2, strict=True)]

    count = np.round(10 * x).astype(int)
    made = {
        "whole": count,
        "float": np.array(holes(x, np.nan)),
        "single": np.array(holes(x + rng.standard_normal(n), np.nan), dtype=np.float32),
        "Int64": pd.array(holes(count.tolist()), dtype="Int64"),
        "Float64": pd.array(holes((3 * x).tolist()), dtype="Float64"),
        "object-int": pd.Series(holes(count.tolist()), dtype=object),
        "bool": x > 0,
        "boolean": pd.array(holes((x > 0).tolist()), dtype="boolean"),
        "object-bool": pd.Series(holes((x > 0).tolist()), dtype=object),
        "object-str": pd.Series(holes(word.tolist()), dtype=object),
        "string": pd.array(holes(word.tolist()), dtype="string"),
        "str": holes(word.tolist()),
        "category": pd.Categorical(holes(word.tolist()), categories=["mid", "unused", "low", "high"]),
        "ordered": pd.Categorical(holes(word.tolist()), categories=["low", "mid", "high"], ordered=True),
        "category-int": pd.Categorical(holes(np.sign(count).tolist())),
    }
    return pd.DataFrame(made).set_axis(rng.permutation([f"row {i}" for i in range(n)]))


@pytest.fixture(scope="module")
def table():
    return mixed_table()


@pytest.fixture(scope="module")
def fitted(table):
    return clone(CHEAP).fit(table)


# Observed cells --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_observed_cells_come_back_bit_for_bit(dtype):
    _, X = gappy()
    X = (X * 1e3).astype(dtype)
    before = X.copy()
    imputer = clone(CHEAP).fit(X)
    made = [imputer.transform(X), *imputer.interval(X), *imputer.sample(X, 2)]
    assert X.tobytes() == before.tobytes()
    observed = ~np.isnan(X)
    for filled in made:
        assert filled.dtype == dtype and filled.shape == X.shape
        assert filled[observed].tobytes() == X[observed].tobytes()
        assert not np.isnan(filled).any()


@pytest.mark.parametrize("method", ["transform", "sample", "interval"])
def test_a_table_of_every_dtype_comes_back_with_its_gaps_filled(fitted, table, method):
    before = table.copy()
    made = getattr(fitted, method)(table)
    for filled in [made] if method == "transform" else made:
        pd.testing.assert_frame_equal(table, before)
        pd.testing.assert_index_equal(filled.index, table.index)
        pd.testing.assert_index_equal(filled.columns, table.columns)
        pd.testing.assert_series_equal(filled.dtypes, table.dtypes)
        assert not filled.isna().any(axis=None)
        pd.testing.assert_frame_equal(filled.where(table.notna()), table.where(table.notna()))
        for name in ("Int64", "object-int"):
            assert all(value == int(value) for value in filled[name])
        assert all(type(value) is int for value in filled["object-int"])
        for name in ("bool", "boolean", "object-bool"):
            assert set(filled[name]) == {True, False}
        for name in ("object-str", "string", "str", "category", "ordered"):
            assert set(filled[name]) <= {"low", "mid", "high"}


def test_categories_and_booleans_are_told_from_numbers():
    whole, table = (mixed_table(400, gaps=gaps) for gaps in (False, True))
    imputer = AutoencoderImputer(MAE, n_estimators=1, random_state=0).set_params(
        autoencoder__likelihood="mixed", autoencoder__max_iter=30
    )
    filled = imputer.fit(table).transform(table)
    for name in ("boolean", "object-bool", "object-str", "category", "ordered"):
        gaps = table[name].isna()
        right = (filled.loc[gaps, name].to_numpy() == whole.loc[gaps, name].to_numpy()).mean()
        most = whole[name].value_counts(normalize=True).max()
        assert right > most + 0.25


def test_integers_are_rounded_though_gaps_come_later():
    table = pd.DataFrame({"n": np.arange(60), "x": np.arange(60.0), "u": np.arange(60, dtype=np.uint8)})
    imputer = clone(CHEAP).fit(table)
    later = table.astype(float)
    later.loc[::3, ["n", "u"]] = np.nan
    filled = imputer.transform(later)
    assert (filled == filled.round()).all(axis=None) and filled["u"].between(0, 255).all()
    assert np.abs(filled["n"] - table["n"]).max() < 15


def test_an_unseen_category_stays_and_counts_as_missing_elsewhere(fitted, table):
    X = table.copy()
    X["category"] = X["category"].cat.add_categories("new")
    X.iloc[0, list(X.columns).index("category")] = "new"
    X.iloc[0, list(X.columns).index("str")] = "unheard of"
    filled = fitted.transform(X)
    assert filled["category"].iloc[0] == "new" and filled["str"].iloc[0] == "unheard of"
    assert not filled.isna().any(axis=None)
    pd.testing.assert_frame_equal(
        filled.iloc[1:], fitted.transform(table).iloc[1:], check_dtype=False, check_categorical=False
    )
    strict = clone(CHEAP).set_params(handle_unknown="error").fit(table)
    with pytest.raises(ValueError, match=r"Found unknown categories \['unheard of'\] in column 'str'"):
        strict.transform(X)


def test_rows_without_any_value_get_the_margins(fitted, table):
    X, gaps = gappy()
    gaps[:2] = np.nan
    imputer = clone(CHEAP).fit(gaps)
    np.testing.assert_allclose(imputer.transform(gaps)[:2], np.nanmean(gaps, 0)[None].repeat(2, 0))
    np.testing.assert_allclose(imputer.transform(np.full((3, P), np.nan)), np.nanmean(gaps, 0)[None].repeat(3, 0))
    nothing = pd.DataFrame({name: [None, None] for name in table}, dtype=object)
    filled = fitted.transform(nothing)
    assert not filled.isna().any(axis=None)
    for name in ("object-str", "category", "boolean"):
        assert (filled[name] == table[name].mode()[0]).all()
    np.testing.assert_allclose(filled["float"].astype(float), table["float"].mean())


def test_gaps_that_come_only_later_are_filled():
    X, gaps = gappy()
    imputer = clone(CHEAP).fit(X)
    filled = imputer.transform(gaps)
    assert not np.isnan(filled).any()
    error, by_mean = (np.square(made - X)[np.isnan(gaps)].mean() for made in (filled, X.mean(0)))
    assert error < 0.5 * by_mean


def test_a_complete_table_is_its_own_answer(fitted):
    X = real(60, P)
    imputer = clone(CHEAP).fit(X)
    np.testing.assert_array_equal(imputer.transform(X), X)
    np.testing.assert_array_equal(imputer.sample(X)[0], X)
    np.testing.assert_array_equal(imputer.interval(X), [X, X])
    np.testing.assert_array_equal(imputer.imputation_std(X), 0)
    whole = mixed_table(gaps=False)
    pd.testing.assert_frame_equal(fitted.transform(whole), whole)


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_few_rows(n):
    X, gaps = gappy(n)
    gaps[0, 0], gaps[0, 1:] = np.nan, X[0, 1:]
    gaps[-1] = X[-1]
    for n_estimators in ("auto", 1, 3):
        imputer = clone(CHEAP).set_params(n_estimators=n_estimators, keep_empty_features=True).fit(gaps)
        for made in (imputer.transform(gaps), *imputer.sample(gaps, 2), *imputer.interval(gaps)):
            assert np.isfinite(made).all()
        assert np.isfinite(imputer.score(X))


# Empty columns, markers and indicators -----------------------------------------------------------


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.filterwarnings("ignore:Skipping features without any observed")
def test_columns_without_a_value_at_fit(kept):
    """As in SimpleImputer."""
    _, X = gappy()
    X[:, 2] = np.nan
    imputer = clone(CHEAP).set_params(keep_empty_features=kept).fit(X)
    simple = SimpleImputer(keep_empty_features=kept).fit(X)
    np.testing.assert_array_equal(imputer.get_feature_names_out(), simple.get_feature_names_out())
    later = X.copy()
    later[::2, 2] = 3.0
    for rows in (X, later):
        filled, expected = imputer.transform(rows), simple.transform(rows)
        assert filled.shape == expected.shape and not np.isnan(filled).any()
        if kept:
            np.testing.assert_array_equal(filled[:, 2], expected[:, 2])
    assert np.isnan(imputer.share_[2]) and np.isnan(imputer.holdout_error_[2])
    assert np.isfinite(np.delete(imputer.share_, 2)).all()
    for made in (*imputer.sample(X, 1), *imputer.interval(X)):
        assert made.shape[1] == P - 1 + kept and not np.isnan(made).any()
    assert imputer.imputation_std(X).shape == X.shape


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.filterwarnings("ignore:Skipping features without any observed")
def test_columns_of_a_frame_without_a_value_at_fit(kept):
    table = mixed_table()
    table["none"], table["nan"] = pd.Series([None] * len(table), dtype=object, index=table.index), np.nan
    table["nothing"] = pd.Categorical([None] * len(table), categories=["a"])
    imputer = clone(CHEAP).set_params(keep_empty_features=kept).fit(table)
    filled = imputer.transform(table)
    assert list(filled.columns) == list(table.columns[: None if kept else -3]) == list(imputer.get_feature_names_out())
    assert not filled.isna().any(axis=None)
    if kept:
        assert (filled[["none", "nan", "nothing"]] == 0).all(axis=None)


def test_indicators_tell_where_something_was_missing():
    """For columns with gaps at fit, behind the others, as SimpleImputer names and orders them."""
    X, gaps = gappy()
    gaps[:, [1, 3]] = X[:, [1, 3]]
    frame = pd.DataFrame(gaps, columns=NAMES)
    imputer = clone(CHEAP).set_params(add_indicator=True).fit(frame)
    simple = SimpleImputer(add_indicator=True).fit(frame)
    names = [*NAMES, "missingindicator_a", "missingindicator_c", "missingindicator_e"]
    np.testing.assert_array_equal(imputer.get_feature_names_out(), names)
    np.testing.assert_array_equal(simple.get_feature_names_out(), names)
    filled = imputer.transform(frame)
    assert list(filled.columns) == names
    np.testing.assert_array_equal(filled.iloc[:, P:], np.isnan(gaps[:, [0, 2, 4]]))
    array = clone(imputer).fit(gaps)
    assert array.transform(gaps).dtype == np.float64
    np.testing.assert_array_equal(array.transform(gaps)[:, P:], np.isnan(gaps[:, [0, 2, 4]]))
    later = gaps.copy()
    later[0] = np.nan
    assert array.transform(later).shape == (len(X), P + 3)
    assert array.get_feature_names_out()[-1] == "missingindicator_x4"


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.filterwarnings("ignore:Skipping features without any observed")
def test_indicators_beside_empty_columns(kept):
    _, X = gappy()
    X[:, 2] = np.nan
    imputer = clone(CHEAP).set_params(add_indicator=True, keep_empty_features=kept).fit(X)
    simple = SimpleImputer(add_indicator=True, keep_empty_features=kept).fit(X)
    np.testing.assert_array_equal(imputer.get_feature_names_out(), simple.get_feature_names_out())
    start = P - 1 + kept
    np.testing.assert_array_equal(imputer.transform(X)[:, start:], simple.transform(X)[:, start:])


def test_markers_of_numbers():
    X, gaps = gappy()
    expected = clone(CHEAP).fit(gaps).transform(gaps)
    marked = np.nan_to_num(gaps, nan=-1.0)
    imputer = clone(CHEAP).set_params(missing_values=-1)
    np.testing.assert_array_equal(imputer.fit(marked).transform(marked), expected)
    frame = pd.DataFrame(marked, columns=NAMES)
    np.testing.assert_array_equal(imputer.fit(frame).transform(frame), expected)
    # What is always missing beside it.
    marked[0, 0] = np.nan
    assert not np.isnan(imputer.fit(marked).transform(marked)).any()
    whole = np.abs(np.round(10 * X)).astype(int)
    whole[::4, 1] = -1
    filled = imputer.fit(whole).transform(whole)
    np.testing.assert_array_equal(np.delete(filled, 1, 1), np.delete(whole, 1, 1))
    assert not (filled[::4, 1] == -1).any()


@pytest.mark.parametrize("marker", ["?", None, pd.NA], ids=str)
def test_markers_of_strings(marker):
    table = mixed_table()[["whole", "float", "object-str", "bool", "category", "str"]]
    expected = clone(CHEAP).fit(table).transform(table)
    marked = table.copy()
    marked["object-str"] = marked["object-str"].astype(object).where(marked["object-str"].notna(), marker)
    imputer = clone(CHEAP).set_params(missing_values=marker).fit(marked)
    pd.testing.assert_frame_equal(imputer.transform(marked), expected)
    array = marked.to_numpy(dtype=object)
    filled = clone(imputer).fit(array).transform(array)
    assert filled.dtype == object and not pd.isna(filled).any() and "?" not in filled[:, 2]
    np.testing.assert_array_equal(filled[:, 0], table["whole"])


def test_a_marker_that_is_a_number_is_no_boolean():
    table = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0] * 20, "told": [True, False] * 40, "word": ["a", "0"] * 40})
    for marker in (0, 1):
        filled = clone(CHEAP).set_params(missing_values=marker).fit(table).transform(table)
        pd.testing.assert_frame_equal(filled[["told", "word"]], table[["told", "word"]])
        assert not (filled["x"] == marker).any()


# Containers ------------------------------------------------------------------------------------


def test_lists_arrays_of_objects_and_frames_say_the_same():
    table = mixed_table()[["whole", "float", "object-str", "object-bool"]]
    expected = clone(CHEAP).fit(table).transform(table)
    array = table.to_numpy(dtype=object)
    for rows in (array, array.tolist()):
        filled = clone(CHEAP).fit(rows).transform(rows)
        assert filled.dtype == object
        pd.testing.assert_frame_equal(
            pd.DataFrame(filled), expected.set_axis(range(4), axis=1).reset_index(drop=True), check_dtype=False
        )


def test_frames_of_polars():
    polars = pytest.importorskip("polars")
    table = mixed_table()[["whole", "float", "str", "bool"]]
    frame = polars.DataFrame({name: [None if pd.isna(v) else v for v in table[name]] for name in table})
    imputer = clone(CHEAP).fit(frame)
    filled = imputer.transform(frame)
    expected = clone(CHEAP).fit(table).transform(table)
    assert filled.schema == frame.schema
    pd.testing.assert_frame_equal(filled.to_pandas(), expected.reset_index(drop=True), check_dtype=False)
    wrapped = imputer.set_output(transform="polars").transform(frame)
    assert isinstance(wrapped, polars.DataFrame) and wrapped.columns == list(table.columns)


def test_set_output_keeps_dtypes_and_names():
    table = mixed_table()
    imputer = clone(CHEAP).set_params(add_indicator=True).set_output(transform="pandas")
    filled = imputer.fit_transform(table)
    pd.testing.assert_series_equal(filled.dtypes[: table.shape[1]], table.dtypes)
    assert list(filled.columns) == list(imputer.get_feature_names_out())
    pd.testing.assert_index_equal(filled.index, table.index)


def test_columns_of_any_names():
    _, gaps = gappy()
    expected = clone(CHEAP).fit(gaps).transform(gaps)
    for columns in ([3, 1, 4, 2, 5], [1.5, 2.5, 0.5, 3.5, 4.5], pd.MultiIndex.from_product([["u"], range(P)])):
        frame = pd.DataFrame(gaps, columns=columns)
        filled = clone(CHEAP).set_params(add_indicator=False).fit(frame).transform(frame)
        pd.testing.assert_index_equal(filled.columns, frame.columns)
        np.testing.assert_array_equal(filled, expected)
    frame = pd.DataFrame(gaps)
    filled = clone(CHEAP).set_params(add_indicator=True).fit(frame).transform(frame)
    assert list(filled.columns[P:]) == [f"missingindicator_{i}" for i in range(P)]


def test_columns_that_are_named_as_categories():
    rng = np.random.default_rng(0)
    code = rng.integers(1, 4, 200)
    table = pd.DataFrame({"code": code.astype(float), "x": 3.0 * (code == 2) + 0.1 * rng.standard_normal(200)})
    gaps = table.copy()
    gaps.loc[::4, "code"] = np.nan
    imputer = clone(CHEAP).set_params(autoencoder__max_iter=20, autoencoder__likelihood="mixed")
    filled = imputer.set_params(categorical_features=["code"]).fit(gaps).transform(gaps)
    assert filled["code"].isin([1.0, 2.0, 3.0]).all()
    middle = (table["code"] == 2) & gaps["code"].isna()
    assert (filled.loc[middle, "code"] == 2).mean() > 0.9


# Accuracy --------------------------------------------------------------------------------------

SHORT = {"hidden_layer_sizes": (32,), "max_iter": 30}
WRAPPED = {
    "MaskedAE": MaskedAE(8, early_stopping=False, **SHORT),
    "AutoencoderTransformer": AutoencoderTransformer(3, early_stopping=False, **SHORT),
    "VAE": VAE(3, early_stopping=False, **SHORT),
    "DenoisingAE": DenoisingAE(
        8, corruption=Masking((0.1, 0.6), fill="mean"), conditioning="mask", early_stopping=False, **SHORT
    ),
    "SparseAE": SparseAE(16, early_stopping=False, **SHORT),
    "linear": AutoencoderTransformer(3, hidden_layer_sizes=()),
}


@pytest.mark.parametrize("autoencoder", **over(WRAPPED))
def test_any_autoencoder_fills_better_than_the_mean(autoencoder):
    X, gaps = gappy(300, 8)
    imputer = AutoencoderImputer(autoencoder, n_estimators=1, random_state=0).fit(gaps)
    filled = imputer.transform(gaps)
    miss = np.isnan(gaps)
    error, by_mean = (np.square((made - X) / X.std(0))[miss].mean() for made in (filled, np.nanmean(gaps, 0)))
    assert error < 0.5 * by_mean
    assert type(imputer.estimators_[0]) is type(autoencoder)
    is_told = isinstance(autoencoder, MaskedAE | DenoisingAE) or hasattr(autoencoder, "complete")
    assert 1 <= imputer.n_iter_ <= 10 and (imputer.n_iter_ == 1) == is_told
    assert imputer.score(X) > 0.5


def test_answers_are_repeated_until_they_stay():
    """The fixed point of x_h = r_h(x); of a projection r, that is the row's nearest on its plane."""
    X, gaps = gappy(300, 8)
    imputer = AutoencoderImputer(WRAPPED["linear"], n_estimators=1, max_iter=2000, tol=1e-9, random_state=0).fit(X)
    (member,) = imputer.members_
    Z = imputer._standardised(gaps)
    _, _, filled = member.fill(Z)
    rebuilt = np.where(np.isnan(gaps), member.autoencoder.reconstruct(filled), filled)
    np.testing.assert_allclose(filled, rebuilt, atol=1e-6)
    member.max_iter = 1
    assert np.abs(member.fill(Z)[2] - filled).max() > 0.1


def test_answers_that_move_away_are_not_followed():
    """Fitted to rows with gaps at the mean, an autoencoder says too much of rows that are filled, more each time."""
    X, gaps = gappy(300, 8)
    imputer = AutoencoderImputer(WRAPPED["linear"], n_estimators=1, max_iter=500, random_state=0).fit(gaps)
    assert imputer.n_iter_ > 1
    filled = imputer.members_[0].fill(imputer._standardised(gaps))[2]
    assert np.abs(filled).max() < 20 * np.abs(imputer._standardised(X)).max()


def test_held_out_rows_tell_how_far_to_follow():
    """Where nothing is to be learnt, the autoencoder's answer counts little; the parabola's counts."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(1200)
    X = np.column_stack([x, x**2 + 0.1 * rng.standard_normal(1200), rng.standard_normal(1200)])
    imputer = AutoencoderImputer(
        MaskedAE(16, hidden_layer_sizes=(64,), max_iter=80, early_stopping=False), n_estimators=2, random_state=0
    ).fit(X)
    assert imputer.share_.shape == (3,) and ((imputer.share_ >= 0) & (imputer.share_ <= 1)).all()
    assert imputer.share_[1] > 0.8
    # In the column's units; in a fifth of the rows the first column is hidden as well, and the deviation of 1.4 left.
    assert imputer.holdout_error_[1] < 0.8
    assert imputer.holdout_error_[2] == pytest.approx(1, abs=0.15)
    gaps = X.copy()
    gaps[:, 1] = np.nan
    assert np.square(imputer.transform(gaps) - X)[:, 1].mean() < 0.2 * X[:, 1].var()


def test_scores_are_higher_where_columns_depend_on_each_other():
    X = real(200, P)
    rng = np.random.default_rng(0)
    shuffled = np.column_stack([rng.permutation(column) for column in X.T])
    scores = [clone(CHEAP).fit(rows).score(rows) for rows in (X, shuffled)]
    assert 0.4 < scores[0] < 1 and -0.2 < scores[1] < 0.2
    imputer = clone(CHEAP).fit(X)
    assert imputer.score(X) == imputer.score(X)
    _, gaps = gappy(200)
    assert np.isfinite(imputer.score(gaps))


# Draws and intervals ---------------------------------------------------------------------------


def normal_table(n=600, share=0.4, seed=0):
    """Two columns of correlation .6, of which the second has gaps."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    X = np.column_stack([x, 10 + 2 * (0.6 * x + 0.8 * rng.standard_normal(n))])
    gaps = X.copy()
    gaps[rng.random(n) < share, 1] = np.nan
    return X, gaps


def test_draws_differ_where_something_is_missing():
    _, X = gappy()
    imputer = clone(CHEAP).set_params(n_imputations=3).fit(X)
    tables = imputer.sample(X, random_state=0)
    assert len(tables) == 3 and len(imputer.sample(X, 2)) == 2
    miss = np.isnan(X)
    for one, other in zip(tables, [*tables[1:], tables[0]], strict=True):
        np.testing.assert_array_equal(one[~miss], X[~miss])
        assert (one[miss] != other[miss]).all()
    for one, again in zip(tables, imputer.sample(X, random_state=0), strict=True):
        # To rounding: what is summed in which order depends on where in memory it lies.
        np.testing.assert_allclose(one, again, rtol=1e-9, atol=1e-9)
    assert (imputer.sample(X, 1, random_state=1)[0] != tables[0])[miss].any()


def test_draws_have_the_spread_of_the_data_which_guesses_have_not():
    X, gaps = normal_table()
    imputer = clone(CHEAP).fit(gaps)
    guess, tables = imputer.transform(gaps), imputer.sample(gaps, 20, random_state=0)
    miss = np.isnan(gaps[:, 1])
    truth = X[miss, 1].var()
    assert guess[miss, 1].var() < 0.5 * truth
    assert np.mean([table[miss, 1].var() for table in tables]) == pytest.approx(truth, rel=0.15)
    np.testing.assert_allclose(np.mean(tables, 0)[miss, 1], guess[miss, 1], atol=4 * 1.6 / np.sqrt(20))
    # Between tables: the deviation that is left given the first column.
    assert np.var(tables, 0)[miss, 1].mean() == pytest.approx(1.6**2, rel=0.15)
    slopes = [np.polyfit(*table[miss].T, 1)[0] for table in tables]
    assert np.mean(slopes) == pytest.approx(1.2, abs=0.2)


@pytest.mark.parametrize("n_estimators", [2, 3])
def test_draws_of_few_members_stay_within_bounds(n_estimators):
    X, gaps = gappy(60)
    imputer = clone(CHEAP).set_params(n_estimators=n_estimators).fit(gaps)
    # Of one degree of freedom, each hundredth draw would move the model by a hundred times what members differ by.
    drawn = np.array(imputer.sample(gaps, 200, random_state=0))
    assert (np.abs(drawn - X.mean(0)) < 25 * X.std(0)).all()


def test_draws_of_several_gaps_of_a_row_go_together():
    """Two columns of which nothing is known but that they are correlated by .8: so are draws of both."""
    rng = np.random.default_rng(0)
    common = rng.standard_normal((800, 1))
    X = np.column_stack([rng.standard_normal(800), 2 * common + rng.standard_normal((800, 2))])
    gaps = X.copy()
    gaps[::2, 1:] = np.nan
    imputer = clone(CHEAP).fit(gaps)
    drawn = np.vstack([table[::2] for table in imputer.sample(gaps, 5, random_state=0)])
    seen = np.corrcoef(X[1::2, 1], X[1::2, 2])[0, 1]
    assert seen > 0.7 and np.corrcoef(drawn[:, 1], drawn[:, 2])[0, 1] == pytest.approx(seen, abs=0.03)


def test_draws_of_categories_are_as_frequent_as_they_are_probable():
    table = pd.DataFrame(
        {"x": np.zeros(900), "word": (["a"] * 6 + ["b"] * 3) * 100, "told": [True, False, False] * 300}
    )
    table["x"] = np.random.default_rng(0).standard_normal(900)
    gaps = table.copy()
    gaps.loc[::2, "word"] = None
    gaps["told"] = gaps["told"].astype("boolean").mask(np.arange(900) % 2 == 1)
    imputer = clone(CHEAP).fit(gaps)
    drawn = pd.concat(imputer.sample(gaps, 10, random_state=0))
    rows = np.tile(np.arange(900) % 2, 10)
    assert (drawn["word"][rows == 0] == "a").mean() == pytest.approx(2 / 3, abs=0.07)
    assert drawn["told"][rows == 1].mean() == pytest.approx(1 / 3, abs=0.07)
    assert (imputer.transform(gaps)["word"][::2] == "a").mean() > 0.95


def test_intervals_cover_what_they_say():
    X, gaps = gappy(600, 6)
    imputer = AutoencoderImputer(MAE, random_state=0).fit(gaps[:400])
    for rows in (slice(0, 400), slice(400, 600)):
        miss = np.isnan(gaps[rows])
        for coverage in (0.5, 0.9):
            low, high = imputer.interval(gaps[rows], coverage)
            assert (low <= high).all()
            inside = ((low <= X[rows]) & (X[rows] <= high))[miss].mean()
            assert abs(inside - coverage) < 0.05
        middle = imputer.transform(gaps[rows])
        assert ((low <= middle) & (middle <= high))[miss].mean() > 0.99
    wide, narrow = (imputer.interval(gaps, coverage) for coverage in (0.95, 0.8))
    assert (wide[1] - wide[0] >= narrow[1] - narrow[0]).all()


def test_the_deviation_is_that_of_what_is_missing():
    X, gaps = normal_table()
    imputer = clone(CHEAP).fit(gaps)
    deviation = imputer.imputation_std(gaps)
    miss = np.isnan(gaps)
    np.testing.assert_array_equal(deviation[~miss], 0)
    np.testing.assert_allclose(deviation[miss], 1.6, rtol=0.15)
    nothing = imputer.imputation_std(np.array([[np.nan, np.nan]]))
    np.testing.assert_allclose(nothing, [[1.0, 2.0]], rtol=0.25)


def test_the_deviation_of_a_category_is_the_probability_of_another(fitted, table):
    deviation = fitted.imputation_std(table)
    assert deviation.shape == table.shape and np.isfinite(deviation).all()
    assert ((deviation == 0) | table.isna().to_numpy()).all()
    for name in ("boolean", "object-str", "category"):
        index, gaps = list(table).index(name), table[name].isna()
        wrong = deviation[gaps, index]
        assert ((wrong >= 0) & (wrong <= (0.5 if name == "boolean" else 2 / 3))).all()


# Rubin's rules ---------------------------------------------------------------------------------

BETA = np.array([1.0, -0.5, 0.25, 0.0])
CORRELATION = 0.5 ** np.abs(np.subtract.outer(range(4), range(4)))


def regression_table(mechanism, seed, n=300):
    """Four normal predictors and what depends on them linearly; 30 % missing by chance, or given what is seen."""
    rng = np.random.default_rng(seed)
    X = rng.multivariate_normal(np.zeros(4), CORRELATION, n)
    rows = np.column_stack([X, 0.5 + X @ BETA + rng.standard_normal(n)])
    hidden = rng.random(rows.shape) < 0.3
    if mechanism == "MAR":
        share = 1 / (1 + np.exp(1.0 - 1.5 / np.sqrt(2) * (rows[:, 0] + rows[:, 4])))
        hidden = rng.random(rows.shape) < share[:, None]
        hidden[:, [0, 4]] = False
    return rows, np.where(hidden, np.nan, rows)


def least_squares(rows):
    """Coefficients and the squares of their standard errors."""
    X = np.column_stack([np.ones(len(rows)), rows[:, :4]])
    made, (residual,), *_ = np.linalg.lstsq(X, rows[:, 4])
    return made, residual / (len(rows) - 5) * np.linalg.inv(X.T @ X).diagonal()


def coverage_of_pooled_intervals(imputer, mechanism, n_repeats, n_tables=20):
    """How often intervals hold the true coefficients (95 %), and those of the full table (90 %)."""
    inside = []
    for seed in range(n_repeats):
        rows, gaps = regression_table(mechanism, seed)
        tables = clone(imputer).set_params(random_state=seed).fit(gaps).sample(gaps, n_tables, random_state=seed)
        made, squares = (np.array(each) for each in zip(*map(least_squares, tables), strict=True))
        pooled, within, between = made.mean(0), squares.mean(0), (1 + 1 / n_tables) * made.var(0, ddof=1)
        freedom = (n_tables - 1) * (1 + within / between) ** 2
        true = np.abs(pooled - [0.5, *BETA]) <= stats.t.ppf(0.975, freedom) * np.sqrt(within + between)
        full = np.abs(pooled - least_squares(rows)[0]) <= stats.t.ppf(0.95, n_tables - 1) * np.sqrt(between)
        inside.append([true.mean(), full.mean()])
    return np.mean(inside, axis=0)


@pytest.mark.parametrize("mechanism", ["MCAR", "MAR"])
def test_pooled_intervals_cover(mechanism):
    """Few repeats of 5 coefficients: bounds of two standard errors of the shares and more."""
    imputer = AutoencoderImputer(MAE, n_estimators=5)
    true, full = coverage_of_pooled_intervals(imputer, mechanism, 5, n_tables=10)
    assert true >= 0.84 and full >= 0.76


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", ["MCAR", "MAR"])
def test_pooled_intervals_cover_at_the_nominal_rate(mechanism):
    imputer = AutoencoderImputer(MaskedAE(16, hidden_layer_sizes=(64,), max_iter=50, early_stopping=False))
    true, full = coverage_of_pooled_intervals(imputer, mechanism, 200)
    assert 0.9 <= true <= 1 and 0.85 <= full <= 0.95


# Conventions -----------------------------------------------------------------------------------


def test_it_is_determined_by_its_seed():
    _, X = gappy()
    imputer = clone(CHEAP).fit(X)
    other, again = clone(CHEAP).fit(X), pickle.loads(pickle.dumps(imputer))
    for same in (other, again):
        np.testing.assert_allclose(imputer.transform(X), same.transform(X), rtol=1e-9, atol=1e-9)
        first, second = (each.sample(X, 1, random_state=3)[0] for each in (imputer, same))
        np.testing.assert_allclose(first, second, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(imputer.transform(X[7:9]), imputer.transform(X)[7:9], rtol=1e-9, atol=1e-9)
    assert (clone(CHEAP).set_params(random_state=1).fit(X).transform(X) != imputer.transform(X)).any()
    assert imputer.autoencoder.random_state is None


def test_a_failed_fit_leaves_the_earlier_one():
    _, X = gappy()
    imputer = clone(CHEAP).fit(X)
    before, names = imputer.transform(X), sorted(vars(imputer))
    infinite = X.copy()
    infinite[3, 1] = np.inf
    for bad in (
        np.full((9, 3), np.nan),
        infinite,
        [["a", 1], [2, "b"]],
        pd.DataFrame({"t": pd.date_range("2024", periods=9)}),
    ):
        with pytest.raises(ValueError):
            imputer.fit(bad)
        assert sorted(vars(imputer)) == names
        np.testing.assert_array_equal(imputer.transform(X), before)
    first = clone(CHEAP)
    with pytest.raises(ValueError, match="infinity"):
        first.fit(infinite)
    assert sorted(vars(first)) == sorted(first.get_params(deep=False))


def test_in_pipelines_and_searches(iris):
    X, y = iris
    gaps = np.where(np.random.default_rng(0).random(X.shape) < 0.3, np.nan, X)
    pipeline = make_pipeline(CHEAP, LogisticRegression(max_iter=500))
    assert cross_val_score(pipeline, gaps, y, cv=3).mean() > 0.8
    grid = {"autoencoderimputer__autoencoder__n_components": [2, 4], "autoencoderimputer__n_estimators": [1]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(gaps, y)
    assert len(search.cv_results_["params"]) == 2 and search.best_score_ > 0.8
    # Its own score chooses without a y.
    folds = KFold(2, shuffle=True, random_state=0)
    alone = GridSearchCV(CHEAP, {"autoencoder__max_iter": [1, 5]}, cv=folds).fit(gaps)
    assert 0 < alone.best_score_ < 1


def test_in_a_column_transformer(table):
    numbers, words = ["float", "single", "whole"], ["object-str", "category", "boolean"]
    made = ColumnTransformer([("numbers", CHEAP, numbers), ("words", CHEAP, words)], verbose_feature_names_out=False)
    filled = made.set_output(transform="pandas").fit_transform(table)
    assert list(filled.columns) == [*numbers, *words] and not filled.isna().any(axis=None)
    pd.testing.assert_series_equal(filled.dtypes, table[[*numbers, *words]].dtypes)
    encoded = make_pipeline(clone(CHEAP), OneHotEncoder(sparse_output=False)).fit_transform(table[words])
    np.testing.assert_array_equal(encoded.sum(1), len(words))


# Bad input -------------------------------------------------------------------------------------

GOOD = pd.DataFrame(
    {"x": np.arange(30.0), "y": np.arange(30.0) ** 2, "c": ["a", "b", "c"] * 10, "t": [True, False] * 15}
)


def changed(**columns):
    return GOOD.assign(**columns)


BAD_AT_FIT = {
    "mixed types": (changed(c=["a", 1.5, "b"] * 10), "Column 'c' mixes numbers and strings"),
    "infinity": (changed(x=[np.inf, *range(29)]), "contains infinity.*in column 'x'"),
    "array with infinity": (np.array([[1.0, np.inf], [2.0, 3.0]]), "contains infinity.*in column 1"),
    "everything missing": (np.full((9, 3), np.nan), "Every value of X is missing.*missing_values=nan"),
    "frame of gaps": (pd.DataFrame({"a": [None] * 9, "b": [np.nan] * 9}), "Every value of X is missing"),
    "no rows": (np.empty((0, 3)), "Found array with 0 sample"),
    "no columns": (np.empty((3, 0)), "Found array with 0 feature"),
    "frame without rows": (GOOD.iloc[:0], r"Found array with 0 sample\(s\).*required by AutoencoderImputer"),
    "frame without columns": (GOOD[[]], r"Found array with 0 feature\(s\).*required by AutoencoderImputer"),
    "one dimension": (np.arange(9.0), "Expected 2D array, got 1D array instead"),
    "series": (GOOD["x"], "Expected a 2-dimensional container"),
    "three dimensions": (np.zeros((3, 3, 3)), "Found array with dim 3"),
    "complex": (np.ones((3, 3)) * 1j, "Complex data not supported"),
    "complex column": (changed(x=np.ones(30) * 1j), "Complex data not supported: column 'x'"),
    "times": (changed(x=pd.date_range("2024", periods=30)), "Column 'x' holds times"),
    "array of times": (np.array([["2024-01-01"], ["2024-01-02"]], dtype="datetime64[D]"), "Column 0 holds times"),
}
BAD_LATER = {
    "categories for numbers": (changed(x=["u", "v", "w"] * 10), "Column 'x' held numbers at fit, but holds categories"),
    "numbers for categories": (changed(c=np.arange(30)), "Column 'c' held strings at fit, but holds numbers now"),
    "numbers for booleans": (changed(t=np.arange(30)), "Column 't' held booleans at fit, but holds 2.0 now"),
    "infinity": (changed(x=[-np.inf, *range(29)]), "contains infinity.*in column 'x'"),
    "other names": (
        GOOD.rename(columns={"x": "z"}),
        "The feature names should match those that were passed during fit",
    ),
    "fewer columns": (GOOD.to_numpy()[:, :3], "X has 3 features, but AutoencoderImputer is expecting 4"),
    "no rows": (GOOD.iloc[:0], r"Found array with 0 sample\(s\)"),
    "times": (changed(x=pd.date_range("2024", periods=30)), "Column 'x' holds times"),
}


@pytest.mark.parametrize(("X", "message"), **over(BAD_AT_FIT))
def test_what_cannot_be_learnt_from(X, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        clone(CHEAP).fit(X)


@pytest.fixture(scope="module")
def of_good():
    return clone(CHEAP).fit(GOOD)


@pytest.mark.parametrize(("X", "message"), **over(BAD_LATER))
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_what_cannot_be_filled(of_good, X, message):
    for method in ("transform", "sample", "interval", "imputation_std", "score"):
        with pytest.raises(ValueError, match=f"(?s){message}"):
            getattr(of_good, method)(X)


def test_a_number_among_categories_is_an_unseen_one(of_good):
    filled = of_good.transform(changed(c=["a", 1.5, None] * 10))
    assert filled["c"].tolist()[:2] == ["a", 1.5] and set(filled["c"][2::3]) <= {"a", "b", "c"}


def test_everything_missing_later_is_the_marginal_guess(of_good):
    nothing = pd.DataFrame({name: [None, None] for name in GOOD}, dtype=object)
    filled = of_good.transform(nothing)
    assert filled["x"].tolist() == [14.5, 14.5] and filled["c"].isin(["a", "b", "c"]).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"autoencoder": "MaskedAE"}, "'autoencoder' parameter"),
        ({"autoencoder": LogisticRegression()}, "'autoencoder' parameter"),
        ({"n_imputations": 0}, "'n_imputations' parameter"),
        ({"n_estimators": 0}, "'n_estimators' parameter"),
        ({"max_iter": 0}, "'max_iter' parameter"),
        ({"tol": -1.0}, "'tol' parameter"),
        ({"handle_unknown": "keep"}, "'handle_unknown' parameter"),
        ({"categorical_features": ["nowhere"]}, r"categorical_features names \['nowhere'\]"),
        ({"missing_values": [1]}, "'missing_values' parameter"),
    ],
    ids=str,
)
def test_parameters_out_of_range(parameters, message):
    with pytest.raises(ValueError, match=message):
        clone(CHEAP).set_params(**parameters).fit(GOOD)


@pytest.mark.parametrize(
    "method", ["transform", "sample", "interval", "imputation_std", "score", "get_feature_names_out"]
)
def test_before_fit(method):
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        getattr(clone(CHEAP), method)(*[] if method == "get_feature_names_out" else [GOOD])


# Missing because of what would be there ---------------------------------------------------------


def test_self_masking_fills_values_beyond_those_that_were_seen():
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((600, 1))
    X = 0.9 * Z + 0.4 * rng.standard_normal((600, 4))
    missing = (X > 0) & (np.arange(4) < 2)
    gappy = np.where(missing, np.nan, X)

    def error(filled):
        return np.sqrt(np.mean((filled - X)[missing] ** 2))

    imputer = AutoencoderImputer(missingness="self_masking_known", random_state=0).fit(gappy)
    filled = imputer.transform(gappy)
    assert np.array_equal(filled[~missing], X[~missing])
    assert error(filled) < 2 / 3 * error(np.broadcast_to(np.nanmean(gappy, 0), X.shape))
    assert (imputer.share_ == 1).all()
    low, high = imputer.interval(gappy)
    assert ((low <= filled) & (filled <= high))[missing].mean() > 0.95
    first, second = imputer.sample(gappy, 2, random_state=0)
    assert not np.allclose(first[missing], second[missing])
    assert (imputer.imputation_std(gappy)[missing] > 0).all()


def test_missingness_needs_an_autoencoder_that_learns_it():
    with pytest.raises(ValueError, match="missingness='self_masking' needs an autoencoder that can learn it"):
        AutoencoderImputer(AutoencoderTransformer(2), missingness="self_masking").fit([[1.0, 2.0], [np.nan, 1.0]])
