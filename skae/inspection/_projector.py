"""Codes and labels as files for the embedding projector of TensorBoard."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from skae.inspection._common import codes_of

# All that a reader may take for the end of a line or a cell.
BREAKS = re.compile(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")
# The projector skips blank lines, and all later labels would belong to other points.
BLANK = "-"


def export_projector(estimator, X, path, *, metadata=None) -> Any:
    r"""Write codes and labels as the two files that TensorBoard's embedding projector loads.

    `vectors.tsv` has a line for each row of X, the numbers of its code. `metadata.tsv` has a line for each row as
    well: the label, or, after a line with the names of the columns, the values of several.

    Parameters
    ----------
    estimator : fitted estimator or None
        Has `transform`. None takes X as the vectors: codes that you have already, or rows.
    X : array-like of shape (n_samples, n_features)
        Rows.
    path : str or path-like
        Folder of the two files; it is made where there is none. Files of an earlier export are replaced.
    metadata : array-like of shape (n_samples,) or (n_samples, n_columns), DataFrame, or dict of columns, default=None
        What the projector shows for each point and colours it by. Columns of arrays are called "column 0" and so on.
        Tabs and line breaks in labels become spaces. None writes no `metadata.tsv`, and removes an earlier one.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    ValueError
        If the codes have one component, which the projector does not read, or `metadata` has another number of rows.

    Notes
    -----
    The files are written under other names and then renamed, so that each is whole or not there.

    On https://projector.tensorflow.org, choose *Load* and the two files.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from skae import AutoencoderTransformer
    >>> from skae.inspection import export_projector
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> ae = AutoencoderTransformer(3, max_iter=3, random_state=0).fit(X)
    >>> with TemporaryDirectory() as folder:
    ...     files = export_projector(ae, X, folder, metadata={"species": y, "row": range(150)})
    ...     [file.name for file in files]
    ...     print(files[1].read_text()[:20].splitlines())
    ['vectors.tsv', 'metadata.tsv']
    ['species\trow', '0\t0', '0\t1']
    """
    vectors = np.asarray(X) if estimator is None else codes_of(estimator, X)
    if vectors.ndim != 2 or vectors.shape[1] < 2:
        raise ValueError(
            f"The projector reads vectors of at least two numbers, but these have shape {vectors.shape}; use more "
            "components."
        )
    lines = None if metadata is None else _metadata_lines(metadata, len(vectors))
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "vectors.tsv", folder / "metadata.tsv"]
    with _written(files[0], _vector_lines(vectors)) as new_vectors, _written(files[1], lines or []) as new_metadata:
        # New vectors must not stand beside old labels.
        files[1].unlink(missing_ok=True)
        new_vectors.replace(files[0])
        if lines is not None:
            new_metadata.replace(files[1])
    return files if lines is not None else files[:1]


@contextlib.contextmanager
def _written(file: Path, lines: Iterable[str]) -> Iterator[Path]:
    """Lines in a temporary file beside `file`, which is gone at the end unless it was renamed."""
    temporary = file.with_name(f".{file.name}-{uuid.uuid4().hex}")
    try:
        with open(temporary, "x", encoding="utf-8", newline="\n") as stream:
            stream.writelines(f"{line}\n" for line in lines)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _vector_lines(vectors: np.ndarray) -> Iterator[str]:
    # `str` of a Python float is the shortest that reads back as the same number.
    if vectors.dtype == np.float32:
        return ("\t".join(map(str, row)) for row in vectors)
    return ("\t".join(map(str, row.tolist())) for row in vectors)


def _metadata_lines(metadata, n_rows: int) -> list[str]:
    columns = _columns(metadata)
    for name, values in columns.items():
        if len(values) != n_rows:
            raise ValueError(f"metadata has {len(values)} rows in {name!r}, but there are {n_rows} vectors.")
    rows = list(zip(*([_cell(value) for value in values] for values in columns.values()), strict=True))
    if len(columns) > 1:
        rows.insert(0, tuple(_cell(name) for name in columns))
    return ["\t".join(row) if "".join(row).strip() else "\t".join((BLANK, *row[1:])) for row in rows]


def _columns(metadata) -> dict[str, list]:
    """The columns of a table by name."""
    if isinstance(metadata, Mapping) or hasattr(metadata, "columns"):
        names = list(metadata) if isinstance(metadata, Mapping) else list(metadata.columns)
        columns = {name: list(metadata[name]) for name in names}
    else:
        table = metadata if hasattr(metadata, "shape") else np.asarray(metadata, dtype=object)
        if len(table.shape) not in (1, 2):
            raise ValueError(f"metadata must have one or two dimensions, but has shape {table.shape}.")
        if len(table.shape) == 1:
            columns = {"label": list(table)}
        else:
            columns = {f"column {i}": list(column) for i, column in enumerate(np.asarray(table).T)}
    if not columns:
        raise ValueError("metadata has no columns; use None for no labels.")
    return columns


def _cell(value) -> str:
    return "" if _is_missing(value) else BREAKS.sub(" ", str(value))


def _is_missing(value) -> bool:
    if value is None:
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):
        # pandas.NA is neither equal to itself nor different.
        return type(value).__name__ == "NAType"
