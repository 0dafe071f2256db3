"""From a sweep directory to its report, with no study, no training, no tracker and no network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys.evaluation.tables import Table
from recsys.reporting.document import Block, Callout, Code, Report, Section, Text
from recsys.reporting.document import TableView as View
from recsys.reporting.formatting import metric_label, moment
from recsys.reporting.pages import write_report_files
from recsys.reporting.record import write_tables
from recsys.reporting.sections import figures_of, reproduction, settings_view, views_of
from sweeps import charts
from sweeps.importances import EVALUATOR, FEWEST_TRIALS, importances_of
from sweeps.on_test import on_test
from sweeps.plots import PLOTS_DIR, PLOTS_FILE, write_plots
from sweeps.record import SweepRecord
from sweeps.summary import key_figures, notices, summary, why_ended
from sweeps.tables import sweep_tables

Tables = Mapping[str, Table]


def build_sweep_report(record: SweepRecord) -> Report:
    """The report of a sweep, from its record alone."""
    tables = sweep_tables(record)
    return Report(
        title=record.name,
        subtitle=f"Sweep · {moment(record.created)} · {record.status}",
        summary=summary(record),
        notices=notices(record),
        key_figures=key_figures(record),
        sections=_sections(record, tables),
    )


def write_sweep_report(sweep_dir: Path) -> tuple[Path, Path]:
    """Make sweep_report.md, sweep_report.html, figures/, tables/ and plots/ of a sweep directory.

    Everything comes from study.json, whatever state the sweep is in. Files are replaced whole, and
    the same record gives the same bytes.

    Returns:
        The Markdown and the HTML file.
    """
    record = SweepRecord.read(sweep_dir)
    record = dataclasses.replace(record, importances=importances_of(record))  # once, for all
    report = build_sweep_report(record)
    write_tables(sweep_dir, sweep_tables(record).values())
    write_plots(sweep_dir, record)
    return write_report_files(report, sweep_dir, "sweep_report")


def _sections(record: SweepRecord, tables: Tables) -> tuple[Section, ...]:
    found = [
        ("finalists", "Finalists and significance", _finalists(record, tables)),
        ("optimism", "Selection bias of the best value", views_of(tables, "optimism")),
        ("test", "The test split", _test(record, tables)),
        ("search", "The search", _search(record, tables)),
        ("mattered", "What mattered", _mattered(record, tables)),
        ("baselines", "Baselines", views_of(tables, "baselines")),
        ("fidelity", "Agreement between fidelities", _fidelity(record, tables)),
        ("cost", "What it cost", _cost(record, tables)),
        ("space", "Space and budget", _space(record, tables)),
        ("trials", "Trials", _trials(tables)),
        ("settings", "Settings", _settings(record)),
        ("reproduce", "How to reproduce", _reproduction(record)),
    ]
    return Section.of(found)


def _finalists(record: SweepRecord, tables: Tables) -> list[Block]:
    if record.finalists is None:
        return []
    blocks: list[Block] = [Callout(record.finalists.verdict)]
    if record.versus_baseline is not None:
        blocks.append(Callout(record.versus_baseline.verdict))
    blocks += figures_of(charts.finalists_figure(record.finalists))
    return blocks + views_of(tables, "finalists", "comparisons")


def _test(record: SweepRecord, tables: Tables) -> list[Block]:
    count = len(record.test_looks)
    times = {0: "never opened", 1: "opened once"}.get(count, f"opened {count} times")
    said = (
        f"Every trial and every finalist was judged on validation. The test split was {times} in "
        "this sweep."
    )
    told = [Text(found)] if (found := on_test(record)) else []
    return [Text(said), *told, *views_of(tables, "test_looks")]


def _search(record: SweepRecord, tables: Tables) -> list[Block]:
    front = charts.front_figure(record)
    curves = charts.curves_figure(record) if len(record.objectives) == 1 else None
    blocks = figures_of(charts.history_figure(record), front, curves)
    if blocks:
        blocks.append(Text(f"Plots to move about in are in {PLOTS_DIR}/{PLOTS_FILE}."))
    return blocks + views_of(tables, "best_trials")


def _mattered(record: SweepRecord, tables: Tables) -> list[Block]:
    blocks: list[Block] = []
    for index, found in enumerate(importances_of(record)):
        if found.reason is not None:
            name = metric_label(found.metric)
            blocks.append(Text(f"No importances for {name}: {found.reason}."))
        if found.correlations:
            few = found.n_trials < FEWEST_TRIALS
            why = (
                f"shares of importance take {FEWEST_TRIALS} trials, and there are {found.n_trials}"
                if few
                else f"by {EVALUATOR} no setting told the best trials from the others"
            )
            blocks.append(Text(f"Rank correlations stand in for importances here: {why}."))
        names = [*found.values, *dict.fromkeys(each.setting for each in found.correlations)]
        names = names if index == 0 else []
        blocks += figures_of(charts.importance_figure(found), *charts.slice_figures(record, names))
    return blocks + views_of(tables, *(n for n in tables if n.startswith("importances_")))


def _fidelity(record: SweepRecord, tables: Tables) -> list[Block]:
    if record.fidelity is None:
        return []
    verdict = record.fidelity.verdict
    return [Text(f"{verdict[:1].upper()}{verdict[1:]}."), *views_of(tables, "fidelity")]


def _cost(record: SweepRecord, tables: Tables) -> list[Block]:
    blocks = figures_of(charts.cost_figure(record), charts.timeline_figure(record))
    return blocks + views_of(tables, "cost_per_point", "epochs_spared", "time_spent")


def _space(record: SweepRecord, tables: Tables) -> list[Block]:
    objectives = ", ".join(f"{o.direction} {o.label}" for o in record.objectives)
    rules = [
        f"{metric_label(rule.metric)} {sign} {bound:g}"
        for rule in record.constraints
        for sign, bound in (("at most", rule.maximum), ("at least", rule.minimum))
        if bound is not None
    ]
    end, metric = record.search_end, record.objectives[0].metric
    facts = [
        ("objectives", objectives),
        ("constraints", ", ".join(rules)),
        ("trials asked for", "" if record.n_trials is None else f"{record.n_trials:,}"),
        ("hours", str(record.settings.get("hours") or "")),
        ("why the search ended", "" if end is None else why_ended(end, metric)),
        ("workers", str(record.workers)),
        ("sessions", str(record.sessions)),
        ("sampler", _named(record.sampler)),
        ("pruner", _named(record.pruner)),
        ("seed", str(record.seed)),
        ("prepared data", record.fingerprint),
    ]
    rows = tuple((name, text) for name, text in facts if text)
    budget = Table("budget", "Budget and method", "", ("what", "value"), rows)
    return [*views_of(tables, "space"), View(budget)]


def _trials(tables: Tables) -> list[Block]:
    every = views_of(tables, "trials", limit=500, is_folded=True)
    return views_of(tables, "failed_trials") + every


def _settings(record: SweepRecord) -> list[Block]:
    note = "sweep.yaml holds the same."
    return [
        *settings_view("sweep_settings", "Settings of the sweep", note, record.settings),
        *settings_view("base_config", "Settings that trials start from", "", record.base_config),
    ]


def _reproduction(record: SweepRecord) -> list[Block]:
    said: list[Block] = [
        Text(
            "With one worker, the same seed, data and versions give the same trials with the same "
            "values; with several, what the sampler has seen depends on which trial ends first. "
            "The same command goes on with a sweep that was stopped."
        )
    ]
    if record.ranked():
        said.append(Text("The winning configuration as a run:"))
        said.append(Code("bookends run --config best.yaml"))
    return reproduction(record.environment, "sweep", *said)


def _named(settings: Mapping[str, Any]) -> str:
    rest = [
        f"{k.replace('_', ' ')} {v}" for k, v in settings.items() if k != "name" and v is not None
    ]
    name = str(settings.get("name", ""))
    return f"{name} ({', '.join(rest)})" if rest and name else name
