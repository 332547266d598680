"""Where results of the imputation benchmark are kept."""

from __future__ import annotations

from pathlib import Path

from benchmarks import _store
from benchmarks._common import ROOT

PATH = ROOT / "build" / "benchmarks" / "imputation.jsonl"
KEY = ("mechanism", "set", "seed", "method", "max_rows", "parameters")
# Measures of a result that are printed where it has them.
SHOWN = ("rmse", "mse", "covered", "wrong", "accuracy", "megabytes", "seconds")


class Store(_store.Store):
    """Results of the imputation benchmark, by mechanism, set, mask, method and its options.

    Parameters
    ----------
    path : Path
        The file; made with the first result.
    """

    def __init__(self, path: Path = PATH):
        super().__init__(path, KEY, _shown)


def _shown(line: dict) -> str:
    named = "  ".join(str(line[name]) for name in ("mechanism", "set", "seed", "method"))
    if "error" in line:
        return f"{named}  {line['error']}"
    return f"{named}  " + "  ".join(f"{name} {line[name]:.4g}" for name in SHOWN if name in line)
