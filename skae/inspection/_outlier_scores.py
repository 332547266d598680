"""OutlierScoresDisplay."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from skae.base.parameters import SequenceOf, any_number, at_least, checked_arguments
from skae.inspection._common import MAX_CLASSES, class_styles, import_pyplot, last_step


class OutlierScoresDisplay:
    """Histogram of anomaly scores with the threshold, by class where classes are known.

    Bars are shares of the class, so that few anomalies are seen beside many normal rows; the legend
    has the share that the threshold flags. Create one with `from_estimator`; the parameters are
    stored as attributes.

    Parameters
    ----------
    scores : array-like of shape (n_samples,)
        Scores; higher is more normal.
    threshold : float, default=None
        Rows of a lower score are flagged. None draws no threshold.
    y : array-like of shape (n_samples,), default=None
        Up to 20 classes of the rows.
    name : str, default=None
        Name of the detector, the title of the plot.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the histogram.
    figure_ : matplotlib Figure
        Figure that contains the axes.
    bars_ : dict
        What `hist` of matplotlib drew, by class; the key is None without classes.
    threshold_line_ : matplotlib Line2D or None
        The threshold, where there is one.

    See Also
    --------
    skae.AutoencoderOutlierDetector : The detector.

    Examples
    --------
    >>> from skae import AutoencoderOutlierDetector
    >>> from skae.inspection import OutlierScoresDisplay
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> detector = AutoencoderOutlierDetector(novelty=True, n_estimators=1, random_state=0).fit(X[y == 0])
    >>> display = OutlierScoresDisplay.from_estimator(detector, X, y)
    >>> sorted(map(int, display.bars_))
    [0, 1, 2]
    """

    def __init__(self, scores, *, threshold=None, y=None, name=None) -> None:
        self.scores = scores
        self.threshold = threshold
        self.y = y
        self.name = name

    @classmethod
    @checked_arguments(bins=[at_least(1), SequenceOf(any_number(), lengths=(2, None), order="<")])
    def from_estimator(cls, estimator, X=None, y=None, *, name=None, bins: Any = 40, ax=None, hist_kwargs=None) -> Self:
        """Score rows with a fitted detector and draw the scores.

        Parameters
        ----------
        estimator : fitted detector
            Has `score_samples`; its `offset_`, where it has one, is the threshold. Detectors of
            scikit-learn and pipelines are taken as well.
        X : {array-like, sparse matrix} of shape (n_samples, n_features), default=None
            Rows. None takes the `calibration_scores_` of an `AutoencoderOutlierDetector`: those of
            training rows by the members that were not fitted on them.
        y : array-like of shape (n_samples,), default=None
            Up to 20 classes of the rows of X.
        name : str, default=None
            Title; None takes the name of the class.
        bins : int or array-like of float, default=40
            Number of bins, or their edges.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        hist_kwargs : dict, default=None
            Passed to the `hist` of matplotlib, for all classes.

        Returns
        -------
        OutlierScoresDisplay

        Raises
        ------
        ValueError
            If the estimator has no `score_samples`, if X is None and it keeps no held-out scores or
            y is given, or if y does not fit X or has more than 20 classes.
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        detector = last_step(estimator)
        threshold = getattr(detector, "offset_", None)
        return cls(
            _scores(estimator, X, y),
            # An array of one number for OneClassSVM.
            threshold=None if threshold is None else np.asarray(threshold).item(),
            y=y,
            name=type(detector).__name__ if name is None else name,
        ).plot(ax=ax, bins=bins, hist_kwargs=hist_kwargs)

    def plot(self, ax=None, *, name=None, bins: Any = 40, hist_kwargs=None) -> Self:
        """Draw the histogram.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        name : str, default=None
            Title; None takes the display's own.
        bins : int or array-like of float, default=40
            Number of bins, or their edges; the same for all classes.
        hist_kwargs : dict, default=None
            Passed to the `hist` of matplotlib, for all classes.

        Returns
        -------
        OutlierScoresDisplay
        """
        plt = import_pyplot(f"{type(self).__name__}.plot")
        scores = np.asarray(self.scores, dtype=np.float64)
        groups = self._groups(plt, len(scores))
        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        edges = np.histogram_bin_edges(scores, bins)
        self.bars_ = {}
        for key, rows, style in groups:
            shown = scores[rows]
            style = {"histtype": "stepfilled", "alpha": 0.6, **style, **(hist_kwargs or {})}
            style["label"] += self._flagged(shown)
            self.bars_[key] = ax.hist(shown, bins=edges, weights=np.full(len(shown), 1 / len(shown)), **style)[2]
        self.threshold_line_ = None
        if self.threshold is not None:
            self.threshold_line_ = ax.axvline(self.threshold, color="black", linestyle="--", label="threshold")
        share = "Share of the rows" if self.y is None else "Share of the rows of a class"
        ax.set(xlabel="Score (low: anomalous)", ylabel=share, title=self.name if name is None else name)
        # Room for the legend above the bars.
        ax.margins(y=0.3)
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _groups(self, plt, n_rows: int) -> list[tuple]:
        """Classes, their rows, and how they are drawn."""
        if self.y is None:
            return [(None, slice(None), {"color": "C0", "label": "rows"})]
        y = np.asarray(self.y)
        if len(y) != n_rows:
            raise ValueError(f"y has {len(y)} classes for {n_rows} scores; give one for each.")
        if (n_classes := len(np.unique(y))) > MAX_CLASSES:
            raise ValueError(f"y has {n_classes} different values; {MAX_CLASSES} classes can be told apart.")
        return class_styles(plt, y)

    def _flagged(self, scores: np.ndarray) -> str:
        return "" if self.threshold is None else f": {(scores < self.threshold).mean():.1%} flagged"


def _scores(estimator, X, y) -> np.ndarray:
    kind = type(last_step(estimator)).__name__
    if X is not None:
        if not hasattr(estimator, "score_samples"):
            raise ValueError(f"{kind} has no score_samples, whose values are drawn.")
        if y is not None:
            check_consistent_length(X, y)
        return np.asarray(estimator.score_samples(X))
    if y is not None:
        raise ValueError("y says the classes of the rows of X, but X is None; give both.")
    if not hasattr(estimator, "calibration_scores_"):
        raise ValueError(f"{kind} keeps no scores of held-out rows, which X=None would draw; give rows.")
    return estimator.calibration_scores_
