"""Early stopping: how held-out rows decide when to stop."""

from __future__ import annotations

from sklearn.base import BaseEstimator


class EarlyStopping(BaseEstimator):
    """Stop when the loss on held-out rows no longer falls, and restore the best weights.

    The start counts as the first candidate, so that training never ends worse on the held-out rows
    than it began.

    Parameters
    ----------
    validation_fraction : float, default=0.1
        Share of the rows that is held out.
    patience : int, default=20
        Evaluations without a new best after which training stops.
    n_folds : int or "auto", default="auto"
        With 0, the held-out rows are lost to training. With k ≥ 2, each of k folds is held out
        in turn, the length of the training with the best mean held-out loss is found, and one last
        training on all rows has that length: for tables too small to spare rows. "auto" takes
        5 folds below 2000 rows and a single split above.

    Examples
    --------
    >>> from skae import AutoencoderTransformer, EarlyStopping
    >>> AutoencoderTransformer(2, early_stopping=EarlyStopping(patience=5))
    AutoencoderTransformer(early_stopping=EarlyStopping(patience=5), n_components=2)
    """

    def __init__(self, validation_fraction=0.1, *, patience=20, n_folds="auto"):
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.n_folds = n_folds
