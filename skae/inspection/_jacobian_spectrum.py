"""JacobianSpectrumDisplay."""

from __future__ import annotations

from typing import Self

import numpy as np

from skae.base.parameters import checked_arguments
from skae.inspection._common import NAMES, import_pyplot, named_estimators
from skae.inspection._jacobian import tangents


class JacobianSpectrumDisplay:
    """Singular values of encoders' Jacobians by rank: in how many directions a code is sensitive.

    The curves are means over the rows, on a logarithmic scale, so that codes in different units can be compared by
    their shape: where a curve falls steeply after k values, the data lie near a surface of k dimensions, as far as this
    encoder knows. The bands hold nine tenths of the rows.

    Create one with `from_estimator`; the parameters are stored as attributes.

    Parameters
    ----------
    singular_values : dict of str to array-like of shape (n_samples, n_values)
        In descending order, by the name of the estimator, as `tangents` returns them.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the curves.
    figure_ : matplotlib Figure
        Figure that contains the axes.
    lines_ : dict of str to matplotlib Line2D
        The mean curves. Means that are zero are left out.
    bands_ : dict of str to matplotlib PolyCollection
        The bands; empty with ``band=False``.

    See Also
    --------
    tangents : The singular values and their directions.

    References
    ----------
    Rifai, Vincent, Muller, Glorot and Bengio, "Contractive auto-encoders: explicit invariance
    during feature extraction", ICML 2011.

    Examples
    --------
    >>> from skae import AutoencoderTransformer, ContractiveAE
    >>> from skae.inspection import JacobianSpectrumDisplay
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> ae = AutoencoderTransformer(10, max_iter=3, random_state=0).fit(X)
    >>> cae = ContractiveAE(10, max_iter=3, random_state=0).fit(X)
    >>> display = JacobianSpectrumDisplay.from_estimator([ae, cae], X[:100])
    >>> list(display.lines_)
    ['AutoencoderTransformer', 'ContractiveAE']
    """

    def __init__(self, singular_values) -> None:
        self.singular_values = singular_values

    @classmethod
    @checked_arguments(names=NAMES, band=["boolean"])
    def from_estimator(cls, estimator, X, *, names=None, band=True, ax=None, line_kwargs=None) -> Self:
        """Draw the spectra of fitted autoencoders at the rows of X.

        Parameters
        ----------
        estimator : fitted autoencoder or list of them
            Autoencoders of skae, not pipelines.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows, held-out ones by preference; some hundred suffice.
        names : str or list of str, default=None
            Names of the estimators; None takes their classes'.
        band : bool, default=True
            Whether to show between which values nine tenths of the rows lie.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        line_kwargs : dict, default=None
            Passed to the `plot` of matplotlib, for all curves.

        Returns
        -------
        JacobianSpectrumDisplay
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        estimators = named_estimators(estimator, names)
        display = cls({name: tangents(made, X)[0] for name, made in estimators.items()})
        return display.plot(ax=ax, band=band, line_kwargs=line_kwargs)

    def plot(self, ax=None, *, band=True, line_kwargs=None) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        band : bool, default=True
            Whether to show between which values nine tenths of the rows lie.
        line_kwargs : dict, default=None
            Passed to the `plot` of matplotlib, for all curves.

        Returns
        -------
        JacobianSpectrumDisplay
        """
        plt = import_pyplot(f"{type(self).__name__}.plot")
        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        self.lines_, self.bands_ = {}, {}
        for name, values in self.singular_values.items():
            values = np.asarray(values, dtype=np.float64)
            rank = np.arange(1, values.shape[1] + 1)
            style = {"marker": "o", "markersize": 4, "label": name, **(line_kwargs or {})}
            (line,) = ax.plot(rank, _positive(values.mean(0)), **style)
            self.lines_[name] = line
            if band:
                low, high = (_positive(edge) for edge in np.quantile(values, [0.05, 0.95], axis=0))
                self.bands_[name] = ax.fill_between(rank, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        if any(np.any(np.asarray(values) > 0) for values in self.singular_values.values()):
            ax.set_yscale("log")
        ax.set(xlabel="Rank", ylabel="Singular value of the encoder's Jacobian")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _positive(values: np.ndarray) -> np.ndarray:
    """Values that a logarithmic scale can show, NaN elsewhere."""
    return np.where(values > 0, values, np.nan)
