"""LatentSpaceDisplay."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from skae.base.parameters import checked_arguments
from skae.inspection._common import (
    MAX_CLASSES,
    NAMES,
    PAIR_OF_COMPONENTS,
    class_styles,
    dense,
    fit_pca,
    import_pyplot,
    named_estimators,
)


class LatentSpaceDisplay:
    """Two-dimensional codes as points, coloured by a target, PCA's beside those of any models.

    Create one with `from_estimator`; the parameters are stored as attributes.

    Parameters
    ----------
    codes : dict of str to array-like of shape (n_samples, 2)
        Codes of the same rows, by the name of what made them: a panel each.
    y : array-like of shape (n_samples,), default=None
        Colours of the points: up to 20 classes (integers or strings), or a quantity (floats). None
        takes one colour.

    Attributes
    ----------
    axes_ : ndarray of shape (n_panels,) of matplotlib Axes
        The panels.
    figure_ : matplotlib Figure
        Figure that contains the panels.
    scatters_ : dict of str to list of matplotlib PathCollection
        The points by panel, a collection for each class.

    See Also
    --------
    ReconstructionDisplay : The rows that are rebuilt from the codes.

    Examples
    --------
    >>> from skae import AutoencoderTransformer
    >>> from skae.inspection import LatentSpaceDisplay
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> ae = AutoencoderTransformer(2, max_iter=3, random_state=0).fit(X)
    >>> display = LatentSpaceDisplay.from_estimator(ae, X, y)
    >>> list(display.codes)
    ['PCA', 'AutoencoderTransformer']
    """

    def __init__(self, codes, *, y=None) -> None:
        self.codes = codes
        self.y = y

    @classmethod
    @checked_arguments(components=PAIR_OF_COMPONENTS, pca=["boolean"], names=NAMES)
    def from_estimator(
        cls,
        estimator,
        X,
        y=None,
        *,
        X_train=None,
        components: Any = (0, 1),
        pca=True,
        names=None,
        ax=None,
        scatter_kwargs=None,
    ) -> Self:
        """Encode X with fitted estimators and draw the codes.

        Parameters
        ----------
        estimator : fitted estimator or list of them
            Has `transform`, to at least two components.
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), default=None
            Colours of the points: up to 20 classes (integers or strings), or a quantity (floats).
        X_train : array-like of shape (n_train_samples, n_features), default=None
            What PCA is fitted to; None takes X.
        components : pair of int, default=(0, 1)
            Which components of larger codes to draw.
        pca : bool, default=True
            Whether the first panel shows PCA.
        names : str or list of str, default=None
            Names of the estimators; None takes their classes'.
        ax : array of matplotlib Axes, default=None
            Where to draw, one for each panel; None makes a new figure.
        scatter_kwargs : dict, default=None
            Passed to the `scatter` of matplotlib.

        Returns
        -------
        LatentSpaceDisplay
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        estimators = named_estimators(estimator, names, reserved=["PCA"] if pca else [])
        codes = {}
        if pca:
            linear = fit_pca(X if X_train is None else X_train, max(components) + 1)
            codes["PCA"] = _two(linear.transform(dense(X)), components, "PCA")
        codes |= {name: _two(dense(made.transform(X)), components, name) for name, made in estimators.items()}
        return cls(codes, y=y).plot(ax=ax, scatter_kwargs=scatter_kwargs)

    def plot(self, ax=None, *, scatter_kwargs=None) -> Self:
        """Draw the codes.

        Parameters
        ----------
        ax : array of matplotlib Axes, default=None
            Where to draw, one for each panel; None makes a new figure.
        scatter_kwargs : dict, default=None
            Passed to the `scatter` of matplotlib.

        Returns
        -------
        LatentSpaceDisplay
        """
        plt = import_pyplot(f"{type(self).__name__}.plot")
        n_panels = len(self.codes)
        if ax is None:
            _, ax = plt.subplots(1, n_panels, figsize=(4 * n_panels + 0.8, 4), layout="constrained")
        axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
        if len(axes) != n_panels:
            raise ValueError(f"ax holds {len(axes)} axes, but there are {n_panels} panels: {list(self.codes)}.")
        groups = self._groups(plt)
        self.scatters_ = {}
        for panel, (name, code) in zip(axes, self.codes.items(), strict=True):
            code = dense(code)
            self.scatters_[name] = [
                panel.scatter(
                    *code[rows].T, **{"s": 9, "alpha": 0.8, "linewidths": 0, **style, **(scatter_kwargs or {})}
                )
                for rows, style in groups
            ]
            panel.set(title=name, xticks=[], yticks=[])
        self._key(axes)
        self.axes_, self.figure_ = axes, axes[0].figure
        return self

    def _groups(self, plt) -> list[tuple]:
        """Rows that are drawn alike, and how."""
        if self.y is None:
            return [(slice(None), {"color": "C0"})]
        y = np.asarray(self.y)
        if not self._has_classes:
            return [(slice(None), {"c": y})]
        return [(rows, style) for _, rows, style in class_styles(plt, y)]

    @property
    def _has_classes(self) -> bool:
        y = np.asarray(self.y)
        return y.dtype.kind != "f" and len(np.unique(y)) <= MAX_CLASSES

    def _key(self, axes) -> None:
        """Add the legend of the classes, or the colour bar of the quantity, once for all panels."""
        last = axes[-1]
        if self.y is None:
            return
        if self._has_classes:
            last.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, markerscale=2, handletextpad=0.2)
        else:
            last.figure.colorbar(last.collections[0], ax=list(axes))


def _two(code: np.ndarray, components, name: str) -> np.ndarray:
    if code.shape[1] <= max(components):
        raise ValueError(f"{name} has {code.shape[1]} components; components={tuple(components)} needs more.")
    return code[:, list(components)]
