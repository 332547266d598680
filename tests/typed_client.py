"""A client with types: `test_typing.py` has mypy read it, and runs it."""

from typing import Any

import numpy as np

from skae import (
    AdamW,
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    EarlyStopping,
    LaplaceCode,
)


def reduced(X: np.ndarray, n_components: int) -> Any:
    """Codes of rows."""
    ae = AutoencoderTransformer(
        n_components,
        hidden_layer_sizes=8,
        penalties=[LaplaceCode(0.1)],
        optimizer=AdamW(betas=(0.9, 0.99), clip_norm=1.0),
        early_stopping=EarlyStopping(patience=3),
        max_iter=2,
        random_state=0,
    )
    losses: list[float] = ae.fit(X).loss_curve_
    assert len(losses) == ae.n_iter_ and ae.n_components_ == n_components
    return ae.set_output(transform="default").set_params(verbose=False).transform(X)


def are_suspicious(X: np.ndarray) -> np.ndarray:
    """Which rows are anomalies."""
    linear = AutoencoderTransformer(2, hidden_layer_sizes=(), max_iter=2)
    detector = AutoencoderOutlierDetector(linear, novelty=True, contamination=0.1, random_state=0).fit(X)
    return np.asarray(detector.predict(X) < 0)


def filled(X: np.ndarray) -> Any:
    """Rows without gaps."""
    imputer = AutoencoderImputer(AutoencoderTransformer(2, max_iter=2), max_iter=1, random_state=0).fit(X)
    low, high = imputer.interval(X, coverage=0.8)
    return np.clip(imputer.transform(X), low, high)
