"""The comparison of runs, from what a person calls them to the report."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from experiments.compare_console import print_comparison
from experiments.console import RunConsole
from experiments.environment import describe_environment
from experiments.other_data import RunTest
from experiments.runs_console import usual_console
from recsys.errors import ConfigError
from recsys.reporting.comparison import RunComparison
from recsys.reporting.comparison import compare as compare_runs
from recsys.reporting.comparison_report import write_comparison
from recsys.reporting.past_run import PastRun
from recsys.reporting.record import RunRecord
from tracking.comparison import send_comparison
from tracking.ledger import Ledger
from tracking.past_runs import find_run

_NAME = re.compile(r"[\w-][\w.-]*")


@dataclass(frozen=True)
class CompareRequest:
    """What is asked for.

    Attributes:
        runs: as a person calls them, the reference first.
        metrics: to test; none takes the usual ones.
        confidence: None takes that of the reference's evaluation.
        name: of the comparison; empty makes one.
        out: where its directory is made.
        experiment: where runs are looked for and the comparison is logged; None looks in all and
            logs beside the runs.
        tracking_uri: the store; None takes the usual one.
        is_tracked: whether the comparison is logged.
    """

    runs: tuple[str, ...]
    metrics: tuple[str, ...] = ()
    confidence: float | None = None
    name: str = ""
    out: Path = Path("artifacts/comparisons")
    experiment: str | None = None
    tracking_uri: str | None = None
    is_tracked: bool = True


def compare(request: CompareRequest) -> RunComparison:
    """Find the runs, compare them, write the report and log it.

    Raises:
        BookendsError: a run that is not found or cannot be compared; or a store that cannot be
            used, after everything else is written.
    """
    if request.name and not _NAME.fullmatch(request.name):
        raise ConfigError(
            "'--name' must hold letters, digits, '-', '_' and '.' only and not begin with '.', "
            f"got '{request.name}'"
        )
    found = _found(request)
    store = request.tracking_uri or _store_of(found.values())
    test = RunTest(found[request.runs[0]], store)
    comparison = compare_runs(
        [
            compared(found[text], test) if text in found else _lists(Path(text), test)
            for text in request.runs
        ],
        name=request.name,
        metrics=request.metrics,
        confidence=request.confidence,
    )
    directory = request.out / comparison.name
    files, console = write_comparison(comparison, directory), usual_console()
    print_comparison(comparison, console)
    RunConsole(console).written(*files)
    if request.is_tracked:
        sent = send_comparison(
            comparison,
            directory,
            tracking_uri=store,
            experiment=request.experiment,
            environment=describe_environment(),
        )
        RunConsole(console).where({"MLflow run": f"{sent.run_id} in {sent.tracking_uri}"})
    return comparison


def _found(request: CompareRequest) -> dict[str, PastRun]:
    """The runs among what is compared, by what a person calls them; all else is a file of lists."""
    ends = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
    runs = [text for text in request.runs if not text.lower().endswith(ends)]
    if request.runs[0] not in runs:
        raise ConfigError(
            "the first of what is compared must be a run, by whose test the others are judged, "
            f"got '{request.runs[0]}'"
        )
    return {text: find_run(text, request.tracking_uri, request.experiment) for text in runs}


def compared(run: PastRun, test: RunTest) -> PastRun:
    """A run as it is compared; where its data are other than those of the test, by its model."""
    paired = None if test.run.held_out.empty else test.judged(run)
    if paired is None:
        return run
    return replace(run, per_user=paired.theirs, tables={}, paired=paired)


def _lists(path: Path, test: RunTest) -> PastRun:
    paired = test.of_lists(path)
    name = path.name.partition(".")[0]
    changed = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
    record = RunRecord(name, "finished", changed, config={}, dataset={})
    return PastRun(name, record, paired.theirs, paired=paired)


def _store_of(runs: Iterable[PastRun]) -> str | None:
    """The store that the first tracked directory went to; None takes the usual one.

    Only where nothing else names a store: an address that is kept holds no password.
    """
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return None
    kept = (Ledger.read(run.directory).tracking_uri for run in runs if run.directory)
    return next((uri for uri in kept if uri), None)
