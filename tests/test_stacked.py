"""StackedAE: the layers are taken over exactly, and the whole is better than its layers."""

import numpy as np
import pytest
import torch
from registry import assert_same_state, counts, real, shares
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skae import AutoencoderClassifier, Masking, StackedAE
from skae.autoencoders import _stacked
from skae.model.networks import ACTIVATIONS

P = 6


def recorded(monkeypatch) -> list:
    """The layers that fits train, in order."""
    made = []
    inside = StackedAE._layer

    def layer(self, *args):
        made.append(inside(self, *args))
        return made[-1]

    monkeypatch.setattr(StackedAE, "_layer", layer)
    return made


CASES = {
    "linear": (dict(layer="autoencoder", activation="identity"), real),
    "gelu": (dict(layer="denoising"), real),
    "logistic": (dict(layer="denoising", activation="logistic"), real),
    "contractive": (dict(layer="contractive", code_activation="tanh"), real),
    "bernoulli": (dict(layer="denoising", likelihood="bernoulli", activation="logistic"), shares),
    "poisson": (dict(layer="autoencoder", likelihood="poisson"), counts),
    "rbm": (dict(layer="rbm"), real),
    "rbm-binary": (dict(layer="rbm", likelihood="bernoulli", code_activation="logistic"), shares),
}


@pytest.mark.parametrize("case", list(CASES))
def test_the_encoder_is_that_of_the_layers(case, monkeypatch):
    """Without fine-tuning, the code is what the layers make of each other's codes."""
    parameters, rows = CASES[case]
    X = rows(80, P)
    layers = recorded(monkeypatch)
    stack = StackedAE(2, hidden_layer_sizes=(5, 4), max_iter=0, pretraining_iter=3, random_state=0, **parameters)
    codes = stack.fit(X).transform(X)
    assert [layer.n_components for layer in layers] == [5, 4, 2]
    expected = X
    for layer in layers:
        expected = layer.transform(expected)
    np.testing.assert_allclose(codes, expected, rtol=1e-4, atol=1e-5)


def assert_decodes_like_its_layers(stack, X, layers):
    """The whole decodes codes as its layers do, one after the other, in the units of X."""
    codes = stack.fit(X).transform(X)
    expected = codes
    for layer in reversed(layers):
        expected = layer.inverse_transform(expected)
    np.testing.assert_allclose(stack.inverse_transform(codes), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(stack.reconstruct(X), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", list(CASES))
def test_the_decoder_is_that_of_the_layers(case, monkeypatch):
    parameters, rows = CASES[case]
    layers = recorded(monkeypatch)
    stack = StackedAE(2, hidden_layer_sizes=(5, 4), max_iter=0, pretraining_iter=3, random_state=0, **parameters)
    assert_decodes_like_its_layers(stack, rows(80, P), layers)


@pytest.mark.parametrize("layer", ["denoising", "autoencoder", "contractive"])
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_the_decoder_is_that_of_the_layers_with_every_activation(activation, layer, monkeypatch):
    layers = recorded(monkeypatch)
    options = {"activation": activation, "layer": layer, "pretraining_iter": 3, "max_iter": 0, "random_state": 0}
    assert_decodes_like_its_layers(StackedAE(2, hidden_layer_sizes=(5, 4), **options), real(80, P), layers)


@pytest.mark.parametrize("activation", ["gelu", "silu", "tanh"])
def test_pretraining_alone_rebuilds_the_digits(activation):
    """The unrolled network is as good as its layers: 0.70, 0.70 and 0.69, and the columns' means have 4.69."""
    X = load_digits().data / 16
    options = {"layer": "autoencoder", "activation": activation, "max_iter": 0, "random_state": 0}
    stack = StackedAE(20, hidden_layer_sizes=(128, 64), **options).fit(X)
    assert np.square(X - stack.reconstruct(X)).sum(1).mean() < 0.8


@pytest.mark.parametrize("layer", ["denoising", "autoencoder", "contractive", "rbm"])
def test_fine_tuning_helps(layer):
    X = load_digits().data
    A, B = X[:1200], X[1200:]

    def error(estimator):
        return np.square(B - estimator.inverse_transform(estimator.transform(B))).sum(1).mean()

    stack = StackedAE(10, hidden_layer_sizes=(64,), layer=layer, max_iter=0, random_state=0).fit(A)
    tuned = clone(stack).set_params(max_iter=30).fit(A)
    assert error(tuned) < error(stack)
    assert error(tuned) < error(PCA(10).fit(A))


def test_it_goes_on_from_the_whole_with_a_warm_start(monkeypatch):
    X = real(80, P)
    stack = StackedAE(2, hidden_layer_sizes=(5,), pretraining_iter=2, max_iter=3, early_stopping=False, random_state=0)
    stack.set_params(warm_start=True).fit(X)
    monkeypatch.setattr(StackedAE, "_layer", None)
    first = stack.loss_curve_[-1]
    assert stack.fit(X).loss_curve_[-1] < first


def test_the_same_seed_gives_the_same_weights():
    X = real(80, P)
    stack = StackedAE(2, hidden_layer_sizes=(5,), pretraining_iter=2, max_iter=2, random_state=0)
    assert_same_state(clone(stack).fit(X), clone(stack).fit(X))


def test_an_interrupted_layer_leaves_the_earlier_fit(monkeypatch):
    X = real(80, P)
    stack = StackedAE(2, hidden_layer_sizes=(5,), pretraining_iter=2, max_iter=2, random_state=0).fit(X)
    before = stack.transform(X)

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(_stacked, "take_layer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stack.fit(X[:40])
    np.testing.assert_array_equal(stack.transform(X), before)
    fresh = clone(stack)
    with pytest.raises(KeyboardInterrupt):
        fresh.fit(X)
    assert not hasattr(fresh, "model_")


def test_layers_of_boltzmann_machines_are_logistic():
    with pytest.raises(ValueError, match="the units of layer='rbm' are logistic"):
        StackedAE(2, layer="rbm", activation="gelu").fit(real(60, P))
    with pytest.raises(ValueError, match="layer='rbm' has 'identity'"):
        StackedAE(2, layer="rbm", code_activation="gelu").fit(real(60, P))


def test_the_corruption_is_the_layers_alone():
    stack = StackedAE(2, hidden_layer_sizes=(5,), corruption=Masking(0.5), pretraining_iter=2, max_iter=2)
    assert stack.fit(real(60, P)).model_.corruption is None


def test_fine_tune_leaves_the_stack_as_it_was():
    X = real(90, P)
    y = (X[:, 0] > X[:, 0].mean()).astype(int)
    stack = StackedAE(3, hidden_layer_sizes=(8,), pretraining_iter=2, max_iter=0, random_state=0).fit(X)
    before = {name: tensor.clone() for name, tensor in stack.model_.state_dict().items()}
    classifier = stack.fine_tune(X, y, max_iter=200, early_stopping=False, random_state=0)
    assert isinstance(classifier, AutoencoderClassifier)
    assert classifier.score(X, y) > 0.9
    for name, tensor in stack.model_.state_dict().items():
        assert torch.equal(tensor, before[name])
