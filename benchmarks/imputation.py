"""Filling gaps: AutoencoderImputer beside scikit-learn's imputers and published figures.

    python -m benchmarks.imputation                                # 18 tables, four mechanisms, all peers: hours
    python -m benchmarks.imputation --methods skae                 # skae alone
    python -m benchmarks.imputation --mechanisms "MCAR 50" --sets wine_red yeast --masks 1
    python -m benchmarks.imputation --gain                         # the files and the error of GAIN
    python -m benchmarks.imputation --mnar                         # values above the mean are hidden
    python -m benchmarks.imputation --mixed                        # numbers and categories, with gaps of their own
    python -m benchmarks.imputation --downstream                   # accuracy of classifiers that follow
    python -m benchmarks.imputation --cost                         # seconds and memory; with nothing else running
    python -m benchmarks.imputation --page                         # the page, from what is stored

Each result is stored in build/benchmarks/imputation.jsonl, so a run that was stopped goes on where it
was, and can be made in parts. `--again` measures anew what is stored.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import _imputation_cost as cost
from benchmarks import _imputation_downstream as downstream
from benchmarks import _imputation_mixed as mixed
from benchmarks import _imputation_page as page
from benchmarks._common import GATE_HEADER, gate_rows, markdown_table, report
from benchmarks._compare import known_names
from benchmarks._imputation_frame_methods import FRAME_METHODS
from benchmarks._imputation_frames import FILES
from benchmarks._imputation_methods import METHODS, OWN_CENSORED, Setting, attempt, available, is_own, measure
from benchmarks._imputation_protocols import CENSORED, GAIN, GAIN_BOUNDS, GAIN_METHODS, censored_sections, gain_sections
from benchmarks._imputation_store import PATH, Store
from benchmarks._imputation_tables import MAX_ROWS, MECHANISMS, PANEL, case, sizes


class Spent:
    """The seconds of stored results, where a page asks for those of its run."""

    def __init__(self, results: Sequence[dict]):
        self.results = results

    def seconds(self) -> float:
        """Seconds of all that was fitted."""
        return sum(result.get("seconds", 0.0) for result in self.results)


class Part(NamedTuple):
    """A part of the benchmark: its tables and methods, keys of results, how one is measured, known methods."""

    names: Sequence[str]
    methods: Sequence[str]
    keys: Callable[[Sequence[str], Sequence[str], argparse.Namespace], Iterator[dict]]
    measured: Callable[[dict], dict]
    known: Sequence[str] = tuple(METHODS)


def numeric_keys(names: Sequence[str], methods: Sequence[str], args: argparse.Namespace) -> Iterator[dict]:
    """Keys of numeric tables, in the order in which they are measured; GAIN's files have all their rows."""
    for mechanism in [GAIN] if args.part == "gain" else [CENSORED] if args.part == "mnar" else args.mechanisms:
        for name in names:
            for seed in range(min(args.masks, MECHANISMS[mechanism].n_masks)):
                for method in methods:
                    if METHODS[method].runs_on(sizes()[name]):
                        key = {"mechanism": mechanism, "set": name, "seed": seed, "method": method}
                        key["max_rows"] = None if mechanism == GAIN else args.max_rows
                        yield key | {"parameters": args.parameters * is_own(method)}


def numeric_measured(key: dict) -> dict:
    """The result of a key of a numeric table."""
    hidden = case(key["set"], key["mechanism"], key["seed"], key["max_rows"])
    return attempt(measure, key["method"], hidden, Setting(key["seed"], key["parameters"]))


def part(name: str) -> Part:
    """A part by its name."""
    if name == "mixed":
        return Part(list(FILES), list(FRAME_METHODS), mixed.keys, mixed.measured, list(FRAME_METHODS))
    if name == "downstream":
        return Part(list(downstream.TABLES), downstream.DOWNSTREAM_METHODS, downstream.keys, downstream.measured)
    if name == "cost":
        return Part(list(cost.SHAPES), cost.COST_METHODS, cost.keys, cost.measured, cost.COST_METHODS)
    if name == "gain":
        return Part(list(GAIN_BOUNDS), GAIN_METHODS, numeric_keys, numeric_measured)
    methods = [method for method in METHODS if name == "mnar" or method != OWN_CENSORED]
    return Part(list(sizes()), methods, numeric_keys, numeric_measured)


def run(args: argparse.Namespace, store: Store) -> None:
    """Measure what is not stored yet, or all again."""
    chosen = part(args.part)
    wanted = known_names(args.sets or chosen.names, chosen.names, "table")
    names = [name for name in chosen.names if name in wanted]
    methods = available(known_names(args.methods or chosen.methods, chosen.known, "method"))
    done = set() if args.again else store.keys()
    for key in chosen.keys(names, methods, args):
        if tuple(key.values()) not in done:
            store.add(key, chosen.measured(key))


def write_page(args: argparse.Namespace, store: Store) -> None:
    """Print the tables of what is stored, and with ``--page`` write the page."""
    names = [name for name in sizes() if args.part != "panel" or name in (args.sets or sizes())]
    results = [r for r in store.results() if r["parameters"] == args.parameters * is_own(r["method"])]
    results = [r for r in results if r["max_rows"] in (args.max_rows, None) and r["seed"] < args.masks]
    made_by = (gain_sections, censored_sections, mixed.sections, downstream.sections, cost.sections)
    filled = [result for result in results if result["mechanism"] != cost.COST]
    sections, gates = [("", page.introduction(args.max_rows, filled))], []
    for made, bounds in (page.sections(results, names), *(make(results) for make in made_by)):
        sections += made
        gates += bounds
    if gates:
        sections.append(("Gates", markdown_table(GATE_HEADER, gate_rows(gates))))
    whole = args.page and not args.sets and args.max_rows == MAX_ROWS and not args.parameters
    report("imputation", "Imputation", sections, Spent(results), write=whole and not args.no_write)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="some tables alone; printed only")
    parser.add_argument("--mechanisms", nargs="+", choices=PANEL, default=PANEL, metavar="NAME", help=", ".join(PANEL))
    parser.add_argument("--masks", type=int, default=3, metavar="N", help="masks 0 to N − 1")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help=f"of {', '.join(METHODS)}")
    parser.add_argument("--max-rows", type=int, default=MAX_ROWS, metavar="N", help="of larger numeric tables")
    parser.add_argument("--parameters", default="", help='of AutoencoderImputer: "key=value, ...", printed only')
    parser.add_argument("--again", action="store_true", help="measure anew what is stored")
    which = parser.add_mutually_exclusive_group()
    for name, what in {
        "gain": "GAIN's files and error",
        "mnar": "values above the mean are hidden",
        "mixed": "numbers and categories",
        "downstream": "accuracy of classifiers that follow",
        "cost": "seconds and memory",
    }.items():
        which.add_argument(f"--{name}", dest="part", action="store_const", const=name, help=what)
    parser.add_argument("--page", action="store_true", help="measure nothing; write the page from what is stored")
    parser.add_argument("--no-write", action="store_true", help="print only")
    parser.add_argument("--store", type=Path, default=PATH, metavar="PATH", help="the file of results")
    parser.set_defaults(part="panel")
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = arguments()
    store = Store(args.store)
    if not args.page:
        run(args, store)
    write_page(args, store)


if __name__ == "__main__":
    main()
