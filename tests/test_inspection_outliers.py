"""The histogram of anomaly scores is of the detector's scores, and its shares are those that it flags."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.inspection import OutlierScoresDisplay


@pytest.fixture(scope="module")
def detector(iris):
    X, y = iris
    flat = AutoencoderTransformer(2, max_iter=3, early_stopping=False)
    return AutoencoderOutlierDetector(flat, novelty=True, n_estimators=2, random_state=0).fit(X[y == 0])


def shares(display, key=None):
    """The heights of the bars of a class, which `histtype="bar"` keeps one by one."""
    return np.array([bar.get_height() for bar in display.bars_[key]])


def test_without_matplotlib_the_error_says_what_to_install(detector, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    for call, run in {
        "from_estimator": lambda: OutlierScoresDisplay.from_estimator(detector),
        "plot": lambda: OutlierScoresDisplay([1.0, 2.0]).plot(),
    }.items():
        with pytest.raises(ImportError, match=rf"OutlierScoresDisplay.{call} needs matplotlib.*skae\[plot\]"):
            run()


def test_bars_are_shares_of_the_scores(detector, iris):
    bar = {"histtype": "bar"}
    display = OutlierScoresDisplay.from_estimator(detector, iris[0], bins=7, hist_kwargs=bar)
    scores = detector.score_samples(iris[0])
    assert_array_equal(display.scores, scores)
    assert_allclose(shares(display), np.histogram(scores, 7)[0] / len(scores))


def test_classes_have_one_scale_and_shares_of_their_own(detector, iris):
    X, y = iris
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    display = OutlierScoresDisplay.from_estimator(detector, X, names, bins=9, hist_kwargs={"histtype": "bar"})
    assert list(display.bars_) == ["setosa", "versicolor", "virginica"]
    scores = detector.score_samples(X)
    edges = np.histogram_bin_edges(scores, 9)
    for name in display.bars_:
        assert_allclose(shares(display, name), np.histogram(scores[names == name], edges)[0] / 50)
    colours = {display.bars_[name][0].get_facecolor() for name in display.bars_}
    assert len(colours) == 3


def test_the_legend_says_what_predict_flags(detector, iris):
    X, y = iris
    display = OutlierScoresDisplay.from_estimator(detector, X, y)
    assert_array_equal(display.threshold_line_.get_xdata(), [detector.offset_] * 2)
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    flagged = detector.predict(X) == -1
    assert texts[:-1] == [f"{each}: {flagged[y == each].mean():.1%} flagged" for each in range(3)]
    assert texts[-1] == "threshold"


def test_without_rows_it_draws_the_held_out_ones(detector):
    display = OutlierScoresDisplay.from_estimator(detector)
    assert_array_equal(display.scores, detector.calibration_scores_)
    assert display.ax_.get_title() == "AutoencoderOutlierDetector"


def test_detectors_of_scikit_learn_and_pipelines_are_drawn(iris):
    X = iris[0]
    pipeline = make_pipeline(StandardScaler(), OneClassSVM(nu=0.2)).fit(X)
    display = OutlierScoresDisplay.from_estimator(pipeline, X)
    assert display.ax_.get_title() == "OneClassSVM"
    flagged = np.mean(pipeline.predict(X) == -1)
    assert display.ax_.get_legend().get_texts()[0].get_text() == f"rows: {flagged:.1%} flagged"


def test_without_a_threshold_there_is_no_line(iris):
    display = OutlierScoresDisplay.from_estimator(GaussianMixture(3, random_state=0).fit(iris[0]), iris[0])
    assert display.threshold_line_ is None
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["rows"]


def test_it_goes_where_it_is_told_and_changes_nothing(detector, iris, nothing_global_changed):
    _, ax = plt.subplots()
    display = OutlierScoresDisplay.from_estimator(
        detector, iris[0], name="mine", ax=ax, hist_kwargs={"color": "C3", "alpha": 1}
    )
    assert display.ax_ is ax and display.figure_ is ax.figure
    assert ax.get_title() == "mine"
    assert display.bars_[None][0].get_facecolor() == plt.matplotlib.colors.to_rgba("C3")
    again = display.plot(name="yours")
    assert again.ax_ is not ax and again.ax_.get_title() == "yours"


def test_what_cannot_be_drawn_is_refused(detector, iris):
    X, y = iris
    with pytest.raises(NotFittedError):
        OutlierScoresDisplay.from_estimator(AutoencoderOutlierDetector(), X)
    with pytest.raises(ValueError, match="OneClassSVM keeps no scores of held-out rows.*give rows"):
        OutlierScoresDisplay.from_estimator(OneClassSVM().fit(X))
    with pytest.raises(ValueError, match="StandardScaler has no score_samples"):
        OutlierScoresDisplay.from_estimator(StandardScaler().fit(X), X)
    with pytest.raises(ValueError, match="X is None; give both"):
        OutlierScoresDisplay.from_estimator(detector, y=y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        OutlierScoresDisplay.from_estimator(detector, X, y[:10])
    with pytest.raises(ValueError, match="y has 10 classes for 150 scores"):
        OutlierScoresDisplay(np.zeros(150), y=y[:10]).plot()
    with pytest.raises(ValueError, match="y has 150 different values; 20 classes"):
        OutlierScoresDisplay.from_estimator(detector, X, np.arange(150))
