"""The only place that speaks of devices, precision, seeds, and what a fork leaves of them."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import numpy as np
import torch

from skae.model.settings import process_settings
from skae.model.threads import threads

# Operations of a step from which on a GPU is worth it: the captured step of a small network takes one a tenth of a
# millisecond or two.
GPU_STEP_FLOPS = 5e7
_global_generator_lock = threading.Lock()


def resolve_device(device: str, step_flops: float = torch.inf) -> torch.device:
    """Turn the `device` parameter of an estimator into a torch device.

    Parameters
    ----------
    device : str
        "auto" takes the first CUDA device where there is one and a step is worth it, and the CPU
        otherwise; any other string is torch's own name of a device.
    step_flops : float, default=inf
        Operations of a training step.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If torch does not know the name or this machine does not have the device.
    """
    if device == "auto":
        return torch.device("cuda" if step_flops >= GPU_STEP_FLOPS and torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"device={device!r} is not a device that torch knows; use 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'."
        ) from error
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (resolved.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(resolved.type, False):
        raise ValueError(f"device={device!r} was asked for, but this machine has none; use device='auto' or 'cpu'.")
    return resolved


def new_generator(device: torch.device, random_state: np.random.RandomState) -> torch.Generator:
    """A private torch generator on `device`, seeded by a draw from `random_state`."""
    generator = torch.Generator(device=device)
    generator.manual_seed(int(random_state.randint(np.iinfo(np.int32).max)))
    return generator


@contextlib.contextmanager
def seeded_global_generator(generator: torch.Generator) -> Iterator[None]:
    """Seed torch's global CPU generator for code that knows no other, and put its state back.

    Networks that a user wrote draw their first weights from the global generator. One thread at a
    time may do so, because that generator belongs to the whole process.
    """
    seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    with _global_generator_lock:
        state = torch.random.get_rng_state()
        torch.random.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            torch.random.set_rng_state(state)


@contextlib.contextmanager
def matrix_precision(device: torch.device, precision: str) -> Iterator[None]:
    """Let float32 products on a GPU round their factors to TF32, where that is asked for.

    Convolutions there round by default, and add in an order that is another each time: neither
    happens inside unasked.
    """
    if device.type != "cuda":
        yield
        return
    backends, cudnn = (torch.backends.cuda.matmul, torch.backends.cudnn.conv), torch.backends.cudnn
    before, deterministic = [backend.fp32_precision for backend in backends], cudnn.deterministic
    for backend in backends:
        backend.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    cudnn.deterministic = True
    try:
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value
        cudnn.deterministic = deterministic


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """The context in which losses are computed: bfloat16 matrix products, or nothing special."""
    if precision == "bfloat16":
        # Rounded weights are kept until the outermost context is left, which may be the user's: beyond their update.
        return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)
    return contextlib.nullcontext()


def resident_limit(device: torch.device) -> int:
    """How many bytes of rows may stay on `device` for the length of a fit."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(0.6 * free)
    return 2 * 1024**3


def _restart_in_child() -> None:
    """Forget what only the parent's other threads could end: their thread pools and their locks."""
    global _global_generator_lock
    _global_generator_lock = threading.Lock()
    process_settings.restart_in_child()
    threads.restart_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restart_in_child)
