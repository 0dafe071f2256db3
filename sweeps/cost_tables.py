"""What a sweep cost and gained as tables."""

from __future__ import annotations

import statistics

from recsys.evaluation.tables import Cell, Table
from sweeps.record import SweepRecord

POINT = 0.01
"""One point of a metric that lies between 0 and 1."""


def gains_table(record: SweepRecord) -> Table:
    """Each improvement of the best value, and what it cost."""
    objective, default = record.objectives[0], record.default_value
    metric, best = objective.label, None
    rows = list[dict[str, Cell]]()
    for number, value in record.best_so_far():
        if value == best:
            continue
        best = value
        spent = sum(trial.seconds for trial in record.trials if trial.number <= number)
        gained = None if default is None else objective.sign * (value - default)
        rows.append(
            {
                "trial": number,
                f"best {metric}": value,
                "over the default": gained,
                "seconds spent": spent,
                "seconds a point": spent / (gained / POINT) if gained and gained > 0 else None,
            }
        )
    note = (
        "Seconds spent: wall time of all trials until then, added up over workers. A point: 0.01 "
        "of the metric over the default configuration, as the search saw it."
    )
    return Table.from_records("cost_per_point", "What each improvement cost", note, rows)


def savings_table(record: SweepRecord) -> Table:
    """Epochs that pruning spared; empty where nothing was pruned."""
    complete, pruned = record.in_state("complete"), record.in_state("pruned")
    usual = statistics.fmean(trial.epochs for trial in complete) if complete else None
    spared = None if usual is None else sum(max(0.0, usual - trial.epochs) for trial in pruned)
    left = [trial.planned_epochs - trial.epochs for trial in pruned if trial.planned_epochs]
    rows: list[tuple[Cell, ...]] = [
        ("trials pruned", len(pruned)),
        ("epochs trained by all trials", sum(trial.epochs for trial in record.trials)),
        ("mean epochs of a completed trial", usual),
        ("epochs spared, against that mean", spared),
        ("epochs spared, at most", sum(left) if len(left) == len(pruned) else None),
    ]
    kept = tuple(row for row in rows if row[1] is not None) if pruned else ()
    note = (
        "How long a pruned trial would have been is not known. Against the mean: had it been as "
        "long as a completed one. At most: had it trained all its epochs, without stopping early."
    )
    return Table("epochs_spared", "What pruning spared", note, ("what", "count"), kept)


def time_table(record: SweepRecord) -> Table:
    """Time spent per trial, and the share of overhead; empty where no trial ended."""
    ended = [t for t in record.trials if t.state in ("complete", "pruned") and t.seconds > 0]
    rows, share = tuple[tuple[Cell, ...], ...](), ""
    if ended:
        seconds = [trial.seconds for trial in ended]
        overheads = [trial.overhead_seconds for trial in ended]
        share = f" It is {sum(overheads) / sum(seconds) * 100:.1f}% of the trials' time."
        rows = (
            ("the sweep, by the clock", record.seconds, "s"),
            *((f"of it {name}", spent, "s") for name, spent in _parts(record).items()),
            ("all trials, added up", sum(seconds), "s"),
            ("a trial, mean", statistics.fmean(seconds), "s"),
            ("overhead a trial, median", round(1000 * statistics.median(overheads)), "ms"),
            ("overhead a trial, mean", round(1000 * statistics.fmean(overheads)), "ms"),
            ("overhead a trial, largest", round(1000 * max(overheads)), "ms"),
        )
    note = f"Completed and pruned trials. Overhead: time in tracking and in the storage.{share}"
    return Table("time_spent", "Time spent", note, ("what", "time", "unit"), rows)


def _parts(record: SweepRecord) -> dict[str, float]:
    """Seconds by what they went to; the rest is comparing, reporting and sending."""
    if not record.parts:
        return {}
    return record.parts | {"the rest": max(0.0, record.seconds - sum(record.parts.values()))}
