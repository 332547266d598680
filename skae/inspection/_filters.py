"""FiltersDisplay."""

from __future__ import annotations

import math
from typing import Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skae.base.parameters import at_least, checked_arguments
from skae.inspection._common import IMAGE_SHAPE, OF, import_pyplot, last_step
from skae.inspection._decoding import n_components_of
from skae.inspection._images import as_images, draw_images, figure_size, image_shape_of, is_colour
from skae.model.networks import Dense, Shortcut
from skae.model.row_space import ProjectedEncoder


class FiltersDisplay:
    """Weights as images: what the first hidden units look for, or what each component adds to a row.

    Create one with `from_estimator`; the parameters are stored as attributes.

    Parameters
    ----------
    filters : array-like of shape (n_filters, n_features)
        A filter each.
    image_shape : tuple of int, default=None
        (height, width), or (height, width, 3) or (3, height, width). None takes squares.
    title : str, default=None
        Title of the plot.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the images.
    figure_ : matplotlib Figure
        Figure that contains the axes.
    images_ : list of matplotlib AxesImage
        The filters, from left to right and from the top on. Each has its own range, symmetric around zero: blue is
        negative, white zero and red positive. Colours are shown around a grey zero.

    Examples
    --------
    >>> from skae import SparseAE
    >>> from skae.inspection import FiltersDisplay
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> sae = SparseAE(64, hidden_layer_sizes=(), max_iter=5, random_state=0).fit(X)
    >>> display = FiltersDisplay.from_estimator(sae, of="decoder", n_filters=32)
    >>> display.filters.shape
    (32, 64)
    """

    def __init__(self, filters, *, image_shape=None, title=None) -> None:
        self.filters = filters
        self.image_shape = image_shape
        self.title = title

    @classmethod
    @checked_arguments(of=OF, n_filters=[at_least(1)], image_shape=IMAGE_SHAPE)
    def from_estimator(
        cls, estimator, *, of="encoder", n_filters=64, image_shape=None, title=None, ax=None, imshow_kwargs=None
    ) -> Self:
        """Draw the filters of a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator
            With ``of="encoder"``, an autoencoder of skae with a dense encoder; otherwise anything with
            `inverse_transform` and `n_components_`.
        of : {"encoder", "decoder"}, default="encoder"
            "encoder" takes the weights of the first layer, a filter for each hidden unit (for each component, without
            hidden layers). "decoder" takes what each component adds, decode(eⱼ) − decode(0) in the units of the rows:
            the columns of a linear decoder, the atoms of a sparse code.
        n_filters : int, default=64
            How many to show at most, the first ones; those of hidden units are in the order of their length, because
            units have no order of their own.
        image_shape : tuple of int, default=None
            (height, width), or (height, width, 3) or (3, height, width). None takes the estimator's `image_shape_`
            where it has one, and squares otherwise.
        title : str, default=None
            Title; None takes the name of the class and what is shown.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        imshow_kwargs : dict, default=None
            Passed to the `imshow` of matplotlib.

        Returns
        -------
        FiltersDisplay

        Raises
        ------
        ValueError
            If `of` is unknown, or the encoder has no dense first layer.
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        filters = first_layer(estimator) if of == "encoder" else atoms(estimator)
        kind = type(last_step(estimator)).__name__
        display = cls(
            filters[:n_filters],
            image_shape=image_shape_of(estimator, image_shape),
            title=f"{kind}, {of}" if title is None else title,
        )
        return display.plot(ax=ax, imshow_kwargs=imshow_kwargs)

    def plot(self, ax=None, *, imshow_kwargs=None) -> Self:
        """Draw the filters.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        imshow_kwargs : dict, default=None
            Passed to the `imshow` of matplotlib. ``{"vmin": -1, "vmax": 1}`` gives all filters the same range.

        Returns
        -------
        FiltersDisplay
        """
        plt = import_pyplot(f"{type(self).__name__}.plot")
        images = as_images(self.filters, self.image_shape)
        n_across = math.ceil(math.sqrt(len(images) * images.shape[1] / images.shape[2]))
        lines = [images[i : i + n_across] for i in range(0, len(images), n_across)]
        if is_colour(images):
            lines = [0.5 + line / (2 * _largest(line, axis=(1, 2, 3))) for line in lines]
        if ax is None:
            width, height = figure_size(lines)
            _, ax = plt.subplots(figsize=(width, height + 0.4), layout="constrained")

        def style(image):
            largest = float(_largest(image))
            return {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest, **(imshow_kwargs or {})}

        self.images_ = sum(draw_images(ax, lines, style), [])
        ax.set_title(self.title)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _largest(values: np.ndarray, axis=None) -> np.ndarray:
    """The largest absolute value, one for zeros alone."""
    largest = np.abs(values).max(axis, keepdims=axis is not None)
    return np.where(largest > 0, largest, 1.0)


def first_layer(estimator) -> np.ndarray:
    """Weights of the first dense layer for the entries of a row, of shape (n_units, n_features).

    The longest come first; those of a layer that makes the code are in the order of the components.
    """
    encoder = getattr(getattr(estimator, "model_", None), "encoder", None)
    layers, scale = [], 1.0
    if isinstance(encoder, Shortcut) and encoder.network is None:
        layers = [encoder.linear]
    elif isinstance(encoder, Shortcut):
        encoder, scale = encoder.network, encoder.in_scale.detach().cpu().double().numpy()
    if isinstance(encoder, Dense | ProjectedEncoder):
        layers = list(encoder.layers)
    if not layers:
        raise ValueError(
            f"The encoder of {type(estimator).__name__} has no dense first layer whose weights are images of rows; "
            "use of='decoder'."
        )
    weights = layers[0].matrix().detach().cpu().double().numpy() * scale
    # Further inputs tell the encoder of a corruption.
    weights = weights[:, : estimator.model_.n_features]
    if len(layers) == 1:
        # Further outputs are the variances of the code.
        return weights[: estimator.n_components_]
    return weights[np.argsort(-np.square(weights).sum(1), kind="stable")]


def atoms(estimator) -> np.ndarray:
    """What a unit of each component adds to the row of a code of zeros, of shape (n_components, n_features)."""
    size = n_components_of(estimator)
    rows = np.asarray(estimator.inverse_transform(np.vstack([np.zeros(size), np.eye(size)])))
    rows = rows.reshape(len(rows), -1)
    return rows[1:] - rows[0]
