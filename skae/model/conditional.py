"""Rows of classes: an encoder and a decoder that are conditioned on the class."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from skae.model.step import Step


def with_classes(rows: Tensor, classes: Tensor | None) -> Tensor:
    """Rows and the columns of their classes, where there are any."""
    return rows if classes is None else torch.cat([rows, classes.to(rows.dtype)], dim=1)


def observed_with_classes(observed: Tensor | None, classes: Tensor | None) -> Tensor | None:
    """Which entries were observed of rows and the columns of their classes, which all are; None stays None."""
    if observed is None or classes is None:
        return observed
    return with_classes(observed, torch.ones_like(classes))


class ConditionalStep(Step):
    r"""A batch of rows on whose classes encoder and decoder are conditioned, as columns of zeros and a one.

    The columns stand behind the rows' own in the input. Where the input has none, a row's class is the
    one of the largest :math:`p(y)\, p(x, z) / q(z \mid x, y)` at the posterior's mean z, which is
    :math:`p(y)\, p(x \mid y)` where decoder and likelihood are linear and normal.

    References
    ----------
    Sohn, Lee and Yan, "Learning structured output representation using deep conditional generative
    models", NIPS 2015.
    """

    def __init__(self, model, input, target, observed=None, **options) -> None:
        p = model.n_features
        self._told = input[..., p:] if input.shape[-1] > p else None
        if self._told is not None:
            input = input[..., :p]
            target = target if callable(target) else target[..., :p]
            observed = None if observed is None else observed[..., :p]
        super().__init__(model, input, target, observed, **options)

    @property
    def given(self) -> Tensor:
        """The rows, and the columns of the classes where they were given."""
        return with_classes(self.input, self._told)

    def by_class(self) -> list[tuple[float, Any]]:
        """log p(y) and the step of this class, for each class that the rows may be of."""
        if self._told is not None:
            return [(0.0, self)]
        columns = torch.eye(self.model.n_classes, dtype=self.input.dtype, device=self.input.device)
        made = []
        for log_share, row in zip(self.model.log_class_prior, columns, strict=True):
            input = with_classes(self.input, row.expand(len(self.input), -1))
            made.append((log_share, self.model.step(input, self._target, self.observed, generator=self.generator)))
        return made

    @cached_property
    def classes(self) -> Tensor:
        """The columns of the classes, given or most likely, of shape (n_rows, n_classes)."""
        if self._told is not None:
            return self._told
        logs = torch.stack([log_share + each.log_evidence for log_share, each in self.by_class()])
        return torch.eye(len(logs), dtype=self.input.dtype, device=self.input.device)[logs.argmax(0)]

    @property
    def log_evidence(self) -> Tensor:
        """log p(x, z) − log q(z | x) at the posterior's mean z, of shape (n_rows,)."""
        log_ratio = self.model.posterior.log_ratio(self.encoded, self.code, self.model)
        return self.log_likelihood_of(self.decode(self.code)) + log_ratio

    @cached_property
    def seen(self) -> Tensor:
        """The rows as the encoder sees them: what was not observed stands at the mean of the class."""
        if self.observed is None:
            return self.input
        return self.input + (1 - self.observed) * (self.classes @ self.model.class_means)

    @cached_property
    def condition(self) -> Tensor:
        """What the encoder is conditioned on: the row's class."""
        return self.classes

    def decode(self, sample: Tensor) -> Tensor:
        """The decoder's output for codes of shape (n_rows, d) or (n_samples, n_rows, d), and the rows' classes."""
        return super().decode(torch.cat([sample, self.classes.expand(*sample.shape[:-1], -1)], dim=-1))
