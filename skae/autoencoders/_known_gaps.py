"""Fits whose caller has already said which columns have no value."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def empty_columns_known() -> Iterator[None]:
    """Fit parts of an ensemble or a stack without a warning for each of columns that are empty in its rows."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*no observed value", category=UserWarning)
        yield
