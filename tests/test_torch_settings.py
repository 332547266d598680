"""What a user has set in torch, for the process or for a thread, changes no result and stays as it was."""

import contextlib
import pickle
import threading

import numpy as np
import pytest
import torch
from registry import ESTIMATORS, assert_same_state, over, real, shares
from sklearn.base import clone
from torch import nn

from skae import (
    GAN,
    LBFGS,
    VAE,
    AdamW,
    AutoencoderClassifier,
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    ContractiveAE,
    DenoisingAE,
    EarlyStopping,
    MaskedAE,
    StackedAE,
)
from skae.inspection import jacobian, tangents
from skae.model.settings import own_settings
from skae.training.trainer import Trainer

P = 4


class UserNetwork:
    """A network of torch's own layers, which have the default dtype and device."""

    def encoder(self, n_in, n_out):
        return nn.Sequential(nn.Linear(n_in, 6), nn.Tanh(), nn.Linear(6, n_out))

    def decoder(self, n_in, n_out, encoder):
        return nn.Sequential(nn.Linear(n_in, 6), nn.Tanh(), nn.Linear(6, n_out))


@contextlib.contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def default_device():
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def rounded_products():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SETTINGS = {
    "default-dtype": default_dtype,
    "inference-mode": torch.inference_mode,
    "no-grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default-device": default_device,
    "device": lambda: torch.device("meta"),
    "matrix-precision": rounded_products,
    "deterministic": deterministic,
}


@contextlib.contextmanager
def all_settings():
    with contextlib.ExitStack() as stack:
        for each in SETTINGS.values():
            stack.enter_context(each())
        yield


def ambient():
    """All that `own_settings` sets aside."""
    return (
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.get_float32_matmul_precision(),
        torch.is_autocast_enabled("cpu"),
        torch.is_inference_mode_enabled(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_num_threads(),
    )


METHODS = ("transform", "reconstruct", "score_samples", "decision_function", "predict_proba", "imputation_std")
DRAWS = ("sample", "complete", "sample_completions")


def results(estimator, X):
    """What the methods of a fitted estimator return, by name."""
    made = {name: getattr(estimator, name)(X) for name in METHODS if hasattr(estimator, name)}
    made["transform-float32"] = estimator.transform(X.astype(np.float32)) if hasattr(estimator, "transform") else 0
    if hasattr(estimator, "inverse_transform"):
        made["inverse_transform"] = estimator.inverse_transform(made["transform"])
    for name in DRAWS:
        if hasattr(estimator, name):
            made[name] = getattr(estimator, name)(*([X] if name != "sample" else []), random_state=0)
    return made


def assert_same_results(one, other):
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


CASES = {
    **ESTIMATORS,
    "LBFGS": AutoencoderTransformer(2, hidden_layer_sizes=(4,), optimizer=LBFGS(), max_iter=1, random_state=0),
    "bfloat16": AutoencoderTransformer(
        2, hidden_layer_sizes=(4,), optimizer=AdamW(precision="bfloat16"), max_iter=1, random_state=0
    ),
    "user-network": AutoencoderTransformer(2, network=UserNetwork(), init="random", max_iter=2, random_state=0),
    "split": VAE(2, hidden_layer_sizes=(4,), early_stopping=EarlyStopping(n_folds=0), max_iter=2, random_state=0),
    "GAN": GAN(2, hidden_layer_sizes=(8,), max_iter=2, random_state=0),
    "StackedAE-rbm": StackedAE(2, hidden_layer_sizes=(8,), layer="rbm", pretraining_iter=1, max_iter=1, random_state=0),
}


@pytest.mark.parametrize("estimator", **over(CASES))
def test_settings_change_no_result(estimator, nothing_global_changed):
    X, gaps = shares(60, P), shares(30, P, 1)
    gaps[::3, 1] = np.nan
    fitted, pieces = clone(estimator).fit(X), clone(estimator).partial_fit(X).partial_fit(X)
    expected = results(fitted, gaps)
    with all_settings():
        before = ambient()
        again = clone(estimator).fit(X)
        assert_same_results(expected, results(again, gaps))
        loaded = pickle.loads(pickle.dumps(fitted))
        assert_same_results(expected, results(loaded, gaps))
        assert_same_state(pieces, clone(estimator).partial_fit(X).partial_fit(X))
        assert ambient() == before
    assert_same_state(fitted, again)
    # What was loaded or fitted there can be trained here.
    assert_same_state(clone(fitted).partial_fit(X).partial_fit(X), pieces)
    loaded.partial_fit(X)


@pytest.mark.parametrize("setting", **over(SETTINGS))
@pytest.mark.parametrize("estimator", [VAE(2), ContractiveAE(2), DenoisingAE(2), MaskedAE(2)], ids=str)
def test_each_setting_changes_no_result(estimator, setting, nothing_global_changed):
    X, options = real(60, P), {"hidden_layer_sizes": (4,), "max_iter": 2, "random_state": 0}
    fitted = clone(estimator).set_params(**options).fit(X)
    expected = results(fitted, X)
    with setting():
        before = ambient()
        assert_same_results(expected, results(clone(fitted).fit(X), X))
        assert_same_results(expected, results(fitted, X))
        assert ambient() == before


def test_what_is_made_of_autoencoders(nothing_global_changed):
    X = real(80, P)
    y, gaps = np.arange(80) % 2, X.copy()
    gaps[::3, 1] = np.nan
    options = {"hidden_layer_sizes": (4,), "max_iter": 2}
    small = AutoencoderTransformer(2, **options)
    cases = {
        "classifier": (AutoencoderClassifier(small, max_iter=2, random_state=0), X),
        "imputer": (AutoencoderImputer(MaskedAE(2, **options), random_state=0), gaps),
        "detector": (
            AutoencoderOutlierDetector(DenoisingAE(2, **options), random_state=0),
            X,
        ),
    }
    for estimator, rows in cases.values():
        expected = _methods_of(clone(estimator).fit(rows, y), rows)
        with all_settings():
            assert_same_results(expected, _methods_of(clone(estimator).fit(rows, y), rows))


def _methods_of(estimator, X):
    names = ("predict", "predict_proba", "decision_function", "score_samples", "transform", "imputation_std")
    made = {name: getattr(estimator, name)(X) for name in names if hasattr(estimator, name)}
    if hasattr(estimator, "sample"):
        made["sample"] = np.stack(list(estimator.sample(X, 2, random_state=0)))
    return made


def test_derivatives(nothing_global_changed):
    X = real(60, P)
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(4,), max_iter=2, random_state=0).fit(X)
    codes = ae.transform(X)
    expected = [jacobian(ae, X), jacobian(ae, codes, of="decoder"), *tangents(ae, X)]
    with all_settings():
        made = [jacobian(ae, X), jacobian(ae, codes, of="decoder"), *tangents(ae, X)]
    for one, other in zip(expected, made, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_fit_that_fails_puts_settings_back():
    with all_settings():
        before = ambient()
        with pytest.raises(ValueError, match="Found array with 0 sample"):
            VAE(2).fit(np.empty((0, 3)))
        assert ambient() == before


def test_the_last_of_several_threads_puts_settings_back(nothing_global_changed):
    entered, leave, seen = threading.Event(), threading.Event(), []

    def longer():
        with own_settings():
            entered.set()
            leave.wait(10)
            seen.append(torch.get_default_dtype())

    with default_dtype():
        thread = threading.Thread(target=longer)
        with own_settings():
            thread.start()
            entered.wait(10)
        assert torch.get_default_dtype() == torch.float32
        leave.set()
        thread.join()
        assert torch.get_default_dtype() == torch.float64
    assert seen == [torch.float32]


# Threads -------------------------------------------------------------------------------------


@pytest.fixture
def counts(monkeypatch):
    """The number of torch's threads in each epoch, where it is 3 outside."""
    inside, seen, before = Trainer.run_epoch, [], torch.get_num_threads()

    def run_epoch(self, rows):
        seen.append(torch.get_num_threads())
        inside(self, rows)

    monkeypatch.setattr(Trainer, "run_epoch", run_epoch)
    torch.set_num_threads(3)
    yield seen
    torch.set_num_threads(before)


FOLDED = AutoencoderTransformer(
    1, hidden_layer_sizes=(8,), max_iter=30, early_stopping=EarlyStopping(n_folds=2), random_state=0
)


def curve(n, seed=0):
    """Rows near a circle, which a network rebuilds better than PCA does."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 3, n)
    return np.column_stack([np.cos(angle), np.sin(angle), angle**2]) + 0.01 * rng.standard_normal((n, 3))


@pytest.mark.parametrize(
    "estimator", [FOLDED, StackedAE(1, hidden_layer_sizes=(8,), pretraining_iter=2, max_iter=30, random_state=0)]
)
def test_small_steps_have_one_thread_after_folds_too(estimator, counts):
    fitted = clone(estimator).fit(curve(200))
    assert fitted.n_iter_ > 0, "else the last training has no epoch to look at"
    assert set(counts) == {1}
    assert torch.get_num_threads() == 3


def test_small_steps_have_one_thread_in_python_threads(counts):
    after = []

    def fit(seed):
        clone(FOLDED).fit(curve(200, seed))
        after.append(torch.get_num_threads())

    running = [threading.Thread(target=fit, args=(seed,)) for seed in range(3)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert set(counts) == {1}
    assert after == [3, 3, 3]
    assert torch.get_num_threads() == 3
