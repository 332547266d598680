"""Tables and gates of the labelled sets, from stored results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from benchmarks._anomaly_methods import OCSVM_ROWS, OWN
from benchmarks._anomaly_sets import MAX_ROWS, MIN_ROWS, SAME_ORIGIN, published, sizes
from benchmarks._common import markdown_table
from benchmarks._compare import Values, complete, mean_of, mean_ranks

HEADINGS = {"semi": "Clean training rows (semi)", "unsup": "Polluted training rows (unsup)"}
MEAN_BOUND = {"semi": 0.85, "unsup": 0.795}
N_PUBLISHED = 8
CHECKED_TOLERANCE = 0.01


def seeds_of(results: Iterable[dict]) -> dict[str, int]:
    """By method, the number of seeds."""
    made: dict[str, set] = {}
    for result in results:
        made.setdefault(result["method"], set()).add(result["seed"])
    return {name: len(seeds) for name, seeds in made.items()}


def means(results: Iterable[dict], measure: str) -> Values:
    """By method and set, the mean over the seeds of a measure; "seconds" is those of fit and score."""
    groups: dict[str, dict[str, list]] = {}
    for result in results:
        if "auroc" in result:
            seconds = result["fit_seconds"] + result["score_seconds"]
            value = seconds if measure == "seconds" else result[measure]
            groups.setdefault(result["method"], {}).setdefault(result["set"], []).append(value)
    return {name: {key: float(np.mean(members)) for key, members in by_set.items()} for name, by_set in groups.items()}


def origin_mean(by_set: dict[str, float]) -> float:
    """Mean over the sets; those of one origin count as one, by their mean."""
    left = dict(by_set)
    values = []
    for group in SAME_ORIGIN:
        members = [left.pop(name) for name in group if name in left]
        values += [float(np.mean(members))] if members else []
    return float(np.mean(values + list(left.values())))


def printed(protocol: str, names: Sequence[str]) -> Values:
    """Published AUROC by "name, published" and set."""
    by_set = published(protocol)
    return {f"{name}, published": {key: by_set[key][name] for key in names} for name in by_set[names[0]]}


def summary(results: Sequence[dict], protocol: str, names: Sequence[str]) -> str:
    """A row for each method that has every set, and for the best of the published ones."""
    auroc, ap = (complete(means(results, measure), names) for measure in ("auroc", "ap"))
    seconds, seeds = means(results, "seconds"), seeds_of(results)
    others = printed(protocol, names)
    ranks, ap_ranks, all_ranks = (mean_ranks(values, names) for values in (auroc, ap, auroc | others))
    rows = []
    for method in sorted(auroc, key=lambda name: -mean_of(auroc[name])):
        row = [
            method,
            f"{mean_of(auroc[method]):.4f}",
            f"{origin_mean(auroc[method]):.4f}",
            f"{mean_of(ap[method]):.4f}",
        ]
        row += [f"{table[method]:.2f}" for table in (ranks, ap_ranks, all_ranks)]
        rows.append([*row, f"{mean_of(complete(seconds, names)[method]):.2f}", seeds[method]])
    for method in sorted(others, key=lambda name: -mean_of(others[name]))[:N_PUBLISHED]:
        row = [method, f"{mean_of(others[method]):.4f}", f"{origin_mean(others[method]):.4f}", None, None, None]
        rows.append([*row, f"{all_ranks[method]:.2f}", None, 5])
    header = ("method", "AUROC", "by origin", "AP", "rank, AUROC", "rank, AP", "rank, all", "seconds", "seeds")
    partial = [f"{name} ({len(by_set)})" for name, by_set in means(results, "auroc").items() if name not in auroc]
    note = f"Not all sets yet, left out: {', '.join(partial)}.\n\n" if partial else ""
    return note + markdown_table(header, rows)


def best(values: Values, name: str) -> tuple[str | None, float | None]:
    """The method with the largest value on a set, and that value."""
    found = [(by_set[name], method) for method, by_set in values.items() if name in by_set]
    if not found:
        return None, None
    value, method = max(found)
    return method, value


def by_set(results: Sequence[dict], protocol: str, names: Sequence[str]) -> str:
    """A row for each set: skae, the peers with the largest means, the best peer and the best published method."""
    auroc, ap = means(results, "auroc"), means(results, "ap")
    peers = {name: values for name, values in auroc.items() if name != OWN}
    shown = sorted(complete(peers, names), key=lambda name: -mean_of(peers[name]))[:2]
    others = {name.removesuffix(", published"): values for name, values in printed(protocol, names).items()}
    rows = []
    for name in names:
        row = [name, *sizes()[name], auroc.get(OWN, {}).get(name), ap.get(OWN, {}).get(name)]
        row += [peers[peer].get(name) for peer in shown]
        (peer, value), (other, figure) = best(peers, name), best(others, name)
        row += [value, peer, figure, other]
        rows.append([f"{part:.4f}" if isinstance(part, float) else part for part in row])
    header = ["set", "rows", "columns", OWN, f"{OWN}, AP", *shown, "best peer", "which", "best published", "which"]
    return "AUROC unless it says AP.\n\n" + markdown_table(header, rows)


def check(results: Sequence[dict], protocol: str, names: Sequence[str]) -> tuple[str, list]:
    """The peers beside their own published figures; a gate where rows and scores are the same whatever the seed."""
    auroc, figures = means(results, "auroc"), published(protocol)
    uncut = all(result["max_rows"] == MAX_ROWS for result in results)
    rows, gates = [], []
    for method in sorted(auroc):
        shared = [name for name in names if name in auroc[method] and method in figures[name]]
        if not shared:
            continue
        away = {name: abs(auroc[method][name] - figures[name][method]) for name in shared}
        far = [name for name in shared if away[name] > CHECKED_TOLERANCE]
        rows.append([method, len(shared), f"{mean_of(away):.4f}", len(shared) - len(far), ", ".join(far) or None])
        settled = [away[name] for name in shared if MIN_ROWS <= sizes()[name][0] <= MAX_ROWS]
        if method == "KNN" and protocol == "semi" and settled and uncut:
            what = f"semi, KNN and its published AUROC, sets of {MIN_ROWS} to {MAX_ROWS} rows, largest difference"
            gates.append((what, max(settled), "<=", CHECKED_TOLERANCE))
    header = ("method", "sets", "mean difference", f"within {CHECKED_TOLERANCE:g}", "further away")
    return markdown_table(header, rows), gates


def gates(results: Sequence[dict], protocol: str, names: Sequence[str]) -> list[tuple[str, float, str, float]]:
    """What skae must hold on the labelled sets."""
    made = []
    for measure in ("auroc", "ap"):
        values = complete(means(results, measure), names)
        if OWN not in values:
            return []
        if measure == "auroc":
            made.append((f"{protocol}, mean AUROC", mean_of(values[OWN]), ">=", MEAN_BOUND[protocol]))
        ranks = mean_ranks(values, names)
        place = 1 + sum(rank < ranks[OWN] for rank in ranks.values())
        made.append((f"{protocol}, place by mean rank of {measure.upper()}, of {len(ranks)}", place, "<=", 1))
    return made


def introduction(max_rows: int, names: Sequence[str]) -> str:
    """What was measured."""
    return (
        f"{len(names)} sets of ADBench, split as by Livernoche et al. (ICLR 2024): sets of fewer than {MIN_ROWS} rows "
        f"are resampled to {MIN_ROWS}, of larger ones {max_rows} rows are taken. With clean training rows, half of the "
        "normal rows train, and the other half and all anomalies are the test; with polluted ones, a bootstrap of all "
        "rows trains and all rows are the test. Columns are standardised. Mean over sets of AUROC and average "
        "precision (AP), each the mean over the seeds; mean rank among the methods run here, and, of AUROC, also "
        'among those and the 26 published ones; seconds of fit and score. "By origin": '
        f"{' and '.join('/'.join(group) for group in SAME_ORIGIN)} count as one each.\n\n"
        "Peers are PyOD's, with its defaults and the seed: also what fit takes to score its own training rows. "
        "Distances of KNN are to the 5th neighbour with clean and to the 32nd with polluted training rows, as in the "
        f"published figures; OCSVM trains on at most {OCSVM_ROWS} rows. Published methods: the best "
        f"{N_PUBLISHED} by mean AUROC are listed, all 26 are ranked."
    )


def protocol_sections(results: Sequence[dict], protocol: str, names: Sequence[str]) -> tuple[list, list]:
    """Sections (heading, body) and gates of one protocol."""
    own = [result for result in results if result["protocol"] == protocol and result["set"] in names]
    if not own:
        return [], []
    checked, check_gates = check(own, protocol, names)
    sections = [
        (HEADINGS[protocol], summary(own, protocol, names)),
        (f"{HEADINGS[protocol]}: sets", by_set(own, protocol, names)),
        (f"{HEADINGS[protocol]}: peers beside their published AUROC", checked),
    ]
    return sections, [*gates(own, protocol, names), *check_gates]
