"""Fixtures that several test files share."""

import os

# Before scipy is imported: scikit-learn's checks of array-API input are skipped without it.
os.environ.setdefault("SCIPY_ARRAY_API", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Before numpy is imported: workers share the cores, and so do its threads.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_iris

matplotlib.use("Agg")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores; two thread pools on the same cores take several times as long.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits():
    """400 of the digits, 8 x 8 pixels from 0 to 16, read-only."""
    X, _ = load_digits(return_X_y=True)
    return _read_only(X[:400])


@pytest.fixture(scope="session")
def iris():
    """The iris table with its classes, read-only."""
    X, y = load_iris(return_X_y=True)
    return _read_only(X), _read_only(y)


@pytest.fixture
def rng():
    """Generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture
def nothing_global_changed():
    """Fail if the test moved a global generator, a default dtype or the number of threads."""
    before = _global_state()
    yield
    for name, value in _global_state().items():
        assert np.array_equal(value, before[name]), f"{name} is not as it was before the test"


@pytest.fixture(autouse=True)
def close_figures():
    """Close what a test drew."""
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def _read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def _global_state():
    kind, keys, position, *gauss = np.random.get_state()
    return {
        "numpy's generator": np.concatenate([keys, [position], gauss]),
        "torch's generator": torch.get_rng_state().numpy(),
        "torch's default dtype": str(torch.get_default_dtype()),
        "torch's threads": torch.get_num_threads(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "torch's gradient mode": torch.is_grad_enabled(),
    }
