"""How many threads compute: one for what is small, and in a child made by fork."""

from __future__ import annotations

import threading

import torch

# What a CPU does in half a millisecond.
SMALL_STEP_FLOPS = 3e7


class _Threads:
    """One thread for small steps, in which a second costs more than it helps; a fair share for large ones.

    A thread pool, once started, is there for good, and a child made by fork waits for its threads
    for ever. So a process that computes small steps alone never starts one.
    """

    def __init__(self):
        # How many Python threads compute steps, and the count before the first of them began.
        self._lock, self._inside, self._outside = threading.Lock(), 0, 1
        self._of_thread = _Counts()

    def for_work(self, flops: float) -> _Work:
        """The context to compute steps of `flops` operations in; the number of threads is as before on leaving.

        Contexts may be nested: leaving the inner one brings back the number of the outer one.
        """
        return _Work(self, flops)

    def enter(self, flops: float) -> None:
        """Set the number of threads for steps of `flops` operations."""
        counts = self._of_thread.before
        with self._lock:
            if not counts:
                if self._inside == 0:
                    self._outside = torch.get_num_threads()
                self._inside += 1
            counts.append(torch.get_num_threads() if counts else self._outside)
            # Fits in other Python threads share the cores.
            torch.set_num_threads(1 if flops <= SMALL_STEP_FLOPS else max(1, self._outside // self._inside))

    def leave(self) -> None:
        """Bring back the number of threads of before."""
        counts = self._of_thread.before
        with self._lock:
            torch.set_num_threads(counts.pop())
            self._inside -= not counts

    def restart_in_child(self) -> None:
        """Compute on one thread in a child made by fork, where none but the calling Python thread is left."""
        torch.set_num_threads(1)
        counts = self._of_thread.before
        counts[:] = [1] * len(counts)
        self._lock, self._inside, self._outside = threading.Lock(), int(bool(counts)), 1


class _Counts(threading.local):
    """Of each Python thread, the numbers of threads to bring back, that of the outermost context first."""

    def __init__(self):
        self.before: list[int] = []


class _Work:
    """A context of `_Threads`."""

    def __init__(self, threads: _Threads, flops: float):
        self._threads, self._flops = threads, flops

    def __enter__(self) -> None:
        self._threads.enter(self._flops)

    def __exit__(self, *error) -> None:
        self._threads.leave()


threads = _Threads()
