"""Seconds: training, time to quality, transform, grid search, on the CPU and on a GPU.

    python -m benchmarks.speed                  # about 15 minutes
    python -m benchmarks.speed --quick          # fewer repeats, a few minutes
    python -m benchmarks.speed --only steps latency
    python -m benchmarks.speed --guard          # the quick form against docs/benchmarks/speed.json

A training step is the difference between a long and a short fit over the difference of their steps,
so that nothing counts but steps. All libraries train the same network (relu, Adam, float32, no
dropout, no normalisation) in turn, again and again; a ratio is the median over these rounds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import torch

from benchmarks import _speed_guard as guard
from benchmarks._common import GATE_HEADER, Clock, gate_rows, markdown_table, report
from benchmarks._speed_common import Effort, Section, gates_of
from benchmarks._speed_gpu import gpu_section
from benchmarks._speed_quality import quality_section
from benchmarks._speed_search import search_section
from benchmarks._speed_shapes import shapes_section
from benchmarks._speed_steps import steps_section
from benchmarks._speed_transform import latency_section, transform_section

SECTIONS: dict[str, Callable[[Effort], Section]] = {
    "steps": steps_section,
    "quality": quality_section,
    "transform": transform_section,
    "latency": latency_section,
    "search": search_section,
    "shapes": shapes_section,
    "gpu": gpu_section,
}
# The ratios of the others depend on how long they run.
GUARDED = ("steps", "transform", "latency", "shapes", "gpu")
QUICK_ROUNDS, ROUNDS, FULL_ROUNDS = 3, 11, 31


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats and rows")
    parser.add_argument("--full", action="store_true", help="more repeats")
    parser.add_argument("--threads", type=int, help="torch's threads")
    parser.add_argument("--only", choices=SECTIONS, nargs="+", default=list(SECTIONS), help="some parts alone")
    parser.add_argument("--no-write", action="store_true", help="print only")
    parser.add_argument("--guard", action="store_true", help="compare the quick form with the stored ratios")
    parser.add_argument("--tolerance", type=float, default=0.25, help="how much worse a guarded ratio may be")
    return parser.parse_args()


def run_guard(names: Sequence[str], tolerance: float) -> int:
    """Compare with the stored ratios; a part in which one is worse is measured twice. Returns the exit status."""
    before, effort, now = guard.stored(), Effort(True, QUICK_ROUNDS), []
    for name in (name for name in GUARDED if name in names):
        ratios = SECTIONS[name](effort).ratios
        if guard.worse(before, ratios, tolerance):
            ratios = guard.better_of(ratios, SECTIONS[name](effort).ratios)
        now += ratios
    print(guard.comparison(before, now, tolerance))
    return bool(guard.worse(before, now, tolerance))


def main() -> None:
    """Run the command."""
    args, clock = arguments(), Clock()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.guard:
        raise SystemExit(run_guard(args.only, args.tolerance))
    effort = Effort(args.quick, QUICK_ROUNDS if args.quick else FULL_ROUNDS if args.full else ROUNDS)
    sections = [SECTIONS[name](effort) for name in args.only]
    gates = markdown_table(GATE_HEADER, gate_rows(gates_of(sections)))
    pages = [(section.heading, section.body) for section in sections]
    write = not (args.no_write or args.quick or list(args.only) != list(SECTIONS))
    report("speed", "Speed", [*pages, ("Gates", gates)], clock, write=write)
    if write:
        guard.store(sections)


if __name__ == "__main__":
    main()
