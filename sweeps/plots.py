"""Interactive plots of a sweep: one page that holds all it needs and fetches nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from recsys.reporting.formatting import moment
from recsys.reporting.pages import page_templates
from recsys.reporting.record import write_text
from sweeps import figures
from sweeps.importances import importances_of
from sweeps.parallel import parallel_figure
from sweeps.record import SweepRecord

PLOTS_DIR = "plots"
PLOTS_FILE = "index.html"
TEMPLATES = Path(__file__).parent / "templates"
HEIGHT = 420  # pixels
HISTORY = (
    "Each trial's value; pruned ones stand at the last value that they reported. Trial 0 is the "
    "default configuration."
)
FRONT = "The front: trials that no other is as good as in everything and better in something."
SLICES = (
    "Completed trials by one setting at a time, later ones darker. A setting with a condition "
    "shows the trials that had it."
)
PARALLEL = (
    "One line a trial, the best on top; the legend shows and hides groups. The objective's axis "
    "ends where the worst quarter of the completed trials begins. Dotted: beyond a constraint. A "
    "setting that did not apply to a trial is missing."
)
EPOCHS = "What trials reported after each epoch; pruned ones end early."
TIMELINE = "When each worker ran which trial; the number in a bar is the trial's."
COSTS = "Completed trials by the wall time that they took."
NO_SETTING = "no completed trial drew a setting"


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
    is_single, plots = len(record.objectives) == 1, list[Plot]()
    objectives = [
        (index, "" if is_single else f"_{index}", objective.label)
        for index, objective in enumerate(record.objectives)
    ]
    for index, end, metric in objectives:
        dashed = " Dashed: the best trial of each baseline." if record.tuned_baselines else ""
        shown, reason = figures.history(record, index), "no trial has a value"
        plots.append(_plot(f"history{end}", f"{metric} by trial", HISTORY + dashed, shown, reason))
    if not is_single:
        more = len(record.objectives) - 2
        beside = f" {more} further objective(s) count, but are not drawn." if more else ""
        front, reason = figures.pareto_front(record), "no trial was completed"
        plots.append(_plot("pareto_front", "Pareto front", FRONT + beside, front, reason))
    for (_, end, metric), found in zip(objectives, importances_of(record), strict=True):
        title, shown = f"What {metric} depended on", figures.importances(found)
        plots.append(_plot(f"importances{end}", title, found.caveat, shown, found.reason or ""))
    for index, end, metric in objectives:
        shown, title = figures.slices(record, index), f"{metric} by setting"
        plots.append(_plot(f"slices{end}", title, SLICES, shown, NO_SETTING))
    for index, end, metric in objectives:
        shown, title = parallel_figure(record, index), f"{metric} in parallel coordinates"
        plots.append(_plot(f"parallel_coordinates{end}", title, PARALLEL, shown, NO_SETTING))
    return (*plots, *_of_time(record))


def _of_time(record: SweepRecord) -> list[Plot]:
    """What came after each epoch, when, and for how long."""
    metric, plots = record.objectives[0].label, list[Plot]()
    if len(record.objectives) == 1:  # else nothing is reported, for nothing is pruned
        epochs, reason = figures.intermediate_values(record), "no trial reported a value"
        plots.append(_plot("intermediate_values", f"{metric} by epoch", EPOCHS, epochs, reason))
    timeline, costs = figures.timeline(record), figures.costs(record)
    title = f"{metric} by time spent on the trial"
    return [
        *plots,
        _plot("timeline", "Timeline", TIMELINE, timeline, "no trial began"),
        _plot("cost", title, COSTS, costs, "no trial was completed"),
    ]


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
