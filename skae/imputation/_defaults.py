"""What an imputer takes unless it is told otherwise: the autoencoder, the ensemble and its parts."""

from __future__ import annotations

import numpy as np

from skae.autoencoders._masked import MaskedAE
from skae.autoencoders._vae import VAE
from skae.base.estimators import clone
from skae.model.row_space import is_wide
from skae.training.optimizers import AdamW

# n_estimators="auto": members of few rows, each fitted without a fifth, and of this number of rows or more, each
# without a tenth.
FEW_ROWS, N_MEMBERS, N_MEMBERS_OF_MANY = 5000, 5, 3
HELD_OUT_SHARE, MAX_HELD_OUT = 0.1, 10_000
# What the default autoencoder sees: of few rows so many, again and again; of many, each a hundred times, less often in
# wide tables, whose rows teach more, and within bounds.
FEW_VISITS, BATCH_SIZE = 256_000, 128
VISITS_A_ROW, USUAL_COLUMNS, MANY_VISITS, LARGE_BATCH_SIZE = 100, 16, 1_000_000, 256
# Its weight decay, and the rows from which on that is less, as they need no pull to the linear guess.
WEIGHT_DECAY, ENOUGH_ROWS = 0.1, 2000


def default_autoencoder(n_rows: int, n_columns: int) -> MaskedAE:
    """The autoencoder of a table with so many rows and columns."""
    visits, batch_size = FEW_VISITS, BATCH_SIZE
    if n_rows >= FEW_ROWS:
        batch_size = LARGE_BATCH_SIZE
        share = min(1.0, USUAL_COLUMNS / n_columns)
        visits = int(np.clip(VISITS_A_ROW * n_rows * share, FEW_VISITS, MANY_VISITS))
    # Factors say what few rows of many columns tell: a network as wide would learn the rows by heart.
    sizes: dict = {"n_components": 1, "hidden_layer_sizes": ()} if is_wide(n_rows, n_columns) else {}
    return MaskedAE(
        **sizes,
        early_stopping=False,
        max_iter=1 if sizes else max(1, round(visits / max(n_rows, batch_size))),
        batch_size=batch_size,
        optimizer=AdamW(weight_decay=WEIGHT_DECAY * min(1.0, ENOUGH_ROWS / n_rows)),
    )


def with_missingness(autoencoder, missingness, n_rows: int):
    """The autoencoder, or a VAE where it is None, with a model of why cells are missing."""
    if autoencoder is None:
        epochs = max(1, min(VISITS_A_ROW, MANY_VISITS // n_rows))
        autoencoder = VAE(n_importance_samples=5, early_stopping=False, max_iter=epochs)
    if "missingness" not in autoencoder.get_params():
        raise ValueError(
            f"missingness={missingness!r} needs an autoencoder that can learn it: autoencoder=None or a "
            f"VAE, not {type(autoencoder).__name__}."
        )
    return clone(autoencoder).set_params(missingness=missingness)


def held_out_parts(n_rows: int, n_members: int, random_state) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training and held-out rows of each member."""
    order = random_state.permutation(n_rows)
    if n_rows < 2:
        return [(order, order)] * n_members
    if n_members == 1 or n_rows >= FEW_ROWS:
        size = min(MAX_HELD_OUT, max(1, int(min(HELD_OUT_SHARE, 1 / n_members) * n_rows)))
        parts = [order[start : start + size] for start in range(0, n_members * size, size)]
        return [(np.sort(np.setdiff1d(order, part)), np.sort(part)) for part in parts]
    folds = [order[fold::n_members] for fold in range(min(n_members, n_rows))]
    return [(np.sort(np.setdiff1d(order, fold)), np.sort(fold)) for fold in folds]
