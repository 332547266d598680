"""Rows as images, and lines of images in one Axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from skae.inspection._common import dense, last_step

GAP = 0.12


def image_shape_of(estimator, image_shape) -> tuple[int, ...] | None:
    """The given shape, or that which the estimator or its network knows of its rows, or None."""
    if image_shape is not None:
        return tuple(image_shape)
    estimator = last_step(estimator)
    return getattr(estimator, "image_shape_", getattr(getattr(estimator, "network", None), "image_shape", None))


def as_images(rows, shape) -> np.ndarray:
    """Rows as images of shape (n_images, height, width) or (n_images, height, width, 3).

    Parameters
    ----------
    rows : array-like of shape (n_images, n_features)
    shape : tuple of int or None
        (length,), (height, width), (height, width, channels) or (channels, height, width), with one channel or three.
        None takes squares.
    """
    rows = dense(rows)
    if shape is None:
        side = math.isqrt(rows.shape[1])
        shape = (side, side)
    if math.prod(shape) != rows.shape[1]:
        raise ValueError(
            f"Rows of {rows.shape[1]} features do not fill images of shape {tuple(shape)}; "
            "give image_shape=(height, width) or (height, width, 3)."
        )
    if len(shape) == 1:
        # A signal is a strip.
        return np.repeat(rows[:, None], max(1, shape[0] // 4), axis=1)
    if len(shape) == 2:
        return rows.reshape(-1, *shape)
    images = rows.reshape(-1, *shape)
    if len(shape) != 3 or not {shape[0], shape[-1]} & {1, 3}:
        raise ValueError(f"image_shape={tuple(shape)} must have two sides, and one channel or three.")
    if shape[-1] not in (1, 3):
        images = np.moveaxis(images, 1, -1)
    return images[..., 0] if images.shape[-1] == 1 else images


def is_colour(images: np.ndarray) -> bool:
    """Whether images, or one of them, have three channels, which matplotlib draws as they are."""
    return images.ndim == 4


def draw_images(ax, lines: Sequence[np.ndarray], style: Callable[[np.ndarray], dict]) -> list[list]:
    """Draw lines of images with gaps between them, from the top on.

    Parameters
    ----------
    ax : matplotlib Axes
    lines : sequence of ndarray of shape (n_images, height, width[, 3])
    style : function of an image
        What `imshow` is given beside the image.

    Returns
    -------
    list of list of AxesImage
    """
    height, width = lines[0].shape[1:3]
    across, down = width + GAP * max(height, width), height + GAP * max(height, width)
    made = [
        [
            ax.imshow(
                image,
                extent=(i * across, i * across + width, line * down + height, line * down),
                **style(image),
            )
            for i, image in enumerate(images)
        ]
        for line, images in enumerate(lines)
    ]
    n_most = max(map(len, lines))
    ax.set(
        xlim=(0, n_most * across - (across - width)),
        ylim=(len(lines) * down - (down - height), 0),
        aspect="equal",
        xticks=[],
        yticks=[],
    )
    ax.tick_params(left=False, bottom=False)
    ax.spines[:].set_visible(False)
    return made


def label_lines(ax, made: list[list], names: Sequence[str]) -> None:
    """Write a name on the left of each line that `draw_images` drew."""
    ax.set_yticks([np.mean(images[0].get_extent()[2:]) for images in made], names)
    # In the middle of spare room, matplotlib's layout would think that the names have that room too.
    ax.set_anchor("W")


def figure_size(lines: Sequence[np.ndarray], names: Sequence[str] = ()) -> tuple[float, float]:
    """Inches of a figure with lines of images, at least so large that titles fit, and names on the left."""
    side = 0.7
    height, width = (size * side / max(lines[0].shape[1:3]) + GAP * side for size in lines[0].shape[1:3])
    margin = 0.4 + 0.085 * max(map(len, names), default=0)
    return max(margin + width * max(map(len, lines)), 3.0), max(height * len(lines), 1.1)


def grey(plt):
    """Grey levels, dark for high values, with a tint for NaN."""
    return plt.get_cmap("gray_r").with_extremes(bad="#f5d0c5")
