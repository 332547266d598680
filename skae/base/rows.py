"""Rows as users hold them: torch's containers, and what is said of strings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

# What numpy, pyarrow and pandas say of strings, and of a gap beside them, that should be numbers.
NOT_NUMBERS = ("could not convert string", "parse string", "Cannot cast str", "Cannot cast object", "'NAType'")


def from_torch(X: Any) -> Any:
    """X, or the array that a tensor holds, whatever its device, precision and gradient.

    Raises
    ------
    TypeError
        If X is a data set or a loader of torch: its order and batches, and what it changes at
        random, would be lost.
    """
    if isinstance(X, torch.Tensor):
        X = X.detach().cpu()
        # numpy has no such numbers.
        return (X.float() if X.is_floating_point() and X.element_size() < 4 else X).numpy()
    if isinstance(X, DataLoader | Dataset):
        joined = "cat([batch[0] for batch in X])" if isinstance(X, DataLoader) else "stack([item[0] for item in X])"
        raise TypeError(
            f"X is a {type(X).__name__} of torch, but batches are drawn here: give an array or a tensor, as "
            f"torch.{joined}, a numpy memory map of rows that do not fit in memory, or one batch after the other to "
            "partial_fit."
        )
    return X


@contextlib.contextmanager
def strings_explained(remedy: str) -> Iterator[None]:
    """Where strings could not become numbers, say that X holds strings, and what to do."""
    try:
        yield
    except (ValueError, TypeError) as error:
        if any(words in str(error) for words in NOT_NUMBERS):
            raise ValueError(f"X holds strings ({error}): {remedy}") from error
        raise
