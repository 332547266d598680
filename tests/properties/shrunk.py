"""What once failed, made small: always run."""

from __future__ import annotations

import skae
from skae import AdamW, DenseNetwork

from .estimators import MASKED, PLAIN, SMALL, Configuration
from .tables import Table

HALF = AdamW(precision="bfloat16")

SHRUNK = [
    # sparse_encode stopped when the batch had settled, so that a row alone was solved less well.
    Configuration("PredictiveSparseDecomposition", {}, table=Table(n_rows=2, n_columns=1)),
    # LogisticRegression refused a fold of one class.
    Configuration("AutoencoderClassifier", {"early_stopping": True}, table=Table(n_rows=2, n_columns=1), labels="all"),
    Configuration("AutoencoderClassifier", {"early_stopping": True}, table=Table(n_rows=60), labels="rare"),
    # The state of other models than `Autoencoder`, and codes that are wider than their number.
    Configuration("AutoencoderClassifier", {"autoencoder": skae.VQVAE(2, n_codes=8, **SMALL)}),
    Configuration("AutoencoderClassifier", {"autoencoder": MASKED}),
    # Weights of the rows in float32 beside a loss in bfloat16.
    Configuration("AutoencoderTransformer", {"optimizer": HALF}, table=Table(n_rows=59, n_columns=1), weights="large"),
    Configuration("RBM", {"optimizer": HALF}, table=Table(n_rows=7, n_columns=3), weights="large"),
    # One over a squared unit is no number of float32.
    Configuration("VQVAE", {}, table=Table(n_rows=52, n_columns=1, scale=-30)),
    # Shapes of matrices, deep inside torch.
    Configuration("GAN", {"network": DenseNetwork((8,), tied=True)}),
    # A covariance without an inverse.
    Configuration("MaskedAE", {}, table=Table(n_rows=7, offset=1e8, constant=1)),
    Configuration("AutoencoderImputer", {"autoencoder": PLAIN}, table=Table(constant=1)),
    # More codes than columns: draws by a root of a covariance that rounding chose.
    Configuration(
        "VAE",
        {"n_components": 8, "init": "random", "optimizer": "sgd"},
        table=Table(n_rows=56, offset=10000.0, empty_column=True),
    ),
    # A column of strings without a value.
    Configuration("VAE", {"likelihood": "mixed"}, table=Table(n_rows=12, container="mixed", empty_column=True)),
    # pandas' booleans take no 0.
    Configuration("AutoencoderImputer", {}, table=Table(n_columns=3, container="mixed", empty_column=True)),
    # Categories in a column that had no value at fit.
    Configuration(
        "AutoencoderOutlierDetector",
        {},
        table=Table(n_rows=2, container="mixed", repeated=True, gaps=0.9, empty_row=True, seed=19),
    ),
    Configuration("StackedAE", {}, table=Table(n_rows=6, scale=-30, gaps=0.1)),
    Configuration("MaskedAE", {}, table=Table(n_rows=12, n_columns=5, spread=30)),
    Configuration(
        "GAN",
        {"activation": "silu", "optimizer": "lbfgs"},
        table=Table(n_rows=28, n_columns=1, spread=8),
        weights="some_zero",
    ),
    Configuration("DenoisingAE", {}, table=Table(n_columns=300, scale=30)),
    Configuration(
        "VAE", {"likelihood": skae.Gaussian(scale=2.5)}, table=Table(n_columns=300, scale=30, empty_row=True)
    ),
]
