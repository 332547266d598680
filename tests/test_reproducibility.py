"""The same seed gives the same bits, alone or beside others, and nothing global moves."""

import pickle
import threading

import numpy as np
import pytest
import torch
from registry import (
    CORRUPTIONS,
    ESTIMATORS,
    NETWORKS,
    PENALTIES,
    assert_same_state,
    over,
    real,
    shares,
    state_of,
    with_parameters,
)
from sklearn.base import clone
from torch import nn

from skae import VAE, AutoencoderTransformer, DenoisingAE, EarlyStopping, SparseAE

P = 5
RANDOM = {
    **ESTIMATORS,
    "SparseAE-kl": SparseAE(4, penalty="kl", max_iter=2),
    "split": AutoencoderTransformer(2, max_iter=3, early_stopping=EarlyStopping(n_folds=0), hidden_layer_sizes=(6,)),
    **{f"network-{name}": AutoencoderTransformer(2, network=n, max_iter=2) for name, n in NETWORKS.items()},
    **{f"corruption-{name}": DenoisingAE(2, corruption=c, max_iter=2) for name, c in CORRUPTIONS.items()},
    **{f"penalty-{name}": AutoencoderTransformer(2, penalties=[p], max_iter=2) for name, p in PENALTIES.items()},
}


class GlobalNetwork:
    """A network that a user wrote: its first weights come from torch's global generator."""

    def encoder(self, n_in, n_out):
        return nn.Sequential(nn.Linear(n_in, 6), nn.Tanh(), nn.Linear(6, n_out))

    def decoder(self, n_in, n_out, encoder):
        return nn.Sequential(nn.Linear(n_in, 6), nn.Tanh(), nn.Linear(6, n_out))


@pytest.mark.parametrize("estimator", **over(RANDOM))
def test_refits_are_identical_and_nothing_global_moves(estimator, nothing_global_changed):
    X = shares(70, P)
    ae = clone(estimator).set_params(random_state=3)
    one, other = clone(ae).fit(X), clone(ae).fit(X)
    assert_same_state(one, other)
    assert one.loss_curve_ == other.loss_curve_ and one.validation_loss_curve_ == other.validation_loss_curve_
    assert_same_state(one, ae.fit(X).fit(X))
    pieces = [clone(ae).partial_fit(X).partial_fit(X) for _ in range(2)]
    assert_same_state(*pieces)
    for method in ("transform", "reconstruct", "score_samples"):
        np.testing.assert_array_equal(getattr(one, method)(X), getattr(other, method)(X))


@pytest.mark.parametrize("estimator", **over(ESTIMATORS))
def test_seeds_matter(estimator):
    X = shares(70, P)
    ae = with_parameters(estimator, init="random", early_stopping=False, optimizer="adamw")
    one, other = (state_of(clone(ae).set_params(random_state=seed).fit(X)) for seed in (0, 1))
    assert any(not np.array_equal(one[name], other[name]) for name in one)


def test_a_random_state_goes_on_from_fit_to_fit():
    X = shares(70, P)
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(6,), init="random", max_iter=2)
    ae.set_params(random_state=np.random.RandomState(0))
    first, second = state_of(ae.fit(X)), state_of(ae.fit(X))
    assert any(not np.array_equal(first[name], second[name]) for name in first)


def test_networks_that_draw_from_the_global_generator(nothing_global_changed):
    X = real(70, P)
    ae = AutoencoderTransformer(2, network=GlobalNetwork(), max_iter=2, init="random", random_state=0)
    one = ae.fit(X)
    with torch.random.fork_rng():
        torch.rand(())
        assert_same_state(one, clone(ae).fit(X))


def test_loading_a_network_that_draws_from_the_global_generator(nothing_global_changed):
    ae = AutoencoderTransformer(2, network=GlobalNetwork(), max_iter=2, random_state=0).fit(real(70, P))
    assert_same_state(ae, pickle.loads(pickle.dumps(ae)))


def test_sampling_is_seeded(nothing_global_changed):
    X = real(70, P)
    for estimator in (VAE, DenoisingAE):
        ae = estimator(2, max_iter=2, random_state=0).fit(X)
        np.testing.assert_array_equal(ae.sample(5, random_state=0), ae.sample(5, random_state=0))
        assert not np.array_equal(ae.sample(5, random_state=0), ae.sample(5, random_state=1))


class _Failure(Exception):
    """Raised in the middle of a fit."""


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("where", ["skae.training.trainer.Trainer.run_epoch", "skae.training.players.Player.update"])
def test_nothing_global_moves_when_fit_raises(where, method, monkeypatch, nothing_global_changed):
    def fail(self, *args):
        torch.set_num_threads(1)
        raise _Failure

    monkeypatch.setattr(where, fail)
    for estimator in ESTIMATORS.values():
        with pytest.raises(_Failure):
            getattr(with_parameters(estimator, early_stopping=False, optimizer="adamw"), method)(shares(70, P))


def test_the_number_of_threads_is_as_before_with_more_than_one():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        AutoencoderTransformer(2, max_iter=2).fit(real(70, P))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_two_threads_give_what_each_gives_alone(nothing_global_changed):
    tables = [real(150, P, seed) for seed in range(2)]
    options = {"hidden_layer_sizes": (16,), "max_iter": 25, "early_stopping": False, "random_state": 0}
    for estimator in (AutoencoderTransformer, DenoisingAE, VAE):
        alone = [estimator(2, **options).fit(X) for X in tables]
        together = [estimator(2, **options) for _ in tables]
        begin, errors = threading.Barrier(2), []

        def fit(ae, X, begin=begin, errors=errors):
            try:
                begin.wait()
                ae.fit(X)
            except Exception as error:
                errors.append(error)

        running = [threading.Thread(target=fit, args=pair) for pair in zip(together, tables, strict=True)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        assert not errors
        for one, other in zip(alone, together, strict=True):
            assert_same_state(one, other)


def test_networks_of_users_in_two_threads():
    X = real(60, P)
    ae = AutoencoderTransformer(2, network=GlobalNetwork(), max_iter=1, init="random", random_state=0)
    expected, fitted = clone(ae).fit(X), [clone(ae) for _ in range(4)]
    running = [threading.Thread(target=each.fit, args=(X,)) for each in fitted]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    for each in fitted:
        assert_same_state(expected, each)
