"""``python -m benchmarks``: run the bars, print the table, write it as Markdown and JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.sides import ROOT, SideError
from benchmarks.sizes import FULL, QUICK, Sizes
from benchmarks.table import Row, markdown

BARS = (
    "training_plain",
    "training_peers",
    "training_softmax",
    "evaluation_speed",
    "evaluation_memory",
    "data_path",
    "second_use",
    "start_up",
    "tracking_overhead",
    "growth",
    "sweep_workers",
)
ON_CUDA = ("training_plain",)


def main() -> None:
    """Run what was asked for; the table is written after every bar."""
    chosen = parse()
    sizes: Sizes = QUICK if chosen.quick else FULL
    lines = describe(sizes.name, chosen.device)
    out = results_path(sizes, chosen.device, chosen.bars)
    rows: list[Row] = []
    for name in chosen.bars:
        started = time.perf_counter()
        rows += run_bar(name, sizes, chosen.device)
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
        write(out, rows, lines)
    print(markdown(rows, lines))
    print(f"written to {out}.md and {out}.json")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("bars", nargs="*", default=list(BARS), help=f"of {', '.join(BARS)}")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try it out")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    chosen = parser.parse_args()
    unknown = set(chosen.bars) - set(BARS)
    if unknown:
        parser.error(f"no bar is called {', '.join(sorted(unknown))}")
    return chosen


def run_bar(name: str, sizes: Sizes, device: str) -> list[Row]:
    """The rows of one bar; a side that fails is a row that says so, not the end of the rest."""
    if device != "cpu" and name not in ON_CUDA:
        return []
    try:
        rows: list[Row] = importlib.import_module(f"benchmarks.bars.{name}").measure(sizes, device)
    except SideError as error:
        return [Row(name, None, note=f"Not measured: {error}")]
    return rows


def results_path(sizes: Sizes, device: str, bars: Sequence[str]) -> Path:
    """Where results go, without suffix: beside this module only where all was run in full."""
    name = "results" if device == "cpu" else f"results-{device}"
    if sizes is FULL and tuple(bars) == BARS:
        return ROOT / "benchmarks" / name
    return sizes.folder / name


def write(out: Path, rows: Sequence[Row], lines: Sequence[str]) -> None:
    """The table as Markdown, and everything as JSON."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".md").write_text(markdown(rows, lines), encoding="utf-8")
    content = {"machine": list(lines), "rows": [row.to_json() for row in rows]}
    out.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
