"""Where results of the anomaly benchmark are kept."""

from __future__ import annotations

from pathlib import Path

from benchmarks import _store
from benchmarks._common import ROOT

PATH = ROOT / "build" / "benchmarks" / "anomaly.jsonl"
KEY = ("protocol", "set", "seed", "method", "max_rows", "parameters")


class Store(_store.Store):
    """Results of the anomaly benchmark, by protocol, set, seed, method and its options.

    Parameters
    ----------
    path : Path
        The file; made with the first result.
    """

    def __init__(self, path: Path = PATH):
        super().__init__(path, KEY, _shown)


def _shown(line: dict) -> str:
    named = "  ".join(str(line[name]) for name in ("protocol", "set", "seed", "method"))
    if "error" in line:
        return f"{named}  {line['error']}"
    quality = f"AUROC {line['auroc']:.4f}  AP {line['ap']:.4f}"
    return f"{named}  {quality}  seconds {line['fit_seconds']:.2f} + {line['score_seconds']:.2f}"
