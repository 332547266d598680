"""The same autoencoder in other libraries, for the benchmark of speed."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from sklearn.neural_network import MLPRegressor
from torch import nn

from skae import AutoencoderTransformer

LEARNING_RATE = 1e-4


def sequential(n_features: int, encoder: Sequence[int]) -> nn.Sequential:
    """The network in plain torch: relu between the layers, none after the code nor the output."""
    sizes = [n_features, *encoder]
    down = _layers(sizes)
    up = _layers(sizes[::-1])
    return nn.Sequential(nn.Sequential(*down), nn.Sequential(*up))


def _layers(sizes: Sequence[int]) -> list[nn.Module]:
    made = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        made += [nn.Linear(n_in, n_out), nn.ReLU()]
    return made[:-1]


def fit_skae(X: np.ndarray, encoder: Sequence[int], batch_size: int, n_epochs: int) -> None:
    """Train with skae: no linear path, no held-out rows."""
    AutoencoderTransformer(
        encoder[-1],
        hidden_layer_sizes=tuple(encoder[:-1]),
        activation="relu",
        init="random",
        max_iter=n_epochs,
        batch_size=batch_size,
        learning_rate=LEARNING_RATE,
        early_stopping=False,
        device="cpu",
        random_state=0,
    ).fit(X)


def fit_torch(X: np.ndarray, encoder: Sequence[int], batch_size: int, n_epochs: int) -> None:
    """Train with a plain loop over slices of a shuffled tensor, and torch's fused Adam."""
    rows = torch.from_numpy(X)
    network = sequential(X.shape[1], encoder)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, fused=True)
    for _ in range(n_epochs):
        shuffled = rows[torch.randperm(len(rows))]
        for batch in shuffled.split(batch_size):
            optimizer.zero_grad()
            nn.functional.mse_loss(network(batch), batch).backward()
            optimizer.step()


def fit_sklearn(X: np.ndarray, encoder: Sequence[int], batch_size: int, n_epochs: int) -> None:
    """Train with scikit-learn's MLPRegressor (relu after the code too), in float32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        MLPRegressor(
            hidden_layer_sizes=(*encoder, *encoder[-2::-1]),
            activation="relu",
            alpha=0.0,
            batch_size=batch_size,
            learning_rate_init=LEARNING_RATE,
            max_iter=n_epochs,
            tol=0.0,
            n_iter_no_change=10**9,
            random_state=0,
        ).fit(X, X)


def fit_pyod(X: np.ndarray, encoder: Sequence[int], batch_size: int, n_epochs: int) -> None:
    """Train with PyOD's AutoEncoder: no preprocessing, batch normalisation or dropout."""
    from pyod.models.auto_encoder import AutoEncoder

    AutoEncoder(
        preprocessing=False,
        lr=LEARNING_RATE,
        epoch_num=n_epochs,
        batch_size=batch_size,
        optimizer_params={"weight_decay": 0.0},
        hidden_neuron_list=list(encoder),
        batch_norm=False,
        dropout_rate=0.0,
        device="cpu",
        verbose=0,
    ).fit(X)


def fit_skorch(X: np.ndarray, encoder: Sequence[int], batch_size: int, n_epochs: int) -> None:
    """Train with skorch: no split, no callbacks."""
    from skorch import NeuralNetRegressor

    NeuralNetRegressor(
        sequential(X.shape[1], encoder),
        optimizer=torch.optim.Adam,
        lr=LEARNING_RATE,
        max_epochs=n_epochs,
        batch_size=batch_size,
        train_split=None,
        iterator_train__shuffle=True,
        callbacks="disable",
        verbose=0,
        device="cpu",
    ).fit(X, X)


def trainers() -> dict[str, Callable]:
    """Functions `fit(X, encoder, batch_size, n_epochs)` by library; those that are installed."""
    made = {"skae": fit_skae, "plain torch": fit_torch, "MLPRegressor": fit_sklearn}
    if importlib.util.find_spec("pyod"):
        made["PyOD"] = fit_pyod
    if importlib.util.find_spec("skorch"):
        made["skorch"] = fit_skorch
    return made
