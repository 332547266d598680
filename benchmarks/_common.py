"""What the benchmarks share: where the data is, how a table is printed and written."""

from __future__ import annotations

import gzip
import importlib.metadata
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("skae", "torch", "scikit-learn", "numpy")


def data_folder() -> Path:
    """The folder of the data sets: the environment variable SKAE_DATA, or shared/data beside the repository."""
    return Path(os.environ.get("SKAE_DATA", ROOT.parent / "shared" / "data"))


def require(*parts: str) -> Path:
    """A path in the data folder; where it is absent, say so in one line and end without an error."""
    path = data_folder().joinpath(*parts)
    if not path.exists():
        print(f"{'/'.join(parts)} is not in the data folder; set SKAE_DATA to the folder that holds it.")
        raise SystemExit(0)
    return path


def _read_idx(path: Path) -> np.ndarray:
    """An array in the idx format of MNIST: two zero bytes, type, number of axes, big-endian sizes, bytes."""
    with gzip.open(path, "rb") as stream:
        content = stream.read()
    n_axes = content[3]
    shape = np.frombuffer(content, dtype=">i4", count=n_axes, offset=4)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * n_axes).reshape(shape)


def load_mnist(dtype=np.float32) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """MNIST with pixels from 0 to 1, as (X_train, y_train, X_test, y_test)."""
    folder = require("mnist")
    made = []
    for part in ("train", "t10k"):
        images = _read_idx(folder / f"{part}-images-idx3-ubyte.gz")
        made.append(images.reshape(len(images), -1).astype(dtype) / dtype(255))
        made.append(_read_idx(folder / f"{part}-labels-idx1-ubyte.gz").astype(int))
    return tuple(made)


def squared_error(X: np.ndarray, reconstruction: np.ndarray) -> float:
    """Squared error of a row: summed over columns, averaged over rows."""
    return float(np.square(np.asarray(X, dtype=np.float64) - reconstruction).sum(axis=1).mean())


def parse_parameters(text: str) -> dict:
    """Parameters from "key=value, key=value"; values are Python expressions, and public names of skae are known."""
    import skae

    names = {name: getattr(skae, name) for name in skae.__all__} | {"dict": dict}
    return eval(f"dict({text})", {"__builtins__": {}}, names)  # the user's own command line


class Clock:
    """Seconds since it was made."""

    def __init__(self):
        self._start = time.perf_counter()

    def seconds(self) -> float:
        """Seconds that have passed."""
        return time.perf_counter() - self._start


def cell(value) -> str:
    """How a value is shown: three to four digits, nothing for None."""
    if value is None:
        return "–"
    if isinstance(value, (float, np.floating)):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    """A Markdown table, padded so that it also reads well as plain text."""
    lines = [list(header), *([cell(value) for value in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]

    def joined(line):
        padded = (
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([joined(lines[0]), rule, *map(joined, lines[1:])])


def gate_rows(gates: Iterable[tuple[str, float, str, float]]) -> list[list]:
    """Rows (what, value, gate, held) from gates (what, value, "<=" or ">=", bound)."""
    compare = {"<=": lambda a, b: a <= b, "<": lambda a, b: a < b, ">=": lambda a, b: a >= b, ">": lambda a, b: a > b}
    return [
        [what, value, f"{sign} {bound:g}", "yes" if compare[sign](value, bound) else "NO"]
        for what, value, sign, bound in gates
    ]


GATE_HEADER = ("gate", "value", "bound", "held")


def machine() -> str:
    """Cores, processor, threads and versions, in one line."""
    import torch

    model = platform.processor() or platform.machine()
    try:
        names = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
        model = names[0] if names else model
    except OSError:
        pass
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    devices = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    python = platform.python_version()
    return f"{cores} cores ({model}), {torch.get_num_threads()} torch threads{devices}; Python {python}, {versions}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return getattr(__import__(package), "__version__", "from source")


def report(name: str, title: str, sections: Sequence[tuple[str, str]], clock: Clock, *, write: bool = True) -> None:
    """Print the sections and write them to docs/benchmarks/NAME.md.

    Parameters
    ----------
    name : str
        Name of the file.
    title : str
        First line of the page.
    sections : sequence of (heading, body)
        Markdown; a heading may be empty.
    clock : Clock
        Made when the benchmark began.
    write : bool, default=True
        Whether to write the page.
    """
    arguments = [argument for argument in sys.argv[1:] if argument != "--write"]
    module = Path(sys.argv[0]).stem
    command = shlex.join(["python", "-m", f"benchmarks.{module}", *arguments])
    head = f"# {title}\n\n`{command}`\n\n{machine()}. {clock.seconds():.0f} seconds."
    bodies = [f"## {heading}\n\n{body}" if heading else body for heading, body in sections]
    page = "\n\n".join([head, *bodies]) + "\n"
    print(page)
    if write:
        path = ROOT / "docs" / "benchmarks" / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
        print(f"Written to {path.relative_to(ROOT)}")
