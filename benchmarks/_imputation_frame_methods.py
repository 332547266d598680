"""Imputers of tables with numbers and categories; skae's takes them as they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.impute import KNNImputer
from sklearn.preprocessing import StandardScaler

from benchmarks._imputation_frames import categorical, numeric
from benchmarks._imputation_methods import OWN, Setting, own

MAX_DONORS, N_NEIGHBORS = 5000, 5
N_ROUNDS, N_FOREST, LEAF = 5, 30, 5


class MeanOrMode:
    """The mean of numbers, the most frequent category."""

    def fit_transform(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table without gaps."""
        means = table[numeric(table)].mean()
        modes = table[categorical(table)].mode().iloc[0]
        return table.fillna(pd.concat([means.astype(object), modes]).to_dict())


class NearestRows:
    """Means over the nearest rows, where a category is an indicator for each of its values, and the largest one is it.

    Two rows with different categories are as far apart as two with independent standardised
    numbers. Of larger tables `MAX_DONORS` rows, drawn at random, are those that can be near.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def fit_transform(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table without gaps."""
        names, scaler = numeric(table), StandardScaler()
        factors = {name: pd.Categorical(table[name]) for name in categorical(table)}
        blocks = {name: _indicators(factor) for name, factor in factors.items()}
        coded = np.hstack([scaler.fit_transform(table[names]), *blocks.values()])
        donors = np.random.default_rng(self.seed).permutation(len(coded))[:MAX_DONORS]
        filled = KNNImputer(n_neighbors=N_NEIGHBORS).fit(coded[donors]).transform(coded)
        values = dict(zip(names, scaler.inverse_transform(filled[:, : len(names)]).T, strict=True))
        start = len(names)
        for name, block in blocks.items():
            shares = filled[:, start : start + block.shape[1]]
            start += block.shape[1]
            # Among equally many neighbours the category that is more frequent in the table counts.
            most = np.argmax(shares + np.nanmean(block, axis=0) / (10 * N_NEIGHBORS), axis=1)
            values[name] = np.asarray(factors[name].categories)[most]
        return table.fillna(pd.DataFrame(values, index=table.index))


def _indicators(factor: pd.Categorical) -> np.ndarray:
    """A column for each category, rows of NaN for gaps."""
    n_values = len(factor.categories)
    rows = np.vstack([np.eye(n_values), np.full(n_values, np.nan)])
    return rows[factor.codes]


class TreeChain:
    """Each column by extremely randomised trees of the others, in rounds.

    As in Stekhoven and Bühlmann, "MissForest", Bioinformatics 2012: first means and most frequent
    categories, then columns by rising number of gaps, regressors for numbers and classifiers for
    categories, which are numbered for the trees of other columns.
    """

    def __init__(self, seed: int, leaf: int):
        self.seed = seed
        self.leaf = leaf

    def fit_transform(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table without gaps."""
        gaps = table.isna().to_numpy()
        factors = {name: pd.Categorical(table[name]) for name in categorical(table)}
        guessed = MeanOrMode().fit_transform(table)
        for name, factor in factors.items():
            guessed[name] = factor.categories.get_indexer(guessed[name])
        codes = guessed.to_numpy(dtype=np.float64)
        changed = [column for column in np.argsort(gaps.sum(axis=0), kind="stable") if gaps[:, column].any()]
        for _ in range(N_ROUNDS):
            for column in changed:
                kind = ExtraTreesClassifier if table.columns[column] in factors else ExtraTreesRegressor
                forest = kind(n_estimators=N_FOREST, min_samples_leaf=self.leaf, random_state=self.seed)
                others, missing = np.delete(codes, column, axis=1), gaps[:, column]
                forest.fit(others[~missing], codes[~missing, column])
                codes[missing, column] = forest.predict(others[missing])
        values = dict(zip(table.columns, codes.T, strict=True))
        for name, factor in factors.items():
            values[name] = np.asarray(factor.categories)[values[name].astype(int)]
        return table.fillna(pd.DataFrame(values, index=table.index))


FRAME_METHODS: dict[str, Callable[[Setting], object]] = {
    OWN: own,
    "mean": lambda setting: MeanOrMode(),
    "kNN": lambda setting: NearestRows(setting.seed),
    "extra trees": lambda setting: TreeChain(setting.seed, 1),
    f"extra trees, leaves of {LEAF}": lambda setting: TreeChain(setting.seed, LEAF),
}
