"""A process that runs trials of a study until none is left; any number of them may."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from experiments.runner import configure_torch
from experiments.settings import Tree, check_config, flatten, merge
from experiments.sweep_directory import keep_finalist
from experiments.trial import (
    Metrics,
    SealedData,
    Trained,
    judge_lists,
    list_metrics,
    measure,
    new_trainer,
    train,
    trial_config,
    validation_vectors,
)
from experiments.watch import Watch
from recsys.config import Config
from recsys.errors import ArtifactError, BookendsError, ConfigError
from recsys.evaluation.segments import main_k
from recsys.pipeline import model_vectors
from recsys.training.trainer import EpochResult
from sweeps.pruners import build_pruner
from sweeps.settings import COSTS, SweepSettings
from sweeps.space import Params, Space
from sweeps.storage import Storage, open_storage
from sweeps.study import DEFAULT, RETRY_OF, Notes, SweepStudy, load_settings, open_study
from tracking.processes import Owner
from tracking.store import resolve_uri
from tracking.sweep import TrialTracker
from tracking.trial_runs import TrialEnd

Stage = Literal["share", "search", "finalists"]
STAGES: tuple[Stage, ...] = ("share", "search", "finalists")
FINALISTS_DIR = "finalists"
TRACKING_VARIABLE = "BOOKENDS_TRACKING_URI"
STORAGE_VARIABLE = "BOOKENDS_STORAGE"
LIMITS, STAGE, TRACKING, FINGERPRINT, SWEEP_DIR = (
    "limits",
    "stage",
    "tracking",
    "fingerprint",
    "sweep_dir",
)
FAILURES = (BookendsError, RuntimeError, MemoryError, ArithmeticError)
"""What training may end in that would end it again: torch's errors are RuntimeErrors."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Assignment:
    """What a worker needs to know.

    Attributes:
        study: name of the sweep's study.
        storage: its address.
        stage: the part of the sweep to work on; None for the one that is under way.
        index: number of the worker on its machine.
        parent: process that started it; the worker ends with it. None for one that joined.
    """

    study: str
    storage: str
    stage: Stage | None = None
    index: int = 0
    parent: int | None = None


def stage_name(study: str, stage: Stage) -> str:
    """The name of the Optuna study of a stage."""
    return study if stage == "search" else f"{study}.{stage}"


def open_stage(
    storage: Storage, name: str, stage: Stage, settings: SweepSettings, base: Config, limit: int
) -> SweepStudy:
    """The Optuna study of a stage of a sweep, made where there is none."""
    space = None if stage == "finalists" else Space.of(settings.space)
    if stage == "finalists":
        settings = settings.model_copy(
            update={"pruner": "none", "objectives": settings.objectives[:1]}
        )
    return open_study(
        storage,
        stage_name(name, stage),
        settings,
        space=space,
        pruner=build_pruner(settings, base.training.num_epochs),
        limit=limit,
    )


@dataclass
class _Attempt:
    """A trial under way."""

    trial: optuna.Trial
    started: float
    config: Config | None = None
    planned: int = 0
    epochs: int = 0
    metrics: Metrics = field(default_factory=dict)


class Worker:
    """Runs trials of one stage of a sweep, one at a time.

    Args:
        study: of the stage.
        settings: of the sweep.
        base: the configuration that trials start from.
        data: what trials are given, the test split sealed.
        tracker: told of the trials; None for none.
        watch: asked at every step whether to go on.
        name: of the worker, for the records.
        finalists_dir: where finalists leave their values a reader.
    """

    def __init__(  # noqa: PLR0913
        self,
        study: SweepStudy,
        settings: SweepSettings,
        base: Config,
        *,
        data: SealedData,
        tracker: TrialTracker | None,
        watch: Watch,
        name: str,
        finalists_dir: Path,
    ) -> None:
        self._study = study
        self._settings = settings
        self._base = base
        self._tracker = tracker
        self._watch = watch
        self._name = name
        self._data = data
        self._finalists_dir = finalists_dir
        self._last_tell = 0.0
        self._shown = dict.fromkeys([*settings.measures, *COSTS])

    def run(self) -> int:
        """Run trials until no place is left; gives how many."""
        self._data.of(self._base)  # not part of the first trial
        if self._tracker is not None:
            self._tracker.connect()
        self._study.stopwatch.take()
        done = 0
        while True:
            self._watch.check()
            trial = self._study.next_trial()
            if trial is None:
                return done
            self._run_trial(trial)
            done += 1

    def _run_trial(self, trial: optuna.Trial) -> None:
        """Run one trial; whatever interrupts it, it is queued again."""
        started = time.monotonic()
        self._watch.beat = lambda: self._study.storage.beat(trial._trial_id)
        attempt = _Attempt(trial, started)
        try:
            self._study.storage.beat(trial._trial_id)
            self._begin(attempt)
            self._train(attempt)
        except ArtifactError as error:  # a full disk: nothing that speaks against the trial
            self._give_back(attempt, error)
            raise
        except FAILURES as error:
            line = (str(error).splitlines() or [""])[0] or type(error).__name__
            name = "" if isinstance(error, BookendsError) else f"{type(error).__name__}: "
            self._end(attempt, "failed", error=f"{name}{line}")
        except BaseException as error:
            self._give_back(attempt, error)
            raise
        finally:
            self._watch.beat = lambda: None

    def _begin(self, attempt: _Attempt) -> None:
        trial, stopwatch = attempt.trial, self._study.stopwatch
        run_id = None
        if self._tracker is not None:
            with stopwatch:
                tags = tags_of(self._study, trial, self._name, is_share=self._data.user_share != 1)
                self._tracker.begin(trial.number, title_of(self._study, trial), tags)
                run_id = self._tracker.run_id
        note = {"worker": self._name, "owner": asdict(Owner.current()), "run_id": run_id}
        params = self._study.begin(trial, note)
        settings = self._settings_of(trial, params)
        attempt.config = self._config(settings)
        attempt.planned = attempt.config.training.num_epochs
        if self._tracker is not None:
            resolved = flatten(attempt.config.model_dump(mode="json"))
            names = settings or (() if self._study.space is None else self._study.space.names)
            self._tracker.params({name: resolved[name] for name in names if name in resolved})

    def _train(self, attempt: _Attempt) -> None:
        assert attempt.config is not None
        prepared = self._data.of(attempt.config)
        trainer = new_trainer(attempt.config, prepared)
        metric = None if self._study.space is None else self._settings.pruning_metric

        def keep_going(result: EpochResult) -> bool:
            attempt.epochs = result.number
            if self._tracker is not None:
                with self._study.stopwatch:
                    self._tracker.log_epoch(self._for_tracker(result))
            if metric is None:
                return True
            return not self._study.report(
                attempt.trial, result.number, result.validation.get(metric)
            )

        trained = train(trainer, keep_going=keep_going, on_step=self._watch.check)
        if self._study.space is None:
            self._end_finalist(attempt, trained)
            return
        attempt.metrics = measure(trained, prepared, attempt.config, self._settings.measures)
        self._study.constrain(attempt.trial, self._settings.constraints, attempt.metrics)
        if trained.is_pruned:
            self._end(attempt, "pruned", reason=f"pruned after epoch {trained.epochs}")
        else:
            self._end_complete(attempt, trained)

    def _end_complete(self, attempt: _Attempt, trained: Trained) -> None:
        values = [attempt.metrics.get(part.metric) for part in self._settings.objectives]
        missing = [
            part.metric
            for part, value in zip(self._settings.objectives, values, strict=True)
            if value is None or not np.isfinite(value)
        ]
        if missing:
            self._end(attempt, "failed", error=f"'{missing[0]}' has no value")
            return
        reason = trained.trainer.stop_reason or ""
        self._end(
            attempt, "complete", reason=reason, values=[float(v) for v in values if v is not None]
        )

    def _end_finalist(self, attempt: _Attempt, trained: Trained) -> None:
        """Keep a finalist's values a reader, and its vectors for the one look at test."""
        assert attempt.config is not None
        prepared = self._data.of(attempt.config)
        model = trained.trainer.model
        trained.trainer.restore_best()
        evaluation = judge_lists(validation_vectors(model, prepared), prepared, attempt.config)
        for_test = model_vectors(model, prepared)  # histories hold validation items as well
        notes = attempt.trial.user_attrs
        keep_finalist(self._finalists_dir, notes["trial"], notes["seed"], evaluation, for_test)
        attempt.metrics = measure(trained, prepared, attempt.config, ())
        value = (list_metrics(evaluation) | attempt.metrics).get(
            self._settings.objectives[0].metric
        )
        if value is None:
            self._end(attempt, "failed", error="the objective has no value")
        else:
            reason = trained.trainer.stop_reason or ""
            self._end(attempt, "complete", reason=reason, values=[float(value)])

    def _end(
        self,
        attempt: _Attempt,
        how: Literal["complete", "pruned", "failed"],
        *,
        reason: str = "",
        error: str | None = None,
        values: list[float] | None = None,
    ) -> None:
        stopwatch = self._study.stopwatch
        if self._tracker is not None:
            with stopwatch:
                self._track_end(attempt, how, reason, error)
        before = stopwatch.take()
        notes = Notes(
            metrics=attempt.metrics,
            epochs=attempt.epochs,
            planned_epochs=attempt.planned,
            seconds=time.monotonic() - attempt.started,
            # What ending takes can be measured only after the trial can no longer be told.
            overhead_seconds=before + self._last_tell,
            stop_reason=reason,
            error=error,
        )
        match how:
            case "complete":
                self._study.complete(attempt.trial, values or [], notes)
            case "pruned":
                self._study.prune(attempt.trial, notes)
            case "failed":
                self._study.fail(attempt.trial, notes)
        self._last_tell = stopwatch.take()

    def _for_tracker(self, result: EpochResult) -> EpochResult:
        """The epoch with the metrics to draw: those at the main k and those that trials are for.

        All of them would double what a trial costs in the tracker; the record has them.
        """
        end = f"@{main_k(self._base.evaluation.metrics_k)}"
        shown = {
            name: value
            for name, value in result.validation.items()
            if name.endswith(end) or name in self._shown
        }
        return replace(result, validation=shown)

    def _track_end(self, attempt: _Attempt, how: TrialEnd, reason: str, error: str | None) -> None:
        assert self._tracker is not None
        tags = {"bookends.stop_reason": reason, "bookends.error": error or ""}
        if how == "pruned":
            tags["optuna.pruned_at"] = str(attempt.epochs)
        self._tracker.end(
            how,
            summary={name: attempt.metrics.get(name) for name in self._shown},
            tags={name: value for name, value in tags.items() if value},
        )

    def _give_back(self, attempt: _Attempt, error: BaseException) -> None:
        """Queue an interrupted trial again, as far as that can still be done."""
        logger.warning("trial %d was interrupted and is queued again", attempt.trial.number)
        self._study.lose(attempt.trial.number)
        if self._tracker is not None:
            reason = str(error) or type(error).__name__
            self._tracker.end("interrupted", summary={}, tags={"bookends.reason": reason})

    def _settings_of(self, trial: optuna.Trial, params: Params) -> Params:
        if self._study.space is not None:
            return {} if DEFAULT in trial.user_attrs else self._study.space.settings(params)
        return dict(trial.user_attrs["settings"])

    def _config(self, settings: Params) -> Config:
        return trial_config(self._settings.base, settings, "base")


def title_of(study: SweepStudy, trial: optuna.Trial | FrozenTrial) -> str:
    """The name of a trial's run."""
    if study.space is None:
        return f"finalist trial {trial.user_attrs['trial']} seed {trial.user_attrs['seed']}"
    if DEFAULT in trial.user_attrs:
        return f"trial {trial.number} default"
    return f"trial {trial.number}"


def tags_of(
    study: SweepStudy, trial: optuna.Trial | FrozenTrial, worker: str, *, is_share: bool
) -> dict[str, str]:
    """The tags of a trial's run that say which it is."""
    stage = "finalists" if study.space is None else "search"
    tags = {"bookends.stage": "share" if is_share else stage}
    tags |= {"optuna.study": study.name, "bookends.worker": worker}
    if RETRY_OF in trial.user_attrs:
        tags["optuna.retry_of"] = str(trial.user_attrs[RETRY_OF])
    return tags


def join(assignment: Assignment, changes: Tree) -> int:
    """Take part in a sweep until none of its trials is left; gives how many were run.

    Args:
        assignment: where.
        changes: settings that differ on this machine, such as paths of the data.

    Raises:
        ConfigError: there is no such study, or its data are not what this machine has.
        Interrupted: a signal ended the worker, or its parent is gone; its trial is queued again.
    """
    storage = open_storage(assignment.storage)
    watch = Watch(assignment.parent)
    try:
        with watch.on_guard():
            settings, kept = load_settings(storage, assignment.study)
            base = check_config(merge(settings.base, changes), {}, origin="base")
            settings = settings.model_copy(update={"base": merge(settings.base, changes)})
            configure_torch(base)
            assignment = replace(assignment, stage=assignment.stage or kept[STAGE])
            return _build_worker(assignment, storage, settings, base, kept, watch).run()
    finally:
        storage.close()


def _build_worker(
    assignment: Assignment,
    storage: Storage,
    settings: SweepSettings,
    base: Config,
    kept: Mapping[str, Any],
    watch: Watch,
) -> Worker:
    stage = assignment.stage or "search"
    share = settings.user_share if stage == "share" and settings.user_share else 1.0
    study = open_stage(storage, assignment.study, stage, settings, base, kept[LIMITS][stage])
    data = SealedData(base.experiment.seed, share)
    found = data.of(base).fingerprint
    if found != kept[FINGERPRINT]:
        raise ConfigError(
            f"the study '{assignment.study}' was begun on the data set {kept[FINGERPRINT]}, "
            f"this machine has {found}"
        )
    tracker = None
    if kept.get(TRACKING):
        where = kept[TRACKING]
        uri = os.environ.get(TRACKING_VARIABLE) or resolve_uri(where["uri"])
        tracker = TrialTracker(uri, where["experiment_id"], where["run_id"])
    joined = "" if assignment.parent is not None else f"{platform.node()}-{os.getpid()}-"
    return Worker(
        study,
        settings,
        base,
        data=data,
        tracker=tracker,
        watch=watch,
        name=f"{joined}worker-{assignment.index}",
        finalists_dir=Path(kept[SWEEP_DIR]) / FINALISTS_DIR,
    )
