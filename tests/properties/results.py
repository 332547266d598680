"""All that the public methods of a fitted estimator give."""

from __future__ import annotations

import re

import numpy as np

# Methods that map rows to rows, by name. A row's result must not depend on the others.
BY_ROW = (
    "transform",
    "reconstruct",
    "score_samples",
    "decision_function",
    "predict",
    "predict_proba",
    "p_values",
    "pack",
    "score_function",
    "pseudo_log_likelihood",
    "sparse_encode",
    "imputation_std",
)


# Methods that some parameters rule out, and what they say then.
RULED_OUT = {
    "score_function": r"score_function needs corruption=GaussianNoise",
    "inverse_transform": r"a code does not hold the row",
    "sample": r"sample needs|a code does not hold the row",
    "pseudo_log_likelihood": r"pseudo-likelihood is that of binary units",
}


def results(estimator, X) -> dict:
    """Results of the methods, by name, each with a row for a row of X."""
    made: dict = {}
    for name in BY_ROW:
        if hasattr(estimator, name):
            _call(made, estimator, name, X)
    if hasattr(estimator, "posterior"):
        made["posterior mean"], made["posterior deviation"] = estimator.posterior(X)
    if hasattr(estimator, "complete"):
        made["complete"] = estimator.complete(X, n_samples=20, random_state=0)
    if hasattr(estimator, "interval"):
        made["interval low"], made["interval high"] = estimator.interval(X)
    if hasattr(estimator, "explain"):
        explained = estimator.explain(X)
        made["explain"] = explained["share"]
    if "transform" in made and hasattr(estimator, "inverse_transform"):
        _call(made, estimator, "inverse_transform", made["transform"])
    return made


def _call(made: dict, estimator, name: str, *given, **options) -> None:
    try:
        made[name] = getattr(estimator, name)(*given, **options)
    except ValueError as error:
        if name not in RULED_OUT or not re.search(RULED_OUT[name], str(error)):
            raise


def drawn(estimator, X) -> dict:
    """Results that are not of single rows: draws and totals."""
    made = {}
    if hasattr(estimator, "score") and not hasattr(estimator, "predict"):
        made["score"] = np.asarray(estimator.score(X))
    if hasattr(estimator, "sample_completions"):
        for index, table in enumerate(estimator.sample_completions(X, 2, n_samples=20, random_state=0)):
            made[f"completion {index}"] = table
    if hasattr(estimator, "interval"):
        for index, table in enumerate(estimator.sample(X, 2, random_state=0)):
            made[f"sample {index}"] = table
    elif hasattr(estimator, "sample"):
        extra = {"n_gibbs": 3} if hasattr(estimator, "pseudo_log_likelihood") else {}
        extra |= {"n_steps": 3} if hasattr(estimator, "score_function") else {}
        _call(made, estimator, "sample", 3, random_state=0, **extra)
    if hasattr(estimator, "kneighbors"):
        estimator.index(X)
        made["kneighbors"] = estimator.kneighbors(X, min(2, X.shape[0]))[0]
    return made
