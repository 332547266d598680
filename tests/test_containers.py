"""Containers and dtypes: numbers, booleans and categories are the same in each of them, and come back as they were."""

import pickle
import warnings
from datetime import date
from decimal import Decimal
from functools import cache

import numpy as np
import pandas as pd
import pytest
from registry import ESTIMATORS, over
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer

from skae import (
    VAE,
    AutoencoderClassifier,
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    HeldOutEntries,
    MaskedAE,
    TableEncoder,
)

pa = pytest.importorskip("pyarrow")
pl = pytest.importorskip("polars")

N = 24
GAPS = np.arange(N) % 5 == 1
RNG = np.random.default_rng(0)
X2 = RNG.standard_normal(N)
WHOLE = RNG.integers(0, 9, N).tolist()
WORDS = [["a", "b", "c"][value % 3] for value in WHOLE]
BITS = [value > 4 for value in WHOLE]

SMALL = {"hidden_layer_sizes": (), "max_iter": 1, "random_state": 0}
MAE = MaskedAE(1, early_stopping=False, **SMALL)
IMPUTER = AutoencoderImputer(MAE, n_estimators=1, random_state=0)
NUMBERS = AutoencoderTransformer(1, **SMALL)
TABLES = AutoencoderTransformer(1, likelihood="mixed", **SMALL)
DETECTOR = AutoencoderOutlierDetector(NUMBERS, n_estimators=1, random_state=0)
STUBS = {"imputer": IMPUTER, "numbers": NUMBERS, "tables": TABLES, "detector": DETECTOR, "encoder": TableEncoder()}


def holes(values, missing=None):
    return [missing if hole else value for value, hole in zip(values, GAPS, strict=True)]


def arrow(values, kind):
    return pd.Series(values, dtype=pd.ArrowDtype(kind))


HALVES = [value / 2 for value in WHOLE]
QUARTERS = [Decimal(value) / 4 for value in WHOLE]
# By kind, what is in a column, and the column in each dtype, with gaps where the dtype has them.
KINDS = {
    "integers": (
        WHOLE,
        {
            "Int64": pd.Series(holes(WHOLE), dtype="Int64"),
            "UInt8": pd.Series(holes(WHOLE), dtype="UInt8"),
            "int16[pyarrow]": arrow(holes(WHOLE), pa.int16()),
            "object with None": pd.Series(holes(WHOLE), dtype=object),
            "object with NA": pd.Series(holes(WHOLE, pd.NA), dtype=object),
            "polars Int64": pl.Series(holes(WHOLE)),
            "polars UInt8": pl.Series(holes(WHOLE), dtype=pl.UInt8),
        },
    ),
    "numbers": (
        HALVES,
        {
            "float64": pd.Series(holes(HALVES, np.nan)),
            "Float64": pd.Series(holes(HALVES), dtype="Float64"),
            "double[pyarrow]": arrow(holes(HALVES), pa.float64()),
            "object with NA": pd.Series(holes(HALVES, pd.NA), dtype=object),
            "sparse": pd.Series(pd.arrays.SparseArray(holes(HALVES, np.nan))),
            "sparse of zeros": pd.Series(pd.arrays.SparseArray(holes(HALVES, np.nan), fill_value=0.0)),
            "polars": pl.Series(holes(HALVES)),
            "polars with NaN": pl.Series(holes(HALVES, np.nan)),
        },
    ),
    "decimals": (
        [float(value) for value in QUARTERS],
        {
            "objects": pd.Series(holes(QUARTERS), dtype=object),
            "decimal128[pyarrow]": arrow(holes(QUARTERS), pa.decimal128(10, 2)),
            "polars": pl.Series(holes(QUARTERS), dtype=pl.Decimal(10, 2)),
        },
    ),
    "booleans": (
        BITS,
        {
            "boolean": pd.Series(holes(BITS), dtype="boolean"),
            "bool[pyarrow]": arrow(holes(BITS), pa.bool_()),
            "object with None": pd.Series(holes(BITS), dtype=object),
            "object with NA": pd.Series(holes(BITS, pd.NA), dtype=object),
            "polars": pl.Series(holes(BITS)),
        },
    ),
    "categories": (
        WORDS,
        {
            "object": pd.Series(holes(WORDS), dtype=object),
            "object with NA": pd.Series(holes(WORDS, pd.NA), dtype=object),
            "str": pd.Series(holes(WORDS), dtype="str"),
            "string": pd.Series(holes(WORDS), dtype="string"),
            "string[pyarrow]": arrow(holes(WORDS), pa.string()),
            "category": pd.Series(pd.Categorical(holes(WORDS))),
            "dictionary[pyarrow]": arrow(holes(WORDS), pa.dictionary(pa.int32(), pa.string())),
            "polars String": pl.Series(holes(WORDS)),
            "polars Categorical": pl.Series(holes(WORDS), dtype=pl.Categorical),
            "polars Enum": pl.Series(holes(WORDS), dtype=pl.Enum(["a", "b", "c"])),
        },
    ),
}
COLUMNS = {
    f"{kind}: {name}": (kind, column) for kind, (_, columns) in KINDS.items() for name, column in columns.items()
}
each_column = pytest.mark.parametrize(("kind", "column"), list(COLUMNS.values()), ids=list(COLUMNS))


def table(column):
    """A frame of the column's library, with a second column of numbers."""
    if isinstance(column, pl.Series):
        return pl.DataFrame({"c": column, "x": X2})
    return pd.DataFrame({"c": column, "x": X2})


def schema(frame):
    """Names and dtypes."""
    return dict(frame.schema) if isinstance(frame, pl.DataFrame) else frame.dtypes.to_dict()


def values(frame, name="c"):
    """A column's values as objects, None where they are missing."""
    made = frame[name].to_list()
    return [None if value is None or value is pd.NA or value != value else value for value in made]


def reference(kind):
    """The column in the one dtype that others are compared with."""
    content = KINDS[kind][0]
    dtype = {"booleans": "boolean", "categories": object}.get(kind, "float64")
    return table(pd.Series(holes(content), dtype=dtype))


@cache
def fitted(name, kind):
    estimators = {
        "imputer": IMPUTER,
        "numbers": NUMBERS,
        "tables": TABLES,
        "detector": DETECTOR,
        "encoder": TableEncoder(),
    }
    return clone(estimators[name]).fit(reference(kind))


def as_of(kind, expected, places=2):
    """What floats of the reference should be in a column of this kind."""
    if kind == "integers":
        return [round(value) for value in expected]
    return [round(float(value), places) for value in expected] if kind == "decimals" else expected


@each_column
def test_a_matrix_does_not_depend_on_the_dtype(kind, column):
    X = table(column)
    encoder, expected = TableEncoder().fit(X), fitted("encoder", kind)
    np.testing.assert_array_equal(encoder.transform(X), expected.transform(reference(kind)))
    back = encoder.inverse_transform(encoder.transform(X))
    assert type(back) is type(X) and schema(back) == schema(X) and values(back) == values(X)


@each_column
def test_gaps_are_filled_in_the_dtype_and_container_that_a_table_has(kind, column):
    X = table(column)
    imputer, expected = clone(IMPUTER).fit(X), fitted("imputer", kind)
    filled, ref = imputer.transform(X), values(expected.transform(reference(kind)))
    assert type(filled) is type(X) and schema(filled) == schema(X)
    made = values(filled)
    assert [made[i] for i in np.flatnonzero(~GAPS)] == [values(X)[i] for i in np.flatnonzero(~GAPS)]
    new = [as_of(kind, ref)[i] for i in np.flatnonzero(GAPS)]
    got = [made[i] for i in np.flatnonzero(GAPS)]
    if kind in ("booleans", "categories"):
        assert got == new
    else:
        np.testing.assert_allclose([float(value) for value in got], new, atol=0.011 if kind == "decimals" else 1e-9)
    for other in imputer.sample(X):
        assert type(other) is type(X) and schema(other) == schema(X) and None not in values(other)


@each_column
def test_a_reconstruction_is_a_table_like_the_one_it_is_of(kind, column):
    X = table(column)
    ae = clone(TABLES).fit(X)
    expected = fitted("tables", kind)
    np.testing.assert_allclose(ae.transform(X), expected.transform(reference(kind)), rtol=1e-9, atol=1e-12)
    for made in (ae.reconstruct(X), ae.inverse_transform(ae.transform(X))):
        assert type(made) is type(X) and schema(made) == schema(X)
        got, ref = values(made), as_of(kind, values(expected.reconstruct(reference(kind))))
        if kind in ("booleans", "categories"):
            assert got == ref
        else:
            np.testing.assert_allclose([float(v) for v in got], ref, atol=0.011 if kind == "decimals" else 1e-6)


READ_DIFFERENTLY = ("with NA", "decimal128", "sparse of", "dictionary", "bool[", "polars UInt8", "polars Enum")


@pytest.mark.parametrize("name", [name for name in COLUMNS if any(words in name for words in READ_DIFFERENTLY)])
def test_scores_of_anomalies_do_not_depend_on_the_dtype(name):
    kind, column = COLUMNS[name]
    X = table(column)
    detector, expected = clone(DETECTOR).fit(X), fitted("detector", kind)
    np.testing.assert_allclose(detector.score_samples(X), expected.score_samples(reference(kind)), rtol=1e-9)
    shown = detector.explain(X[:3])
    assert isinstance(shown, type(X))


@pytest.mark.parametrize("name", [name for name, (kind, _) in COLUMNS.items() if kind != "categories"])
def test_codes_of_numbers_do_not_depend_on_the_dtype(name):
    kind, column = COLUMNS[name]
    X, expected = table(column), fitted("numbers", kind)
    np.testing.assert_array_equal(clone(NUMBERS).fit(X).transform(X), expected.transform(reference(kind)))
    np.testing.assert_array_equal(expected.reconstruct(table(column)), expected.reconstruct(reference(kind)))


@pytest.mark.parametrize("name", [name for name, (kind, _) in COLUMNS.items() if kind == "categories"])
def test_strings_for_an_autoencoder_of_numbers_are_named(name):
    X = table(COLUMNS[name][1])
    with pytest.raises(
        ValueError, match=r"X holds strings \(column 'c' of dtype .*'[abc]'\): set likelihood='mixed', or encode"
    ):
        clone(NUMBERS).fit(X)


# Arrays and lists --------------------------------------------------------------------------------

MARKED = [-999 if hole else value for value, hole in zip(WHOLE, GAPS, strict=True)]
PAIRS = np.column_stack([MARKED, WHOLE])
MASKED = np.ma.masked_equal(PAIRS, -999)
INTEGERS_WITH_MARKERS = {
    "array": (PAIRS, np.int64),
    "small array": (PAIRS.astype(np.int16), np.int16),
    "list": (PAIRS.tolist(), np.int64),
    "list with None": ([[None if a == -999 else a, b] for a, b in PAIRS.tolist()], np.int64),
    "masked array": (MASKED, np.int64),
    "array of objects": (PAIRS.astype(object), object),
    "frame": (table(pd.Series(MARKED)), {"c": np.dtype(np.int64), "x": np.dtype(np.float64)}),
    "nullable": (table(pd.Series(MARKED, dtype="Int32")), {"c": pd.Int32Dtype(), "x": np.dtype(np.float64)}),
    "polars": (table(pl.Series(MARKED, dtype=pl.Int32)), {"c": pl.Int32, "x": pl.Float64}),
}


@pytest.mark.parametrize(("X", "dtype"), **over(INTEGERS_WITH_MARKERS))
def test_integers_with_a_marker_for_gaps_stay_integers(X, dtype):
    imputer = clone(IMPUTER).set_params(missing_values=-999).fit(X)
    later = pd.DataFrame({"c": [2.0, np.nan], "x": [1.0, 2.0]}) if isinstance(X, pd.DataFrame) else X
    for made in (imputer.transform(X), *imputer.sample(X), *imputer.interval(X)):
        assert (schema(made) if hasattr(made, "columns") else made.dtype) == dtype
        first = values(made) if hasattr(made, "columns") else made[:, 0].tolist()
        assert [value for value, hole in zip(first, GAPS, strict=True) if not hole] == np.array(WHOLE)[~GAPS].tolist()
        assert all(value == int(value) and value >= 0 for value in first)
    if isinstance(X, pd.DataFrame):
        assert schema(imputer.transform(later)) == dtype


def test_an_array_of_fractions_stays_one_where_fit_saw_integers():
    X = np.column_stack([WHOLE, WHOLE])
    imputer = clone(IMPUTER).fit(X)
    assert imputer.transform(X[:3] + np.array([np.nan, 0])).dtype == np.int64
    made = imputer.transform(X[:3] + np.array([np.nan, 0.5]))
    assert made.dtype == np.float64 and (made[:, 0] == made[:, 0].round()).all()
    np.testing.assert_array_equal(made[:, 1], X[:3, 1] + 0.5)


SHARES = np.where(np.column_stack([GAPS, GAPS[::-1], ~GAPS & GAPS]), np.nan, np.random.default_rng(1).random((N, 3)))
HIDDEN = np.ma.masked_array(np.nan_to_num(SHARES, nan=77.0), mask=np.isnan(SHARES))


NAMED_SHARES = pd.DataFrame(SHARES, columns=["p", "q", "r"], index=np.arange(N) + 5)


# One of each class but ContractiveAE, which is AutoencoderTransformer with a penalty, and slow to start.
CLASSES = {type(each).__name__: name for name, each in reversed(ESTIMATORS.items())}
CLASSES.pop("ContractiveAE")


@cache
def fitted_autoencoder(name):
    return clone(ESTIMATORS[name]).fit(NAMED_SHARES)


@pytest.mark.parametrize("name", CLASSES.values())
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_what_is_masked_is_missing_or_an_error(name):
    ae = fitted_autoencoder(name)
    for method in (ae.transform, ae.score_samples, ae.reconstruct):
        np.testing.assert_array_equal(method(HIDDEN), method(SHARES))
    with pytest.raises(ValueError, match="sample_weight contains NaN"):
        ae.fit(NAMED_SHARES, sample_weight=np.ma.masked_array(np.ones(N), mask=GAPS))
    if hasattr(ae, "inverse_transform"):
        codes = ae.transform(SHARES)
        with pytest.raises(ValueError, match="X contains NaN"):
            ae.inverse_transform(np.ma.masked_array(codes, mask=np.ones(codes.shape, dtype=bool)))


@pytest.mark.parametrize("name", list(STUBS))
def test_what_is_masked_is_missing_in_fit_too(name):
    results = {"imputer": "transform", "detector": "score_samples", "tables": "reconstruct"}
    results |= {"encoder": "transform", "numbers": "transform"}
    of_plain, of_masked = (getattr(clone(STUBS[name]).fit(X), results[name])(X) for X in (SHARES, HIDDEN))
    np.testing.assert_array_equal(of_plain, of_masked)


def test_what_is_masked_is_missing_in_scores_and_classes():
    ae = clone(NUMBERS).fit(SHARES)
    assert HeldOutEntries()(ae, HIDDEN) == HeldOutEntries()(ae, SHARES)
    y = np.ma.masked_array([0, 1] * (N // 2), mask=GAPS)
    with pytest.raises(ValueError, match="y contains NaN, infinity or None"):
        AutoencoderClassifier(NUMBERS, max_iter=1).fit(SHARES, y)
    with pytest.raises(ValueError, match="y has rows without a class"):
        VAE(1, conditional=True, **SMALL).fit(SHARES, y)
    words = np.ma.masked_array(np.column_stack([WORDS, WORDS]), mask=np.column_stack([GAPS, ~GAPS & GAPS]))
    assert np.isnan(TableEncoder().fit_transform(words)[:, :3]).all(axis=1).tolist() == GAPS.tolist()


NUMBERS_AND_GAPS = np.column_stack([holes(HALVES, np.nan), X2])


@pytest.mark.parametrize(("container", "gap"), [(np.array, pd.NA), (np.array, pd.NaT), (list, None), (list, pd.NA)])
def test_gaps_among_objects_are_gaps(container, gap):
    """A ColumnTransformer makes such arrays."""
    objects = np.where(np.isnan(NUMBERS_AND_GAPS), gap, NUMBERS_AND_GAPS.astype(object))
    X = objects if container is np.array else objects.tolist()
    for name, method in {"numbers": "transform", "detector": "score_samples", "encoder": "transform"}.items():
        made = getattr(clone(STUBS[name]).fit(X), method)(X)
        np.testing.assert_array_equal(made, getattr(clone(STUBS[name]).fit(NUMBERS_AND_GAPS), method)(NUMBERS_AND_GAPS))
    filled = clone(IMPUTER).fit(X).transform(X)
    assert filled.dtype == (object if container is np.array else np.float64)
    np.testing.assert_allclose(filled.astype(float), clone(IMPUTER).fit_transform(NUMBERS_AND_GAPS))


def test_a_score_does_not_depend_on_the_dtype_of_other_columns():
    X = pd.DataFrame({"n": pd.Series(holes(WHOLE, pd.NA), dtype=object), "x": X2})
    floats = X.astype({"n": "Float64"}).astype({"n": float})
    beside = [frame.assign(word=WORDS) for frame in (X, floats)]
    for objects, numbers in ((X, floats), beside):
        made = [clone(DETECTOR).fit(each).score_samples(each) for each in (objects, numbers)]
        np.testing.assert_array_equal(*made)


# Another dtype than at fit -----------------------------------------------------------------------

AT_FIT = {"category": pd.Series(pd.Categorical(WORDS)), "str": pd.Series(WORDS), "float64": pd.Series(HALVES)}
AT_FIT |= {"bool": pd.Series(BITS), "int64": pd.Series(WHOLE)}
LATER = {
    "category, None": ("category", pd.Categorical([None])),
    "category, a None of objects": ("category", pd.Series([None], dtype=object)),
    "category, NaN": ("category", pd.Series([np.nan])),
    "category, other categories": ("category", pd.Categorical(["c", None], categories=["c"])),
    "category, strings": ("category", pd.Series(["b", None])),
    "str, None of a category": ("str", pd.Categorical([None])),
    "str, category": ("str", pd.Categorical(["b", None])),
    "float64, Int64 with NA": ("float64", pd.Series([1, None], dtype="Int64")),
    "float64, Arrow's integers": ("float64", pd.Series([1, None], dtype="int64[pyarrow]")),
    "float64, objects": ("float64", pd.Series([1.5, pd.NA], dtype=object)),
    "float64, NaT": ("float64", pd.Series([pd.NaT])),
    "bool, NaN among floats": ("bool", pd.Series([1.0, np.nan])),
    "bool, boolean": ("bool", pd.Series([True, None], dtype="boolean")),
    "bool, objects": ("bool", pd.Series([False, None], dtype=object)),
    "int64, NaN among floats": ("int64", pd.Series([3.0, np.nan])),
    "int64, booleans": ("int64", pd.Series([True, False])),
}


@cache
def fitted_to(name, at_fit):
    return clone(STUBS[name]).fit(table(AT_FIT[at_fit]))


@pytest.mark.parametrize(("at_fit", "later"), **over(LATER))
def test_another_dtype_than_at_fit_is_cast(at_fit, later):
    X = pd.DataFrame({"c": later, "x": 0.5})
    filled = fitted_to("imputer", at_fit).transform(X)
    assert schema(filled) == schema(table(AT_FIT[at_fit])) and None not in values(filled)
    observed = [(new, old) for new, old in zip(values(filled), values(X), strict=True) if old is not None]
    assert all(new == old for new, old in observed)
    # The values, cast to the dtype of fit where that has gaps.
    same = pd.DataFrame({"c": pd.Series(values(X), dtype=object), "x": 0.5})
    for name, method in {"tables": "reconstruct", "detector": "score_samples", "encoder": "transform"}.items():
        made, expected = (getattr(fitted_to(name, at_fit), method)(each) for each in (X, same))
        np.testing.assert_array_equal(np.asarray(made), np.asarray(expected))


def test_explanations_of_arrays_where_fit_saw_a_frame():
    X = pd.DataFrame({"c": ["a", None], "x": [0.5, 1.0]})
    detector = fitted_to("detector", "str")
    with pytest.warns(UserWarning, match="valid feature names"):
        made = detector.explain(X.to_numpy())
    pd.testing.assert_frame_equal(made["share"], detector.explain(X)["share"])
    assert made["seen"]["c"][0] == "a" and made["expected"]["c"][0] in ("a", "b", "c")


@pytest.mark.parametrize("name", list(STUBS))
def test_columns_of_one_name_are_refused(name):
    X = pd.DataFrame(np.column_stack([X2, X2, X2]), columns=["a", "b", "a"])
    with pytest.raises(ValueError, match=r"Several columns of X are called \['a'\]"):
        clone(STUBS[name]).fit(X)


def test_decimals_among_floats_are_floats():
    later = pd.DataFrame({"c": [Decimal("14.2"), None], "x": 0.5})
    filled = fitted_to("imputer", "float64").transform(later)
    assert filled["c"].dtype == np.float64 and filled["c"][0] == 14.2


def test_a_record_without_a_value_of_a_column_that_is_passed_through():
    X = pd.DataFrame({"x": X2, "day": pd.date_range("2026-01-01", periods=len(X2), tz="UTC")})
    imputer = clone(IMPUTER).set_params(remainder="passthrough").fit(X)
    filled = imputer.transform(pd.DataFrame([{"x": 0.5, "day": None}]))
    assert filled["day"].dtype == X["day"].dtype and filled["day"].isna().all()


def test_what_a_dtype_cannot_hold_stays_as_it_is():
    filled = fitted_to("imputer", "int64").transform(pd.DataFrame({"c": [1.5, np.nan], "x": 0.5}))
    assert filled["c"].dtype == np.float64 and filled["c"][0] == 1.5 and filled["c"][1] == round(filled["c"][1])
    filled = fitted_to("imputer", "category").transform(pd.DataFrame({"c": pd.Categorical(["z", None]), "x": 0.5}))
    assert filled["c"].tolist()[0] == "z" and list(filled["c"].cat.categories) == ["a", "b", "c", "z"]


@pytest.mark.parametrize(("at_fit", "later"), [("pandas", "polars"), ("polars", "pandas")])
def test_a_table_of_another_library_than_at_fit(at_fit, later):
    frames = {"pandas": pd.DataFrame, "polars": pl.DataFrame}
    imputer = clone(IMPUTER).fit(frames[at_fit]({"c": WHOLE, "w": WORDS, "x": X2}))
    X = frames[later]({"c": [1, None], "w": ["a", None], "x": [0.5, 0.5]})
    filled = imputer.transform(X)
    assert isinstance(filled, frames[later])
    assert [str(dtype).lower() for dtype in schema(filled).values()][::2] == ["int64", "float64"]
    assert values(filled)[0] == 1 and values(filled, "w")[0] == "a" and None not in values(filled, "w")


# Output ------------------------------------------------------------------------------------------


def _library(made):
    return type(made).__module__.split(".")[0]


def _columns(frame):
    return list(frame.columns)


@pytest.mark.parametrize("name", CLASSES.values())
def test_all_rows_follow_set_output(name):
    ae, X = fitted_autoencoder(name), NAMED_SHARES
    expected = ae.reconstruct(X)
    assert isinstance(expected, np.ndarray)
    for library in ("pandas", "polars"):
        ae.set_output(transform=library)
        codes, rebuilt = ae.transform(X), ae.reconstruct(X)
        made = [rebuilt]
        if hasattr(ae, "inverse_transform"):
            made.append(ae.inverse_transform(codes))
        if hasattr(ae, "sample"):
            made.append(ae.sample(2, random_state=0))
        if hasattr(ae, "complete"):
            made += [ae.complete(X, n_samples=2), *ae.sample_completions(X, 2, n_samples=2)]
        assert {_library(each) for each in (codes, *made)} == {library}
        assert all(_columns(each) == ["p", "q", "r"] for each in made)
        np.testing.assert_array_equal(rebuilt.to_numpy(), expected)
        if library == "pandas":
            assert rebuilt.index.equals(X.index)
    ae.set_output(transform="default")
    with config_context(transform_output="polars"):
        assert isinstance(ae.reconstruct(X), np.ndarray)


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("container", ["pandas", "polars", "array"])
def test_tables_follow_set_output(container, library):
    X = table(pd.Series(holes(HALVES, np.nan)))
    X = {"pandas": X, "polars": pl.from_pandas(X), "array": X.to_numpy()}[container]
    imputer = clone(IMPUTER).set_params(add_indicator=True).set_output(transform=library).fit(X)
    made = [imputer.transform(X), *imputer.sample(X), *imputer.interval(X)]
    assert {_library(each) for each in made} == {library}
    names = imputer.get_feature_names_out().tolist()
    assert all(_columns(each) == names for each in made) and len(names) == 3
    ae = clone(TABLES).set_output(transform=library).fit(X)
    made = [ae.reconstruct(X), ae.inverse_transform(ae.transform(X))]
    assert {_library(each) for each in made} == {library}
    encoder = TableEncoder().set_output(transform=library).fit(X)
    assert _library(encoder.inverse_transform(encoder.transform(X))) == library


def test_what_is_set_for_all_transformers_leaves_members_alone():
    X = pd.DataFrame({"c": holes(WORDS), "x": X2, "y": holes(HALVES, np.nan)})
    expected = clone(IMPUTER).fit(X).transform(X), clone(DETECTOR).fit(X).score_samples(X)
    vae = VAE(1, **SMALL).set_output(transform="polars")
    wrapped = AutoencoderImputer(vae, n_estimators=1, random_state=0)
    with config_context(transform_output="polars"):
        filled, scores = clone(IMPUTER).fit(X).transform(X), clone(DETECTOR).fit(X)
        assert filled.to_pandas()["y"].tolist() == expected[0]["y"].tolist()
        np.testing.assert_array_equal(scores.score_samples(X), expected[1])
        assert isinstance(scores.explain(X[:2]), pl.DataFrame)
        assert isinstance(clone(wrapped).fit(X[["x", "y"]]).transform(X[["x", "y"]]), pl.DataFrame)
    assert isinstance(clone(wrapped).fit(X[["x", "y"]]).sample(X[["x", "y"]])[0], pd.DataFrame)


def test_a_table_completed_by_a_vae_is_one_like_it():
    X = pl.DataFrame({"c": pl.Series(holes(WORDS), dtype=pl.Enum(["a", "b", "c"])), "n": holes(WHOLE), "x": X2})
    vae = VAE(1, likelihood="mixed", **SMALL).fit(X)
    for made in (vae.complete(X), *vae.sample_completions(X, 2)):
        assert made.schema == X.schema and not made.null_count().sum_horizontal()[0]
        assert made.filter(~pl.Series(GAPS)).equals(X.filter(~pl.Series(GAPS)))
    assert vae.sample(3, random_state=0).schema == X.schema


# Indicators --------------------------------------------------------------------------------------

NAMED = pd.DataFrame({"a": holes(HALVES, np.nan), "missingindicator_a": X2, "b": X2})
MARKING = clone(IMPUTER).set_params(add_indicator=True)


def test_indicators_take_no_column_of_the_user():
    """As in SimpleImputer."""
    imputer, simple = clone(MARKING).fit(NAMED), SimpleImputer(add_indicator=True).fit(NAMED)
    np.testing.assert_array_equal(imputer.get_feature_names_out(), simple.get_feature_names_out())
    for made in (imputer.transform(NAMED), *imputer.sample(NAMED), *imputer.interval(NAMED)):
        assert made.columns.tolist() == simple.get_feature_names_out().tolist()
        np.testing.assert_array_equal(made.iloc[:, 1], X2)
        np.testing.assert_array_equal(made.iloc[:, 3], GAPS)
    with pytest.raises(ValueError, match="Two columns are called 'missingindicator_a', .* polars cannot hold: rename"):
        clone(MARKING).fit_transform(pl.from_pandas(NAMED))


def test_indicators_of_columns_with_levels():
    columns = pd.MultiIndex.from_tuples([("u", 0), ("u", 1), ("v", 0)], names=["letter", "digit"])
    X = NAMED.set_axis(columns, axis=1)
    made = clone(MARKING).fit(X).transform(X)
    assert made.columns.tolist() == [*columns, ("missingindicator_u", 0)] and made.columns.names == columns.names
    np.testing.assert_array_equal(made["missingindicator_u"][0], GAPS)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_indicators_beside_floats_are_floats(dtype):
    X = NAMED.astype(dtype)
    made = ColumnTransformer([("filled", MARKING, ["a", "b"])]).fit_transform(X)
    assert made.dtype == dtype and made.shape == (N, 3)
    assert schema(clone(MARKING).fit_transform(X))["missingindicator_a"] == dtype
    words = clone(MARKING).fit_transform(pd.DataFrame({"c": holes(WORDS), "d": WORDS}))
    assert words["missingindicator_c"].dtype == bool


# Columns without a value -------------------------------------------------------------------------

EMPTY = {
    "float64": pd.Series([np.nan] * N),
    "object": pd.Series([None] * N, dtype=object),
    "boolean": pd.Series([None] * N, dtype="boolean"),
    "bool[pyarrow]": arrow([None] * N, pa.bool_()),
    "null[pyarrow]": arrow([None] * N, pa.null()),
    "dictionary[pyarrow]": arrow([None] * N, pa.dictionary(pa.int32(), pa.string())),
    "decimal[pyarrow]": arrow([None] * N, pa.decimal128(5, 2)),
    "Int64": pd.Series([None] * N, dtype="Int64"),
    "string": pd.Series([None] * N, dtype="string"),
    "category": pd.Series(pd.Categorical([None] * N)),
    "sparse": pd.Series(pd.arrays.SparseArray([np.nan] * N)),
    "polars Null": pl.Series([None] * N),
    "polars Boolean": pl.Series([None] * N, dtype=pl.Boolean),
    "polars Enum": pl.Series([None] * N, dtype=pl.Enum(["a"])),
}


def _warned(function):
    """What a function returns, and its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = function()
    return made, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("column", **over(EMPTY))
def test_a_column_without_a_value_is_named_once(column):
    X = table(column)
    imputer, said = _warned(lambda: clone(IMPUTER).fit(X))
    assert len(said) == 1 and said[0].startswith("Skipping features without any observed values: ['c']. At least one")
    assert [_columns(each) for each in (imputer.transform(X), *imputer.sample(X))] == [["x"], ["x"]]
    kept, said = _warned(lambda: clone(IMPUTER).set_params(keep_empty_features=True).fit(X))
    assert not said and set(values(kept.transform(X))) == {0}


@pytest.mark.parametrize("column", [EMPTY["boolean"], EMPTY["null[pyarrow]"], EMPTY["polars Enum"]], ids=str)
def test_a_column_without_a_value_is_named_once_by_others(column):
    X = table(column)
    for name in ("numbers", "tables", "detector"):
        estimator = clone(STUBS[name])
        if name == "detector":
            estimator.set_params(n_estimators=2)
        made, said = _warned(lambda estimator=estimator: estimator.fit(X))
        assert len(said) == 1 and said[0].startswith("Columns ['c'] have no observed value")
        assert np.isfinite(made.score_samples(X)).all()


@pytest.mark.parametrize("estimator", [NUMBERS, ESTIMATORS["StackedAE"], ESTIMATORS["RBM"]], ids=str)
def test_autoencoders_name_a_column_without_a_value(estimator):
    X = pd.DataFrame(np.nan_to_num(SHARES, nan=0.5), columns=["p", "q", "r"]).assign(q=np.nan)
    _, said = _warned(lambda: clone(estimator).fit(X))
    assert [message for message in said if "observed" in message] == [
        "Columns ['q'] have no observed value; they are rebuilt as 0. Drop them, or fill them before."
    ]


def test_a_column_without_a_value_did_not_hold_numbers():
    X, later = table(EMPTY["float64"]), pd.DataFrame({"c": ["u", "v"], "x": [1.0, 2.0]})
    encoder = TableEncoder().fit(X)
    assert np.isnan(encoder.transform(later)[:, 0]).all()
    assert encoder.transform(pd.DataFrame({"c": [3.0], "x": 1.0}))[0, 0] == 3
    imputer, _ = _warned(lambda: clone(IMPUTER).fit(X))
    assert _columns(imputer.transform(later)) == ["x"]


# Columns that cannot be imputed ------------------------------------------------------------------

DAYS = pd.Series(pd.date_range("2024", periods=N))
UNSUITABLE = {
    "datetime64": (DAYS, "'c' holds times .*, dtype datetime64.*Convert to numbers"),
    "time zone": (DAYS.dt.tz_localize("UTC"), "'c' holds times .*, dtype datetime64.*UTC.*Convert to numbers"),
    "period": (DAYS.dt.to_period("D"), r"'c' holds times .*, dtype period\[D\].*Convert to numbers"),
    "date32[pyarrow]": (
        arrow([date(2024, 1, 1)] * N, pa.date32()),
        "'c' holds times .*dtype date32.*Convert to",
    ),
    "polars Date": (pl.Series([date(2024, 1, 1)] * N), "'c' holds times .*dtype date32.*Convert to"),
    "objects": (
        pd.Series([date(2024, 1, 1)] * N, dtype=object),
        "'c' holds times .*, dtype object.*Convert to",
    ),
    "bytes": (pd.Series([b"x"] * N, dtype=object), r"'c' holds b'x' \(bytes\), dtype object.*decode it"),
    "binary[pyarrow]": (arrow([b"x"] * N, pa.binary()), r"'c' holds b'x' \(bytes\), dtype binary.*decode it"),
    "list[pyarrow]": (
        arrow([[1]] * N, pa.list_(pa.int64())),
        r"'c' holds \[1\] \(list\), dtype list.*give each",
    ),
    "polars List": (pl.Series([[1]] * N), r"'c' holds \[1\] \(list\), dtype .*list.*give each element"),
    "polars Struct": (pl.Series([{"a": 1}] * N), r"'c' holds \{'a': 1\} \(dict\), dtype struct.*give each element"),
    "interval": (pd.Series(pd.interval_range(0, N)), r"'c' holds .*, dtype interval.*by astype\(str\)"),
    "mixed": (pd.Series([1, "x"] * (N // 2), dtype=object), "'c' mixes numbers and strings.*dtype object.*Make it one"),
}


@pytest.mark.parametrize(("column", "message"), **over(UNSUITABLE))
def test_an_unsuitable_column_is_named_with_its_dtype_and_what_to_do(column, message):
    X = table(column)
    for estimator in STUBS.values():
        with pytest.raises((TypeError, ValueError), match=message):
            clone(estimator).fit(X)


@pytest.mark.parametrize("column", [column for column, _ in UNSUITABLE.values()], ids=list(UNSUITABLE))
def test_what_cannot_be_imputed_passes_through_or_is_left_out(column):
    frame = pl.DataFrame if isinstance(column, pl.Series) else pd.DataFrame
    rest = {"n": holes(WHOLE), "x": X2}
    X, alone = frame({"c": column, **rest}), frame(rest)
    imputer = pickle.loads(pickle.dumps(clone(IMPUTER).set_params(remainder="passthrough").fit(X)))
    for made in (imputer.transform(X), *imputer.sample(X), *imputer.interval(X)):
        assert _columns(made) == ["c", "n", "x"] == imputer.get_feature_names_out().tolist()
        assert schema(made)["c"] == schema(X)["c"] and made["c"].to_list() == X["c"].to_list()
    left_out = clone(IMPUTER).set_params(remainder="drop").fit(X)
    filled = left_out.transform(X)
    assert filled["n"].to_list() == imputer.transform(X)["n"].to_list()
    assert _columns(filled) == ["n", "x"] == left_out.get_feature_names_out().tolist()
    if frame is pl.DataFrame:
        assert filled.equals(clone(IMPUTER).fit(alone).transform(alone))


def test_frames_that_cannot_be_read():
    for estimator in (NUMBERS, IMPUTER, TableEncoder()):
        with pytest.raises(TypeError, match=r"X is a LazyFrame, which holds no rows yet: give X.collect\(\)"):
            clone(estimator).fit(pl.LazyFrame({"c": [1, 2]}))
    with pytest.raises(ValueError, match="dtype that cannot be converted to pandas .* X has {'c': Int128}"):
        clone(IMPUTER).fit(pl.DataFrame({"c": pl.Series([1, 2], dtype=pl.Int128)}))


def test_gaps_of_what_passes_through_stay():
    X = pd.DataFrame({"n": holes(HALVES, np.nan), "day": DAYS.mask(GAPS), "empty": pd.NaT, "x": X2})
    imputer = clone(IMPUTER).set_params(remainder="passthrough", add_indicator=True).fit(X)
    made = imputer.transform(X)
    assert made.columns.tolist() == [*X.columns, *(f"missingindicator_{name}" for name in ("n", "day", "empty"))]
    pd.testing.assert_frame_equal(made[["day", "empty"]], X[["day", "empty"]])
    deviation = imputer.imputation_std(X)
    assert np.isnan(deviation[GAPS, 1]).all() and (deviation[~GAPS, 1] == 0).all() and (deviation[GAPS, 0] > 0).all()
    assert np.isfinite(imputer.score(X)) and np.isnan(imputer.holdout_error_[[1, 2]]).all()
    with pytest.raises(ValueError, match="No column of X holds numbers, booleans, categories or strings"):
        clone(imputer).fit(X[["day"]])
    encoder = TableEncoder(remainder="drop").fit(X)
    assert encoder.get_feature_names_out().tolist() == ["n", "x"] and encoder.groups_[1].kind == "ignored"
    assert encoder.inverse_transform(encoder.transform(X))["day"].isna().all()


# Names of columns --------------------------------------------------------------------------------


def test_columns_of_a_matrix_have_different_names():
    X = pd.DataFrame({"a": ["other", "other", "x", "x", "y", "z"], "b": ["c_d"] * 6, "b_c": ["d"] * 6, "a_x": 1.5})
    encoder = TableEncoder(max_categories=3).set_output(transform="polars").fit(X)
    assert encoder.transform(X).columns == ["a_other", "a_x", "a_other_2", "b_c_d", "b_c_d_2", "a_x_2"]
    assert encoder.transform(X)["a_other_2"].to_list() == [0, 0, 0, 0, 1, 1]
