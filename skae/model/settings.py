"""What a user has set in torch for all of a process or thread, set aside while skae computes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

from skae.model.threads import threads

# The precisions at which float32 products are float32 products.
EXACT = ("ieee", "none", "highest")


@contextlib.contextmanager
def own_settings() -> Iterator[None]:
    """Compute by torch's settings as they are at its start, and put the user's back.

    Set aside are the default dtype and device, autocast, inference mode and switched-off gradients,
    rounded matrix products, and all threads but one: what is large asks for more by
    `threads.for_work`. A decorator, too. Nested calls and calls in several threads are
    fine: the first one sets what belongs to the process, and the last one puts it back.
    """
    process_settings.enter()
    threads.enter(0)
    try:
        if _thread_is_plain():
            yield
        else:
            with contextlib.ExitStack() as thread:
                for device in ("cpu", "cuda"):
                    if torch.is_autocast_enabled(device):
                        thread.enter_context(torch.autocast(device, enabled=False))
                if torch._C._len_torch_function_stack():
                    # A default device is a mode that sees all of torch's functions.
                    thread.enter_context(torch._C.DisableTorchFunction())
                thread.enter_context(torch.inference_mode(False))
                yield
    finally:
        threads.leave()
        process_settings.leave()


def _thread_is_plain() -> bool:
    """Whether the thread's settings are those of torch's start."""
    return (
        torch.is_grad_enabled()
        and not torch.is_inference_mode_enabled()
        and not torch._C._is_any_autocast_enabled()
        and not torch._C._len_torch_function_stack()
    )


class _ProcessWide:
    """Settings of the whole process: changed by the first to enter, put back by the last to leave."""

    def __init__(self) -> None:
        self._lock, self._inside, self._of_thread = threading.Lock(), 0, _Depth()
        self._dtype = torch.float32
        self._precision: list[tuple[tuple[str, ...], str]] = []

    def enter(self) -> None:
        self._of_thread.depth += 1
        with self._lock:
            self._inside += 1
            if self._inside > 1:
                return
            self._dtype = torch.get_default_dtype()
            if self._dtype is not torch.float32:
                torch.set_default_dtype(torch.float32)
            self._precision = [(part, precision) for part in _parts() if (precision := _precision(*part)) not in EXACT]
            for part, _ in self._precision:
                _set_precision(*part, FULL)

    def leave(self) -> None:
        self._of_thread.depth -= 1
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._put_back()

    def restart_in_child(self) -> None:
        """Forget the parent's other threads, which will not leave in a child made by fork."""
        others = self._inside > self._of_thread.depth
        self._lock, self._inside = threading.Lock(), self._of_thread.depth
        if others and not self._inside:
            self._put_back()

    def _put_back(self) -> None:
        if self._dtype is not torch.float32:
            torch.set_default_dtype(self._dtype)
        for part, precision in self._precision:
            _set_precision(*part, precision)


class _Depth(threading.local):
    """Of each Python thread, how many contexts it is in."""

    depth = 0


if hasattr(torch._C, "_get_fp32_precision_getter"):
    # What the attribute `fp32_precision` of torch's backends reads and writes, several times slower.
    _precision, _set_precision = torch._C._get_fp32_precision_getter, torch._C._set_fp32_precision_setter
    ON_CPU: list[tuple[str, ...]] = [("mkldnn", "matmul"), ("mkldnn", "conv")]
    ON_CUDA: list[tuple[str, ...]] = [("cuda", "matmul"), ("cuda", "conv")]
    FULL = "ieee"
else:
    # Before torch 2.9 there is one setting for all.
    _precision, _set_precision = torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    ON_CPU, ON_CUDA, FULL = [()], [], "highest"


def _parts() -> list[tuple[str, ...]]:
    """Backends and operations that may round float32, as arguments of the two functions."""
    return ON_CPU + ON_CUDA if torch.cuda.is_initialized() else ON_CPU


process_settings = _ProcessWide()
