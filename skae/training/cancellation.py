"""How fits in several threads end together: when one of them fails, or the user interrupts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Cancelled(Exception):
    """A training was ended because another one, of the same ensemble, failed or was interrupted."""


class _OfThread(threading.local):
    """What may cancel the fits of a Python thread."""

    current: Cancellation | None = None


_of_thread = _OfThread()


class Cancellation:
    """Tasks in several threads, which `cancel` ends; in another process, where a copy arrives, there is no need."""

    def __init__(self) -> None:
        self._begin(_of_thread.current)

    def _begin(self, outer: Cancellation | None) -> None:
        self._outer, self._is_cancelled, self._n_running = outer, False, 0
        self._condition = threading.Condition()

    def __getstate__(self) -> dict:
        return {}

    def __setstate__(self, state: dict) -> None:
        self._begin(None)

    @property
    def is_cancelled(self) -> bool:
        """Whether this, or what it is within, was cancelled."""
        return self._is_cancelled or (self._outer is not None and self._outer.is_cancelled)

    @contextlib.contextmanager
    def task(self) -> Iterator[None]:
        """Run a task in the calling thread."""
        with self._condition:
            self._n_running += 1
        before, _of_thread.current = _of_thread.current, self
        try:
            check_cancelled()
            yield
        finally:
            _of_thread.current = before
            with self._condition:
                self._n_running -= 1
                self._condition.notify_all()

    def cancel(self) -> None:
        """End all tasks at the end of their epoch, and wait until they have ended."""
        with self._condition:
            self._is_cancelled = True
            while self._n_running:
                self._condition.wait()


def check_cancelled() -> None:
    """Raise Cancelled where the calling thread's fits are to end."""
    if _of_thread.current is not None and _of_thread.current.is_cancelled:
        raise Cancelled
