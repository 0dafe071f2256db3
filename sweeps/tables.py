"""The findings of a sweep as tables, for its report and its tracker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from recsys.baselines.names import baseline_label
from recsys.config import is_ranking_metric, prefix_of
from recsys.evaluation.distinct import distinct_metrics
from recsys.evaluation.tables import Cell, Table
from recsys.reporting.formatting import decimals, metric_label, moment, number, setting_text
from recsys.reporting.results import one_held_out
from sweeps.cost_tables import gains_table, savings_table, time_table
from sweeps.findings import Comparison, Finalists, Optimism, RankAgreement
from sweeps.importances import importance_tables
from sweeps.on_test import RUN_IN_FULL
from sweeps.record import SweepRecord, TrialRecord

SHOWN_BEST = 10
OTHERS_NOTE = "Further metrics are in study.json."


def sweep_tables(record: SweepRecord) -> dict[str, Table]:
    """Every table of a sweep that has rows, by name, in the order in which they are shown."""
    tables, last = list[Table](), record.finalists
    if last is not None:
        tables.append(finalists_table(record, last))
        tables += [comparisons_table(last)] if last.comparisons else []
        tables += [optimism_table(last.optimism)] if last.optimism else []
    tables += [test_table(record), baselines_table(record), best_table(record)]
    tables += [*importance_tables(record), space_table(record)]
    tables += [fidelity_table(record.fidelity)] if record.fidelity else []
    tables += [gains_table(record), savings_table(record), time_table(record)]
    tables += [failed_table(record), trials_table(record)]
    return {table.name: table for table in tables if table.rows}


def short_names(record: SweepRecord) -> dict[str, str]:
    """{dotted setting: the shortest end of its name that no other setting shares}."""
    names = list(dict.fromkeys([*record.space, *(n for t in record.trials for n in t.params)]))
    return {name: _shortest(name, names) for name in names}


def _shortest(name: str, names: list[str]) -> str:
    parts = name.split(".")
    for count in range(1, len(parts)):
        end = ".".join(parts[-count:])
        if sum(other == end or other.endswith(f".{end}") for other in names) == 1:
            return end
    return name


def _setting_cell(value: Any) -> Cell:
    """A setting's value as a cell: numbers stay numbers."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else setting_text(value)


def _shown(record: SweepRecord, metrics: Iterable[str], split: str) -> list[str]:
    """Of the given metrics the objectives, then ranking metrics at the first one's list length.

    Each number once, by the data of the split.
    """
    known, wanted = list(metrics), [objective.metric for objective in record.objectives]
    k = wanted[0].partition("@")[2] or next((name.partition("@")[2] for name in known), "")
    beside = [n for n in known if is_ranking_metric(n) and n.partition("@")[2] == k]
    beside.sort(key=lambda name: prefix_of(name) != prefix_of(wanted[0]))
    names = [name for name in [*wanted, *beside] if name in known]
    one = one_held_out(record.dataset, split)
    return distinct_metrics(names, one_held_out=one, preferred=wanted[0])


def best_table(record: SweepRecord) -> Table:
    """The best trials of the search, and the default beside them."""
    front = {trial.number for trial in record.front()}
    many = len(record.objectives) > 1
    shown = list(record.front() if many else record.ranked())[:SHOWN_BEST]
    default = record.default
    if default is not None and default not in shown and default.values is not None:
        shown.append(default)
    names = short_names(record)
    rows = []
    for trial in shown:
        row: dict[str, Cell] = {"trial": trial.number, "what": trial.origin}
        row |= _objective_values(record, trial) | _settings(trial, names)
        rows.append(row | {"epochs": trial.epochs, "seconds": trial.seconds})
    what = f"Pareto front, {len(front)} trials" if many else "Best trials"
    note = (
        "Validation, each value from a single training and chosen as one of many: too good on "
        "average. A gap: the setting did not apply, or the default lies outside the space."
    )
    return Table.from_records("best_trials", what, note, rows).without_gaps()


def trials_table(record: SweepRecord) -> Table:
    """Every trial."""
    names = short_names(record)
    rows = []
    for trial in record.trials:
        row: dict[str, Cell] = {"trial": trial.number, "what": trial.origin, "state": trial.state}
        row |= _objective_values(record, trial) | _settings(trial, names)
        row |= {rule.metric: trial.constraints.get(rule.metric) for rule in record.constraints}
        if record.constraints:
            row["within constraints"] = "yes" if record.is_feasible(trial) else "no"
        row |= {"epochs": trial.epochs, "seconds": trial.seconds}
        row |= {"overhead": trial.overhead_seconds, "worker": trial.worker}
        row |= {"why it ended": trial.error or trial.stop_reason or None}
        rows.append(row)
    note = (
        "What: where a configuration is from that was not drawn. Overhead: seconds in tracking and "
        "in the study's storage, part of the trial's seconds."
    )
    return Table.from_records("trials", "Every trial", note, rows).without_gaps()


def failed_table(record: SweepRecord) -> Table:
    """Trials that failed, with the reason and what became of their configuration."""
    retries = {
        trial.retry_of: trial.number for trial in record.trials if trial.retry_of is not None
    }
    rows: list[dict[str, Cell]] = [
        {
            "trial": trial.number,
            "reason": trial.error or "no reason was left",
            "run again as": retries.get(trial.number),
            "worker": trial.worker,
            "seconds": trial.seconds,
        }
        for trial in record.in_state("failed")
    ]
    return Table.from_records("failed_trials", "Failed trials", "", rows).without_gaps()


def finalists_table(record: SweepRecord, finalists: Finalists) -> Table:
    """Each finalist with its values on fresh seeds."""
    names, rows = short_names(record), []
    for row in finalists.rows:
        cells: dict[str, Cell] = {"trial": row.trial, "role": _role(finalists, row.trial)}
        cells |= {"mean": row.mean, "std": row.std, "in the search": row.search_value}
        cells["dropped after seeds"] = row.dropped_after
        cells |= {f"seed {s}": v for s, v in zip(finalists.seeds, row.values, strict=False)}
        cells |= {names.get(name, name): _setting_cell(value) for name, value in row.params.items()}
        rows.append(cells)
    metric = metric_label(finalists.metric)
    note = (
        f"{metric} on validation. Mean and standard deviation over fresh seeds; the winner has the "
        "best mean. In the search: the value of the one trial by which it became a finalist."
    )
    if finalists.n_spared:
        note += (
            f" Finalists that the leader was clearly ahead of were trained on no further seed: "
            f"{finalists.n_spared} of {len(finalists.rows) * len(finalists.seeds)} trainings were "
            "spared."
        )
    return Table.from_records("finalists", "Finalists on fresh seeds", note, rows).without_gaps()


def comparisons_table(finalists: Finalists) -> Table:
    """Every two finalists, of which there are some."""
    ends = [end for each in finalists.comparisons for end in (each.low, each.high)]
    places = max(4, decimals([end for end in ends if end is not None]))
    rows = [
        {
            "better by the mean": _named(finalists, found.first),
            "than": _named(finalists, found.second),
            "clear": "yes" if found.is_clear else "no",
            "difference": found.difference,
            "interval": _interval(found, places),
            "p": found.p,
            "Holm": found.p_holm,
            "p with seeds": found.p_seeds,
            "Holm with seeds": found.p_seeds_holm,
        }
        for found in finalists.comparisons
    ]
    first = finalists.comparisons[0]
    error = first.seed_error
    between = "" if error is None else f", about {number(error)} by the pooled spread of finalists"
    note = (
        f"Paired over {first.n_users:,} users, whose values are averaged over the seeds. Interval: "
        f"{first.confidence * 100:g}%, bootstrap over users; p: randomisation test over users; "
        "with seeds: t-test that counts also the error of a difference from the noise between "
        f"seeds{between}. Holm: corrected for all pairs, since the winner was chosen by looking at "
        "all. Clear: both corrected values are small."
    )
    return Table.from_records("comparisons", "What can be told apart", note, rows)


def optimism_table(found: Optimism) -> Table:
    """By how much the best value flatters."""
    error = found.retrained_error
    spread = "" if error is None else f", give or take {number(error)}"
    rows: list[tuple[Cell, ...]] = [
        ("best value of the search", found.best_value, f"best of {found.n_trials} trials"),
        ("noise between seeds", found.seed_std, "standard deviation, pooled over the finalists"),
        ("retrained", found.retrained, f"best value minus its mean on fresh seeds{spread}"),
        ("modelled", found.modelled, f"expected selection bias of the best of {found.n_trials}"),
        ("at most", found.bound, "were all trials equally good"),
        ("second round", found.second_round, "the winner's own mean, at most"),
    ]
    kept = tuple(row for row in rows if row[1] is not None)
    columns = ("estimate", "value", "how")
    return Table("optimism", "How optimistic the best value is", found.note, columns, kept)


def test_table(record: SweepRecord) -> Table:
    """Every opening of the test split."""
    rows = []
    for index, look in enumerate(record.test_looks, start=1):
        winner = "the winner" if look.trial is None else f"trial {look.trial}, the winner"
        winner += f" ({'mean of seeds' if look.run_name is None else RUN_IN_FULL})"
        given = [(winner, look.metrics), *look.baselines.items()]
        for name, metrics in given:
            row: dict[str, Cell] = {"look": index, "recommender": name}
            named: dict[str, Cell] = {
                metric_label(name): metrics.get(name) for name in _shown(record, metrics, "test")
            }
            rows.append(row | named)
    said = [
        f"Look {index}, {moment(look.opened)}: {look.purpose}"
        + (f" ({look.run_name})." if look.run_name else ".")
        for index, look in enumerate(record.test_looks, start=1)
    ]
    note = " ".join([*said, OTHERS_NOTE])
    title = "Openings of the test split"
    return Table.from_records("test_looks", title, note, rows).without_gaps()


test_table.__test__ = False  # type: ignore[attr-defined]  # pytest: not a test


def baselines_table(record: SweepRecord) -> Table:
    """Baselines on validation, beside the default and the best trial."""
    every = dict.fromkeys(name for row in record.baselines.values() for name in row)
    metrics = _shown(record, every, "validation")
    tuned: dict[str, dict[str, Cell]] = {
        each.name: {"trials": each.n_trials, "seconds": each.seconds, "settings": each.settings}
        for each in record.tuned_baselines
    }
    rows: list[dict[str, Cell]] = [
        {"recommender": name}
        | {metric_label(m): values.get(m) for m in metrics}
        | tuned.get(name, {})
        for name, values in record.baselines.items()
    ]
    default, ranked = record.default, record.ranked()
    beside = [("default configuration", default)] if default is not None else []
    beside += [("best trial", ranked[0])] if ranked else []
    for name, trial in beside if rows else ():
        rows.append(
            {"recommender": name} | {metric_label(m): trial.metrics.get(m) for m in metrics}
        )
    return Table.from_records("baselines", "Beside the trials", _baselines_note(record), rows)


def _baselines_note(record: SweepRecord) -> str:
    said = ["Validation, under the same protocol as the trials."]
    if record.tuned_baselines:
        said.append(
            "Of each baseline the best of its trials, drawn by TPE: its value is too good on "
            "average, as that of the best trial is."
        )
    said += [
        f"{baseline_label(each.name)} was left out: {each.left_out}."
        for each in record.tuned_baselines
        if each.left_out
    ]
    return " ".join([*said, OTHERS_NOTE])


def space_table(record: SweepRecord) -> Table:
    """What was searched."""
    default = record.default
    rows: list[dict[str, Cell]] = []
    for name, spec in record.space.items():
        row: dict[str, Cell] = {"setting": name, "values": _range(spec)}
        row["condition"] = _condition(spec.get("when", {})) or None
        also = spec.get("with", ())
        row["together with"] = ", ".join([also] if isinstance(also, str) else also) or None
        if default is not None and name in default.params:
            row["default"] = setting_text(default.params[name])
        rows.append(row)
    note = "A default that is not shown lies outside the space, or its setting does not apply."
    return Table.from_records("space", "What was searched", note, rows).without_gaps()


def _range(spec: Mapping[str, Any]) -> str:
    if "choice" in spec:
        return ", ".join(map(setting_text, spec["choice"]))
    low, high = spec["int"] if "int" in spec else spec["float"]
    scale = ", by the logarithm" if spec.get("log") else ""
    step = f", in steps of {spec['step']}" if spec.get("step") else ""
    return f"{low} to {high}{step}{scale}"


def _condition(when: Mapping[str, Any]) -> str:
    parts = []
    for name, allowed in when.items():
        values = allowed if isinstance(allowed, list) else [allowed]
        parts.append(f"{name} is {' or '.join(map(setting_text, values))}")
    return " and ".join(parts)


def fidelity_table(found: RankAgreement) -> Table:
    """Agreement of a cheap look with the full one."""
    row = {
        "cheap look": found.low_fidelity,
        "full look": found.high_fidelity,
        "configurations": found.n,
        "Kendall's tau": found.kendall_tau,
        "Spearman's rho": found.spearman,
    }
    note = (
        "1: the same order, 0: none in common. Only configurations that the cheap look let through "
        "are compared; among all of them the orders would agree more."
    )
    title = "Does the cheap look agree with the full one?"
    return Table.from_records("fidelity", title, note, [row])


def _interval(found: Comparison, places: int) -> str | None:
    """Always with decimals, never in powers of ten, so that the column is one of numbers."""
    if found.low is None or found.high is None:
        return None
    return f"[{found.low:.{places}f}, {found.high:.{places}f}]"


def _role(finalists: Finalists, trial: int) -> str | None:
    default = finalists.default_row
    roles = ["winner"] if trial == finalists.winner else []
    roles += ["runner-up"] if trial == finalists.runner_up else []
    roles += ["default"] if default is not None and trial == default.trial else []
    return ", ".join(roles) or None


def _named(finalists: Finalists, trial: int) -> str:
    role = _role(finalists, trial)
    return f"trial {trial} ({role})" if role else f"trial {trial}"


def _objective_values(record: SweepRecord, trial: TrialRecord) -> dict[str, Cell]:
    values = trial.values or (None,) * len(record.objectives)
    return {o.label: v for o, v in zip(record.objectives, values, strict=True)}


def _settings(trial: TrialRecord, names: Mapping[str, str]) -> dict[str, Cell]:
    return {
        short: _setting_cell(trial.params[n]) if n in trial.params else None
        for n, short in names.items()
    }
