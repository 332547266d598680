"""One list of each kind of part: append an entry, and every shared property is tested on it.

Tests that draw random numbers do so with a fixed seed, so that they pass always or never.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from examples.corruption import Blur
from examples.likelihood import Laplace
from examples.network import ResidualNetwork
from examples.penalty import DecorrelatedCode
from examples.scorer import WorstColumn
from sklearn.base import clone

from skae import (
    LBFGS,
    RBM,
    SGD,
    VAE,
    VQVAE,
    ActivationPenalty,
    AdamW,
    AdversarialAE,
    AutoencoderTransformer,
    Bernoulli,
    BoundedGaussian,
    Contraction,
    ContractiveAE,
    ConvAE,
    ConvNetwork,
    DenoisingAE,
    DenseNetwork,
    Gaussian,
    GaussianCode,
    GaussianNoise,
    LaplaceCode,
    LogisticPCA,
    MaskedAE,
    Masking,
    MaximumMeanDiscrepancy,
    Multinomial,
    NegativeBinomial,
    Poisson,
    PredictiveSparseDecomposition,
    SaltAndPepper,
    SemanticHashing,
    SparseAE,
    StackedAE,
    StudentT,
    Swap,
    TotalCorrelation,
    VampPrior,
)
from skae.anomaly import (
    CodeDensity,
    DenoisingError,
    NegativeLogLikelihood,
    NeighborDistance,
    ReconstructionError,
    RobustDistance,
)
from skae.model.corruptions import CallableCorruption
from skae.model.scaling import Columns, Scaling


def real(n: int, p: int, seed: int = 0) -> np.ndarray:
    """Correlated rows, off centre and of different scales."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 3)) @ rng.standard_normal((3, p)) + 0.5 * rng.standard_normal((n, p))
    return X * np.linspace(0.5, 3.0, p) + np.arange(p)


def shares(n: int, p: int, seed: int = 0) -> np.ndarray:
    """Values between 0 and 1."""
    return 1 / (1 + np.exp(-0.5 * (real(n, p, seed) - np.arange(p))))


def counts(n: int, p: int, seed: int = 0) -> np.ndarray:
    """Counts as floats."""
    return np.random.default_rng(seed).poisson(1 + 5 * shares(n, p, seed)).astype(float)


def totalling(total: int):
    """A function that makes counts of which each row has this total."""

    def rows(n: int, p: int, seed: int = 0) -> np.ndarray:
        weights = shares(n, p, seed)
        return np.random.default_rng(seed).multinomial(total, weights / weights.sum(1, keepdims=True)).astype(float)

    return rows


def tables(n: int, p: int, seed: int = 0) -> np.ndarray:
    """Five columns as `TableEncoder` makes them: a number, two categories, a boolean, a number."""
    X = real(n, 4, seed)
    category = X[:, 1] > np.median(X[:, 1])
    return np.column_stack([X[:, 0], category, ~category, X[:, 2] > np.median(X[:, 2]), 50 * X[:, 3]]).astype(float)


class Example(NamedTuple):
    """A likelihood part and a function that makes rows it can score."""

    part: object
    rows: object


LIKELIHOODS = {
    "gaussian": Example(Gaussian(), real),
    "gaussian-fixed": Example(Gaussian(scale=2.5), real),
    "gaussian-shared": Example(Gaussian(scale="shared"), real),
    "gaussian-columns": Example(Gaussian(scale="columns"), real),
    "student_t": Example(StudentT(df=3), real),
    "student_t-fixed": Example(StudentT(df=5, scale=1.5), real),
    "student_t-columns": Example(StudentT(scale="columns"), real),
    "bernoulli": Example(Bernoulli(), shares),
    "bernoulli-bounds": Example(Bernoulli(bounds=(-40, 60)), real),
    "bernoulli-auto": Example(Bernoulli(bounds="auto"), real),
    "bounded_gaussian": Example(BoundedGaussian(), shares),
    "bounded_gaussian-columns": Example(BoundedGaussian((-40, 60), scale="columns"), real),
    "poisson": Example(Poisson(), counts),
    "negative_binomial": Example(NegativeBinomial(), counts),
    "negative_binomial-shared": Example(NegativeBinomial("shared"), counts),
    "negative_binomial-fixed": Example(NegativeBinomial(3.0), counts),
    "example-laplace": Example(Laplace(), real),
    "multinomial": Example(Multinomial(), totalling(1)),
    "multinomial-trials": Example(Multinomial(n_trials=12), totalling(12)),
}
CORRUPTIONS = {
    "gaussian": GaussianNoise(0.4),
    "gaussian-absolute": GaussianNoise(2.0, relative=False),
    "gaussian-range": GaussianNoise((0.1, 1.0)),
    "masking": Masking(0.3),
    "masking-mean": Masking(0.3, fill="mean"),
    "salt_and_pepper": SaltAndPepper(0.4),
    "swap": Swap(0.3),
    "callable": CallableCorruption(lambda X: X[:, ::-1]),
    "example-blur": Blur(1),
}
PENALTIES = {
    "laplace": LaplaceCode(0.1),
    "gaussian": GaussianCode(0.1),
    "activation-l1": ActivationPenalty("l1", 0.1),
    "activation-l2": ActivationPenalty("l2", 0.1, layers="all"),
    "contraction": Contraction(0.1),
    "contraction-exact": Contraction(0.1, estimator="exact"),
    "contraction-difference": Contraction(0.1, estimator="finite_difference"),
    "contraction-second-order": Contraction(0.1, second_order=1.0),
    "maximum-mean-discrepancy": MaximumMeanDiscrepancy(weight=0.1),
    "total-correlation-critic": TotalCorrelation(0.1, estimator="critic"),
    "example-decorrelated": DecorrelatedCode(0.1),
}
NETWORKS = {
    "linear": DenseNetwork(()),
    "one": DenseNetwork((7,), "tanh"),
    "deep": DenseNetwork((8, 6), "relu"),
    "tied": DenseNetwork((8, 6), tied=True),
    "tied-linear": DenseNetwork((), tied=True),
    "conv": ConvNetwork((5,), (4, 3), activation="tanh"),
    "conv-unpool": ConvNetwork((5,), (4,), 2, down="max", up="unpool", hidden_layer_sizes=(6,)),
    "conv-upsample": ConvNetwork((5, 1, 1), (4,), down="average", up="upsample"),
    "dropout": DenseNetwork((8,), dropout=0.2, input_dropout=0.1),
    "example-residual": ResidualNetwork(8),
}
OPTIMIZERS = {"adamw": AdamW(), "sgd": SGD(), "lbfgs": LBFGS()}
SCORERS = {
    "error": ReconstructionError(),
    "error-absolute": ReconstructionError("absolute"),
    "error-relative": ReconstructionError("relative"),
    "error-scaled": ReconstructionError("scaled"),
    "error-mahalanobis": ReconstructionError("mahalanobis"),
    "likelihood": NegativeLogLikelihood(),
    "denoising": DenoisingError(),
    "code": CodeDensity(),
    "code-robust": CodeDensity(0.7),
    "distance": RobustDistance(),
    "neighbor": NeighborDistance(),
    "neighbor-small": NeighborDistance(max_samples=8),
    "neighbor-code": NeighborDistance("code", columns="standard"),
    "neighbor-output": NeighborDistance("output"),
    "neighbor-robust": NeighborDistance(columns="robust"),
    "neighbor-rank": NeighborDistance(columns="rank"),
    "example-worst": WorstColumn(),
}
SMALL = {"max_iter": 3, "random_state": 0}
ESTIMATORS = {
    "AutoencoderTransformer": AutoencoderTransformer(2, hidden_layer_sizes=(8,), **SMALL),
    "LogisticPCA": LogisticPCA(2, **SMALL),
    "DenoisingAE": DenoisingAE(2, hidden_layer_sizes=(8,), **SMALL),
    "ContractiveAE": ContractiveAE(2, hidden_layer_sizes=(8,), **SMALL),
    "SparseAE-top_k": SparseAE(2, annealing=0.5, hidden_layer_sizes=(8,), **SMALL),
    "SparseAE-revive": SparseAE(2, k=1, revive=2, annealing=0.5, hidden_layer_sizes=(8,), **SMALL),
    "SparseAE-l1": SparseAE(2, penalty="l1", hidden_layer_sizes=(8,), **SMALL),
    "ConvAE": ConvAE(2, channels=(4,), **SMALL),
    "SemanticHashing": SemanticHashing(2, hidden_layer_sizes=(8,), **SMALL),
    "VAE": VAE(2, hidden_layer_sizes=(8,), **SMALL),
    "VAE-vamp": VAE(2, hidden_layer_sizes=(8,), prior=VampPrior(5), **SMALL),
    "VAE-missingness": VAE(2, hidden_layer_sizes=(8,), missingness="self_masking", n_importance_samples=2, **SMALL),
    "StackedAE": StackedAE(2, hidden_layer_sizes=(8,), pretraining_iter=1, **SMALL),
    "RBM": RBM(2, **SMALL),
    "VQVAE": VQVAE(2, n_codes=8, hidden_layer_sizes=(8,), **SMALL),
    "PredictiveSparseDecomposition": PredictiveSparseDecomposition(2, **SMALL),
    "MaskedAE": MaskedAE(2, hidden_layer_sizes=(8,), **SMALL),
    "AdversarialAE": AdversarialAE(2, hidden_layer_sizes=(8,), critic_layer_sizes=(8,), **SMALL),
}

# Those whose codes stand for rows, and of these those whose codes are numbers that may lie anywhere: there are paths
# and derivatives between them.
DECODING = {name: estimator for name, estimator in ESTIMATORS.items() if name != "MaskedAE"}
SMOOTH = {name: estimator for name, estimator in DECODING.items() if name not in ("SemanticHashing", "VQVAE")}


def with_parameters(estimator, **parameters):
    """A clone with those of the parameters that it has."""
    made = clone(estimator)
    return made.set_params(**{k: v for k, v in parameters.items() if k in made.get_params()})


def columns_of(X: np.ndarray, likelihood) -> Columns:
    """Mean and variance of the network's input, and the bounds of X."""
    X = torch.tensor(X, dtype=torch.float64)
    Z = likelihood.network_input(X)
    return Columns(Z.mean(0), Z.var(0, correction=0), X.amin(0), X.amax(0))


def scaling_of(X: np.ndarray, likelihood=None) -> Scaling:
    """The scaling of a fit to X."""
    likelihood = likelihood or Gaussian()
    return Scaling(likelihood, columns_of(X, likelihood))


def generator(seed: int = 0) -> torch.Generator:
    """A private generator."""
    return torch.Generator().manual_seed(seed)


def over(entries: dict):
    """Keyword arguments for `pytest.mark.parametrize` over the entries of a registry."""
    return {"argvalues": list(entries.values()), "ids": list(entries)}


def state_of(estimator) -> dict[str, np.ndarray]:
    """The weights of a fitted estimator, by name."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in estimator.model_.state_dict().items()}


def assert_same_state(one, other) -> None:
    """The weights of two fitted estimators are bit-identical."""
    one, other = state_of(one), state_of(other)
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)
