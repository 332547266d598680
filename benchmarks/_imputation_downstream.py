"""What imputers are worth to a classifier that follows them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from sklearn import datasets
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks._common import markdown_table, require
from benchmarks._compare import Values, complete, mean_of
from benchmarks._imputation_methods import METHODS, N_TREES, OWN, Setting, attempt, is_own, quietly
from benchmarks._imputation_page import Gates, Sections, means
from benchmarks._imputation_tables import BUNDLED, drawn, load

DOWNSTREAM, RATE, N_FOLDS, N_MASKS = "downstream", 0.4, 5, 2
DOWNSTREAM_METHODS = (OWN, "mean", "kNN", "ridge", "extra trees")
# Tables with classes, and the rows to which they are cut.
TABLES = {"wine": None, "breast_cancer": None, "wine_red": None, "yeast": None, "digits": 1000, "spambase": 1500}


def boosting(seed: int):
    """Boosted trees, which see filled tables alone."""
    return HistGradientBoostingClassifier(random_state=seed)


def logistic(seed: int):
    """Logistic regression of standardised columns."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=seed))


CLASSIFIERS = {"boosting": boosting, "logistic": logistic}


def classes(name: str) -> np.ndarray:
    """The class of each row of a table."""
    if name in BUNDLED:
        return getattr(datasets, f"load_{name}")().target
    with np.load(require("imputation", f"{name}.npz")) as stored:
        return np.unique(stored["y"], return_inverse=True)[1]


def keys(names: Sequence[str], methods: Sequence[str], args) -> Iterator[dict]:
    """Keys of what is to be measured, in this order."""
    for name in names:
        for seed in range(min(args.masks, N_MASKS)):
            for method in methods:
                key = {"mechanism": DOWNSTREAM, "set": name, "seed": seed, "method": method, "max_rows": None}
                yield key | {"parameters": args.parameters * is_own(method)}


def measured(key: dict) -> dict:
    """The result of a key."""
    X, y = gappy_rows(key["set"], key["seed"])
    return attempt(measure, key["method"], X, y, Setting(key["seed"], key["parameters"]))


def gappy_rows(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows with 40 % of their cells hidden, and their classes; larger tables are cut at random."""
    X, y = load(name), classes(name)
    rows = np.random.default_rng(0).permutation(len(X))[: TABLES[name]]
    generator = np.random.default_rng([zlib.crc32(f"{name}, {DOWNSTREAM}".encode()), seed])
    return np.where(drawn(np.full(X[rows].shape, RATE), generator), np.nan, X[rows]), y[rows]


def measure(name: str, X: np.ndarray, y: np.ndarray, setting: Setting) -> dict:
    """Accuracy by classifier, and their mean, over folds; seconds of the imputer in all of them."""
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=setting.seed)
    made = [fold_accuracy(name, X, y, train, test, setting) for train, test in folds.split(X, y)]
    result = {part: float(np.mean([fold[part] for fold in made])) for part in CLASSIFIERS}
    result["accuracy"] = float(np.mean([result[part] for part in CLASSIFIERS]))
    return result | {"seconds": sum(fold["seconds"] for fold in made)}


def fold_accuracy(name: str, X, y, train, test, setting: Setting) -> dict:
    """Accuracy by classifier of test rows; scaler, imputer and classifier are fitted to the training rows.

    The imputer is fitted once for both classifiers, which is what a pipeline with each of them does.
    """
    imputer = make_pipeline(StandardScaler(), METHODS[name].make(setting))
    filled, seconds = quietly(imputer.fit_transform, X[train])
    new, more_seconds = quietly(imputer.transform, X[test])
    result = {"seconds": seconds + more_seconds}
    for part, make in CLASSIFIERS.items():
        fitted, _ = quietly(make(setting.seed).fit, filled, y[train])
        result[part] = float(fitted.score(new, y[test]))
    return result


def sections(results: Sequence[dict]) -> tuple[Sections, Gates]:
    """Sections (heading, body) and gates."""
    mine = [result for result in results if result["mechanism"] == DOWNSTREAM]
    if not mine:
        return [], []
    bodies, gates = [_note()], []
    for part in CLASSIFIERS:
        accuracy = means(mine, part)
        bodies.append(accuracy_table(part, accuracy))
        gates += accuracy_gates(part, accuracy)
    seconds = [[method, f"{sum(by_set.values()):.1f}"] for method, by_set in means(mine, "seconds").items()]
    bodies.append(markdown_table(("imputer", "seconds, all tables and folds"), seconds))
    return [("Accuracy of a classifier that follows", "\n\n".join(bodies))], gates


def accuracy_table(part: str, accuracy: Values) -> str:
    """A row for each imputer."""
    names, whole = list(TABLES), complete(accuracy, list(TABLES))
    rows = []
    for method, by_set in accuracy.items():
        mean = f"{mean_of(whole[method]):.4f}" if method in whole else None
        rows.append([method, *(f"{by_set[name]:.4f}" if name in by_set else None for name in names), mean])
    return markdown_table((f"{part} after", *names, "mean"), rows)


def accuracy_gates(part: str, accuracy: Values) -> Gates:
    """skae's mean over the tables minus the best peer's."""
    of_all = {method: mean_of(by_set) for method, by_set in complete(accuracy, list(TABLES)).items()}
    peers = [mean for method, mean in of_all.items() if not is_own(method)]
    if OWN not in of_all or not peers:
        return []
    what = f"accuracy of {part} after {OWN}, mean of {len(TABLES)} tables − best peer's"
    return [(what, of_all[OWN] - max(peers), ">=", 0)]


def _note() -> str:
    cut = ", ".join(f"{name} to {rows} rows" for name, rows in TABLES.items() if rows)
    return (
        f"{RATE:.0%} of the cells of training and test rows are missing completely at random. Scaler, imputer and "
        f"classifier are fitted to the training rows. Accuracy, mean over {N_FOLDS} folds and {N_MASKS} masks; cut at "
        f'random: {cut}. "boosting" is `HistGradientBoostingClassifier`, "logistic" is `LogisticRegression` of '
        f"standardised columns. The chain of extra trees has {N_TREES} trees a column."
    )
