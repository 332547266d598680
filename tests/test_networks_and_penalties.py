"""Networks and penalties: gradients, counts, and what each is for."""

import numpy as np
import pytest
import torch
from registry import NETWORKS, PENALTIES, columns_of, generator, over, real
from sklearn.base import clone
from torch import nn

from skae import VAE, AdamW, AutoencoderTransformer, DenseNetwork, GaussianCode, LaplaceCode
from skae.model.autoencoder import Autoencoder
from skae.model.likelihoods import Gaussian
from skae.model.penalties import Penalty
from skae.model.posteriors import Point
from skae.model.step import Step
from skae.training.trainer import Plan, Trainer

P, D = 5, 3


def _model(network, init="random", **options):
    """A model in double precision, away from its start."""
    model = Autoencoder(
        network, Point(), Gaussian(), columns_of(real(50, P), Gaussian()), D, shortcut=init == "pca", **options
    )
    model.reset(generator())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator()))
    return model.double()


def _n_weights(model):
    return sum(p.numel() for p in model.parameters() if p.ndim == 2)


@pytest.mark.parametrize("init", ["pca", "random"])
@pytest.mark.parametrize("network", **over(NETWORKS))
def test_gradients_are_finite_differences(network, init):
    model = _model(network, init).eval()
    x, _ = model.scaling.input(torch.tensor(real(6, P)))
    loss = lambda: sum(Step(model, x, x).terms.values()).mean()  # noqa: E731
    loss().backward()
    for parameter in model.parameters():
        flat, gradient = parameter.data.view(-1), parameter.grad.view(-1)
        for index in np.random.default_rng(0).integers(len(flat), size=4):
            kept, around = float(flat[index]), []
            for step in (1e-6, -1e-6):
                flat[index] = kept + step
                around.append(float(loss().detach()))
            flat[index] = kept
            assert float(gradient[index]) == pytest.approx((around[0] - around[1]) / 2e-6, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("init", ["pca", "random"])
@pytest.mark.parametrize("hidden", [(), (8,), (8, 6)])
def test_tied_weights_are_half_of_the_weights(hidden, init):
    tied, free = _model(DenseNetwork(hidden, tied=True), init), _model(DenseNetwork(hidden), init)
    assert _n_weights(free) == 2 * _n_weights(tied)
    assert tied.decoder(torch.zeros(2, D).double()).shape == (2, P)


@pytest.mark.parametrize("hidden", [(), (8,), (8, 6)])
def test_a_tied_decoder_is_the_transposed_encoder(hidden):
    network = _model(DenseNetwork(hidden, "identity", tied=True))
    for bias in [p for p in network.parameters() if p.ndim == 1]:
        bias.data.zero_()
    with torch.no_grad():
        encoder, decoder = network.encoder(torch.eye(P).double()), network.decoder(torch.eye(D).double())
    torch.testing.assert_close(decoder, encoder.T)


@pytest.mark.parametrize("estimator", [AutoencoderTransformer, VAE])
@pytest.mark.parametrize("network", **over(NETWORKS))
def test_every_network_trains(network, estimator):
    X = real(80, P)
    options = {"max_iter": 30, "early_stopping": False, "random_state": 0, "batch_size": 20, "init": "random"}
    ae = estimator(2, network=clone(network), **options).fit(X)
    assert ae.loss_curve_[-1] < ae.loss_curve_[0]
    assert ae.reconstruct(X).shape == X.shape


def test_more_components_than_features():
    X = real(80, P)
    options = {"max_iter": 60, "early_stopping": False, "random_state": 0, "init": "random", "learning_rate": 0.01}
    ae = AutoencoderTransformer(3 * P, hidden_layer_sizes=(20,), **options).fit(X)
    assert ae.transform(X).shape == (80, 3 * P)
    assert ((X - ae.reconstruct(X)) ** 2).mean() < 0.2 * X.var(0).mean()
    pca = AutoencoderTransformer(3 * P, hidden_layer_sizes=(20,), max_iter=1, random_state=0).fit(X)
    assert ((X - pca.reconstruct(X)) ** 2).mean() < 0.01 * X.var(0).mean()


def test_dropout_is_for_training_only():
    X = real(80, P)
    network = DenseNetwork((30,), dropout=0.5, input_dropout=0.2)
    ae = AutoencoderTransformer(2, network=network, max_iter=20, early_stopping=False, random_state=0).fit(X)
    np.testing.assert_array_equal(ae.transform(X), ae.transform(X))
    without = AutoencoderTransformer(
        2, network=DenseNetwork((30,)), max_iter=20, early_stopping=False, random_state=0
    ).fit(X)
    assert ae.loss_curve_[-1] > without.loss_curve_[-1]


def test_dropout_zeroes_its_share_and_keeps_the_mean():
    dropout = DenseNetwork((4,), dropout=0.3).encoder(3, 2).dropout
    dropout.generator = generator()
    made = dropout(torch.ones(20_000))
    assert float((made == 0).double().mean()) == pytest.approx(0.3, abs=0.02)
    assert float(made.mean()) == pytest.approx(1, abs=0.02)
    assert torch.equal(dropout.eval()(torch.ones(9)), torch.ones(9))


@pytest.mark.parametrize("estimator", [AutoencoderTransformer, VAE])
@pytest.mark.parametrize("penalty", **over(PENALTIES))
def test_penalties_shrink_what_they_measure(penalty, estimator):
    X = real(100, P)
    if estimator is VAE:
        estimator = _VAEWithPenalties
    # A start at PCA may have none of what is penalised.
    options = {"hidden_layer_sizes": (8,), "max_iter": 20, "init": "random", "learning_rate": 0.02}
    options["early_stopping"] = False
    measured = []
    for weight in (1e-6, 30.0):
        ae = estimator(2, random_state=0, penalties=[clone(penalty).set_params(weight=weight)], **options).fit(X)
        name = penalty.name
        assert name in ae.loss_terms_ and len(ae.loss_terms_[name]) == 20
        measured.append(ae.loss_terms_[name][-1] / weight)
    assert measured[1] < 0.6 * measured[0]


class _VAEWithPenalties(VAE):
    """A class with a hook of its own."""

    def __init__(self, n_components=2, *, penalties=(), random_state=None, **options):
        super().__init__(n_components, random_state=random_state, **options)
        self.penalties = penalties

    def _penalty_parts(self):
        return list(self.penalties)


def test_penalties_of_the_code_are_its_norms():
    model = _model(DenseNetwork((6,)))
    step = Step(model, *(2 * [torch.tensor(real(7, P))]))
    torch.testing.assert_close(LaplaceCode()(step), step.code.abs().sum(1))
    torch.testing.assert_close(GaussianCode()(step), 0.5 * (step.code**2).sum(1))


def test_the_loss_is_the_sum_of_its_terms():
    penalties = [PENALTIES[name] for name in ("laplace", "gaussian", "contraction")]
    ae = AutoencoderTransformer(2, penalties=penalties, max_iter=4, early_stopping=False, random_state=0)
    terms = ae.fit(real(60, P)).loss_terms_
    assert set(terms) == {"negative_log_likelihood", "laplace_code", "gaussian_code", "contraction"}
    np.testing.assert_allclose(np.sum(list(terms.values()), axis=0), ae.loss_curve_)


class _Distance(Penalty):
    """The critic learns the codes' mean, and the encoder runs from it."""

    def __init__(self, weight=1.0):
        self.weight = weight

    def __call__(self, step):
        return -self._distance(step)

    @staticmethod
    def _distance(step):
        return (step.code - step.model.critics[0](torch.ones_like(step.code[:, :1]))).square().sum(1)

    def critic(self, n_features, n_components):
        return nn.Linear(1, n_components)

    def critic_terms(self, step):
        return {"distance": self._distance(step)}


def test_a_critics_terms_move_the_critic_alone():
    model = _model(DenseNetwork((6,)), penalties=[_Distance()]).float()
    trainer = Trainer([model], Plan(AdamW(), 1e-2, 10, 1, 1), generator())
    assert [player.name for player in trainer.players] == ["", "distance_critic_"]
    main, critic = trainer.players
    x = torch.tensor(real(10, P), dtype=torch.float32)
    for player, other in ((main, critic), (critic, main)):
        for each in trainer.players:
            each.flat.gradient.zero_()
        terms = player.terms(Step(model, x, x, generator=generator()))
        player.backward(terms, torch.ones(10), 0)
        assert player.flat.gradient.abs().sum() > 0
        assert (other.flat.gradient == 0).all()
    assert {id(p) for p in critic.flat.parameters} == {id(p) for p in model.critics.parameters()}


def test_two_players_train_side_by_side():
    X = real(100, P)
    ae = AutoencoderTransformer(
        2, hidden_layer_sizes=(6,), penalties=[_Distance(0.01)], max_iter=40, learning_rate=0.02, early_stopping=False
    )
    ae.set_params(random_state=0).fit(X)
    assert set(ae.loss_terms_) == {"negative_log_likelihood", "distance", "distance_critic_distance"}
    # The critic's terms are not the autoencoder's loss.
    parts = [ae.loss_terms_[name] for name in ("negative_log_likelihood", "distance")]
    np.testing.assert_allclose(np.sum(parts, axis=0), ae.loss_curve_)
    code = torch.tensor(ae.transform(X) / ae.model_.code_unit)
    with torch.no_grad():
        found = ae.model_.critics[0](torch.ones(1, 1))[0].double()
    torch.testing.assert_close(found, code.mean(0), rtol=0, atol=0.5 * float(code.std()))
