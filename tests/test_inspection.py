"""What the displays draw is what the models computed."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import VAE, AutoencoderTransformer, EarlyStopping
from skae.inspection import LatentSpaceDisplay, LossCurveDisplay, ReconstructionDisplay

DISPLAYS = [LossCurveDisplay, ReconstructionDisplay, LatentSpaceDisplay]
SHORT = {"max_iter": 4, "early_stopping": False, "random_state": 0}


@pytest.fixture(scope="module")
def autoencoder(digits):
    return AutoencoderTransformer(5, **SHORT).fit(digits)


@pytest.fixture(scope="module")
def vae(digits):
    return VAE(3, max_iter=4, early_stopping=EarlyStopping(n_folds=0), random_state=0).fit(digits)


def pixels(display, name):
    return np.array([np.ma.filled(image.get_array(), np.nan) for image in display.images_[name]])


# All displays ------------------------------------------------------------------------------------


@pytest.mark.parametrize("display", DISPLAYS)
def test_without_matplotlib_the_error_says_what_to_install(display, autoencoder, digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    arguments = () if display is LossCurveDisplay else (digits,)
    with pytest.raises(ImportError, match=rf"{display.__name__}.from_estimator needs matplotlib.*skae\[plot\]"):
        display.from_estimator(autoencoder, *arguments)
    with pytest.raises(ImportError, match=rf"{display.__name__}.plot needs matplotlib.*skae\[plot\]"):
        display({}).plot()


@pytest.mark.parametrize("display", DISPLAYS)
def test_estimators_must_be_fitted(display, digits):
    arguments = () if display is LossCurveDisplay else (digits,)
    with pytest.raises(NotFittedError):
        display.from_estimator(VAE(), *arguments)


def test_displays_change_nothing_global(autoencoder, digits, nothing_global_changed):
    LossCurveDisplay.from_estimator(autoencoder)
    ReconstructionDisplay.from_estimator(autoencoder, digits)
    LatentSpaceDisplay.from_estimator(autoencoder, digits)


# LossCurveDisplay --------------------------------------------------------------------------------


def test_the_loss_curve_is_the_estimators(vae):
    display = LossCurveDisplay.from_estimator(vae)
    assert_array_equal(display.loss_line_.get_xdata(), np.arange(1, vae.n_iter_ + 1))
    assert_array_equal(display.loss_line_.get_ydata(), vae.loss_curve_)
    assert display.ax_.get_title() == "VAE"
    assert display.figure_ is display.ax_.figure


def test_the_terms_add_up_to_the_loss(vae):
    display = LossCurveDisplay.from_estimator(vae)
    assert set(display.term_lines_) == set(vae.loss_terms_) == {"negative_log_likelihood", "kl_divergence"}
    total = sum(line.get_ydata() for line in display.term_lines_.values())
    assert_allclose(total, display.loss_line_.get_ydata())


def test_the_held_out_loss_begins_at_the_start(vae):
    line = LossCurveDisplay.from_estimator(vae).validation_line_
    assert_array_equal(line.get_ydata(), vae.validation_loss_curve_)
    assert line.get_xdata()[0] == 0


def test_evaluations_spread_to_the_last_epoch_unless_told():
    curves = {"loss_curve": [3.0, 2.0, 1.0, 0.5], "validation_loss_curve": [4.0, 3.0, 2.0]}
    assert_array_equal(LossCurveDisplay(**curves).plot().validation_line_.get_xdata(), [0, 2, 4])
    told = LossCurveDisplay(**curves, validation_epochs=[0, 3, 4]).plot()
    assert_array_equal(told.validation_line_.get_xdata(), [0, 3, 4])


def test_a_term_that_is_the_loss_is_drawn_once(autoencoder):
    autoencoder.loss_terms_ = {"negative_log_likelihood": autoencoder.loss_curve_}
    display = LossCurveDisplay.from_estimator(autoencoder)
    assert display.term_lines_ == {}
    assert display.validation_line_ is None
    assert len(display.ax_.lines) == 1


def test_the_loss_curve_goes_where_it_is_told(autoencoder):
    _, ax = plt.subplots()
    display = LossCurveDisplay.from_estimator(autoencoder, ax=ax, name="mine", line_kwargs={"linewidth": 3})
    assert display.ax_ is ax
    assert ax.get_title() == "mine"
    assert display.loss_line_.get_linewidth() == 3
    assert display.plot(name="yours").ax_.get_title() == "yours"


# ReconstructionDisplay ---------------------------------------------------------------------------


def test_lines_are_originals_pca_and_models(autoencoder, vae, digits):
    train, held_out = digits[:300], digits[300:]
    display = ReconstructionDisplay.from_estimator([autoencoder, vae], held_out, X_train=train, n_images=4)
    assert list(display.images_) == ["Original", "PCA, 3", "PCA, 5", "AutoencoderTransformer", "VAE"]
    shown = held_out[:4]
    assert_array_equal(pixels(display, "Original"), shown.reshape(4, 8, 8))
    assert_allclose(pixels(display, "AutoencoderTransformer").reshape(4, 64), autoencoder.reconstruct(shown))
    assert_allclose(pixels(display, "VAE").reshape(4, 64), vae.reconstruct(shown))
    for size in (3, 5):
        pca = PCA(size).fit(train)
        expected = pca.inverse_transform(pca.transform(shown))
        assert_allclose(pixels(display, f"PCA, {size}").reshape(4, 64), expected, atol=1e-8)


def test_all_lines_share_the_range_of_the_originals(autoencoder, digits):
    display = ReconstructionDisplay.from_estimator(autoencoder, digits)
    limits = {image.get_clim() for images in display.images_.values() for image in images}
    assert limits == {(digits[:10].min(), digits[:10].max())}


def test_images_are_disjoint_and_inside_the_axes(autoencoder, digits):
    display = ReconstructionDisplay.from_estimator(autoencoder, digits, n_images=3)
    low, high = display.ax_.get_xlim()
    for images in display.images_.values():
        sides = [image.get_extent()[:2] for image in images]
        assert low <= sides[0][0] and sides[-1][1] <= high + 1e-9
        assert all(left[1] < right[0] for left, right in zip(sides, sides[1:], strict=False))


def test_rows_are_picked_by_index(autoencoder, digits):
    display = ReconstructionDisplay.from_estimator(autoencoder, digits, indices=[7, 2], pca=False)
    assert list(display.images_) == ["Original", "AutoencoderTransformer"]
    assert_array_equal(pixels(display, "Original"), digits[[7, 2]].reshape(2, 8, 8))


def test_gaps_stay_gaps_in_the_originals_and_are_filled_below(autoencoder, digits, rng):
    gappy = np.where(rng.random(digits.shape) < 0.2, np.nan, digits)
    display = ReconstructionDisplay.from_estimator(autoencoder, gappy, n_images=5)
    assert_array_equal(pixels(display, "Original").reshape(5, 64), gappy[:5])
    imputer = SimpleImputer().fit(gappy)
    pca = PCA(5).fit(imputer.transform(gappy))
    expected = pca.inverse_transform(pca.transform(imputer.transform(gappy[:5])))
    assert_allclose(pixels(display, "PCA").reshape(5, 64), expected, atol=1e-8)
    assert np.isfinite(pixels(display, "AutoencoderTransformer")).all()


def test_any_pair_of_transforms_will_do(digits):
    pipeline = make_pipeline(StandardScaler(), PCA(4)).fit(digits)
    display = ReconstructionDisplay.from_estimator([pipeline, PCA(4).fit(digits)], digits, names=["scaled", "plain"])
    assert_allclose(pixels(display, "plain"), pixels(display, "PCA"), atol=1e-8)
    expected = pipeline.inverse_transform(pipeline.transform(digits[:10]))
    assert_allclose(pixels(display, "scaled").reshape(10, 64), expected)


@pytest.mark.parametrize("container", [csr_array, pd.DataFrame], ids=lambda c: c.__name__)
def test_other_containers_give_the_same_picture(digits, container):
    X = container(digits)
    if container is pd.DataFrame:
        X.columns = [f"pixel {i}" for i in range(64)]
    model = AutoencoderTransformer(5, **SHORT).fit(X)
    display = ReconstructionDisplay.from_estimator(model, X)
    assert_array_equal(pixels(display, "Original").reshape(-1, 64), digits[:10])


def test_pca_has_at_most_as_many_components_as_there_are_features(iris):
    X, _ = iris
    wide = AutoencoderTransformer(6, **SHORT).fit(X)
    display = ReconstructionDisplay.from_estimator(wide, X)
    assert_allclose(pixels(display, "PCA").reshape(-1, 4), X[:10], atol=1e-8)


def test_colours_are_clipped_to_their_range(rng):
    rows = rng.normal(size=(3, 2 * 5 * 3))
    display = ReconstructionDisplay({"noise": rows}, image_shape=(2, 5, 3)).plot()
    assert_array_equal(pixels(display, "noise"), rows.reshape(3, 2, 5, 3).clip(0, 1))


def test_rows_that_are_no_squares_need_a_shape(rng):
    rows = rng.normal(size=(3, 10))
    with pytest.raises(ValueError, match=r"10 features.*\(3, 3\).*image_shape="):
        ReconstructionDisplay({"noise": rows}).plot()
    display = ReconstructionDisplay({"noise": rows}, image_shape=(2, 5)).plot()
    assert_array_equal(pixels(display, "noise"), rows.reshape(3, 2, 5))


# LatentSpaceDisplay ------------------------------------------------------------------------------


def test_points_are_the_codes_and_pcas(iris):
    X, y = iris
    model = AutoencoderTransformer(2, **SHORT).fit(X)
    display = LatentSpaceDisplay.from_estimator(model, X, y)
    expected = {"PCA": PCA(2).fit_transform(X), "AutoencoderTransformer": model.transform(X)}
    assert list(display.scatters_) == list(expected)
    for name, code in expected.items():
        assert len(display.scatters_[name]) == 3
        for label, points in enumerate(display.scatters_[name]):
            assert_allclose(np.asarray(points.get_offsets()), code[y == label], atol=1e-8)
    assert [ax.get_title() for ax in display.axes_] == list(expected)
    assert [text.get_text() for text in display.axes_[-1].get_legend().get_texts()] == ["0", "1", "2"]


def test_each_class_has_the_same_colour_in_all_panels(iris):
    X, y = iris
    display = LatentSpaceDisplay.from_estimator(PCA(2).fit(X), X, y, names="again")
    colours = [[tuple(points.get_facecolor()[0]) for points in panel] for panel in display.scatters_.values()]
    assert colours[0] == colours[1]
    assert len(set(colours[0])) == 3


@pytest.mark.parametrize("kind", ["float", "many integers"])
def test_a_quantity_has_a_colour_bar(iris, kind):
    X, y = iris
    quantity = y.astype(float) if kind == "float" else np.arange(len(X))
    display = LatentSpaceDisplay.from_estimator(PCA(2).fit(X), X, quantity, pca=False)
    (points,) = display.scatters_["PCA"]
    assert_array_equal(points.get_array(), quantity)
    assert len(display.figure_.axes) == 2


def test_without_y_there_is_one_colour_and_no_key(iris):
    X, _ = iris
    display = LatentSpaceDisplay.from_estimator(PCA(2).fit(X), X, names="again")
    assert all(len(panel) == 1 for panel in display.scatters_.values())
    assert display.axes_[-1].get_legend() is None


def test_components_are_picked(autoencoder, digits):
    display = LatentSpaceDisplay.from_estimator(autoencoder, digits, components=(3, 1))
    code = {
        "PCA": PCA(4, random_state=0).fit_transform(digits),
        "AutoencoderTransformer": autoencoder.transform(digits),
    }
    for name, panel in display.scatters_.items():
        assert_allclose(np.asarray(panel[0].get_offsets()), code[name][:, [3, 1]], atol=1e-6)


def test_codes_of_one_component_are_named_in_the_error(iris):
    X, _ = iris
    with pytest.raises(ValueError, match="PCA has 1 components"):
        LatentSpaceDisplay.from_estimator(PCA(1).fit(X), X, pca=False)


def test_panels_go_where_they_are_told(iris):
    X, y = iris
    _, axes = plt.subplots(1, 2)
    display = LatentSpaceDisplay.from_estimator(PCA(2).fit(X), X, y, names="again", ax=axes)
    assert list(display.axes_) == list(axes)
    with pytest.raises(ValueError, match="1 axes, but there are 2 panels"):
        display.plot(ax=axes[0])


def test_names_are_made_different_or_refused(iris):
    X, _ = iris
    models = [PCA(2).fit(X), PCA(3).fit(X)]
    assert list(LatentSpaceDisplay.from_estimator(models, X, pca=False).codes) == ["PCA 1", "PCA 2"]
    with pytest.raises(ValueError, match="names="):
        LatentSpaceDisplay.from_estimator(models, X, names=["a", "a"])
    with pytest.raises(ValueError, match="'PCA' is the display's own"):
        LatentSpaceDisplay.from_estimator(models[0], X)
