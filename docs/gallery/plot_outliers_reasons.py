"""
=============================
Reasons: which cell is wrong?
=============================

An alarm is the start of a search: which of thirty numbers is it about, and what should it have been?
`AutoencoderOutlierDetector.explain` takes each cell of a row away in turn, puts in what agrees with the row's other
cells, and scores the row again. Here faults are planted in a real table, so the answers can be checked.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer

from skae import AutoencoderOutlierDetector

# %%
# A table without faults
# ----------------------
# Benign tumours, 30 measurements each; many go together, such as radius, perimeter and area. 257 train, and 100
# others get the faults.

X, benign = load_breast_cancer(return_X_y=True, as_frame=True)
X = X[benign == 1].sample(frac=1, random_state=0)
train, test = X[:257], X[257:]
detector = AutoencoderOutlierDetector(novelty=True, random_state=0).fit(train)

# %%
# Four kinds of faults
# --------------------
# A doubled radius is beyond its column's training range in 97 of the 100 rows, a halved area in 14. The other values
# are ordinary ones in the wrong place: limits on single columns cannot find them.

faults = {
    "Diameter for radius": {"mean radius": 2 * test["mean radius"]},
    "Area halved": {"worst area": test["worst area"] / 2},
    "One fixed perimeter": {"worst perimeter": np.full(len(test), 120.0)},
    "Textures exchanged": {"mean texture": test["worst texture"], "worst texture": test["mean texture"]},
}
faulty = {name: test.assign(**columns) for name, columns in faults.items()}
reasons = {name: detector.explain(rows) for name, rows in faulty.items()}

# %%
# How often is the planted cell named?
# ------------------------------------
# Beside the largest share: the value that is the most standard deviations away from its column's mean, which is all
# that a look at single columns can say. "Repaired" is how far the expected value of the (first) planted cell is from
# the true one, median, in standard deviations.

spread = train.std()
print(f"{'fault':<22}{'named by explain':>18}{'by largest |z|':>16}{'repaired to':>13}")
for name, columns in faults.items():
    share = reasons[name]["share"].abs()
    z = ((faulty[name] - train.mean()) / spread).abs()
    named, extreme = (values.idxmax(axis=1).isin(list(columns)).mean() for values in (share, z))
    first = next(iter(columns))
    left = ((reasons[name]["expected"][first] - test[first]).abs() / spread[first]).median()
    print(f"{name:<22}{named:>18.0%}{extreme:>16.0%}{left:>13.2f}")

# %%
# One picture
# -----------
# One row, the first, with each fault. Left: the cells with the largest shares of what the score gains; to the left
# where the value is too small. Right: the values seen, what the other cells would say in their place, and what was
# there before the fault. Where two cells are wrong at once, each misleads the repair of the other.

figure, axes = plt.subplots(len(faults), 2, figsize=(10, 9.5), layout="constrained", sharey="row")
for (bars, values), name in zip(axes, faults, strict=True):
    row = reasons[name].iloc[0]
    columns = row["share"].abs().sort_values().index[-5:]
    planted = ["C3" if column in faults[name] else "C0" for column in columns]
    bars.barh(columns, row["share"][columns], color=planted)
    bars.axvline(0, color="black", linewidth=0.8)
    bars.set(title=name, xlim=(-1, 1))
    seen, expected = ((row[block][columns] - train.mean()[columns]) / spread[columns] for block in ("seen", "expected"))
    true = (test.iloc[0][columns] - train.mean()[columns]) / spread[columns]
    values.hlines(columns, seen, expected, color="lightgrey")
    values.scatter(true, columns, marker="|", s=150, color="black", label="true")
    values.scatter(expected, columns, s=40, facecolors="white", edgecolors="C2", label="expected")
    values.scatter(seen, columns, s=20, color=planted, label="seen")
axes[-1, 0].set_xlabel("share (red: planted)")
axes[-1, 1].set_xlabel("standard deviations from the mean")
axes[0, 1].legend(loc="lower right")
figure.savefig("outliers_reasons.png", dpi=100)
print("\nsaved outliers_reasons.png")
