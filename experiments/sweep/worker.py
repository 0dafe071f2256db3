"""A process that runs trials of a study until none is left; any number of them may."""

from __future__ import annotations

import logging
import os
import platform
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from types import FrameType
from typing import Any, Literal

import numpy as np
import optuna

from experiments.children import is_orphan
from experiments.environment import configure_torch
from experiments.settings import Tree, check_config, flatten, merge
from experiments.signals import Interrupted, signals_to
from experiments.sweep.directory import SweepDirectory
from experiments.sweep.request import trial_config
from experiments.sweep.shipping import ShippedFile, find_here, finder
from experiments.sweep.state import (
    TRACKING_VARIABLE,
    Assignment,
    SweepState,
    epoch_metrics,
    load_state,
    settings_of,
    tags_of,
    title_of,
)
from experiments.sweep.trial import (
    FindData,
    SealedData,
    evaluate_lists,
    list_metrics,
    measure,
    train,
    validation_vectors,
)
from recsys.config import Config
from recsys.errors import ArtifactError, BookendsError, ConfigError
from recsys.evaluation.evaluation import Evaluation
from recsys.evaluation.ranking import Vectors
from recsys.pipeline import build_trainer, model_vectors
from recsys.training.trainer import EpochResult, Step, Trainer
from sweeps.settings import COSTS
from sweeps.storage import HEARTBEAT_SECONDS, Storage, open_storage
from sweeps.study import open_study
from sweeps.trials import Notes
from tracking.processes import Owner
from tracking.store import resolve_uri
from tracking.sweep import TrialTracker, fetched_data

End = Literal["complete", "pruned", "failed"]
FAILURES = (BookendsError, RuntimeError, MemoryError, ArithmeticError)
"""What training may end in that would end it again: torch's errors are RuntimeErrors."""
logger = logging.getLogger(__name__)


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
    stop = StopCheck(has_parent=assignment.has_parent)
    try:
        with stop.on_signals():
            state = load_state(storage, assignment.study)
            return Worker(assignment, state, changes, storage, stop, _here(assignment, state)).run()
    finally:
        storage.close()


@dataclass(frozen=True)
class Place:
    """What depends on where a worker runs."""

    name: str
    """Of the worker, in the record and the tracker."""
    tracking_uri: str | None
    """The tracker as it is reached from here; None for none."""
    keep_finalist: Callable[[int, int, Evaluation, Vectors], None]
    """Puts a finalist's values of each user and its vectors where the parent finds them."""
    find_data: FindData = find_here
    note: Mapping[str, Any] = field(default_factory=dict)
    """What the first note of its trials says besides."""


def _here(assignment: Assignment, state: SweepState) -> Place:
    """On the machine of the sweep's directory, or one that shares its disks."""
    joined = "" if assignment.has_parent else f"{platform.node()}-{os.getpid()}-"
    uri = None
    if state.tracking is not None:
        uri = os.environ.get(TRACKING_VARIABLE) or resolve_uri(state.tracking.uri)
    keep = SweepDirectory(state.sweep_dir).keep_finalist
    place = Place(f"{joined}worker-{assignment.index}", uri, keep)
    if not state.uploaded or state.tracking is None or uri is None:
        return place
    # each is one part, which its name stands for
    files = tuple(ShippedFile(name, digest, (name,)) for name, digest in state.uploaded.items())
    get = partial(_uploaded_part, uri, state.tracking.run_id)
    return replace(place, find_data=finder(state.fingerprint, files, get))


def _uploaded_part(uri: str, run_id: str, name: str) -> np.ndarray:
    with fetched_data(uri, run_id, name) as path:  # mapped, it outlives its name
        return np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)


class StopCheck:
    """Ends a worker at a safe point: when a signal came, or its parent is gone."""

    def __init__(self, *, has_parent: bool = False) -> None:
        self._has_parent = has_parent
        self._signal: int | None = None
        self._last_beat = time.monotonic()
        self.beat: Callable[[], None] | None = None
        """Called about once a minute, to say that the worker lives."""

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Take note of the first SIGINT or SIGTERM within; a second ends the process at once."""

        def note(number: int, _frame: FrameType | None) -> None:
            self._signal = number
            for each in (signal.SIGINT, signal.SIGTERM):
                signal.signal(each, signal.SIG_DFL)

        with signals_to(note):
            yield

    def check(self, _step: Step | None = None) -> None:
        """Raise Interrupted where the worker is to end."""
        if self._signal is not None:
            raise Interrupted(self._signal)
        if self._has_parent and is_orphan():
            raise Interrupted(signal.SIGTERM)
        if self.beat is not None and time.monotonic() - self._last_beat > HEARTBEAT_SECONDS:
            self._last_beat = time.monotonic()
            self.beat()


class Worker:
    """Runs trials of one stage of a sweep, one at a time."""

    def __init__(
        self,
        assignment: Assignment,
        state: SweepState,
        changes: Tree,
        storage: Storage,
        stop: StopCheck,
        place: Place,
    ) -> None:
        stage = assignment.stage or state.stage
        tree = merge(state.settings.base, changes)
        self._base = check_config(tree, {}, origin="base")
        self._settings = state.settings.model_copy(update={"base": tree})
        configure_torch(self._base)
        share = self._settings.user_share if stage == "share" else None
        self._data = SealedData(self._base.experiment.seed, share or 1.0, place.find_data)
        sealed = ("test",) if share is None else ("train", "validation", "test")
        if other := state.data_changes(self._data.of(self._base), sealed):
            raise ConfigError(
                f"this machine must have the data that the study '{assignment.study}' was begun "
                f"on, but {other}"
            )
        self._study = open_study(
            storage, assignment.study, stage, self._settings, self._base, state.limits[stage]
        )
        self._tracker, held = None, state.tracking
        if held is not None and place.tracking_uri is not None:
            self._tracker = TrialTracker(place.tracking_uri, held.experiment_id, held.run_id)
        self._place = place
        self._stop = stop
        self._last_tell = 0.0
        # all of them would double what a trial costs in the tracker; the record has them
        in_epochs = epoch_metrics(self._settings, self._base, state.dataset)
        self._in_epochs = list(dict.fromkeys([*self._settings.measures, *in_epochs]))
        self._shown = dict.fromkeys([*self._settings.measures, *COSTS])

    def run(self) -> int:
        """Run trials until the limit is reached; gives how many."""
        if self._tracker is not None:
            self._tracker.connect()
        self._study.stopwatch.take()
        done = 0
        while True:
            self._stop.check()
            trial = self._study.next_trial()
            if trial is None:
                return done
            self._run_trial(trial)
            done += 1

    def _run_trial(self, trial: optuna.Trial) -> None:
        """Run one trial; whatever interrupts it, it is queued again."""
        started, notes = time.monotonic(), Notes()
        self._stop.beat = lambda: self._study.beat(trial)
        try:
            self._study.beat(trial)
            try:
                values = self._train(trial, self._begin(trial), notes)
                how: End = "pruned" if values is None else "complete"
            except ArtifactError:  # a full disk: nothing that speaks against the trial
                raise
            except FAILURES as error:
                line = (str(error).splitlines() or [""])[0] or type(error).__name__
                name = "" if isinstance(error, BookendsError) else f"{type(error).__name__}: "
                notes.error, values, how = f"{name}{line}", None, "failed"
            self._end(trial, how, notes, values, started)
        except BaseException as error:
            self._give_back(trial, error)
            raise
        finally:
            self._stop.beat = None

    def _begin(self, trial: optuna.Trial) -> Config:
        """Say that the trial runs here; gives its configuration."""
        run_id = None
        if self._tracker is not None:
            with self._study.stopwatch:
                tags = tags_of(self._study, trial, self._place.name)
                self._tracker.begin(trial.number, title_of(self._study, trial), tags)
                run_id = self._tracker.run_id
        note = {"worker": self._place.name, "owner": asdict(Owner.current()), "run_id": run_id}
        note |= self._place.note
        settings = settings_of(self._study, trial, self._study.begin(trial, note))
        config = trial_config(self._settings.base, settings, "base")
        if self._tracker is not None:
            resolved = flatten(config.model_dump(mode="json"))
            names = settings or self._study.space.names
            self._tracker.params({name: resolved[name] for name in names if name in resolved})
        return config

    def _train(self, trial: optuna.Trial, config: Config, notes: Notes) -> list[float] | None:
        """The values of the objectives; None where the trial was pruned.

        Raises:
            BookendsError: an objective has no value.
        """
        prepared = self._data.of(config)
        is_finalist = self._study.stage == "finalists"
        metric = self._study.settings.pruning_metric
        notes.planned_epochs = config.training.num_epochs

        def keep_going(result: EpochResult) -> bool:
            notes.epochs = result.number
            if self._tracker is not None:
                with self._study.stopwatch:
                    self._tracker.log_epoch(result, self._in_epochs)
            value = None if metric is None else result.validation.get(metric)
            return not self._study.report(trial, result.number, value)

        trainer = build_trainer(config, prepared)
        is_pruned = train(trainer, keep_going=keep_going, on_step=self._stop.check)
        wanted = () if is_finalist or is_pruned else self._settings.measures
        notes.metrics = measure(trainer, prepared, config, wanted)
        known = notes.metrics
        objectives = [part.metric for part in self._study.settings.objectives]
        if is_finalist:
            known = self._keep_finalist(trial, trainer, config) | known
        else:
            self._study.constrain(trial, known)
        if is_pruned:
            notes.stop_reason = f"pruned after epoch {notes.epochs}"
            return None
        values = [known.get(name) for name in objectives]
        for name, value in zip(objectives, values, strict=True):
            if value is None or not np.isfinite(value):
                raise BookendsError(f"'{name}' has no value")
        notes.stop_reason = trainer.stop_reason or ""
        return [float(value) for value in values if value is not None]

    def _keep_finalist(
        self, trial: optuna.Trial, trainer: Trainer, config: Config
    ) -> dict[str, float | None]:
        """Keep a finalist's values of each user, and its vectors for the one look at test."""
        prepared, model = self._data.of(config), trainer.model
        trainer.restore_best()
        evaluation = evaluate_lists(validation_vectors(model, prepared), prepared, config)
        for_test = model_vectors(model, prepared)  # histories hold validation items as well
        notes = trial.user_attrs
        self._place.keep_finalist(notes["trial"], notes["seed"], evaluation, for_test)
        return list_metrics(evaluation)

    def _end(
        self,
        trial: optuna.Trial,
        how: End,
        notes: Notes,
        values: list[float] | None,
        started: float,
    ) -> None:
        stopwatch = self._study.stopwatch
        if self._tracker is not None:
            tags = {"bookends.stop_reason": notes.stop_reason, "bookends.error": notes.error or ""}
            if how == "pruned":
                tags["optuna.pruned_at"] = str(notes.epochs)
            with stopwatch:
                self._tracker.end(
                    how,
                    summary={name: notes.metrics.get(name) for name in self._shown},
                    tags={name: value for name, value in tags.items() if value},
                )
        # What ending takes can be measured only after the trial can no longer be told.
        notes.overhead_seconds = stopwatch.take() + self._last_tell
        notes.seconds = time.monotonic() - started
        self._study.end(trial, how, notes, values)
        self._last_tell = stopwatch.take()

    def _give_back(self, trial: optuna.Trial, error: BaseException) -> None:
        """Queue an interrupted trial again, as far as that can still be done."""
        logger.warning("trial %d was interrupted and is queued again", trial.number)
        self._study.lose(trial.number)
        if self._tracker is not None:
            reason = str(error) or type(error).__name__
            self._tracker.end("interrupted", summary={}, tags={"bookends.reason": reason})
