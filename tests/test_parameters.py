"""Parameters and arguments out of range: each is named, with what it was and may be, before any work.

Every constructor parameter of every public class, and every argument of every public method, is tried with values of
wrong types and out of range. What is wrong follows from the docstring, not from the check. A new class takes part by
being public.
"""

import inspect
import re
from numbers import Real

import numpy as np
import pytest
from registry import ESTIMATORS, real
from sklearn.base import clone
from sklearn.utils._param_validation import InvalidParameterError

import skae
import skae.anomaly
import skae.inspection
from skae.anomaly import NeighborDistance, Scorer
from skae.base.parameters import Part
from skae.model.corruptions import Corruption
from skae.model.likelihoods import Likelihood
from skae.model.missingness import Missingness
from skae.model.penalties import Penalty
from skae.model.priors import Prior
from skae.training.optimizers import Optimizer

UNKNOWN, NOTHING = "no such option", object()
CLASSES = {
    name: made
    for module in (skae, skae.anomaly)
    for name, made in vars(module).items()
    if inspect.isclass(made) and name in module.__all__ and made is not Scorer
}
PARAMETERS = [(kind, name) for kind in CLASSES.values() for name in inspect.signature(kind).parameters]
# Numbers below zero are no mistake in these.
SIGNED = {"verbose", "random_state", "fill", "bounds", "missing_values", "min_value", "max_value", "image_shape"}


def ids(value):
    return value.__name__ if inspect.isclass(value) or inspect.isfunction(value) else str(value)


def documented_type(kind, name) -> str:
    """What the docstring says that a parameter is, without its default."""
    (line,) = re.findall(rf"^ *(?:\w+, )*{name}(?:, \w+)* :(.*)$", inspect.getdoc(kind), re.MULTILINE)[:1]
    return line.split(", default=")[0]


def wrong_values(kind, name):
    """Values that a parameter must refuse."""
    default = inspect.signature(kind).parameters[name].default
    said = documented_type(kind, name)
    made = [NOTHING] if "params" in name else [NOTHING, {}]
    if name not in ("device", "missing_values"):
        made += [UNKNOWN, [UNKNOWN, NOTHING]] if "categorical_features" not in name else [UNKNOWN]
    if name != "missing_values":
        made.append(np.nan)
    if not re.search("float|number|share|array|shape", said) and name not in ("random_state", "missing_values"):
        made.append(2.5)
    first = default[0] if isinstance(default, tuple) and default else default
    if isinstance(first, Real) and not isinstance(first, bool) and name not in SIGNED:
        made.append(-1 if first is default else (-1,) * len(default))
    return made


def with_part(part):
    """An estimator that has a part."""
    if isinstance(part, Scorer):
        return skae.AutoencoderOutlierDetector(scorer=[NeighborDistance(), part])
    if isinstance(part, skae.VampPrior | Missingness):
        return skae.VAE(2, **{"prior" if isinstance(part, Prior) else "missingness": part})
    if isinstance(part, Prior):
        return skae.AutoencoderTransformer(2, penalties=[skae.MaximumMeanDiscrepancy(part)])
    if isinstance(part, Corruption):
        return skae.DenoisingAE(2, corruption=part)
    kinds = {Likelihood: "likelihood", Optimizer: "optimizer", skae.EarlyStopping: "early_stopping"}
    for base, name in kinds.items():
        if isinstance(part, base):
            return skae.AutoencoderTransformer(2, **{name: part})
    if isinstance(part, Penalty):
        return skae.AutoencoderTransformer(2, penalties=[part])
    return skae.AutoencoderTransformer(2, network=part)


def fit(estimator):
    """Fit to what is no table: whoever looks at it before the parameters raises another error."""
    if isinstance(estimator, skae.HeldOutEntries):
        return estimator(skae.AutoencoderTransformer(), NOTHING)
    if isinstance(estimator, skae.AutoencoderClassifier):
        return estimator.fit(NOTHING, NOTHING)
    return estimator.fit(NOTHING)


@pytest.mark.parametrize(("kind", "name"), PARAMETERS, ids=ids)
def test_each_parameter_refuses_what_it_is_not(kind, name):
    needed = {"image_shape": (2, 2)} if kind is skae.ConvNetwork else {}
    for value in wrong_values(kind, name):
        made = kind(**{**needed, name: value})
        shown = re.escape(repr(value))
        with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of {kind.__name__} must be .*{shown}"):
            fit(with_part(made) if isinstance(made, Part) and kind is not skae.HeldOutEntries else made)


METHODS = [
    (kind, name)
    for kind in CLASSES.values()
    if not issubclass(kind, Part)
    for name, method in inspect.getmembers(kind, inspect.isfunction)
    if not name.startswith("_") and method.__module__.startswith("skae")
]
DISPLAYS = [getattr(skae.inspection, name) for name in skae.inspection.__all__ if name.endswith("Display")]
FUNCTIONS = [getattr(skae.inspection, name) for name in skae.inspection.__all__ if not name.endswith("Display")]
CALLS = [
    *((getattr(kind, name), (kind(),)) for kind, name in METHODS),
    *((kind.from_estimator, ()) for kind in DISPLAYS),
    *((function, ()) for function in FUNCTIONS),
]
# Not checked: they choose among labels of the user's, or are handed on.
FREE = {"y", "feature_names", "deep", "path", "metadata", "name", "title"}


@pytest.mark.parametrize(("function", "owner"), CALLS, ids=lambda value: getattr(value, "__qualname__", ""))
def test_each_argument_refuses_what_it_is_not(function, owner):
    parameters = dict(list(inspect.signature(function).parameters.items())[len(owner) :])
    checked = getattr(function, "_argument_constraints", {})
    plain = {name for name, each in parameters.items() if isinstance(each.default, int | float | str | tuple)}
    assert plain - set(checked) - FREE == set()
    required = {
        name: NOTHING
        for name, each in parameters.items()
        if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD
    }
    for name in checked:
        default = parameters[name].default
        wrong = [NOTHING, {}, np.nan, (NOTHING, NOTHING)]
        wrong += [] if name == "names" else [UNKNOWN]
        wrong += [-1] if isinstance(default, int | float) else []
        wrong += [2.5, 0] if type(default) is int and default > 0 and name not in ("random_state",) else []
        for value in wrong:
            with pytest.raises(InvalidParameterError, match=f"'{name}' parameter of .*{function.__name__} must be"):
                function(*owner, **{**required, name: value})


# What was accepted, or failed somewhere inside -------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "said"),
    [
        (skae.AutoencoderTransformer(penalties=["l1"]), "'penalties' parameter of AutoencoderTransformer must be"),
        (skae.AutoencoderTransformer(penalties=skae.LaplaceCode()), "'penalties' parameter .* a sequence"),
        (with_part(skae.EarlyStopping(5.0)), "'validation_fraction' parameter of EarlyStopping .*Got 5.0"),
        (with_part(skae.EarlyStopping(patience=-3)), "'patience' parameter of EarlyStopping .*Got -3"),
        (with_part(skae.EarlyStopping(n_folds=1)), "'n_folds' parameter of EarlyStopping .*Got 1 "),
        (with_part(skae.AdamW(betas=(2, 3))), r"'betas' parameter of AdamW must be a pair.*Got \(2, 3\)"),
        (with_part(skae.AdamW(betas=(0.9,))), r"'betas' parameter of AdamW must be a pair.*Got \(0.9,\)"),
        (with_part(skae.GaussianNoise((1.0, 0.1))), "'scale' parameter of GaussianNoise .*low <= high"),
        (with_part(skae.Masking((0.1, 1.2))), "'share' parameter of Masking must be"),
        (with_part(skae.Bernoulli((1, 0))), "'bounds' parameter of Bernoulli .*low < high"),
        (with_part(skae.DenseNetwork((4, 0))), r"'hidden_layer_sizes' parameter of DenseNetwork .*Got \(4, 0\)"),
        (skae.VAE(hidden_layer_sizes=(2.5,)), r"'hidden_layer_sizes' parameter of VAE .*Got \(2.5,\)"),
        (skae.AutoencoderOutlierDetector([skae.VAE(), 3]), "'autoencoder' parameter of AutoencoderOutlierDetector"),
        (skae.AutoencoderOutlierDetector(skae.VAE(0)), "'n_components' parameter of VAE .*Got 0"),
        (skae.AutoencoderImputer(skae.MaskedAE(max_iter=0)), "'max_iter' parameter of MaskedAE .*Got 0"),
        (skae.AutoencoderClassifier(skae.VAE(beta=-1)), "'beta' parameter of VAE .*Got -1"),
    ],
    ids=str,
)
def test_what_was_accepted_or_failed_inside(estimator, said):
    with pytest.raises(InvalidParameterError, match=said):
        fit(estimator)


def test_parameters_that_do_not_fit_together():
    with pytest.raises(ValueError, match="n_components=100 is above the 32 units of the layer below"):
        skae.StackedAE(100, hidden_layer_sizes=32, corruption=None).fit(real(60, 20))
    with pytest.raises(ValueError, match="hidden_layer_sizes has 32 units, which is above n_features=20"):
        skae.StackedAE(3, hidden_layer_sizes=32, activation="identity", layer="autoencoder").fit(real(60, 20))
    with pytest.raises(ValueError, match="something must be masked to be learnt"):
        skae.MaskedAE(share=(0, 0)).fit(real(60, 4))


@pytest.mark.parametrize(
    "kind",
    [skae.AutoencoderTransformer, skae.VAE, skae.StackedAE, skae.ConvAE, skae.GAN],
    ids=lambda kind: kind.__name__,
)
def test_a_number_is_a_single_hidden_layer(kind):
    X, short = real(60, 9), {"pretraining_iter": 1} if kind is skae.StackedAE else {}
    one, other = (kind(2, hidden_layer_sizes=sizes, max_iter=2, random_state=0, **short).fit(X) for sizes in (8, (8,)))
    for name, values in one.model_.state_dict().items():
        np.testing.assert_array_equal(values, other.model_.state_dict()[name], err_msg=name)
    assert clone(one).hidden_layer_sizes == 8


def test_a_number_is_a_single_layer_of_parts():
    X = real(60, 9)
    for part in (lambda sizes: skae.DenseNetwork(sizes), lambda sizes: skae.ConvNetwork((3, 3), sizes)):
        codes = [
            skae.AutoencoderTransformer(2, network=part(sizes), max_iter=2, random_state=0).fit_transform(X)
            for sizes in (8, (8,))
        ]
        np.testing.assert_array_equal(*codes)
    critics = [
        skae.AdversarialAE(2, hidden_layer_sizes=8, critic_layer_sizes=sizes, max_iter=2, random_state=0)
        for sizes in (8, (8,))
    ]
    np.testing.assert_array_equal(*(each.fit_transform(X) for each in critics))


# What was fitted before stays --------------------------------------------------------------------

FITTED = {
    "AutoencoderTransformer": (skae.AutoencoderTransformer(2, hidden_layer_sizes=8, max_iter=2), "transform"),
    "AutoencoderOutlierDetector": (
        skae.AutoencoderOutlierDetector(skae.AutoencoderTransformer(2, hidden_layer_sizes=(), max_iter=2)),
        "score_samples",
    ),
    "AutoencoderImputer": (skae.AutoencoderImputer(skae.MaskedAE(2, hidden_layer_sizes=8, max_iter=2)), "transform"),
    "AutoencoderClassifier": (
        skae.AutoencoderClassifier(skae.AutoencoderTransformer(2, hidden_layer_sizes=8, max_iter=2), max_iter=2),
        "predict_proba",
    ),
}


@pytest.mark.parametrize("name", FITTED)
def test_an_earlier_fit_stays(name):
    estimator, method = FITTED[name]
    X = real(60, 4)
    y = (X[:, 0] > np.median(X[:, 0])).astype(int)
    estimator = clone(estimator).set_params(random_state=0).fit(X, y)
    before = getattr(estimator, method)(X)
    nested = "autoencoder__hidden_layer_sizes" if "autoencoder" in estimator.get_params() else "hidden_layer_sizes"
    for wrong in ({"random_state": "seed"}, {nested: -1}):
        right = {parameter: estimator.get_params()[parameter] for parameter in wrong}
        with pytest.raises(InvalidParameterError):
            estimator.set_params(**wrong).fit(X, y)
        if hasattr(estimator, "partial_fit"):
            with pytest.raises(InvalidParameterError):
                estimator.partial_fit(X)
        estimator.set_params(**right)
        np.testing.assert_array_equal(getattr(estimator, method)(X), before)


@pytest.mark.parametrize("name", ["AutoencoderTransformer", "VAE", "RBM", "VQVAE", "PredictiveSparseDecomposition"])
def test_training_does_not_go_on_with_another_size_of_code(name):
    X = np.clip(real(60, 5), 0, 1)
    fitted = clone(ESTIMATORS[name]).set_params(warm_start=True).fit(X)
    before = fitted.transform(X)
    for go_on in (fitted.fit, fitted.partial_fit):
        with pytest.raises(ValueError, match="n_components=3, but the last fit had 2 components"):
            fitted.set_params(n_components=3)
            go_on(X)
        np.testing.assert_array_equal(fitted.transform(X), before)
    fitted.set_params(n_components=3, warm_start=False).fit(X)
    assert fitted.n_components_ == 3
    # What is no number of components keeps that of the fit.
    if name == "AutoencoderTransformer":
        assert fitted.set_params(n_components="auto", warm_start=True).fit(X).n_components_ == 3


def test_chains_start_at_one_row_each():
    X = real(60, 4)
    fitted = skae.DenoisingAE(2, hidden_layer_sizes=8, max_iter=2, random_state=0).fit(X)
    with pytest.raises(ValueError, match="init has 5 rows for n_samples=3"):
        fitted.sample(3, init=X[:5])
