"""The terms of the loss: each counts under a name of its own, and a weight means one thing."""

import numpy as np
import pytest
import torch
from registry import ESTIMATORS, PENALTIES, over, real, shares
from sklearn.base import clone

from skae import (
    GAN,
    LBFGS,
    VAE,
    ActivationPenalty,
    AdamW,
    AdversarialCode,
    Anchor,
    AutoencoderTransformer,
    ConvNetwork,
    DenseNetwork,
    Gaussian,
    GaussianCode,
    LaplaceCode,
    MaximumMeanDiscrepancy,
    SemanticHashing,
    SparseAE,
    TotalCorrelation,
)
from skae.model.model import unique_names
from skae.model.penalties import Penalty
from skae.training.batches import RawRows, Rows
from skae.training.dense_gradient import DenseGradient
from skae.training.trainer import row_losses

P = 5
OPTIONS = {"hidden_layer_sizes": (8,), "max_iter": 4, "early_stopping": False, "random_state": 0}


class KlDivergence(Penalty):
    """A user's penalty that is called as a term of the VAE's."""

    def __init__(self, weight=1.0):
        self.weight = weight

    def __call__(self, step):
        return step.code.square().sum(1)


class NegativeLogLikelihood(KlDivergence):
    """A user's penalty that is called as a term of every autoencoder's."""


class AdversarialCodeCriticLoss(KlDivergence):
    """A user's penalty that is called as a term of another penalty's critic."""


class Bent(LaplaceCode):
    """A user's penalty whose inherited slope is of another function."""

    def __call__(self, step):
        return step.code.square().square().sum(1)


def _assert_same(one, other):
    X = real(60, P)
    np.testing.assert_allclose(one.loss_curve_, other.loss_curve_, rtol=1e-5)
    np.testing.assert_allclose(one.transform(X), other.transform(X), rtol=0, atol=1e-3 * other.transform(X).std())


def test_names_are_unique_and_in_order():
    names = ["b", "a", "a", "a_2", "taken", "a"]
    assert unique_names(names, ["taken"]) == ["b", "a", "a_2", "a_2_2", "taken_2", "a_3"]


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([LaplaceCode(0.3), LaplaceCode(0.7)], LaplaceCode(1.0)),
        ([Anchor(0.3), Anchor(0.7)], Anchor(1.0)),
        ([ActivationPenalty("l2", 0.3), ActivationPenalty("l2", 0.7)], ActivationPenalty("l2", 1.0)),
        ([GaussianCode(0.5)] * 2, GaussianCode(1.0)),
    ],
    ids=str,
)
def test_two_penalties_of_a_kind_are_their_sum(parts, whole):
    X = real(60, P)
    both = AutoencoderTransformer(2, penalties=parts, **OPTIONS).fit(X)
    _assert_same(both, AutoencoderTransformer(2, penalties=[whole], **OPTIONS).fit(X))
    name = whole.name
    assert list(both.loss_terms_) == ["negative_log_likelihood", name, f"{name}_2"]
    np.testing.assert_allclose(np.sum(list(both.loss_terms_.values()), axis=0), both.loss_curve_)
    ratio = parts[0].weight / parts[1].weight
    np.testing.assert_allclose(both.loss_terms_[name], ratio * np.array(both.loss_terms_[f"{name}_2"]), rtol=1e-4)


@pytest.mark.parametrize("penalties", [[LaplaceCode(3.0)], [LaplaceCode(1.0), LaplaceCode(2.0)]], ids=str)
def test_held_out_rows_are_judged_by_what_is_trained_on(penalties):
    X = real(60, P)
    ae = AutoencoderTransformer(2, penalties=penalties, **OPTIONS).fit(X)
    losses, constants, _ = row_losses(ae.model_, _rows(ae, X), 20)
    code = ae.transform(X) / ae.model_.code_unit
    expected = 3.0 * np.abs(code).sum(1) / ae.model_.loss_scale - ae.score_samples(X)
    np.testing.assert_allclose(losses + constants, expected, rtol=1e-4)


def _rows(ae, X):
    return Rows(RawRows(X), ae.model_.prepare_for_training, torch.device("cpu"))


def test_a_users_penalty_deletes_no_term():
    X = real(60, P)
    plain = VAE(2, penalties=[Bent(1e-9)], **OPTIONS).fit(X)
    own = VAE(2, penalties=[KlDivergence(1e-9), NegativeLogLikelihood(1e-9)], **OPTIONS).fit(X)
    assert list(own.loss_terms_) == [
        "negative_log_likelihood",
        "kl_divergence",
        "kl_divergence_2",
        "negative_log_likelihood_2",
    ]
    _assert_same(own, plain)
    np.testing.assert_allclose(own.loss_terms_["kl_divergence"], plain.loss_terms_["kl_divergence"], rtol=1e-3)


def test_a_users_penalty_is_no_term_of_a_critic():
    penalties = [AdversarialCode(), AdversarialCodeCriticLoss(0.1)]
    ae = AutoencoderTransformer(2, penalties=penalties, **OPTIONS).fit(real(60, P))
    names = ["negative_log_likelihood", "adversarial_code", "adversarial_code_critic_loss"]
    assert list(ae.loss_terms_) == [*names, "adversarial_code_critic_loss_2"]
    np.testing.assert_allclose(np.sum([ae.loss_terms_[name] for name in names], axis=0), ae.loss_curve_)


def test_one_part_given_twice_has_two_critics():
    part = AdversarialCode()
    ae = AutoencoderTransformer(2, penalties=[part, part], **OPTIONS).fit(real(60, P))
    first, second = (ae.loss_terms_[f"{name}_critic_loss"] for name in ("adversarial_code", "adversarial_code_2"))
    assert first[-1] < first[0] and second[-1] < second[0] and first != second


def test_an_inherited_slope_is_not_that_of_another_function():
    X = real(60, P)
    ae = AutoencoderTransformer(2, penalties=[Bent(0.1)], **OPTIONS).fit(X)
    assert not DenseGradient.covers(ae.model_, "float32")
    assert LaplaceCode().has_code_slope and not KlDivergence().has_code_slope


@pytest.mark.parametrize("estimator", **over(ESTIMATORS))
def test_posteriors_say_what_their_terms_are_called(estimator):
    ae = clone(estimator).fit(shares(60, P))
    own = [name for name in ae.loss_terms_ if name not in ae.model_.penalty_names and "_critic_" not in name]
    assert own and set(own) <= set(ae.model_.posterior.term_names)


def test_a_line_search_sees_its_own_players_loss():
    options = OPTIONS | {"optimizer": LBFGS(max_evaluations=5)}
    penalties = [AdversarialCode(weight=0.1), LaplaceCode(0.1)]
    ae = AutoencoderTransformer(2, penalties=penalties, **options).fit(real(60, P))
    names = ["negative_log_likelihood", "adversarial_code", "laplace_code"]
    np.testing.assert_allclose(np.sum([ae.loss_terms_[name] for name in names], axis=0), ae.loss_curve_)


# Weights ------------------------------------------------------------------------------------------

WEIGHED = {**PENALTIES, "anchor": Anchor(), "adversarial": AdversarialCode(), "users": KlDivergence(0.1)}


@pytest.mark.parametrize("init", ["pca", "random"])
@pytest.mark.parametrize("penalty", **over(WEIGHED))
def test_the_data_s_units_change_nothing_of_what_a_weight_does(penalty, init):
    X, unit = real(60, P), 2.0**10
    # Away from the start the penalty decides what is learnt.
    options = OPTIONS | {"init": init, "learning_rate": 0.01, "batch_size": 20}
    one, other = (AutoencoderTransformer(2, penalties=[penalty], **options).fit(rows) for rows in (X, unit * X))
    codes = [ae.transform(rows) / ae.model_.code_unit for ae, rows in ((one, X), (other, unit * X))]
    np.testing.assert_allclose(codes[1], codes[0], rtol=0, atol=1e-4)
    for name, values in one.loss_terms_.items():
        if "critic" not in name and name != "negative_log_likelihood":
            np.testing.assert_allclose(np.array(other.loss_terms_[name]) / unit**2, values, rtol=1e-3, atol=1e-5)


def test_penalties_of_a_random_code_are_in_nats():
    X = real(60, P)
    # Σ log q(z)/Π q(zⱼ) stands beside a KL term, of which it is a part, whatever the likelihood's scale.
    vae = VAE(2, likelihood=Gaussian(scale=20.0), penalties=[TotalCorrelation(1.0)], **OPTIONS).fit(X)
    assert vae.model_.loss_scale != 1 and vae.model_.penalty_unit == 1
    plain = VAE(2, likelihood=Gaussian(scale=20.0), beta=0.0, penalties=[GaussianCode(1.0)], **OPTIONS).fit(X)
    step = plain.model_.step(*plain.model_.prepare_for_training(torch.tensor(X)))
    torch.testing.assert_close(step.terms["gaussian_code"], 0.5 * step.code.square().sum(1))


# Batches of one row -------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"batch_size": 40}, {"batch_size": 1, "max_iter": 1}, {"batch_size": 16}], ids=str)
def test_a_row_alone_in_its_batch_says_nothing_of_a_discrepancy(options):
    penalties = [MaximumMeanDiscrepancy(), ActivationPenalty("l2", 0.01)]
    ae = AutoencoderTransformer(2, penalties=penalties, **OPTIONS | options).fit(real(81, P))
    assert np.isfinite(ae.transform(real(81, P))).all()
    if options["batch_size"] == 1:
        assert ae.loss_terms_["maximum_mean_discrepancy"] == [0.0]


def test_pieces_of_one_row():
    ae = AutoencoderTransformer(2, penalties=[MaximumMeanDiscrepancy(), TotalCorrelation(estimator="critic")])
    for row in real(4, P):
        ae.set_params(random_state=0).partial_fit(row[None])
    assert np.isfinite(ae.transform(real(4, P))).all()


# Precision ----------------------------------------------------------------------------------------

ROUNDED = {
    **ESTIMATORS,
    "GAN": GAN(2, hidden_layer_sizes=(8,), max_iter=3, random_state=0),
    "GAN-minimax": GAN(2, hidden_layer_sizes=(8,), loss="minimax", gradient_penalty=1.0, max_iter=3, random_state=0),
    "SparseAE-kl": SparseAE(2, penalty="kl", layers="all", activation="logistic", **OPTIONS),
    "VAE-correlation": VAE(2, penalties=[TotalCorrelation()], **OPTIONS),
    "VAE-free": VAE(2, free_bits=0.1, **OPTIONS),
    **{
        f"penalty-{name}": AutoencoderTransformer(2, penalties=[part], init="random", **OPTIONS)
        for name, part in WEIGHED.items()
    },
}


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("estimator", **over(ROUNDED))
def test_bfloat16_rounds_the_loss_and_no_more(estimator, weighted):
    X, weight = shares(60, P), np.arange(60) % 5 if weighted else None
    made = [
        clone(estimator).set_params(optimizer=AdamW(precision=precision)).fit(X, sample_weight=weight)
        for precision in ("float32", "bfloat16")
    ]
    exact, rounded = ([values[0] for values in ae.loss_terms_.values()] for ae in made)
    np.testing.assert_allclose(rounded, exact, rtol=0.1, atol=0.1 * max(map(abs, exact)))


# Layers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", ["pca", "random"])
@pytest.mark.parametrize("sampling", [{}, {"down": "max", "up": "unpool"}], ids=str)
def test_all_layers_of_a_convolutional_encoder(init, sampling):
    X = real(30, 16)
    network = ConvNetwork((4, 4), (3, 2), hidden_layer_sizes=(6,), activation="tanh", **sampling)
    ae = AutoencoderTransformer(
        2, network=network, init=init, penalties=[ActivationPenalty("l1", 0.1, layers=(1, 2, 3, 4))], max_iter=1
    )
    ae.set_params(random_state=0, early_stopping=False).fit(X)
    step = ae.model_.step(*ae.model_.prepare_for_training(torch.tensor(X)))
    network = ae.model_.encoder.network if init == "pca" else ae.model_.encoder
    assert [h.shape[1] for h in step.hidden] == [12, 2, 6]
    # The last hidden layer makes what the network says of the code.
    made = network.dense.layers[-1](step.hidden[-1])
    seen = step.seen * ae.model_.encoder.in_scale if init == "pca" else step.seen
    torch.testing.assert_close(made, network(seen))
    total = sum(w * h.abs().sum(1) for w, h in zip((1, 2, 3, 4), [*step.hidden, step.code], strict=True))
    torch.testing.assert_close(step.terms["activation_penalty"], 0.1 * 16 * total / ae.model_.loss_scale)


def test_a_generator_is_not_its_critic_turned_round():
    with pytest.raises(ValueError, match="use a network with tied=False"):
        GAN(2, network=DenseNetwork((8,), tied=True), max_iter=1).fit(real(30, P))


DRAWING = {
    "bits": SemanticHashing(4, batch_size=8),
    **{
        name: VAE(2, likelihood=name, missingness="self_masking", batch_size=8)
        for name in ("bernoulli", "poisson", "multinomial")
    },
}


@pytest.mark.parametrize("estimator", **over(DRAWING))
def test_what_diverges_says_so_where_something_is_drawn(estimator):
    X = np.where(np.random.default_rng(0).random((60, P)) < 0.2, np.nan, shares(60, P))
    with pytest.raises(FloatingPointError, match="training diverges"):
        clone(estimator).set_params(**OPTIONS | {"learning_rate": 1e30}).fit(X)
