"""Models that train side by side: restarts and folds."""

import numpy as np
import pytest
import torch
from registry import ESTIMATORS, NETWORKS, generator, over, real, shares, state_of
from sklearn.base import clone

from skae import LBFGS, AdamW, AutoencoderTransformer, DenoisingAE, DenseNetwork, EarlyStopping
from skae.training.batches import RawRows, Rows, SideBySide, side_by_side
from skae.training.trainer import Plan, Trainer

P = 5
FREE = {"hidden_layer_sizes": (8,), "early_stopping": False, "max_iter": 8}


def _model(X, seed, **options):
    """A model at its start."""
    options = {"penalties": [], "learning_rate": 1e-30, "max_iter": 1} | options
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(6,), early_stopping=False, random_state=seed, **options)
    return ae.fit(X).model_


def _rows(model, X, weight=None):
    return Rows(RawRows(X, weight), model.prepare_for_training, torch.device("cpu"))


@pytest.mark.parametrize("network", [None, DenseNetwork((6,), tied=True)], ids=["by hand", "autograd"])
@pytest.mark.parametrize("optimizer", [AdamW(), AdamW(weight_decay=0.3, clip_norm=0.5)], ids=str)
def test_each_trains_as_it_would_alone(optimizer, network):
    data = [real(40, P, seed) for seed in range(3)]
    together = [_model(X, seed, network=network, init="random") for seed, X in enumerate(data)]
    alone = [_model(X, seed, network=network, init="random") for seed, X in enumerate(data)]
    plan = Plan(optimizer, 1e-2, 40, 10, 10)
    rows = [_rows(model, X) for model, X in zip(together, data, strict=True)]
    trainer = Trainer(together, plan, generator())
    trainer.run(side_by_side(rows))
    for index, (model, each) in enumerate(zip(alone, rows, strict=True)):
        single = Trainer([model], plan, generator())
        single.run(each)
        np.testing.assert_allclose(trainer.histories[index].loss, single.histories[0].loss, rtol=1e-5)
        for made, expected in zip(together[index].parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(made, expected, rtol=1e-3, atol=1e-4)


def test_rows_of_no_weight_fill_up_the_shorter():
    data = [real(30, P, 0), real(33, P, 1)]
    models = [_model(X, 0) for X in data]
    rows = [_rows(model, X) for model, X in zip(models, data, strict=True)]
    source = side_by_side(rows)
    assert isinstance(source, SideBySide) and source.sizes == [30, 33] and source.n_rows == 33
    batches = list(source.epoch(8, generator()))
    assert [batch.input.shape for batch in batches] == [(2, 8, P)] * 4 + [(2, 1, P)]
    for index, each in enumerate(rows):
        seen = torch.cat([batch.input[index][batch.weight[index] > 0] for batch in batches])
        expected = each.resident.input
        torch.testing.assert_close(seen[seen[:, 0].argsort()], expected[expected[:, 0].argsort()])
    orders = [torch.cat([batch.input[index] for batch in batches]) for index in (0, 1)]
    assert not torch.equal(orders[0][:30], rows[0].resident.input)


def test_shared_rows_are_stored_once():
    X, weight = real(20, P), np.arange(1.0, 21.0)
    rows = _rows(_model(X, 0), X, weight)
    source = side_by_side([rows] * 4)
    (batch,) = source.epoch(20)
    assert batch.input.shape == (4, 20, P) and batch.target is batch.input
    torch.testing.assert_close(batch.weight[3], rows.resident.weight)
    assert source._all is rows.resident


@pytest.mark.parametrize("estimator", **over({n: e for n, e in ESTIMATORS.items() if "n_init" in e.get_params()}))
def test_restarts_keep_the_best(estimator):
    X = shares(120, P)
    options = {"max_iter": 5, "early_stopping": EarlyStopping(0.2, n_folds=0), "random_state": 0}
    one, four = (clone(estimator).set_params(n_init=n, **options).fit(X) for n in (1, 4))
    assert min(four.validation_loss_curve_) <= min(one.validation_loss_curve_) + 1e-2 * abs(one.loss_curve_[0])
    again = clone(four).fit(X)
    for name, values in state_of(four).items():
        np.testing.assert_array_equal(values, state_of(again)[name], err_msg=name)


def test_restarts_differ_and_the_lowest_loss_wins(monkeypatch):
    X, kept = real(100, P), []
    inside = Trainer.run
    monkeypatch.setattr(Trainer, "run", lambda self, *args: kept.append(self) or inside(self, *args))
    ae = AutoencoderTransformer(2, n_init=5, random_state=0, **FREE).fit(X)
    (trainer,) = kept
    losses = [history.loss[-1] for history in trainer.histories]
    assert len(set(losses)) == 5
    assert ae.loss_curve_[-1] == min(losses)
    assert -ae.score(X) == pytest.approx(min(losses), rel=0.05)


@pytest.mark.parametrize("network", **over(NETWORKS))
def test_restarts_of_every_network(network):
    X = real(60, P)
    ae = AutoencoderTransformer(2, network=network, n_init=3, max_iter=3, random_state=0).fit(X)
    assert np.isfinite(ae.transform(X)).all()


def test_restarts_one_after_the_other_where_they_cannot_train_together():
    X = real(60, P)
    options = FREE | {"max_iter": 2, "optimizer": LBFGS(max_evaluations=4), "random_state": 0}
    ae = AutoencoderTransformer(2, n_init=3, **options).fit(X)
    assert ae.loss_curve_[-1] <= AutoencoderTransformer(2, **options).fit(X).loss_curve_[-1] * 1.01


def test_restarts_of_rows_on_disk(tmp_path):
    X = real(80, P)
    stored = np.memmap(tmp_path / "rows", dtype=np.float64, mode="w+", shape=X.shape)
    stored[:] = X
    ae = DenoisingAE(2, n_init=2, random_state=0, **FREE).fit(stored)
    assert np.isfinite(ae.loss_curve_).all()


def test_warm_start_goes_on_from_the_one_kept():
    X = real(60, P)
    ae = AutoencoderTransformer(2, n_init=3, warm_start=True, random_state=0, **FREE).fit(X)
    before = ae.loss_curve_[-1]
    assert ae.fit(X).loss_curve_[0] == pytest.approx(before, rel=0.1)


def test_folds_train_in_one_step(monkeypatch):
    made = []
    inside = Trainer.__init__
    monkeypatch.setattr(
        Trainer, "__init__", lambda self, models, *a: made.append(len(models)) or inside(self, models, *a)
    )
    AutoencoderTransformer(2, hidden_layer_sizes=(8,), max_iter=3, random_state=0).fit(real(101, P))
    assert made == [5, 1]
