"""
==================================
Clean or polluted: the two regimes
==================================

`AutoencoderOutlierDetector` asks one thing of you: are the training rows known to be normal (`novelty=True`), or are
anomalies among them (`novelty=False`, the default)? The first may follow the rows closely, the second must not. Here
are both on two moons, and what a wrong answer costs on a real table.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_wine, make_moons
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderOutlierDetector

# %%
# Two moons, and rows that do not belong
# --------------------------------------
# 2000 rows on two moons, and 200 anomalies: 120 that lie together, 80 that are strewn around.

rng = np.random.default_rng(0)
moons, _ = make_moons(2000, noise=0.07, random_state=0)
anomalies = np.concatenate([rng.normal([1.7, 1.0], 0.06, (120, 2)), rng.uniform([-2, -1.5], [3, 2], (80, 2))])
polluted = np.concatenate([moons, anomalies])
is_anomaly = np.arange(len(polluted)) >= len(moons)

cases = {
    "Clean rows, novelty=True": (moons, True),
    "Polluted rows, novelty=True": (polluted, True),
    "Polluted rows, novelty=False": (polluted, False),
}

# %%
# One picture
# -----------
# Light is normal; the line is the threshold. On clean rows, the fit knows the moons and the gap between them. On
# polluted rows the same fit learns the anomalies: where they lie together, it finds them as normal as the moons. The
# default never saw most of them, because it is fitted on the half of the rows that is the least suspicious, and
# beside it stand scorers that are too coarse to follow a small group. So it ranks the anomalies rightly, and pays
# for it: the gap between the moons is lost as well.

x, y = np.meshgrid(np.linspace(-2.2, 3.2, 120), np.linspace(-1.7, 2.2, 120))
figure, axes = plt.subplots(1, 3, figsize=(13, 4.6), layout="constrained", sharey=True)
for ax, (title, (rows, novelty)) in zip(axes, cases.items(), strict=True):
    detector = AutoencoderOutlierDetector(novelty=novelty, random_state=0).fit(rows)
    score = detector.score_samples(np.column_stack([x.ravel(), y.ravel()])).reshape(x.shape)
    filled = ax.contourf(x, y, score, levels=np.linspace(-8, 0, 17), extend="min", cmap="Blues_r")
    ax.contour(x, y, score, levels=[detector.offset_], colors="black", linestyles="dashed")
    ax.scatter(*moons.T, s=4, color="white", edgecolors="grey", linewidths=0.3, label="normal")
    ax.scatter(*anomalies.T, s=6, color="C3", label="anomaly")
    auroc = roc_auc_score(~is_anomaly, detector.score_samples(polluted))
    ax.set(title=f"{title}\nAUROC {auroc:.2f}", xticks=[], yticks=[])
figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, markerscale=2)
figure.colorbar(filled, ax=axes, label="score_samples")
figure.savefig("outliers_regimes.png", dpi=100)

# %%
# What a wrong answer costs
# -------------------------
# Breast cancer: benign tumours are normal, malignant ones are not. "Clean": half of the benign ones train, all others
# are scored. "Polluted": all benign ones and a ninth as many malignant ones train, and the same rows are scored. Each
# detector is fitted in both ways, ours with both answers. The guide has the means of five seeds on all three tables.

N_SEEDS = 1
TABLES = ["breast cancer"]  # or "wine", "digits"


def labelled(table):
    """Rows, and which of them are anomalies."""
    if table == "breast cancer":
        X, y = load_breast_cancer(return_X_y=True)
        return X, y == 0
    if table == "wine":
        X, y = load_wine(return_X_y=True)
        return X, y == 0
    images = load_digits().images[:1100].copy()
    images[900:] = images[900:, ::-1]  # upside down
    return images.reshape(1100, 64), np.arange(1100) >= 900


def settings(is_anomaly, seed):
    """Training rows and test rows, by their index."""
    rng = np.random.default_rng(seed)
    normal, other = (rng.permutation(np.flatnonzero(is_anomaly == each)) for each in (False, True))
    half = len(normal) // 2
    mixed = np.concatenate([normal, other[: round(len(normal) / 9)]])
    return {"clean": (normal[:half], np.concatenate([normal[half:], other])), "polluted": (mixed, mixed)}


def detectors(seed):
    return {
        "novelty=True": AutoencoderOutlierDetector(novelty=True, random_state=seed),
        "novelty=False": AutoencoderOutlierDetector(random_state=seed),
        "IsolationForest": IsolationForest(random_state=seed),
        "LocalOutlierFactor": make_pipeline(StandardScaler(), LocalOutlierFactor(novelty=True)),
    }


aurocs = {}
for table in TABLES:
    X, is_anomaly = labelled(table)
    for seed in range(N_SEEDS):
        for setting, (train, test) in settings(is_anomaly, seed).items():
            for name, detector in detectors(seed).items():
                scores = detector.fit(X[train]).score_samples(X[test])
                aurocs.setdefault((table, setting, name), []).append(roc_auc_score(~is_anomaly[test], scores))

names = list(detectors(0))
print(f"{'AUROC':<28}" + "".join(f"{name:>20}" for name in names))
for table in TABLES:
    for setting in ("clean", "polluted"):
        cells = (np.mean(aurocs[table, setting, name]) for name in names)
        print(f"{table + ', ' + setting:<28}" + "".join(f"{cell:>20.3f}" for cell in cells))
print("\nsaved outliers_regimes.png")

# %%
# Here anomalies among the training rows cost `novelty=True` more than clean rows cost `novelty=False`: in doubt, keep
# the default.
