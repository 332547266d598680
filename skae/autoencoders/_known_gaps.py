"""Fits whose caller has already said which columns have no value."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class _OfThread(threading.local):
    are_known = False


# Filters of warnings are of the whole process, and members may be fitted in several threads.
_of_thread = _OfThread()


@contextlib.contextmanager
def empty_columns_known() -> Iterator[None]:
    """Fit parts of an ensemble or a stack without a warning for each of columns that are empty in its rows."""
    before, _of_thread.are_known = _of_thread.are_known, True
    try:
        yield
    finally:
        _of_thread.are_known = before


def are_empty_columns_known() -> bool:
    """Whether the fit in the calling thread need not warn of columns without a value."""
    return _of_thread.are_known
