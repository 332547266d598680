"""AutoencoderClassifier: probabilities by the formula, unlabelled rows, and what labels are worth."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from registry import ESTIMATORS, NETWORKS, over, real, shares
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import (
    VAE,
    VQVAE,
    AutoencoderClassifier,
    AutoencoderTransformer,
    DenoisingAE,
    DenseNetwork,
    EarlyStopping,
    GaussianNoise,
    StackedAE,
)
from skae.training.early_stopping import holdable, single_split

P = 5
TINY = {"hidden_layer_sizes": (8,), "max_iter": 1, "random_state": 0}
NOISE = GaussianNoise((0.1, 1.0))
SMALL = AutoencoderClassifier(
    StackedAE(4, hidden_layer_sizes=(8,), code_activation="gelu", pretraining_iter=2, max_iter=0),
    max_iter=5,
    random_state=0,
)


def two_moons_like(n=120, seed=0):
    """Rows of two classes that a line does not part."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, P))
    return X, (np.square(X[:, :2]).sum(1) > 1.4).astype(int)


def test_probabilities_are_the_softmax_of_the_code():
    X, y = two_moons_like()
    classifier = clone(SMALL).fit(X, y)
    model = classifier.model_
    with torch.no_grad():
        input, _, _ = model.prepare_for_training(torch.tensor(X))
        code = model.autoencoder.encoder(input)
        code = torch.nn.functional.gelu(code)
        logits = model.head((code - model.code_mean) / model.code_scale)
    np.testing.assert_allclose(classifier.predict_proba(X), logits.softmax(1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(classifier.decision_function(X), logits[:, 1] - logits[:, 0], rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(classifier.predict(X), classifier.classes_[logits.argmax(1)])


def test_the_loss_is_the_mean_cross_entropy():
    X, y = two_moons_like(200)
    classifier = clone(SMALL).set_params(max_iter=1, early_stopping=False, learning_rate=1e-9).fit(X, y)
    assert classifier.loss_curve_ == pytest.approx([log_loss(y, classifier.predict_proba(X))], rel=1e-4)


def test_it_starts_as_a_logistic_regression_on_the_codes():
    X, y = two_moons_like(200)
    classifier = clone(SMALL).set_params(max_iter=1, early_stopping=False, learning_rate=1e-9).fit(X, y)
    codes = StandardScaler().fit_transform(classifier.autoencoder_.transform(X))
    linear = LogisticRegression(C=0.1).fit(codes, y)
    np.testing.assert_allclose(classifier.predict_proba(X), linear.predict_proba(codes), atol=2e-3)


def test_it_learns_what_a_line_cannot_tell():
    X, y = two_moons_like(800)
    A, B = slice(0, 600), slice(600, 800)
    linear = LogisticRegression().fit(X[A], y[A]).score(X[B], y[B])
    assert AutoencoderClassifier(random_state=0).fit(X[A], y[A]).score(X[B], y[B]) > max(0.85, linear + 0.2)


def test_unlabelled_rows_are_seen_by_the_autoencoder_alone():
    X, y = two_moons_like()
    few = np.where(np.arange(len(y)) < 60, y, -1)
    classifier = clone(SMALL).fit(X, few)
    np.testing.assert_array_equal(classifier.classes_, [0, 1])
    pretrained = classifier.autoencoder_
    again = clone(SMALL).fit_from(pretrained, X[:60], y[:60])
    np.testing.assert_array_equal(classifier.predict_proba(X), again.predict_proba(X))
    on_fewer = clone(SMALL).fit(X[:60], y[:60])
    assert not np.array_equal(pretrained.transform(X), on_fewer.autoencoder_.transform(X))


@pytest.mark.parametrize("labels", [["b", "a"], [True, False], [3, 7], [1.0, 2.0]])
def test_labels_of_any_kind(labels):
    X, y = two_moons_like()
    y = np.array(labels)[y]
    classifier = clone(SMALL).fit(X, y)
    np.testing.assert_array_equal(classifier.classes_, np.unique(y))
    assert classifier.predict(X).dtype == y.dtype


@pytest.mark.parametrize("y", [np.zeros(20), np.full(20, -1), np.full(20, "a")])
def test_one_class_is_refused_before_training(y, monkeypatch):
    monkeypatch.setattr(StackedAE, "fit", None)
    X = real(20, P)
    classifier = clone(SMALL)
    with pytest.raises(ValueError, match="class"):
        classifier.fit(X, y)
    assert not hasattr(classifier, "model_") and not hasattr(classifier, "classes_")


def test_minus_one_is_a_class_where_there_is_but_one_other():
    X, y = two_moons_like()
    classifier = clone(SMALL).fit(X, np.where(y == 1, 1, -1))
    np.testing.assert_array_equal(classifier.classes_, [-1, 1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_labels_that_are_no_labels(value):
    X, y = two_moons_like()
    y = y.astype(float)
    y[3] = value
    with pytest.raises(ValueError, match="y contains NaN, infinity or None"):
        clone(SMALL).fit(X, y)


def test_a_failed_fit_leaves_the_earlier_one():
    X, y = two_moons_like()
    classifier = clone(SMALL).fit(X, y)
    before = classifier.predict_proba(X)
    with pytest.raises(ValueError, match="class"):
        classifier.fit(X, np.zeros(len(X)))
    with pytest.raises(ValueError, match="one a row|inconsistent"):
        classifier.fit(X, y[:-1])
    np.testing.assert_array_equal(classifier.predict_proba(X), before)


@pytest.mark.parametrize(
    "autoencoder",
    [
        AutoencoderTransformer(3, max_iter=2),
        AutoencoderTransformer(3, network=DenseNetwork((8,), dropout=0.2), max_iter=2),
        VAE(3, hidden_layer_sizes=(8,), max_iter=2),
        StackedAE(3, hidden_layer_sizes=(8,), layer="rbm", likelihood="bernoulli", pretraining_iter=2, max_iter=1),
    ],
)
def test_any_autoencoder(autoencoder):
    X = shares(150, P)
    X[::9, 2] = np.nan
    y = (X[:, 0] > np.median(X[:, 0])).astype(int)
    classifier = AutoencoderClassifier(autoencoder, max_iter=60, random_state=0).fit(X, y)
    assert classifier.score(X, y) > 0.85
    for rows in (sp.csr_array(np.nan_to_num(X)), X.astype(np.float32)):
        np.testing.assert_allclose(classifier.predict_proba(rows).sum(1), 1, rtol=1e-5)
    other = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(other.predict_proba(X), classifier.predict_proba(X))


INSIDE = {
    **{name: estimator for name, estimator in ESTIMATORS.items() if name != "ConvAE"},
    **{name: AutoencoderTransformer(2, network=NETWORKS[name], **TINY) for name in ("one", "tied", "dropout")},
    "StackedAE-rbm": StackedAE(2, hidden_layer_sizes=(8,), layer="rbm", pretraining_iter=1, max_iter=0),
    "DenoisingAE-mask": DenoisingAE(2, corruption="masking", conditioning="mask", **TINY),
    "DenoisingAE-noise": DenoisingAE(2, corruption=NOISE, conditioning="noise_level", **TINY),
    "DenoisingAE-preconditioned": DenoisingAE(2, corruption=NOISE, conditioning="noise_level", init="random", **TINY),
    "VQVAE-shared": VQVAE(2, n_codes=8, shared_codebook=True, code_width=3, **TINY),
}


@pytest.mark.parametrize("corruption", [None, "masking"])
@pytest.mark.parametrize("autoencoder", **over(INSIDE))
def test_the_encoder_of_every_autoencoder(autoencoder, corruption):
    """It starts at the autoencoder's own codes, and all of the encoder is trained."""
    X, y = shares(60, P), np.arange(60) % 3
    X[::7, 1] = np.nan
    fixed = {"early_stopping": False, "random_state": 0, "corruption": corruption, "max_iter": 1}
    classifier = AutoencoderClassifier(autoencoder, learning_rate=1e-12, **fixed).fit(X, y)
    codes = []
    for model in (classifier.model_.autoencoder, classifier.autoencoder_.model_):
        input, _, observed = model.prepare_for_training(torch.tensor(X))
        codes.append(model.step(input, input, observed).code.detach())
    torch.testing.assert_close(*codes)
    moved = AutoencoderClassifier(autoencoder, learning_rate=0.01, **fixed).fit(X, y)
    before, after = (dict(each.model_.autoencoder.encoder.named_parameters()) for each in (classifier, moved))
    assert all(not torch.equal(before[name], after[name]) for name in before)
    other = pickle.loads(pickle.dumps(moved))
    np.testing.assert_array_equal(other.predict_proba(X), moved.predict_proba(X))


FEW = {
    "one each": [0] + [1],
    "149 and one": [0] * 149 + [1],
    "ten and two": [0] * 10 + [1] * 2,
    "three classes, two of one": [0] * 60 + [1] + [2],
    "many of one each": list(range(12)),
}


@pytest.mark.parametrize(
    "early_stopping", [True, EarlyStopping(n_folds=0), EarlyStopping(0.9, n_folds=0), EarlyStopping(n_folds=2)], ids=str
)
@pytest.mark.parametrize("labels", **over(FEW))
def test_classes_of_few_rows(labels, early_stopping):
    y = np.array(labels)
    X = 6 * np.eye(P + 10)[y] + np.random.default_rng(0).standard_normal((len(y), P + 10))
    classifier = clone(SMALL).set_params(early_stopping=early_stopping).fit(X, y)
    assert classifier.classes_.tolist() == sorted(set(labels))
    assert classifier.predict_proba(X).shape == (len(y), len(set(labels)))
    assert classifier.score(X, y) > max(np.bincount(y)) / len(y) - 1e-9


def test_every_class_is_held_out_and_trained_on_in_proportion():
    y = np.repeat([0, 1, 2, 3], [100, 37, 2, 1])
    order = np.random.default_rng(0).permutation(len(y))
    rows = holdable(order, np.eye(4)[y])
    assert sorted(rows) == list(range(139))
    for n_folds in (2, 5, 10):
        held = [np.bincount(y[rows[fold::n_folds]], minlength=4) for fold in range(n_folds)]
        assert np.ptp(held, axis=0).max() <= 1
        assert (np.max(held, axis=0)[:3] < [100, 37, 2]).all()
    for n_held in (1, 14, 70, 139):
        held = single_split(rows, n_held, np.eye(4)[y])
        counts = np.bincount(y[held], minlength=4)
        assert len(set(held)) == min(n_held, 136) and (counts[:3] < [100, 37, 2]).all()
        np.testing.assert_allclose(counts[:2], len(held) * np.array([99, 36]) / 136, atol=1)


def test_rows_without_a_second_class_hold_nothing_out():
    y = np.eye(3)[[0, 0, 0, 1, 2]]
    assert len(holdable(np.arange(5), y)) == 0
    np.testing.assert_array_equal(holdable(np.array([2, 0, 1]), None), [2, 0, 1])


def test_a_class_whose_rows_have_no_weight_is_none():
    X, y = two_moons_like(40)
    with pytest.raises(ValueError, match="rows of at least two classes, but y has 1 class"):
        clone(SMALL).fit(X, y, sample_weight=(y == 1).astype(float))


def test_a_rare_class_is_in_the_start_of_many_rows(monkeypatch):
    monkeypatch.setattr("skae.autoencoders._classifier.START_ROWS", 8)
    X, y = real(90, P), np.r_[np.zeros(88, int), 1, 2]
    classifier = clone(SMALL).set_params(early_stopping=False).fit(X, y)
    assert np.isfinite(classifier.predict_proba(X)).all()


def test_weights_are_rows_given_again():
    X, y = two_moons_like(40)
    weight = np.arange(40) % 3
    index = np.repeat(np.arange(40), weight)
    one = clone(SMALL).fit(X, y, sample_weight=weight)
    other = clone(SMALL).fit(X[index], y[index])
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), rtol=1e-6)


def test_in_searches():
    X, y = two_moons_like(90)
    pipeline = make_pipeline(StandardScaler(), clone(SMALL))
    grid = {"autoencoderclassifier__autoencoder__n_components": [2, 6]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(X, y)
    assert search.predict(X).shape == (90,)


def test_few_labels_on_digits():
    """A hundred labels of 1300: better than the same labels without the rows that have none."""
    X, y = load_digits(return_X_y=True)
    few = np.where(np.arange(1300) < 100, y[:1300], -1)
    classifier = AutoencoderClassifier(random_state=0).fit(X[:1300], few)
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(X[:100], y[:100])
    assert classifier.score(X[1300:], y[1300:]) > linear.score(X[1300:], y[1300:])
