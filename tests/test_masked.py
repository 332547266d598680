"""MaskedAE: it starts at the best linear guess, learns what that misses, and counts hidden entries alone."""

import pickle

import numpy as np
import pytest
import torch
from registry import assert_same_state, generator, over, real, tables
from scipy.stats import norm
from sklearn.base import clone

from skae import MaskedAE, Mixed
from skae.model.conditional_gaussian import MAX_DENSE, estimate, estimate_normal, guess, guess_hidden
from skae.training.batches import Batch

P = 5
MAE = MaskedAE(4, hidden_layer_sizes=(16,), max_iter=3, early_stopping=False, random_state=0)
# Steps so small that nothing is learnt.
START = clone(MAE).set_params(max_iter=1, learning_rate=1e-30)
MIXED = Mixed([("gaussian", 1), ("categorical", 2), ("bernoulli", 1), ("gaussian", 1)])


def gappy_rows(n=200, p=P, share=0.3, seed=0):
    X = real(n, p, seed)
    return X, np.where(np.random.default_rng(seed + 1).random(X.shape) < share, np.nan, X)


def linear_guess(X, moments):
    """Conditional mean and variance of the gaps, in the units of X."""
    known = torch.tensor(~np.isnan(X), dtype=torch.float64)
    rows = torch.nan_to_num(torch.tensor(X))
    return [values.numpy() for values in guess_hidden(rows, known, *moments)]


def moments_of(X):
    return estimate(torch.nan_to_num(torch.tensor(X)), torch.tensor(~np.isnan(X), dtype=torch.float64))


# The start -------------------------------------------------------------------------------------


def test_it_starts_at_the_best_linear_guess():
    _, X = gappy_rows()
    made = clone(START).fit(X).reconstruct(X)
    expected, _ = linear_guess(X, moments_of(X))
    np.testing.assert_allclose(made, expected, rtol=1e-3, atol=1e-3)


def test_wide_tables_start_at_the_guess_of_factors():
    p = MAX_DENSE + 4
    _, X = gappy_rows(300, p)
    mae = clone(START).fit(X)
    assert mae.model_.guess_covariance is None
    rows, known = torch.nan_to_num(torch.tensor(X)), torch.tensor(~np.isnan(X), dtype=torch.float64)
    expected, _ = guess(rows, known, estimate_normal(rows, known, None, 32))
    np.testing.assert_allclose(mae.reconstruct(X), expected, rtol=1e-3, atol=1e-3)


def test_whatever_is_learnt_a_silent_decoder_leaves_the_guess():
    _, X = gappy_rows()
    mae = clone(MAE).set_params(max_iter=20).fit(X)
    before = mae.reconstruct(X)
    with torch.no_grad():
        for parameter in mae.model_.decoder.parameters():
            parameter.zero_()
    mae.model_.forget_float64()
    expected, _ = linear_guess(X, moments_of(X))
    np.testing.assert_allclose(mae.reconstruct(X), expected, rtol=1e-3, atol=1e-3)
    assert np.abs(before - expected).max() > 0.01


def test_the_first_scores_are_the_normal_distributions():
    """Σⱼ log N(xⱼ | E[xⱼ | the rest], Var[xⱼ | the rest]): up to eight columns are hidden one by one."""
    X = real(200, P)
    scores = clone(START).fit(X).score_samples(X)
    moments, expected = moments_of(X), np.zeros(len(X))
    for column in range(P):
        gappy = X.copy()
        gappy[:, column] = np.nan
        mean, variance = linear_guess(gappy, moments)
        expected += norm.logpdf(X[:, column], mean[:, column], np.sqrt(variance[:, column]))
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-3)


def test_categories_start_at_the_linear_guess_of_their_columns():
    X = tables(400, P)
    gappy = X.copy()
    gappy[::2, 1:3] = np.nan
    made = clone(START).set_params(likelihood=MIXED).fit(gappy).reconstruct(gappy)
    expected, _ = linear_guess(gappy, moments_of(gappy))
    share = np.clip(expected[::2, 1:3], 1e-2, 1)
    np.testing.assert_allclose(made[::2, 1:3], share / share.sum(1, keepdims=True), atol=0.03)
    np.testing.assert_allclose(made[::2, 1:3].sum(1), 1, atol=1e-6)


# What counts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", **over({"gaussian": "gaussian", "mixed": MIXED}))
def test_hidden_entries_alone_count(likelihood):
    X = tables(60, P)
    X[::3, 0] = np.nan
    model = clone(MAE).set_params(likelihood=likelihood).fit(X).model_
    batch = Batch(*model.prepare_for_training(torch.tensor(X)), None)
    step = model.step(batch.input, batch.target, batch.observed, generator=generator())
    hidden = step.corrupted.changed
    if likelihood is MIXED:
        assert (hidden[:, 1] == hidden[:, 2]).all()
    step.eta = torch.randn(X.shape, generator=generator()).requires_grad_()
    (loss,) = step.terms.values()
    (slope,) = torch.autograd.grad(loss.sum(), step.eta)
    counted = hidden & (batch.observed > 0)
    assert (slope[counted] != 0).all() and (slope[~counted] == 0).all()


def test_the_loss_does_not_see_what_is_hidden_through_the_input():
    """Other values where entries are hidden change the target, not what the network says of them."""
    X = real(60, P)
    model = clone(MAE).fit(X).model_
    hidden = torch.rand(60, P, generator=generator()) < 0.4
    made = []
    for rows in (X, np.where(hidden, X + 100.0, X)):
        x, target, observed = model.prepare_for_training(torch.tensor(rows))
        with torch.no_grad():
            made.append(model.hiding(model.step(x, target, observed), hidden).eta)
    torch.testing.assert_close(*made, rtol=0, atol=0)


def test_gaps_are_no_values():
    """What stands in a gap is nowhere read: zeros in its place come to the same with the mask of observed."""
    _, X = gappy_rows(60)
    mae = clone(MAE).fit(X)
    filled = mae.reconstruct(X)
    observed = ~np.isnan(X)
    assert np.isfinite(filled).all()
    np.testing.assert_allclose(filled[observed], X[observed], rtol=1e-12)
    assert np.isfinite(mae.score_samples(X)).all()
    empty = np.full((2, P), np.nan)
    np.testing.assert_allclose(mae.score_samples(empty), 0)
    assert np.isfinite(mae.reconstruct(empty)).all()


# What is learnt --------------------------------------------------------------------------------


def parabola(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    return np.column_stack([x, x**2 + 0.1 * rng.standard_normal(n), rng.standard_normal(n)])


def test_it_learns_what_the_linear_guess_misses():
    train, test = parabola(1000, 0), parabola(1000, 1)
    gappy = test.copy()
    gappy[:, 1] = np.nan

    def explained(mae):
        return 1 - np.square(mae.reconstruct(gappy) - test)[:, 1].mean() / test[:, 1].var()

    assert explained(clone(START).fit(train)) < 0.1
    mae = clone(MAE).set_params(n_components=16, hidden_layer_sizes=(64,), max_iter=60).fit(train)
    assert explained(mae) > 0.9
    # The two that lie on the parabola are likelier than the same numbers in another order.
    shuffled = np.column_stack([test[:, 0], test[::-1, 1], test[:, 2]])
    assert mae.score(test) > mae.score(shuffled) + 0.5
    assert (mae.score_samples(test) > mae.score_samples(shuffled)).mean() > 0.8


def test_normal_rows_score_higher_than_rows_without_dependence():
    X = real(400, P)
    mae = clone(MAE).fit(X[:200])
    rng = np.random.default_rng(0)
    shuffled = np.column_stack([rng.permutation(column) for column in X[200:].T])
    scores, other = mae.score_samples(X[200:]), mae.score_samples(shuffled)
    assert np.isfinite(scores).all() and scores.mean() > other.mean() + 1


# Conventions -----------------------------------------------------------------------------------


def test_copies_and_precision():
    X, gappy = gappy_rows(100)
    mae = clone(MAE).fit(gappy)
    again, other = clone(MAE).fit(gappy), pickle.loads(pickle.dumps(mae))
    assert_same_state(mae, again)
    assert_same_state(mae, other)
    filled = mae.reconstruct(gappy)
    np.testing.assert_array_equal(filled, other.reconstruct(gappy))
    single = mae.reconstruct(gappy.astype(np.float32))
    assert filled.dtype == np.float64 and single.dtype == np.float32
    np.testing.assert_allclose(single, filled, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(mae.reconstruct(gappy[7:9]), filled[7:9], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(mae.reconstruct(X), X, rtol=1e-12)


@pytest.mark.parametrize("share", [0.2, 1.0, (0.0, 0.9), [0.5, 0.5]], ids=str)
def test_shares(share):
    mae = clone(MAE).set_params(share=share).fit(real(100, P))
    assert np.isfinite(mae.loss_curve_).all() and np.isfinite(mae.score_samples(real(20, P))).all()


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (0.0, "'share' parameter of MaskedAE must be"),
        (1.5, "'share' parameter of MaskedAE must be"),
        ("half", "'share' parameter of MaskedAE must be"),
        ((0.8, 0.2), "or a pair"),
        ((0.2, 1.2), "or a pair"),
        ((0.1, 0.2, 0.3), "or a pair"),
        ((0.0, 0.0), "something must be masked"),
    ],
    ids=str,
)
def test_no_shares(share, message):
    with pytest.raises(ValueError, match=message):
        clone(MAE).set_params(share=share).fit(real(30, P))


def test_a_code_is_no_row():
    mae = clone(MAE).fit(real(30, P))
    assert not hasattr(mae, "inverse_transform")
    with pytest.raises(AttributeError) as raised:
        mae.inverse_transform(mae.transform(real(30, P)))
    assert "a code alone is no row. Use reconstruct" in str(raised.value.__cause__)


def test_weights_are_repeated_rows_at_the_start():
    _, X = gappy_rows(60)
    times = np.random.default_rng(0).integers(1, 4, len(X))
    one = clone(START).fit(X, sample_weight=times).reconstruct(X)
    other = clone(START).fit(np.repeat(X, times, 0)).reconstruct(X)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*no observed:UserWarning")
def test_columns_without_information():
    X, _ = gappy_rows(60)
    X[:, 0], X[:, 1] = 7.0, np.nan
    X[:, 2] = X[:, 3]
    mae = clone(MAE).fit(X)
    gappy = X.copy()
    gappy[::2, 0] = gappy[1::2, 2] = np.nan
    filled = mae.reconstruct(gappy)
    assert np.isfinite(filled).all() and np.isfinite(mae.score_samples(X)).all()
    np.testing.assert_allclose(filled[:, 0], 7.0, atol=0.1)
    assert np.abs(filled - X)[1::2, 2].max() < 0.2 * X[:, 2].std()


def test_missing_words_are_filled_in_the_rows_own_units():
    X = np.random.default_rng(0).multinomial(100, (0.5, 0.3, 0.2), size=200).astype(float)
    gappy = X.copy()
    gappy[::2, 0] = np.nan
    mae = MaskedAE(4, likelihood="multinomial", hidden_layer_sizes=(8,), max_iter=15, random_state=0).fit(gappy)
    filled = mae.reconstruct(gappy)
    np.testing.assert_allclose(filled[::2, 0].mean(), 50, rtol=0.05)
    # Σ xⱼ log rⱼ of each entry by its share, given the others'.
    expected = (X * np.log([0.5, 0.3, 0.2])).sum(1)
    np.testing.assert_allclose(mae.score_samples(X).mean(), expected.mean(), rtol=0.03)


# Scales ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [P, MAX_DENSE + 4])
@pytest.mark.parametrize("exponents", [(-30, -30), (28, 28), (-12, 12)], ids=str)
def test_columns_of_any_units(exponents, p):
    """The linear guess and what is learnt are those of the same columns in other units."""
    _, X = gappy_rows(100, p)
    unit = 10.0 ** np.linspace(*exponents, p)
    mae = clone(MAE).fit(X * unit)
    filled, one = mae.reconstruct(X * unit) / unit, clone(MAE).fit(X).reconstruct(X)
    start = clone(START).fit(X).reconstruct(X)
    np.testing.assert_allclose(clone(START).fit(X * unit).reconstruct(X * unit) / unit, start, rtol=1e-3, atol=2e-3)
    assert np.abs(filled - one).max() < 0.5 * X[~np.isnan(X)].std()
    assert np.isfinite(mae.score_samples(X * unit)).all()
    assert np.isfinite(mae.reconstruct((X * unit).astype(np.float32))).all()
