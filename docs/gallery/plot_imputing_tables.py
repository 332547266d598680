"""
===============================================
Filling a table of numbers, categories and more
===============================================

A data frame with numbers, integers, a boolean, strings and a category loses a quarter of its cells.
`AutoencoderImputer` takes it as it is and gives it back complete, with the same dtypes; a guess of a category comes
with the probability that it is wrong.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderImputer, TableEncoder
from skae.inspection import ImputationDisplay

# %%
# A table of many kinds
# ---------------------
# 178 wines: eight measurements stay numbers; alcohol becomes a boolean, colour a string, proline an integer, and the
# cultivar is a category.

wine = load_wine(as_frame=True)
X = wine.data.drop(columns=["alcohol", "color_intensity", "hue", "proline", "od280/od315_of_diluted_wines"])
X["proline"] = wine.data["proline"].astype("Int64")
intensity = wine.data["color_intensity"]
X["colour"] = np.select([intensity < 3, intensity < 6], ["pale", "medium"], "deep")
X["strong"] = wine.data["alcohol"] > 13
X["cultivar"] = pd.Categorical.from_codes(wine.target, ["Barolo", "Grignolino", "Barbera"])
X = X.sample(frac=1, random_state=0, ignore_index=True)
hidden = pd.DataFrame(np.random.default_rng(0).random(X.shape) < 0.25, columns=X.columns)
gappy = X.mask(hidden)
print(gappy.iloc[:5, -6:].to_string(), "\n")

# %%
# Filled
# ------
# No encoder, no scaler, no list of columns. Cells that were there are untouched.

imputer = AutoencoderImputer(random_state=0)
filled = imputer.fit_transform(gappy)
print(filled.iloc[:5, -6:].to_string(), "\n")

# %%
# Beside others
# -------------
# scikit-learn's imputers want numbers. `TableEncoder`, which `AutoencoderImputer` has inside, makes a matrix of the
# table and a table of the matrix: a category is a column for each of its values, and comes back as the largest of them.
# The last of these columns is one less the others. It is left out while the others are filled: `IterativeImputer` would
# tell each from the rest, which are missing with it, and so never leave the mean.

numbers = list(X.columns[:9])
others = list(X.columns[9:])
deviation = X[numbers].std()


def through_a_matrix(imputer):
    encoder, scaler = TableEncoder(), StandardScaler()
    matrix = scaler.fit_transform(encoder.fit_transform(gappy))
    categories = [slice(group.start, group.stop) for group in encoder.groups_ if group.kind == "categorical"]
    kept = np.delete(np.arange(matrix.shape[1]), [columns.stop - 1 for columns in categories])
    matrix[:, kept] = imputer.fit_transform(matrix[:, kept])
    matrix = scaler.inverse_transform(matrix)
    for columns in categories:
        matrix[:, columns.stop - 1] = 1 - matrix[:, columns][:, :-1].sum(axis=1)
    return encoder.inverse_transform(matrix)


with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)
    tables = {
        "mean, most frequent": through_a_matrix(SimpleImputer()),
        "KNNImputer": through_a_matrix(KNNImputer()),
        "IterativeImputer": through_a_matrix(IterativeImputer(random_state=0)),
        "AutoencoderImputer": filled,
    }
print(f"{'':<22}{'error of numbers':>18}" + "".join(f"{'wrong ' + name:>18}" for name in others))
for name, table in tables.items():
    error = np.square((table[numbers] - X[numbers]) / deviation).to_numpy()[hidden[numbers]].mean() ** 0.5
    wrong = [(table[column] != X[column])[hidden[column]].mean() for column in others]
    print(f"{name:<22}{error:>18.2f}" + "".join(f"{share:>18.0%}" for share in wrong))

# %%
# How sure
# --------
# For numbers `imputation_std` is a standard deviation, for others the probability that the guess is wrong. Summed over
# the guesses, it is the number of errors to expect.

doubt = pd.DataFrame(imputer.imputation_std(gappy), columns=X.columns)
print()
for column in others:
    wrong = (filled[column] != X[column])[hidden[column]]
    expected = doubt[column][hidden[column]].sum()
    print(f"{column}: {hidden[column].sum()} hidden, {expected:.1f} errors expected, {wrong.sum()} made")

# %%
# One picture
# -----------
# Left: errors by column, where 1 is the mean's or the most frequent category's. Right: what was observed, what `sample`
# draws, and the single guesses, which prefer what is frequent.

figure = plt.figure(figsize=(12, 5), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[2, 3])
ImputationDisplay.from_estimator(imputer, gappy, name="Error by column", ax=left.subplots())
columns = ["flavanoids", "proline", "colour", "cultivar"]
ImputationDisplay.from_estimator(imputer, gappy, kind="distributions", features=columns, ax=right.subplots(2, 2))
figure.savefig("imputing_tables.png", dpi=100)
print("\nsaved imputing_tables.png")
