"""Estimators that may be conditioned on the class of each row."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.utils.validation import check_consistent_length, column_or_1d

from skae.tables._containers import plain_rows


class ConditionalMixin:
    """The classes of a generative model whose parameter `conditional` says whether it is conditioned on them."""

    conditional: bool

    def _raw_rows(self, X, sample_weight, *, reset, y=None):
        raw = super()._raw_rows(X, sample_weight, reset=reset, y=y)  # type: ignore[misc]
        if reset and raw.y is not None:
            self.class_prior_ = np.average(raw.y.astype(np.float64), axis=0, weights=raw.weight)
        return raw

    def _targets(self, X, y, *, reset):
        if not self.conditional:
            return None
        if y is None:
            raise ValueError(
                f"conditional=True needs the classes of the rows: {type(self).__name__} requires y to be passed, but "
                "the target y is None."
            )
        y = column_or_1d(plain_rows(y))
        check_consistent_length(X, y)
        # What is not itself is a gap: NaN; and None is none.
        if any(each is None or each != each for each in y.tolist()):
            raise ValueError("y has rows without a class: leave them out, or give them a class of their own.")
        if reset:
            self.classes_ = np.unique(y)
        return self._one_hot(y)

    def _one_hot(self, y) -> np.ndarray:
        """Columns of zeros and a one for classes, of shape (n_rows, n_classes)."""
        if not hasattr(self, "classes_"):
            raise ValueError(
                f"y is the class of rows, which this {type(self).__name__} was not fitted to: use conditional=True."
            )
        y = np.asarray(y)
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(f"y has classes that fit has not seen: {list(unknown)}.")
        return (y[:, None] == self.classes_).astype(np.float32)

    def _drawing_classes(self, n_samples, y):
        """A function of model and generator that makes the classes' columns of rows to draw; None without classes."""
        if y is not None:
            y = np.asarray(y)
            if y.ndim and y.shape != (n_samples,):
                raise ValueError(f"y has {y.size} classes for {n_samples} rows: give one, or one for each row.")
            y = torch.from_numpy(self._one_hot(np.broadcast_to(y, (n_samples,))))

        def draw(model, generator):
            device = model.reference.device
            if not model.n_classes:
                return None
            if y is not None:
                return y.to(device)
            shares = torch.tensor(self.class_prior_, device=device)
            index = torch.multinomial(shares, n_samples, replacement=True, generator=generator)
            return torch.eye(model.n_classes, device=device)[index]

        return draw

    def __sklearn_tags__(self):
        """Classes, if conditional."""
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.target_tags.required = self.conditional
        return tags
