"""mlflow: an imputer and an autoencoder in a model that is saved, loaded, and predicts the same."""

import tempfile
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skae import AutoencoderImputer, AutoencoderTransformer

PACKAGES = ("mlflow-skinny",)


def main() -> str:
    """Whether predictions are the same, by both of mlflow's loaders."""
    import mlflow.pyfunc
    import mlflow.sklearn

    X, y = load_iris(return_X_y=True)
    X[::4, 1] = np.nan
    model = make_pipeline(
        AutoencoderImputer(n_estimators=2, autoencoder_params={"max_iter": 5}, random_state=0),
        AutoencoderTransformer(2, max_iter=5, random_state=0),
        LogisticRegression(),
    ).fit(X, y)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "model"
        mlflow.sklearn.save_model(model, path, pip_requirements=[], serialization_format="cloudpickle")
        size = sum(file.stat().st_size for file in path.rglob("*"))
        np.testing.assert_array_equal(mlflow.sklearn.load_model(path).predict(X), model.predict(X))
        np.testing.assert_array_equal(mlflow.pyfunc.load_model(str(path)).predict(X), model.predict(X))
    return f"predictions of the loaded model are the same; {size / 1024:.0f} KiB"
