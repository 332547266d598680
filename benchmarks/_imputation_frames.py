"""Tables with numbers and categories, some of whose cells were never known, and others are hidden."""

from __future__ import annotations

import zlib
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks._common import require
from benchmarks._imputation_tables import drawn

RATES = {"mixed 20": 0.2, "mixed 40": 0.4}
FILES = {"penguins": "penguins.csv", "titanic": "titanic.csv", "adult": "adult.csv.gz"}
# Targets, identifiers, and which part of the original files a row is of.
LEFT_OUT = {
    "penguins": ["species"],
    "titanic": ["survived", "name", "ticket"],
    "adult": ["income", "split"],
}


class Frame(NamedTuple):
    """A table with its own gaps, and which of its known cells are hidden, True for those."""

    table: pd.DataFrame
    hidden: np.ndarray

    @property
    def gappy(self) -> pd.DataFrame:
        """The table with missing values also for the hidden cells."""
        return self.table.mask(self.hidden)


@cache
def load(name: str) -> pd.DataFrame:
    """A table without its target and identifiers; numbers in double precision, as gaps make them."""
    table = pd.read_csv(require("mixed", FILES[name])).drop(columns=LEFT_OUT[name])
    return table.astype(dict.fromkeys(numeric(table), np.float64))


def numeric(table: pd.DataFrame) -> list[str]:
    """Names of the columns of numbers."""
    return list(table.select_dtypes("number"))


def categorical(table: pd.DataFrame) -> list[str]:
    """Names of the other columns."""
    return list(table.select_dtypes(exclude="number"))


def frame(name: str, mechanism: str, seed: int) -> Frame:
    """A table with known cells hidden; the same for the same arguments."""
    table = load(name)
    generator = np.random.default_rng([zlib.crc32(f"{name}, {mechanism}".encode()), seed])
    known = table.notna().to_numpy()
    return Frame(table, drawn(known * RATES[mechanism], generator))
