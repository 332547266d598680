"""Results that are kept from run to run, one a line."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from benchmarks._common import ROOT

PATH = ROOT / "build" / "benchmarks" / "anomaly.jsonl"
KEY = ("protocol", "set", "seed", "method", "max_rows", "parameters")


class Store:
    """Results in a file of JSON lines; of two with the same key the later one counts.

    Parameters
    ----------
    path : Path
        The file; made with the first result.
    """

    def __init__(self, path: Path = PATH):
        self.path = path

    def results(self, **fields) -> list[dict]:
        """All results that have these fields."""
        if not self.path.exists():
            return []
        lines = map(json.loads, self.path.read_text(encoding="utf-8").splitlines())
        latest = {tuple(line[name] for name in KEY): line for line in lines}
        return [line for line in latest.values() if all(line[name] == value for name, value in fields.items())]

    def keys(self) -> set[tuple]:
        """What there are results of."""
        return {tuple(line[name] for name in KEY) for line in self.results()}

    def add(self, key: dict, measured: dict) -> None:
        """Append and print a result: the values of its key, what was measured, and torch's threads."""
        line = {name: key[name] for name in KEY} | measured | {"threads": torch.get_num_threads()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        print(_shown(line), flush=True)


def _shown(line: dict) -> str:
    named = "  ".join(str(line[name]) for name in ("protocol", "set", "seed", "method"))
    if "error" in line:
        return f"{named}  {line['error']}"
    quality = f"AUROC {line['auroc']:.4f}  AP {line['ap']:.4f}"
    return f"{named}  {quality}  seconds {line['fit_seconds']:.2f} + {line['score_seconds']:.2f}"
