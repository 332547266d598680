"""What the docstrings of the estimators say is what their signatures and fits have."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from registry import ESTIMATORS, over, shares
from sklearn.base import clone

import skae
import skae.anomaly
from skae.autoencoders._base import BaseAutoencoder
from skae.autoencoders._docs import ENTRIES, with_shared_entries
from skae.base.parameters import Part

CLASSES = [made for made in vars(skae).values() if inspect.isclass(made) and issubclass(made, BaseAutoencoder)]
SECTION = r"\n{}\n-+\n(.*?)(?=\n\n\S[^\n]*\n-+\n|\Z)"
each_class = pytest.mark.parametrize("estimator_class", CLASSES, ids=lambda c: c.__name__)


def entries(documented, section: str) -> dict[str, str]:
    """The entries of a section of a docstring by name, each the line that names it."""
    (body,) = re.findall(SECTION.format(section), inspect.getdoc(documented), re.DOTALL)
    named = [line for line in body.splitlines() if re.match(r"\w", line)]
    return {name: line for line in named for name in re.match(r"[\w, ]+?(?= :)", line)[0].split(", ")}


@each_class
def test_parameters_are_those_of_the_signature_in_its_order(estimator_class):
    documented = entries(estimator_class, "Parameters")
    signature = inspect.signature(estimator_class).parameters
    assert list(documented) == list(signature)
    for name, parameter in signature.items():
        (default,) = re.findall(r", default=(.+)$", documented[name])
        assert default.replace('"', "'") == repr(parameter.default)


@each_class
def test_strings_that_are_named_are_strings_that_are_taken(estimator_class):
    documented = entries(estimator_class, "Parameters")
    for name, line in documented.items():
        for choice in re.findall(r'"(\w+)"', line.split(", default=")[0]):
            if name not in ("device", "corruption"):
                constraints = estimator_class._parameter_constraints[name]
                assert any(choice in getattr(c, "options", ()) for c in constraints), (name, choice)


@each_class
def test_no_marker_is_left(estimator_class):
    assert not re.findall(r"^ *\{.*\}$", estimator_class.__doc__, re.MULTILINE)


@pytest.mark.parametrize("estimator", **over(ESTIMATORS))
def test_fitted_attributes_are_documented(estimator):
    fitted = clone(estimator).fit(shares(60, 9))
    found = {name for name in {*vars(fitted), *dir(type(fitted))} if name.endswith("_") and not name.startswith("_")}
    documented = set(entries(type(estimator), "Attributes"))
    assert found - documented == set()
    # Documented and not found are only those that some fits do not have.
    some = {"feature_names_in_", "explained_variance_", "explained_variance_ratio_", "table_encoder_"}
    some |= {"classes_", "class_prior_"}
    assert documented - found <= {*some, "components_", "mean_"}
    for name in ("explained_variance_", "explained_variance_ratio_"):
        assert (name in found) == (estimator._parameter("init") == "pca")


LINEAR = skae.AutoencoderTransformer(2, hidden_layer_sizes=(), max_iter=2)
TABLE = {"table_encoder_", "feature_names_in_"}
# Estimators that are no autoencoders, and attributes that they have in other fits alone.
OTHERS = [
    (skae.AutoencoderClassifier(LINEAR, max_iter=2), TABLE),
    (skae.AutoencoderOutlierDetector(LINEAR), TABLE),
    (skae.AutoencoderImputer(LINEAR, max_iter=1), {"feature_names_in_"}),
    (skae.GAN(2, max_iter=2), {*TABLE, "classes_", "class_prior_"}),
    (skae.VAE(2, max_iter=2, conditional=True), {*TABLE, "components_", "mean_"}),
    (skae.TableEncoder(), {"feature_names_in_"}),
]


@pytest.mark.parametrize(("estimator", "some"), OTHERS, ids=lambda value: type(value).__name__)
def test_fitted_attributes_are_documented_and_the_other_way_round(estimator, some):
    X = shares(60, 5)
    fitted = clone(estimator).fit(X, (X[:, 0] > np.median(X[:, 0])).astype(int))
    found = {name for name in {*vars(fitted), *dir(type(fitted))} if name.endswith("_") and not name.startswith("_")}
    assert found == set(entries(type(fitted), "Attributes")) - (some - found)


PUBLIC = [
    made for module in (skae, skae.anomaly) for name in module.__all__ if inspect.isclass(made := vars(module)[name])
]


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_public_class_attributes_are_for_users(kind):
    """Estimators have methods, parameters and fitted attributes; of a part the docstrings say what else there is."""
    documented = {
        name for each in kind.__mro__ if each.__doc__ for name in re.findall(r"(\w+)(?=[\w, ]* : )", each.__doc__)
    }
    for name in dir(kind):
        static = inspect.getattr_static(kind, name)
        if name.startswith("_") or callable(getattr(kind, name)) or hasattr(static, "__get__") and static.__doc__:
            continue
        assert issubclass(kind, Part) and name in documented, name
    if not issubclass(kind, Part):
        properties = {name for name, each in inspect.getmembers(kind, inspect.isdatadescriptor) if name[0] != "_"}
        assert all(name.endswith("_") for name in properties)


def test_a_classifier_has_no_parameters_of_autoencoders():
    fitted = skae.AutoencoderClassifier(max_iter=1)
    assert not hasattr(fitted, "hidden_layer_sizes") and not hasattr(fitted, "n_components")


def test_a_marker_stands_for_entries_from_one_to_another():
    made = with_shared_entries("A class.\n\n    {warm_start}\n    {random_state ... verbose}\n    k : int")
    lines = [*ENTRIES["warm_start"], *ENTRIES["random_state"], *ENTRIES["verbose"], "k : int"]
    assert made == "A class.\n\n" + "\n".join("    " + line for line in lines)


def test_other_text_in_braces_stays():
    text = "{n_components} in a sentence\n{x}\n{x ... verbose}\n{warm_start ... y}\n{warm_start, verbose}"
    assert with_shared_entries(text) == text


def test_subclasses_of_users_keep_docstring_and_parameters():
    class Deep(skae.AutoencoderTransformer):
        """Deeper."""

        def __init__(self, n_components="auto", *, depth=3, random_state=None):
            super().__init__(n_components, hidden_layer_sizes=(8,) * depth, random_state=random_state)
            self.depth = depth

    class Bare(skae.VAE):
        pass

    deep = Deep(2, depth=4, random_state=0)
    assert Deep.__doc__ == "Deeper."
    assert Bare.__doc__ is None
    assert deep.get_params() == {"n_components": 2, "depth": 4, "random_state": 0}
    assert clone(deep).get_params() == deep.get_params()
    assert deep.hidden_layer_sizes == (8,) * 4
    assert vars(deep).keys() == {*skae.AutoencoderTransformer().get_params(), "depth"}


def test_subclasses_of_users_may_store_their_parameters_in_the_same_way():
    class Noisy(skae.VAE):
        def __init__(self, n_components=2, *, beta=2.0, more=None):
            super().__init__(n_components, beta=beta)
            self._set_parameters(locals())

    noisy = Noisy(3, more="x")
    assert vars(noisy).keys() == {*skae.VAE().get_params(), "more"}
    assert noisy.get_params() == {"n_components": 3, "beta": 2.0, "more": "x"}


@each_class
def test_constructors_store_what_they_are_given_in_order(estimator_class):
    given = {name: object() for name in inspect.signature(estimator_class).parameters}
    assert list(vars(estimator_class(**given)).items()) == list(given.items())


def test_without_docstrings_the_package_imports():
    code = "import skae; assert skae.VAE.__doc__ is None; print(skae.VAE(2))"
    folder = Path(skae.__file__).parents[1]
    run = subprocess.run([sys.executable, "-OO", "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "VAE(n_components=2)"
