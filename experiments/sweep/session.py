"""A sweep under way in this process: its study and its record, and what MLflow is told of it."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_jsonable_python

from experiments.dataset import describe_dataset
from experiments.environment import describe_environment
from experiments.sweep.console import SweepConsole
from experiments.sweep.directory import SweepDirectory
from experiments.sweep.pool import Pool, local_pool
from experiments.sweep.state import SweepState, epoch_metrics, read_state
from recsys.config import Config
from recsys.data.dataset import Prepared
from recsys.evaluation.tables import Cell
from recsys.reporting.formatting import number
from sweeps.findings import BaselineComparison, Finalists, RankAgreement
from sweeps.pruners import describe_pruner
from sweeps.record import SweepRecord, SweepStatus
from sweeps.samplers import describe_sampler
from sweeps.settings import UNLIMITED, SweepSettings
from sweeps.storage import Storage
from sweeps.study import Stage, SweepStudy, open_study
from sweeps.summary import findings, key_table, searched
from sweeps.trials import counted
from tracking.payload import baseline_group
from tracking.run_page import markdown_table
from tracking.store import STORE_ERRORS, explain, resolve_uri, without_password
from tracking.sweep import SweepRun, open_sweep

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Session:
    """A sweep under way in this process: what all of its steps need."""

    settings: SweepSettings
    base: Config
    prepared: Prepared
    directory: SweepDirectory
    storage: Storage
    main: SweepStudy
    """The study of the trials on all users, which keeps the sweep's state too."""
    console: SweepConsole
    started: float = field(default_factory=time.monotonic)
    environment: dict[str, Any] = field(default_factory=describe_environment)
    new_pool: Callable[[Session, Stage], Pool] = local_pool
    """Makes the workers of a stage."""
    tracked: SweepRun | None = None
    finalists: Finalists | None = None
    versus_baseline: BaselineComparison | None = None
    fidelity: RankAgreement | None = None

    @property
    def state(self) -> SweepState:
        """What the study keeps beside its trials, as it is now."""
        return read_state(self.main.kept(), self.main.name)

    def keep(self, **values: Any) -> None:
        """Let the study keep fields of its state."""
        for name, value in values.items():
            self.main.keep(name, to_jsonable_python(value))

    def stage(self, stage: Stage) -> SweepStudy:
        """The study of a stage."""
        if stage == "search":
            return self.main
        limit = self.state.limits[stage]
        return open_study(self.storage, self.directory.name, stage, self.settings, self.base, limit)

    @property
    def n_ended(self) -> int:
        """Trials that ended, of all stages, each configuration once."""
        studies = [self.stage(stage) for stage, limit in self.state.limits.items() if limit]
        return sum(
            trial.state.is_finished() for study in studies for trial in counted(study.trials())
        )

    def set_limit(self, stage: Stage, limit: int) -> None:
        """Let a stage have so many trials."""
        if stage == "search":
            self.main.limit = limit
        self.keep(limits=self.state.limits | {stage: limit})

    def record(self, status: SweepStatus, error: str | None = None) -> SweepRecord:
        """All that is known now."""
        settings, state = self.settings, self.state
        return SweepRecord(
            name=self.directory.name,
            status=status,
            created=state.created,
            base_config=self.base.model_dump(mode="json"),
            space=settings.space,
            objectives=settings.objectives,
            n_trials=self.main.limit if self.main.limit < UNLIMITED else None,
            seed=settings.seed,
            seconds=state.seconds + time.monotonic() - self.started,
            sampler=describe_sampler(settings),
            pruner=describe_pruner(settings),
            constraints=settings.constraints,
            workers=settings.workers,
            fingerprint=self.prepared.fingerprint,
            dataset=describe_dataset(self.prepared),
            trials=self.main.records(),
            baselines=state.baselines,
            tuned_baselines=state.tuned_baselines,
            versus_baseline=self.versus_baseline,
            search_end=state.search_end,
            finalists=self.finalists,
            earlier=state.earlier,
            fidelity=self.fidelity,
            test_looks=state.test_looks,
            best_run_name=state.best_run_name,
            settings=settings.model_dump(mode="json"),
            parts=state.parts,
            sessions=state.sessions,
            environment=self.environment,
            error=error,
        )

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Let the study keep what the block takes as time of this part of the sweep."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.took(name, time.monotonic() - started)

    def took(self, name: str, seconds: float) -> None:
        """Add to the time of a part."""
        parts = self.state.parts
        self.keep(parts=parts | {name: parts.get(name, 0.0) + seconds})

    def close(self, status: SweepStatus, error: str | None = None) -> None:
        """Put down how the session ended, and for how long it went on."""
        self.keep(seconds=self.state.seconds + time.monotonic() - self.started)
        self.started = time.monotonic()
        if self.tracked is not None:
            note = describe(self.record(status, error))
            self.tracked.send_tags({"mlflow.note.content": note})
            self.tracked.finish(status, error)


def track(session: Session) -> None:
    """Open the sweep's run, where the sweep is to be tracked and the store answers."""
    if session.tracked is not None or not session.base.experiment.tracking:
        return
    try:
        session.tracked = open_run(session)
    except STORE_ERRORS as error:
        why = explain(error, resolve_uri(session.base.experiment.tracking_uri))
        logger.warning("the tracking store is away (%s); the sweep goes on", why)


def open_run(session: Session, tracking_uri: str | None = None) -> SweepRun:
    """The sweep's run in MLflow, made where there is none.

    Args:
        session: of the sweep.
        tracking_uri: another store, which does not become that of the sweep.

    Raises:
        STORE_ERRORS: the store is away.
    """
    settings, state, name = session.settings, session.state, session.directory.name
    configured = tracking_uri or session.base.experiment.tracking_uri
    usual = configured or os.environ.get("MLFLOW_TRACKING_URI")
    held = state.tracking
    dumped = settings.model_dump(mode="json", exclude={"base", "epoch_metrics"})
    tracked = open_sweep(
        # a sweep goes on in its store, wherever one stands
        usual or (None if held is None else held.uri),
        experiment=session.base.experiment.name,
        name=name,
        created=state.created,
        params={"cfg": session.base.model_dump(mode="json"), "sweep": dumped},
        tags={
            "bookends.kind": "sweep",
            "bookends.sweep_dir": str(session.directory.path),
            "bookends.dataset": session.prepared.fingerprint,
            "optuna.study": name,
            "optuna.storage": without_password(session.storage.url),
        },
        run_id=None if held is None else held.run_id,
    )
    if tracking_uri is None:
        own = {"run_id": tracked.run_id, "experiment_id": tracked.experiment_id}
        session.keep(tracking={"uri": without_password(tracked.uri)} | own)
    steps = [dataclasses.asdict(step) for step in session.prepared.filter_steps]
    tracked.send_origin(session.environment, describe_dataset(session.prepared), steps)
    tracked.send_tags({"mlflow.note.content": describe(session.record("running"))})
    send_baselines(session, tracked)
    return tracked


def send_baselines(session: Session, tracked: SweepRun) -> None:
    """Send MLflow what is known of the baselines on validation."""
    names = epoch_metrics(session.settings, session.base, describe_dataset(session.prepared))
    for baseline, values in session.state.baselines.items():
        row = {name: values.get(name) for name in names}
        tracked.send_metrics(baseline_group(baseline, "validation"), row)


def describe(record: SweepRecord) -> str:
    """Markdown for the head of the sweep's page: what was searched, key figures, what was found."""
    table = key_table(record)
    rows = [[_figure(cell) for cell in row] for row in table.rows]
    parts = [searched(record), "\n".join(markdown_table(table.columns, rows))]
    parts.insert(1, f"Failed: {record.error}" if record.status == "failed" else "")
    parts.append("" if record.status == "running" else findings(record))
    return "\n\n".join(part for part in parts if part)


def _figure(cell: Cell) -> str:
    """A cell of the key table; costs, which are large, without decimals."""
    if isinstance(cell, int | float):
        return number(float(cell), 4 if abs(cell) < 100 else 0)
    return cell or ""


def progress_points(record: SweepRecord) -> list[dict[str, float]]:
    """The series of a sweep: what was known after each trial, in the order in which they ended."""
    ended = sorted(
        (trial for trial in record.trials if trial.ended is not None and trial.state != "running"),
        key=lambda trial: (trial.ended or "", trial.number),
    )
    better = max if record.objectives[0].sign > 0 else min
    counts = dict.fromkeys(("complete", "pruned", "failed"), 0)
    best: float | None = None
    points = []
    for trial in ended:
        counts[trial.state] += 1
        if trial.values is not None and record.is_feasible(trial):
            best = trial.values[0] if best is None else better(best, trial.values[0])
        point = {f"n_{state}": float(count) for state, count in counts.items()}
        points.append(point if best is None else point | {"best_so_far": best})
    return points
