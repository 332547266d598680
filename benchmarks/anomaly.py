"""Anomaly detection: AutoencoderOutlierDetector beside PyOD's detectors and published figures.

    python -m benchmarks.anomaly                                # 29 sets, both protocols, 5 seeds, all peers: hours
    python -m benchmarks.anomaly --peers none --seeds 1         # skae alone
    python -m benchmarks.anomaly --sets 6_cardio 44_Wilt --max-rows 3000 --seeds 1
    python -m benchmarks.anomaly --methods KNN LOF              # one part of the run
    python -m benchmarks.anomaly --one-class mnist              # images of one class against the others
    python -m benchmarks.anomaly --cost                         # seconds, by rows and beside PyOD
    python -m benchmarks.anomaly --page                         # the page, from what is stored

Each result is stored in build/benchmarks/anomaly.jsonl, so a run that was stopped goes on where it
was, and can be made in parts. `--again` measures anew what is stored.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks import _anomaly_cost as cost
from benchmarks import _anomaly_images as images
from benchmarks import _anomaly_page as page
from benchmarks._anomaly_methods import IMAGE_METHODS, METHODS, OWN, Setting, available, chosen, measure, warm_up
from benchmarks._anomaly_sets import MAX_ROWS, MIN_ROWS, PROTOCOLS, load, sizes, split
from benchmarks._anomaly_store import Store
from benchmarks._common import GATE_HEADER, gate_rows, markdown_table, report
from benchmarks._compare import known_names


class Spent:
    """The seconds of stored results, where a page asks for those of its run."""

    def __init__(self, results: Sequence[dict]):
        self.results = results

    def seconds(self) -> float:
        """Seconds of all fits and scores."""
        return sum(result.get("fit_seconds", 0.0) + result.get("score_seconds", 0.0) for result in self.results)


def run_sets(args: argparse.Namespace, methods: Sequence[str], names: Sequence[str], store: Store) -> None:
    """Measure each method on each set, smallest sets first, and store the results; what fails is stored as failed."""
    done = set() if args.again else store.keys()
    warm_up(methods)
    for seed in range(args.seeds):
        for name in names:
            known = None
            for protocol in args.protocols:
                keys = [_key(protocol, name, seed, method, args) for method in methods]
                keys = [key for key in keys if tuple(key.values()) not in done]
                if not keys:
                    continue
                known = known or load(name)
                case = split(known.X, known.y, protocol, seed, args.max_rows)
                for key in keys:
                    setting = Setting(protocol, seed, known.X.shape[1], key["parameters"])
                    store.add(key, _measured(key["method"], case, setting))


def _key(protocol: str, name: str, seed: int, method: str, args: argparse.Namespace) -> dict:
    parameters = args.parameters if method == OWN else ""
    key = {"protocol": protocol, "set": name, "seed": seed, "method": method}
    return key | {"max_rows": args.max_rows, "parameters": parameters}


def _measured(method: str, case, setting: Setting) -> dict:
    if method == OWN:
        return measure(method, METHODS[method], case, setting)
    try:
        return measure(method, METHODS[method], case, setting)
    except Exception as error:  # a peer that fails on a set must not end hours of others
        return {"error": f"{type(error).__name__}: {error}"}


def write_page(args: argparse.Namespace, names: Sequence[str], store: Store, write: bool) -> None:
    """Print the tables of what is stored, and write the page."""
    everything = [r for r in store.results() if r["seed"] < args.seeds]
    everything = [r for r in everything if r["parameters"] == (args.parameters if r["method"] == OWN else "")]
    results = [r for r in everything if r["max_rows"] == args.max_rows]
    sections, gates = [], []
    for made, bounds in (
        *(page.protocol_sections(results, protocol, names) for protocol in args.protocols),
        *(images.sections(results, which) for which in images.IMAGES),
        cost.sections([r for r in everything if r["max_rows"] == args.cost_rows]),
    ):
        sections += made
        gates += bounds
    if any(r["protocol"] in args.protocols for r in results):
        sections.insert(0, ("", page.introduction(args.max_rows, names)))
    if gates:
        sections.append(("Gates", markdown_table(GATE_HEADER, gate_rows(gates))))
    report("anomaly", "Anomaly detection", sections, Spent(results), write=write)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", choices=(*PROTOCOLS, "both"), default="both", help="clean or polluted rows")
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="some sets alone; printed only")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds 0 to N − 1")
    parser.add_argument("--max-rows", type=int, metavar="N", help=f"of larger sets, {MAX_ROWS} by default")
    parser.add_argument("--peers", choices=("none", "fast", "all"), default="all")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help=f"instead of --peers: {', '.join(METHODS)}")
    parser.add_argument(
        "--parameters", default="", help='of AutoencoderOutlierDetector: "key=value, ...", printed only'
    )
    parser.add_argument("--again", action="store_true", help="measure anew what is stored")
    parser.add_argument("--one-class", choices=tuple(images.IMAGES), help="images of one class, one seed")
    parser.add_argument("--cost", action="store_true", help="seconds")
    parser.add_argument("--page", action="store_true", help="measure nothing; write the page from what is stored")
    parser.add_argument("--no-write", action="store_true", help="print only")
    args = parser.parse_args()
    if args.max_rows is not None and args.max_rows < MIN_ROWS:
        parser.error(f"--max-rows {args.max_rows}: at least {MIN_ROWS}.")
    args.cost_rows = args.max_rows or max(cost.TRAFFIC_SIZES)
    args.max_rows = args.max_rows or MAX_ROWS
    args.protocols = PROTOCOLS if args.protocol == "both" else (args.protocol,)
    return args


def main() -> None:
    """Run the command."""
    args, store = arguments(), Store()
    names = [name for name in sizes() if not args.sets or name in known_names(args.sets, list(sizes()), "set")]
    if not args.page:
        offered = list(IMAGE_METHODS) if args.one_class else chosen(args.peers)
        methods = available(
            known_names(args.methods, list(IMAGE_METHODS | METHODS), "method") if args.methods else offered
        )
        if args.one_class:
            images.run(args.one_class, methods, 1, args.max_rows, args.parameters, store, args.again)
        elif args.cost:
            cost.run(methods, args.cost_rows, args.parameters, store, args.again)
        else:
            run_sets(args, methods, names, store)
    whole = names == list(sizes()) and args.max_rows == MAX_ROWS and not args.parameters
    write_page(args, names, store, write=args.page and whole and not args.no_write)


if __name__ == "__main__":
    main()
