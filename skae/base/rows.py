"""Rows in the containers of torch."""

from __future__ import annotations

import sys
from typing import Any


def from_torch(X: Any) -> Any:
    """X, or the array that a tensor holds, whatever its device, precision and gradient.

    Raises
    ------
    TypeError
        If X is a data set or a loader of torch: its order and batches, and what it changes at
        random, would be lost.
    """
    # Without torch in the process, X holds nothing of it.
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return X
    if isinstance(X, torch.Tensor):
        X = X.detach().cpu()
        # numpy has no such numbers.
        return (X.float() if X.is_floating_point() and X.element_size() < 4 else X).numpy()
    if isinstance(X, torch.utils.data.DataLoader | torch.utils.data.Dataset):
        joined = (
            "cat([batch[0] for batch in X])"
            if isinstance(X, torch.utils.data.DataLoader)
            else "stack([item[0] for item in X])"
        )
        raise TypeError(
            f"X is a {type(X).__name__} of torch, but batches are drawn here: give an array or a tensor, as "
            f"torch.{joined}, a numpy memory map of rows that do not fit in memory, or one batch after the other to "
            "partial_fit."
        )
    return X
