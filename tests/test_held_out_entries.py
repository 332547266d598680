"""HeldOutEntries: closed forms of PCA, planted ranks, and what is told of gaps."""

import numpy as np
import pytest
import scipy.sparse as sp
from registry import ESTIMATORS, over, shares
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import VAE, AutoencoderTransformer, HeldOutEntries, MaskedAE

LINEAR = AutoencoderTransformer(hidden_layer_sizes=(), random_state=0)
DEFAULT = AutoencoderTransformer(max_iter=10, random_state=0)


def planted(n, p, rank, noise, seed):
    """Rows of this rank and unit variance, and noise."""
    rng = np.random.default_rng(seed)
    signal = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, p))
    return signal / signal.std() + noise * rng.standard_normal((n, p))


def chosen(estimator, X, sizes, scoring):
    """The number of components that a search takes."""
    return GridSearchCV(estimator, {"n_components": sizes}, scoring=scoring, cv=2).fit(X).best_params_["n_components"]


@pytest.mark.parametrize("noise", [0.1, 0.3, 0.6])
@pytest.mark.parametrize(("n", "p", "rank"), [(200, 10, 2), (200, 10, 3), (300, 20, 5), (500, 30, 8)])
@pytest.mark.parametrize("estimator", [PCA(), LINEAR], ids=["PCA", "linear"])
def test_a_search_finds_the_planted_rank(estimator, n, p, rank, noise):
    X = planted(n, p, rank, noise, seed=rank)
    sizes = sorted({1, 2, 3, 5, 8, p, rank - 1, rank + 1} - {0})
    assert chosen(estimator, X, sizes, HeldOutEntries()) == rank


@pytest.mark.parametrize(("n", "p", "rank"), [(200, 10, 2), (200, 10, 3), (300, 20, 5), (500, 30, 8)])
@pytest.mark.parametrize("estimator", [DEFAULT, VAE(max_iter=10, random_state=0)], ids=["default", "VAE"])
def test_networks_find_the_planted_rank(estimator, n, p, rank):
    X = planted(n, p, rank, 0.3, seed=rank)
    # A VAE does not use components that say nothing, so that more than enough are no worse.
    sizes = [rank - 1, rank, p] if isinstance(estimator, VAE) else [rank - 1, rank, rank + 1, p]
    assert chosen(estimator, X, sizes, HeldOutEntries()) == rank


def test_score_would_take_all_components():
    X = planted(200, 10, 3, 0.3, seed=0)
    assert chosen(LINEAR, X, [2, 3, 10], None) == 10


def test_of_pca_it_is_the_leave_one_out_residual():
    """With P = W Wᵀ, the least-squares fit without entry j misses it by (x − Px)ⱼ / (1 − Pⱼⱼ)."""
    X = planted(60, 6, 2, 0.3, seed=1)
    pca, rows = PCA(2).fit(X[:40]), X[40:]
    P = pca.components_.T @ pca.components_
    centred = rows - pca.mean_
    residual = (centred - centred @ P) / (1 - np.diag(P))
    others = (rows.sum(0) - rows) / (len(rows) - 1)
    # Turns of one entry a row each: the column's mean is that of rows whose entry is not held out in this turn.
    score = HeldOutEntries(6, max_iter=2000, tol=1e-9)(pca, rows)
    assert 1 - np.square(residual).sum() / np.square(rows - others).sum() == pytest.approx(score, abs=0.02)


def test_a_copy_of_the_row_scores_zero():
    X = planted(100, 6, 2, 0.3, seed=0)
    assert HeldOutEntries()(PCA(6).fit(X), X) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("estimator", **over({name: e for name, e in ESTIMATORS.items() if name != "ConvAE"}))
def test_every_autoencoder(estimator):
    X = shares(60, 5)
    X[::7, 1] = np.nan
    ae = clone(estimator).fit(X)
    scores = [HeldOutEntries()(ae, rows) for rows in (X, X.copy(order="F"))]
    assert np.isfinite(scores).all() and scores[0] == scores[1] and scores[0] <= 1
    float32 = HeldOutEntries()(ae, X.astype(np.float32))
    assert float32 == pytest.approx(scores[0], abs=0.05)


def test_one_that_is_told_of_gaps_answers_once(monkeypatch):
    X = planted(120, 6, 2, 0.3, seed=0)
    mae = MaskedAE(8, hidden_layer_sizes=(8,), max_iter=2, random_state=0).fit(X)
    calls, inside = [], MaskedAE.reconstruct
    monkeypatch.setattr(MaskedAE, "reconstruct", lambda self, rows: calls.append(rows) or inside(self, rows))
    assert HeldOutEntries()(mae, X) > 0.7
    assert len(calls) == 1 and np.isnan(calls[0]).any(1).all()


def test_containers():
    pandas = pytest.importorskip("pandas")
    X = planted(60, 5, 2, 0.3, seed=0)
    frame = pandas.DataFrame(X, columns=list("abcde"))
    scorer = HeldOutEntries()
    expected = scorer(clone(LINEAR).fit(X), X)
    assert scorer(clone(LINEAR).fit(frame), frame) == pytest.approx(expected)
    assert scorer(clone(LINEAR).fit(X), sp.csr_array(X)) == pytest.approx(expected)
    # The columns differ little in spread: a pipeline scores in the data's units.
    pipeline = make_pipeline(StandardScaler(), clone(LINEAR).set_params(n_components=2)).fit(X)
    assert scorer(pipeline, X) > 0.5


def test_odd_tables():
    X = planted(40, 5, 2, 0.3, seed=0)
    pca = PCA(2).fit(X)
    assert HeldOutEntries()(pca, np.ones((30, 5))) <= 1
    assert HeldOutEntries()(clone(LINEAR).set_params(n_components=1).fit(np.ones((30, 5))), np.ones((30, 5))) == 0
    assert HeldOutEntries(2)(pca, X[:1]) <= 1
    with pytest.raises(ValueError, match="'n_turns' parameter of HeldOutEntries must be an int"):
        HeldOutEntries(1)(pca, X)


def test_many_rows_are_sampled():
    X = planted(500, 5, 2, 0.3, seed=0)
    pca = PCA(2).fit(X)
    some, all_rows = HeldOutEntries(max_samples=200)(pca, X), HeldOutEntries()(pca, X)
    assert some != all_rows and some == pytest.approx(all_rows, abs=0.05)
    assert HeldOutEntries(max_samples=200)(pca, X) == some
