"""ReconstructionDisplay."""

from __future__ import annotations

from numbers import Integral
from typing import Self

import numpy as np
from sklearn.utils import _safe_indexing

from skae.base.parameters import at_least, checked_arguments, list_of
from skae.inspection._common import IMAGE_SHAPE, NAMES, dense, fit_pca, import_pyplot, named_estimators
from skae.inspection._images import as_images, draw_images, figure_size, grey, image_shape_of, is_colour, label_lines


class ReconstructionDisplay:
    """Images above what models make of them: originals, PCA of the same size, any number of models.

    Create one with `from_estimator`; the parameters are stored as attributes.

    Parameters
    ----------
    rows : dict of str to array-like of shape (n_images, n_features)
        The lines of the picture, from the top on: images by the name of what made them.
    image_shape : tuple of int, default=None
        (height, width), or (height, width, 3) or (3, height, width) for colours between 0 and 1. None takes squares.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the images.
    figure_ : matplotlib Figure
        Figure that contains the axes.
    images_ : dict of str to list of matplotlib AxesImage
        The images by line.

    See Also
    --------
    LatentSpaceDisplay : The codes instead of the rows.

    Examples
    --------
    >>> from skae import AutoencoderTransformer
    >>> from skae.inspection import ReconstructionDisplay
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> ae = AutoencoderTransformer(10, max_iter=3, random_state=0).fit(X)
    >>> display = ReconstructionDisplay.from_estimator(ae, X, n_images=6)
    >>> list(display.rows)
    ['Original', 'PCA', 'AutoencoderTransformer']
    """

    def __init__(self, rows, *, image_shape=None) -> None:
        self.rows = rows
        self.image_shape = image_shape

    @classmethod
    @checked_arguments(
        n_images=[at_least(1)],
        indices=[list_of(Integral), None],
        image_shape=IMAGE_SHAPE,
        pca=["boolean"],
        names=NAMES,
    )
    def from_estimator(
        cls,
        estimator,
        X,
        *,
        X_train=None,
        n_images=10,
        indices=None,
        image_shape=None,
        pca=True,
        names=None,
        ax=None,
        imshow_kwargs=None,
    ) -> Self:
        """Rebuild some rows of X with fitted estimators and draw them.

        Parameters
        ----------
        estimator : fitted estimator or list of them
            Has `reconstruct`, or `transform` and `inverse_transform`.
        X : array-like of shape (n_samples, n_features)
            Images, a row each. NaN entries are tinted.
        X_train : array-like of shape (n_train_samples, n_features), default=None
            What PCA is fitted to; None takes X. Give the training rows where X is held out.
        n_images : int, default=10
            Number of images, the first of X.
        indices : array-like of int, default=None
            Which rows of X to show, instead of the first.
        image_shape : tuple of int, default=None
            (height, width), or (height, width, 3) or (3, height, width). None takes the first estimator's
            `image_shape_` where it has one, and squares otherwise.
        pca : bool, default=True
            Whether to show PCA, once for each size of code among the estimators.
        names : str or list of str, default=None
            Names of the estimators; None takes their classes'.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        imshow_kwargs : dict, default=None
            Passed to the `imshow` of matplotlib.

        Returns
        -------
        ReconstructionDisplay
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        estimators = named_estimators(estimator, names, reserved=["Original", "PCA"] if pca else ["Original"])
        shown = _safe_indexing(X, np.arange(min(n_images, X.shape[0])) if indices is None else np.asarray(indices))
        rows = {"Original": dense(shown)}
        if pca:
            sizes = sorted({made.transform(shown).shape[1] for made in estimators.values()})
            for size in sizes:
                linear = fit_pca(X if X_train is None else X_train, size)
                rows["PCA" if len(sizes) == 1 else f"PCA, {size}"] = linear[-1].inverse_transform(
                    linear.transform(dense(shown))
                )
        rows |= {name: _reconstruct(made, shown) for name, made in estimators.items()}
        image_shape = image_shape_of(next(iter(estimators.values())), image_shape)
        return cls(rows, image_shape=image_shape).plot(ax=ax, imshow_kwargs=imshow_kwargs)

    def plot(self, ax=None, *, imshow_kwargs=None) -> Self:
        """Draw the images, a line for each entry of `rows`.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        imshow_kwargs : dict, default=None
            Passed to the `imshow` of matplotlib. By default grey, dark for high values, with the
            range of the first line for all.

        Returns
        -------
        ReconstructionDisplay
        """
        plt = import_pyplot(f"{type(self).__name__}.plot")
        lines = {name: as_images(rows, self.image_shape) for name, rows in self.rows.items()}
        first = next(iter(lines.values()))
        if ax is None:
            _, ax = plt.subplots(figsize=figure_size(list(lines.values()), list(lines)), layout="constrained")
        style = {"cmap": grey(plt), "vmin": np.nanmin(first), "vmax": np.nanmax(first), **(imshow_kwargs or {})}
        shown = [images.clip(0, 1) if is_colour(images) else images for images in lines.values()]
        made = draw_images(ax, shown, lambda image: style)
        label_lines(ax, made, list(lines))
        self.images_ = dict(zip(lines, made, strict=True))
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _reconstruct(estimator, X) -> np.ndarray:
    if hasattr(estimator, "reconstruct"):
        return dense(estimator.reconstruct(X))
    return dense(estimator.inverse_transform(estimator.transform(X)))
