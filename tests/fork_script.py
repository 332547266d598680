"""What test_forks.py runs in a process of its own: fits, forks, and prints what it found as JSON."""

import json
import multiprocessing
import os
import signal
import sys
import time
import warnings

import numpy as np
import torch
from registry import ESTIMATORS, shares
from sklearn.base import clone

from skae import (
    GAN,
    VAE,
    AutoencoderClassifier,
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    ConvAE,
)
from skae.inspection import jacobian

TINY = {"hidden_layer_sizes": (4,), "max_iter": 2, "random_state": 0}
CLASSES = {
    **ESTIMATORS,
    "GAN": GAN(2, **TINY),
    "AutoencoderClassifier": AutoencoderClassifier(AutoencoderTransformer(2, **TINY), max_iter=2, random_state=0),
    "AutoencoderOutlierDetector": AutoencoderOutlierDetector(AutoencoderTransformer(2, **TINY), random_state=0),
    "AutoencoderImputer": AutoencoderImputer(
        ESTIMATORS["MaskedAE"], n_estimators=2, n_reference_rows=50, random_state=0
    ),
}
METHODS = ("transform", "reconstruct", "score_samples", "predict", "predict_proba", "imputation_std")
# So many rows that torch would share an elementwise operation among threads.
X = shares(60, 4)
MANY = np.tile(shares(500, 4), (20, 1))
LARGE = AutoencoderTransformer(8, hidden_layer_sizes=(512,), max_iter=1, batch_size=256, early_stopping=False)
WAIT = 60.0


def results(estimator, rows):
    return {name: getattr(estimator, name)(rows) for name in METHODS if hasattr(estimator, name)}


def n_threads():
    return len(os.listdir("/proc/self/task"))


def fit_each():
    """The results of each class, fitted to few rows, of these and of many."""
    made = {}
    for name, estimator in CLASSES.items():
        fitted = clone(estimator).fit(X, np.arange(len(X)) % 2)
        made[name] = results(fitted, X)
        # Not so many for those that pass each row through the network many times.
        rows = MANY[:500] if isinstance(estimator, ConvAE | VAE | AutoencoderImputer) else MANY
        results(fitted, rows)
        if name == "AutoencoderTransformer":
            jacobian(fitted, X)
    return made


def check_child(before):
    """In a child: each class has the results that it had in the parent."""
    after = fit_each()
    for name, parts in before.items():
        for method, values in parts.items():
            np.testing.assert_array_equal(values, after[name][method], err_msg=f"{name}.{method}")
    assert torch.get_num_threads() == 1


def fit_large():
    # Its own results, where two threads would round otherwise, are not compared.
    clone(LARGE).fit(shares(512, 300)).transform(shares(512, 300))
    torch.randn(400, 400) @ torch.randn(400, 400)


def forked(function):
    """The exit status of a child made by `os.fork`; "hangs" where it does not end."""
    child = os.fork()
    if child == 0:
        function()
        os._exit(0)
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hangs"


def forked_process(function, *arguments):
    """The same by multiprocessing."""
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    process.join(WAIT)
    if process.is_alive():
        process.kill()
        process.join()
        return "hangs"
    return process.exitcode


def main():
    warnings.simplefilter("ignore")
    found = {"at the start": n_threads()}
    before = fit_each()
    found["after small fits"] = n_threads()
    found["child of small fits"] = forked(fit_large)
    fit_large()
    found["after a large fit"] = n_threads()
    found["child of a large fit"] = forked(fit_large)
    found["process of a large fit"] = forked_process(check_child, before)
    found["threads of the parent"] = torch.get_num_threads()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
