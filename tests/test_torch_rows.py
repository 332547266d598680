"""Tensors are rows, loaders and strings are refused with a remedy, and `explain` takes what `predict` takes."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from registry import real, shares
from sklearn.base import clone
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from skae import (
    GAN,
    VQVAE,
    AutoencoderClassifier,
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    ConvAE,
    SemanticHashing,
    TableEncoder,
)

LINEAR = AutoencoderTransformer(2, hidden_layer_sizes=(), max_iter=2, random_state=0)
ALL = [
    (LINEAR, "transform"),
    (ConvAE(2, channels=2, max_iter=1, random_state=0), "transform"),
    (GAN(2, hidden_layer_sizes=4, max_iter=1, random_state=0), "score_samples"),
    (AutoencoderClassifier(LINEAR, max_iter=1, random_state=0), "predict_proba"),
    (AutoencoderOutlierDetector(LINEAR, random_state=0), "score_samples"),
    (AutoencoderImputer(LINEAR, max_iter=1, random_state=0), "transform"),
    (TableEncoder(), "transform"),
]
each = pytest.mark.parametrize(("estimator", "method"), ALL, ids=lambda value: type(value).__name__)
X = real(60, 4).astype(np.float32)
Y = (X[:, 0] > np.median(X[:, 0])).astype(int)


class Endless(IterableDataset):
    def __iter__(self):
        yield torch.zeros(4)


@each
def test_tensors_are_rows(estimator, method):
    tensor = torch.from_numpy(X)
    expected = getattr(clone(estimator).fit(X, Y), method)(X)
    for rows in (tensor, tensor.clone().requires_grad_()):
        fitted = clone(estimator).fit(rows, torch.from_numpy(Y))
        np.testing.assert_array_equal(getattr(fitted, method)(rows), expected)
    # numpy does not know this type.
    rounded = tensor.bfloat16()
    np.testing.assert_array_equal(getattr(fitted, method)(rounded), getattr(fitted, method)(rounded.float().numpy()))


@pytest.mark.parametrize(
    "estimator",
    [
        LINEAR,
        SemanticHashing(4, hidden_layer_sizes=4, max_iter=1),
        VQVAE(2, n_codes=4, hidden_layer_sizes=4, max_iter=1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_codes_may_be_tensors(estimator):
    fitted = clone(estimator).set_params(random_state=0).fit(X)
    codes = fitted.transform(X)
    rows = fitted.inverse_transform(torch.tensor(codes.astype(np.float64), requires_grad=True))
    np.testing.assert_array_equal(rows, fitted.inverse_transform(codes.astype(np.float64)))


@each
def test_loaders_and_data_sets_are_no_rows(estimator, method):
    data = TensorDataset(torch.from_numpy(X))
    fitted = clone(estimator).fit(X, Y)
    before = getattr(fitted, method)(X)
    for rows, remedy in (
        (data, r"X is a TensorDataset of torch.*torch.stack\(\[item\[0\] for item in X\]\)"),
        (DataLoader(data, batch_size=8), r"X is a DataLoader of torch.*torch.cat\(\[batch\[0\] for batch in X\]\)"),
        (Endless(), "X is a Endless of torch.*partial_fit"),
    ):
        with pytest.raises(TypeError, match=remedy):
            clone(estimator).fit(rows, Y)
        with pytest.raises(TypeError, match=remedy):
            fitted.fit(rows, Y)
    np.testing.assert_array_equal(getattr(fitted, method)(X), before)


def test_the_remedies_of_loaders_work():
    data = TensorDataset(torch.from_numpy(X))
    joined = torch.cat([batch[0] for batch in DataLoader(data, batch_size=8)])
    stacked = torch.stack([item[0] for item in data])
    np.testing.assert_array_equal(clone(LINEAR).fit(joined).transform(X), clone(LINEAR).fit(stacked).transform(X))
    by_batch = clone(LINEAR)
    for (batch,) in DataLoader(data, batch_size=30):
        by_batch.partial_fit(batch)
    assert by_batch.n_iter_ == 2


@pytest.mark.parametrize(
    ("estimator", "remedy"),
    [
        (LINEAR, "set likelihood='mixed', or encode it by TableEncoder"),
        (AutoencoderClassifier(LINEAR), "encode it by TableEncoder"),
        (
            AutoencoderOutlierDetector(LINEAR),
            "give a data frame, whose categories the detector takes, or .* TableEncoder",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("dtype", [str, object])
def test_arrays_of_strings(estimator, remedy, dtype):
    with pytest.raises(ValueError, match=f"X holds strings .*could not convert string to float.*: {remedy}"):
        clone(estimator).fit(np.array([["a", "b"], ["c", "d"]] * 10, dtype=dtype), np.arange(20) % 2)


def test_the_remedy_for_strings_works():
    array = np.array([["a", 1.0], ["b", 2.0], ["a", 4.0]] * 20, dtype=object)
    frame = pd.DataFrame(array).infer_objects()
    assert AutoencoderOutlierDetector(LINEAR, random_state=0).fit(frame).predict(frame).shape == (60,)


@pytest.fixture(scope="module")
def of_a_table():
    rows = real(60, 2)
    table = pd.DataFrame({"a": rows[:, 0], "word": pd.Categorical(list("xyz") * 20), "c": rows[:, 1]})
    return AutoencoderOutlierDetector(LINEAR, random_state=0).fit(table), table


@pytest.mark.parametrize("container", ["array", "list", "polars", "arrow"])
def test_explain_takes_tables_that_predict_takes(of_a_table, container):
    detector, table = of_a_table
    some = table[:4]
    rows = {
        "array": lambda: some.to_numpy(),
        "list": lambda: some.to_numpy().tolist(),
        "polars": lambda: pytest.importorskip("polars").from_pandas(some),
        "arrow": lambda: pytest.importorskip("pyarrow").Table.from_pandas(some),
    }[container]()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
        made, labels = detector.explain(rows), detector.predict(rows)
    expected = detector.explain(some)
    np.testing.assert_array_equal(labels, detector.predict(some))
    if container == "polars":
        blocks = {block: made[block].struct.unnest().to_pandas() for block in made.columns}
        made = pd.concat(blocks, axis=1)
    for block in ("share", "score_without"):
        np.testing.assert_allclose(made[block].to_numpy(float), expected[block].to_numpy(float), equal_nan=True)
    assert list(made["seen"].columns) == ["a", "word", "c"]
    assert (made["seen"]["word"].astype(str).to_numpy() == ["x", "y", "z", "x"]).all()


@pytest.mark.parametrize("container", ["list", "tensor", "frame", "integers"])
def test_explain_takes_rows_that_predict_takes(container):
    rows = np.round(shares(60, 4) * 20)
    detector = AutoencoderOutlierDetector(LINEAR, random_state=0).fit(rows)
    given = {
        "list": rows[:3].tolist(),
        "tensor": torch.tensor(rows[:3], requires_grad=True),
        "frame": pd.DataFrame(rows[:3]),
        "integers": rows[:3].astype(int),
    }[container]
    np.testing.assert_allclose(detector.explain(given).to_numpy(), detector.explain(rows[:3]).to_numpy())
