"""Estimators that take tables as they are: likelihood="mixed"."""

import pickle

import numpy as np
import pytest
from registry import real
from scipy.sparse import csr_array
from sklearn import config_context
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skae import (
    GAN,
    RBM,
    VAE,
    VQVAE,
    AdversarialAE,
    AutoencoderClassifier,
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    ContractiveAE,
    ConvAE,
    DenoisingAE,
    GaussianNoise,
    Mixed,
    SemanticHashing,
    SparseAE,
    StackedAE,
    TableEncoder,
)
from skae.inspection import jacobian

pandas = pytest.importorskip("pandas")
equal = pandas.testing.assert_frame_equal
SMALL = {"likelihood": "mixed", "max_iter": 2, "random_state": 0}
TAKES_TABLES = [
    AutoencoderTransformer(2, **SMALL),
    DenoisingAE(2, **SMALL),
    DenoisingAE(2, corruption="masking", conditioning="mask", **SMALL),
    ContractiveAE(2, **SMALL),
    SparseAE(2, **SMALL),
    VAE(2, **SMALL),
    AdversarialAE(2, **SMALL),
    StackedAE(2, hidden_layer_sizes=(8,), pretraining_iter=1, **SMALL),
    SemanticHashing(2, **SMALL),
    VQVAE(2, n_codes=4, **SMALL),
    GAN(2, **SMALL),
]
each = pytest.mark.parametrize("estimator", TAKES_TABLES, ids=lambda e: f"{type(e).__name__}-{len(repr(e))}")


def table(n=80, seed=0):
    """Numbers, integers, booleans, strings and ordered categories, with gaps, and an index of its own."""
    rng = np.random.default_rng(seed)
    age, rank = rng.normal(40, 12, n), rng.integers(0, 3, n)
    made = pandas.DataFrame(
        {
            "age": np.where(np.arange(n) % 7 == 3, np.nan, age),
            "port": pandas.Series(np.where(age < 40, "Cork", "Oslo"), dtype=object).where(np.arange(n) % 5 > 0, None),
            "visits": rng.poisson(3, n),
            "rich": age > 45,
            "rank": pandas.Categorical.from_codes(rank, ["low", "mid", "high"], ordered=True),
        }
    )
    return made.set_index(np.arange(n) + 1000)


TABLE = table()


def like_fit(made, index):
    """Whether a table has the columns, dtypes and categories of `TABLE`, this index and no gap."""
    assert made.index.equals(index) and not made.isna().any(axis=None)
    equal(made[:0].reset_index(drop=True), TABLE[:0].reset_index(drop=True))
    return True


@each
def test_a_table_in_and_a_table_out(estimator):
    fitted = clone(estimator).fit(TABLE)
    assert fitted.n_features_in_ == 5 and fitted.feature_names_in_.tolist() == TABLE.columns.tolist()
    scores = fitted.score_samples(TABLE)
    assert scores.shape == (80,) and np.isfinite(scores).all()
    if hasattr(fitted, "sample"):
        assert like_fit(fitted.sample(4, random_state=0), pandas.RangeIndex(4))
    if hasattr(fitted, "reconstruct"):
        rebuilt = fitted.reconstruct(TABLE)
        assert like_fit(rebuilt, TABLE.index)
        codes = fitted.transform(TABLE)
        assert isinstance(codes, np.ndarray) and np.isfinite(codes).all()
        made = fitted.inverse_transform(codes)
        equal(made.set_index(TABLE.index), rebuilt)
        framed = clone(estimator).set_output(transform="pandas").fit_transform(TABLE)
        np.testing.assert_array_equal(framed, codes)
        equal(fitted.inverse_transform(framed), rebuilt)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.score_samples(TABLE), scores)


@each
def test_it_is_the_fit_of_the_encoded_matrix(estimator):
    encoder = TableEncoder().fit(TABLE)
    X = encoder.transform(TABLE)
    fitted = clone(estimator).fit(TABLE)
    expected = clone(estimator).set_params(likelihood=Mixed().for_groups(encoder.groups_)).fit(X)
    np.testing.assert_array_equal(fitted.score_samples(TABLE), expected.score_samples(X))
    if hasattr(fitted, "reconstruct"):
        equal(fitted.reconstruct(TABLE), encoder.inverse_transform(expected.reconstruct(X), index=TABLE.index))
        np.testing.assert_array_equal(fitted.transform(TABLE), expected.transform(X))


def test_scores_of_gaps_are_those_of_what_is_left():
    vae = VAE(2, **SMALL).fit(TABLE)
    rows = TABLE[:10].assign(port="Paris")
    np.testing.assert_array_equal(vae.score_samples(rows), vae.score_samples(rows.assign(port=None)))


def test_partial_fit_keeps_the_first_encoder():
    ae = AutoencoderTransformer(2, **SMALL).partial_fit(TABLE[:60])
    encoder = ae.table_encoder_
    before = ae.score_samples(TABLE)
    later = TABLE[60:].assign(port="Paris")
    ae.partial_fit(later)
    assert ae.table_encoder_ is encoder and "Paris" not in encoder._columns[1].levels
    assert (ae.score_samples(TABLE) != before).all()
    assert set(ae.reconstruct(later)["port"]) <= {"Cork", "Oslo"}


def test_warm_start_keeps_the_encoder():
    ae = AutoencoderTransformer(2, warm_start=True, **SMALL).fit(TABLE)
    encoder = ae.table_encoder_
    assert ae.fit(TABLE.assign(port="Cork")).table_encoder_ is encoder


def test_a_failing_fit_leaves_the_earlier_one():
    ae = AutoencoderTransformer(2, **SMALL).fit(TABLE)
    rebuilt, encoder = ae.reconstruct(TABLE), ae.table_encoder_
    for bad, parameters in [
        (TABLE.assign(age=np.inf), {}),
        (TABLE, {"likelihood": "gaussian"}),
        (real(30, 3), {"likelihood": "bernoulli"}),
        (TABLE[["port"]], {"n_components": 3, "hidden_layer_sizes": ()}),
    ]:
        ae.set_params(**parameters)
        with pytest.raises(ValueError, match=r"infinity|likelihood='mixed'|Bernoulli|above n_features"):
            ae.fit(bad)
        ae.set_params(**AutoencoderTransformer(2, **SMALL).get_params())
        assert ae.table_encoder_ is encoder and ae.n_features_in_ == 5
        equal(ae.reconstruct(TABLE), rebuilt)


def test_a_later_fit_to_numbers_forgets_the_table():
    ae = AutoencoderTransformer(2, **SMALL).fit(TABLE)
    X = real(30, 3)
    ae.set_params(likelihood="gaussian").fit(X)
    assert not hasattr(ae, "table_encoder_") and isinstance(ae.reconstruct(X), np.ndarray)


def test_a_pipeline_and_a_search():
    y = np.arange(80) % 2
    model = make_pipeline(VAE(2, **SMALL), LogisticRegression())
    search = GridSearchCV(model, {"vae__likelihood": ["mixed", Mixed(scale="columns")], "vae__beta": [0.1, 1.0]}, cv=2)
    assert search.fit(TABLE, y).predict(TABLE).shape == (80,)
    parts = {"likelihood__table_encoder__max_categories": [2, 64]}
    vae = clone(model[0]).set_params(likelihood=Mixed(table_encoder=TableEncoder()))
    assert GridSearchCV(vae, parts, cv=2).fit(TABLE).best_params_


def test_an_encoder_of_ones_own():
    part = Mixed(table_encoder=TableEncoder(["visits"], handle_unknown="error"))
    ae = AutoencoderTransformer(2, **{**SMALL, "likelihood": part}).fit(TABLE)
    assert [group.kind for group in ae.table_encoder_.groups_][2] == "categorical"
    assert not hasattr(part.table_encoder, "groups_")
    equal(ae.reconstruct(TABLE)[:0], TABLE[:0])
    with pytest.raises(ValueError, match=r"unknown categories \['Paris'\] in column 'port'"):
        ae.transform(TABLE.assign(port="Paris"))
    with pytest.raises(ValueError, match="The .table_encoder. parameter of Mixed must be"):
        ae.set_params(likelihood=Mixed(table_encoder="port")).fit(TABLE)


def test_numbers_of_an_array_that_are_categories():
    X = np.column_stack([real(80, 2), np.arange(80) % 3])
    part = Mixed(table_encoder=TableEncoder([2]))
    ae = AutoencoderTransformer(3, **{**SMALL, "likelihood": part}).fit(X)
    assert ae.n_features_in_ == 3 and ae.model_.n_features == 5
    rebuilt = ae.reconstruct(X)
    assert rebuilt.shape == X.shape and set(rebuilt[:, 2]) <= {0.0, 1.0, 2.0}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_array_stays_an_array(dtype):
    X = real(60, 4).astype(dtype)
    ae = AutoencoderTransformer(2, **SMALL).fit(X)
    made = ae.reconstruct(X)
    assert type(made) is np.ndarray and made.dtype == dtype and ae.transform(X).dtype == dtype


def test_polars_in_polars_out():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": np.arange(30.0), "b": ["x", "y", None] * 10})
    made = AutoencoderTransformer(2, **SMALL).fit(frame).reconstruct(frame)
    assert isinstance(made, polars.DataFrame) and made.schema == frame.schema and set(made["b"]) <= {"x", "y"}


def test_output_that_is_set_for_all_transformers():
    with config_context(transform_output="pandas"):
        ae = AutoencoderTransformer(2, **SMALL).fit(TABLE)
        assert ae.transform(TABLE).index.equals(TABLE.index) and like_fit(ae.reconstruct(TABLE), TABLE.index)


@pytest.mark.parametrize(
    "X",
    [
        TABLE[["age", "port"]],
        TABLE[["port"]].astype("string"),
        TABLE[["port"]].astype("category"),
        TABLE[["port"]].dropna().to_numpy(dtype=str),
        [[1, "a"], [2, "b"]],
    ],
    ids=["object", "string", "category", "array", "list"],
)
def test_strings_for_another_likelihood(X):
    with pytest.raises(ValueError, match="X holds strings .*: set likelihood='mixed', or encode it by TableEncoder"):
        AutoencoderTransformer(2).fit(X)
    with pytest.raises(ValueError, match=r"X holds strings .*\): encode it by TableEncoder"):
        RBM(2).fit(X)


def test_other_columns_than_at_fit():
    ae = AutoencoderTransformer(2, **SMALL).fit(TABLE)
    with pytest.raises(ValueError, match="feature names should match"):
        ae.transform(TABLE[["age"]])
    with pytest.raises(ValueError, match="'age' held numbers at fit, but holds categories now"):
        ae.transform(TABLE.assign(age="old"))


def test_no_tables():
    with pytest.raises(ValueError, match="likelihood='mixed' is for tables, and the columns of images are pixels"):
        ConvAE(2, likelihood="mixed").fit(real(30, 9))
    with pytest.raises(ValueError, match="other likelihoods need another layer|are logistic"):
        StackedAE(2, hidden_layer_sizes=(8,), layer="rbm", likelihood="mixed").fit(TABLE)
    with pytest.raises(ValueError, match="categories have no derivative"):
        jacobian(AutoencoderTransformer(2, **SMALL).fit(TABLE), TABLE)
    with pytest.raises(TypeError, match="Sparse data was passed"):
        AutoencoderTransformer(2, **SMALL).fit(csr_array(real(30, 3)))


@pytest.mark.parametrize("of", ["encoder", "decoder"])
def test_the_jacobian_of_a_table_as_a_matrix(of):
    encoder = TableEncoder().fit(TABLE)
    X = np.nan_to_num(encoder.transform(TABLE), nan=1.0)
    ae = AutoencoderTransformer(2, **{**SMALL, "likelihood": Mixed().for_groups(encoder.groups_)}).fit(X)
    at, function = (X[:5], ae.transform) if of == "encoder" else (ae.transform(X[:5]), ae.inverse_transform)
    found = jacobian(ae, at, of=of)
    for column in range(at.shape[1]):
        step = 1e-6 * max(at[:, column].std(), 0.1) * np.eye(at.shape[1])[column]
        slope = (function(at + step) - function(at - step)) / (2 * step[column])
        np.testing.assert_allclose(found[:, :, column], slope, rtol=1e-4, atol=1e-6)


def test_classes_of_tables():
    y = np.where(TABLE["rich"], "yes", "no")
    ae = AutoencoderTransformer(2, **{**SMALL, "max_iter": 50})
    classifier = AutoencoderClassifier(ae, max_iter=20, random_state=0).fit(TABLE, y)
    assert classifier.n_features_in_ == 5 and classifier.score(TABLE, y) > 0.9
    stack = StackedAE(8, hidden_layer_sizes=(8,), **SMALL).fit(TABLE)
    # Categories of the labelled rows alone would be fewer.
    tuned = stack.fine_tune(TABLE[:60].assign(port="Cork"), y[:60], max_iter=5)
    assert tuned.table_encoder_ is stack.table_encoder_ and tuned.predict(TABLE).shape == (80,)
    with pytest.raises(ValueError, match="feature names should match"):
        stack.fine_tune(TABLE[["age"]], y)


def test_walkback_draws_categories_by_their_frequency():
    rng = np.random.default_rng(0)
    X = pandas.DataFrame(
        {"a": rng.normal(size=400), "port": rng.choice(["Cork", "Oslo", "Rome"], 400, p=[0.6, 0.3, 0.1])}
    )
    dae = DenoisingAE(2, **{**SMALL, "max_iter": 50}).fit(X)
    made = dae.sample(400, n_steps=10, random_state=0)
    shares = made["port"].value_counts(normalize=True)
    assert abs(shares["Cork"] - 0.6) < 0.12 and abs(shares["Rome"] - 0.1) < 0.08
    started = dae.sample(3, n_steps=2, init=X[:3], random_state=0)
    assert started.columns.tolist() == ["a", "port"]
    assert dae.score_function(X).shape == (400, 4)


def test_levels_of_noise_and_tables():
    options = {"corruption": GaussianNoise((0.1, 1.0)), "conditioning": "noise_level"}
    dae = DenoisingAE(4, **options, **{**SMALL, "max_iter": 20}).fit(TABLE)
    mild, strong = (dae.reconstruct(TABLE, scale=scale)["age"] for scale in (0.1, 1.0))
    # The more of a row is noise, the nearer to the mean it is.
    assert strong.std() < mild.std()
    assert dae.score_function(TABLE, scale=0.5).shape == (80, 8)


@each
@pytest.mark.filterwarnings("ignore:.*no observed:UserWarning")
def test_a_column_of_strings_without_a_value(estimator):
    gappy = TABLE.assign(note=pandas.array([None] * len(TABLE), dtype="string"))
    fitted = clone(estimator).fit(gappy)
    assert np.isfinite(fitted.score_samples(gappy)).all()
    if hasattr(fitted, "reconstruct"):
        assert fitted.reconstruct(gappy)["note"].isna().all()


@pytest.mark.filterwarnings("ignore:.*no observed:UserWarning")
@pytest.mark.filterwarnings("ignore:Skipping features without any observed")
def test_a_column_of_strings_without_a_value_beside_the_other_estimators():
    gappy = TABLE.assign(note=pandas.array([None] * len(TABLE), dtype="string"))
    detector = AutoencoderOutlierDetector(DenoisingAE(2, **SMALL), random_state=0).fit(gappy)
    assert np.isfinite(detector.score_samples(gappy)).all()
    imputer = AutoencoderImputer(autoencoder_params={"max_iter": 1}, random_state=0).fit(gappy)
    filled = imputer.transform(gappy)
    assert not filled.drop(columns="note", errors="ignore").isna().any(axis=None)


@each
@pytest.mark.parametrize("where", ["rows", "training"])
def test_a_failing_refit_leaves_the_earlier_table(estimator, where, monkeypatch):
    fitted = clone(estimator).fit(TABLE)
    before, scores = {k: v for k, v in vars(fitted).items() if k.endswith("_")}, fitted.score_samples(TABLE)
    later = TABLE.rename(columns={"age": "years"}).drop(columns="rich")
    if where == "rows":
        later["visits"] = np.inf
    else:
        monkeypatch.setattr("skae.training.trainer.Trainer._record", _fail)
    with pytest.raises((ValueError, RuntimeError), match="infinity|deliberate"):
        fitted.fit(later)
    after = {k: v for k, v in vars(fitted).items() if k.endswith("_")}
    assert after.keys() == before.keys() and all(after[name] is before[name] for name in before)
    np.testing.assert_array_equal(fitted.score_samples(TABLE), scores)


def _fail(*args):
    raise RuntimeError("deliberate")
