"""The same autoencoder in other libraries, for the benchmark of speed.

Each function fits the network to X and returns what rebuilds rows, an array to an array.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from sklearn.neural_network import MLPRegressor
from torch import nn

from benchmarks import _speed_limit
from benchmarks._speed_common import row_operations
from skae import AutoencoderTransformer

LEARNING_RATE = 1e-4
# Steps of fewer operations run on one thread in the hand-written limit, as in skae.
SMALL_STEP = 3e7


class PlainNetwork(nn.Sequential):
    """Encoder and decoder in plain torch: relu between the layers, none after the code nor the output."""

    def __init__(self, n_features: int, encoder: Sequence[int]):
        sizes = [n_features, *encoder]
        super().__init__(nn.Sequential(*_layers(sizes)), nn.Sequential(*_layers(sizes[::-1])))


def _layers(sizes: Sequence[int]) -> list[nn.Module]:
    made: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        made += [nn.Linear(n_in, n_out), nn.ReLU()]
    return made[:-1]


def fit_skae(X: np.ndarray, encoder: Sequence[int], batch_size: int, n_epochs: int, **parameters) -> Callable:
    """Train with skae: no linear path and no held-out rows, unless the parameters say so."""
    settings = {
        "hidden_layer_sizes": tuple(encoder[:-1]),
        "activation": "relu",
        "init": "random",
        "max_iter": n_epochs,
        "batch_size": batch_size,
        "learning_rate": LEARNING_RATE,
        "early_stopping": False,
        "device": "cpu",
        "random_state": 0,
    }
    return AutoencoderTransformer(encoder[-1], **settings | parameters).fit(X).reconstruct


def fit_torch(
    X: np.ndarray,
    encoder: Sequence[int],
    batch_size: int,
    n_epochs: int,
    learning_rate: float = LEARNING_RATE,
    device: str = "cpu",
) -> Callable:
    """Train with a plain loop over slices of a shuffled tensor, and torch's fused Adam."""
    rows = torch.from_numpy(X).to(device)
    torch.manual_seed(0)
    network = PlainNetwork(X.shape[1], encoder).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)
    for _ in range(n_epochs):
        shuffled = rows[torch.randperm(len(rows), device=device)]
        for batch in shuffled.split(batch_size):
            optimizer.zero_grad()
            nn.functional.mse_loss(network(batch), batch).backward()
            optimizer.step()
    return lambda rows: _rebuilt(network, rows, device)


@torch.inference_mode()
def _rebuilt(network: nn.Module, rows: np.ndarray, device: str) -> np.ndarray:
    return network.eval()(torch.from_numpy(rows).to(device)).cpu().numpy()


def fit_limit(X: np.ndarray, encoder: Sequence[int], batch_size: int, n_epochs: int) -> Callable:
    """Train with the step that is written out by hand."""
    n_threads = torch.get_num_threads()
    if batch_size * row_operations(X.shape[1], encoder) < SMALL_STEP:
        torch.set_num_threads(1)
    try:
        network = _speed_limit.train(torch.from_numpy(X), encoder, batch_size, n_epochs, LEARNING_RATE)
    finally:
        torch.set_num_threads(n_threads)
    return network.rebuild


def fit_sklearn(X: np.ndarray, encoder: Sequence[int], batch_size: int, n_epochs: int) -> Callable:
    """Train with scikit-learn's MLPRegressor (relu after the code too), in float32."""
    model = MLPRegressor(
        hidden_layer_sizes=(*encoder, *encoder[-2::-1]),
        activation="relu",
        alpha=0.0,
        batch_size=batch_size,
        learning_rate_init=LEARNING_RATE,
        max_iter=n_epochs,
        tol=0.0,
        n_iter_no_change=10**9,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X, X).predict


def fit_pyod(
    X: np.ndarray,
    encoder: Sequence[int],
    batch_size: int,
    n_epochs: int,
    learning_rate: float = LEARNING_RATE,
    device: str = "cpu",
) -> Callable:
    """Train with PyOD's AutoEncoder (relu after the code too): no preprocessing, batch normalisation or dropout."""
    from pyod.models.auto_encoder import AutoEncoder

    model = AutoEncoder(
        preprocessing=False,
        lr=learning_rate,
        epoch_num=n_epochs,
        batch_size=batch_size,
        optimizer_params={"weight_decay": 0.0},
        hidden_neuron_list=list(encoder),
        batch_norm=False,
        dropout_rate=0.0,
        device=device,
        verbose=0,
    ).fit(X)
    return lambda rows: _rebuilt(model.model, rows, device)


def skorch_regressor(n_features: int, encoder: Sequence[int], batch_size: int, n_epochs: int, **settings):
    """skorch's regressor of rows on themselves: no split, no callbacks."""
    from skorch import NeuralNetRegressor

    return NeuralNetRegressor(
        PlainNetwork,
        module__n_features=n_features,
        module__encoder=encoder,
        optimizer=torch.optim.Adam,
        max_epochs=n_epochs,
        batch_size=batch_size,
        train_split=None,
        iterator_train__shuffle=True,
        callbacks="disable",
        verbose=0,
        **settings,
    )


def fit_skorch(
    X: np.ndarray,
    encoder: Sequence[int],
    batch_size: int,
    n_epochs: int,
    learning_rate: float = LEARNING_RATE,
    device: str = "cpu",
) -> Callable:
    """Train with skorch."""
    torch.manual_seed(0)
    model = skorch_regressor(X.shape[1], encoder, batch_size, n_epochs, lr=learning_rate, device=device)
    return model.fit(X, X).predict


def peers() -> dict[str, Callable]:
    """Functions `fit(X, encoder, batch_size, n_epochs, learning_rate, device)` of the libraries that are installed."""
    known = {"PyOD": fit_pyod, "skorch": fit_skorch}
    return {name: fit for name, fit in known.items() if importlib.util.find_spec(name.lower())}


def trainers() -> dict[str, Callable]:
    """Functions `fit(X, encoder, batch_size, n_epochs)` by library; those that are installed."""
    own = {"skae": fit_skae, "hand-written limit": fit_limit, "plain torch": fit_torch, "MLPRegressor": fit_sklearn}
    return own | peers()
