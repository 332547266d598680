"""Containers and dtypes: numbers, booleans and categories are the same in each of them, and come back as they were."""

from decimal import Decimal
from functools import cache

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from skae import (
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
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
ESTIMATORS = {"imputer": IMPUTER, "numbers": NUMBERS, "tables": TABLES, "detector": DETECTOR, "encoder": TableEncoder()}


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
    for other in (*imputer.sample(X, 1), *imputer.interval(X)):
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


@each_column
def test_scores_of_anomalies_do_not_depend_on_the_dtype(kind, column):
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
        ValueError, match=r"X holds strings \(column 'c' of dtype .*'b'\): set likelihood='mixed', or encode"
    ):
        clone(NUMBERS).fit(X)
