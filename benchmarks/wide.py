"""Seconds and memory of fits to few rows of many columns, beside PCA's, as of spectra and gene expressions.

    python -m benchmarks.wide                # a minute or two
    python -m benchmarks.wide --columns 5000

Each fit is a process of its own, on one thread; its memory is the highest beyond that before the fit.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import numpy as np
from sklearn.decomposition import PCA

from benchmarks._common import markdown_table
from skae import AutoencoderImputer, AutoencoderOutlierDetector, AutoencoderTransformer, MaskedAE

N_ROWS, COLUMNS, N_LATENT = 60, (1000, 5000, 20_000), 5
METHODS = {
    "PCA(10)": lambda: PCA(10),
    "AutoencoderTransformer(10)": lambda: AutoencoderTransformer(10, random_state=0),
    "AutoencoderTransformer()": lambda: AutoencoderTransformer(random_state=0),
    "AutoencoderOutlierDetector()": lambda: AutoencoderOutlierDetector(random_state=0),
    "AutoencoderOutlierDetector(novelty=True)": lambda: AutoencoderOutlierDetector(novelty=True, random_state=0),
    "MaskedAE(max_iter=2)": lambda: MaskedAE(max_iter=2, random_state=0),
    "AutoencoderImputer()": lambda: AutoencoderImputer(random_state=0),
}
FILLS = ("MaskedAE(max_iter=2)", "AutoencoderImputer()")


def table(n_columns: int) -> np.ndarray:
    """Rows near a curved surface of 5 dimensions."""
    generator = np.random.default_rng(0)
    latent = generator.standard_normal((N_ROWS, N_LATENT))
    clean = np.tanh(latent @ generator.standard_normal((N_LATENT, n_columns)))
    return clean + 0.3 * generator.standard_normal(clean.shape)


def with_gaps(X: np.ndarray) -> np.ndarray:
    """A fifth of the cells missing."""
    return np.where(np.random.default_rng(1).random(X.shape) < 0.2, np.nan, X)


def peak() -> float:
    """Megabytes that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measure(method: str, n_columns: int) -> None:
    """Print the seconds of this process in a fit, and megabytes beyond those before it."""
    # What is loaded at the first fit of a process is not the table's.
    METHODS[method]().fit(table(300))
    X = table(n_columns)
    X = with_gaps(X) if method in FILLS else X
    before, start = peak(), time.process_time()
    METHODS[method]().fit(X)
    print(time.process_time() - start, peak() - before)


def main() -> None:
    """Measure each method in a process of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--columns", type=int, nargs="*", default=COLUMNS)
    parser.add_argument("--method", choices=METHODS, help="this one alone, in this process")
    options = parser.parse_args()
    if options.method:
        measure(options.method, options.columns[0])
        return
    rows = []
    for n_columns in options.columns:
        data = N_ROWS * n_columns * 8 / 1e6
        for method in METHODS:
            command = [sys.executable, "-m", "benchmarks.wide", "--method", method, "--columns", str(n_columns)]
            seconds, memory = map(float, subprocess.run(command, check=True, capture_output=True).stdout.split())
            rows.append([str(n_columns), method, f"{seconds:.2f}", f"{memory:.0f}", f"{memory / data:.1f}"])
    print(markdown_table(["columns", "method", "seconds", "MB", "of the data"], rows))


if __name__ == "__main__":
    main()
