"""The gradient written out by hand against autograd's."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from registry import LIKELIHOODS, generator, over
from sklearn.base import clone

from skae import (
    AdamW,
    Anchor,
    AutoencoderTransformer,
    Contraction,
    DenoisingAE,
    DenseNetwork,
    GaussianCode,
    GaussianNoise,
    LaplaceCode,
    Masking,
)
from skae.model.autoencoder import Autoencoder
from skae.model.step import Step
from skae.training.dense_gradient import BACKWARD, DenseGradient

N, P = 23, 5
COVERED = {
    name: LIKELIHOODS[name] for name in ("gaussian", "gaussian-fixed", "bernoulli", "bernoulli-bounds", "poisson")
}
CONDITIONS = {
    "plain": {},
    "level": {"corruption": GaussianNoise((0.1, 1.0)), "conditioning": "noise_level"},
    "mask": {"corruption": Masking(0.3), "conditioning": "mask"},
}


def _model_and_rows(example, activation="tanh", init="pca", condition="plain", gaps=False, hidden=(7, 6)):
    """A model away from its start, and rows for it."""
    X = example.rows(N, P)
    if gaps:
        X = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    options = {"hidden_layer_sizes": hidden, "activation": activation, "likelihood": clone(example.part), "init": init}
    estimator = DenoisingAE(3, **{"corruption": Masking(0.2), **options, **CONDITIONS[condition]})
    estimator.set_params(max_iter=1, early_stopping=False, random_state=0)
    model = estimator.fit(X).model_
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator()))
            parameter.grad = torch.full_like(parameter, 7.0)
    return model, model.prepare(torch.tensor(X, dtype=torch.float32))


def _assert_same_gradient(model: Autoencoder, prepared, weight):
    by_hand = DenseGradient(model)(Step(model, *prepared, generator=generator(1)), weight)
    made = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.requires_grad}
    model.zero_grad()
    terms = Step(model, *prepared, generator=generator(1)).terms
    assert terms.keys() == by_hand.keys()
    (sum(terms.values()) * weight).sum().backward()
    for name, term in terms.items():
        torch.testing.assert_close(by_hand[name], term.detach(), rtol=1e-5, atol=1e-5)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        size = float(parameter.grad.abs().max()) + 1e-6
        torch.testing.assert_close(made[name] / size, parameter.grad / size, rtol=0, atol=1e-5, msg=name)


@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("init", ["pca", "random"])
@pytest.mark.parametrize("example", **over(COVERED))
def test_likelihoods_weights_and_gaps(example, init, weighted, gaps):
    model, prepared = _model_and_rows(example, init=init, gaps=gaps)
    assert DenseGradient.covers(model, "float32")
    _assert_same_gradient(model, prepared, torch.rand(N, generator=generator()) if weighted else 1 / N)


@pytest.mark.parametrize("init", ["pca", "random"])
@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("activation", BACKWARD)
def test_activations_and_conditions(activation, condition, init):
    model, prepared = _model_and_rows(COVERED["gaussian"], activation, init, condition)
    assert DenseGradient.covers(model, "float32")
    _assert_same_gradient(model, prepared, 1 / N)


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("hidden", [(), (7,), (7, 6, 4)])
def test_depths(hidden, condition):
    for init in ("pca", "random"):
        model, prepared = _model_and_rows(COVERED["gaussian"], hidden=hidden, init=init, condition=condition)
        assert DenseGradient.covers(model, "float32")
        _assert_same_gradient(model, prepared, 1 / N)


@pytest.mark.parametrize("penalties", [[LaplaceCode(0.3)], [GaussianCode(0.2)], [Anchor(), LaplaceCode(0.1)]], ids=str)
@pytest.mark.parametrize("example", **over(COVERED))
def test_penalties_of_the_code(example, penalties):
    X = example.rows(N, P)
    ae = AutoencoderTransformer(3, hidden_layer_sizes=(7, 6), likelihood=clone(example.part), penalties=penalties)
    model = ae.set_params(max_iter=1, early_stopping=False, random_state=0).fit(X).model_
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator()))
            parameter.grad = torch.full_like(parameter, 7.0) if parameter.requires_grad else None
    assert DenseGradient.covers(model, "float32")
    _assert_same_gradient(model, model.prepare(torch.tensor(X, dtype=torch.float32)), 1 / N)


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "elu"},
        {"network": DenseNetwork((7,), tied=True)},
        {"network": DenseNetwork((), tied=True)},
        {"network": DenseNetwork((7,), dropout=0.1)},
        {"network": DenseNetwork((7,), input_dropout=0.1)},
        {"likelihood": "student_t"},
        {"likelihood": LIKELIHOODS["gaussian-shared"].part},
        {"penalties": [Contraction()]},
    ],
    ids=str,
)
def test_what_is_not_covered_goes_through_autograd(options):
    ae = AutoencoderTransformer(3, max_iter=1, random_state=0, **options).fit(LIKELIHOODS["gaussian"].rows(N, P))
    assert not DenseGradient.covers(ae.model_, "float32")


def test_lower_precision_goes_through_autograd():
    ae = AutoencoderTransformer(3, max_iter=1, random_state=0).fit(LIKELIHOODS["gaussian"].rows(N, P))
    assert DenseGradient.covers(ae.model_, "float32")
    assert not DenseGradient.covers(ae.model_, "bfloat16")


def test_training_is_the_same_by_hand_and_by_autograd(monkeypatch):
    X = LIKELIHOODS["gaussian"].rows(80, P)
    ae = AutoencoderTransformer(
        2, hidden_layer_sizes=(6,), max_iter=5, batch_size=16, early_stopping=False, optimizer=AdamW(clip_norm=1.0)
    ).set_params(random_state=0)
    by_hand = clone(ae).fit(X)
    monkeypatch.setattr("skae.training.trainer.DenseGradient", SimpleNamespace(covers=lambda *_: False))
    by_autograd = clone(ae).fit(X)
    np.testing.assert_allclose(by_hand.loss_curve_, by_autograd.loss_curve_, rtol=1e-5)
    codes, expected = by_hand.transform(X), by_autograd.transform(X)
    # Adam divides rounding errors by their own size where a gradient vanishes, as at PCA.
    np.testing.assert_allclose(codes, expected, rtol=0, atol=1e-3 * expected.std())


def test_the_trainer_takes_the_gradient_by_hand(monkeypatch):
    called = []
    inside = DenseGradient.__call__
    monkeypatch.setattr(DenseGradient, "__call__", lambda *args: called.append(1) or inside(*args))
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(6,), max_iter=2, early_stopping=False, batch_size=40)
    ae.fit(LIKELIHOODS["gaussian"].rows(80, P))
    assert len(called) == 4
