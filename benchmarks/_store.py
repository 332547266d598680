"""Results that are kept from run to run, one a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch


class Store:
    """Results in a file of JSON lines; of two with the same key the later one counts.

    Parameters
    ----------
    path : Path
        The file; made with the first result.
    key : sequence of str
        Fields that tell results apart.
    shown : callable
        The line that is printed of a result.
    """

    def __init__(self, path: Path, key: Sequence[str], shown: Callable[[dict], str]):
        self.path = path
        self.key = tuple(key)
        self.shown = shown

    def results(self, **fields) -> list[dict]:
        """All results that have these fields."""
        if not self.path.exists():
            return []
        lines = map(json.loads, self.path.read_text(encoding="utf-8").splitlines())
        latest = {tuple(line[name] for name in self.key): line for line in lines}
        return [line for line in latest.values() if all(line[name] == value for name, value in fields.items())]

    def keys(self) -> set[tuple]:
        """What there are results of."""
        return {tuple(line[name] for name in self.key) for line in self.results()}

    def add(self, key: dict, measured: dict) -> None:
        """Append and print a result: the values of its key, what was measured, and torch's threads."""
        line = {name: key[name] for name in self.key} | measured | {"threads": torch.get_num_threads()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        print(self.shown(line), flush=True)
