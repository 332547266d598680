"""ManifoldDisplay."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np

from skae.base.parameters import checked_arguments
from skae.inspection._common import GRID, IMAGE_SHAPE, import_pyplot
from skae.inspection._decoding import decode_grid
from skae.inspection._images import as_images, grey, image_shape_of, is_colour


class ManifoldDisplay:
    """A grid of two components decoded: the rows as images, where their codes lie.

    The directions are those of `LatentSpaceDisplay`: the first component grows to the right, the second upwards.

    Create one with `from_estimator`; the parameters are stored as attributes.

    Parameters
    ----------
    rows : array-like of shape (n_rows, n_columns, n_features)
        The decoded rows, as `decode_grid` returns them.
    values : pair of array-like, of shape (n_columns,) and (n_rows,)
        The values of the two components.
    components : pair of int, default=(0, 1)
        Which components they are.
    image_shape : tuple of int, default=None
        (height, width), or (height, width, 3) or (3, height, width) for colours between 0 and 1. None takes squares.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the picture.
    figure_ : matplotlib Figure
        Figure that contains the axes.
    image_ : matplotlib AxesImage
        All images in one, of shape (n_rows · height, n_columns · width).

    See Also
    --------
    decode_grid : The rows.
    LatentSpaceDisplay : The codes of data in the same plane.

    Examples
    --------
    >>> from skae import VAE
    >>> from skae.inspection import ManifoldDisplay
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> vae = VAE(2, max_iter=5, random_state=0).fit(X)
    >>> display = ManifoldDisplay.from_estimator(vae, n=12)
    >>> display.image_.get_array().shape
    (96, 96)
    """

    def __init__(self, rows, values, *, components: Any = (0, 1), image_shape=None) -> None:
        self.rows = rows
        self.values = values
        self.components = components
        self.image_shape = image_shape

    @classmethod
    @checked_arguments(**GRID, image_shape=IMAGE_SHAPE)
    def from_estimator(
        cls,
        estimator,
        X=None,
        *,
        n: Any = 20,
        bounds=None,
        quantiles: Any = (0.05, 0.95),
        components: Any = (0, 1),
        base=None,
        image_shape=None,
        ax=None,
        imshow_kwargs=None,
    ) -> Self:
        """Decode a grid of codes and draw it.

        Parameters
        ----------
        estimator : fitted estimator
            Has `inverse_transform`, and `transform` where X is given.
        X : array-like of shape (n_samples, n_features), default=None
            Rows whose codes the grid should cover. None takes the standard normal prior, and is for classes that have
            one, as `VAE`.
        n : int or pair of int, default=20
            Size of the grid, or (n_rows, n_columns).
        bounds, quantiles, components, base
            As of `decode_grid`.
        image_shape : tuple of int, default=None
            (height, width), or (height, width, 3) or (3, height, width). None takes the estimator's `image_shape_`
            where it has one, and squares otherwise.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        imshow_kwargs : dict, default=None
            Passed to the `imshow` of matplotlib.

        Returns
        -------
        ManifoldDisplay
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        rows, values = decode_grid(
            estimator, n, X=X, bounds=bounds, quantiles=quantiles, components=components, base=base
        )
        display = cls(
            rows.reshape(*rows.shape[:2], -1),
            values,
            components=components,
            image_shape=image_shape_of(estimator, image_shape),
        )
        return display.plot(ax=ax, imshow_kwargs=imshow_kwargs)

    def plot(self, ax=None, *, imshow_kwargs=None) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        imshow_kwargs : dict, default=None
            Passed to the `imshow` of matplotlib. By default grey, dark for high values.

        Returns
        -------
        ManifoldDisplay
        """
        plt = import_pyplot(f"{type(self).__name__}.plot")
        rows = np.asarray(self.rows)
        n_rows, n_columns = rows.shape[:2]
        images = as_images(rows.reshape(n_rows * n_columns, -1), self.image_shape)
        if is_colour(images):
            images = images.clip(0, 1)
        height, width = images.shape[1:3]
        grid = images.reshape(n_rows, n_columns, *images.shape[1:])[::-1]
        mosaic = grid.swapaxes(1, 2).reshape(n_rows * height, n_columns * width, *images.shape[3:])
        if ax is None:
            side = 6 / max(mosaic.shape[:2])
            size = (max(2.0, mosaic.shape[1] * side) + 0.8, max(1.5, mosaic.shape[0] * side) + 0.8)
            _, ax = plt.subplots(figsize=size, layout="constrained")
        # In units of images, the middle of the first one at zero.
        extent = (-0.5, n_columns - 0.5, -0.5, n_rows - 0.5)
        style = {"cmap": grey(plt), "aspect": height / width, "extent": extent, **(imshow_kwargs or {})}
        self.image_ = ax.imshow(mosaic, **style)
        # Where the picture is narrow in a direction, fewer labels have room.
        room = [mosaic.shape[1] / max(mosaic.shape[:2]) * 10, mosaic.shape[0] / max(mosaic.shape[:2]) * 24]
        for axis, most, values, component in zip((ax.xaxis, ax.yaxis), room, self.values, self.components, strict=True):
            n_ticks = max(1, min(5, len(values), int(most)))
            ticks = np.unique(np.linspace(0, len(values) - 1, n_ticks).round().astype(int))
            axis.set_ticks(ticks, _labels(np.asarray(values)[ticks]))
            axis.set_label_text(f"Component {component}")
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _labels(values: np.ndarray) -> list[str]:
    """Numbers with as many digits as tell them apart."""
    width = float(np.ptp(values)) or float(np.abs(values).max()) or 1.0
    digits = max(0, 1 - math.floor(math.log10(width)))
    # Adding zero turns minus zero into zero.
    return [f"{np.round(value, digits) + 0.0:.{digits}f}" for value in values]
