"""How sure the labels of a detector are, and labels that are given only where they are sure."""

from __future__ import annotations

import numpy as np
from scipy.stats import betabinom
from sklearn.utils.validation import check_is_fitted

from skae.base.parameters import checked_arguments, share


def share_of_flags(p_values: np.ndarray, n_held_out: int, contamination: float) -> np.ndarray:
    r"""Probability that a row is flagged when n other rows are held out.

    Of the held-out rows, k = p (n + 1) − 1 are as anomalous as the row. With a uniform prior, the share q of
    such rows has a beta distribution, and as many of n others have a beta-binomial one,

    .. math:: q \mid k \sim \mathrm{Beta}(k + 1, n - k + 1), \quad K' \mid q \sim \mathrm{Binomial}(n, q)

    The row is flagged if its p-value by these, (K' + 1) / (n + 1), is at most the contamination.

    Parameters
    ----------
    p_values : ndarray of shape (n_rows,)
    n_held_out : int
    contamination : float

    Returns
    -------
    ndarray of shape (n_rows,)
    """
    n = n_held_out
    # Less the rounding of products such as 0.01 · 300 = 2.9999999999999996.
    most = np.floor(contamination * (n + 1) + 1e-9) - 1
    alpha = p_values * (n + 1)
    return betabinom.cdf(most, n, alpha, n + 2 - alpha)


class ConfidenceMixin:
    """Confidence of labels, and rejection, by what a detector defines: labels, p-values and the threshold's share."""

    contamination_: float

    @property
    def _n_held_out(self) -> int:
        """How many rows the p-values compare with."""
        raise NotImplementedError

    def predict(self, X) -> np.ndarray:
        """-1 for an anomaly, 1 for a normal row."""
        raise NotImplementedError

    def p_values(self, X) -> np.ndarray:
        """Conformal p-values of new rows."""
        raise NotImplementedError

    def predict_confidence(self, X) -> np.ndarray:
        """Probability that each row keeps its label when other training rows are held out.

        It is near one far from the threshold, and one half about it. More held-out rows make it larger.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows that were not in the training.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            In [0, 1], of the label of `predict`. Below one half where this label is not the one that
            the row's p-value suggests, as the threshold takes other scores into account.

        References
        ----------
        Perini, Vercruyssen and Davis, "Quantifying the confidence of anomaly detectors in their
        example-wise predictions", ECML PKDD 2020; with the beta-binomial distribution in place of
        the binomial one with the mean of q.
        """
        return self._labels_and_confidence(X)[1]

    @checked_arguments(min_confidence=[share("left")])
    def predict_with_rejection(self, X, *, min_confidence: float = 0.95) -> np.ndarray:
        """Label rows by the threshold where that is sure, and 0 where it is not.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows that were not in the training.
        min_confidence : float in [0, 1), default=0.95
            Rows whose `predict_confidence` is below it are rejected.

        Returns
        -------
        ndarray of shape (n_samples,)
            -1 for an anomaly, 1 for a normal row, 0 for a row that somebody should look at.
        """
        labels, confidence = self._labels_and_confidence(X)
        return np.where(confidence < min_confidence, 0, labels)

    def _labels_and_confidence(self, X) -> tuple[np.ndarray, np.ndarray]:
        check_is_fitted(self)
        labels = self.predict(X)
        flagged = share_of_flags(self.p_values(X), self._n_held_out, self.contamination_)
        return labels, np.where(labels < 0, flagged, 1 - flagged)
