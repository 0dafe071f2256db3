"""Numbers and names as reports show them."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import EllipsisType
from typing import Any

from recsys.config import AMONG_NEW, is_ranking_metric
from recsys.evaluation.tables import Cell, Table

GAP = "–"
SHOWN_CATEGORIES = 5
SMALLEST_P = 0.001
"""Smaller p-values are told as below it: a test of 9,999 flips knows none below 0.0001."""
_P_COLUMNS = ("p", "p_value", "p_corrected", "Holm", "p with seeds", "Holm with seeds")
_MOST_DECIMALS = 8
_NUMBERS = re.compile(r"[\d\s\[\].,%+×<–-]+")
_METRIC_LABELS = {
    "ndcg": "NDCG",
    "map": "MAP",
    "mrr": "MRR",
    "hit_rate": "Hit rate",
    "intra_list_diversity": "Intra-list diversity",
    "popularity_lift": "Popularity lift",
}


def metric_label(name: str) -> str:
    """How reports name a metric.

    ``ndcg@10`` as "NDCG@10", ``sampled_hit_rate@5`` as "Sampled hit rate@5", ``new_ndcg@10`` as
    "NDCG@10 among new".
    """
    if name.startswith("sampled_"):
        inner = metric_label(name.removeprefix("sampled_"))
        return "Sampled " + (inner if inner[:2].isupper() else inner[:1].lower() + inner[1:])
    if name.startswith(AMONG_NEW) and is_ranking_metric(name):
        return metric_label(name.removeprefix(AMONG_NEW)) + " among new"
    stem, at, k = name.partition("@")
    return _METRIC_LABELS.get(stem, stem.replace("_", " ").capitalize()) + at + k


def decimals(values: Sequence[float]) -> int:
    """How many decimals a column of such values needs: about four figures of the largest.

    More where two values that differ by more than a hundredth would else look alike.
    """
    sizes = sorted({abs(value) for value in values if value})
    largest = max(sizes, default=0.0)
    bounds = ((1000, 0), (100, 1), (10, 2), (1.001, 3), (0.01, 4), (0.001, 6))
    places = next((places for bound, places in bounds if largest >= bound), 7 if sizes else 4)
    while places < _MOST_DECIMALS and _look_alike(sizes, places):
        places += 1
    return places


def _look_alike(sizes: Sequence[float], places: int) -> bool:
    """Whether neighbours of a rising series differ by a hundredth and are shown as one number."""
    return any(
        high > 1.01 * low
        and low >= 0.5 * 10**-places  # smaller ones are shown in powers of ten
        and f"{low:.{places}f}" == f"{high:.{places}f}"
        for low, high in itertools.pairwise(sizes)
    )


def probability(value: float) -> str:
    """A p-value: "<0.001" below that, else with three decimals."""
    return f"<{SMALLEST_P:g}" if value < SMALLEST_P else f"{value:.3f}"


def chance(p_value: float) -> str:
    """A p-value in a sentence: "p = 0.012", or "p < 0.001" below that."""
    text = probability(p_value)
    return f"p < {text[1:]}" if text.startswith("<") else f"p = {text}"


def number(value: float | None, places: int = 4) -> str:
    """A number with so many decimals, in powers of ten where that would show only zeros."""
    if value is None:
        return GAP
    if isinstance(value, int):
        return f"{value:,}"
    if value != 0 and abs(value) < 0.5 * 10**-places:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:,.{places}f}"


def points(value: Cell, places: int = 2) -> str:
    """A difference with its sign; a gap where it is not known."""
    return signed(value, places).replace("-", "−")


def signed(value: Cell, places: int = 2) -> str:
    """The same with a sign that tables take for a number's."""
    if value is None or isinstance(value, str) or math.isnan(value):
        return GAP
    return f"{value:+.{places}f}"


def interval(low: float | None, high: float | None, places: int = 4) -> str:
    """An interval in brackets; a gap where it is not known."""
    if low is None or high is None:
        return GAP
    return f"[{number(low, places)}, {number(high, places)}]"


def moment(text: str) -> str:
    """An ISO 8601 time to the minute, in UTC; other text as it is."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return text
    if when.tzinfo is not None:
        when = when.astimezone(UTC)
    return f"{when:%Y-%m-%d %H:%M} UTC"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, in the two largest units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def memory(megabytes: float) -> str:
    """Mebibytes, gibibytes from 1,024 on."""
    return f"{megabytes / 1024:.1f} GiB" if megabytes >= 1024 else f"{megabytes:.0f} MiB"


def setting_text(value: object) -> str:
    """A setting or fact as YAML would hold it; ``...`` for one that a run does not have."""
    match value:
        case EllipsisType():
            return "not set"
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case list():
            return "[" + ", ".join(setting_text(item) for item in value) + "]"
        case Mapping():
            return "{" + ", ".join(f"{k}: {setting_text(item)}" for k, item in value.items()) + "}"
        case _:
            return str(value)


def environment_facts(environment: Mapping[str, Any]) -> dict[str, Any]:
    """The environment of a process by name, its packages last; the command is none of it."""
    packages = environment.get("packages") or {}
    facts = {
        key.replace("_", " "): value
        for key, value in environment.items()
        if key not in ("packages", "command")
    }
    return facts | {f"package {name}": version for name, version in sorted(packages.items())}


def cells(table: Table, limit: int) -> list[list[str]]:
    """The first rows of a table as text, numbers of a column with the same decimals."""
    columns = []
    for name, values in zip(table.columns, zip(*table.rows, strict=True), strict=False):
        places = decimals([value for value in values if isinstance(value, float)])
        columns.append([_cell(name, value, places) for value in values[:limit]])
    return [list(row) for row in zip(*columns, strict=True)]


def numeric_columns(table: Table) -> list[bool]:
    """Whether each column holds numbers or intervals, which stand to the right."""
    found = []
    for position in range(len(table.columns)):
        values = [row[position] for row in table.rows if row[position] is not None]
        found.append(bool(values) and all(_is_number(value) for value in values))
    return found


def _is_number(value: Cell) -> bool:
    return not isinstance(value, str) or _NUMBERS.fullmatch(value) is not None


def _cell(column: str, value: Cell, places: int) -> str:
    if not isinstance(value, str):
        if isinstance(value, float) and column in _P_COLUMNS:
            return probability(value)
        return number(value, places)
    if column == "metric":
        return metric_label(value)
    if column == "categories":
        parts = value.split("|")
        more = len(parts) - SHOWN_CATEGORIES
        shown = ", ".join(part.strip() for part in parts[:SHOWN_CATEGORIES])
        return f"{shown} (+{more})" if more > 0 else shown
    return value
