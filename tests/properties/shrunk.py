"""What once failed, made small: always run."""

from __future__ import annotations

from .estimators import Configuration
from .tables import Table

SHRUNK = [
    # sparse_encode stopped when the batch had settled, so that a row alone was solved less well.
    Configuration("PredictiveSparseDecomposition", {}, table=Table(n_rows=2, n_columns=1)),
]
