"""
==========================
Autoencoders where PCA was
==========================

Three autoencoders beside PCA on images of handwritten digits, 8 x 8 pixels from 0 to 16, all with codes of ten
numbers: how well a code rebuilds an image that was not trained on, and how well a linear classifier reads the digit
from it. Then an autoencoder inside a pipeline and a grid search, a detector of anomalies beside an isolation forest,
and an imputer beside scikit-learn's.
"""

import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import VAE, AutoencoderImputer, AutoencoderOutlierDetector, AutoencoderTransformer, DenoisingAE
from skae.inspection import LatentSpaceDisplay, OutlierScoresDisplay, ReconstructionDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)

# %%
# Beside PCA
# ----------
# All have `fit`, `transform` and `inverse_transform`, so the same lines measure each. The defaults need no scaling:
# training starts at PCA, and held-out rows decide how far it goes from there.

models = {
    "PCA": PCA(10),
    "Autoencoder": AutoencoderTransformer(10, random_state=0),
    "Denoising": DenoisingAE(10, random_state=0),
    "Variational": VAE(10, random_state=0),
}
classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
errors, accuracies, seconds = {}, {}, {}


def squared_error(model, X):
    return np.square(X - model.inverse_transform(model.transform(X))).sum(axis=1)


for name, model in models.items():
    start = time.perf_counter()
    model.fit(X_train)
    seconds[name] = time.perf_counter() - start
    errors[name] = squared_error(model, X_test).mean()
    classifier.fit(model.transform(X_train), y_train)
    accuracies[name] = classifier.score(model.transform(X_test), y_test)

# %%
# In a pipeline, under a grid search
# ----------------------------------
# The autoencoder is a step like any other, and its parameters are searched like any others.

pipeline = make_pipeline(AutoencoderTransformer(max_iter=20, early_stopping=False, random_state=0), classifier)
search = GridSearchCV(pipeline, {"autoencodertransformer__n_components": [5, 10, 20]}, cv=2).fit(X_train, y_train)
n_best = search.best_params_["autoencodertransformer__n_components"]

# %%
# Anomalies
# ---------
# Trained without a single six, a detector should find sixes less normal than other digits: the training rows are clean,
# so `novelty=True`. Then a table of tumours, 357 benign and 40 malignant, in which nobody has said which are which: the
# default. Pixels have one unit already; the table's columns do not, and are standardised.

without_six, is_six = X_train[y_train != 6], y_test == 6
clean = AutoencoderOutlierDetector(novelty=True, standardize=False, random_state=0).fit(without_six)
sixes = {
    "PCA": roc_auc_score(is_six, squared_error(PCA(10).fit(without_six), X_test)),
    "Autoencoder": roc_auc_score(~is_six, clean.score_samples(X_test)),
    "IsolationForest": roc_auc_score(~is_six, IsolationForest(random_state=0).fit(without_six).score_samples(X_test)),
}

tumours, is_benign = load_breast_cancer(return_X_y=True)
mixed = np.concatenate([np.flatnonzero(is_benign == 1), np.flatnonzero(is_benign == 0)[:40]])
tumours, is_benign = tumours[mixed], is_benign[mixed]
polluted = {
    "Autoencoder": AutoencoderOutlierDetector(random_state=0),
    "IsolationForest": IsolationForest(random_state=0),
}
malignant = {
    name: roc_auc_score(is_benign, detector.fit(tumours).score_samples(tumours)) for name, detector in polluted.items()
}

# %%
# Gaps
# ----
# Ten measurements of 442 patients, in standard deviations; three cells of ten are hidden, and are to be told from the
# others of their row. The imputer takes the place of scikit-learn's in a pipeline, and says how sure it is: nine of ten
# hidden cells should lie in their intervals. `IterativeImputer` warns that it has not converged; more rounds make its
# guesses no better here.

patients = load_diabetes(as_frame=True, scaled=False).data
patients = (patients - patients.mean()) / patients.std()
is_hidden = np.random.default_rng(0).random(patients.shape) < 0.3
gappy = patients.mask(is_hidden)
imputers = {
    "mean": SimpleImputer(),
    "KNNImputer": KNNImputer(),
    "IterativeImputer": IterativeImputer(random_state=0),
    "AutoencoderImputer": AutoencoderImputer(random_state=0),
}
gap_errors, gap_seconds = {}, {}
for name, imputer in imputers.items():
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        filled = imputer.set_output(transform="pandas").fit_transform(gappy)
    gap_seconds[name] = time.perf_counter() - start
    gap_errors[name] = np.sqrt(np.square(filled - patients).to_numpy()[is_hidden].mean())
low, high = imputer.interval(gappy, coverage=0.9)
covered = ((low <= patients) & (patients <= high)).to_numpy()[is_hidden].mean()

# %%
# The figures in two tables
# -------------------------


def print_table(table, names):
    widths = {name: len(name) + 2 for name in names}
    print(" " * 42 + "".join(f"{name:>{width}}" for name, width in widths.items()))
    for title, (values, style) in table.items():
        cells = ((style.format(values[name]) if name in values else "-", width) for name, width in widths.items())
        print(f"{title:<42}" + "".join(f"{cell:>{width}}" for cell, width in cells))


table = {
    "squared error of a held-out image": (errors, "{:.0f}"),
    "accuracy of a classifier on the codes": (accuracies, "{:.3f}"),
    "seconds to fit": (seconds, "{:.2f}"),
    f"accuracy of the pipeline, {n_best} components": ({"Autoencoder": search.score(X_test, y_test)}, "{:.3f}"),
    "AUROC of sixes, never seen": (sixes, "{:.3f}"),
    "AUROC of malignant tumours, not labelled": (malignant, "{:.3f}"),
}
print_table(table, (*models, "IsolationForest"))
print()
table = {
    "error of a hidden measurement": (gap_errors, "{:.2f}"),
    "hidden cells in their 90 % intervals": ({"AutoencoderImputer": covered}, "{:.2f}"),
    "seconds to fit and fill": (gap_seconds, "{:.2f}"),
}
print_table(table, imputers)

# %%
# One picture
# -----------
# Held-out images, one of each digit, and what PCA and the autoencoder make of them; then codes of two numbers, PCA's
# and the autoencoder's, coloured by digit; the scores of the detector that has never seen a six; and hidden values of
# one measurement, as they are and as the imputer tells them.

flat = AutoencoderTransformer(2, random_state=0).fit(X_train)
one_of_each = [int(np.flatnonzero(y_test == digit)[0]) for digit in range(10)]

figure = plt.figure(figsize=(9, 11.2), layout="constrained")
figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
top, middle, bottom = figure.subfigures(3, 1, height_ratios=[3, 5, 3.6])
ReconstructionDisplay.from_estimator(
    models["Autoencoder"], X_test, X_train=X_train, indices=one_of_each, names="Autoencoder", ax=top.subplots()
)
LatentSpaceDisplay.from_estimator(flat, X_test, y_test, X_train=X_train, names="Autoencoder", ax=middle.subplots(1, 2))
which = np.where(is_six, "sixes", "other digits")
anomalies, gaps = bottom.subfigures(1, 2)
OutlierScoresDisplay.from_estimator(clean, X_test, which, name="", ax=anomalies.subplots())
hidden = is_hidden[:, patients.columns.get_loc("s3")]
true, guess, low, high = (values["s3"][hidden] for values in (patients, filled, low, high))
ax = gaps.subplots()
ax.errorbar(true, guess, [guess - low, high - guess], fmt=".", elinewidth=0.8, alpha=0.6, label="guess, 90 % interval")
ax.axline((0, 0), slope=1, color="black", linestyle="--", label="truth")
ax.set(xlabel="Hidden value, in standard deviations", ylabel="Filled in")
ax.legend(loc="lower right")
top.suptitle("Held-out digits rebuilt from 10 numbers")
middle.suptitle("Held-out digits as 2 numbers")
anomalies.suptitle("Anomaly scores, no six in training")
gaps.suptitle("Hidden HDL cholesterol of patients")
figure.savefig("quickstart.png", dpi=100)
print("\nsaved quickstart.png")
