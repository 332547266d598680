"""Held-out error and accuracy of the default AutoencoderTransformer beside PCA and others.

python -m benchmarks.reduction                    # 12 tables, 5 splits, 2, 5 and 10 components
python -m benchmarks.reduction --quick --no-peers
python -m benchmarks.reduction --panel other
python -m benchmarks.reduction --training         # training error never above PCA's
python -m benchmarks.reduction --parameters "max_iter=50, activation='relu'"
"""

from __future__ import annotations

import argparse
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from joblib import Parallel, delayed
from sklearn.decomposition import PCA, FastICA, KernelPCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from benchmarks._common import GATE_HEADER, Clock, gate_rows, markdown_table, parse_parameters, report, squared_error
from benchmarks._tables import PANELS, TRAINING, Table, load
from skae import AutoencoderTransformer

COMPONENTS = (2, 5, 10)
MEASURES = ("ratio", "logistic", "neighbours")


def classifiers() -> dict:
    """What is fitted on the codes, as they come."""
    return {"logistic": LogisticRegression(max_iter=10_000), "neighbours": KNeighborsClassifier(5)}


def split(table: Table, seed: int, scaled: bool = True) -> tuple:
    """A random quarter held out, standardised by the training part, as (X, X_test, y, y_test)."""
    y = np.zeros(len(table.X)) if table.y is None else table.y
    X, X_test, y, y_test = train_test_split(table.X, y, test_size=0.25, random_state=seed)
    if scaled:
        scaler = StandardScaler().fit(X)
        X, X_test = scaler.transform(X), scaler.transform(X_test)
    return X, X_test, y, y_test


def measure(estimator, table: Table, seed: int, scaled: bool = True) -> dict:
    """Held-out error, accuracy on the codes (in percent) and seconds of one fit."""
    X, X_test, y, y_test = split(table, seed, scaled)
    clock = Clock()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        codes = estimator.fit(X).transform(X)
        seconds, codes_test = clock.seconds(), estimator.transform(X_test)
        made = {"error": None, "seconds": seconds, "n_iter": getattr(estimator, "n_iter_", None)}
        if hasattr(estimator, "inverse_transform") and "UMAP" not in type(estimator).__name__:
            made["error"] = squared_error(X_test, estimator.inverse_transform(codes_test))
        for name, classifier in classifiers().items():
            labelled = table.y is not None
            made[name] = 100 * classifier.fit(codes, y).score(codes_test, y_test) if labelled else None
    return made


def compare(make_estimator: Callable, table: Table, n_components: int, seed: int, scaled: bool = True) -> dict:
    """One estimator beside PCA on one split: ratio of the errors, accuracy minus PCA's in points."""
    own = measure(make_estimator(n_components), table, seed, scaled)
    pca = measure(PCA(n_components), table, seed, scaled)
    made = {"table": table.name, "n_components": n_components, "split": seed}
    made |= {"error": own["error"], "pca_error": pca["error"], "seconds": own["seconds"], "n_iter": own["n_iter"]}
    made["ratio"] = None if own["error"] is None else own["error"] / pca["error"]
    for name in classifiers():
        made[name] = None if own[name] is None else own[name] - pca[name]
    return made


def evaluate(
    make_estimator: Callable,
    tables: Sequence[Table],
    components: Sequence[int] = COMPONENTS,
    n_splits: int = 5,
    *,
    scaled: bool = True,
    n_jobs: int = 1,
) -> list[dict]:
    """Compare an estimator with PCA on tables, numbers of components and splits.

    Parameters
    ----------
    make_estimator : callable
        Makes an unfitted estimator from the number of components.
    tables : sequence of Table
        From `benchmarks._tables.load`.
    components : sequence of int, default=(2, 5, 10)
        Those below the number of features are taken.
    n_splits : int, default=5
        Random splits, three quarters to train.
    scaled : bool, default=True
        Whether to standardise by the training part.
    n_jobs : int, default=1
        Processes, of one thread each where there are several.

    Returns
    -------
    list of dict
        One for each table, number of components and split: `table`, `n_components`, `split`,
        `error`, `pca_error`, `ratio`, `logistic` and `neighbours` (accuracy minus PCA's, in
        points; None without classes), `seconds` and `n_iter`.
    """
    cases = [
        (table, n_components, seed)
        for table in tables
        for n_components in components
        if n_components < table.X.shape[1]
        for seed in range(n_splits)
    ]
    run = delayed(partial(compare, make_estimator, scaled=scaled))
    return Parallel(n_jobs=n_jobs)(run(*case) for case in cases)


def average(results: Sequence[dict], *keys: str) -> dict[tuple, dict]:
    """Mean of each measure over the results that agree in these keys; None where there is none."""
    groups: dict[tuple, list[dict]] = {}
    for result in results:
        groups.setdefault(tuple(result[key] for key in keys), []).append(result)
    made = {}
    for group, members in groups.items():
        made[group] = {}
        for name in (*MEASURES, "seconds"):
            values = [member[name] for member in members if member[name] is not None]
            made[group][name] = float(np.mean(values)) if values else None
    return made


def _column(means: dict, name: str) -> list[float]:
    return [mean[name] for mean in means.values() if mean[name] is not None]


def gates(results: Sequence[dict]) -> list[tuple[str, float, str, float]]:
    """What the defaults must hold, and how they stand."""
    by_table, by_case = average(results, "table"), average(results, "table", "n_components")
    made = [
        ("held-out error / PCA's, worst table", max(_column(by_table, "ratio")), "<=", 1.02),
        ("the same, worst table and size of the code", max(_column(by_case, "ratio")), "<=", 1.02),
        ("the same, mean", float(np.mean(_column(by_table, "ratio"))), "<=", 0.8),
    ]
    for name in classifiers():
        if _column(by_table, name):
            made += [
                (f"{name}, accuracy minus PCA's, worst table", min(_column(by_table, name)), ">=", -1.0),
                (f"{name}, worst table and size of the code", min(_column(by_case, name)), ">=", -1.0),
                (f"{name}, mean", float(np.mean(_column(by_table, name))), ">", 0.0),
            ]
    return made


def case_rows(results: Sequence[dict]) -> list[list]:
    """A row for each table and number of components."""
    rows = []
    for (name, n_components), mean in average(results, "table", "n_components").items():
        worst = max(r["ratio"] for r in results if (r["table"], r["n_components"]) == (name, n_components))
        accuracy = [None if mean[c] is None else f"{mean[c]:+.1f}" for c in classifiers()]
        rows.append([name, n_components, f"{mean['ratio']:.3f}", f"{worst:.3f}", *accuracy, f"{mean['seconds']:.2f}"])
    return rows


def peers() -> dict[str, Callable]:
    """Other reducers, by name, each made from the number of components."""
    made = {
        "KernelPCA (rbf)": lambda n: KernelPCA(n, kernel="rbf", fit_inverse_transform=True),
        "FastICA": lambda n: FastICA(n, random_state=0),
    }
    if importlib.util.find_spec("umap"):
        made["UMAP"] = _make_umap
    return made


def _make_umap(n_components: int):
    from umap import UMAP

    return UMAP(n_components=n_components, random_state=0)


def peer_rows(own: Sequence[dict], tables, components, n_splits, **options) -> list[list]:
    """A row for each reducer: mean and worst table of the ratio and of the accuracy minus PCA's."""
    everything = {"AutoencoderTransformer": own}
    for name, make in peers().items():
        everything[name] = evaluate(make, tables, components, n_splits, **options)
    rows = []
    for name, results in everything.items():
        means, row = average(results, "table"), [name]
        for key, worst in (("ratio", max), ("logistic", min), ("neighbours", min)):
            values, form = _column(means, key), "{:.3f}" if key == "ratio" else "{:+.1f}"
            row += [form.format(np.mean(values)), form.format(worst(values))] if values else [None, None]
        rows.append([*row, f"{np.mean([r['seconds'] for r in results]):.2f}"])
    return rows


def training_rows(make_estimator: Callable, tables: Sequence[Table], components: Sequence[int]) -> list[list]:
    """Training error of the estimator over PCA's, unscaled and scaled."""
    rows = []
    for table in tables:
        for scaled in (False, True):
            X = StandardScaler().fit_transform(table.X) if scaled else table.X
            for n_components in (n for n in components if n < X.shape[1]):
                errors = []
                for estimator in (make_estimator(n_components), PCA(n_components, svd_solver="full")):
                    codes = estimator.fit(X).transform(X)
                    errors.append(squared_error(X, estimator.inverse_transform(codes)))
                kind = "scaled" if scaled else "unscaled"
                rows.append([table.name, kind, n_components, *errors, errors[0] / errors[1]])
    return rows


def make_default(n_components: int, **parameters):
    """The estimator whose defaults are measured."""
    return AutoencoderTransformer(n_components, **({"random_state": 0} | parameters))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 splits instead of 5; printed only")
    parser.add_argument("--panel", choices=PANELS, default="main", help="which tables; the two panels are disjoint")
    parser.add_argument("--tables", default="", help="names, comma-separated, of either panel")
    parser.add_argument("--components", default="", help="sizes of the code, comma-separated")
    parser.add_argument("--parameters", default="", help='of AutoencoderTransformer: "key=value, ..."')
    parser.add_argument("--no-peers", action="store_true", help="leave KernelPCA, FastICA and UMAP out")
    parser.add_argument("--unscaled", action="store_true", help="do not standardise")
    parser.add_argument("--training", action="store_true", help="check that training error never ends above PCA's")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--no-write", action="store_true", help="print only")
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args, clock = arguments(), Clock()
    # Pages hold what the defaults do: experiments are only printed.
    write = not (args.no_write or args.quick or args.parameters or args.tables or args.components)
    make = partial(make_default, **parse_parameters(args.parameters))
    components = [int(n) for n in args.components.split(",") if n] or ([2] if args.training else list(COMPONENTS))
    names = [name for name in args.tables.split(",") if name] or (TRAINING if args.training else PANELS[args.panel])
    tables = load(names)
    if args.training:
        rows = training_rows(make, tables, components)
        header = ("table", "scale", "components", "training error", "PCA's", "ratio")
        worst = gate_rows([("training error / PCA's, worst", max(row[-1] for row in rows), "<=", 1 + 1e-6)])
        sections = [("", markdown_table(header, rows)), ("Gate", markdown_table(GATE_HEADER, worst))]
        report("reduction_training", "Training error beside PCA's", sections, clock, write=write)
        return
    n_splits = 2 if args.quick else 5
    options = {"scaled": not args.unscaled, "n_jobs": args.jobs}
    results = evaluate(make, tables, components, n_splits, **options)
    header = ("table", "components", "error / PCA's", "worst split", "logistic", "5-NN", "seconds")
    note = "Error on held-out rows over PCA's; accuracy on the codes minus PCA's, in points; means over the splits."
    sections = [
        ("", note + "\n\n" + markdown_table(header, case_rows(results))),
        ("Gates", markdown_table(GATE_HEADER, gate_rows(gates(results)))),
    ]
    if not args.no_peers:
        header = ("reducer", "error / PCA's", "worst", "logistic", "worst", "5-NN", "worst", "seconds")
        rows = peer_rows(results, tables, components, n_splits, **options)
        sections.insert(1, ("Beside others, over tables", markdown_table(header, rows)))
    name = "_".join(["reduction", *([args.panel] * (args.panel != "main")), *(["unscaled"] * args.unscaled)])
    report(name, "Dimension reduction beside PCA", sections, clock, write=write)


if __name__ == "__main__":
    main()
