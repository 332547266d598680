"""LossCurveDisplay."""

from __future__ import annotations

from typing import Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skae.inspection._common import import_pyplot


class LossCurveDisplay:
    """Loss by epoch: the total, its terms where there are several, and that of held-out rows.

    Create one with `from_estimator`; the parameters are stored as attributes.

    Parameters
    ----------
    loss_curve : array-like of shape (n_epochs,)
        Mean training loss of each epoch.
    loss_terms : dict of str to array-like of shape (n_epochs,), default=None
        The terms that sum to the loss, by name.
    validation_loss_curve : array-like of shape (n_evaluations,), default=()
        Loss of the held-out rows; the first is that of the start, before any training.
    validation_epochs : array-like of shape (n_evaluations,), default=None
        Epochs done at each evaluation. None spreads the evaluations evenly from the start to the
        last epoch.
    name : str, default=None
        Name of the model, the title of the plot.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the curves.
    figure_ : matplotlib Figure
        Figure that contains the axes.
    loss_line_ : matplotlib Line2D
        Curve of the training loss.
    term_lines_ : dict of str to matplotlib Line2D
        Curves of the terms; empty where there is one only, which is the loss itself.
    validation_line_ : matplotlib Line2D or None
        Curve of the held-out loss, where there is one.

    See Also
    --------
    sklearn.model_selection.LearningCurveDisplay : Score by the number of training rows.

    Examples
    --------
    >>> from skae import VAE
    >>> from skae.inspection import LossCurveDisplay
    >>> from sklearn.datasets import load_iris
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = VAE(2, max_iter=3, early_stopping=False, random_state=0).fit(X)
    >>> display = LossCurveDisplay.from_estimator(vae)
    >>> sorted(display.term_lines_)
    ['kl_divergence', 'negative_log_likelihood']
    """

    def __init__(
        self, loss_curve, *, loss_terms=None, validation_loss_curve=(), validation_epochs=None, name=None
    ) -> None:
        self.loss_curve = loss_curve
        self.loss_terms = loss_terms
        self.validation_loss_curve = validation_loss_curve
        self.validation_epochs = validation_epochs
        self.name = name

    @classmethod
    def from_estimator(cls, estimator, *, name=None, ax=None, line_kwargs=None) -> Self:
        """Draw the training of a fitted estimator.

        Parameters
        ----------
        estimator : fitted autoencoder
            Has `loss_curve_`, `loss_terms_` and `validation_loss_curve_`.
        name : str, default=None
            Title; None takes the name of the class.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        line_kwargs : dict, default=None
            Passed to the `plot` of matplotlib, for all curves.

        Returns
        -------
        LossCurveDisplay
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        display = cls(
            estimator.loss_curve_,
            loss_terms=estimator.loss_terms_,
            validation_loss_curve=estimator.validation_loss_curve_,
            validation_epochs=getattr(estimator, "validation_epochs_", None),
            name=type(estimator).__name__ if name is None else name,
        )
        return display.plot(ax=ax, line_kwargs=line_kwargs)

    def plot(self, ax=None, *, name=None, line_kwargs=None) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        name : str, default=None
            Title; None takes the display's own.
        line_kwargs : dict, default=None
            Passed to the `plot` of matplotlib, for all curves.

        Returns
        -------
        LossCurveDisplay
        """
        plt = import_pyplot(f"{type(self).__name__}.plot")
        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        style = line_kwargs or {}
        epochs = np.arange(1, len(self.loss_curve) + 1)
        self.loss_line_ = ax.plot(epochs, self.loss_curve, **{"color": "C0", "label": "training", **style})[0]
        self.validation_line_ = None
        if len(self.validation_loss_curve):
            held_out = {"color": "C1", "label": "held-out", **style}
            self.validation_line_ = ax.plot(self._validation_epochs(), self.validation_loss_curve, **held_out)[0]
        self.term_lines_ = {}
        terms = self.loss_terms or {}
        for index, (term, values) in enumerate(terms.items() if len(terms) > 1 else ()):
            # The first two colours are the totals'.
            dashed = {"color": f"C{index + 2}", "linestyle": "--", "label": term.replace("_", " "), **style}
            self.term_lines_[term] = ax.plot(epochs[: len(values)], values, **dashed)[0]
        ax.set(xlabel="Epoch", ylabel="Loss of a row", title=self.name if name is None else name)
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _validation_epochs(self) -> np.ndarray:
        if self.validation_epochs is not None:
            return np.asarray(self.validation_epochs)
        return np.linspace(0, len(self.loss_curve), len(self.validation_loss_curve))
