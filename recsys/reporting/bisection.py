"""Which of settings, data and code made the difference between two runs: value and report."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from recsys.evaluation.attribution import N_SAMPLES, Share, attribute, shapley_weights
from recsys.evaluation.tables import Table
from recsys.reporting.charts import difference_chart
from recsys.reporting.document import Callout, Figure, KeyFigure, Report, Section
from recsys.reporting.document import Text as Paragraph
from recsys.reporting.formatting import metric_label, number, points, setting_text, signed
from recsys.reporting.pages import write_report_files
from recsys.reporting.record import Value, plain, write_json, write_tables
from recsys.reporting.sections import figures_of, views_of

FORMAT = 1
WHOLE = "all"


class Differing(NamedTuple):
    """A setting that differs: its values in the old run and the new one, and what it is part of."""

    name: str
    old: Any
    new: Any
    factor: str


@dataclass(frozen=True, eq=False)
class CrossedRun:
    """A cell of the factorial.

    Attributes:
        levels: "old" or "new" by factor.
        run_name: of the run on the first seed.
        is_given: whether that is one of the two runs.
        values: the metric by user id, of each seed.
    """

    levels: dict[str, str]
    run_name: str
    is_given: bool
    values: Sequence[pd.Series]

    @property
    def mean_values(self) -> pd.Series:
        """The metric by user id, mean over the seeds."""
        if len(self.values) == 1:
            return self.values[0]
        return pd.concat(self.values, axis=1).mean(axis=1)


@dataclass(frozen=True)
class Step:
    """A step of narrowing down: the first of the differing settings are new, the others old.

    Attributes:
        low: so many were new before the step that is looked at.
        high: so many are new after it.
        share: what is gained between them.
    """

    low: int
    high: int
    share: Share


@dataclass(frozen=True, eq=False)
class Bisection:
    """What was found.

    Attributes:
        name: of the bisection.
        old: name of the first run.
        new: name of the second.
        metric: such as "ndcg@10".
        factors: in what the runs differ.
        cells: a run for each choice of the factors that are new, numbered by bits, the first is
            the old run and the last the new one.
        differing: settings that differ.
        notices: what must be known before the numbers.
        confidence: level of the intervals.
        same_test: whether all were judged by the test of the new run.
        steps: of narrowing down, the last one holds the setting; empty where it was not asked for.
    """

    name: str
    old: str
    new: str
    metric: str
    factors: tuple[str, ...]
    cells: tuple[CrossedRun, ...]
    differing: tuple[Differing, ...]
    notices: tuple[str, ...]
    confidence: float
    same_test: bool = False
    steps: tuple[Step, ...] = ()

    @cached_property
    def attributed(self) -> tuple[list[Share], Share]:
        """The share of each factor, and the whole difference."""
        return attribute([cell.mean_values for cell in self.cells], self.confidence)

    @property
    def shares(self) -> dict[str, Share]:
        """By factor."""
        return dict(zip(self.factors, self.attributed[0], strict=True))

    @property
    def whole(self) -> Share:
        """The whole difference, new minus old."""
        return self.attributed[1]

    @property
    def means(self) -> tuple[float, float]:
        """Of the old run and the new one."""
        first, last = (float(self.cells[index].mean_values.mean()) for index in (0, -1))
        return first, last

    @property
    def n_seeds(self) -> int:
        """Seeds that every cell was trained on."""
        return len(self.cells[0].values)

    @property
    def seed_spread(self) -> dict[str, float]:
        """Standard deviation (divisor n - 1) of each share over the seeds; of the whole, too."""
        means = np.array([[values.mean() for values in cell.values] for cell in self.cells])
        rows = np.vstack([shapley_weights(len(self.factors)) @ means, means[-1] - means[0]])
        return dict(zip((*self.factors, WHOLE), rows.std(axis=1, ddof=1), strict=True))

    @property
    def culprit(self) -> tuple[Differing, ...]:
        """The setting that narrowing down found; several where they go together alone."""
        settings = [each for each in self.differing if each.factor == "settings"]
        return tuple(settings[self.steps[-1].low : self.steps[-1].high]) if self.steps else ()


def verdict(found: Bisection) -> str:
    """What made the difference, in plain words."""
    label, (before, after) = metric_label(found.metric), found.means
    word = "better" if found.whole.value > 0 else "worse"
    text = (
        f"{found.new} is {word} than {found.old} on {label}: "
        f"{points(100 * found.whole.value)} points, {100 * after:.2f} against {100 * before:.2f} "
        f"({_interval(found, found.whole)})."
    )
    if found.same_test:
        text = f"On the test of {found.new}, {text}"
    if found.whole.value == 0:
        text = f"{found.new} and {found.old} have the same {label}, {100 * before:.2f}."
    elif not is_real(found.whole):
        text += " That may be chance, and with it all that follows."
    if len(found.factors) == 1:
        return f"{text} They differ in {found.factors[0]} alone.{_narrowed(found)}"
    ordered = sorted(found.shares.items(), key=lambda each: -abs(each[1].value))
    said = "; ".join(_made(found, name, share) for name, share in ordered)
    return f"{text} {said[:1].upper()}{said[1:]}.{_narrowed(found)}"


def _made(found: Bisection, name: str, share: Share) -> str:
    if share.value == 0 and share.interval == (0, 0):
        return f"{name} changed nothing"
    rest = "" if is_real(share) else ", which may be chance"
    percent = _percent(found, share).replace("-", "−")
    return f"{name} made {points(100 * share.value)} points{percent}{rest}"


def is_real(share: Share) -> bool:
    """Whether the interval leaves zero out."""
    return share.interval[0] > 0 or share.interval[1] < 0


def bisection_tables(found: Bisection) -> dict[str, Table]:
    """Every table that has something to say, in the order of the report."""
    tables = [_shares(found), _cells(found), _steps(found), _differing(found)]
    return {table.name: table for table in tables if table.rows}


def build_report(found: Bisection) -> Report:
    """The report of a bisection."""
    before, after = found.means
    label = metric_label(found.metric)
    figures = [
        KeyFigure(found.old, number(before), f"{label}, the old run"),
        KeyFigure(found.new, number(after), f"{label}, the new run"),
        *(
            KeyFigure(f"{name[:1].upper()}{name[1:]}, points", *_figures(share))
            for name, share in (found.shares | {"difference": found.whole}).items()
        ),
    ]
    return Report(
        title=f"From {found.old} to {found.new}",
        subtitle=f"Bisection over {' and '.join(found.factors)} · {len(found.cells)} runs"
        + (f" · {found.n_seeds} seeds" if found.n_seeds > 1 else ""),
        summary=verdict(found),
        notices=tuple(Callout(text) for text in found.notices),
        key_figures=tuple(figures),
        sections=_sections(found),
    )


def write_bisection(found: Bisection, directory: Path) -> tuple[Path, Path]:
    """Put a bisection into its directory: bisect.json, .md and .html, tables, the chart.

    Returns:
        The Markdown and the HTML file.
    """
    tables = bisection_tables(found)
    write_json(directory / "bisect.json", plain(to_json(found)) | {"tables": list(tables)})
    write_tables(directory, tables.values())
    return write_report_files(build_report(found), directory, "bisect")


def to_json(found: Bisection) -> dict[str, Any]:
    """The runs, the shares and the steps."""
    shares = {name: dataclasses.asdict(share) for name, share in found.shares.items()}
    return {
        "format": FORMAT,
        "name": found.name,
        "old": found.old,
        "new": found.new,
        "metric": found.metric,
        "in_words": verdict(found),
        "confidence": found.confidence,
        "n_samples": N_SAMPLES,
        "seeds": found.n_seeds,
        "same_test": found.same_test,
        "difference": dataclasses.asdict(found.whole),
        "shares": shares,
        "spread_over_seeds": found.seed_spread if found.n_seeds > 1 else None,
        "cells": [
            {
                "levels": cell.levels,
                "run": cell.run_name,
                "given": cell.is_given,
                "mean": float(cell.mean_values.mean()),
                "users": int(cell.mean_values.notna().sum()),
            }
            for cell in found.cells
        ],
        "differing": [each._asdict() for each in found.differing],
        "steps": [dataclasses.asdict(step) for step in found.steps],
        "culprit": [each.name for each in found.culprit],
        "notices": list(found.notices),
    }


def _sections(found: Bisection) -> tuple[Section, ...]:
    tables = bisection_tables(found)
    drawn = {
        name: Value(*(100 * end for end in (share.value, *share.interval)))
        for name, share in (found.shares | {WHOLE: found.whole}).items()
    }
    title = "What each changed, points"
    caption = (
        f"Right of the line at zero {found.new} gains by it. Whiskers: {found.confidence:.0%} "
        "bootstrap intervals over users."
    )
    chart = difference_chart(
        title, {found.new: drawn}, x_label=f"points of {metric_label(found.metric)}"
    )
    first = figures_of(Figure("shares", title, caption, chart))
    views = partial(views_of, tables, limit=1000)
    return Section.of(
        [
            ("shares", "What made the difference", first + views("shares")),
            ("narrowed", "Which of the settings", views("steps")),
            ("cells", "The runs", views("cells")),
            ("differing", "What differs", views("differing")),
            ("method", "How this was found", [Paragraph(_method(found))]),
        ]
    )


def _shares(found: Bisection) -> Table:
    note = (
        "points: mean, over all orders in which the factors can be changed one after another, of "
        "what the metric gains by this one, in hundredths of the metric (Shapley value); the rows "
        "add up to all. alone: only this one is changed. last: all others are changed already."
    )
    spread = found.seed_spread if found.n_seeds > 1 else {}
    if spread:
        note += " seeds: standard deviation of the points over the seeds."
    records = [
        {"factor": name}
        | _cells_of(share)
        | {"share": _percent(found, share).strip(" ()") or None}
        | {"alone": signed(100 * share.alone), "last": signed(100 * share.last)}
        | ({"seeds": f"{100 * spread[name]:.2f}"} if spread else {})
        for name, share in (found.shares | {WHOLE: found.whole}).items()
    ]
    return Table.from_records("shares", "Shares of the difference", note, records)


def _cells(found: Bisection) -> Table:
    label = metric_label(found.metric)
    records = [
        cell.levels
        | {label: float(cell.mean_values.mean())}
        | {"users": int(cell.mean_values.notna().sum())}
        | {"run": cell.run_name, "trained": "before" if cell.is_given else "for this"}
        for cell in found.cells
    ]
    note = "Each on its own test users; cells of the same data have the same."
    if found.same_test:
        note = f"All on the test users of {found.new}."
    return Table.from_records("cells", "Every choice of what is old and new", note, records)


def _steps(found: Bisection) -> Table:
    settings = [each.name for each in found.differing if each.factor == "settings"]
    records = [
        {"step": index, "settings": ", ".join(settings[step.low : step.high])}
        | _cells_of(step.share)
        for index, step in enumerate(found.steps)
    ]
    note = (
        "Data and code as in the new run. In each step the half of the settings that changes the "
        "metric more is kept; those before it are as in the new run, those behind it as in the old."
    )
    return Table.from_records("steps", "Settings narrowed down", note, records)


def _differing(found: Bisection) -> Table:
    rows = tuple((e.factor, e.name, *map(setting_text, (e.old, e.new))) for e in found.differing)
    columns = ("factor", "setting", "old", "new")
    return Table("differing", "Settings that differ", "", columns, rows)


def _narrowed(found: Bisection) -> str:
    if not found.steps:
        return ""
    share = found.steps[-1].share
    named = " with ".join(
        f"{e.name} ({setting_text(e.old)} to {setting_text(e.new)})" for e in found.culprit
    )
    return (
        f" Of the settings {named} changes most, {points(100 * share.value)} points "
        f"({_interval(found, share)})."
    )


def _method(found: Bisection) -> str:
    judged = (
        "Each is judged by its own test users, as its own evaluation did, so that what other data "
        "change holds both what was learned from them and who is asked. "
    )
    if found.same_test:
        judged = (
            f"All are judged by the test users of {found.new}; what is of other data by its lists "
            "for them, as it would be served. Users with a test item that one was trained on are "
            "left out. "
        )
    return (
        f"Every choice of {' and '.join(found.factors)}, old or new, is a run. {judged}"
        f"Intervals: percentile bootstrap over users, {N_SAMPLES:,} resamples, users drawn by id "
        "in all runs at once, so that runs with the same test users are compared paired and those "
        "with others unpaired; a user of several seeds counts by the mean. They speak of the "
        "sampling of users, not of seeds."
        + (" Each run is one training." if found.n_seeds == 1 else "")
    )


def _figures(share: Share) -> tuple[str, str]:
    low, high = share.interval
    return points(100 * share.value), f"{points(100 * low)} to {points(100 * high)}"


def _interval(found: Bisection, share: Share) -> str:
    return f"{found.confidence:.0%} interval {_figures(share)[1]}"


def _percent(found: Bisection, share: Share) -> str:
    """A share of a difference that is one; else of nothing."""
    return f" ({share.value / found.whole.value:.0%})" if is_real(found.whole) else ""


def _cells_of(share: Share) -> dict[str, str]:
    """A share in points, and its interval."""
    low, high = (signed(100 * end) for end in share.interval)
    return {"points": signed(100 * share.value), "interval": f"[{low}, {high}]"}
