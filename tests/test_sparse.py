"""SparseAE and its parts: what is kept, what is penalised, and the activations that are left."""

import contextlib
import itertools
import pickle

import numpy as np
import pytest
import torch
from registry import assert_same_state, columns_of, generator, real
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from torch.distributions import Bernoulli as Coin
from torch.distributions import kl_divergence

from skae import LBFGS, ActivationPenalty, AdamW, AutoencoderTransformer, ConvNetwork, DenseNetwork, SparseAE
from skae.model.autoencoder import Autoencoder
from skae.model.likelihoods import Gaussian
from skae.model.posteriors import Point
from skae.model.sparsity import NORMS, TARGETED, bernoulli_kl
from skae.model.step import Step
from skae.model.top_k import TopK, largest
from skae.training.batches import RawRows, Rows, side_by_side
from skae.training.dense_gradient import DenseGradient
from skae.training.trainer import Plan, Trainer

P, D = 5, 8
KINDS = [*NORMS, *TARGETED]
FREE = {"early_stopping": False, "random_state": 0}


def _model(posterior, network=None, penalties=(), shortcut=False):
    """A model in double precision, away from its start."""
    network = network or DenseNetwork((6,), "logistic")
    columns = columns_of(real(50, P), Gaussian())
    model = Autoencoder(network, posterior, Gaussian(), columns, D, shortcut=shortcut, penalties=penalties)
    model.reset(generator())
    return model.double()


def _step(model, n=7, **options):
    x, _ = model.scaling.input(torch.tensor(real(n, P)))
    return Step(model, x, x, **options)


# Activations ---------------------------------------------------------------------------------


def test_a_code_is_the_bent_output():
    encoded = torch.randn(9, 4, generator=generator())
    assert torch.equal(Point().mean(encoded), encoded)
    torch.testing.assert_close(Point("relu").mean(encoded), encoded.clamp_min(0))
    torch.testing.assert_close(Point("logistic").mean(encoded), 1 / (1 + torch.exp(-encoded)))
    assert float(Point("logistic", start=0.05).mean(torch.zeros(1, 1))) == pytest.approx(0.05)


@pytest.mark.parametrize("posterior", [Point("relu"), Point("logistic"), TopK(2)], ids=str)
def test_bent_codes_go_through_autograd(posterior):
    network = DenseNetwork((6,), "tanh")
    assert DenseGradient.covers(_model(Point(), network), "float32")
    assert not DenseGradient.covers(_model(posterior, network), "float32")


@pytest.mark.parametrize("posterior", [Point("relu"), Point("logistic", start=0.1), TopK(3)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_differences(posterior, kind):
    if kind in TARGETED:
        posterior = Point("logistic", start=0.1)
    model = _model(posterior, penalties=[ActivationPenalty(kind, 0.1, layers="code" if kind == "kl" else "all")])
    weight = torch.linspace(0.5, 2, 7, dtype=torch.float64)
    loss = lambda: sum(_step(model, weight=weight, generator=generator()).terms.values()) @ weight  # noqa: E731
    loss().backward()
    for parameter in model.parameters():
        flat, around = parameter.data.view(-1), []
        for shift in (1e-6, -1e-6):
            flat[1] += shift
            around.append(float(loss().detach()))
            flat[1] -= shift
        assert float(parameter.grad.view(-1)[1]) == pytest.approx((around[0] - around[1]) / 2e-6, rel=1e-5, abs=1e-5)


# Penalties -----------------------------------------------------------------------------------


def test_the_kl_term_is_torchs():
    mean = torch.rand(20, generator=generator(), dtype=torch.float64)
    for target in (0.05, 0.5, 0.9):
        expected = kl_divergence(Coin(torch.tensor(target).double()), Coin(mean))
        torch.testing.assert_close(bernoulli_kl(target, mean), expected, rtol=1e-6, atol=1e-8)
    assert torch.isfinite(bernoulli_kl(0.05, torch.tensor([0.0, 1.0]))).all()


@pytest.mark.parametrize("layers", ["code", "all", (0.5, 2.0)], ids=str)
def test_penalties_are_their_formulas(layers):
    rho, weight = 0.2, torch.linspace(0, 2, 7, dtype=torch.float64)
    step = _step(_model(Point("logistic")), weight=weight)
    hidden = torch.sigmoid(step.model.encoder.layers[0](step.seen))
    used = (
        [(1.0, step.code)]
        if layers == "code"
        else list(zip((1, 1) if layers == "all" else layers, (hidden, step.code), strict=False))
    )
    unit = P
    for kind in KINDS:
        expected = 0
        for factor, h in used:
            mean = (weight[:, None] * h).sum(0) / weight.sum()
            by_kind = {
                "l1": h.abs().sum(1),
                "l2": (h**2).sum(1),
                "kl": (rho * torch.log(rho / mean) + (1 - rho) * torch.log((1 - rho) / (1 - mean))).sum(),
                "absolute": (rho - mean).abs().sum(),
                "squared": ((rho - mean) ** 2).sum(),
            }
            expected = expected + factor * by_kind[kind] * torch.ones(7).double()
        found = ActivationPenalty(kind, target=rho, layers=layers)(step)
        torch.testing.assert_close(found, unit * expected, msg=lambda text, kind=kind: f"{kind}: {text}")


@pytest.mark.parametrize("init", [True, False])
def test_hidden_activations_are_what_the_code_is_made_of(init):
    columns = columns_of(real(50, P), Gaussian())
    model = Autoencoder(DenseNetwork((6, 4), "relu"), Point(), Gaussian(), columns, 2, shortcut=init)
    model.reset(generator())
    step = _step(model.double())
    network = model.encoder.network if init else model.encoder
    made = network.layers[-1](step.hidden[-1])
    if init:
        made = made * model.encoder.out_scale + model.encoder.linear(step.seen)
    assert [h.shape for h in step.hidden] == [(7, 6), (7, 4)]
    torch.testing.assert_close(made, step.code)


def test_a_target_of_each_layer_and_the_mean_of_a_row():
    step = _step(_model(Point("logistic")))
    hidden = torch.sigmoid(step.model.encoder.layers[0](step.seen))
    unit = P
    for kind, cost in TARGETED.items():
        by_layer = ActivationPenalty(kind, target=(0.1, 0.4), layers="all")(step)
        expected = cost(0.1, hidden.mean(0)).sum() + cost(0.4, step.code.mean(0)).sum()
        torch.testing.assert_close(by_layer, (unit * expected).expand(7))
        of_rows = ActivationPenalty(kind, target=0.1, mean_over="units")(step)
        torch.testing.assert_close(of_rows, unit * step.code.shape[1] * cost(0.1, step.code.mean(1)))


def test_rows_have_few_active_units():
    """Each row's mean over the units is near the target; a target of units leaves rows to differ more."""
    X = load_digits().data[:300]
    options = {"hidden_layer_sizes": (), "max_iter": 30, **FREE}
    means = {}
    for over in ("rows", "units"):
        part = ActivationPenalty("kl", 1.0, target=0.2, mean_over=over)
        means[over] = SparseAE(50, penalty=part, **options).fit(X).transform(X).mean(1)
    assert means["units"].mean() == pytest.approx(0.2, abs=0.04)
    assert means["units"].std() < 0.7 * means["rows"].std()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"target": (0.1, 0.2)}, "must hold one number for each layer, 1 in all"),
    ],
    ids=str,
)
def test_options_of_the_part_are_checked(parameters, message):
    with pytest.raises(ValueError, match=message):
        SparseAE(2, penalty=ActivationPenalty(**parameters), activation="logistic", hidden_layer_sizes=(4,)).fit(
            real(60, P)
        )


def test_a_part_is_what_its_name_is():
    X = real(100, P)
    by_name = SparseAE(4, penalty="kl", weight=0.2, target_activation=0.1, max_iter=3, **FREE).fit(X)
    part = ActivationPenalty("kl", 0.2, target=0.1)
    by_part = SparseAE(4, penalty=part, max_iter=3, **FREE).fit(X)
    assert by_part.loss_curve_ == by_name.loss_curve_ and by_part.dead_units_ == by_name.dead_units_


def test_kl_brings_the_mean_activation_to_its_target():
    X = load_digits().data
    train, test = X[:1300], X[1300:]
    for target in (0.05, 0.15):
        ae = SparseAE(100, penalty="kl", weight=0.1, target_activation=target, max_iter=15, random_state=0).fit(train)
        code = ae.transform(test)
        assert code.mean() == pytest.approx(target, rel=0.1)
        # Of each unit too, not of their mean alone.
        assert np.quantile(np.abs(ae.transform(train).mean(0) / target - 1), 0.9) < 0.2
        assert ((test - ae.reconstruct(test)) ** 2).sum() < 0.4 * ((test - train.mean(0)) ** 2).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_a_penalty_shrinks_what_it_measures(kind):
    X, found = real(150, P), []
    for weight in (1e-6, 0.3):
        ae = SparseAE(6, penalty=kind, weight=weight, hidden_layer_sizes=(16,), max_iter=30, learning_rate=0.01, **FREE)
        found.append(ae.fit(X).loss_terms_["activation_penalty"][-1] / weight)
    assert found[1] < 0.7 * found[0]


def test_l1_has_exact_zeros_and_counts_the_dead():
    X = load_digits().data[:600]
    few, many = (SparseAE(60, penalty="l1", weight=w, max_iter=10, random_state=0).fit(X) for w in (1e-4, 3e-2))
    zeros = [(ae.transform(X) == 0).mean() for ae in (few, many)]
    assert zeros[1] > zeros[0] + 0.1
    for ae in (few, many):
        assert ae.dead_units_ == int((ae.transform(X) == 0).all(0).sum())


# Top-k ---------------------------------------------------------------------------------------


def test_the_largest_are_kept_and_only_they_have_a_gradient():
    values = torch.randn(6, 10, generator=generator(), requires_grad=True)
    kept = largest(values, 3)
    assert ((kept != 0).sum(1) == 3).all()
    torch.testing.assert_close(kept.sum(1), values.sort(1).values[:, -3:].sum(1))
    kept.square().sum().backward()
    torch.testing.assert_close(values.grad, 2 * kept.detach())
    assert torch.equal(largest(values, torch.tensor(3.0)), kept)


def test_by_magnitude_strongly_negative_ones_are_kept_too():
    values = torch.randn(6, 10, generator=generator(), requires_grad=True)
    expected = torch.where(values.abs() >= values.abs().sort(1).values[:, -3:-2], values, 0.0)
    assert (expected < 0).any() and ((expected != 0).sum(1) == 3).all()
    part = TopK(3, magnitude=True)
    for kept in (part.mean(values), part.sample(values, generator()), part.sample(values, generator(), torch.ones(()))):
        assert torch.equal(kept, expected)
    annealed = TopK(3, magnitude=True, annealing=0.5).sample(values, generator(), torch.tensor(1.0))
    assert torch.equal(annealed, expected)
    expected.square().sum().backward()
    gradient, values.grad = values.grad.clone(), None
    part.mean(values).square().sum().backward()
    assert torch.equal(values.grad, gradient)
    batch = TopK(3, magnitude=True, batch=True).sample(values, generator())
    assert int((batch != 0).sum()) == 18
    assert batch[batch != 0].abs().min() >= values[batch == 0].abs().max()
    assert torch.equal(TopK(3, magnitude=True).mean(-values), -expected)


@pytest.mark.parametrize("penalty", ["top_k", "batch_top_k"])
def test_signed_units_rebuild_better(penalty):
    """A linear unit that may be negative serves both sides of its direction."""
    X = real(400, P)
    options = {"k": 2, "hidden_layer_sizes": (), "max_iter": 60, "learning_rate": 0.01, "revive": 20, **FREE}
    plain, signed = (SparseAE(4, penalty=penalty, magnitude=m, **options).fit(X) for m in (False, True))
    assert (signed.transform(X) < 0).any() and ((signed.transform(X) != 0).sum(1) == 2).all()
    assert signed.loss_curve_[-1] < plain.loss_curve_[-1]


def test_k_falls_from_all_units_and_alpha_is_for_encoding():
    part = TopK(5, alpha=1.5, annealing=0.5)
    assert [part.n_kept(20, progress) for progress in (0.0, 0.25, 0.5, 0.8, 1.0)] == [20, 12, 5, 5, 5]
    encoded = torch.randn(8, 20, generator=generator())
    for progress, kept in ((0.0, 20), (0.25, 12), (1.0, 5)):
        for given in (progress, torch.tensor(progress)):
            assert ((part.sample(encoded, generator(), given) != 0).sum(1) == kept).all()
    assert ((part.mean(encoded) != 0).sum(1) == 8).all()
    assert ((TopK(15, alpha=4.0).mean(encoded) != 0).sum(1) == 20).all()
    assert TopK().n_kept(64) == 6 and TopK().n_kept(3) == 1


def test_a_batch_keeps_n_times_k():
    encoded = torch.randn(8, 20, generator=generator())
    kept = TopK(5, batch=True).sample(encoded, generator())
    assert int((kept != 0).sum()) == 40
    assert kept[kept != 0].min() >= encoded[kept == 0].max()
    assert ((TopK(5, batch=True).mean(encoded) != 0).sum(1) == 5).all()


def test_a_batch_keeps_by_the_weights_of_its_rows():
    encoded, part = torch.randn(8, 20, generator=generator()), TopK(5, batch=True)
    plain = part.sample(encoded, generator())
    assert torch.equal(part.sample(encoded, generator(), weight=torch.ones(8)), plain)
    # Rows of no weight take no place, however large they are; a row of weight two is two rows.
    padded = torch.cat([encoded, 100 + encoded[:3]])
    assert torch.equal(part.sample(padded, generator(), weight=(torch.arange(11) < 8).float())[:8], plain)
    twice = part.sample(torch.cat([encoded, encoded[:4]]), generator())[:8]
    weight = 1.0 + (torch.arange(8) < 4)
    assert torch.equal(part.sample(encoded, generator(), weight=weight), twice)


def test_models_side_by_side_keep_what_they_keep_alone():
    """The shorter table is filled up with rows of no weight."""
    tables, made = [real(30, P, 0), real(37, P, 1)], []
    for together in (True, False):
        models = [
            Autoencoder(DenseNetwork(()), TopK(2, batch=True), Gaussian(), columns_of(X, Gaussian()), D, shortcut=False)
            for X in tables
        ]
        for model in models:
            model.reset(generator())
        rows = [
            Rows(RawRows(X), model.prepare_for_training, torch.device("cpu"))
            for model, X in zip(models, tables, strict=True)
        ]
        groups = [(models, rows)] if together else [([model], [each]) for model, each in zip(models, rows, strict=True)]
        for some, theirs in groups:
            Trainer(some, Plan(AdamW(), 1e-2, 37, 5, 5), generator()).run(side_by_side(theirs))
        made.append([parameter.detach().clone() for model in models for parameter in model.parameters()])
    # Adam's first steps double rounding errors: the shorter table's rows are a mean over 37 there and over 30 here.
    for one, other in zip(*made, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


# Revival -------------------------------------------------------------------------------------


def _idle(hidden, tied, shortcut):
    """A step of a model in which some units are idle, and which."""
    model = _model(TopK(2, revive=1), DenseNetwork(hidden, "tanh", tied=tied), shortcut=shortcut)
    step = _step(model, generator=generator(), weight=torch.linspace(0.5, 2, 7, dtype=torch.float64))
    return step, (step.sample == 0).all(0)


DENSE = pytest.mark.parametrize(
    ("hidden", "tied", "shortcut"), list(itertools.product([(), (6,)], [False, True], [False, True]))
)


@DENSE
def test_a_new_start_is_active_where_rows_are_rebuilt_badly(hidden, tied, shortcut):
    step, idle = _idle(hidden, tied, shortcut)
    model, n, loss = step.model, int(idle.sum()), -step.log_likelihood
    assert 0 < n < D
    model.code_module(step, loss)
    assert torch.equal(model.code_module.idle > 0, idle)
    assert torch.equal(_step(model).encoded, step.encoded)
    model.code_module(step, loss)
    assert not model.code_module.idle.any()
    again = _step(model)
    worst = loss.detach().argsort(descending=True)[:n]
    kept = step.sample.detach().sum(1) / (step.sample != 0).sum(1)
    # Each as active in a row of its own as that row's kept units are on average.
    torch.testing.assert_close(again.encoded[worst][:, idle].diagonal(), kept[worst].abs())
    assert torch.equal(again.encoded[:, ~idle], step.encoded[:, ~idle])
    if not tied:
        code = torch.randn(3, D, generator=generator(), dtype=torch.float64)
        torch.testing.assert_close(model.decoder(code * ~idle), model.decoder(code))


@DENSE
def test_a_new_start_has_no_part_in_the_steps_gradient(hidden, tied, shortcut):
    gradients = []
    for revived in (False, True):
        step, _ = _idle(hidden, tied, shortcut)
        if revived:
            step.model.code_module.idle.fill_(1)
        loss = step.terms["negative_log_likelihood"] if revived else -step.log_likelihood
        assert step.model.training
        loss.sum().backward()
        gradients.append([parameter.grad for parameter in step.model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_units_wait_where_rows_are_few():
    model = _model(TopK(1, revive=1), DenseNetwork(()))
    for _ in range(2):
        step = _step(model, n=1, generator=generator())
        loss = step.terms["negative_log_likelihood"]
    assert model.code_module.idle.tolist().count(0) == 2
    assert loss.isfinite().all()


def test_revival_leaves_fewer_dead_units_and_no_larger_error():
    X = load_digits().data
    train, test = X[:1300], X[1300:]
    options = {"k": 4, "hidden_layer_sizes": (), "annealing": 0.0, "max_iter": 60, "early_stopping": False}
    dead, error = [], []
    for revive in (None, 40):
        ae = SparseAE(200, revive=revive, random_state=0, **options).fit(train)
        dead.append(ae.dead_units_)
        error.append(((test - ae.reconstruct(test)) ** 2).sum(1).mean())
    assert dead[0] > 50
    assert dead[1] < dead[0] / 2
    assert error[1] < error[0]


@pytest.mark.parametrize("penalty", ["top_k", "batch_top_k"])
@pytest.mark.parametrize("n_init", [1, 3])
def test_revival_is_the_same_again_and_in_pickles(penalty, n_init):
    X = real(120, P)
    options = {"k": 2, "revive": 3, "annealing": 0.0, "hidden_layer_sizes": (6,), "max_iter": 6, "n_init": n_init}
    one, other = (SparseAE(40, penalty=penalty, **options, **FREE).fit(X) for _ in range(2))
    assert_same_state(one, other)
    again = pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(again.transform(X), one.transform(X))
    assert np.isfinite(again.partial_fit(X).loss_curve_).all()


def test_revival_in_a_captured_step(monkeypatch):
    class Replay:
        """A graph that captures a call by keeping it."""

        def __init__(self, source):
            pass

        warm_up = contextlib.nullcontext

        def capture(self, call):
            self.replay = call

    X = real(120, P)
    ae = SparseAE(40, k=2, revive=3, annealing=0.5, hidden_layer_sizes=(), max_iter=6, **FREE)
    expected = clone(ae).fit(X)
    inside = Trainer.__init__
    monkeypatch.setattr(Trainer, "__init__", lambda self, *args: (inside(self, *args), self._capture(Replay))[0])
    made = clone(ae).fit(X)
    # A learning rate that is a tensor is rounded otherwise.
    np.testing.assert_allclose(made.loss_curve_, expected.loss_curve_, rtol=1e-4)


@pytest.mark.parametrize("penalty", ["top_k", "batch_top_k"])
@pytest.mark.parametrize("hidden", [(), (32,)])
def test_rows_have_exactly_k_active_units(penalty, hidden):
    X = load_digits().data[:600]
    ae = SparseAE(80, penalty=penalty, k=10, alpha=1.5, hidden_layer_sizes=hidden, max_iter=10, random_state=0).fit(X)
    code = ae.transform(X)
    assert ((code != 0).sum(1) == 15).all()
    assert ae.dead_units_ == int((code == 0).all(0).sum()) < 10
    np.testing.assert_array_equal(code, ae.transform(X))


def test_a_few_of_many_units_rebuild_and_classify():
    X, y = load_digits(return_X_y=True)
    ae = SparseAE(100, k=10, max_iter=40, random_state=0).fit(X[:1300])
    code, test = ae.transform(X[:1300]), ae.transform(X[1300:])
    assert ((X[1300:] - ae.reconstruct(X[1300:])) ** 2).sum() < 0.4 * ((X[1300:] - X.mean(0)) ** 2).sum()
    classifier = LogisticRegression(max_iter=1000).fit(code / code.std(), y[:1300])
    assert classifier.score(test / code.std(), y[1300:]) > 0.85


# The estimator -------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", ["top_k", "batch_top_k", *KINDS])
@pytest.mark.parametrize("optimizer", ["adamw", LBFGS()], ids=["adamw", "lbfgs"])
def test_every_penalty_trains_and_refits_identically(penalty, optimizer):
    X = real(120, P)
    options = {"hidden_layer_sizes": (16,), "optimizer": optimizer, "annealing": 0.0, "max_iter": 10}
    one, other = (SparseAE(6, penalty=penalty, k=3, **options, **FREE).fit(X) for _ in range(2))
    assert one.loss_curve_[-1] < one.loss_curve_[0]
    assert_same_state(one, other)


@pytest.mark.parametrize("penalty", ["l1", "l2", "top_k", "batch_top_k"])
def test_a_start_at_pca(penalty):
    X = real(200, P)
    options = {"penalty": penalty, "weight": 1e-6, "annealing": 1.0, "learning_rate": 1e-9, "max_iter": 10**6}
    ae = SparseAE(3, init="pca", hidden_layer_sizes=(8,), random_state=0, **options).partial_fit(X)
    assert len(ae.explained_variance_ratio_) == 3
    model, x = ae.model_, torch.tensor(X, dtype=torch.float32)
    with torch.inference_mode():
        input, target, _ = model.prepare_for_training(x)
        step = Step(model, input, target, generator=generator(), progress=0.0)
        rebuilt = model.scaling.from_target(step.eta).numpy()
    pca = PCA(3).fit(X)
    np.testing.assert_allclose(rebuilt, pca.inverse_transform(pca.transform(X)), atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 7}, "k=7 is above the number of units, n_components=4"),
        ({"penalty": "kl", "target_activation": 1.0}, "'target_activation' parameter of SparseAE must be"),
        ({"penalty": "kl", "target_activation": 0.0}, "'target_activation' parameter of SparseAE must be"),
        ({"penalty": "kl", "init": "pca"}, "penalty='kl' has logistic units"),
        ({"penalty": "kl", "layers": "all"}, "hidden layers' activation is 'gelu'; use 'logistic'"),
        ({"penalty": "l1", "layers": (1.0,)}, "must hold 3 weights"),
        ({"revive": 5, "network": ConvNetwork((5,), (4,))}, "one is of type .*: use a DenseNetwork, or revive=None"),
        ({"revive": 5, "optimizer": "lbfgs"}, "revive changes weights between batches"),
        ({"revive": 0}, "'revive' parameter of SparseAE must be"),
        ({"penalty": "l1", "layers": "some"}, "'layers' parameter of SparseAE must be"),
    ],
    ids=str,
)
def test_wrong_parameters_are_said_before_training(options, message):
    with pytest.raises(ValueError, match=message):
        SparseAE(4, **options).fit(real(60, P))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (ActivationPenalty("kl"), "kind='kl' needs a code between 0 and 1"),
    ],
    ids=str,
)
def test_parts_are_checked(part, message):
    with pytest.raises(ValueError, match=message):
        AutoencoderTransformer(2, penalties=[part]).fit(real(20, P))


def test_neither_units_nor_copies_of_a_row_change_the_fit():
    X = real(20, P)
    options = {"hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0}
    twice = SparseAE(4, penalty="kl", **options).fit(np.repeat(X, 2, axis=0)[::-1])
    weighted = SparseAE(4, penalty="kl", **options).fit(X, sample_weight=np.full(20, 2.0))
    assert_same_state(twice, weighted)
    scaled = SparseAE(4, penalty="kl", early_stopping=False, **options).fit(1024 * X)
    one = SparseAE(4, penalty="kl", early_stopping=False, **options).fit(X)
    np.testing.assert_allclose(one.transform(X), scaled.transform(1024 * X), rtol=1e-4, atol=1e-5)


def test_merged_rows_hold_each_row_once():
    X = real(6, 2)
    merged = RawRows(np.vstack([X, X[:2], X[:1]]), np.array([1, 1, 1, 1, 1, 2, 3, 1, 5.0])).merged()
    order = np.lexsort(X.T[::-1])
    np.testing.assert_array_equal(merged.X, X[order])
    np.testing.assert_array_equal(merged.weight, np.array([9.0, 2, 1, 1, 1, 2])[order])
    assert RawRows(X).merged().weight is None
