"""Floors under the figures of docs/benchmarks/{reduction,imputation}.md, on data that ship with scikit-learn."""

import numpy as np
import pytest
from sklearn import datasets
from sklearn.decomposition import PCA
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from skae import VAE, AutoencoderImputer, AutoencoderTransformer, DenoisingAE

LOADERS = {
    "digits": datasets.load_digits,
    "wine": datasets.load_wine,
    "breast_cancer": datasets.load_breast_cancer,
    "iris": datasets.load_iris,
    "diabetes": datasets.load_diabetes,
}


def _split(name, scaled=True):
    X, y = LOADERS[name](return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.25, random_state=0)
    if scaled:
        scaler = StandardScaler().fit(X)
        X, X_test = scaler.transform(X), scaler.transform(X_test)
    return X, X_test, y, y_test


def _error(model, X):
    return np.square(X - model.inverse_transform(model.transform(X))).sum(axis=1).mean()


@pytest.mark.parametrize(
    ("name", "n_components", "largest"),
    [("digits", 10, 0.6), ("wine", 5, 1.02), ("breast_cancer", 5, 1.0), ("iris", 2, 1.02), ("diabetes", 5, 1.0)],
)
def test_held_out_error_beside_pca(name, n_components, largest):
    X, X_test, _, _ = _split(name)
    ae = AutoencoderTransformer(n_components, random_state=0).fit(X)
    assert _error(ae, X_test) <= largest * _error(PCA(n_components).fit(X), X_test)


@pytest.mark.parametrize("scaled", [True, False], ids=["scaled", "unscaled"])
@pytest.mark.parametrize("name", ["wine", "breast_cancer", "diabetes"])
def test_training_error_never_ends_above_pca(name, scaled):
    X, _, _, _ = _split(name, scaled)
    pca = PCA(2).fit(X)
    for early_stopping in (True, False):
        ae = AutoencoderTransformer(2, early_stopping=early_stopping, max_iter=100, random_state=0).fit(X)
        assert _error(ae, X) <= (1 + 1e-5) * _error(pca, X)


def test_codes_of_digits_serve_a_classifier():
    X, X_test, y, y_test = _split("digits")
    for n_components, gain in ((2, 0.1), (5, 0.0)):
        codes = {"ae": AutoencoderTransformer(n_components, random_state=0).fit(X), "pca": PCA(n_components).fit(X)}
        for classifier in (LogisticRegression(max_iter=5000), KNeighborsClassifier(5)):
            scores = {
                name: classifier.fit(model.transform(X), y).score(model.transform(X_test), y_test)
                for name, model in codes.items()
            }
            assert scores["ae"] >= scores["pca"] + gain


@pytest.mark.parametrize("estimator", [DenoisingAE, VAE])
def test_the_others_rebuild_held_out_digits_better_than_pca(estimator):
    X, X_test, _, _ = _split("digits")
    model = estimator(10, random_state=0).fit(X)
    assert _error(model, X_test) < 0.8 * _error(PCA(10).fit(X), X_test)


@pytest.mark.filterwarnings("ignore:.*Early stopping criterion not reached")
@pytest.mark.parametrize(("name", "largest"), [("breast_cancer", 0.27), ("diabetes", 0.68)])
def test_half_of_the_cells_are_filled_better_than_by_other_imputers(name, largest):
    X = StandardScaler().fit_transform(LOADERS[name](return_X_y=True)[0])
    hidden = np.random.default_rng(0).random(X.shape) < 0.5
    gappy = np.where(hidden, np.nan, X)

    def error(imputer):
        return np.square(imputer.fit_transform(gappy) - X)[hidden].mean()

    imputer = AutoencoderImputer(n_estimators=2, random_state=0)
    own = error(imputer)
    assert own <= largest
    assert own <= 0.9 * min(error(peer) for peer in (IterativeImputer(random_state=0), KNNImputer()))
    low, high = imputer.interval(gappy)
    assert 0.85 <= ((low <= X) & (X <= high))[hidden].mean() <= 0.95
