"""The detector on tables with categories."""

import pickle

import numpy as np
import pytest
from registry import real
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from skae import GAN, AutoencoderOutlierDetector, AutoencoderTransformer, DenoisingAE, GaussianNoise, TableEncoder
from skae.anomaly import NegativeLogLikelihood, NeighborDistance, ReconstructionError
from skae.anomaly._columns import GEOMETRIES, ByEntry, StandardColumns
from skae.anomaly._member import entry_of

pandas = pytest.importorskip("pandas")
LEVEL = {"Cork": 0.0, "Oslo": 3.0, "Rome": 6.0}
OTHER = {"Cork": "Oslo", "Oslo": "Rome", "Rome": "Cork"}
DENOISER = DenoisingAE(
    4,
    hidden_layer_sizes=(16,),
    init="random",
    corruption=GaussianNoise((0.05, 2.0)),
    conditioning="noise_level",
    max_iter=20,
    early_stopping=False,
)


def table(n, seed):
    """Rows in which a port goes with a depth."""
    rng = np.random.default_rng(seed)
    port = rng.choice(list(LEVEL), n, p=[0.4, 0.35, 0.25])
    made = pandas.DataFrame(
        {
            "depth": np.array([LEVEL[name] for name in port]) + 0.5 * rng.standard_normal(n),
            "port": port,
            "price": 100 * rng.standard_normal(n),
            "open": rng.random(n) < 0.4,
            "day": pandas.Categorical(rng.choice(list("abcdefg"), n)),
            "visits": rng.poisson(4, n),
        }
    )
    return made.set_index(np.arange(n) + 1000)


TABLE, NEW = table(600, 0), table(100, 1)
WRONG = table(100, 2).assign(port=lambda rows: rows["port"].map(OTHER))


@pytest.fixture(scope="module", params=[True, False], ids=["novelty", "polluted"])
def default(request):
    """The default detector, fitted to rows without faults."""
    return AutoencoderOutlierDetector(novelty=request.param, random_state=0).fit(TABLE)


@pytest.fixture(scope="module")
def small():
    return AutoencoderOutlierDetector(DENOISER, novelty=True, random_state=0).fit(TABLE)


def test_a_rare_combination_of_a_category_and_a_number_is_found_and_named(default):
    """Neither the port nor the depth is remarkable by itself."""
    scores = np.concatenate([default.score_samples(NEW), default.score_samples(WRONG)])
    assert roc_auc_score(np.repeat([1, 0], 100), scores) > (0.98 if default.novelty else 0.9)
    named = default.explain(WRONG[:40])["share"].abs().idxmax(axis=1)
    assert named.isin(["port", "depth"]).mean() >= (0.95 if default.novelty else 0.8)
    single = np.abs(WRONG["depth"] - TABLE["depth"].mean()) / TABLE["depth"].std()
    assert single.max() < 2.5 and set(WRONG["port"]) == set(TABLE["port"])


def test_a_category_that_was_not_there_is_found_and_named(default):
    paris = NEW.assign(port="Paris")
    assert (default.score_samples(paris) < default.score_samples(NEW)).mean() > 0.75
    if default.novelty:
        shown = default.explain(paris[:30])
        assert (shown["share"].abs().idxmax(axis=1) == "port").mean() > 0.9
        assert (shown["seen"]["port"] == "Paris").all()
        # What the depth says.
        likely = pandas.cut(NEW["depth"][:30], [-9, 1.5, 4.5, 15], labels=list(LEVEL)).astype(str)
        assert (shown["expected"]["port"] == likely).mean() > 0.8


def test_reasons_are_of_the_tables_columns(small):
    rows = WRONG[:10]
    shown = small.explain(rows)
    names = TABLE.columns.tolist()
    assert shown.columns.tolist() == [(b, n) for b in ("share", "seen", "expected", "score_without") for n in names]
    assert shown.index.equals(rows.index)
    pandas.testing.assert_frame_equal(shown["seen"], rows)
    pandas.testing.assert_frame_equal(shown["expected"][:0], TABLE[:0])
    without, scores = shown["score_without"], small.score_samples(rows)
    for name in names:
        replaced = rows.assign(**{name: shown["expected"][name]})
        np.testing.assert_allclose(without[name], small.score_samples(replaced), rtol=1e-9)
    gain = np.maximum(without.to_numpy() - scores[:, None], 0)
    np.testing.assert_allclose(shown["share"].abs(), gain / gain.sum(axis=1, keepdims=True), atol=1e-9)
    assert (shown["share"][["port", "day"]] >= 0).all(axis=None)
    one = small.explain(rows, max_columns=1)
    assert (one["score_without"].notna().sum(axis=1) == 1).all()
    assert (one["expected"].notna() == one["score_without"].notna()).all(axis=None)


def test_gaps_are_no_reason(small):
    shown = small.explain(WRONG[:5].assign(port=None))
    assert (shown["share"]["port"] == 0).all() and shown["seen"]["port"].isna().all()
    assert np.isfinite(shown["share"]).all(axis=None)


def test_without_a_reconstruction_the_most_frequent_category_is_expected():
    detector = AutoencoderOutlierDetector(GAN(2, max_iter=2), n_estimators=2, random_state=0).fit(TABLE)
    expected = detector.explain(NEW[:4])["expected"]
    assert (expected["port"] == TABLE["port"].mode()[0]).all() and (
        expected["visits"] == TABLE["visits"].median()
    ).all()


@pytest.mark.parametrize(
    "frame",
    [TABLE[["depth", "price", "visits"]], TABLE[["depth", "open"]], TABLE[["depth", "price"]].astype(object)],
    ids=["numbers", "booleans", "objects"],
)
def test_frames_of_numbers_are_the_array_to_the_bit(frame):
    detector = AutoencoderOutlierDetector(DENOISER, n_estimators=1, random_state=0)
    X = frame.to_numpy(dtype=float)
    one, other = clone(detector).fit(frame), clone(detector).fit(X)
    assert not hasattr(one, "table_encoder_")
    np.testing.assert_array_equal(one.score_samples(frame), other.score_samples(X))
    np.testing.assert_array_equal(one.explain(frame[:3]), other.explain(X[:3]))


def test_units_of_numbers_do_not_matter(small):
    other = clone(small).fit(TABLE.assign(price=1000 * TABLE["price"] + 7))
    np.testing.assert_allclose(
        other.score_samples(NEW.assign(price=1000 * NEW["price"] + 7)), small.score_samples(NEW), rtol=0.05, atol=0.05
    )


def test_copies_refits_and_streams(small):
    scores = small.score_samples(NEW)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(small)).score_samples(NEW), scores)
    np.testing.assert_array_equal(clone(small).fit(TABLE).score_samples(NEW), scores)
    assert small.n_features_in_ == 6 and small.feature_names_in_.tolist() == TABLE.columns.tolist()
    stream = clone(small).partial_fit(TABLE[:400])
    encoder = stream.table_encoder_
    stream.partial_fit(TABLE[400:].assign(port="Paris"))
    assert stream.table_encoder_ is encoder and np.isfinite(stream.score_samples(NEW)).all()
    again = clone(small).fit(TABLE)
    with pytest.raises(ValueError, match="a minimum of 2 is required by AutoencoderOutlierDetector"):
        again.fit(TABLE[:1])
    np.testing.assert_array_equal(again.score_samples(NEW), scores)
    X = real(60, 3)
    assert np.isfinite(again.fit(X).score_samples(X)).all() and not hasattr(again, "table_encoder_")


def test_other_columns_than_at_fit(small):
    with pytest.raises(ValueError, match="feature names should match"):
        small.predict(NEW[["depth", "port"]])
    with pytest.raises(ValueError, match="'depth' held numbers at fit, but holds categories now"):
        small.predict(NEW.assign(depth="deep"))


@pytest.mark.parametrize("standardize", [True, False])
def test_an_autoencoder_for_tables_gets_the_groups(standardize):
    autoencoder = AutoencoderTransformer(3, likelihood="mixed", max_iter=5)
    detector = AutoencoderOutlierDetector(autoencoder, standardize=standardize, n_estimators=2, random_state=0).fit(
        TABLE
    )
    for member in detector.members_:
        assert isinstance(member.scorers[0], NegativeLogLikelihood)
        kinds = [kind for kind, _ in member.autoencoder.likelihood.groups]
        assert kinds == ["gaussian", "categorical", "gaussian", "bernoulli", "categorical", "gaussian"]
        low, high = (member.autoencoder.model_.scaling.columns[index].numpy() for index in (2, 3))
        categorical = entry_of(detector.table_encoder_.groups_) == 1
        assert (low[categorical] == 0).all() and (high[categorical] == 1).all()
    assert autoencoder.likelihood == "mixed"
    assert np.isfinite(detector.explain(WRONG[:3])["share"]).all(axis=None)


def test_polars():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(TABLE.astype({"day": str}).to_dict("list"))
    detector = AutoencoderOutlierDetector(DENOISER, n_estimators=1, random_state=0).fit(frame)
    shown = detector.explain(frame[:3])
    assert isinstance(shown, polars.DataFrame) and shown.columns == ["share", "seen", "expected", "score_without"]
    assert shown["seen"].struct.unnest().equals(frame[:3])
    assert shown["expected"].struct.unnest().schema == frame.schema


# How much a category counts --------------------------------------------------------------------

MATRIX = TableEncoder().fit_transform(TABLE)
ENTRY = entry_of(TableEncoder().fit(TABLE).groups_)


def _variances(X):
    return np.bincount(ENTRY, X.var(axis=0))


def test_a_category_varies_as_much_as_a_number():
    np.testing.assert_allclose(_variances(StandardColumns(MATRIX, ENTRY)(MATRIX)), 1)
    # The contrast: a category of seven would count as seven.
    assert _variances(StandardColumns(MATRIX)(MATRIX))[4] == pytest.approx(7)


@pytest.mark.parametrize("name", ["standard", "robust", "rank"])
def test_it_does_so_in_other_scalings(name):
    columns = GEOMETRIES[name](MATRIX)
    made = _variances(ByEntry(columns, MATRIX, ENTRY)(MATRIX))
    np.testing.assert_allclose(made[[1, 4]], 1)
    np.testing.assert_allclose(made[[0, 2, 3, 5]], _variances(columns(MATRIX))[[0, 2, 3, 5]])


def test_a_category_without_variance():
    rows = MATRIX[TABLE["port"] == "Cork"]
    scaled = StandardColumns(rows, ENTRY)
    assert np.isfinite(scaled(MATRIX)).all() and (scaled(rows)[:, ENTRY == 1] == 0).all()


def test_a_gap_in_a_category_is_a_gap_in_one_entry():
    scorer = ReconstructionError()
    rows = np.ones((2, len(ENTRY)))
    rows[1, ENTRY == 4] = np.nan
    np.testing.assert_allclose(scorer.mean(np.ones_like(rows), rows), 1)
    scorer.entry = ENTRY
    np.testing.assert_allclose(scorer.mean(np.ones_like(rows), rows), [len(ENTRY) / 6, (len(ENTRY) - 7) / 5])


def test_distances_of_rows_with_a_gap_in_a_category_are_scaled_up_by_entries():
    scorer = NeighborDistance(max_samples=600)
    scorer.entry = ENTRY
    rows = StandardColumns(MATRIX, ENTRY)(MATRIX)
    learnt = scorer.fit(None, rows, np.random.RandomState(0))
    far = rows[:1] + 50.0
    gap = far.copy()
    gap[:, ENTRY == 4] = np.nan
    kept = ENTRY != 4
    nearest = np.square(far[:, kept] - rows[:, kept]).sum(axis=1).min()
    np.testing.assert_allclose(scorer.score(None, learnt, gap), 0.5 * np.log(nearest * 6 / 5))
