"""Protocols of published figures: GAIN's files and error, and not-MIWAE's hidden values."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks._common import markdown_table
from benchmarks._imputation_methods import OWN, OWN_CENSORED
from benchmarks._imputation_page import Gates, Sections, error_table, means
from benchmarks._imputation_tables import MECHANISMS, sizes

GAIN, CENSORED = "GAIN 20", "above mean"
# Root mean squared error after min-max scaling.
GAIN_BOUNDS = {"letter": 0.1134, "spambase": 0.0513}
GAIN_PUBLISHED = {"letter": 0.1198, "spambase": 0.0513}
GAIN_METHODS = (OWN, "mean", "ridge")
CENSORED_SET, CENSORED_BOUND = "wine_red", 2 / 3


def gain_sections(results: Sequence[dict]) -> tuple[Sections, Gates]:
    """Root mean squared errors on GAIN's files, beside its own."""
    mine = [result for result in results if result["mechanism"] == GAIN]
    if not mine:
        return [], []
    rmse, seconds = means(mine, "rmse"), means(mine, "seconds")
    rows = [[method, *_columns(rmse[method], seconds[method])] for method in rmse]
    rows.append(["GAIN, published", *_columns(GAIN_PUBLISHED, {})])
    gates = [
        (f"GAIN's {name}, RMSE after min-max scaling", rmse[OWN][name], "<", bound)
        for name, bound in GAIN_BOUNDS.items()
        if name in rmse.get(OWN, {})
    ]
    note = (
        "Files and error of Yoon et al. (ICML 2018): all rows, columns scaled to [0, 1] by their minimum and maximum, "
        f"20 % missing completely at random, RMSE over the hidden cells; mean over {MECHANISMS[GAIN].n_masks} masks."
    )
    header = ("method", *GAIN_BOUNDS, *(f"{name}, seconds" for name in GAIN_BOUNDS))
    return [("GAIN's files", f"{note}\n\n{markdown_table(header, rows)}")], gates


def _columns(errors: dict[str, float], seconds: dict[str, float]) -> list[str | None]:
    made = [f"{errors[name]:.4f}" if name in errors else None for name in GAIN_BOUNDS]
    return made + [f"{seconds[name]:.1f}" if name in seconds else None for name in GAIN_BOUNDS]


def censored_sections(results: Sequence[dict]) -> tuple[Sections, Gates]:
    """Root mean squared errors where values above the mean are hidden, and skae's over the mean's."""
    mine = [result for result in results if result["mechanism"] == CENSORED]
    if not mine:
        return [], []
    rmse = means(mine, "rmse")
    own, other = (rmse.get(method, {}).get(CENSORED_SET) for method in (OWN_CENSORED, "mean"))
    gates: Gates = []
    if own is not None and other is not None:
        gates.append(
            (f"{CENSORED_SET}, values above the mean hidden, RMSE / mean's", own / other, "<=", CENSORED_BOUND)
        )
    note = (
        "As in Ipsen et al. (not-MIWAE, ICLR 2021): in the first half of the columns each value above the column's "
        "mean is hidden. `skae` fills by its defaults; the method below it also models why cells are missing."
    )
    names = [name for name in sizes() if any(result["set"] == name for result in mine)]
    return [("Values above the mean hidden", f"{note}\n\n{error_table(mine, names)}")], gates
