"""A corruption: images out of focus."""

import torch
from torch.nn import functional

from skae.base.parameters import at_least
from skae.model.corruptions import Corrupted, Corruption


class Blur(Corruption):
    """Each pixel moves towards the mean of its neighbourhood, in each image by another share.

    Parameters
    ----------
    width : int
        Width of the images in pixels; 1 takes a row for a signal.
    radius : int, default=1
        Pixels on each side that count as neighbours.
    """

    _parameter_constraints = {"width": [at_least(1)], "radius": [at_least(1)]}

    def __init__(self, width, *, radius=1):
        self.width = width
        self.radius = radius

    def corrupt(self, x, scaling, generator):
        """Corrupt standardised rows of shape (n_rows, n_features)."""
        if x.shape[1] % self.width:
            raise ValueError(f"Blur(width={self.width}): rows of {x.shape[1]} pixels are no images of this width.")
        images = scaling.from_input(x).view(len(x), 1, -1, self.width)
        size = 2 * self.radius + 1
        blurred = functional.avg_pool2d(images, size, 1, self.radius, count_include_pad=False).flatten(1)
        share = torch.rand((len(x), 1), generator=generator, device=x.device, dtype=x.dtype)
        return Corrupted(torch.lerp(x, scaling.input(blurred)[0], share))
