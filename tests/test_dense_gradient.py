"""The gradient written out by hand against autograd's."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from registry import LIKELIHOODS, PENALTIES, Example, generator, over, tables
from sklearn.base import clone

from skae import (
    VAE,
    AdamW,
    Anchor,
    AutoencoderTransformer,
    Contraction,
    DenoisingAE,
    DenseNetwork,
    GaussianCode,
    GaussianNoise,
    LaplaceCode,
    MaskedAE,
    Masking,
    Mixed,
)
from skae.training.batches import Batch
from skae.training.dense_gradient import DenseGradient
from skae.training.dense_paths import ACTIVATIONS
from skae.training.players import make_players

N, P = 16, 5
UNCOVERED = ("bounded_gaussian", "negative_binomial", "student_t", "multinomial", "example")
COVERED = {name: example for name, example in LIKELIHOODS.items() if not name.startswith(UNCOVERED)}
COVERED["mixed"] = Example(Mixed([("gaussian", 1), ("categorical", 2), ("bernoulli", 1), ("gaussian", 1)]), tables)
COVERED["mixed-columns"] = Example(clone(COVERED["mixed"].part).set_params(scale="columns"), tables)
CONDITIONS = {
    "plain": {},
    "level": {"corruption": GaussianNoise((0.1, 1.0)), "conditioning": "noise_level"},
    "mask": {"corruption": Masking(0.3), "conditioning": "mask"},
}
SIDE_BY_SIDE = pytest.mark.parametrize("n_models", [1, 3], ids=["one", "three"])


def _models_and_batches(estimator, example, n_models, gaps=False, weighted=False):
    """Models away from their start, each with rows of its own."""
    models, batches = [], []
    for index in range(n_models):
        X = example.rows(N, P, index)
        if gaps:
            X = np.where(np.random.default_rng(index).random(X.shape) < 0.2, np.nan, X)
        fitted = clone(estimator).set_params(max_iter=1, early_stopping=False, random_state=index)
        classes = np.eye(3)[np.arange(N) % 3]
        fitted.fit(X, classes.argmax(1))
        with torch.no_grad():
            for parameter in fitted.model_.parameters():
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator()))
        weight = torch.rand(N, generator=generator(index)) if weighted else None
        models.append(fitted.model_)
        told = [torch.tensor(classes)] if fitted.model_.n_classes else []
        batches.append(Batch(*fitted.model_.prepare_for_training(torch.tensor(X), *told), weight))
    return models, batches


def _stacked(batches):
    if len(batches) == 1:
        return batches[0]
    made = [None if part[0] is None else torch.stack(part) for part in zip(*batches, strict=True)]
    if batches[0].target is batches[0].input:
        made[1] = made[0]
    return Batch(*made)


def _assert_same(models, batches, progress=1.0):
    """Gradient and loss of each model are autograd's."""
    assert DenseGradient.covers(models[0], "float32")
    (player,) = make_players(models, AdamW(), 1e-3)
    player.flat.gradient.fill_(7.0)
    by_hand = DenseGradient(models, player.flat)
    by_hand(_stacked(batches), generator(1), progress)
    totals = by_hand.collect([N] * len(models), batches[0].observed is not None)
    made = [[parameter.grad.clone() for parameter in parameters] for parameters in player.flat.models]
    player.flat.gradient.zero_()
    source = generator(1)
    for index, (model, batch) in enumerate(zip(models, batches, strict=True)):
        step = model.step(batch.input, batch.target, batch.observed, generator=source, progress=progress)
        weight = torch.ones(N) if batch.weight is None else batch.weight
        assert step.terms.keys() == totals.keys()
        for name, term in step.terms.items():
            if batch.observed is None and batch.weight is not None and name == "negative_log_likelihood":
                continue  # its constant counts the weights of an epoch, whose mean is one
            torch.testing.assert_close(totals[name][index].float(), (term @ weight).detach(), rtol=1e-5, atol=1e-4)
        player.backward(step.terms, weight * model.loss_scale / N, index)
        largest = max(float(parameter.grad.abs().max()) for parameter in player.flat.models[index])
        for parameter, gradient in zip(player.flat.models[index], made[index], strict=True):
            torch.testing.assert_close(gradient / largest, parameter.grad / largest, rtol=0, atol=1e-5)


def _plain(example, **options):
    options = {"hidden_layer_sizes": (7, 6), "activation": "tanh", "penalties": []} | options
    return AutoencoderTransformer(3, likelihood=clone(example.part), **options)


def _denoising(example, condition, **options):
    options = {"corruption": Masking(0.2), **options, **CONDITIONS[condition]}
    return DenoisingAE(3, likelihood=clone(example.part), **options)


@SIDE_BY_SIDE
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("init", ["pca", "random"])
@pytest.mark.parametrize("example", **over(COVERED))
def test_likelihoods_weights_and_gaps(example, init, weighted, gaps, n_models):
    estimator = _plain(example, init=init)
    _assert_same(*_models_and_batches(estimator, example, n_models, gaps, weighted))


@SIDE_BY_SIDE
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("example", **over(COVERED))
def test_normal_codes(example, weighted, gaps, n_models):
    estimator = VAE(4, hidden_layer_sizes=(7,), likelihood=clone(example.part), beta=0.7, kl_warm_up=0.5)
    _assert_same(*_models_and_batches(estimator, example, n_models, gaps, weighted), progress=0.3)


@SIDE_BY_SIDE
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
@pytest.mark.parametrize("hidden", [(), (7,)])
@pytest.mark.parametrize("init", ["pca", "random"])
@pytest.mark.parametrize("name", ["gaussian", "gaussian-columns", "bernoulli", "mixed"])
def test_codes_of_rows_of_classes(name, init, hidden, gaps, n_models):
    example = COVERED[name]
    estimator = VAE(3, hidden_layer_sizes=hidden, likelihood=clone(example.part), init=init, conditional=True)
    _assert_same(*_models_and_batches(estimator, example, n_models, gaps, True), progress=0.3)


def test_normal_codes_at_the_bounds_of_their_variance():
    models, batches = _models_and_batches(VAE(4, hidden_layer_sizes=()), COVERED["gaussian"], 1)
    with torch.no_grad():
        models[0].encoder.linear.bias[4:] = torch.tensor([-50.0, 25.0, 0.0, 1.0])
        models[0].decoder.linear.weight.mul_(1e-3)
    _assert_same(models, batches)


@SIDE_BY_SIDE
@pytest.mark.parametrize("init", ["pca", "random"])
@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("activation", [*ACTIVATIONS, "identity"])
def test_activations_and_conditions(activation, condition, init, n_models):
    example = COVERED["gaussian"]
    estimator = _denoising(example, condition, activation=activation, init=init, hidden_layer_sizes=(7, 6))
    _assert_same(*_models_and_batches(estimator, example, n_models))


@SIDE_BY_SIDE
@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("hidden", [(), (7,), (7, 6, 4)])
def test_depths(hidden, condition, n_models):
    example = COVERED["gaussian"]
    for init in ("pca", "random"):
        estimator = _denoising(example, condition, init=init, hidden_layer_sizes=hidden)
        _assert_same(*_models_and_batches(estimator, example, n_models))


@SIDE_BY_SIDE
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("init", ["pca", "random"])
@pytest.mark.parametrize(
    "penalties", [[Anchor(0.5)], [LaplaceCode(0.3)], [GaussianCode(0.2)], [Anchor(), LaplaceCode(0.1)]], ids=str
)
@pytest.mark.parametrize("example", **over(COVERED))
def test_penalties_of_the_code(example, penalties, init, weighted, n_models):
    estimator = _plain(example, penalties=penalties, init=init)
    _assert_same(*_models_and_batches(estimator, example, n_models, weighted=weighted))


@SIDE_BY_SIDE
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("name", ["gaussian", "gaussian-shared", "gaussian-columns", "mixed", "mixed-columns"])
def test_what_a_guess_leaves_over(name, weighted, gaps, n_models):
    example = COVERED[name]
    estimator = MaskedAE(4, hidden_layer_sizes=(7,), likelihood=clone(example.part))
    _assert_same(*_models_and_batches(estimator, example, n_models, gaps, weighted))


class _PenalisedVAE(VAE):
    def _penalty_parts(self):
        return [Anchor(0.5), GaussianCode(0.2)]


def test_penalties_of_normal_codes():
    example = COVERED["gaussian"]
    _assert_same(*_models_and_batches(_PenalisedVAE(4, hidden_layer_sizes=(6,)), example, 1))


@pytest.mark.parametrize(
    "options",
    [
        {"network": DenseNetwork((7,), tied=True)},
        {"network": DenseNetwork((), tied=True)},
        {"network": DenseNetwork((7,), dropout=0.1)},
        {"network": DenseNetwork((7,), input_dropout=0.1)},
        {"likelihood": "student_t"},
        {"penalties": [Contraction()]},
    ],
    ids=str,
)
def test_what_is_not_covered_goes_through_autograd(options):
    ae = AutoencoderTransformer(3, max_iter=1, random_state=0, **options).fit(LIKELIHOODS["gaussian"].rows(N, P))
    assert not DenseGradient.covers(ae.model_, "float32")


@pytest.mark.parametrize("options", [{"n_importance_samples": 3}, {"free_bits": 0.1}], ids=str)
def test_other_bounds_go_through_autograd(options):
    ae = VAE(3, max_iter=1, random_state=0, **options).fit(LIKELIHOODS["gaussian"].rows(N, P))
    assert not DenseGradient.covers(ae.model_, "float32")


def test_lower_precision_goes_through_autograd():
    ae = AutoencoderTransformer(3, max_iter=1, random_state=0).fit(LIKELIHOODS["gaussian"].rows(N, P))
    assert DenseGradient.covers(ae.model_, "float32")
    assert not DenseGradient.covers(ae.model_, "bfloat16")


TRAINED = {
    "plain": AutoencoderTransformer(2, optimizer=AdamW(clip_norm=1.0)),
    "silu": AutoencoderTransformer(2, activation="silu", penalties=[PENALTIES["laplace"]]),
    "denoising": DenoisingAE(2, corruption=GaussianNoise((0.1, 0.5)), conditioning="noise_level"),
    "vae": VAE(2, kl_warm_up=0.5),
    "vae-classes": VAE(2, conditional=True),
    "masked": MaskedAE(2),
}


@pytest.mark.parametrize("estimator", **over(TRAINED))
def test_training_is_the_same_by_hand_and_by_autograd(estimator, monkeypatch):
    X = LIKELIHOODS["gaussian"].rows(80, P)
    options = {"hidden_layer_sizes": (6,), "max_iter": 5, "batch_size": 16, "early_stopping": False}
    ae = clone(estimator).set_params(random_state=0, **options)
    by_hand = clone(ae).fit(X, np.arange(80) % 3)
    monkeypatch.setattr("skae.training.trainer.DenseGradient", SimpleNamespace(covers=lambda *_: False))
    by_autograd = clone(ae).fit(X, np.arange(80) % 3)
    np.testing.assert_allclose(by_hand.loss_curve_, by_autograd.loss_curve_, rtol=1e-5)
    for name, values in by_autograd.loss_terms_.items():
        np.testing.assert_allclose(by_hand.loss_terms_[name], values, rtol=1e-4, atol=1e-5)
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


def test_the_loss_of_chunks_with_and_without_gaps(monkeypatch):
    whole = LIKELIHOODS["gaussian"].rows(60, P)
    gappy = np.where(np.random.default_rng(0).random(whole.shape) < 0.2, np.nan, whole)

    def curve():
        ae = AutoencoderTransformer(2, hidden_layer_sizes=(6,), batch_size=16, random_state=0)
        for chunk in (whole, gappy, whole, gappy):
            ae.partial_fit(chunk)
        return ae.loss_curve_

    by_hand = curve()
    monkeypatch.setattr("skae.training.trainer.DenseGradient", SimpleNamespace(covers=lambda *_: False))
    np.testing.assert_allclose(by_hand, curve(), rtol=1e-4)
