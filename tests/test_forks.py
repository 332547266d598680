"""Children made by fork: small fits start no thread pool, and after a large one a child still computes."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from skae import AutoencoderTransformer
from skae.autoencoders import _estimator
from skae.model.settings import own_settings, process_settings
from skae.model.threads import threads
from skae.training import principal_axes

TESTS = Path(__file__).parent
needs_fork = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux does")


@pytest.fixture(scope="module")
def found():
    """What the script saw, with two threads wherever there is a pool."""
    # OpenBLAS, which minds forks itself, starts threads of its own.
    counts = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"}
    environment = os.environ | counts | {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    done = subprocess.run(
        [sys.executable, TESTS / "fork_script.py"], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_fork
def test_small_fits_start_no_thread_pool(found):
    assert found["after small fits"] == found["at the start"]
    assert found["child of small fits"] == 0


@needs_fork
def test_every_class_works_in_a_child_after_a_large_fit(found):
    assert found["after a large fit"] > found["after small fits"], "else there is no pool that could hang"
    assert found["child of a large fit"] == 0
    assert found["process of a large fit"] == 0
    assert found["threads of the parent"] == 2


def test_large_passes_have_all_threads(monkeypatch):
    """What an entry point sets to one thread gets the others back where it is worth it."""
    seen, outside = [], torch.get_num_threads()
    for module, name in ((_estimator, "model_step"), (principal_axes, "_leading_axes")):
        inside = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *args, inside=inside: (seen.append(torch.get_num_threads()), inside(*args))[1]
        )
    try:
        torch.set_num_threads(3)
        for n_rows, n_features, expected in ((100, 4, 1), (3000, 200, 3)):
            X = np.random.default_rng(0).standard_normal((n_rows, n_features)).astype(np.float32)
            AutoencoderTransformer(2, hidden_layer_sizes=(64,), max_iter=1, early_stopping=False).fit(X).transform(X)
            assert set(seen) == {expected} and len(seen) == 2
            assert torch.get_num_threads() == 3
            seen.clear()
    finally:
        torch.set_num_threads(outside)


def test_a_child_forgets_the_contexts_of_other_threads():
    """Not in a child, but what is called there: the thread that is within a fit does not exist in it."""
    entered, leave, outside = threading.Event(), threading.Event(), torch.get_num_threads()

    def fit():
        with own_settings():
            entered.set()
            leave.wait(10)

    other = threading.Thread(target=fit)
    torch.set_default_dtype(torch.float64)
    try:
        other.start()
        entered.wait(10)
        assert torch.get_default_dtype() == torch.float32
        child_settings, child_threads = type(process_settings)(), type(threads)()
        child_settings.__dict__.update(vars(process_settings))
        child_threads.__dict__.update(vars(threads))
        child_settings.restart_in_child()
        child_threads.restart_in_child()
        assert torch.get_default_dtype() == torch.float64
        with child_threads.for_work(1e9):
            assert torch.get_num_threads() == 1
    finally:
        leave.set()
        other.join()
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(outside)


def test_a_context_that_a_fork_is_in_ends_with_one_thread():
    outside, mine = torch.get_num_threads(), type(threads)()
    try:
        torch.set_num_threads(3)
        with mine.for_work(1e9):
            mine.restart_in_child()
            assert torch.get_num_threads() == 1
            with mine.for_work(1e9):
                assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
        # Who wants more in the child sets it there, and keeps it.
        torch.set_num_threads(2)
        with mine.for_work(1e9):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(outside)
