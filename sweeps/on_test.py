"""What test said of the winner: its mean over fresh seeds, and its run in full.

Both are shown, and told apart wherever either is. The mean over seeds is the fair one: finalists
and baselines beside it learned from train, as it did. The run in full may have learned from train
and validation, and is a single training.
"""

from __future__ import annotations

from recsys.baselines.names import baseline_label
from recsys.evaluation.tables import Cell
from recsys.reporting.formatting import metric_label, number
from sweeps.findings import TestLook, best_baseline
from sweeps.record import SweepRecord

RUN_IN_FULL = "run in full"


def winner_of(record: SweepRecord) -> int | None:
    """The trial that won: by the mean over fresh seeds, else by its one value."""
    if record.finalists is not None:
        return record.finalists.winner
    ranked = record.ranked()
    return ranked[0].number if ranked else None


def winners_looks(record: SweepRecord) -> tuple[TestLook | None, TestLook | None]:
    """The last looks that were made for the winner and not cut short, each None without one.

    That at the finalists, and that of the winner's run in full.
    """
    winner, fair, full = winner_of(record), None, None
    for look in record.test_looks:
        if look.metrics and look.trial == winner:
            fair, full = (look, full) if look.run_name is None else (fair, look)
    return fair, full


def mean_of_seeds(record: SweepRecord) -> str:
    """Of how many trainings the winner's value is the mean."""
    row = None if record.finalists is None else record.finalists.winning_row
    n = 0 if row is None else len(row.known)
    return "one fresh seed" if n == 1 else f"mean of {n} fresh seeds"


def on_test(record: SweepRecord) -> str:
    """A sentence on the winner's values on test; empty without any."""
    metric = record.objectives[0].metric
    label, parts = metric_label(metric), list[str]()
    fair, full = winners_looks(record)
    if fair is not None and fair.metrics.get(metric) is not None:
        said = f"the winner has {label} {number(fair.metrics[metric])} ({mean_of_seeds(record)})"
        beside = {"the default": fair.baselines.get("default", {}).get(metric)}
        best = best_baseline(record.tuned_baselines, record.objectives[0].direction)
        if best is not None:
            name = baseline_label(best[0].name)
            beside[name] = fair.baselines.get(best[0].name, {}).get(metric)
        others = [f"{name} {number(value)}" for name, value in beside.items() if value is not None]
        parts.append(", ".join([said, *others]))
    if full is not None and full.metrics.get(metric) is not None:
        refits = (record.base_config.get("training") or {}).get("refit")
        learned = " on train and validation" if refits else ""
        whose, value = "its" if parts else "the winner's", number(full.metrics[metric])
        parts.append(f"{whose} {RUN_IN_FULL}, one training{learned}, has {label} {value}")
    return f"On test {'; '.join(parts)}." if parts else ""


def test_rows(record: SweepRecord) -> list[tuple[Cell, ...]]:
    """Rows of the key figures: what it is, the winner, the default, each baseline."""
    metric, rows = record.objectives[0].metric, list[tuple[Cell, ...]]()
    fair, full = winners_looks(record)
    if fair is not None:
        of_default = {"default": fair.metrics} if winner_of(record) == 0 else {}
        shown = of_default | fair.baselines
        others = [shown.get(name, {}).get(metric) for name in ("default", *record.baselines)]
        head = f"{metric} on test, {mean_of_seeds(record)}"
        rows.append((head, fair.metrics.get(metric), *others))
    if full is not None:
        gaps = (None,) * (1 + len(record.baselines))
        rows.append((f"{metric} on test, {RUN_IN_FULL}", full.metrics.get(metric), *gaps))
    return rows


test_rows.__test__ = False  # type: ignore[attr-defined]  # pytest: not a test
