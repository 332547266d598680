"""Paths, sums and grids of codes, and the projector's files."""

import builtins

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from registry import SMOOTH, real
from scipy.stats import norm
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import VAE, AutoencoderTransformer, ConvAE
from skae.inspection import analogy, decode_grid, export_projector, interpolate
from skae.inspection._decoding import traverse

SHORT = {"max_iter": 3, "random_state": 0}


@pytest.fixture(scope="module")
def pca():
    """A PCA, for which decoded sums are sums of rows, and its rows, which lie in its plane."""
    X = real(100, 6)
    X = PCA(3).fit(X).inverse_transform(PCA(3).fit_transform(X))
    return PCA(3).fit(X), X


@pytest.fixture(scope="module")
def vae():
    X = real(100, 6)
    return VAE(3, hidden_layer_sizes=(8,), **SHORT).fit(X), X


# interpolate ---------------------------------------------------------------------------------------


def test_a_linear_path_of_a_linear_model_is_a_line_between_rows(pca):
    model, X = pca
    made = interpolate(model, X[0], X[1], n_steps=5)
    t = np.linspace(0, 1, 5)[:, None]
    assert_allclose(made, (1 - t) * X[0] + t * X[1], atol=1e-10)


@pytest.mark.parametrize("method", ["linear", "spherical"])
@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_paths_end_at_the_reconstructions(name, method, dtype):
    X = real(60, 5).astype(dtype)
    estimator = SMOOTH[name].fit(X)
    made = interpolate(estimator, X[:4], X[4:8], 3, method=method)
    assert made.shape == (4, 3, 5) and made.dtype == dtype
    rebuilt = estimator.inverse_transform(estimator.transform(X[:8]))
    assert_allclose(made[:, 0], rebuilt[:4], rtol=1e-4, atol=1e-4)
    assert_allclose(made[:, -1], rebuilt[4:], rtol=1e-4, atol=1e-4)


def test_a_spherical_path_has_constant_length_and_speed(rng):
    """A quarter of a circle in codes: the identity decodes."""
    identity = PCA(2).fit([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.5], [0.0, -0.5]])
    made = interpolate(identity, [2.0, 0.0], [0.0, 2.0], 7, method="spherical", space="code")
    angle = np.linspace(0, np.pi / 2, 7)
    expected = identity.inverse_transform(2 * np.column_stack([np.cos(angle), np.sin(angle)]))
    assert_allclose(made, expected, atol=1e-12)


@pytest.mark.parametrize("end", [[2.0, 4.0], [-1.0, -2.0], [0.0, 0.0], [1.0, 2.0], [1.0, 2.0 + 1e-15]])
def test_spherical_is_linear_where_no_plane_is_given(end):
    identity = PCA(2).fit([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.5], [0.0, -0.5]])
    paths = [interpolate(identity, [1.0, 2.0], end, 5, method=m, space="code") for m in ("linear", "spherical")]
    assert_allclose(*paths, atol=1e-12)


def test_nearly_parallel_codes_are_nearly_linear():
    identity = PCA(2).fit([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.5], [0.0, -0.5]])
    for tilt in 10.0 ** -np.arange(1, 14):
        linear, spherical = (
            interpolate(identity, [1.0, 2.0], [1.0 - 2 * tilt, 2.0 + tilt], 5, method=method, space="code")
            for method in ("linear", "spherical")
        )
        assert np.abs(linear - spherical).max() <= 2 * tilt


def test_one_row_is_paired_with_each(pca):
    model, X = pca
    made = interpolate(model, X[0], X[1:4])
    assert made.shape == (3, 10, 6)
    for pair, end in zip(made, X[1:4], strict=True):
        assert_allclose(pair, interpolate(model, X[0], end), atol=1e-12)
    with pytest.raises(ValueError, match="start has 2 rows and end 3"):
        interpolate(model, X[:2], X[:3])


def test_rows_of_frames_keep_their_names(vae):
    _, X = vae
    frame = pd.DataFrame(X, columns=list("abcdef"))
    model = VAE(3, hidden_layer_sizes=(8,), **SHORT).fit(frame).set_output(transform="pandas")
    made = interpolate(model, frame.iloc[0], frame.iloc[1])
    assert made.shape == (10, 6)
    assert_allclose(made, interpolate(model, frame[:1], frame[1:2])[0])


def test_images_stay_images(rng):
    images = rng.random((30, 6, 5))
    conv = ConvAE(2, channels=(4,), **SHORT).fit(images)
    assert interpolate(conv, images[:1], images[1:2], 4).shape == (1, 4, 6, 5)
    assert analogy(conv, images[:3], images[3:5], images[:2]).shape == (2, 6, 5)
    assert decode_grid(conv, (2, 3), X=images)[0].shape == (2, 3, 6, 5)


def test_pipelines_decode_to_the_units_of_their_rows(pca):
    _, X = pca
    pipeline = make_pipeline(StandardScaler(), PCA(3)).fit(X)
    made = interpolate(pipeline, X[0], X[1], n_steps=3)
    assert_allclose(made, [X[0], (X[0] + X[1]) / 2, X[1]], atol=1e-10)


def test_interpolate_needs_a_fit(pca):
    with pytest.raises(NotFittedError):
        interpolate(VAE(), pca[1][0], pca[1][1])


# analogy -------------------------------------------------------------------------------------------


def test_analogies_of_a_linear_model_are_sums_of_rows(pca):
    model, X = pca
    assert_allclose(analogy(model, X[0], X[1], X[2]), X[2] + X[1] - X[0], atol=1e-10)
    made = analogy(model, X[:10], X[10:30], X[30:33])
    assert_allclose(made, X[30:33] + X[10:30].mean(0) - X[:10].mean(0), atol=1e-10)
    codes = model.transform(X)
    assert_allclose(analogy(model, codes[:10], codes[10:30], codes[30:33], space="code"), made, atol=1e-10)


@pytest.mark.parametrize("name", SMOOTH)
def test_what_is_to_c_as_a_is_to_a_is_c(name):
    X = real(60, 5)
    estimator = SMOOTH[name].fit(X)
    assert_allclose(analogy(estimator, X[:9], X[:9], X[3]), estimator.inverse_transform(estimator.transform(X[3:4]))[0])


# decode_grid ---------------------------------------------------------------------------------------


def test_the_priors_grid_is_even_in_probability(vae):
    model, _ = vae
    rows, (across, up) = decode_grid(model, (4, 5), components=(2, 0), quantiles=(0.1, 0.9))
    assert rows.shape == (4, 5, 6)
    assert_allclose(norm.cdf(across), np.linspace(0.1, 0.9, 5))
    assert_allclose(norm.cdf(up), np.linspace(0.1, 0.9, 4))
    # Nothing but the two components differs from the base, which is zero.
    assert_allclose(rows[3, 1], model.inverse_transform([[up[3], 0, across[1]]])[0])


def test_the_grid_of_x_is_even_in_its_codes(pca):
    model, X = pca
    rows, (across, up) = decode_grid(model, 3, X=X, quantiles=(0, 1), components=(1, 2))
    codes = model.transform(X)
    assert_allclose(across, [codes[:, 1].min(), np.median(codes[:, 1]), codes[:, 1].max()])
    assert_allclose(up, [codes[:, 2].min(), np.median(codes[:, 2]), codes[:, 2].max()])
    assert_allclose(rows[2, 0], model.inverse_transform([[codes[:, 0].mean(), across[0], up[2]]])[0])


def test_bounds_and_base_are_as_told(pca):
    model, _ = pca
    rows, (across, up) = decode_grid(model, (2, 3), bounds=[(-1, 1), (0, 4)], base=[5, 6, 7])
    assert_allclose(across, [-1, 0, 1])
    assert_allclose(up, [0, 4])
    assert_allclose(rows[1, 2], model.inverse_transform([[1, 4, 7]])[0])
    _, both = decode_grid(model, 3, bounds=(-2, 2))
    assert_allclose(both, [[-2, 0, 2], [-2, 0, 2]])


@pytest.mark.parametrize("name", SMOOTH)
def test_every_estimators_codes_make_a_grid(name):
    X = real(60, 5).astype(np.float32)
    rows, _ = decode_grid(SMOOTH[name].fit(X), (2, 3), X=X)
    assert rows.shape == (2, 3, 5) and rows.dtype == np.float32


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"components": (0, 0)}, "two different components"),
        ({"components": (0, 3)}, "between 0 and 2"),
        ({"quantiles": (0, 1)}, "and neither"),
        ({"bounds": (1, 0)}, "low < high"),
        ({"bounds": (0, 1, 2)}, "low < high"),
        ({"base": [[0, 0, 0]]}, "'base' parameter of decode_grid must be a sequence"),
    ],
)
def test_what_a_grid_refuses(vae, wrong, message):
    with pytest.raises(ValueError, match=message):
        decode_grid(vae[0], **wrong)


def test_point_codes_have_no_prior(pca):
    model, X = pca
    ae = AutoencoderTransformer(3, **SHORT).fit(X)
    for estimator in (ae, model, make_pipeline(StandardScaler(), ae)):
        with pytest.raises(ValueError, match="have no normal prior.*give X"):
            decode_grid(estimator)


# traverse, of the display --------------------------------------------------------------------------


def test_a_traversal_changes_one_component(pca):
    model, X = pca
    codes = model.transform(X)
    rows, values, components = traverse(model, 5, X=X, quantiles=(0.25, 0.75), components=(2, 0))
    assert rows.shape == (2, 5, 6) and components == [2, 0]
    for line, component in enumerate(components):
        assert_allclose(values[line], np.linspace(*np.quantile(codes[:, component], [0.25, 0.75]), 5))
        steps = np.diff(rows[line], axis=0)
        assert_allclose(steps, np.diff(values[line])[:, None] * model.components_[component], atol=1e-10)


# export_projector ----------------------------------------------------------------------------------


def read(file):
    return file.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vectors_read_back_are_the_codes(vae, tmp_path, dtype):
    model, X = vae
    codes = model.transform(X.astype(dtype))
    (file,) = export_projector(model, X.astype(dtype), tmp_path / "new" / "folder")
    assert file == tmp_path / "new" / "folder" / "vectors.tsv"
    assert_array_equal(np.loadtxt(file, delimiter="\t", dtype=dtype), codes)
    export_projector(None, codes, tmp_path)
    assert (tmp_path / "vectors.tsv").read_text() == file.read_text()


def test_one_column_has_no_header_and_several_have(pca, tmp_path):
    model, X = pca
    labels = [f"row {i}" for i in range(100)]
    for metadata in (labels, np.array(labels), pd.Series(labels), pd.DataFrame({"name": labels}), {"name": labels}):
        _, file = export_projector(model, X, tmp_path, metadata=metadata)
        assert read(file) == labels
    number = np.arange(100)
    columns = {"name": labels, "number": number}
    for metadata in (columns, pd.DataFrame(columns), pl.DataFrame(columns)):
        _, file = export_projector(model, X, tmp_path, metadata=metadata)
        assert read(file) == ["name\tnumber", *(f"{a}\t{b}" for a, b in zip(labels, number, strict=True))]
    _, file = export_projector(model, X, tmp_path, metadata=np.column_stack([number, number]))
    assert read(file)[:2] == ["column 0\tcolumn 1", "0\t0"]


def test_every_label_has_its_line(pca, tmp_path):
    model, X = pca
    labels = ["tab\there", "two\r\nlines", "\u2028", "", "  ", None, float("nan"), pd.NA, pd.NaT, "é ∑"]
    _, file = export_projector(model, X[:10], tmp_path, metadata=labels)
    assert file.read_bytes().count(b"\n") == 10
    assert read(file) == ["tab here", "two lines", "-", "-", "-", "-", "-", "-", "-", "é ∑"]
    _, file = export_projector(model, X[:3], tmp_path, metadata={"a\tb": ["", "x", None], "c": [None, None, 1]})
    assert read(file) == ["a b\tc", "-\t", "x\t", "\t1"]


def test_old_labels_do_not_stay_beside_new_vectors(pca, tmp_path):
    model, X = pca
    export_projector(model, X, tmp_path, metadata=range(100))
    export_projector(model, X[:50], tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["vectors.tsv"]


def test_files_are_whole_or_not_there(pca, tmp_path):
    model, X = pca

    class Unprintable:
        def __str__(self):
            raise RuntimeError("no name")

    with pytest.raises(RuntimeError, match="no name"):
        export_projector(model, X[:2], tmp_path, metadata=["a", Unprintable()])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_earlier_files(pca, tmp_path, monkeypatch):
    model, X = pca
    export_projector(model, X[:5], tmp_path, metadata=range(5))
    before = {file.name: file.read_text() for file in tmp_path.iterdir()}
    whole = builtins.open

    def full(file, *arguments, **options):
        if "metadata" in str(file):
            raise OSError("no space left")
        return whole(file, *arguments, **options)

    monkeypatch.setattr(builtins, "open", full)
    with pytest.raises(OSError, match="no space left"):
        export_projector(model, X[:7], tmp_path, metadata=range(7))
    monkeypatch.undo()
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == before


def test_what_the_projector_does_not_read_is_refused(pca, tmp_path):
    model, X = pca
    with pytest.raises(ValueError, match="metadata has 3 rows in 'label', but there are 100 vectors"):
        export_projector(model, X, tmp_path, metadata=[1, 2, 3])
    with pytest.raises(ValueError, match="at least two numbers.*more components"):
        export_projector(PCA(1).fit(X), X, tmp_path)
    with pytest.raises(ValueError, match="one or two dimensions"):
        export_projector(model, X, tmp_path, metadata=np.zeros((100, 2, 2)))
    with pytest.raises(ValueError, match="no columns"):
        export_projector(model, X, tmp_path, metadata={})
    assert list(tmp_path.iterdir()) == []
