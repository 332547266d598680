"""Tables and gates of the numeric tables, from stored results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from benchmarks._common import markdown_table
from benchmarks._compare import Values, complete, mean_of, mean_ranks
from benchmarks._imputation_methods import COVERAGE, METHODS, N_TREES, OWN, is_own
from benchmarks._imputation_tables import MECHANISMS, PANEL, sizes

HEADINGS = {
    "MCAR 50": "50 % missing completely at random",
    "MCAR 20": "20 % missing completely at random",
    "MAR 30": "Missing at random",
    "MNAR 30": "Missing not at random",
}
RANKED = ("MCAR 50", "MCAR 20")
BETTER_SHARE = 2 / 3
COVERAGE_BOUNDS = (0.85, 0.95)
# Mean squared error with 50 % missing completely at random.
MSE_BOUNDS = {"breast_cancer": 0.290, "wine_red": 0.645, "concrete": 0.70, "yeast": 0.97}
PUBLISHED = {
    "MIWAE, published": {"breast_cancer": 0.280, "wine_red": 0.643, "concrete": 0.501, "yeast": 0.964},
    "missForest, published": {"breast_cancer": 0.291, "wine_red": 0.697, "concrete": 0.510, "yeast": 1.41},
}

Gates = list[tuple[str, float, str, float]]
Sections = list[tuple[str, str]]


def means(results: Iterable[dict], measure: str, order: Iterable[str] = METHODS) -> Values:
    """By method, in this order, and table, the mean over the masks of a measure."""
    groups: dict[str, dict[str, list]] = {}
    for result in results:
        if measure in result:
            groups.setdefault(result["method"], {}).setdefault(result["set"], []).append(result[measure])
    return {
        method: {name: float(np.mean(groups[method][name])) for name in groups[method]}
        for method in order
        if method in groups
    }


def best_peer(values: Values, name: str) -> tuple[float | None, str | None]:
    """The smallest error of a peer on a table, and whose it is."""
    found = [(by_set[name], method) for method, by_set in values.items() if name in by_set and not is_own(method)]
    return min(found, default=(None, None))


def ratios(values: Values, names: Sequence[str]) -> dict[str, float]:
    """skae's error over the best peer's, by table."""
    own = values.get(OWN, {})
    bests = {name: best_peer(values, name)[0] for name in names}
    # Two errors of nothing, as of a table of constant columns, are equal ones.
    return {
        name: own[name] / bests[name] if bests[name] else 1.0
        for name in names
        if name in own and bests[name] is not None
    }


def _decimals(value, digits: int = 4) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


def error_table(results: Sequence[dict], names: Sequence[str]) -> str:
    """A row for each table: RMSE by method, the best peer, and skae's error over it; then means, ranks and seconds."""
    rmse, seconds = means(results, "rmse"), means(results, "seconds")
    over = ratios(rmse, names)
    rows = []
    for name in names:
        row = [name, *sizes()[name], *(_decimals(by_set.get(name)) for by_set in rmse.values())]
        rows.append([*row, best_peer(rmse, name)[1], _decimals(over.get(name), 3)])
    whole = complete(rmse, names)
    ranks = mean_ranks(whole, names, largest=False)
    middle = float(np.exp(np.mean(np.log(list(over.values()))))) if len(over) == len(names) else None
    lines = (
        ("mean", {method: mean_of(whole[method]) for method in whole}, 4, middle),
        ("mean rank", ranks, 2, None),
        ("seconds, all tables", {method: sum(seconds[method].values()) for method in whole}, 1, None),
    )
    for what, by_method, digits, last in lines:
        shown = [_decimals(by_method.get(method), digits) for method in rmse]
        rows.append([what, None, None, *shown, None, _decimals(last, 3)])
    return markdown_table(("table", "rows", "columns", *rmse, "best peer", f"{OWN} / best peer"), rows)


def rank_gates(results: Sequence[dict], mechanism: str, names: Sequence[str]) -> Gates:
    """skae's place by mean rank, and the share of tables on which it is better than the best peer."""
    rmse = means(results, "rmse")
    whole, over = complete(rmse, names), ratios(rmse, names)
    if OWN not in whole or mechanism not in RANKED or len(whole) < 2:
        return []
    ranks = mean_ranks(whole, names, largest=False)
    place = 1 + sum(rank < ranks[OWN] for rank in ranks.values())
    better = float(np.mean([ratio < 1 for ratio in over.values()]))
    return [
        (f"{mechanism}, place by mean rank, of {len(ranks)}", place, "<=", 1),
        (f"{mechanism}, share of the {len(names)} tables better than the best peer", better, ">=", BETTER_SHARE),
    ]


def published_section(results: Sequence[dict]) -> tuple[Sections, Gates]:
    """Mean squared errors at 50 % beside published ones."""
    mse = means([result for result in results if result["mechanism"] == "MCAR 50"], "mse")
    known = mse | PUBLISHED
    rows = [[method, *(_decimals(known[method].get(name), 3) for name in MSE_BOUNDS)] for method in known]
    gates = [
        (f"MCAR 50, {name}, mean squared error", mse[OWN][name], "<=", bound)
        for name, bound in MSE_BOUNDS.items()
        if name in mse.get(OWN, {})
    ]
    note = "Mean squared error, 50 % missing completely at random; published figures have masks of their own."
    return [("Beside published figures", f"{note}\n\n{markdown_table(('method', *MSE_BOUNDS), rows)}")], gates


def coverage_section(results: Sequence[dict]) -> tuple[Sections, Gates]:
    """Share of hidden cells in skae's intervals, all tables together, by mechanism."""
    own = [result for result in results if result["method"] == OWN and "covered" in result]
    rows, gates = [], []
    for mechanism in (name for name in PANEL if any(result["mechanism"] == name for result in own)):
        mine = [result for result in own if result["mechanism"] == mechanism]
        together = float(np.average([r["covered"] for r in mine], weights=[r["n_hidden"] for r in mine]))
        by_table = means(mine, "covered")[OWN]
        low, high = (pick(by_table, key=by_table.get) for pick in (min, max))
        extremes = [f"{by_table[name]:.3f} ({name})" for name in (low, high)]
        rows.append([HEADINGS[mechanism], f"{together:.3f}", f"{mean_of(by_table):.3f}", *extremes])
        if mechanism in RANKED:
            what = f"{mechanism}, hidden cells in their {COVERAGE:.0%} interval"
            gates += [(what, together, sign, bound) for sign, bound in zip((">=", "<="), COVERAGE_BOUNDS, strict=True)]
    if not rows:
        return [], []
    header = ("mechanism", "all cells together", "mean of tables", "least", "most")
    return [(f"Coverage of {COVERAGE:.0%} intervals", markdown_table(header, rows))], gates


def introduction(max_rows: int, results: Sequence[dict]) -> str:
    """What was measured, and with how many threads."""
    threads = sorted({str(result["threads"]) for result in results if "threads" in result})
    masks = ", ".join(f"{name}: {MECHANISMS[name].n_masks}" for name in PANEL)
    return (
        f"{len(sizes())} complete numeric tables without their targets, of larger ones {max_rows} rows, standardised; "
        "then cells are hidden, and the same rows are fitted and filled. Root mean squared error (RMSE) over the "
        f"hidden cells, mean over the masks ({masks}). Missing at random: half of the columns stay complete and decide "
        "by a logistic model about 30 % of the others' cells. Missing not at random: a logistic model of the value "
        "itself, 30 % of all cells. kin8nm's columns are independent: nothing can do better than the mean there.\n\n"
        f"Peers are scikit-learn's: `SimpleImputer`, `KNNImputer` (5 neighbours), `IterativeImputer` with its default "
        f"(ridge) and with `ExtraTreesRegressor` of {N_TREES} trees, and of 100 on small tables alone. Ranks are among "
        "the methods that have every table; the best peer is the best of all, and its mean ratio is the geometric one. "
        f"Seconds here and of tables with categories are of fits with so many torch threads: {', '.join(threads)}. "
        "Runs may have been made beside each other, so that only those under the last table of seconds and memory are "
        "of a machine with nothing else to do."
    )


def sections(results: Sequence[dict], names: Sequence[str]) -> tuple[Sections, Gates]:
    """Sections (heading, body) and gates of the panel."""
    own = [result for result in results if result["mechanism"] in PANEL and result["set"] in names]
    made, gates = [], []
    for mechanism in PANEL:
        mine = [result for result in own if result["mechanism"] == mechanism]
        if mine:
            made.append((HEADINGS[mechanism], error_table(mine, names)))
            gates += rank_gates(mine, mechanism, names)
    for part, bounds in (published_section(own), coverage_section(own)) if own else ():
        made += part
        gates += bounds
    return made, gates
