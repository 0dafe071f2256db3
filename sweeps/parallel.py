"""Parallel coordinates: a line a trial over all of its settings, the best on top.

Hundreds of bad trials would hide the few good ones. So lines are drawn from the worst to the best,
in few groups by rank that the legend switches, and what is worse than most ends at the bottom of
the objective's axis, which leaves its length to the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from recsys.reporting.charts import last_part, shortened
from recsys.reporting.formatting import setting_text
from sweeps.charts import setting_axis
from sweeps.importances import importances_of
from sweeps.record import SweepRecord, TrialRecord

SHOWN_LETTERS = 22
WORST_SHARE = 0.25
"""Of the completed trials: they end at the bottom of the objective's axis."""
FEWEST_TO_CUT = 8
_MISSING = -0.12  # height of a setting that did not apply
_PRUNED, _BEYOND = "pruned", "beyond a constraint"
_LOOKS: dict[str, dict[str, Any]] = {
    _PRUNED: {"color": "#d5d8dc", "width": 0.6},
    _BEYOND: {"color": "#b9a48a", "width": 0.8, "dash": "dot"},
    "worse half": {"color": "#b5cde3", "width": 0.9},
    "better half": {"color": "#5b95c9", "width": 1.2},
    "best tenth": {"color": "#123a5f", "width": 1.8},
    "best": {"color": "#d1541f", "width": 3.0},
}
"""Groups in the order in which they are drawn."""


@dataclass(frozen=True)
class _Axis:
    name: str
    heights: Mapping[int, float]  # by trial; 0 to 1
    ticks: Sequence[tuple[float, str]]


def parallel_figure(record: SweepRecord, objective: int = 0) -> go.Figure | None:
    """Lines of completed and pruned trials in an objective; None where no setting was drawn.

    The settings stand by importance.
    """
    trials = [
        trial
        for trial in (*record.in_state("pruned"), *record.in_state("complete"))
        if trial.last_value(objective) is not None
    ]
    drawn = list(dict.fromkeys(name for trial in trials for name in trial.params))
    if not drawn or not record.in_state("complete"):
        return None
    known = importances_of(record)[objective].values
    names = sorted(drawn, key=lambda name: -known.get(name, 0.0))
    axes = [_objective_axis(record, trials, objective)]
    axes += [_setting_axis(record, name, trials) for name in names]
    figure = go.Figure()
    for group, members in _groups(record, objective).items():
        shown = [trial for trial in members if trial in trials]
        if shown:
            figure.add_scatter(**_lines(shown, axes), name=group, line=_LOOKS[group], mode="lines")
    for index, axis in enumerate(axes):
        figure.add_vline(index, line={"color": "#888", "width": 1}, layer="below")
        for height, text in axis.ticks:
            where = {"x": index, "y": height, "xanchor": "left", "xshift": 3}
            look = {"font": {"size": 10, "color": "#22262b"}, "bgcolor": "rgba(255,255,255,0.75)"}
            figure.add_annotation(**where, **look, text=text, showarrow=False)
    ticks = {"tickvals": list(range(len(axes))), "ticktext": [axis.name for axis in axes]}
    figure.update_layout(
        xaxis=ticks | {"range": [-0.1, len(axes) - 0.55], "showgrid": False, "zeroline": False},
        yaxis={"visible": False, "range": [-0.18, 1.08]},
        hovermode="closest",
    )
    return figure


def hover_text(trial: TrialRecord) -> str:
    """What shows when a trial is pointed at."""
    lines = [f"<b>trial {trial.number}</b>, {trial.state}"]
    for name, value in trial.params.items():
        shown = f"{value:.4g}" if isinstance(value, float) else setting_text(value)
        lines.append(f"{name}: {shown.replace('<', '&lt;')}")
    return "<br>".join(lines)


def _groups(record: SweepRecord, objective: int) -> dict[str, list[TrialRecord]]:
    """Each trial in one group, the worst first within each."""
    ranked = list(record.ranked(objective))
    n = len(ranked)
    tenth, half = math.ceil(0.1 * n), math.ceil(0.5 * n)
    beyond = [trial for trial in record.in_state("complete") if not record.is_feasible(trial)]
    return {
        _PRUNED: list(record.in_state("pruned")),
        _BEYOND: beyond,
        "worse half": ranked[half:][::-1],
        "better half": ranked[max(1, tenth) : half][::-1],
        "best tenth": ranked[1:tenth][::-1],
        "best": ranked[:1],
    }


def _lines(trials: Sequence[TrialRecord], axes: Sequence[_Axis]) -> dict[str, Any]:
    """One trace for all lines, with gaps between them."""
    x: list[float | None] = []
    y: list[float | None] = []
    text = list[str]()
    for trial in trials:
        x += [*range(len(axes)), None]
        y += [*(axis.heights.get(trial.number, _MISSING) for axis in axes), None]
        text += [hover_text(trial)] * (len(axes) + 1)
    return {"x": x, "y": y, "text": text, "hovertemplate": "%{text}<extra></extra>"}


def _objective_axis(record: SweepRecord, trials: Sequence[TrialRecord], objective: int) -> _Axis:
    part = record.objectives[objective]
    merits = {trial.number: part.sign * (trial.last_value(objective) or 0.0) for trial in trials}
    complete = [merits[trial.number] for trial in trials if trial.state == "complete"]
    cut = len(complete) >= FEWEST_TO_CUT
    worst, best = float(np.quantile(complete, WORST_SHARE if cut else 0.0)), max(complete)
    span = best - worst or 1.0
    heights = {n: min(1.0, max(0.0, (merit - worst) / span)) for n, merit in merits.items()}
    ticks = [(each, f"{part.sign * (worst + each * span):.4g}") for each in (0.0, 0.5, 1.0)]
    if min(merits.values()) < worst:
        ticks[0] = (0.0, f"{ticks[0][1]} or worse")
    return _Axis(part.label, heights, ticks)


def _setting_axis(record: SweepRecord, name: str, trials: Sequence[TrialRecord]) -> _Axis:
    values = {trial.number: trial.params[name] for trial in trials if name in trial.params}
    axis = setting_axis(record, name, list(values.values()))
    if axis.names:
        places = {text: (index + 0.5) / len(axis.names) for index, text in enumerate(axis.names)}
        heights = {number: places[setting_text(value)] for number, value in values.items()}
        ticks = [(height, text) for text, height in places.items()]
    else:
        scaled = {number: math.log(v) if axis.log else float(v) for number, v in values.items()}
        low, high = min(scaled.values()), max(scaled.values())
        span = high - low or 1.0
        heights = {number: (value - low) / span for number, value in scaled.items()}
        at = [(each, low + each * span) for each in (0.0, 0.5, 1.0)]
        ticks = [(each, f"{math.exp(value) if axis.log else value:.4g}") for each, value in at]
    if len(values) < len(trials):
        ticks.append((_MISSING, "missing"))
    return _Axis(shortened(last_part(name), SHOWN_LETTERS), heights, ticks)
