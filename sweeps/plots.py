"""Interactive plots of a sweep: one page that holds all it needs and fetches nothing."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import plotly.graph_objects as go
from markupsafe import Markup
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from recsys.reporting.formatting import metric_label, moment
from recsys.reporting.pages import page_templates
from recsys.reporting.record import write_text
from sweeps.charts import baseline_levels, best_so_far
from sweeps.importance_tables import correlation_name
from sweeps.importances import importances_of
from sweeps.memory_study import memory_study
from sweeps.parallel import hover_text, parallel_figure
from sweeps.record import Importances, SweepRecord, TrialRecord
from sweeps.record import TrialState as State

PLOTS_DIR = "plots"
PLOTS_FILE = "index.html"
TEMPLATES = Path(__file__).parent / "templates"
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
HEIGHT = 420  # pixels


@dataclass(frozen=True, eq=False)
class Plot:
    """One plot.

    Attributes:
        name: snake_case, its address within the page.
        title: one line above it.
        caption: how to read it.
        figure: Plotly's; None where there is nothing to draw.
        reason: why there is none.
    """

    name: str
    title: str
    caption: str
    figure: go.Figure | None
    reason: str = ""


def draw_plots(record: SweepRecord) -> tuple[Plot, ...]:
    """Every plot of a sweep, in the order in which they are shown."""
    return tuple(
        itertools.chain.from_iterable(
            (
                _histories(record),
                _pareto(record),
                _importances(record),
                _slices(record),
                _parallel(record),
                _intermediate(record),
                _timeline(record),
                _costs(record),
            )
        )
    )


def write_plots(sweep_dir: Path, record: SweepRecord) -> Path:
    """Put the page of plots into a sweep directory, whole or not at all; gives its path.

    The same record gives the same bytes. Plotly's script is in the page once, so that it weighs
    about 5 MB whatever the number of plots.
    """
    path = sweep_dir / PLOTS_DIR / PLOTS_FILE
    return write_text(path, render_plots(record))


def render_plots(record: SweepRecord) -> str:
    """The page of plots as text."""
    page = page_templates(TEMPLATES).get_template("plots.html.j2")
    return page.render(
        title=record.name,
        subtitle=f"Sweep · {moment(record.created)} · {record.status}",
        plots=[(plot, _markup(plot)) for plot in draw_plots(record)],
        plotly=Markup(get_plotlyjs()),
    )


def _markup(plot: Plot) -> Markup | None:
    if plot.figure is None:
        return None
    return Markup(
        plot.figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            div_id=f"plot_{plot.name}",  # the default is random
            config={"displaylogo": False, "responsive": True},
        )
    )


def _histories(record: SweepRecord) -> list[Plot]:
    plots = []
    for place, objective in enumerate(record.objectives):
        figure = go.Figure()
        for name, state, trials in _groups(record):
            marks = [(trial, trial.number, trial.last_value(place)) for trial in trials]
            _add_marks(figure, marks, state, "%{y:.4f}", name=name, mode="markers")
        if steps := best_so_far(record, place):
            figure.add_scatter(
                x=[number for number, _ in steps],
                y=[value for _, value in steps],
                mode="lines",
                name="best so far",
                line={"shape": "hv", "color": "#22262b", "width": 1.5},
            )
        for number, (name, value) in enumerate(baseline_levels(record, place)):
            figure.add_hline(
                value,
                line={"dash": "dash", "color": "#9a9fa6", "width": 1},
                annotation={"text": f"{name} {value:.4f}", "x": 0.2 * number, "xanchor": "left"},
            )
        name = metric_label(objective.metric)
        figure.update_layout(xaxis_title="trial", yaxis_title=name)
        suffix = f"_{place}" if len(record.objectives) > 1 else ""
        caption = (
            "Each trial's value; pruned ones stand at the last value that they reported. Trial 0 "
            "is the default configuration."
        )
        if record.tuned_baselines:
            caption += " Dashed: the best trial of each baseline."
        title = f"{name} by trial"
        plots.append(_plot(f"history{suffix}", title, caption, figure, "no trial has a value"))
    return plots


def _groups(record: SweepRecord) -> list[tuple[str, State, list[TrialRecord]]]:
    """Trials to tell apart, by the name of their group and how it is drawn."""
    complete = record.in_state("complete")
    return [
        ("complete", "complete", [t for t in complete if record.is_feasible(t)]),
        ("beyond a constraint", "running", [t for t in complete if not record.is_feasible(t)]),
        ("pruned", "pruned", list(record.in_state("pruned"))),
    ]


def _pareto(record: SweepRecord) -> list[Plot]:
    if len(record.objectives) < 2:
        return []
    front = {trial.number for trial in record.front()}
    _, (name, state, beyond), _ = _groups(record)
    inside = record.ranked()
    groups: list[tuple[str, State, list[TrialRecord]]] = [
        ("front", "complete", [trial for trial in inside if trial.number in front]),
        ("beaten by another", "pruned", [trial for trial in inside if trial.number not in front]),
        (name, state, beyond),
    ]
    figure = go.Figure()
    for name, state, trials in groups:
        marks = [(t, t.values[0], t.values[1]) for t in trials if t.values is not None]
        mode = "lines+markers" if name == "front" and len(record.objectives) == 2 else "markers"
        shape = {"shape": "hv", "width": 1}
        _add_marks(figure, marks, state, "%{x:.4f}, %{y:.4f}", name=name, mode=mode, line=shape)
    x_name, y_name = (metric_label(objective.metric) for objective in record.objectives[:2])
    figure.update_layout(xaxis_title=x_name, yaxis_title=y_name)
    more = len(record.objectives) - 2
    caption = "The front: trials that no other is as good as in everything and better in something."
    if more:
        caption += f" {more} further objective(s) count, but are not drawn."
    return [_plot("pareto_front", "Pareto front", caption, figure, "no trial was completed")]


def _importances(record: SweepRecord) -> list[Plot]:
    plots = []
    for place, found in enumerate(record.importances or importances_of(record)):
        figure = None
        if found.values:
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
        elif found.correlations:
            figure = _correlation_bars(found)
        suffix = f"_{place}" if len(record.objectives) > 1 else ""
        title = f"What {metric_label(found.metric)} depended on"
        reason = found.reason or ""
        plots.append(_plot(f"importances{suffix}", title, found.caveat, figure, reason))
    return plots


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


def _slices(record: SweepRecord) -> list[Plot]:
    caption = (
        "Completed trials by one setting at a time, later ones darker. A setting with a "
        "condition shows the trials that had it."
    )
    return _per_objective(record, "slices", "by setting", caption, _slice_figure)


def _slice_figure(study: optuna.Study, *, target_name: str) -> go.Figure:
    """Small panels side by side, one a setting, in the order of their names."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    names = sorted({name for trial in trials for name in trial.params})
    rows = -(-len(names) // PANELS_A_ROW)
    figure = make_subplots(
        rows=rows,
        cols=PANELS_A_ROW,
        shared_yaxes=True,
        horizontal_spacing=0.04,
        vertical_spacing=0.3 / rows,
        subplot_titles=names,
    )
    for place, name in enumerate(names):
        shown = [trial for trial in trials if name in trial.params]
        row, column = divmod(place, PANELS_A_ROW)
        distribution = shown[-1].distributions[name]
        axis: dict[str, Any] = {"type": "log"} if getattr(distribution, "log", False) else {}
        values = [trial.params[name] for trial in shown]
        if isinstance(distribution, CategoricalDistribution):
            order = [str(choice) for choice in distribution.choices]
            axis = {"type": "category", "categoryorder": "array", "categoryarray": order}
            values = [str(value) for value in values]
        figure.add_scatter(
            x=values,
            y=[trial.values[0] for trial in shown],
            text=[f"trial {trial.number}" for trial in shown],
            mode="markers",
            marker={
                "color": [trial.number for trial in shown],
                "colorscale": [[0, "#b9d3ea"], [1, "#123a5f"]],
                "size": 7,
            },
            showlegend=False,
            hovertemplate="%{text}<br>%{x}: %{y:.4f}<extra></extra>",
            row=row + 1,
            col=column + 1,
        )
        figure.update_xaxes(row=row + 1, col=column + 1, **axis)
    figure.update_annotations(font_size=12)
    figure.update_yaxes(title_text=target_name, col=1)
    figure.update_layout(height=90 + 250 * rows)
    return figure


def _parallel(record: SweepRecord) -> list[Plot]:
    caption = (
        "One line a trial, the best on top; the legend shows and hides groups. The objective's "
        "axis ends where the worst quarter of the completed trials begins. Dotted: beyond a "
        "constraint. A setting that did not apply to a trial is missing."
    )
    plots = []
    for place, objective in enumerate(record.objectives):
        suffix = f"_{place}" if len(record.objectives) > 1 else ""
        title = f"{metric_label(objective.metric)} in parallel coordinates"
        figure = parallel_figure(record, place)
        reason = "no completed trial drew a setting"
        plots.append(_plot(f"parallel_coordinates{suffix}", title, caption, figure, reason))
    return plots


def _per_objective(
    record: SweepRecord, name: str, what: str, caption: str, draw: Callable[..., go.Figure]
) -> list[Plot]:
    """A plot of Optuna's for each objective, of the completed trials."""
    plots = []
    has_params = any(trial.params for trial in record.in_state("complete"))
    for place, objective in enumerate(record.objectives):
        metric = metric_label(objective.metric)
        figure = None
        if has_params:
            study = memory_study(record, place)
            figure = _by_optuna(partial(draw, study, target_name=metric))
        suffix = f"_{place}" if len(record.objectives) > 1 else ""
        reason = "no completed trial drew a setting"
        plots.append(_plot(f"{name}{suffix}", f"{metric} {what}", caption, figure, reason))
    return plots


def _intermediate(record: SweepRecord) -> list[Plot]:
    if len(record.objectives) > 1:
        return []  # nothing is reported, for nothing is pruned
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
    metric = metric_label(record.objectives[0].metric)
    figure.update_layout(xaxis_title="epoch", yaxis_title=metric)
    caption = "What trials reported after each epoch; pruned ones end early."
    reason = "no trial reported a value"
    return [_plot("intermediate_values", f"{metric} by epoch", caption, figure, reason)]


def _timeline(record: SweepRecord) -> list[Plot]:
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
    caption = "When each worker ran which trial; the number in a bar is the trial's."
    return [_plot("timeline", "Timeline", caption, figure, "no trial began")]


def _span(trial: TrialRecord) -> tuple[datetime, float] | None:
    """Start, and length in seconds; one not ended is as long as it is known to have run."""
    if trial.started is None:
        return None
    start = datetime.fromisoformat(trial.started)
    if trial.ended is None:
        return start, trial.seconds
    return start, (datetime.fromisoformat(trial.ended) - start).total_seconds()


def _costs(record: SweepRecord) -> list[Plot]:
    figure = go.Figure()
    metric = metric_label(record.objectives[0].metric)
    kept = [t for t in record.in_state("complete") if t.values is not None]
    marks = [(trial, trial.seconds, trial.last_value()) for trial in kept]
    _add_marks(figure, marks, "complete", "%{x:.1f} s, %{y:.4f}", mode="markers", showlegend=False)
    figure.update_layout(xaxis_title="seconds of the trial", yaxis_title=metric)
    caption = "Completed trials by the wall time that they took."
    reason = "no trial was completed"
    return [_plot("cost", f"{metric} by time spent on the trial", caption, figure, reason)]


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


def _by_optuna(draw: Callable[[], go.Figure]) -> go.Figure:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return draw()


def _plot(name: str, title: str, caption: str, figure: go.Figure | None, reason: str) -> Plot:
    """A plot in the look of the page; none where the figure is empty."""
    if figure is None or not figure.data:
        return Plot(name, title, caption, None, reason)
    figure.update_layout(
        title=None,
        template="plotly_white",
        font={"family": "system-ui, Segoe UI, Roboto, sans-serif", "size": 12, "color": "#22262b"},
        paper_bgcolor="#fff",
        margin={"l": 60, "r": 30, "t": 60, "b": 50},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        height=figure.layout.height or HEIGHT,
        width=None,
    )
    return Plot(name, title, caption, figure)
