"""Bad input is refused in words that help, odd input is borne, and a failed fit leaves what was there."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from registry import ESTIMATORS, assert_same_state, counts, over, real, shares, with_parameters
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags

from skae import (
    SGD,
    VAE,
    AutoencoderClassifier,
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    Bernoulli,
    DenseNetwork,
    EarlyStopping,
    LaplaceCode,
    LogisticPCA,
    StackedAE,
)
from skae.training.trainer import Trainer

P = 4
FREE = {
    name: with_parameters(estimator, early_stopping=False, optimizer="adamw") for name, estimator in ESTIMATORS.items()
}
MADE_OF_AUTOENCODERS = {
    "AutoencoderClassifier": AutoencoderClassifier(ESTIMATORS["AutoencoderTransformer"], max_iter=2, random_state=0),
    "AutoencoderImputer": AutoencoderImputer(autoencoder_params={"max_iter": 2}, random_state=0),
    "AutoencoderOutlierDetector": AutoencoderOutlierDetector(ESTIMATORS["DenoisingAE"], random_state=0),
}
PLAIN = AutoencoderTransformer(2, hidden_layer_sizes=(6,), max_iter=2, random_state=0)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("estimator", **over(ESTIMATORS))
def test_infinities(estimator, value, tmp_path):
    X = shares(30, P)
    fitted = clone(estimator).fit(X)
    X[3, 1] = value
    np.save(tmp_path / "X.npy", X)
    for rows in (X, X.astype(np.float32), sp.csr_array(X), np.load(tmp_path / "X.npy", mmap_mode="r")):
        with pytest.raises(ValueError, match="contains infinity"):
            clone(estimator).fit(rows)
        with pytest.raises(ValueError, match="contains infinity"):
            fitted.transform(rows)


@pytest.mark.parametrize("estimator", **over(ESTIMATORS))
def test_what_is_not_a_table_of_numbers(estimator):
    ae = clone(estimator)
    with pytest.raises(ValueError, match="could not convert string to float"):
        ae.fit([["a", "b"], ["c", "d"]])
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array instead"):
        ae.fit(np.arange(5.0))
    n_dimensions = 5 if get_tags(ae).input_tags.three_d_array else 3
    with pytest.raises(ValueError, match=f"Found array with dim {n_dimensions}"):
        ae.fit(np.zeros(n_dimensions * (3,)))
    with pytest.raises(ValueError, match="Complex data not supported"):
        ae.fit(np.ones((3, 3)) * 1j)
    with pytest.raises(ValueError, match="Found array with 0 sample"):
        ae.fit(np.empty((0, 3)))
    with pytest.raises(ValueError, match="Found array with 0 feature"):
        ae.fit(np.empty((3, 0)))
    assert not hasattr(ae, "model_")


@pytest.mark.parametrize("estimator", **over(ESTIMATORS))
def test_other_features_than_those_fitted(estimator):
    pandas = pytest.importorskip("pandas")
    X = shares(30, P)
    ae = clone(estimator).fit(pandas.DataFrame(X, columns=list("abcd")))
    for method in ("transform", "reconstruct", "score_samples", "partial_fit"):
        with pytest.raises(ValueError, match="The feature names should match those that were passed during fit"):
            getattr(ae, method)(pandas.DataFrame(X, columns=list("abce")))
    ae = clone(estimator).fit(X)
    for method in ("transform", "reconstruct", "score_samples", "partial_fit"):
        with pytest.raises(ValueError, match="X has 3 features, but .* is expecting 4 features as input"):
            getattr(ae, method)(X[:, :3])
    if hasattr(ae, "inverse_transform"):
        with pytest.raises(ValueError, match="X has 3 columns, but .* has 2 components"):
            ae.inverse_transform(np.zeros((5, 3)))


@pytest.mark.parametrize("estimator", **over(ESTIMATORS))
@pytest.mark.parametrize("method", ["transform", "reconstruct", "score_samples", "inverse_transform", "score"])
def test_before_fit(estimator, method):
    if not hasattr(estimator, method):
        pytest.skip("it has no such method")
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        getattr(clone(estimator), method)(np.zeros((3, 2)))


@pytest.mark.parametrize(("value", "shown"), [(-0.5, "-0.5"), (1.5, "1.5"), (16.0, "16")])
@pytest.mark.parametrize(
    "estimator",
    [
        AutoencoderTransformer(2, likelihood="bernoulli"),
        VAE(2, likelihood=Bernoulli()),
        LogisticPCA(2, bounds=(0, 1)),
    ],
    ids=str,
)
def test_values_that_are_no_probabilities(estimator, value, shown):
    X = shares(30, P)
    X[7, 2] = value
    with pytest.raises(ValueError, match=rf"takes values in \[0, 1\], but column 2 holds {shown}.*MinMaxScaler"):
        estimator.fit(X)
    fitted = clone(estimator).set_params(max_iter=1).fit(shares(30, P))
    with pytest.raises(ValueError, match=rf"but column 2 holds {shown}"):
        fitted.partial_fit(X)
    with pytest.raises(ValueError, match=rf"but column 2 holds {shown}"):
        fitted.set_params(warm_start=True).fit(X)


def test_logistic_pca_finds_its_bounds_where_none_are_given():
    X = real(60, P)
    lpca = LogisticPCA(2, max_iter=2, random_state=0).fit(X)
    rebuilt = lpca.reconstruct(10 * X)
    assert (rebuilt >= X.min(0) - 1e-6).all() and (rebuilt <= X.max(0) + 1e-6).all()


def test_negative_counts():
    X = counts(30, P)
    X[5, 3] = -2
    with pytest.raises(ValueError, match="takes counts or shares, but column 3 holds -2"):
        AutoencoderTransformer(2, likelihood="poisson").fit(X)


@pytest.mark.parametrize(
    "estimator",
    [
        AutoencoderTransformer(5, hidden_layer_sizes=()),
        AutoencoderTransformer(5, network=DenseNetwork([])),
        AutoencoderTransformer(5, network=DenseNetwork((), dropout=0.5, input_dropout=0.5)),
        VAE(5, hidden_layer_sizes=()),
        LogisticPCA(5),
    ],
    ids=str,
)
def test_a_linear_network_has_at_most_one_component_a_feature(estimator):
    with pytest.raises(ValueError, match="n_components=5 is above n_features=4.*use hidden layers"):
        estimator.fit(shares(30, 4))


@pytest.mark.parametrize("init", ["pca", "random"])
@pytest.mark.parametrize(
    "parameters",
    [
        {"penalties": [LaplaceCode(0.1)]},
        {"corruption": "gaussian"},
        {"network": DenseNetwork((), tied=True), "penalties": [LaplaceCode(0.1)]},
    ],
    ids=str,
)
def test_with_a_corruption_or_a_penalty_it_has_more(parameters, init):
    """And each component moves from its start."""
    X = real(60, 4)
    parameters = {"hidden_layer_sizes": (), "init": init, "early_stopping": False, "random_state": 0, **parameters}
    few, more = (AutoencoderTransformer(7, max_iter=n, **parameters).fit(X) for n in (1, 20))
    assert more.loss_curve_[-1] < few.loss_curve_[0]
    assert more.transform(X).shape == (60, 7)
    before, after = (ae.model_.encoder.state_dict() for ae in (few, more))
    weight = next(name for name in before if name.endswith("weight"))
    assert ((before[weight] - after[weight]).abs().amax(1) > 1e-4).all()


@pytest.mark.parametrize(
    "weight", [np.zeros(30), -np.ones(30), np.ones(29), np.full(30, np.nan)], ids=["0", "-1", "29", "nan"]
)
def test_weights(weight):
    with pytest.raises(ValueError, match="at least one non-zero|Negative values|sample_weight|contains NaN"):
        clone(PLAIN).fit(real(30, P), sample_weight=weight)


def test_all_weights_zero():
    with pytest.raises(ValueError, match="must contain at least one non-zero number"):
        clone(PLAIN).fit(real(30, P), sample_weight=np.zeros(30))


@pytest.mark.parametrize("device", ["gpu0", "cuda:99", "tpu"])
def test_unknown_devices(device):
    if device == "cuda:99" and torch.cuda.device_count() > 99:
        pytest.skip("this machine has it")
    with pytest.raises(ValueError, match=f"device='{device}'.*use .*'auto'"):
        clone(PLAIN).set_params(device=device).fit(real(30, P))


# Odd, but borne --------------------------------------------------------------------------------


def _assert_usable(ae, X):
    codes = ae.transform(X)
    decoded = [ae.inverse_transform(codes)] if hasattr(ae, "inverse_transform") else []
    for made in (codes, ae.reconstruct(X), ae.score_samples(X), *decoded):
        assert np.isfinite(made).all()


@pytest.mark.parametrize("early_stopping", [False, True, EarlyStopping(n_folds=0), EarlyStopping(n_folds=5)], ids=str)
@pytest.mark.parametrize("n_rows", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("init", ["pca", "random"])
@pytest.mark.parametrize("estimator", **over(ESTIMATORS))
def test_few_rows(estimator, init, n_rows, early_stopping):
    X = shares(n_rows, P)
    ae = with_parameters(estimator, init=init, early_stopping=early_stopping, max_iter=2)
    _assert_usable(ae.fit(X), X)


@pytest.mark.parametrize("n_components", ["auto", 0.9])
@pytest.mark.parametrize("n_rows", [1, 2, 20])
@pytest.mark.parametrize(
    "estimator", **over({name: FREE[name] for name in FREE if name not in ("SemanticHashing", "RBM", "MaskedAE")})
)
def test_few_rows_choose_few_components(estimator, n_rows, n_components):
    X = shares(n_rows, P)
    ae = clone(estimator).set_params(n_components=n_components).fit(X)
    assert 1 <= ae.n_components_ <= P
    _assert_usable(ae, X)


@pytest.mark.parametrize("estimator", **over(FREE))
def test_one_feature(estimator):
    X = shares(60, 1)
    _assert_usable(clone(estimator).set_params(n_components=1).fit(X), X)


@pytest.mark.parametrize("estimator", **over(FREE))
def test_columns_without_information(estimator):
    X = shares(60, P)
    X[:, 1] = 0.5
    constant = clone(estimator).fit(X)
    _assert_usable(constant, X)
    if not isinstance(constant, (LogisticPCA, VAE, StackedAE)):
        np.testing.assert_allclose(constant.reconstruct(X)[:, 1], 0.5, atol=0.1)
    for value in (0.0, 0.3):
        _assert_usable(clone(estimator).fit(np.full((60, P), value)), np.full((60, P), value))


@pytest.mark.parametrize("init", ["pca", "random"])
@pytest.mark.parametrize("estimator", **over(FREE))
@pytest.mark.filterwarnings("ignore:.*no observed:UserWarning")
def test_a_column_of_gaps(estimator, init):
    X = shares(60, P)
    X[:, 1] = np.nan
    ae = with_parameters(estimator, init=init).fit(X)
    _assert_usable(ae, X)
    # Later values in it are read without harm.
    _assert_usable(ae, np.nan_to_num(X, nan=0.5))


@pytest.mark.parametrize("estimator", **over(FREE))
def test_a_batch_larger_than_the_data(estimator):
    X = shares(60, P)
    large, whole = (clone(estimator).set_params(batch_size=size).fit(X) for size in (10_000, 60))
    assert_same_state(large, whole)


# A fit that fails ------------------------------------------------------------------------------


def _attributes(ae):
    return {name: repr(value) for name, value in vars(ae).items() if name.endswith("_")}


DIVERGING = SGD(clip_norm=None, momentum=0.0, schedule="constant")


@pytest.mark.parametrize("early_stopping", [False, True, EarlyStopping(n_folds=0)], ids=str)
@pytest.mark.parametrize("estimator", [AutoencoderTransformer, VAE])
def test_a_diverging_fit_says_so_and_what_to_do(estimator, early_stopping):
    X = real(100, P)
    ae = estimator(2, hidden_layer_sizes=(6,), activation="relu", max_iter=30, early_stopping=early_stopping)
    ae.set_params(optimizer=DIVERGING, learning_rate=1e6, init="random", random_state=0)
    with pytest.raises(FloatingPointError, match=r"in epoch \d+: training diverges.*learning_rate below 1e\+06.*AdamW"):
        ae.fit(X)
    assert not _attributes(ae)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_diverging_refit_leaves_the_earlier_fit(method):
    X = real(100, P)
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(6,), activation="relu", early_stopping=False, random_state=0)
    ae.set_params(max_iter=5, init="random").fit(X)
    before, codes = _attributes(ae), ae.transform(X)
    ae.set_params(optimizer=DIVERGING, learning_rate=1e12, max_iter=30)
    with pytest.raises(FloatingPointError, match="training diverges"):
        for _ in range(30):
            getattr(ae, method)(X)
            if method == "partial_fit":
                before, codes = _attributes(ae), ae.transform(X)
    assert _attributes(ae) == before
    np.testing.assert_array_equal(ae.transform(X), codes)


@pytest.mark.parametrize("estimator", **over(FREE))
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_failing_refit_leaves_the_earlier_fit(estimator, method, monkeypatch):
    X = shares(60, P)
    ae = clone(estimator).fit(X)
    if method == "partial_fit":
        ae.partial_fit(X)
    before, codes, scores = _attributes(ae), ae.transform(X), ae.score_samples(X)
    monkeypatch.setattr("skae.training.trainer.Trainer._record", _fail)
    for rows in (X, shares(60, P + 1), X[:, :2]) if method == "fit" else (X,):
        with pytest.raises(RuntimeError, match="deliberate"):
            getattr(ae, method)(rows)
        assert _attributes(ae) == before
        np.testing.assert_array_equal(ae.transform(X), codes)
        np.testing.assert_array_equal(ae.score_samples(X), scores)


@pytest.mark.parametrize("estimator", **over({**FREE, **MADE_OF_AUTOENCODERS}))
def test_a_failing_refit_leaves_the_names_of_columns(estimator, monkeypatch):
    pandas = pytest.importorskip("pandas")
    X, y = pandas.DataFrame(shares(60, P), columns=list("abcd")), np.arange(60) % 2
    ae = clone(estimator).fit(X, y)
    before = {name: value for name, value in vars(ae).items() if name.endswith("_")}
    infinite = X.rename(columns={"a": "z"}).assign(b=np.inf)
    other = X.rename(columns={"a": "z"}).drop(columns="d")
    with pytest.raises(ValueError, match="contains infinity"):
        ae.fit(infinite, y)
    monkeypatch.setattr("skae.training.trainer.Trainer._record", _fail)
    with pytest.raises(RuntimeError, match="deliberate"):
        ae.fit(other, y)
    after = {name: value for name, value in vars(ae).items() if name.endswith("_")}
    assert after.keys() == before.keys() and all(after[name] is before[name] for name in before)
    assert list(ae.feature_names_in_) == list("abcd") and ae.n_features_in_ == P


@pytest.mark.parametrize("estimator", **over(FREE))
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_failing_first_fit_leaves_nothing(estimator, method, monkeypatch):
    monkeypatch.setattr("skae.training.trainer.Trainer._record", _fail)
    ae = clone(estimator)
    with pytest.raises(RuntimeError, match="deliberate"):
        getattr(ae, method)(shares(60, P))
    assert not _attributes(ae)
    with pytest.raises(NotFittedError):
        ae.transform(shares(60, P))


def _fail(*args):
    raise RuntimeError("deliberate")


class Interrupting:
    """A callback in which the user presses Ctrl-C at the end of an epoch."""

    def __init__(self, epoch):
        self.epoch, self.seen = epoch, 0

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context, **given):
        pass

    def on_fit_task_end(self, estimator, context, **given):
        self.seen += context.task_name == "epoch"
        if context.task_name == "epoch" and self.seen == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("early_stopping", [False, EarlyStopping(n_folds=0)], ids=str)
@pytest.mark.parametrize("estimator", **over(FREE))
def test_an_interrupted_fit_keeps_the_model_so_far(estimator, early_stopping):
    X = shares(60, P)
    ae = with_parameters(estimator, max_iter=10, early_stopping=early_stopping).set_callbacks(Interrupting(3))
    with pytest.warns(UserWarning, match="Training was interrupted in epoch 4; the model so far is kept"):
        ae.fit(X)
    assert ae.n_iter_ == len(ae.loss_curve_) == 3
    _assert_usable(ae, X)


# tests/test_stacked.py interrupts layers.
@pytest.mark.parametrize("estimator", **over({name: FREE[name] for name in FREE if name != "StackedAE"}))
def test_an_interruption_within_an_epoch(estimator, monkeypatch):
    X = shares(60, P)
    inside, calls = Trainer._train, []

    def train(self, batch):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        inside(self, batch)

    monkeypatch.setattr(Trainer, "_train", train)
    ae = clone(estimator).set_params(max_iter=10, optimizer="sgd", batch_size=20)
    with pytest.warns(UserWarning, match="Training was interrupted in epoch 2"):
        ae.fit(X)
    assert len(ae.loss_curve_) == 1
    _assert_usable(ae, X)


@pytest.mark.parametrize("container", [np.asarray, pd.DataFrame], ids=["array", "frame"])
def test_a_string_does_not_mark_gaps_among_numbers(container):
    X = container(real(30, P))
    with pytest.raises(ValueError, match="missing_values='-1' is a string, but X holds numbers alone"):
        AutoencoderImputer(missing_values="-1").fit(X)
