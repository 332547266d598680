"""Tables as matrices of numbers, and back."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_selector
from sklearn.preprocessing import OneHotEncoder

from skae import TableEncoder

N = 6
COLUMNS = {
    "float": [1.5, np.nan, -2.0, 0.0, 3.0, 1.0],
    "integer": [3, 1, 4, 1, 5, 9],
    "Int64": pd.array([3, None, 4, 1, 5, 2**40], dtype="Int64"),
    "Float64": pd.array([1.5, None, 4, 1, 5, 9], dtype="Float64"),
    "uint8": np.array([0, 255, 3, 4, 5, 6], dtype=np.uint8),
    "float32": np.array([0, 1, np.nan, 4, 5, 0.1], dtype=np.float32),
    "arrow": pd.array([3, None, 4, 1, 5, 9], dtype="int64[pyarrow]"),
    "bool": [True, False, True, True, False, True],
    "boolean": pd.array([True, None, False, True, False, None], dtype="boolean"),
    "object-bool": pd.Series([True, None, False, True, False, None], dtype=object),
    "object-int": pd.Series([1, np.nan, 2, 3, 4, 5], dtype=object),
    "object-float": pd.Series([1.5, None, 2, 3, 4, 5], dtype=object),
    "str": ["a", None, "b", "a", "c", "a"],
    "string": pd.array(["a", None, "b", "a", "c", "a"], dtype="string"),
    "object-str": pd.Series(["a", None, "b", "a", "c", "a"], dtype=object),
    "category": pd.Categorical(["a", None, "b", "a", "c", "a"], categories=["c", "unused", "a", "b"]),
    "ordered": pd.Categorical(
        ["low", "high", None, "low", "low", "mid"], categories=["low", "mid", "high"], ordered=True
    ),
    "category-int": pd.Categorical([10, 2, 10, 2, None, 7]),
    "category-bool": pd.Categorical([True, False, None, True, False, True]),
    "empty-float": np.full(N, np.nan),
    "empty-object": pd.Series([None] * N, dtype=object),
    "empty-str": pd.Series([None] * N, dtype="str"),
    "empty-string": pd.array([None] * N, dtype="string"),
    "empty-arrow": pd.array([None] * N, dtype="string[pyarrow]"),
    "empty-category": pd.Categorical([None] * N, categories=["a", "b"]),
}
TABLE = pd.DataFrame(COLUMNS).set_axis([f"row {i}" for i in range(N)])


def expect(error, match, X, X_new=None, **parameters):
    encoder = TableEncoder(**parameters)
    if X_new is None:
        with pytest.raises(error, match=match):
            encoder.fit(X)
    else:
        encoder.fit(X)
        with pytest.raises(error, match=match):
            encoder.transform(X_new)


def frame(*values, dtype=None):
    return pd.DataFrame({"a": pd.Series(values, dtype=dtype)})


@pytest.mark.parametrize("name", [*COLUMNS, None])
def test_there_and_back(name):
    table = TABLE if name is None else TABLE[[name]]
    encoder = TableEncoder().fit(table)
    matrix = encoder.transform(table)
    # As arrays of single precision do, columns of single precision alone stay such.
    assert matrix.dtype == (np.float32 if name == "float32" else np.float64)
    assert matrix.shape == (N, len(encoder.get_feature_names_out()))
    pd.testing.assert_frame_equal(encoder.inverse_transform(matrix, index=table.index), table)
    again = pickle.loads(pickle.dumps(encoder))
    pd.testing.assert_frame_equal(again.inverse_transform(again.transform(table), index=table.index), table)


def test_missing_values_are_nan_in_all_columns_of_their_group():
    encoder = TableEncoder().fit(TABLE)
    matrix = encoder.transform(TABLE)
    for group in encoder.groups_:
        missing, block = TABLE[group.column].isna().to_numpy(), matrix[:, group.start : group.stop]
        assert (np.isnan(block) == missing[:, None]).all()
        if group.kind == "categorical":
            assert (block[~missing].sum(1) == 1).all()


def test_categories_are_those_of_one_hot_encoder():
    strings = TABLE[["str", "string", "object-str"]].dropna()
    expected = OneHotEncoder(sparse_output=False).fit(strings.astype(object))
    encoder = TableEncoder().fit(strings)
    np.testing.assert_array_equal(encoder.transform(strings), expected.transform(strings.astype(object)))
    np.testing.assert_array_equal(encoder.get_feature_names_out(), expected.get_feature_names_out())


def test_groups_say_which_columns_belong_together():
    encoder = TableEncoder().fit(TABLE[["integer", "str", "bool", "ordered"]])
    assert [(g.column, g.kind, g.start, g.stop) for g in encoder.groups_] == [
        ("integer", "numeric", 0, 1),
        ("str", "categorical", 1, 4),
        ("bool", "binary", 4, 5),
        ("ordered", "categorical", 5, 8),
    ]
    # An ordered category's columns are in its order, others' are sorted.
    assert encoder.get_feature_names_out().tolist()[4:] == ["bool", "ordered_low", "ordered_mid", "ordered_high"]


def test_guesses_become_values():
    table = pd.DataFrame({"n": [1, 200], "u": np.array([0, 255], dtype=np.uint8), "b": [True, False], "c": ["x", "y"]})
    encoder = TableEncoder().fit(table)
    guess = [[1.6, 300.0, 0.49, 0.3, 0.7], [-0.6, -4.0, 0.5, 0.6, 0.4]]
    expected = pd.DataFrame(
        {"n": [2, -1], "u": np.array([255, 0], dtype=np.uint8), "b": [False, True], "c": ["y", "x"]}
    )
    pd.testing.assert_frame_equal(encoder.inverse_transform(guess), expected)


def test_integers_of_64_bits_stay_in_their_range():
    table = frame(1, 2)
    assert TableEncoder().fit(table).inverse_transform([[1e30]])["a"][0] > 2**62


def test_gaps_where_the_dtype_has_none():
    table = pd.DataFrame({"n": [1, 2], "b": [True, False]})
    made = TableEncoder().fit(table).inverse_transform([[np.nan, np.nan], [2.2, 1.0]])
    assert made["n"].dtype == np.float64 and made["n"][1] == 2 and made.iloc[0].isna().all()
    assert made["b"].dtype == object and made["b"][1] is True


def test_the_index_is_that_given_or_the_frames():
    encoder = TableEncoder().fit(TABLE[["str"]]).set_output(transform="pandas")
    matrix = encoder.transform(TABLE[["str"]])
    assert encoder.inverse_transform(matrix).index.equals(TABLE.index)
    assert encoder.inverse_transform(matrix, index=range(3, 9)).index.tolist() == list(range(3, 9))


@pytest.mark.parametrize("asked", [["a"], [0], [True, False], np.array(["a"], dtype=object)], ids=str)
def test_numbers_that_are_categories(asked):
    table = pd.DataFrame({"a": [3, 1, 3, 7], "b": [1.0, 2.0, 3.0, 4.0]})
    encoder = TableEncoder(asked).fit(table)
    assert encoder.get_feature_names_out().tolist() == ["a_1", "a_3", "a_7", "b"]
    pd.testing.assert_frame_equal(encoder.inverse_transform(encoder.transform(table)), table)
    # Among floats, as in a table with a gap, they are the same numbers.
    assert encoder.transform(table.astype(float))[1].tolist() == [1, 0, 0, 2]


def test_unseen_categories():
    table, new = TABLE[["str", "category"]], pd.DataFrame({"str": ["z", "b"], "category": ["a", "unused"]})
    matrix = TableEncoder().fit(table).transform(new)
    assert np.isnan(matrix[0, :3]).all() and np.isnan(matrix[1, 3:]).all()
    expect(ValueError, r"unknown categories \['z'\] in column 'str'", table, new, handle_unknown="error")


def test_rare_categories_are_one():
    table = frame(*"aaabbbbccd")
    encoder = TableEncoder(max_categories=3).fit(table)
    assert encoder.get_feature_names_out().tolist() == ["a_a", "a_b", "a_other"]
    np.testing.assert_array_equal(
        encoder.transform(frame(*"abcdz")), [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [np.nan] * 3]
    )
    # "other" is no answer; where nothing else is likely, it is the most frequent category.
    guesses = [[0.1, 0.2, 0.7], [0.3, 0.2, 0.5], [0, 0, 1], [np.nan] * 3]
    assert encoder.inverse_transform(guesses)["a"].tolist()[:3] == ["b", "a", "b"]
    assert encoder.inverse_transform(guesses)["a"].isna().tolist() == [False, False, False, True]
    assert TableEncoder(max_categories=None).fit(frame(*map(str, range(100)))).transform(frame("7")).sum() == 1


def test_the_order_of_rows_does_not_matter():
    table, order = TABLE, np.random.default_rng(0).permutation(N)
    one, other = TableEncoder().fit(table), TableEncoder().fit(table.iloc[order])
    np.testing.assert_array_equal(one.transform(table), other.transform(table))


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=str)
def test_an_array_of_floats_is_itself(dtype):
    X = np.array([[1, np.nan], [3, 4]], dtype=dtype)
    encoder = TableEncoder().fit(X)
    assert encoder.transform(X) is X and encoder.inverse_transform(X) is X
    assert [group.kind for group in encoder.groups_] == ["numeric", "numeric"]
    assert encoder.get_feature_names_out().tolist() == ["x0", "x1"]


@pytest.mark.parametrize(
    "X",
    [
        np.array([[1, 2], [3, 4]]),
        np.array([[True, False], [True, True]]),
        np.array([["a", "bb"], ["c", "a"]]),
        np.array([[1, "a", True], [None, "b", False], [2, None, None]], dtype=object),
        [[1, "a"], [2, "b"]],
    ],
    ids=["int", "bool", "str", "object", "list"],
)
def test_arrays_and_lists(X):
    encoder = TableEncoder().fit(X)
    back = encoder.inverse_transform(encoder.transform(X))
    assert back.dtype == getattr(X, "dtype", object)
    np.testing.assert_array_equal(back, np.array(X, dtype=back.dtype))


def test_frames_of_other_libraries():
    polars = pytest.importorskip("polars")
    table = polars.DataFrame({"a": [1, 2], "b": ["x", None]})
    np.testing.assert_array_equal(TableEncoder().fit(table).transform(table), [[1, 1], [2, np.nan]])


def test_names_that_are_no_strings():
    table = pd.DataFrame([[1, "x"], [2, "y"]], columns=[7, 3])
    encoder = TableEncoder().fit(table)
    pd.testing.assert_frame_equal(encoder.inverse_transform(encoder.transform(table)), table)


def test_a_column_selectors_columns():
    table = TABLE[["integer", "str"]]
    asked = make_column_selector(dtype_include=np.number)(table)
    assert [group.kind for group in TableEncoder(asked).fit(table).groups_] == ["categorical"] * 2


def test_a_column_without_a_value_stays_empty():
    table = pd.DataFrame({"a": [None, None], "b": [1, 2]}, dtype=object)
    encoder = TableEncoder().fit(table)
    matrix = encoder.transform(pd.DataFrame({"a": ["x", 3], "b": [1, 2]}, dtype=object))
    assert encoder.groups_[0].kind == "numeric" and np.isnan(matrix[:, 0]).all()
    assert encoder.inverse_transform([[0.0, 1.0]])["a"].isna().all()


@pytest.mark.parametrize("dtype", ["str", "string", pd.CategoricalDtype(["x", "y"]), pd.CategoricalDtype([])])
def test_a_column_of_categories_without_a_value_stays_empty(dtype):
    table = pd.DataFrame({"a": pd.Series([None, None], dtype=dtype), "b": [1, 2]})
    encoder = TableEncoder().fit(table)
    pd.testing.assert_frame_equal(encoder.inverse_transform(encoder.transform(table)), table, check_dtype=False)
    assert [(group.kind, group.start, group.stop) for group in encoder.groups_] == [
        ("numeric", 0, 1),
        ("numeric", 1, 2),
    ]
    alone = TableEncoder().fit(table[["a"]])
    np.testing.assert_array_equal(alone.transform(table[["a"]]), np.full((2, 1), np.nan))
    # Of numbers, booleans and categories at fit, all are gaps.
    whole = TableEncoder().fit(pd.DataFrame({"n": [1.5, 2], "b": [True, False], "c": ["x", "y"]}))
    assert np.isnan(whole.transform(pd.DataFrame(dict.fromkeys("nbc", table["a"])))).all()


@pytest.mark.parametrize("dtype", ["null", "dictionary"])
def test_a_column_of_arrow_without_a_value_stays_empty(dtype):
    arrow = pytest.importorskip("pyarrow")
    dtypes = {"null": arrow.null(), "dictionary": arrow.dictionary(arrow.int32(), arrow.string())}
    table = pd.DataFrame({"a": pd.Series([None, None], dtype=pd.ArrowDtype(dtypes[dtype])), "b": [1, 2]})
    encoder = TableEncoder().fit(table)
    assert encoder.groups_[0].kind == "numeric" and np.isnan(encoder.transform(table)[:, 0]).all()
    assert encoder.inverse_transform(encoder.transform(table))["a"].isna().all()


def test_a_column_of_polars_strings_without_a_value_stays_empty():
    polars = pytest.importorskip("polars")
    table = polars.DataFrame({"a": polars.Series([None, None], dtype=polars.Utf8), "b": [1, 2]})
    encoder = TableEncoder().fit(table)
    np.testing.assert_array_equal(encoder.transform(table), [[np.nan, 1], [np.nan, 2]])


@pytest.mark.parametrize(
    "later",
    [
        pd.DataFrame({"x": [1, "b"], "y": [0, 0]}),
        pd.DataFrame({"x": [1.0, np.inf]}),
        pd.DataFrame({"x": []}),
        np.array([[np.inf, 1, 2, 3]]),
    ],
    ids=["mixed", "infinite", "no rows", "array"],
)
def test_a_failing_refit_leaves_the_earlier_fit(later):
    table = pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [True, False]})
    encoder = TableEncoder().fit(table)
    before, matrix = dict(vars(encoder)), encoder.transform(table)
    with pytest.raises(ValueError, match=r"mixes|infinity|0 sample"):
        encoder.fit(later)
    assert vars(encoder) == before
    np.testing.assert_array_equal(encoder.transform(table), matrix)
    first = TableEncoder()
    with pytest.raises(ValueError, match=r"mixes|infinity|0 sample"):
        first.fit(later)
    assert vars(first) == vars(TableEncoder())


def test_another_kind_of_missing_values_is_taken():
    """A column of a later table without a value has any dtype, and one with gaps another one."""
    table = pd.DataFrame({"n": [1, 2], "b": [True, False], "c": ["x", "y"]})
    encoder = TableEncoder().fit(table)
    empty = pd.DataFrame({"n": [None], "b": [np.nan], "c": [np.nan]})
    assert np.isnan(encoder.transform(empty)).all()
    gappy = pd.DataFrame({"n": [1.0, None], "b": [1.0, None], "c": pd.Categorical(["y", None])})
    np.testing.assert_array_equal(encoder.transform(gappy), [[1, 1, 0, 1], [np.nan] * 4])


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (frame(1, "x"), r"'a' mixes numbers and strings, or other types: it holds 'x' \(str\) and 1 \(int\)"),
        (frame(True, "x"), "'a' mixes numbers and strings"),
        (frame(1.0, np.inf), "infinity.*in column 'a'"),
        (frame(1.0, -np.inf, dtype=object), "infinity.*in column 'a'"),
        (np.array([[1.0, -np.inf]]), "infinity.*in column 1"),
        (frame(*pd.to_datetime(["2020-01-01"])), r"'a' holds times \(datetime64\).*Convert to numbers"),
        (frame(*pd.to_timedelta(["1 days"])), r"'a' holds times \(timedelta64\)"),
        (frame(pd.Timestamp("2020-01-01").date()), r"'a' holds times \(date\)"),
        (frame(1j, 2), "Complex data not supported: column 'a'"),
        (np.ones((2, 2)) * 1j, "Complex data not supported"),
        (pd.DataFrame({"a": []}), "0 sample"),
        (pd.DataFrame(index=[1, 2]), "0 feature"),
        (np.ones(3), "Expected 2D array, got 1D array instead"),
    ],
)
def test_what_is_no_table(X, message):
    expect(ValueError, message, X)


@pytest.mark.parametrize("value", [b"x", {"x": 1}, (1, 2)], ids=str)
def test_entries_that_are_no_values(value):
    expect(TypeError, "'a' holds .* each entry must be a number, a boolean, a string, or missing", frame(value, None))


@pytest.mark.parametrize(
    ("X", "X_new", "message"),
    [
        (frame(1, 2), frame("x"), "'a' held numbers at fit, but holds categories now"),
        (frame(1, 2), frame("x", dtype="category"), "'a' held numbers at fit, but holds categories now"),
        (frame("x", "y"), frame(1), r"'a' held strings at fit, but holds numbers now \(1\)"),
        (frame("x", "y"), frame(True), "'a' held strings at fit, but holds booleans now"),
        (frame(True, False), frame(2.0), "'a' held booleans at fit, but holds 2.0 now"),
        (frame(True, False), frame("x"), "'a' held booleans at fit, but holds 'x' now"),
        (frame(1, 2), frame(np.inf), "infinity.*in column 'a'"),
        (frame("x", "y"), pd.DataFrame({"b": ["x"]}), "feature names should match"),
        (np.ones((2, 2)), np.ones((2, 3)), "X has 3 features, but TableEncoder is expecting 2 features"),
    ],
)
def test_other_columns_than_at_fit(X, X_new, message):
    expect(ValueError, message, X, X_new)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["b"], r"names \['b'\], which are no columns of X"),
        ([3], "X has 1 columns, so indices go from 0 to 0"),
        ([True, False], "mask of shape"),
    ],
)
def test_categories_that_are_not_there(asked, message):
    expect(ValueError, message, frame(1, 2), categorical_features=asked)
    expect(ValueError, "infinity.*in column 'a'", frame(1, np.inf), categorical_features=["a"])


def test_a_matrix_of_another_width():
    with pytest.raises(ValueError, match="X has 2 columns, but TableEncoder makes 1 of a table's 1"):
        TableEncoder().fit(frame(1, 2)).inverse_transform([[1, 2]])


def test_parameters_stay_as_they_are():
    encoder = TableEncoder(["a"], max_categories=5).fit(frame(1, 2))
    assert clone(encoder).get_params() == encoder.get_params()
