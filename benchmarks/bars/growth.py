"""How preparing, training and evaluating grow with interactions, items and users."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.sides import ROOT, Side, Timing, alternate
from benchmarks.sizes import Log, Sizes
from benchmarks.table import Row, Target, number
from benchmarks.training_sides import fresh_model, settings, trainer_of
from benchmarks.worlds import distinct_world, training_config
from recsys.data.dataset import prepare
from recsys.evaluation.metrics import means, ranking_metrics
from recsys.evaluation.ranking import rank
from recsys.pipeline import model_vectors

BATCH_SIZE = 8192
PHASES = ("prepare", "train", "evaluate")
FACTORS = (1.0, 10**0.5, 10.0)
SIDES = ("interactions", "items", "users")
NEAR_LINEAR = Target("<=", 1.15)


def measure(sizes: Sizes, device: str) -> list[Row]:
    """Seconds of each phase as one side of the data grows tenfold, and the exponent of it."""
    points = {
        (side, factor): _grown(sizes.growth, side, factor) for side in SIDES for factor in FACTORS
    }
    logs = sorted(set(points.values()), key=lambda log: (log.interactions, log.users, log.items))
    worlds = {log: distinct_world(sizes.folder / "growth", log) for log in logs}
    sides = {_name(log): Side(start, {"folder": str(folder)}) for log, folder in worlds.items()}
    timings = alternate(sides, rounds=sizes.rounds)
    curves = {
        (side, phase): [timings[_name(points[side, f])].count(phase) for f in FACTORS]
        for side in SIDES
        for phase in PHASES
    }
    if sizes.name == "full":
        plot(curves, ROOT / "benchmarks/growth.svg")
    else:
        plot(curves, sizes.folder / "growth.svg")
    return [_row(side, sizes.growth, curves, timings) for side in SIDES]


def _grown(log: Log, side: str, factor: float) -> Log:
    changed = vars(log) | {side: round(getattr(log, side) * factor)}
    if side == "users" and factor > 1:  # so many users need as many interactions
        changed["interactions"] = round(log.interactions * factor)
    return Log(**changed)


def _name(log: Log) -> str:
    return f"{log.interactions}-{log.users}-{log.items}"


def _row(
    side: str,
    base: Log,
    curves: dict[tuple[str, str], list[float]],
    timings: dict[str, Timing],
) -> Row:
    totals = [sum(curves[side, phase][i] for phase in PHASES) for i in range(len(FACTORS))]
    exponent = math.log10(totals[-1] / totals[0])
    each = {
        phase: f"{' → '.join(number(s) for s in curves[side, phase])} s (exponent "
        f"{math.log10(curves[side, phase][-1] / curves[side, phase][0]):.2f})"
        for phase in PHASES
    }
    with_what = " (and as many more interactions)" if side == "users" else ""
    return Row(
        f"growth, {side} × 10{with_what}",
        exponent,
        unit="exponent",
        bar=NEAR_LINEAR,
        ours=f"{number(totals[-1])} s",
        against=f"at × 1 {number(totals[0])} s",
        note=f"×1: {base.interactions:,} interactions, {base.users:,} users, {base.items:,} items."
        " Prepare, one epoch at batch 8192, evaluate all users. An exponent of 1 is linear; "
        "evaluation is users times items, so growing either is linear. Plotted in growth.svg.",
        counted=each,
        timings={
            _name(_grown(base, side, factor)): timings[_name(_grown(base, side, factor))]
            for factor in FACTORS
        },
    )


def start(folder: str) -> Callable[[], dict[str, float]]:
    """A run prepares, trains for one epoch and evaluates."""
    path = Path(folder)
    config = settings(path, batch_size=BATCH_SIZE, fusion="adaptive_mimic", device="cpu")
    data = training_config(path).data

    def run() -> dict[str, float]:
        marks = [time.perf_counter()]
        prepared = prepare(data, 0)
        marks.append(time.perf_counter())
        model = fresh_model(config, prepared)
        next(trainer_of(config, prepared, prepared.train, model).epochs())
        marks.append(time.perf_counter())
        users = np.unique(prepared.test.users)
        ranking = rank(model_vectors(model, prepared), users, masked=[prepared.train.by_user], k=20)
        means(ranking_metrics(ranking, prepared.test.by_user, (5, 10, 20)))
        marks.append(time.perf_counter())
        spent = np.diff(marks).tolist()
        return dict(zip(PHASES, spent, strict=True))

    return run


def plot(curves: dict[tuple[str, str], list[float]], path: Path) -> None:
    """Seconds of each phase over the factor, both on logarithmic axes, beside a linear guide."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(SIDES), figsize=(11, 3.6), sharey=True)
    for panel, side in zip(panels, SIDES, strict=True):
        for phase in PHASES:
            panel.plot(FACTORS, curves[side, phase], marker="o", label=phase)
        start_of_guide = curves[side, "train"][0]
        guide = [start_of_guide * factor for factor in FACTORS]
        panel.plot(FACTORS, guide, ":", color="grey", label="linear")
        panel.set(xscale="log", yscale="log", xlabel=f"{side}, times the smallest", title=side)
    panels[0].set_ylabel("seconds")
    panels[-1].legend(frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
