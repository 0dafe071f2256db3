"""Runs as a terminal shows them; imports no torch, so that a list is there at once."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from recsys.reporting.formatting import GAP, metric_label
from recsys.reporting.record import plain
from tracking.run_list import Measured, RunRow

_SHORT = 8  # characters of an id and of a fingerprint
_SCANT, _WIDE, _PIPED = 70, 120, 160  # columns of a terminal


def print_runs(
    rows: Sequence[RunRow], *, sort: str, limit: int, console: Console | None = None
) -> None:
    """Print runs as a table; a narrow terminal gets two lines a run."""
    console = console or usual_console()
    if not rows:
        console.print("no such run")
        return
    metrics = list(dict.fromkeys(["ndcg@10", "recall@10", *([] if sort == "date" else [sort])]))
    is_narrow = console.width < _WIDE
    records = [_cells(row, metrics, is_narrow) for row in rows]
    if all(row.kind == "run" for row in rows):
        records = [{k: v for k, v in record.items() if k != "kind"} for record in records]
    if console.width < _SCANT:  # the name and the id before all else
        shown = {"run", *map(_head, metrics)}
        records = [{k: v for k, v in record.items() if k in shown} for record in records]
    grid = Grid(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for name in records[0]:
        is_text = name in ("run", "name", "model")
        is_number = name == "dims" or name in {_head(metric) for metric in metrics}
        justify: Literal["left", "right"] = "right" if is_number else "left"
        grid.add_column(name, no_wrap=not is_text, overflow="fold", justify=justify)
    for record in records:
        grid.add_row(*record.values())
    console.print(grid)
    console.print()
    notes = []
    if any((found := row.measured("ndcg@10")) and found.split == "validation" for row in rows):
        notes.append("v: on validation, where there is no test value")
    if len(rows) == limit:
        notes.append(f"the first {limit}; --limit shows more")
    if notes:
        console.print("; ".join(notes), style="dim", highlight=False)


def _cells(row: RunRow, metrics: Sequence[str], is_narrow: bool) -> dict[str, str]:
    """What a row shows, by column; where it is narrow, things that belong together are stacked."""
    name, run_id, model = escape(row.name), row.run_id[:_SHORT], escape(row.model or GAP)
    data = GAP if row.fingerprint is None else row.fingerprint.removeprefix("sha256:")[:_SHORT]
    dims, day, hour = row.embedding_dim or GAP, f"{row.created:%Y-%m-%d}", f"{row.created:%H:%M}"
    if is_narrow:
        facts = {"run": f"{name}\n{run_id}", "kind": row.kind}
        facts |= {"status, data": f"{row.status}\n{data}", "start, UTC": f"{day}\n{hour}"}
        facts |= {"model": f"{model}\n{dims} dims"}
    else:
        facts = {"name": name, "id": run_id, "kind": row.kind, "status": row.status}
        facts |= {"start, UTC": f"{day} {hour}", "data": data, "model": model, "dims": dims}
    gap = "\n" if is_narrow else " "
    values = {
        _head(metric): _measured(row.measured(metric), gap if index == 0 else None)
        for index, metric in enumerate(metrics)
    }
    return facts | values


def runs_json(rows: Sequence[RunRow]) -> str:
    """Runs as a JSON list, metrics by MLflow's key."""
    values = [dataclasses.asdict(row) | {"created": row.created.isoformat()} for row in rows]
    return json.dumps(plain(values), indent=2, ensure_ascii=False, allow_nan=False)


def usual_console() -> Console:
    """Standard output; what is piped elsewhere is not folded to a terminal's width."""
    console = Console()
    return console if console.is_terminal else Console(width=_PIPED)


def _head(metric: str) -> str:
    return metric_label(metric) if "/" not in metric else metric


def _measured(found: Measured | None, gap: str | None) -> str:
    """A metric, its interval after the gap."""
    if found is None:
        return GAP
    text = f"{found.value:.4f}" if abs(found.value) < 100 else f"{found.value:,.0f}"
    if found.split == "validation":
        text += " v"
    if gap is not None and found.low is not None and found.high is not None:
        text += f"{gap}\\[{found.low:.3f}, {found.high:.3f}]"
    return text
