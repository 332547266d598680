"""ContractiveAE and its penalty: the Jacobian's norm, its estimates, and what they do to a code."""

import numpy as np
import pytest
import torch
from registry import assert_same_state, columns_of, generator, real
from sklearn.datasets import load_digits
from torch.autograd.functional import jacobian as jacobian_by_autograd

from skae import LBFGS, AutoencoderTransformer, Contraction, ContractiveAE, DenseNetwork
from skae.model.autoencoder import Autoencoder
from skae.model.contraction import SLOPES, closed_form, jacobian
from skae.model.likelihoods import Gaussian
from skae.model.networks import ACTIVATIONS
from skae.model.posteriors import Point
from skae.model.step import Step

P, D = 5, 3
SHALLOW = {
    **{f"one-{activation}": (DenseNetwork((6,), activation), "identity", "random") for activation in ACTIVATIONS},
    "none": (DenseNetwork(()), "identity", "random"),
    "none-logistic": (DenseNetwork(()), "logistic", "random"),
    "none-relu": (DenseNetwork(()), "relu", "random"),
    "one-tied": (DenseNetwork((6,), "tanh", tied=True), "identity", "random"),
}
OTHERS = {
    "one-logistic-code": (DenseNetwork((6,)), "logistic", "random"),
    "two": (DenseNetwork((6, 5), "gelu"), "identity", "random"),
    "pca-none": (DenseNetwork(()), "identity", "pca"),
    "pca-one": (DenseNetwork((6,), "tanh"), "identity", "pca"),
}
EACH = {**SHALLOW, **OTHERS}


def _step(name, **options):
    """Some rows in a model in double precision, away from its start."""
    network, activation, init = EACH[name]
    columns = columns_of(real(50, P), Gaussian())
    model = Autoencoder(network, Point(activation), Gaussian(), columns, D, shortcut=init == "pca")
    model.reset(generator())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator()))
    x, _ = model.double().scaling.input(torch.tensor(real(4, P)))
    return Step(model, x, x, **options)


def _autograd(step, x=None):
    """The Jacobians of the encoder, row by row."""
    rows = step.seen if x is None else x
    one = lambda row: step.encoder_function(row[None])[0]  # noqa: E731
    return torch.stack([jacobian_by_autograd(one, row) for row in rows])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_slopes_are_the_activations_derivatives(activation):
    x = torch.linspace(-4, 4, 100, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(ACTIVATIONS[activation](x.clone()).sum(), x)
    torch.testing.assert_close(SLOPES[activation](x), slope)


@pytest.mark.parametrize("name", EACH)
def test_the_exact_norm_is_autograds(name):
    step = _step(name)
    expected = _autograd(step)
    torch.testing.assert_close(jacobian(step.encoder_function, step.seen), expected)
    norm = expected.square().sum((1, 2))
    torch.testing.assert_close(Contraction(estimator="exact").squared_norm(step), norm, rtol=1e-5, atol=1e-12)
    assert (closed_form(step) is not None) == (name in SHALLOW)


@pytest.mark.parametrize("name", ["one-tanh", "none-logistic", "two", "pca-one"])
def test_the_gradient_of_the_exact_norm_is_a_finite_difference(name):
    step, part = _step(name), Contraction(estimator="exact")
    again = lambda: part.squared_norm(Step(step.model, step.input, step.input)).sum()  # noqa: E731
    again().backward()
    for parameter in step.model.encoder.parameters():
        flat, gradient = parameter.data.view(-1), parameter.grad
        around = []
        for shift in (1e-6, -1e-6):
            flat[0] += shift
            around.append(float(again().detach()))
            flat[0] -= shift
        found = 0.0 if gradient is None else float(gradient.view(-1)[0])
        assert found == pytest.approx((around[0] - around[1]) / 2e-6, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("estimator", ["hutchinson", "finite_difference"])
@pytest.mark.parametrize("name", ["one-tanh", "none-logistic", "two", "pca-one"])
def test_estimates_are_unbiased(name, estimator):
    random = generator()
    step = _step(name, generator=random)
    exact, part = Contraction(estimator="exact").squared_norm(step), Contraction(estimator=estimator, noise_scale=1e-3)
    draws = torch.stack([part.squared_norm(step).detach() for _ in range(3000)])
    assert ((draws.mean(0) - exact).abs() < 5 * draws.std(0) / 3000**0.5 + 1e-5 * exact).all()


@pytest.mark.parametrize("estimator", ["exact", "hutchinson", "finite_difference"])
def test_the_second_order_term_is_the_jacobians_change(estimator):
    """E‖J(x) − J(x + ε)‖² ≈ σ² Σ (∂J/∂x)², whatever the estimator."""
    step = _step("two", generator=generator())
    sigma, gamma = 1e-2, 1e4
    one = lambda row: step.encoder_function(row[None])[0]  # noqa: E731
    change = torch.func.vmap(torch.func.jacrev(torch.func.jacrev(one)))(step.seen).square().sum((1, 2, 3))
    first = Contraction(estimator="exact").squared_norm(step)
    part = Contraction(estimator=estimator, second_order=gamma, noise_scale=sigma)
    draws = torch.stack([part.squared_norm(step).detach() for _ in range(3000)])
    error = 5 * draws.std(0) / 3000**0.5 + 0.01 * first
    assert ((draws.mean(0) - first - gamma * sigma**2 * change).abs() < error).all()


def _mean_norm(ae, X):
    """Mean ‖∂f/∂x‖_F on rows, with respect to the standardised rows, and the same for a code of unit variance."""
    x, _ = ae.model_.scaling.input(torch.tensor(X))
    with torch.no_grad():
        step = Step(ae.model_.in_float64(), x, x)
        norm = float(jacobian(step.encoder_function, x).square().sum((1, 2)).sqrt().mean())
        return norm, norm / float(step.code.var(0).sum().sqrt())


def test_the_jacobian_is_ten_times_smaller_and_the_rows_are_still_rebuilt():
    X = load_digits().data
    train, test = X[:1300], X[1300:]
    plain = AutoencoderTransformer(30, max_iter=15, random_state=0).fit(train)
    cae = ContractiveAE(30, max_iter=15, random_state=0).fit(train)
    (plain_norm, plain_relative), (norm, relative) = _mean_norm(plain, test), _mean_norm(cae, test)
    assert norm < plain_norm / 10
    # Not by a smaller code alone.
    assert relative < 0.8 * plain_relative
    assert ((test - cae.reconstruct(test)) ** 2).sum() < 0.4 * ((test - train.mean(0)) ** 2).sum()


def test_neither_units_nor_copies_of_the_columns_change_what_a_weight_does():
    X = real(200, P)
    options = {"hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0, "early_stopping": False}
    one, scaled = (ContractiveAE(2, **options).fit(X * unit) for unit in (1.0, 1024.0))
    np.testing.assert_allclose(one.transform(X), scaled.transform(1024 * X), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.divide(*(ae.loss_terms_["contraction"] for ae in (scaled, one))), 2**20, rtol=1e-3)


@pytest.mark.parametrize("hidden", [(), (8,), (8, 6)])
def test_l_bfgs_lowers_the_loss_and_refits_are_identical(hidden):
    X = real(150, P)
    options = {"hidden_layer_sizes": hidden, "estimator": "exact", "optimizer": LBFGS(), "max_iter": 15}
    one, other = (ContractiveAE(2, random_state=0, early_stopping=False, **options).fit(X) for _ in range(2))
    assert_same_state(one, other)
    assert one.loss_curve_[-1] < one.loss_curve_[0]
    # A function without noise: each epoch's loss is at most the one before.
    assert (np.diff(one.loss_curve_) <= 1e-6 * one.loss_curve_[0]).all()


@pytest.mark.parametrize("options", [{}, {"init": "pca"}, {"second_order": 1.0}, {"estimator": "exact"}], ids=str)
def test_contraction_trades_error_for_a_smaller_jacobian(options):
    X, norms = real(200, P), []
    for contraction in (0.0, 0.3):
        ae = ContractiveAE(3, contraction=contraction, hidden_layer_sizes=(16,), max_iter=30, learning_rate=0.01)
        norms.append(_mean_norm(ae.set_params(random_state=0, early_stopping=False, **options).fit(X), X)[0])
    assert norms[1] < 0.6 * norms[0]
