"""What mattered in a sweep as tables, that of earlier sweeps beside it."""

from __future__ import annotations

from collections.abc import Sequence

from recsys.evaluation.tables import Cell, Table
from recsys.reporting.formatting import metric_label
from sweeps.findings import EarlierSweep, Importances, RankCorrelation
from sweeps.importances import importances_of
from sweeps.record import SweepRecord


def importance_tables(record: SweepRecord) -> list[Table]:
    """One an objective; the caveat stands with the last, earlier sweeps beside the first."""
    found = importances_of(record)
    last = len(found) - 1
    return [
        _importance_table(each, () if index else record.earlier, with_caveat=index == last)
        for index, each in enumerate(found)
    ]


def _importance_table(
    found: Importances, earlier: Sequence[EarlierSweep], *, with_caveat: bool
) -> Table:
    safe = "".join(letter if letter.isalnum() else "_" for letter in found.metric).lower()
    title = f"What {metric_label(found.metric)} depended on"
    what = "correlation" if found.correlations else "share"
    beside = {each.name: _values(each.importances) for each in earlier if _are_alike(each, found)}
    rows = list[dict[str, Cell]]()
    for setting, value in _values(found).items():
        rows.append({"setting": setting, what: value})
        rows[-1] |= {f"in {name}": told.get(setting) for name, told in beside.items()}
    for row, each in zip(rows, found.correlations, strict=False):
        row |= {"interval": f"[{each.low:.2f}, {each.high:.2f}]", "trials": each.n_trials}
    by = f"{found.evaluator} with {metric_label(found.metric)}"
    by = by if found.correlations else f"Share of importance by {found.evaluator}"
    said = [f"{by}, {found.n_trials} trials.", *(_earlier_note(each, found) for each in earlier)]
    note = " ".join([*said, *([found.caveat] if with_caveat else [])])
    return Table.from_records(f"importances_{safe}", title, note, rows).without_gaps()


def _values(found: Importances) -> dict[str, float]:
    """{setting: share}, or {setting, of a choice with its value: correlation}."""
    return found.values or {correlation_name(each): each.rho for each in found.correlations}


def _are_alike(earlier: EarlierSweep, found: Importances) -> bool:
    """Whether both are shares, or both correlations."""
    return earlier.importances.evaluator == found.evaluator and bool(_values(earlier.importances))


def _earlier_note(earlier: EarlierSweep, found: Importances) -> str:
    told = earlier.importances
    if _are_alike(earlier, found):
        return f"In {earlier.name}: {metric_label(told.metric)}, {told.n_trials} trials."
    return f"{earlier.name} has none to compare ({told.reason or told.evaluator})."


def correlation_name(found: RankCorrelation) -> str:
    """The setting, with the value that stands against all others."""
    return found.setting if found.value is None else f"{found.setting} = {found.value}"
