"""Figures of a sweep to move about in, as Plotly draws them; one without data is left out."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from recsys.reporting.formatting import setting_text
from sweeps.charts import baseline_levels, setting_axis
from sweeps.findings import Importances
from sweeps.importances import correlation_name
from sweeps.parallel import hover_text
from sweeps.record import SweepRecord, TrialRecord
from sweeps.record import TrialState as State

COLOURS: dict[State, str] = {
    "complete": "#1f5f99",
    "pruned": "#c5841c",
    "failed": "#b3402f",
    "running": "#9a9fa6",
}
SYMBOLS: dict[State, str] = {
    "complete": "circle",
    "pruned": "x-thin-open",
    "failed": "triangle-down",
    "running": "circle-open",
}
PANELS_A_ROW = 3


def history(record: SweepRecord, objective: int) -> go.Figure:
    """Values by trial, the best so far, and baselines as lines across."""
    figure = go.Figure()
    for name, state, trials in _groups(record):
        marks = [(trial, trial.number, trial.last_value(objective)) for trial in trials]
        _add_marks(figure, marks, state, "%{y:.4f}", name=name, mode="markers")
    if steps := record.best_so_far(objective):
        figure.add_scatter(
            x=[number for number, _ in steps],
            y=[value for _, value in steps],
            mode="lines",
            name="best so far",
            line={"shape": "hv", "color": "#22262b", "width": 1.5},
        )
    for number, (name, value) in enumerate(baseline_levels(record, objective)):
        figure.add_hline(
            value,
            line={"dash": "dash", "color": "#9a9fa6", "width": 1},
            annotation={"text": f"{name} {value:.4f}", "x": 0.2 * number, "xanchor": "left"},
        )
    figure.update_layout(xaxis_title="trial", yaxis_title=record.objectives[objective].label)
    return figure


def _groups(record: SweepRecord) -> list[tuple[str, State, list[TrialRecord]]]:
    """Trials to tell apart, by the name of their group and how it is drawn."""
    complete = record.in_state("complete")
    return [
        ("complete", "complete", [t for t in complete if record.is_feasible(t)]),
        ("beyond a constraint", "running", [t for t in complete if not record.is_feasible(t)]),
        ("pruned", "pruned", list(record.in_state("pruned"))),
    ]


def pareto_front(record: SweepRecord) -> go.Figure:
    """The first two objectives of completed trials, the Pareto front marked."""
    front = list(record.front())
    numbers = {trial.number for trial in front}
    beaten = [trial for trial in record.ranked() if trial.number not in numbers]
    groups: list[tuple[str, State, list[TrialRecord]]] = [
        ("front", "complete", front),
        ("beaten by another", "pruned", beaten),
        _groups(record)[1],
    ]
    figure = go.Figure()
    for name, state, trials in groups:
        marks = [(t, t.values[0], t.values[1]) for t in trials if t.values is not None]
        mode = "lines+markers" if name == "front" and len(record.objectives) == 2 else "markers"
        shape = {"shape": "hv", "width": 1}
        _add_marks(figure, marks, state, "%{x:.4f}, %{y:.4f}", name=name, mode=mode, line=shape)
    x_name, y_name = (objective.label for objective in record.objectives[:2])
    figure.update_layout(xaxis_title=x_name, yaxis_title=y_name)
    return figure


def importances(found: Importances) -> go.Figure | None:
    """Shares, or correlations with their intervals, as far as there are any."""
    if found.correlations:
        return _correlation_bars(found)
    return _share_bars(found) if found.values else None


def _share_bars(found: Importances) -> go.Figure:
    shown = list(found.values.items())[::-1]
    figure = go.Figure()
    figure.add_bar(
        x=[value for _, value in shown],
        y=[name for name, _ in shown],
        orientation="h",
        marker_color=COLOURS["complete"],
        hovertemplate="%{y}: %{x:.2f}<extra></extra>",
    )
    figure.update_layout(xaxis_title=f"share of importance, {found.evaluator}")
    figure.update_yaxes(automargin=True)
    return figure


def _correlation_bars(found: Importances) -> go.Figure:
    shown = found.correlations[::-1]
    figure = go.Figure()
    figure.add_scatter(
        x=[each.rho for each in shown],
        y=[correlation_name(each) for each in shown],
        mode="markers",
        marker_color=COLOURS["complete"],
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [each.high - each.rho for each in shown],
            "arrayminus": [each.rho - each.low for each in shown],
        },
        hovertemplate="%{y}: %{x:.2f}<extra></extra>",
    )
    figure.update_layout(xaxis_title=found.evaluator, xaxis_range=[-1, 1])
    figure.update_yaxes(automargin=True)
    return figure


def slices(record: SweepRecord, objective: int) -> go.Figure | None:
    """Completed trials by each setting: panels side by side, in the order of their names."""
    trials = [trial for trial, _ in record.completed()]
    names = sorted({name for trial in trials for name in trial.params})
    if not names:
        return None
    rows = -(-len(names) // PANELS_A_ROW)
    figure = make_subplots(
        rows=rows,
        cols=PANELS_A_ROW,
        shared_yaxes=True,
        horizontal_spacing=0.04,
        vertical_spacing=0.3 / rows,
        subplot_titles=names,
    )
    for index, name in enumerate(names):
        shown = [trial for trial in trials if name in trial.params]
        values = [trial.params[name] for trial in shown]
        axis = setting_axis(record, name, values)
        panel = {"row": index // PANELS_A_ROW + 1, "col": index % PANELS_A_ROW + 1}
        figure.add_scatter(
            x=[setting_text(value) for value in values] if axis.names else values,
            y=[trial.last_value(objective) for trial in shown],
            text=[f"trial {trial.number}" for trial in shown],
            mode="markers",
            marker={
                "color": [trial.number for trial in shown],
                "colorscale": [[0, "#b9d3ea"], [1, "#123a5f"]],
                "size": 7,
            },
            showlegend=False,
            hovertemplate="%{text}<br>%{x}: %{y:.4f}<extra></extra>",
            **panel,
        )
        if axis.names:
            order = {"categoryorder": "array", "categoryarray": axis.names}
            figure.update_xaxes(type="category", **order, **panel)
        elif axis.log:
            figure.update_xaxes(type="log", **panel)
    figure.update_annotations(font_size=12)
    figure.update_yaxes(title_text=record.objectives[objective].label, col=1)
    figure.update_layout(height=90 + 250 * rows)
    return figure


def intermediate_values(record: SweepRecord) -> go.Figure:
    """What trials reported, by epoch."""
    figure = go.Figure()
    named = set()
    for trial in record.trials:
        points = [(epoch, value) for epoch, value in sorted(trial.intermediate.items())]
        if not points:
            continue
        pruned = trial.state == "pruned"
        figure.add_scatter(
            x=[epoch for epoch, _ in points],
            y=[value for _, value in points],
            mode="lines+markers",
            name=trial.state,
            legendgroup=trial.state,
            showlegend=trial.state not in named,
            line={"color": COLOURS[trial.state], "width": 1.2, "dash": "dot" if pruned else None},
            marker={"size": 4},
            opacity=0.75,
            hovertemplate=f"{hover_text(trial)}<br>epoch %{{x}}: %{{y:.4f}}<extra></extra>",
        )
        named.add(trial.state)
    figure.update_layout(xaxis_title="epoch", yaxis_title=record.objectives[0].label)
    return figure


def timeline(record: SweepRecord) -> go.Figure:
    """When each worker ran which trial."""
    figure = go.Figure()
    for state, colour in COLOURS.items():
        spans = [(trial, _span(trial)) for trial in record.in_state(state)]
        bars = [(trial, *span) for trial, span in spans if span is not None]
        if bars:
            figure.add_bar(
                base=[start.isoformat() for _, start, _ in bars],
                x=[length * 1000 for _, _, length in bars],  # Plotly's dates count milliseconds
                y=[trial.worker or "worker" for trial, _, _ in bars],
                text=[str(trial.number) for trial, _, _ in bars],
                customdata=[[hover_text(trial), length] for trial, _, length in bars],
                orientation="h",
                name=state,
                marker={"color": colour, "line": {"color": "#fff", "width": 1}},
                hovertemplate="%{customdata[0]}<br>%{customdata[1]:.1f} s<extra></extra>",
                textposition="inside",
                insidetextanchor="middle",
                textangle=0,
            )
    figure.update_layout(barmode="overlay", xaxis={"type": "date"}, xaxis_title="time, UTC")
    figure.update_yaxes(automargin=True, type="category", categoryorder="category descending")
    return figure


def _span(trial: TrialRecord) -> tuple[datetime, float] | None:
    """Start, and length in seconds; one not ended is as long as it is known to have run."""
    if trial.started is None:
        return None
    start = datetime.fromisoformat(trial.started)
    if trial.ended is None:
        return start, trial.seconds
    return start, (datetime.fromisoformat(trial.ended) - start).total_seconds()


def costs(record: SweepRecord) -> go.Figure:
    """Values of completed trials by the time that they took."""
    figure = go.Figure()
    marks = [(trial, trial.seconds, values[0]) for trial, values in record.completed()]
    _add_marks(figure, marks, "complete", "%{x:.1f} s, %{y:.4f}", mode="markers", showlegend=False)
    label = record.objectives[0].label
    figure.update_layout(xaxis_title="seconds of the trial", yaxis_title=label)
    return figure


def _add_marks(
    figure: go.Figure,
    marks: Iterable[tuple[TrialRecord, float, float | None]],
    state: State,
    numbers: str,
    **look: Any,
) -> None:
    """Trials at (x, y) as those of a state; those without y are left out; ``numbers`` show too."""
    shown = [(trial, x, y) for trial, x, y in marks if y is not None]
    if not shown:
        return
    figure.add_scatter(
        x=[x for _, x, _ in shown],
        y=[y for _, _, y in shown],
        text=[hover_text(trial) for trial, _, _ in shown],
        marker={
            "color": COLOURS[state],
            "symbol": SYMBOLS[state],
            "size": 8,
            "line": {"color": COLOURS[state], "width": 2 if state == "pruned" else 0},
        },
        hovertemplate=f"%{{text}}<br>{numbers}<extra></extra>",
        **look,
    )
