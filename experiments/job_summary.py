"""A run on one screen, for the page of a CI job: its key figures, and the champion beside it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from experiments.compare import compared
from experiments.other_data import RunTest
from recsys.addresses import hide_passwords
from recsys.errors import BookendsError
from recsys.evaluation.tables import Table
from recsys.recommender.drift import drift_sentence
from recsys.reporting.comparison import RunComparison
from recsys.reporting.comparison import compare as compare_runs
from recsys.reporting.comparison_report import shortened
from recsys.reporting.comparison_summary import notices as comparison_notices
from recsys.reporting.comparison_summary import verdict
from recsys.reporting.comparison_tables import comparison_tables
from recsys.reporting.document import Block, Callout, Report, Section, TableView, Text
from recsys.reporting.formatting import moment
from recsys.reporting.markdown import render_markdown
from recsys.reporting.past_run import PastRun
from recsys.reporting.summary import key_figures, notices, outcome_sentences
from tracking.ledger import Ledger
from tracking.past_runs import find_run, read_run
from tracking.registry import Registry

_NOTE = (
    "Paired over the same test users. points: the run minus the reference, in hundredths of the "
    "metric. p: of the sign-flip test, after Holm's correction. better, worse: users whom the run "
    "serves better or worse."
)


def job_summary(run_dir: Path, name: str, tracking_uri: str | None = None) -> str:
    """The key figures of a run and its comparison with the champion, as Markdown.

    A champion that cannot be compared, or a store that cannot be read, is said in place of it: the
    run's own figures are wanted all the same.

    Args:
        run_dir: the run directory.
        name: of the registered model.
        tracking_uri: the champion's store; None for that of ``bookends register``.

    Raises:
        ArtifactError: no run directory, or a damaged one.
    """
    run = read_run(run_dir)
    rows = tuple(dataclasses.astuple(figure) for figure in key_figures(run.record))
    figures = Table("key_figures", "Key figures", "", ("what", "value", "detail"), rows)
    against = Section("champion", "Against the champion", _against(run_dir, name, tracking_uri))
    report = Report(
        title=run.record.run_name,
        subtitle=f"{moment(run.record.created)} · {run.record.status}",
        summary=" ".join(outcome_sentences(run.record, run.tables)),
        notices=notices(run.record),
        key_figures=(),
        sections=(Section("key", "Results", (TableView(figures),)), against),
    )
    return render_markdown(report, figures="figures")


def _against(run_dir: Path, name: str, tracking_uri: str | None) -> tuple[Block, ...]:
    """What the paired test says of the run and the champion."""
    try:
        uri = Ledger.read(run_dir).store(tracking_uri)
        run = read_run(run_dir, uri)
        version = Registry(uri, name).champion()
        if version is None:
            return (Text(f"No version of {name} is champion yet."),)
        called = f"version {version.version} of {name}"
        if run.run_id is not None and version.run_id == run.run_id:
            return (Text(f"This run is the champion, {called}."),)
        champion = find_run(version.run_id or "", uri)
        comparison = _comparison(champion, run, uri)
    except BookendsError as error:
        reason = hide_passwords(str(error))
        return (Callout(f"The champion could not be compared: {reason}", "warning"),)
    (pair,) = comparison.pairs
    said = verdict(comparison, pair)
    drift = [
        Text(f"Of the run's data {drift_sentence(other.paired.tables)}.")
        for other in comparison.others
        if other.paired is not None
    ]
    differences = shortened(comparison_tables(comparison)["differences"])
    return (
        Text(f"The champion is {called}, {champion.name}. {said}"),
        *comparison_notices(comparison),
        *drift,
        TableView(dataclasses.replace(differences, note=_NOTE), limit=1000),
    )


def _comparison(champion: PastRun, run: PastRun, uri: str) -> RunComparison:
    """The run against the champion; a champion of other data against the run, on the run's test."""
    test = RunTest(run, uri)
    held, own = compared(champion, test), compared(run, test)
    return compare_runs([held, own] if held.paired is None else [own, held])
