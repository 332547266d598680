"""
==============================================
Thresholds, p-values and false discovery rates
==============================================

A score ranks rows. Which of them are alarms is another question, and there are three answers: a share of the training
rows, a p-value for each row, or a bound on the share of false alarms among all alarms. Here they are side by side, on
handwritten digits of which one was never seen.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.anomaly import NeighborDistance, ReconstructionError
from skae.inspection import OutlierScoresDisplay

# %%
# Training rows without a six
# ---------------------------
# The detector is fitted to 1212 images of the other nine digits. New rows are 404 more of those, and 60 sixes. Pixels
# have one unit already, so they are not standardised; a small autoencoder beside neighbours is enough here, and fast.

X, y = load_digits(return_X_y=True)
train, new = train_test_split(X[y != 6], random_state=0)
new = np.concatenate([new, X[y == 6][:60]])
is_six = np.arange(len(new)) >= len(new) - 60

detector = AutoencoderOutlierDetector(
    AutoencoderTransformer(10, max_iter=20, early_stopping=False),
    scorer=[ReconstructionError(), NeighborDistance()],
    novelty=True,
    standardize=False,
    random_state=0,
).fit(train)
p_values = detector.p_values(new)

# %%
# Three rules
# -----------
# `contamination="auto"` flags about one normal row in a hundred. Any other share of normal rows is a quantile of
# `calibration_scores_`, the scores that training rows have where they were held out; it needs no second fit.
# `detect` bounds false alarms among the alarms: it is strict where hardly any row is anomalous, and flags more where
# many are.

scores = detector.score_samples(new)
alarms = {'contamination="auto"': detector.predict(new) == -1}
for share in (0.05, 0.1):
    alarms[f"below the {share:.0%} quantile"] = scores < np.quantile(detector.calibration_scores_, share)
for fdr in (0.05, 0.1, 0.2):
    alarms[f"detect(fdr={fdr})"] = detector.detect(new, fdr=fdr) == -1

print(f"{'rule':<24}{'alarms':>8}{'sixes':>8}{'false':>8}{'false / alarms':>17}{'false / normal':>17}")
for rule, flagged in alarms.items():
    false = (flagged & ~is_six).sum()
    of_alarms = f"{false / max(flagged.sum(), 1):.3f}"
    of_normal = f"{false / (~is_six).sum():.3f}"
    print(f"{rule:<24}{flagged.sum():>8}{flagged.sum() - false:>8}{false:>8}{of_alarms:>17}{of_normal:>17}")

# %%
# One picture
# -----------
# Left: the scores with the threshold. Middle: p-values of normal rows are below α no more often than they promise,
# so their curve does not rise above the diagonal. Right: what `detect` does. The p-values are sorted, and all up to
# the last one below the line fdr · rank / n are alarms. The flat beginning is the smallest p-value that there is, one
# over the number of held-out rows and one. The line must rise above it before the anomalies end; where held-out rows
# are few or anomalies are rare, it does not, and nothing is found.

FDR = 0.1
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
OutlierScoresDisplay.from_estimator(
    detector, new, np.where(is_six, "six", "normal"), name="Scores of new rows", ax=left
)

alpha = np.linspace(0, 0.3, 200)
middle.plot(alpha, [(p_values[~is_six] <= a).mean() for a in alpha], label="normal rows")
middle.plot(alpha, [(p_values[is_six] <= a).mean() for a in alpha], color="C1", label="sixes")
middle.plot(alpha, alpha, color="black", linestyle="--", label="as promised")
middle.set(xlabel="α", ylabel="Share of rows with p ≤ α", title="p-values")
middle.legend()

order = np.argsort(p_values)
rank = np.arange(1, len(order) + 1)
shown = slice(0, 150)
for name, rows, colour in (("normal", ~is_six[order], "C0"), ("six", is_six[order], "C1")):
    here = rows[shown]
    right.scatter(rank[shown][here], p_values[order][shown][here], s=12, color=colour, label=name)
right.plot(rank[shown], FDR * rank[shown] / len(order), color="black", linestyle="--", label=f"{FDR} · rank / n")
n_alarms = alarms[f"detect(fdr={FDR})"].sum()
right.axvline(n_alarms + 0.5, color="grey", linewidth=0.8)
right.set(xlabel="Rank", ylabel="p-value", yscale="log", title=f"detect(fdr={FDR}): {n_alarms} alarms")
right.legend()
figure.savefig("outliers_thresholds.png", dpi=100)
print("\nsaved outliers_thresholds.png")
