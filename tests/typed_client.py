"""A client with types: `test_typing.py` has mypy read it, and it runs."""

from typing import Any

import numpy as np
from sklearn.datasets import load_iris

from skae import (
    AdamW,
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    EarlyStopping,
    LaplaceCode,
)


def reduce(X: np.ndarray, n_components: int) -> Any:
    """Codes of rows."""
    ae = AutoencoderTransformer(
        n_components,
        hidden_layer_sizes=8,
        penalties=[LaplaceCode(0.1)],
        optimizer=AdamW(clip_norm=1.0),
        early_stopping=EarlyStopping(patience=3),
        max_iter=2,
        random_state=0,
    )
    ae = ae.fit(X)
    losses: list[float] = ae.loss_curve_
    assert len(losses) == ae.n_iter_ and ae.n_components_ == n_components
    return ae.set_output(transform="default").transform(X)


def suspicious(X: np.ndarray) -> np.ndarray:
    """Which rows are anomalies."""
    detector = AutoencoderOutlierDetector(AutoencoderTransformer(2, hidden_layer_sizes=(), max_iter=2), random_state=0)
    return np.asarray(detector.fit(X).predict(X) < 0)


def filled(X: np.ndarray) -> Any:
    """Rows without gaps."""
    return AutoencoderImputer(AutoencoderTransformer(2, max_iter=2), random_state=0).fit(X).transform(X)


def main() -> None:
    """Use them."""
    X = load_iris().data[::3]
    assert reduce(X, 2).shape == (50, 2)
    assert suspicious(X).shape == (50,)
    assert filled(X).shape == X.shape
