"""LatentTraversalDisplay."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from skae.base.parameters import at_least, checked_arguments, list_of
from skae.inspection._common import IMAGE_SHAPE, SPREAD, import_pyplot
from skae.inspection._decoding import traverse
from skae.inspection._images import as_images, draw_images, figure_size, grey, image_shape_of, is_colour, label_lines


class LatentTraversalDisplay:
    """What each component does: a line of images while it alone changes.

    Create one with `from_estimator`; the parameters are stored as attributes.

    Parameters
    ----------
    rows : array-like of shape (n_lines, n_steps, n_features)
        The decoded rows, a line for each component.
    components : sequence of int
        Which component each line changes.
    values : array-like of shape (n_lines, n_steps), default=None
        Its values.
    image_shape : tuple of int, default=None
        (height, width), or (height, width, 3) or (3, height, width) for colours between 0 and 1. None takes squares.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the images.
    figure_ : matplotlib Figure
        Figure that contains the axes.
    images_ : dict of int to list of matplotlib AxesImage
        The images by component.

    See Also
    --------
    ManifoldDisplay : Two components at once.

    Examples
    --------
    >>> from skae import VAE
    >>> from skae.inspection import LatentTraversalDisplay
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> vae = VAE(5, max_iter=5, random_state=0).fit(X)
    >>> display = LatentTraversalDisplay.from_estimator(vae, X, components=(0, 3))
    >>> display.rows.shape, list(display.images_)
    ((2, 9, 64), [0, 3])
    """

    def __init__(self, rows, *, components, values=None, image_shape=None) -> None:
        self.rows = rows
        self.components = components
        self.values = values
        self.image_shape = image_shape

    @classmethod
    @checked_arguments(
        components=[list_of(at_least(0)), None], n_steps=[at_least(2)], **SPREAD, image_shape=IMAGE_SHAPE
    )
    def from_estimator(
        cls,
        estimator,
        X=None,
        *,
        components=None,
        n_steps=9,
        bounds=None,
        quantiles: Any = (0.05, 0.95),
        base=None,
        image_shape=None,
        ax=None,
        imshow_kwargs=None,
    ) -> Self:
        """Decode codes in which one component changes, and draw them.

        Parameters
        ----------
        estimator : fitted estimator
            Has `inverse_transform`, and `transform` where X is given.
        X : array-like of shape (n_samples, n_features), default=None
            Rows whose codes the values should cover. None takes the standard normal prior, and is for classes that have
            one, as `VAE`.
        components : sequence of int, default=None
            Which to show; None takes the first ten.
        n_steps : int, default=9
            Images of a line.
        bounds : pair of float, or one for each component, default=None
            Smallest and largest value, evenly spread between, instead of those of X or of the prior.
        quantiles : pair of float, default=(0.05, 0.95)
            Where the lines begin and end, in probability; the values between are evenly spread.
        base : array-like of shape (n_components,), default=None
            Values of the components that do not change: a code, such as ``estimator.transform(row)[0]``. None takes the
            mean code of X, and zero without X.
        image_shape : tuple of int, default=None
            (height, width), or (height, width, 3) or (3, height, width). None takes the estimator's `image_shape_`
            where it has one, and squares otherwise.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        imshow_kwargs : dict, default=None
            Passed to the `imshow` of matplotlib.

        Returns
        -------
        LatentTraversalDisplay
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        rows, values, components = traverse(
            estimator, n_steps, X=X, bounds=bounds, quantiles=quantiles, components=components, base=base
        )
        display = cls(
            rows.reshape(*rows.shape[:2], -1),
            components=components,
            values=values,
            image_shape=image_shape_of(estimator, image_shape),
        )
        return display.plot(ax=ax, imshow_kwargs=imshow_kwargs)

    def plot(self, ax=None, *, imshow_kwargs=None) -> Self:
        """Draw the images.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        imshow_kwargs : dict, default=None
            Passed to the `imshow` of matplotlib. By default grey, dark for high values, with one range for all.

        Returns
        -------
        LatentTraversalDisplay
        """
        plt = import_pyplot(f"{type(self).__name__}.plot")
        lines = [as_images(line, self.image_shape) for line in self.rows]
        if ax is None:
            _, ax = plt.subplots(figsize=figure_size(lines, ["Component"]), layout="constrained")
        if is_colour(lines[0]):
            lines = [line.clip(0, 1) for line in lines]
        style = {"cmap": grey(plt), "vmin": np.min(self.rows), "vmax": np.max(self.rows), **(imshow_kwargs or {})}
        made = draw_images(ax, lines, lambda image: style)
        label_lines(ax, made, [str(component) for component in self.components])
        ax.set_ylabel("Component")
        self.images_ = dict(zip(self.components, made, strict=True))
        self.ax_, self.figure_ = ax, ax.figure
        return self
