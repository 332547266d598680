"""The ratios of a full run, kept beside the page, and a later run compared with them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from benchmarks._common import ROOT, markdown_table
from benchmarks._speed_common import Ratio, Section

PATH = ROOT / "docs" / "benchmarks" / "speed.json"


def store(sections: Iterable[Section], path: Path = PATH) -> None:
    """Write the ratios by name; `better` says which way is faster, and only `steady` ones are guarded."""
    ratios = [ratio for section in sections for ratio in section.ratios]
    kept = {r.name: {"value": float(f"{r.value:.4g}"), "better": r.better, "steady": r.steady} for r in ratios}
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def stored(path: Path = PATH) -> dict[str, Ratio]:
    """The guarded ratios of the last full run."""
    if not path.exists():
        raise SystemExit(f"There is no {path.name} to compare with: run `python -m benchmarks.speed` first.")
    kept = json.loads(path.read_text(encoding="utf-8"))
    return {name: Ratio(name, one["value"], one["better"]) for name, one in kept.items() if one["steady"]}


def worsening(before: Ratio, now: Ratio) -> float:
    """By how much a ratio is worse than before, as a share; negative where it is better."""
    slower = now.value / before.value if before.better == "<=" else before.value / max(now.value, 1e-12)
    return slower - 1.0


def worse(before: dict[str, Ratio], now: Iterable[Ratio], tolerance: float) -> list[str]:
    """Names of the ratios that are worse than before by more than the tolerance."""
    return [r.name for r in now if r.name in before and worsening(before[r.name], r) > tolerance]


def better_of(first: Iterable[Ratio], second: Iterable[Ratio]) -> list[Ratio]:
    """Of two measurements of the same ratios, the better of each."""
    again = {ratio.name: ratio for ratio in second}
    pairs = [(ratio, again.get(ratio.name, ratio)) for ratio in first]
    return [min(pair, key=lambda r: r.value if r.better == "<=" else -r.value) for pair in pairs]


def comparison(before: dict[str, Ratio], now: Iterable[Ratio], tolerance: float) -> str:
    """A table of stored and present ratios."""
    present = {ratio.name: ratio for ratio in now}
    rows = []
    for name, ratio in before.items():
        if name in present:
            change = worsening(ratio, present[name])
            held = "yes" if change <= tolerance else "NO"
            rows.append([name, ratio.value, present[name].value, f"{change:+.0%}", held])
        else:
            rows.append([name, ratio.value, None, None, None])
    return markdown_table(("ratio", "stored", "now", "worse by", "held"), rows)
