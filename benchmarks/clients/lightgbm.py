"""lightgbm: anomaly scores and codes beside the columns of a gradient-boosted classifier."""

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer

from skae import AutoencoderImputer, AutoencoderTransformer

PACKAGES = ("lightgbm",)


def main() -> str:
    """Accuracy with codes and filled gaps beside the columns, and without."""
    from lightgbm import LGBMClassifier

    X, y = load_breast_cancer(return_X_y=True)
    X[np.random.default_rng(0).uniform(size=X.shape) < 0.2] = np.nan
    imputer = AutoencoderImputer(n_estimators=2, autoencoder_params={"max_iter": 5}, random_state=0)
    codes = make_pipeline(imputer, AutoencoderTransformer(5, max_iter=10, random_state=0))
    features = make_union(FunctionTransformer(), make_column_transformer((codes, slice(0, 10))))
    booster = LGBMClassifier(n_estimators=50, verbose=-1, n_jobs=1, random_state=0)
    with_codes, without = (
        cross_val_score(model, X, y, cv=3, error_score="raise").mean()
        for model in (make_pipeline(features, booster), booster)
    )
    assert with_codes > 0.9
    return f"accuracy {with_codes:.3f} with codes of filled rows beside the columns, {without:.3f} without"
