"""Small static charts of a sweep for its report, each None where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recsys.baselines.names import baseline_label
from recsys.reporting.charts import Axis, Line, Point, line_chart, scatter_chart, share_chart
from recsys.reporting.document import Figure
from recsys.reporting.formatting import metric_label, setting_text
from sweeps.findings import Finalists, Importances
from sweeps.record import SweepRecord, TrialRecord

SHOWN_SLICES = 3
SHOWN_BARS = 7
SHOWN_CURVES = 40
COMPLETE, PRUNED = 0, 2  # colours of the chart's style


def history_figure(record: SweepRecord) -> Figure | None:
    """Values by trial, the pruned marked, with the best so far."""
    found = [(trial, trial.last_value()) for trial in record.trials]
    points = [
        Point(
            trial.number,
            value,
            f"trial {trial.number}, {trial.state}: {value:.4g}",
            PRUNED if trial.state == "pruned" else COMPLETE,
        )
        for trial, value in found
        if value is not None
    ]
    if not points:
        return None
    title = f"{record.objectives[0].label} by trial"
    steps = [(float(number), value) for number, value in record.best_so_far()]
    svg = scatter_chart(
        title,
        points,
        Axis("trial"),
        groups={COMPLETE: "complete", PRUNED: "pruned"},
        best=steps,
        levels=baseline_levels(record),
    )
    caption = "Pruned trials stand at the last value that they reported. Trial 0 is the default."
    if record.tuned_baselines:
        caption += " Dashed: the best trial of each baseline."
    return Figure("history", title, caption, svg)


def baseline_levels(record: SweepRecord, objective: int = 0) -> list[tuple[str, float]]:
    """(name, value) of tuned baselines in an objective, best first; none where it is a cost."""
    part = record.objectives[objective]
    found = [
        (baseline_label(each.name), value)
        for each in record.tuned_baselines
        if (value := record.baselines.get(each.name, {}).get(part.metric)) is not None
    ]
    return sorted(found, key=lambda level: -part.sign * level[1])


def cost_figure(record: SweepRecord) -> Figure | None:
    """The best value so far over the time that trials took until then."""
    spent, best = 0.0, dict(record.best_so_far())
    steps: list[tuple[float, float]] = []
    points = []
    for trial in record.trials:
        spent += trial.seconds
        if trial.number in best:
            steps.append((spent, best[trial.number]))
            value = trial.last_value()
            assert value is not None  # it is among the completed
            points.append(Point(spent, value, f"trial {trial.number}: {value:.4g}"))
    if len(steps) < 2:
        return None
    title = f"Best {record.objectives[0].label} over time spent"
    steps.append((spent, steps[-1][1]))
    svg = scatter_chart(
        title,
        points,
        Axis("seconds of all trials"),
        groups={COMPLETE: "complete"},
        best=steps,
    )
    return Figure("best_over_time", title, "Wall time of all trials until then, added up.", svg)


def importance_figure(found: Importances) -> Figure | None:
    """Shares of importance as bars, largest first."""
    if not found.values:
        return None
    title = f"What {metric_label(found.metric)} depended on"
    svg = share_chart(title, list(found.values.items())[:SHOWN_BARS])
    return Figure(f"importances_{_file_safe(found.metric)}", title, f"By {found.evaluator}.", svg)


def slice_figures(record: SweepRecord, names: Sequence[str]) -> tuple[Figure, ...]:
    """Values of completed trials by one setting each, for the first few names."""
    drawn = [_slice_figure(record, name) for name in names[:SHOWN_SLICES]]
    return tuple(figure for figure in drawn if figure is not None)


def _slice_figure(record: SweepRecord, name: str) -> Figure | None:
    trials = [(trial, values[0]) for trial, values in record.completed() if name in trial.params]
    if len(trials) < 2:
        return None
    axis = setting_axis(record, name, [trial.params[name] for trial, _ in trials])
    points = []
    for trial, value in trials:
        text = setting_text(trial.params[name])
        x = axis.names.index(text) if axis.names else float(trial.params[name])
        points.append(Point(x, value, f"trial {trial.number}, {text}: {value:.4g}"))
    title = f"{record.objectives[0].label} by {name.rpartition('.')[2].replace('_', ' ')}"
    svg = scatter_chart(title, points, axis, groups={})
    return Figure(f"slice_{_file_safe(name)}", title, f"Completed trials by {name}.", svg)


def setting_axis(record: SweepRecord, name: str, values: Sequence[Any]) -> Axis:
    """How values of a setting lie: as numbers, or, of a choice, at named places."""
    spec = record.space.get(name, {})
    is_number = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if "choice" in spec or not is_number:
        names = map(setting_text, (*spec.get("choice", ()), *values))
        return Axis(name, names=tuple(dict.fromkeys(names)))
    return Axis(name, log=bool(spec.get("log")) and min(values) > 0)


def front_figure(record: SweepRecord) -> Figure | None:
    """The first two objectives of all completed trials, the Pareto front marked."""
    trials = record.completed()
    if len(record.objectives) < 2 or not trials:
        return None
    front = {trial.number for trial in record.front()}
    points = [
        Point(x, y, f"trial {trial.number}", COMPLETE if trial.number in front else 1)
        for trial, (y, x, *_) in trials
    ]
    first, second = (objective.label for objective in record.objectives[:2])
    title = f"{first} against {second}"
    svg = scatter_chart(title, points, Axis(second), groups={COMPLETE: "front", 1: "others"})
    caption = "The front: trials that none is as good as in everything and better in something."
    return Figure("pareto_front", title, caption, svg)


def curves_figure(record: SweepRecord) -> Figure | None:
    """What trials reported by epoch: the best, the default, and where pruned ones ended."""
    ranked = record.ranked()
    default = record.default
    lines = []
    if ranked:
        lines.append(_curve(f"trial {ranked[0].number}, best", ranked[0]))
    if default is not None and default not in ranked[:1]:
        lines.append(_curve("default", default))
    ends = [trial for trial in record.in_state("pruned") if trial.intermediate][:SHOWN_CURVES]
    dots = sorted((float(max(t.intermediate)), t.last_value()) for t in ends)
    gaps = [point for x, y in dots for point in ((x, y), (x, None))]  # apart, not joined
    lines.append(Line("pruned here", tuple(gaps)))
    lines = [line for line in lines if any(y is not None for _, y in line.points)]
    if not lines:
        return None
    title = f"{record.objectives[0].label} by epoch"
    svg = line_chart(title, lines, x_label="epoch")
    return Figure("intermediate_values", title, "Validation, as the pruner was told.", svg)


def _curve(name: str, trial: TrialRecord) -> Line:
    return Line(name, tuple((float(e), v) for e, v in sorted(trial.intermediate.items())))


def finalists_figure(finalists: Finalists) -> Figure | None:
    """Each finalist's value on every seed, beside what the search had found."""
    rows = [row for row in finalists.rows if row.mean is not None]
    if not rows:
        return None
    points = [
        Point(index, value, f"trial {row.trial}, seed {seed}: {value:.4g}", COMPLETE)
        for index, row in enumerate(rows)
        for seed, value in zip(finalists.seeds, row.values, strict=False)
        if value is not None
    ]
    points += [
        Point(index, row.search_value, f"trial {row.trial} in the search", PRUNED)
        for index, row in enumerate(rows)
        if row.search_value is not None
    ]
    title = f"{metric_label(finalists.metric)} of the finalists"
    names = tuple("default" if row.is_default else f"trial {row.trial}" for row in rows)
    groups = {COMPLETE: "a fresh seed", PRUNED: "in the search"}
    svg = scatter_chart(title, points, Axis("", names=names), groups=groups)
    return Figure("finalists", title, "Validation; best mean first.", svg)


def timeline_figure(record: SweepRecord) -> Figure | None:
    """Seconds of each trial, the overhead apart."""
    trials = [trial for trial in record.trials if trial.seconds > 0]
    if len(trials) < 2:
        return None
    lines = [
        Line("whole trial", tuple((float(t.number), t.seconds) for t in trials)),
        Line("overhead", tuple((float(t.number), t.overhead_seconds) for t in trials)),
    ]
    title = "Seconds by trial"
    svg = line_chart(title, lines, x_label="trial")
    return Figure("seconds", title, "Overhead: time in tracking and in the storage.", svg)


def _file_safe(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name).lower()
