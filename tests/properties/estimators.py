"""The estimators, and the values of their parameters that are tried; the first value of each list is the simplest."""

from __future__ import annotations

import inspect
from typing import NamedTuple

from hypothesis import strategies as st

import skae
from skae import (
    LBFGS,
    SGD,
    AdamW,
    AutoencoderTransformer,
    Bernoulli,
    DenoisingAE,
    DenseNetwork,
    EarlyStopping,
    Gaussian,
    GaussianNoise,
    MaskedAE,
    Masking,
    StudentT,
    VampPrior,
)
from skae.anomaly import CodeDensity, NeighborDistance, ReconstructionError, RobustDistance

from .tables import Table, rarely, tables


class Configuration(NamedTuple):
    """An estimator by the name of its class, its parameters, a table, and how often `partial_fit` follows."""

    estimator: str
    parameters: dict
    table: Table = Table()
    weights: str = "none"
    labels: str = "half"
    continued: bool = False

    def __repr__(self) -> str:
        """What differs from the simplest configuration."""
        odd = [
            f"{name}={value!r}"
            for name, value in self._asdict().items()
            if name not in ("estimator", "parameters") and value != self._field_defaults[name]
        ]
        return f"Configuration({', '.join([repr(self.estimator), repr(self.parameters), *odd])})"


SMALL = {"hidden_layer_sizes": (8,), "max_iter": 2, "early_stopping": False, "random_state": 0}
SHARED = {
    "n_components": [2, 1, 3, 8, "auto", 0.9],
    "hidden_layer_sizes": [(8,), (), (8, 4)],
    "activation": ["auto", "relu", "tanh", "logistic", "identity", "silu", "elu"],
    "network": [None, DenseNetwork((8,), tied=True), DenseNetwork((8,), dropout=0.2, input_dropout=0.1)],
    "likelihood": [
        "gaussian",
        Gaussian(scale="shared"),
        Gaussian(scale="columns"),
        Gaussian(scale=2.5),
        "student_t",
        StudentT(scale="columns"),
        "bernoulli",
        Bernoulli(bounds="auto"),
        "poisson",
        "multinomial",
        "mixed",
    ],
    "init": ["pca", "random"],
    "n_init": [1, 2],
    "corruption": [
        "gaussian",
        "masking",
        "salt_and_pepper",
        "swap",
        GaussianNoise((0.1, 1.0)),
        GaussianNoise(1.0, relative=False),
        Masking(0.3, fill="mean"),
    ],
    "max_iter": [2, 1, 4],
    "batch_size": ["auto", 7, 1000],
    "learning_rate": ["auto", 1e-4, 0.1],
    "optimizer": [
        "adamw",
        "sgd",
        "lbfgs",
        AdamW(precision="bfloat16"),
        AdamW(weight_decay=1.0, clip_norm=1.0),
        SGD(schedule="constant"),
        LBFGS(max_evaluations=3),
    ],
    "early_stopping": [False, True, EarlyStopping(n_folds=0), EarlyStopping(n_folds=3)],
    "warm_start": [False, True],
}
PENALTIES = [
    [],
    [skae.LaplaceCode(0.1)],
    [skae.GaussianCode(0.1)],
    [skae.ActivationPenalty("l1", 0.1)],
    [skae.Contraction(0.1)],
    [skae.MaximumMeanDiscrepancy(weight=0.1)],
    [skae.TotalCorrelation(0.1)],
    [skae.TotalCorrelation(0.1, estimator="critic")],
    [skae.AdversarialCode(hidden_layer_sizes=(8,))],
    [skae.Anchor(), skae.LaplaceCode(0.1), skae.ActivationPenalty("l2", 0.1, layers="all")],
]
MASKED = MaskedAE(4, hidden_layer_sizes=(8,), max_iter=1, early_stopping=False)
PLAIN = AutoencoderTransformer(2, **SMALL)
OWN = {
    "AutoencoderTransformer": {"penalties": ["auto", *PENALTIES], "corruption": [None, *SHARED["corruption"]]},
    "LogisticPCA": {"bounds": ["auto", (0, 1)]},
    "DenoisingAE": {"conditioning": [None, "noise_level", "mask"], "emphasis": [1.0, 3.0]},
    "ContractiveAE": {"estimator": ["hutchinson", "exact", "finite_difference"], "second_order": [0.0, 1.0]},
    "SparseAE": {
        "penalty": ["top_k", "batch_top_k", "l1", "l2", "kl"],
        "k": ["auto", 1, 2, 20],
        "annealing": [0.0, 0.5],
        "revive": [None, 2],
        "layers": ["code", "all"],
    },
    "ConvAE": {
        "channels": [(4,), (2, 3)],
        "down": ["stride", "max", "average"],
        "up": ["transposed", "upsample", "unpool"],
        "image_shape": ["auto", (2, 2), (4,)],
        "penalties": ["auto", *PENALTIES],
        "corruption": [None, *SHARED["corruption"]],
    },
    "SemanticHashing": {"n_components": [2, 1, 8, 64], "noise": ["bernoulli", 1.0], "beta": [1.0, 0.0]},
    "VAE": {
        "beta": [1.0, 0.0, 10.0],
        "kl_warm_up": [0.0, 0.5],
        "free_bits": [0.0, 0.5],
        "n_importance_samples": [1, 3],
        "prior": ["normal", "mixture", VampPrior(5)],
        "missingness": [None, "self_masking"],
        "penalties": PENALTIES,
    },
    "StackedAE": {
        "layer": ["denoising", "rbm", "contractive", "autoencoder"],
        "pretraining_iter": [1, 0],
        "max_iter": [0, 2],
        "code_activation": ["identity", "gelu"],
        "corruption": [None, *SHARED["corruption"]],
    },
    "RBM": {
        "n_components": [2, 1, 8],
        "visible": ["binary", "gaussian"],
        "hidden": ["binary", "gaussian"],
        "bounds": ["auto", (0, 1)],
        "n_gibbs": [1, 2],
        "persistent": [False, True],
    },
    "VQVAE": {
        "n_codes": [8, 2, 64],
        "code_width": ["auto", 1, 3],
        "shared_codebook": [False, True],
        "commitment": [1.0, 0.0],
    },
    "PredictiveSparseDecomposition": {
        "sparsity": [0.1, 0.0, 10.0],
        "prediction_weight": [1.0, 0.0],
        "n_layers": [3, 0],
        "n_solver_steps": [2, 1],
    },
    "MaskedAE": {"n_components": [4, 1, 16], "share": [(0.0, 0.6), 0.5, 1.0], "optimizer": ["auto", "adamw", "sgd"]},
    "AdversarialAE": {
        "critic_layer_sizes": [(8,), ()],
        "critic_steps": [1, 2],
        "weight": [10.0, 0.0],
        "prior": ["normal", "uniform", "mixture", "swiss_roll"],
    },
    "GAN": {
        "n_components": [2, 1, "auto"],
        "loss": ["wasserstein", "non_saturating", "minimax"],
        "critic_steps": ["auto", 1],
        "gradient_penalty": ["auto", 0.0, 10.0],
        "prior": ["normal", "uniform", "mixture"],
    },
    "AutoencoderClassifier": {
        "autoencoder": [
            PLAIN,
            AutoencoderTransformer(2, likelihood="mixed", **SMALL),
            skae.VAE(2, **SMALL),
            skae.RBM(4, max_iter=1, random_state=0),
            skae.SparseAE(4, **SMALL),
            skae.SemanticHashing(4, **SMALL),
            skae.VQVAE(2, n_codes=8, **SMALL),
            skae.StackedAE(2, hidden_layer_sizes=(8,), pretraining_iter=1, max_iter=0, random_state=0),
        ],
        "corruption": [None, *SHARED["corruption"]],
        "dropout": [0.0, 0.5],
    },
    "AutoencoderOutlierDetector": {
        "autoencoder": [
            PLAIN,
            DenoisingAE(
                2, corruption=GaussianNoise((0.05, 2.0)), conditioning="noise_level", **{**SMALL, "init": "random"}
            ),
            skae.VAE(2, **SMALL),
            AutoencoderTransformer(2, likelihood="mixed", **SMALL),
        ],
        "novelty": [False, True],
        "scorer": [
            ReconstructionError(),
            "auto",
            CodeDensity(),
            RobustDistance(),
            NeighborDistance(max_samples=8),
            ReconstructionError("mahalanobis"),
        ],
        "contamination": ["auto", 0.1],
        "standardize": [True, False],
        "n_estimators": [1, 2, "auto"],
    },
    "AutoencoderImputer": {
        "autoencoder": [MASKED, PLAIN, AutoencoderTransformer(2, likelihood="mixed", **SMALL), skae.VAE(2, **SMALL)],
        "add_indicator": [False, True],
        "keep_empty_features": [False, True],
        "n_imputations": [1, 2],
        "n_estimators": [1, 2, "auto"],
        "n_reference_rows": [5000, 0],
        "max_iter": [10, 1],
    },
    "TableEncoder": {"handle_unknown": ["ignore", "error"], "max_categories": [64, 2]},
}
# What a parameter is where it is not drawn, so that an example is cheap.
FIXED = {
    "StackedAE": {"pretraining_iter": 1, "max_iter": 0},
    "ConvAE": {"channels": (4,)},
    "AdversarialAE": {"critic_layer_sizes": (8,)},
    "MaskedAE": {"n_components": 4},
    "SemanticHashing": {"n_components": 2},
    "RBM": {"n_components": 2},
    "VQVAE": {"n_codes": 8},
    "AutoencoderClassifier": {"autoencoder": PLAIN, "max_iter": 2},
    "AutoencoderOutlierDetector": {"autoencoder": PLAIN, "scorer": ReconstructionError(), "n_estimators": 1},
    "AutoencoderImputer": {"autoencoder": MASKED, "n_estimators": 1, "max_iter": 10},
}
PARAMETERS_ARE_ONE_IN = 4
WRAPPERS = ("AutoencoderOutlierDetector", "AutoencoderImputer", "TableEncoder")
TABLES_WITH_CATEGORIES = ("AutoencoderClassifier", *WRAPPERS)


def signature(name: str) -> list[str]:
    """Names of the parameters of a class."""
    return list(inspect.signature(getattr(skae, name)).parameters)


def build(configuration: Configuration):
    """The estimator, not fitted; a parameter that is not named has a small value."""
    name = configuration.estimator
    small = {"n_components": 2, **SMALL, **FIXED.get(name, {})}
    given = {key: value for key, value in small.items() if key in signature(name)}
    return getattr(skae, name)(**{**given, **configuration.parameters})


def spaces(name: str) -> dict[str, list]:
    """Values of each parameter of a class."""
    own = OWN[name]
    shared = {} if name in WRAPPERS else SHARED
    if name == "AutoencoderClassifier":
        shared = {
            key: SHARED[key] for key in ("max_iter", "batch_size", "learning_rate", "optimizer", "early_stopping")
        }
    known = {key: values for key, values in {**shared, **own}.items() if key in signature(name)}
    if "optimizer" in known and name == "PredictiveSparseDecomposition":
        known["optimizer"] = ["adamw", "sgd", SGD(schedule="constant")]
    return known


@st.composite
def configurations(draw, names=tuple(OWN)) -> Configuration:
    """Configurations of the estimators of these names."""
    name = draw(st.sampled_from(names))
    parameters = {}
    for key, values in spaces(name).items():
        value = draw(rarely(values[0], values[1:], PARAMETERS_ARE_ONE_IN))
        # What is built has the first value of most by itself.
        if value is not values[0]:
            parameters[key] = value
    takes_categories = name in TABLES_WITH_CATEGORIES or parameters.get("likelihood") == "mixed"
    mixed = draw(rarely(False, [True], 2 if takes_categories else 20))
    table = draw(tables(wide=name not in ("AutoencoderImputer", "AutoencoderOutlierDetector"), mixed=mixed))
    weights = draw(st.sampled_from(["none", "none", "some_zero", "large"]))
    labels = draw(st.sampled_from(["half", "all", "one_each", "rare", "strings"]))
    return Configuration(name, parameters, table, weights, labels, draw(st.booleans()))
