"""The examples of CONTRIBUTING.md: short, shown as they are, and right."""

import ast
import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from examples.corruption import Blur
from examples.likelihood import Laplace
from examples.network import ResidualNetwork
from examples.penalty import DecorrelatedCode
from examples.scorer import WorstColumn
from registry import generator, real, scaling_of
from scipy.ndimage import uniform_filter
from sklearn.decomposition import PCA

import skae
from skae import VAE, AutoencoderOutlierDetector, AutoencoderTransformer, DenoisingAE
from skae.anomaly import ReconstructionError
from skae.training.batches import RawRows

GUIDE = Path(__file__).parents[1] / "CONTRIBUTING.md"
FILES = sorted(path for path in (Path(__file__).parent / "examples").glob("*.py") if path.stem != "__init__")
PARTS = (DecorrelatedCode, Blur, Laplace, ResidualNetwork, WorstColumn)
SMALL = {"max_iter": 3, "early_stopping": False, "random_state": 0}
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


@pytest.mark.skipif(not GUIDE.exists(), reason="not a checkout")
@each_file
def test_the_guide_shows_the_file_as_it_is(path):
    block = f"`tests/examples/{path.name}`:\n\n```python\n{path.read_text(encoding='utf-8')}```\n"
    assert block in GUIDE.read_text(encoding="utf-8")


@each_file
def test_the_file_has_under_25_lines_of_code(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = [
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None
        for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)
    ]
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    assert len([line for number, line in lines if line.strip() and number not in docstrings]) < 25


@each_file
def test_the_library_has_no_such_part_yet(path):
    module = importlib.import_module(f"examples.{path.stem}")
    parts = [name for name, made in vars(module).items() if made in PARTS and made.__module__ == module.__name__]
    assert len(parts) == 1 and parts[0] not in (*skae.__all__, *skae.anomaly.__all__)


def test_the_penalty_is_half_the_squared_covariances_of_different_components():
    X = real(80, 5)
    vae = VAE(3, init="random", **SMALL).fit(X)
    measured = []
    for _, step in vae._steps(RawRows(X), vae.model_):
        measured.append(DecorrelatedCode()(step))
    covariance = np.cov(vae.transform(X.astype(np.float32)).T, bias=True)
    apart = covariance - np.diag(np.diag(covariance))
    np.testing.assert_allclose(torch.cat(measured), np.full(80, 0.5 * np.square(apart).sum()), rtol=1e-4)


def test_the_penalty_decorrelates_codes():
    X = real(300, 5)
    options = {"init": "random", "max_iter": 30, "early_stopping": False, "random_state": 0}
    correlations = [
        abs(np.corrcoef(AutoencoderTransformer(2, penalties=penalties, **options).fit_transform(X).T)[0, 1])
        for penalties in ([], [DecorrelatedCode(1.0)])
    ]
    assert correlations[1] < 0.1 < correlations[0]


def test_the_corruption_moves_pixels_towards_the_mean_of_their_neighbours(digits):
    scaling = scaling_of(digits)
    rows, _ = scaling.input(torch.tensor(digits))
    made = scaling.from_input(Blur(8).corrupt(rows, scaling, generator()).rows).numpy()
    images = digits.reshape(-1, 8, 8)
    inside = np.zeros((8, 8), dtype=bool)
    inside[1:-1, 1:-1] = True
    blurred = uniform_filter(images, size=(1, 3, 3))[:, inside]
    before, after = images[:, inside], made.reshape(-1, 8, 8)[:, inside]
    moved, whole = (after - before), (blurred - before)
    # The same share of the way for all pixels of an image, and shares are uniform.
    share = (moved * whole).sum(1) / (whole**2).sum(1)
    np.testing.assert_allclose(moved, share[:, None] * whole, atol=1e-9)
    assert share.min() >= 0 and share.max() <= 1 and share.mean() == pytest.approx(0.5, abs=0.05)


def test_the_corruption_says_what_is_no_image():
    with pytest.raises(ValueError, match=r"Blur\(width=7\): rows of 64 pixels"):
        DenoisingAE(2, corruption=Blur(7), **SMALL).fit(real(60, 64))


def test_the_scale_of_the_likelihood_is_the_mean_absolute_residual():
    X = real(300, 4)
    options = {"hidden_layer_sizes": (), "max_iter": 200, "learning_rate": 0.02, "early_stopping": False}
    options["random_state"] = 0
    ae = AutoencoderTransformer(2, likelihood=Laplace(), **options).fit(X)
    learnt = np.exp(ae.model_.extras["log_scale"].item()) * float(ae.model_.scaling.columns.spread)
    assert learnt == pytest.approx(np.abs(X - ae.reconstruct(X)).mean(), rel=0.02)


def test_the_likelihood_has_a_smaller_absolute_error_than_squared_error_has():
    rng = np.random.default_rng(0)
    X = real(300, 6)
    wild = np.where(rng.random(X.shape) < 0.05, 30 * rng.standard_normal(X.shape), X)
    options = {"hidden_layer_sizes": (), "max_iter": 200, "early_stopping": False, "random_state": 0}
    absolute, squared = (
        np.median(np.abs(X - AutoencoderTransformer(2, likelihood=part, **options).fit(wild).reconstruct(X)))
        for part in (Laplace(), "gaussian")
    )
    assert absolute < squared


def test_the_network_starts_at_pca():
    X = real(40, 6)
    ae = AutoencoderTransformer(2, network=ResidualNetwork(16), random_state=0).fit(X)
    pca = PCA(2).fit(X)
    np.testing.assert_allclose(ae.reconstruct(X), pca.inverse_transform(pca.transform(X)), atol=1e-4)


def test_the_network_with_no_blocks_is_linear():
    encoder = ResidualNetwork(8, n_blocks=0).encoder(4, 2)
    skae.model.networks.reset_parts([encoder], generator())
    one, other = torch.randn(2, 5, 4, generator=generator())
    torch.testing.assert_close(encoder(one + other), encoder(one) + encoder(other))


def test_the_scorer_is_the_largest_error_in_units_of_the_columns_mean():
    X = real(80, 5)
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(), random_state=0).fit(X)
    errors = np.abs(X - ae.reconstruct(X))
    scorer = WorstColumn()
    made = scorer.score(ae, scorer.fit(ae, X, None), X)
    np.testing.assert_allclose(made, (errors / errors.mean(axis=0)).max(axis=1))


def test_the_scorer_finds_one_sensor_that_fails_among_many_that_work():
    X = real(400, 30)
    faulty = np.random.default_rng(1).choice(400, 20, replace=False)
    X[faulty, 0] += 4 * X[:, 0].std()
    ranks = {}
    for scorer in (WorstColumn(), ReconstructionError()):
        ae = AutoencoderTransformer(3, hidden_layer_sizes=())
        detector = AutoencoderOutlierDetector(ae, scorer=scorer, standardize=False, random_state=0).fit(X)
        ranks[type(scorer)] = detector.score_samples(X).argsort().argsort()[faulty].mean()
    # The column of the smallest variance is drowned out by the others.
    assert 2 * ranks[WorstColumn] < 30 < ranks[ReconstructionError]


@pytest.mark.skipif(not GUIDE.exists(), reason="not a checkout")
@each_file
def test_the_line_that_uses_the_part_fits(path, digits):
    shown = f"{path.read_text(encoding='utf-8')}```\n"
    after = GUIDE.read_text(encoding="utf-8").split(shown)[1]
    line = after.split("```python\n")[1].split("```")[0]
    names = vars(importlib.import_module(f"examples.{path.stem}")) | vars(skae)
    estimator = eval(line, dict(names))
    if path.stem == "scorer":
        estimator.set_params(random_state=0, **{f"autoencoder__{name}": value for name, value in SMALL.items()})
        assert set(estimator.fit_predict(digits)) == {-1, 1}
    else:
        assert estimator.set_params(**SMALL).fit_transform(digits).shape == (len(digits), 10)
