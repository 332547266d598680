"""
==================================
Filling gaps in a table of numbers
==================================

Half the cells of a table are hidden, and have to be told from the other half: by means, by neighbours, by regressions
in turns, and by `AutoencoderImputer`, which also says how sure it is.
"""

import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderImputer
from skae.inspection import ImputationDisplay

# %%
# A table with known gaps
# -----------------------
# 569 tumours, 30 measurements each. Half of all cells are hidden at random. 400 rows train the imputers; the others
# are filled only, and are those that count below. Columns are standardised first, since neighbours need that.

X = load_breast_cancer(as_frame=True).data.sample(frac=1, random_state=0)
hidden = np.random.default_rng(0).random(X.shape) < 0.5
gappy = X.mask(hidden)
scaler = StandardScaler().set_output(transform="pandas").fit(gappy[:400])
gappy, X = scaler.transform(gappy), scaler.transform(X)
train, new = gappy[:400], gappy[400:]

# %%
# Four imputers
# -------------
# One line each, in any pipeline. The error is the root of the mean square over hidden cells of new rows, in standard
# deviations.

imputers = {
    "mean": SimpleImputer(),
    "KNNImputer": KNNImputer(),
    "IterativeImputer": IterativeImputer(random_state=0),
    "AutoencoderImputer": AutoencoderImputer(random_state=0),
}
print(f"{'':<20}{'error':>8}{'seconds':>10}")
filled = {}
for name, imputer in imputers.items():
    start = time.perf_counter()
    with warnings.catch_warnings():
        # IterativeImputer asks for more than its ten rounds.
        warnings.simplefilter("ignore", ConvergenceWarning)
        filled[name] = imputer.set_output(transform="pandas").fit(train).transform(new)
    seconds = time.perf_counter() - start
    error = np.sqrt(np.square(filled[name] - X[400:]).to_numpy()[hidden[400:]].mean())
    print(f"{name:<20}{error:>8.3f}{seconds:>10.1f}")

# %%
# How sure
# --------
# `interval` says where hidden values lie, in nine of ten cases unless told otherwise; `imputation_std` is one number a
# cell. Both differ from cell to cell: an area is known where the radius is, and is a guess where little else is there.

imputer, guesses = imputers["AutoencoderImputer"], filled["AutoencoderImputer"]
low, high = imputer.interval(new)
inside = ((low <= X[400:]) & (X[400:] <= high)).to_numpy()[hidden[400:]]
deviation = imputer.imputation_std(new)[hidden[400:]]
surest = deviation < np.median(deviation)
miss = np.abs(guesses - X[400:]).to_numpy()[hidden[400:]]
print(f"\nin their 90 % intervals: {inside.mean():.3f} of the hidden cells")
print(f"mean error of the surer half {miss[surest].mean():.2f}, of the other half {miss[~surest].mean():.2f}")

# %%
# One picture
# -----------
# Left: hidden cells of rows that were held out in the fit, by column, for every other column; at 1 the imputer would
# be as good as the mean. Middle: hidden values of one column, guesses and intervals. Right: how many hidden cells lie
# in intervals of any coverage. The band is where so many cells would lie by chance.

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.8), layout="constrained")
ImputationDisplay.from_estimator(imputer, train, features=list(X.columns[::2]), name="Error by column", ax=left)
column = "worst concave points"
rows = hidden[400:, X.columns.get_loc(column)]
true, guess, below, above = (table[column][rows] for table in (X[400:], guesses, low, high))
middle.errorbar(true, guess, [guess - below, above - guess], fmt=".", elinewidth=0.8, alpha=0.6)
middle.axline((0, 0), slope=1, color="black", linestyle="--")
middle.set(xlabel="Hidden value, in standard deviations", ylabel="Filled in", title=column)
ImputationDisplay.from_estimator(imputer, new, kind="coverage", name="Coverage of the intervals", ax=right)
figure.savefig("imputing_numbers.png", dpi=100)

# %%
# Guesses are not data
# --------------------
# The best guess of a value is nearer to the mean than the value is, so a table of guesses varies too little. `sample`
# draws complete tables whose values scatter as the observed ones do: for standard errors, correlations and quantiles,
# use several of those.

columns = ["mean texture", "mean symmetry", "worst texture", "worst smoothness", "worst concave points", "worst area"]
display = ImputationDisplay.from_estimator(imputer, train, kind="distributions", features=columns, name="")
display.figure_.savefig("imputing_distributions.png", dpi=100)
print(f"\n{'standard deviation':<24}{'true':>8}{'single guess':>15}{'drawn':>8}")
single, tables = imputer.transform(train), imputer.sample(train, 5, random_state=0)
for column in columns:
    drawn = np.mean([table[column].std() for table in tables])
    print(f"{column:<24}{X[:400][column].std():>8.2f}{single[column].std():>15.2f}{drawn:>8.2f}")
print("\nsaved imputing_numbers.png, imputing_distributions.png")
