"""shap: which columns a classifier on codes looks at; its values add up to the prediction."""

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer

PACKAGES = ("shap",)


def main() -> str:
    """The column that counts most, and how far the values are from adding up."""
    import shap

    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    model = make_pipeline(
        StandardScaler(), AutoencoderTransformer(5, max_iter=10, random_state=0), LogisticRegression()
    )
    model.fit(X, y)

    def probability(rows):
        return model.predict_proba(rows)[:, 1]

    explainer = shap.PermutationExplainer(probability, shap.maskers.Independent(X.iloc[:50]), seed=0)
    values = explainer(X.iloc[:10], silent=True)
    gap = np.abs(values.values.sum(1) + values.base_values - probability(X.iloc[:10])).max()
    assert gap < 1e-6
    column = X.columns[np.abs(values.values).mean(0).argmax()]
    return f"{column!r} counts most; values and base add up to the prediction within {gap:.0e}"
