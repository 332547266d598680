"""Dask: a search and the members of a detector on a Dask cluster, by joblib's backend."""

import joblib
import numpy as np
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV

from skae import AutoencoderOutlierDetector, AutoencoderTransformer

PACKAGES = ("dask", "distributed")


def main() -> str:
    """Whether the cluster finds what one process finds."""
    from distributed import Client, LocalCluster

    X, _ = load_iris(return_X_y=True)
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(4,), max_iter=5, random_state=0)
    search = GridSearchCV(ae, {"n_components": [1, 2]}, cv=3, error_score="raise")
    detector = AutoencoderOutlierDetector(ae, n_estimators=3, random_state=0)
    here = search.fit(X).cv_results_["mean_test_score"], detector.fit(X).score_samples(X)
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, Client(cluster), joblib.parallel_config("dask"):
        there = search.fit(X).cv_results_["mean_test_score"], detector.set_params(n_jobs=2).fit(X).score_samples(X)
    for one, other in zip(here, there, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    return "a grid search and a detector on two workers have the results of one process"
