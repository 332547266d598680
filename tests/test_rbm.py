"""RBM: the gradient, the free energy and the samples are those of the formula."""

import itertools

import numpy as np
import pytest
import torch
from registry import generator
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.neural_network import BernoulliRBM

from skae import RBM

RNG = np.random.default_rng(0)
P, H = 4, 3
STATES = {n: np.array(list(itertools.product([0.0, 1.0], repeat=n))) for n in (P, H)}


def coins(n=400):
    """Binary rows with dependent columns."""
    hidden = RNG.random((n, 1)) < 0.5
    X = np.where(RNG.random((n, P)) < 0.85, hidden, ~hidden).astype(float)
    X[:, -1] = RNG.random(n) < 0.3
    return X


def fitted(**parameters) -> RBM:
    """An RBM with weights of a size that matters."""
    rbm = RBM(H, max_iter=1, random_state=0, **parameters).fit(coins())
    with torch.no_grad():
        for parameter in rbm.model_.parameters():
            parameter.normal_(generator=generator(1))
    rbm.model_.forget_float64()
    return rbm


def energies(rbm: RBM) -> np.ndarray:
    """E(v, h) for all states, written out: of shape (2^P, 2^H)."""
    model = rbm.model_
    W, b = (parameter.detach().double().numpy() for parameter in (model.encoder.weight, model.encoder.bias))
    c = model.decoder.bias.detach().double().numpy()
    columns = model.scaling.columns
    x = (STATES[P] - columns.mean.numpy()) / float(columns.spread)
    return -(STATES[P] @ c)[:, None] - STATES[H] @ b - x @ W.T @ STATES[H].T


def test_score_samples_is_minus_the_free_energy_of_the_formula():
    rbm = fitted()
    expected = np.log(np.exp(-energies(rbm)).sum(1))
    np.testing.assert_allclose(rbm.score_samples(STATES[P]), expected, rtol=1e-6)


def test_the_code_is_the_mean_of_the_hidden_units():
    rbm = fitted()
    joint = np.exp(-energies(rbm))
    expected = joint @ STATES[H] / joint.sum(1, keepdims=True)
    np.testing.assert_allclose(rbm.transform(STATES[P]), expected, rtol=1e-6)


def test_decoding_is_the_mean_of_the_visible_units():
    rbm = fitted()
    joint = np.exp(-energies(rbm)).T
    expected = joint @ STATES[P] / joint.sum(1, keepdims=True)
    np.testing.assert_allclose(rbm.inverse_transform(STATES[H]), expected, rtol=1e-5, atol=1e-7)


def test_pseudo_log_likelihood_is_that_of_the_formula():
    rbm = fitted()
    log_p = np.log(np.exp(-energies(rbm)).sum(1))
    expected = np.zeros(len(log_p))
    for i, state in enumerate(STATES[P]):
        for j in range(P):
            flipped = state.copy()
            flipped[j] = 1 - flipped[j]
            other = log_p[np.flatnonzero((STATES[P] == flipped).all(1))[0]]
            expected[i] += log_p[i] - np.logaddexp(log_p[i], other)
    np.testing.assert_allclose(rbm.pseudo_log_likelihood(STATES[P]), expected, rtol=1e-6)
    assert rbm.score(STATES[P]) == pytest.approx(expected.mean(), rel=1e-6)


@pytest.mark.parametrize("chains", [1, 6])
def test_gibbs_sampling_has_the_models_distribution(chains):
    """Randomised, with a fixed seed: 20000 independent ends of chains, five standard errors."""
    rbm = fitted()
    p = np.exp(-energies(rbm)).sum(1)
    p /= p.sum()
    model = rbm.model_
    draw = generator(2)
    start = torch.tensor(STATES[P][np.random.default_rng(3).choice(len(p), 20000, p=p)], dtype=torch.float32)
    with torch.no_grad():
        end = model.posterior.gibbs(model, start, chains, draw).numpy()
    index = (end @ (2 ** np.arange(P)[::-1])).astype(int)
    found = np.bincount(index, minlength=len(p)) / len(end)
    assert (np.abs(found - p) < 5 * np.sqrt(p * (1 - p) / len(end)) + 1e-4).all()


@pytest.mark.parametrize("hidden", ["binary", "gaussian"])
@pytest.mark.parametrize("visible", ["binary", "gaussian"])
def test_the_gradient_is_that_of_contrastive_divergence(visible, hidden):
    """⟨h x⟩ of the rows less that of where the chains ended, and likewise for the biases."""
    rbm = fitted(visible=visible, hidden=hidden)
    model, X = rbm.model_, torch.tensor(coins(50), dtype=torch.float32)
    input, target, _ = model.prepare_for_training(X)
    model.zero_grad()
    step = model.step(input, target, generator=generator(5))
    (step.terms["contrastive_divergence"].mean() * step.loss_scale).backward()
    with torch.no_grad():
        end = model.posterior.gibbs(model, target, 1, generator(5), last="mean")
        x_end = model.scaling.input(model.scaling.from_target(end))[0]
        h, h_end = (model.posterior.mean(model.encoder(x)) for x in (input, x_end))
        weight = (h_end.T @ x_end - h.T @ input) / len(X)
        hidden_bias = (h_end - h).mean(0)
        visible_bias = (end - target).mean(0)
    torch.testing.assert_close(model.encoder.weight.grad, weight, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model.encoder.bias.grad, hidden_bias, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model.decoder.bias.grad, visible_bias, rtol=1e-4, atol=1e-6)


def test_it_learns_the_distribution():
    """Of three dependent columns and one that is not: every state's share within .02."""
    X = coins(4000)
    rbm = RBM(6, n_gibbs=5, max_iter=100, learning_rate=0.01, random_state=0).fit(X)
    index = (X @ (2 ** np.arange(P)[::-1])).astype(int)
    shares = np.bincount(index, minlength=2**P) / len(X)
    p = np.exp(rbm.score_samples(STATES[P]))
    np.testing.assert_allclose(p / p.sum(), shares, atol=0.02)


def test_pseudo_likelihood_above_scikit_learns_on_digits():
    X = load_digits().data / 16
    theirs = BernoulliRBM(64, learning_rate=0.1, n_iter=20, random_state=0).fit(X[:1200])
    ours = RBM(64, max_iter=20, random_state=0).fit(X[:1200])
    same = clone(ours).fit(X[:1200])
    model, columns = same.model_, same.model_.scaling.columns
    # Their weights in our model: an energy without centring.
    W = torch.tensor(theirs.components_)
    with torch.no_grad():
        model.encoder.weight.copy_(W * float(columns.spread))
        model.encoder.bias.copy_(torch.tensor(theirs.intercept_hidden_) + W @ columns.mean)
        model.decoder.bias.copy_(torch.tensor(theirs.intercept_visible_))
    model.forget_float64()
    np.testing.assert_allclose(same.transform(X), theirs.transform(X), atol=1e-5)
    assert ours.score(X[1200:]) > same.score(X[1200:])


def test_persistent_chains_go_on_and_draw():
    X = coins(300)
    rbm = RBM(4, persistent=True, max_iter=30, random_state=0).fit(X)
    drawn = rbm.sample(2000, n_gibbs=50, random_state=0)
    assert drawn.shape == (2000, P)
    np.testing.assert_allclose(drawn.mean(0), X.mean(0), atol=0.12)


def test_samples_may_start_at_rows():
    rbm = fitted()
    X = STATES[P][:5]
    assert rbm.sample(5, X=X, n_gibbs=1, random_state=0).shape == (5, P)
    with pytest.raises(ValueError, match="one chain a row"):
        rbm.sample(3, X=X)


def test_gaps_are_taken_as_expected():
    X = coins()
    X[::7, 0] = np.nan
    rbm = RBM(4, max_iter=20, random_state=0).fit(X)
    rebuilt = rbm.reconstruct(X)
    assert np.isfinite(rebuilt).all() and np.isfinite(rbm.score_samples(X)).all()
    # Columns 0 to 2 agree in most rows.
    gaps = np.isnan(X[:, 0])
    assert np.corrcoef(rebuilt[gaps, 0], X[gaps, 1])[0, 1] > 0.5


def test_line_searches_are_refused():
    with pytest.raises(ValueError, match="contrastive divergence is not the gradient"):
        RBM(2, optimizer="lbfgs").fit(coins())


def test_the_pseudo_likelihood_needs_binary_units():
    rbm = RBM(2, visible="gaussian", max_iter=2, random_state=0).fit(coins())
    with pytest.raises(ValueError, match="visible='gaussian' has score_samples"):
        rbm.pseudo_log_likelihood(coins())
    assert np.isfinite(rbm.score(coins()))
