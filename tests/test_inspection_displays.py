"""What the displays of spectra, filters, traversals and manifolds draw is what the functions computed."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from registry import SMOOTH, real
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import VAE, AutoencoderTransformer, ConvAE, ConvNetwork, DenoisingAE, DenseNetwork
from skae.inspection import (
    FiltersDisplay,
    JacobianSpectrumDisplay,
    LatentTraversalDisplay,
    ManifoldDisplay,
    ReconstructionDisplay,
    decode_grid,
    tangents,
)
from skae.inspection._images import as_images

SHORT = {"max_iter": 3, "early_stopping": False, "random_state": 0}
WITH_ROWS = [JacobianSpectrumDisplay, LatentTraversalDisplay, ManifoldDisplay]
DISPLAYS = [*WITH_ROWS, FiltersDisplay]


@pytest.fixture(scope="module")
def autoencoder(digits):
    return AutoencoderTransformer(4, **SHORT).fit(digits)


@pytest.fixture(scope="module")
def vae(digits):
    return VAE(2, **SHORT).fit(digits)


@pytest.fixture(scope="module")
def conv():
    """A fit to 30 colour images of 6 x 5 pixels, channels first, and the images."""
    images = np.random.default_rng(0).random((30, 3, 6, 5))
    return ConvAE(2, channels=(4,), **SHORT).fit(images), images


def rows_of(display, digits):
    return (digits,) if display in WITH_ROWS else ()


def box(image):
    left, right, low, high = image.get_extent()
    return left, right, min(low, high), max(low, high)


def overlap(one, other):
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]


def labels_fit(figure):
    """Whether all texts of a figure lie inside of it, and none on another."""
    figure.canvas.draw()
    texts = [
        text.get_window_extent()
        for ax in figure.axes
        for text in [
            ax.title,
            ax.xaxis.label,
            ax.yaxis.label,
            *(
                tick.label1
                for axis in (ax.xaxis, ax.yaxis)
                for tick in axis.get_major_ticks()
                if min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
            ),
        ]
        if text.get_text() and text.get_visible()
    ]
    whole = figure.bbox
    inside = all(whole.x0 <= t.x0 and t.x1 <= whole.x1 and whole.y0 <= t.y0 and t.y1 <= whole.y1 for t in texts)
    return inside and not any(one.overlaps(other) for i, one in enumerate(texts) for other in texts[:i])


# All displays ------------------------------------------------------------------------------------


@pytest.mark.parametrize("display", DISPLAYS)
def test_without_matplotlib_the_error_says_what_to_install(display, autoencoder, digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=rf"{display.__name__}.from_estimator needs matplotlib.*skae\[plot\]"):
        display.from_estimator(autoencoder, *rows_of(display, digits))
    stored = {LatentTraversalDisplay: ({}, None), ManifoldDisplay: ([], [])}.get(display, ({},))
    made = display({}, components=[0]) if display is LatentTraversalDisplay else display(*stored)
    with pytest.raises(ImportError, match=rf"{display.__name__}.plot needs matplotlib.*skae\[plot\]"):
        made.plot()


@pytest.mark.parametrize("display", DISPLAYS)
def test_estimators_must_be_fitted(display, digits):
    with pytest.raises(NotFittedError):
        display.from_estimator(VAE(), *rows_of(display, digits))


@pytest.mark.parametrize("display", DISPLAYS)
def test_they_go_where_they_are_told_and_change_nothing(display, autoencoder, digits, nothing_global_changed):
    _, ax = plt.subplots()
    made = display.from_estimator(autoencoder, *rows_of(display, digits), ax=ax)
    assert made.ax_ is ax and made.figure_ is ax.figure
    assert made.plot().ax_ is not ax


@pytest.mark.parametrize("display", [*DISPLAYS, ReconstructionDisplay])
def test_labels_have_room(display, autoencoder, digits):
    rows = (digits,) if display is ReconstructionDisplay else rows_of(display, digits)
    assert labels_fit(display.from_estimator(autoencoder, *rows).figure_)


def test_labels_have_room_in_small_pictures(autoencoder, rng):
    signals = rng.random((30, 24))
    strips = ConvAE(2, image_shape=(24,), channels=(4,), **SHORT).fit(signals)
    for display in (
        LatentTraversalDisplay.from_estimator(autoencoder, components=[3], bounds=(-1, 1)),
        LatentTraversalDisplay.from_estimator(strips, signals),
        FiltersDisplay.from_estimator(strips, of="decoder"),
        FiltersDisplay.from_estimator(autoencoder, n_filters=1),
        ManifoldDisplay.from_estimator(strips, signals, n=6),
        ManifoldDisplay.from_estimator(strips, signals, n=(2, 20)),
        ReconstructionDisplay.from_estimator(strips, signals, n_images=1),
    ):
        assert labels_fit(display.figure_), display


@pytest.mark.parametrize("name", SMOOTH)
def test_every_estimator_is_drawn(name):
    X = real(60, 6)
    estimator = SMOOTH[name].fit(X)
    JacobianSpectrumDisplay.from_estimator(estimator, X)
    LatentTraversalDisplay.from_estimator(estimator, X, image_shape=(2, 3))
    ManifoldDisplay.from_estimator(estimator, X, n=3, image_shape=(2, 3))
    display = FiltersDisplay.from_estimator(estimator, of="decoder", image_shape=(2, 3))
    assert np.shape(display.filters) == (2, 6)


# JacobianSpectrumDisplay -------------------------------------------------------------------------


def test_curves_are_mean_singular_values(autoencoder, vae, digits):
    display = JacobianSpectrumDisplay.from_estimator([autoencoder, vae], digits, names=["flat", "random"])
    assert list(display.lines_) == list(display.bands_) == ["flat", "random"]
    for name, model in (("flat", autoencoder), ("random", vae)):
        values = tangents(model, digits)[0]
        assert_array_equal(display.lines_[name].get_xdata(), np.arange(1, values.shape[1] + 1))
        assert_allclose(display.lines_[name].get_ydata(), values.mean(0))
        edges = display.bands_[name].get_paths()[0].get_extents()
        low, high = np.quantile(values, [0.05, 0.95], axis=0)
        assert_allclose([edges.y0, edges.y1], [low.min(), high.max()])
    assert display.ax_.get_yscale() == "log"


def test_zeros_are_left_out_and_bands_by_choice():
    display = JacobianSpectrumDisplay({"flat": [[2.0, 1.0, 0.0], [4.0, 1.0, 0.0]]}).plot(band=False)
    assert_array_equal(display.lines_["flat"].get_ydata(), [3.0, 1.0, np.nan])
    assert display.bands_ == {}


# FiltersDisplay ----------------------------------------------------------------------------------


def test_encoder_filters_are_the_first_layers_weights(digits):
    ae = AutoencoderTransformer(3, hidden_layer_sizes=(7, 5), init="random", **SHORT).fit(digits)
    display = FiltersDisplay.from_estimator(ae)
    weight = ae.model_.encoder.layers[0].weight.detach().numpy()
    order = np.argsort(-np.linalg.norm(weight, axis=1))
    assert_allclose(display.filters, weight[order])
    for image, filter in zip(display.images_, display.filters, strict=True):
        assert_allclose(image.get_array().ravel(), filter)


def test_beside_a_linear_path_they_are_of_the_same_rows(autoencoder):
    display = FiltersDisplay.from_estimator(autoencoder, n_filters=5)
    encoder = autoencoder.model_.encoder
    weight = (encoder.network.layers[0].weight * encoder.in_scale).detach().numpy()
    lengths = np.sort(np.linalg.norm(weight, axis=1))[::-1]
    assert_allclose(np.linalg.norm(display.filters, axis=1), lengths[:5], rtol=1e-5)


@pytest.mark.parametrize("model", [AutoencoderTransformer, VAE])
def test_without_hidden_layers_they_are_principal_axes(model, digits):
    """The means' alone, where the encoder says a variance too."""
    fitted = model(3, hidden_layer_sizes=(), **{**SHORT, "max_iter": 1}).fit(digits)
    filters = FiltersDisplay.from_estimator(fitted).filters
    assert filters.shape == (3, 64)
    axes = PCA(3).fit(digits).components_
    cosines = np.linalg.norm(axes @ (filters / np.linalg.norm(filters, axis=1, keepdims=True)).T, axis=0)
    assert_allclose(cosines, 1, atol=0.05)


def test_what_the_encoder_is_told_of_a_corruption_is_no_pixel(digits):
    dae = DenoisingAE(3, corruption="masking", conditioning="mask", hidden_layer_sizes=(7,), **SHORT).fit(digits)
    assert FiltersDisplay.from_estimator(dae).filters.shape == (7, 64)


def test_a_tied_linear_network_has_filters(digits):
    ae = AutoencoderTransformer(3, network=DenseNetwork((), tied=True), **SHORT).fit(digits)
    filters = FiltersDisplay.from_estimator(ae).filters
    atoms = FiltersDisplay.from_estimator(ae, of="decoder").filters
    assert_allclose(np.abs(filters @ atoms.T), np.eye(3), atol=1e-4)


def test_atoms_of_a_linear_decoder_are_its_columns(digits):
    pca = PCA(5).fit(digits)
    display = FiltersDisplay.from_estimator(pca, of="decoder", n_filters=4)
    assert_allclose(display.filters, pca.components_[:4], atol=1e-10)
    assert display.ax_.get_title() == "PCA, decoder"


def test_zero_is_in_the_middle_of_each_filters_colours(rng):
    filters = rng.normal(size=(5, 16)) * 10.0 ** np.arange(5)[:, None]
    filters[3] = 0
    for image, filter in zip(FiltersDisplay(filters).plot().images_, filters, strict=True):
        low, high = image.get_clim()
        assert low == -high
        assert high == (np.abs(filter).max() or 1)
    same = FiltersDisplay(filters).plot(imshow_kwargs={"vmin": -2, "vmax": 2}).images_
    assert {image.get_clim() for image in same} == {(-2, 2)}


def test_colour_filters_lie_around_grey(conv):
    display = FiltersDisplay.from_estimator(conv[0], of="decoder")
    for image, filter in zip(display.images_, display.filters, strict=True):
        expected = 0.5 + np.moveaxis(filter.reshape(3, 6, 5), 0, -1) / (2 * np.abs(filter).max())
        assert_allclose(image.get_array(), expected)


def test_filters_do_not_overlap(rng):
    boxes = [box(image) for image in FiltersDisplay(rng.normal(size=(7, 24)), image_shape=(4, 6)).plot().images_]
    assert not any(overlap(one, other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_what_has_no_first_layer_is_refused(conv, digits):
    with pytest.raises(ValueError, match="encoder of ConvAE has no dense first layer.*of='decoder'"):
        FiltersDisplay.from_estimator(ConvAE(2, init="random", channels=(4,), **SHORT).fit(digits))
    with pytest.raises(ValueError, match="encoder of ConvAE has no dense first layer"):
        FiltersDisplay.from_estimator(conv[0])
    with pytest.raises(ValueError, match="encoder of PCA has no dense first layer"):
        FiltersDisplay.from_estimator(PCA(2).fit(digits))


# LatentTraversalDisplay --------------------------------------------------------------------------


def test_a_line_changes_one_component_of_the_base(autoencoder, digits):
    base = autoencoder.transform(digits[:1])[0]
    display = LatentTraversalDisplay.from_estimator(autoencoder, digits, components=(2, 1), n_steps=5, base=base)
    assert list(display.images_) == [2, 1]
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["2", "1"]
    for line, component in enumerate((2, 1)):
        for value, image in zip(display.values[line], display.images_[component], strict=True):
            code = base.copy()
            code[component] = value
            assert_allclose(image.get_array(), autoencoder.inverse_transform([code]).reshape(8, 8), atol=1e-8)
    limits = {image.get_clim() for images in display.images_.values() for image in images}
    assert limits == {(display.rows.min(), display.rows.max())}


def test_a_traversal_shows_ten_components_at_most(digits):
    wide = PCA(12).fit(digits)
    assert list(LatentTraversalDisplay.from_estimator(wide, digits).images_) == list(range(10))


def test_the_prior_needs_no_rows(vae, autoencoder):
    assert LatentTraversalDisplay.from_estimator(vae).rows.shape == (2, 9, 64)
    with pytest.raises(ValueError, match="AutoencoderTransformer have no normal prior"):
        LatentTraversalDisplay.from_estimator(autoencoder)


def test_pipelines_are_drawn(digits):
    pipeline = make_pipeline(StandardScaler(), PCA(3)).fit(digits)
    assert LatentTraversalDisplay.from_estimator(pipeline, digits).rows.shape == (3, 9, 64)


# ManifoldDisplay ---------------------------------------------------------------------------------


def test_the_picture_is_the_grid_with_the_smallest_values_at_the_lower_left(vae):
    display = ManifoldDisplay.from_estimator(vae, n=(3, 4))
    rows, values = decode_grid(vae, (3, 4))
    picture = display.image_.get_array()
    assert picture.shape == (24, 32)
    for up in range(3):
        for across in range(4):
            tile = picture[8 * (2 - up) : 8 * (3 - up), 8 * across : 8 * (across + 1)]
            assert_allclose(tile, rows[up, across].reshape(8, 8))
    left, right, low, high = display.image_.get_extent()
    assert (left, right, low, high) == (-0.5, 3.5, -0.5, 2.5)
    assert [float(label.get_text()) for label in display.ax_.get_xticklabels()] == pytest.approx(values[0], abs=0.05)


def test_pixels_are_square(rng):
    display = ManifoldDisplay(rng.random((3, 4, 12)), [range(4), range(3)], image_shape=(2, 6)).plot()
    display.figure_.canvas.draw()
    box = display.ax_.get_window_extent()
    assert box.width / box.height == pytest.approx(4 * 6 / (3 * 2), rel=0.01)


@pytest.mark.parametrize("values, expected", [((-1e-16, 1.5), "0.0"), ((1000.0, 1010.0), "1000"), ((3.0, 3.0), "3.0")])
def test_ticks_have_the_digits_that_tell_them_apart(values, expected, rng):
    display = ManifoldDisplay(rng.random((2, 2, 4)), [values, values]).plot()
    assert display.ax_.get_xticklabels()[0].get_text() == expected


# Images ------------------------------------------------------------------------------------------


def test_colour_images_may_have_their_channels_first_or_last(rng):
    images = rng.random((2, 4, 5, 3))
    assert_array_equal(as_images(images, (4, 5, 3)), images)
    assert_array_equal(as_images(np.moveaxis(images, -1, 1), (3, 4, 5)), images)
    grey = rng.random((2, 20))
    for shape in ((4, 5), (1, 4, 5), (4, 5, 1)):
        assert_array_equal(as_images(grey, shape), grey.reshape(2, 4, 5))
    assert_array_equal(as_images(grey, (20,)), np.repeat(grey[:, None], 5, axis=1))
    with pytest.raises(ValueError, match=r"image_shape=\(2, 5, 2\) must have .* one channel or three"):
        as_images(grey, (2, 5, 2))


def test_estimators_that_know_their_images_are_not_asked(conv):
    model, images = conv
    display = ReconstructionDisplay.from_estimator(model, images, pca=False, n_images=2)
    shown = [image.get_array() for image in display.images_["Original"]]
    assert_array_equal(shown, np.moveaxis(images[:2], 1, -1))
    for made in (LatentTraversalDisplay, ManifoldDisplay):
        assert made.from_estimator(model, images).image_shape == (3, 6, 5)
    vae = VAE(2, network=ConvNetwork((4, 15), channels=(4,)), **SHORT).fit(images.reshape(30, -1)[:, :60])
    assert LatentTraversalDisplay.from_estimator(vae).image_shape == (4, 15)


def test_an_encoder_that_hears_nothing_has_an_empty_curve():
    display = JacobianSpectrumDisplay({"deaf": np.zeros((3, 2))}).plot()
    display.figure_.canvas.draw()
    assert np.isnan(display.lines_["deaf"].get_ydata()).all()
