"""A study whose trials any number of processes ask for, end, lose and run again.

A trial that ended without its last note lost its process, or was interrupted: it is marked as
failed and its configuration queued again. So nothing that any process does alone must be done for
the study to be whole.
"""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from recsys.addresses import without_password
from recsys.config import Config
from recsys.config.section import flatten
from recsys.errors import ConfigError
from sweeps.ending import busy_seconds, forecast, trials_left
from sweeps.findings import EndReason, SearchEnd
from sweeps.journal import EXCESS
from sweeps.pruners import build_pruner
from sweeps.record import DEFAULT, TrialRecord
from sweeps.samplers import build_sampler
from sweeps.settings import UNLIMITED, SweepSettings
from sweeps.space import Params, Space, label
from sweeps.storage import Storage
from sweeps.trials import (
    BEGIN,
    END,
    RETRY_OF,
    STATES,
    Notes,
    config_index,
    counted,
    is_excess,
    is_lost,
    n_retries,
    trial_record,
)

MOST_RETRIES = 2
MOST_EARLY_FAILURES = 5
Stage = Literal["share", "search", "finalists"]
"""Trials on a share of the users, trials on all, and the best of them on fresh seeds."""
SETTINGS_KEY = "settings"
ENDED, ERROR = "ended", "difference_error"
_OPTUNA_STATES = {word: state for state, word in STATES.items()}


class Stopwatch:
    """Adds up the wall time of all blocks within ``with stopwatch:``."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._started

    def take(self) -> float:
        """The seconds so far; it starts again from none."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


@dataclass(eq=False)
class SweepStudy:
    """One Optuna study and how a sweep uses it; made by :func:`open_study`."""

    study: optuna.Study
    storage: Storage
    stage: Stage
    settings: SweepSettings
    space: Space  # what its trials draw from; without a dimension for finalists
    limit: int  # how many trials it may have
    defaults: Params  # the default configuration's, for its record
    stopwatch: Stopwatch = field(default_factory=Stopwatch)  # time in the storage and the sampler

    @property
    def name(self) -> str:
        """The study's name."""
        return self.study.study_name

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        return self.study.get_trials(deepcopy=False)

    def kept(self) -> dict[str, Any]:
        """What the study keeps beside its trials."""
        return self.study.user_attrs

    def keep(self, name: str, value: Any) -> None:
        """Let the study keep something beside its trials: plain values."""
        self.study.set_user_attr(name, value)

    # Giving trials out ----------------------------------------------------------------------------

    def queue(self, params: Params, **notes: Any) -> None:
        """Queue a trial with given values, drawn no more; ``notes`` stay with it."""
        labels = {name: label(value) for name, value in params.items()}
        self.study.enqueue_trial(labels, user_attrs=notes)

    def next_trial(self) -> optuna.Trial | None:
        """The next trial to run; None where the limit is reached."""
        with self.stopwatch, self.storage.exclusive():
            if self.n_free() <= 0 or self._is_hopeless() or self._ends_in_noise():
                return None
            trial = self._ask()
            if is_excess(self.trials(), trial.number, self.limit):
                trial.set_user_attr(EXCESS, True)
                self.study.tell(trial, state=TrialState.FAIL)
                return None
        return trial

    def begin(self, trial: optuna.Trial, note: Mapping[str, Any]) -> Params:
        """Say who runs a trial; gives its values, drawn now."""
        with self.stopwatch:
            trial.set_user_attr(BEGIN, dict(note))
            return self.space.suggest(trial, only=trial.user_attrs.get(DEFAULT))

    def n_free(self) -> int:
        """Trials that may still begin, queued ones among them; none where the search ended."""
        return 0 if self.end_so_far() else self.limit - len(counted(self.trials()))

    def is_done(self) -> bool:
        """Whether as many trials as the limit have ended, or the search ended before."""
        trials, end = counted(self.trials()), self.end_so_far()
        ended = sum(trial.state.is_finished() for trial in trials)
        if end is not None:  # what runs is awaited only where nothing presses
            return end.why != "noise" or ended == len(trials)
        return ended >= self.limit or (ended == len(trials) and self._is_hopeless())

    # Ending below the limit -----------------------------------------------------------------------

    def end_so_far(self) -> SearchEnd | None:
        """Why no trial is to begin any more below the limit; None where one may."""
        kept = self.kept().get(ENDED)
        if kept is not None:
            return SearchEnd(**kept)
        seconds = self.settings.seconds
        is_over = seconds is not None and self.spent_seconds() >= seconds
        # one is completed in any case, or the time would have been for nothing
        if not is_over or all(trial.state != TrialState.COMPLETE for trial in self.trials()):
            return None
        return self._end("hours")

    def search_end(self) -> SearchEnd:
        """Why the search ended."""
        return self.end_so_far() or self._end("trials")

    def keep_end(self, *, asked: bool = False) -> None:
        """Let no further trial begin from now on, as the user asks or since the time is over."""
        end = self._end("asked") if asked else self.end_so_far()
        if end is not None:  # what is interrupted now takes back its time
            self.keep(ENDED, dataclasses.asdict(end))

    def go_on(self) -> None:
        """Take back what ended the search, where the user did or the limits are others now."""
        kept = self.kept().get(ENDED)
        if kept is None:
            return
        now = self._end("noise")
        is_same = (kept["limit"], kept["hours"]) == (now.limit, now.hours)
        stays = kept["why"] == "hours" or (kept["why"] == "noise" and self.settings.stops)
        if not (is_same and stays):
            self.keep(ENDED, None)

    def spent_seconds(self) -> float:
        """Wall time in which trials ran, those left out that were interrupted."""
        now = datetime.now(UTC)
        return busy_seconds(
            (trial.datetime_start.timestamp(), (trial.datetime_complete or now).timestamp())
            for trial in self.trials()
            if trial.datetime_start is not None and not is_lost(trial)
        )

    def n_left(self) -> int:
        """Trials that are still to begin, estimated where time bounds them."""
        trials = self.trials()
        n_ended = sum(trial.state.is_finished() for trial in counted(trials))
        left = trials_left(n_ended, self.limit, self.spent_seconds(), self.settings.seconds)
        return max(0, left - sum(trial.state == TrialState.RUNNING for trial in trials))

    def expected_gain(self, n_left: int, *, learned: bool = False) -> float | None:
        """What to expect of the trials that remain; None where too few values are known."""
        return forecast(self.settings, self.records(), n_left, learned=learned)

    def _ends_in_noise(self) -> bool:
        """Whether finalists could not tell from chance what is still to be gained; kept."""
        error = self.kept().get(ERROR)
        if error is None or not self.settings.stops:
            return False
        n_left = self.n_left()
        gain = self.expected_gain(n_left, learned=True)
        if gain is None or gain >= error:
            return False
        end = dataclasses.replace(self._end("noise"), spared=n_left, gain=gain, error=error)
        self.keep(ENDED, dataclasses.asdict(end))
        return True

    def _end(self, why: EndReason) -> SearchEnd:
        trials = counted(self.trials())
        return SearchEnd(
            why=why,
            n_trials=sum(trial.state.is_finished() and not is_lost(trial) for trial in trials),
            limit=self.limit if self.limit < UNLIMITED else None,
            hours=self.settings.hours,
        )

    def _ask(self) -> optuna.Trial:
        with warnings.catch_warnings():
            # Optuna would have heartbeats used by its own loop only.
            warnings.filterwarnings("ignore", "Heartbeat of storage", UserWarning)
            return self.study.ask()

    def _is_hopeless(self) -> bool:
        """Whether so many trials failed and none did not that the others would fail too."""
        ended = [trial for trial in counted(self.trials()) if trial.state.is_finished()]
        return len(ended) >= MOST_EARLY_FAILURES and all(
            trial.state == TrialState.FAIL for trial in ended
        )

    def beat(self, trial: optuna.Trial) -> None:
        """Say that a trial is alive."""
        self.storage.beat(self.name, trial.number)

    # How they end ---------------------------------------------------------------------------------

    def report(self, trial: optuna.Trial, epoch: int, value: float | None) -> bool:
        """Tell the pruner of an epoch; gives whether the trial is to end."""
        if value is None:
            return False
        with self.stopwatch:
            trial.report(value, epoch)
            return trial.should_prune()

    def constrain(self, trial: optuna.Trial, metrics: Mapping[str, float | None]) -> None:
        """Tell the sampler by how much the trial breaks each rule; kept rules are 0 or less."""
        with self.stopwatch:
            for rule in self.settings.constraints:
                value = metrics.get(rule.metric)
                if value is not None and rule.maximum is not None:
                    trial.set_constraint(f"{rule.metric}<=", value - rule.maximum)
                if value is not None and rule.minimum is not None:
                    trial.set_constraint(f"{rule.metric}>=", rule.minimum - value)

    def end(
        self,
        trial: optuna.Trial,
        state: Literal["complete", "pruned", "failed"],
        notes: Notes,
        values: Sequence[float] | None = None,
    ) -> None:
        """End a trial for good: complete with its values, pruned, or one that would fail again."""
        with self.stopwatch:
            trial.set_user_attr(END, dataclasses.asdict(notes))
            self.study.tell(trial, values, state=_OPTUNA_STATES[state])

    def lose(self, number: int) -> bool:
        """End a trial whose process was lost and queue it again; False where it had ended."""
        try:
            self.study.tell(number, state=TrialState.FAIL)
        except (ValueError, UpdateFinishedTrialError):
            return False
        self.queue_lost()
        return True

    def end_lost(self, is_dead: Callable[[FrozenTrial], bool]) -> list[FrozenTrial]:
        """End the running trials whose process is gone and queue them again; gives them.

        Args:
            is_dead: whether the process that the trial's first note names is known to be dead; one
                of another machine counts as dead by its silence, where the storage has a heartbeat.
        """
        running = [trial for trial in self.trials() if trial.state == TrialState.RUNNING]
        lost = [trial for trial in running if is_dead(trial) and self.lose(trial.number)]
        if running and self.storage.has_heartbeat:
            self.storage.fail_silent(self.study)
            now, known = self.trials(), {trial.number for trial in lost}
            silent = [trial for trial in running if is_lost(now[trial.number])]
            lost += [trial for trial in silent if trial.number not in known]
        self.queue_lost()
        return lost

    def queue_lost(self) -> None:
        """Queue what was lost and not yet queued again, but for what was so too often."""
        with self.storage.exclusive():
            trials = self.trials()
            repeated = {trial.user_attrs.get(RETRY_OF) for trial in trials}
            for trial in trials:
                if (
                    is_lost(trial)
                    and trial.number not in repeated
                    and n_retries(trial, trials) < MOST_RETRIES
                ):
                    notes = {k: v for k, v in trial.user_attrs.items() if k not in (BEGIN, END)}
                    drawn = trial.system_attrs.get("fixed_params", {}) | trial.params
                    self.study.enqueue_trial(drawn, user_attrs=notes | {RETRY_OF: trial.number})

    # Reading --------------------------------------------------------------------------------------

    def values_of(self, trial: FrozenTrial) -> Params:
        """What the trial drew."""
        return self.space.values(trial.params)

    def records(self) -> tuple[TrialRecord, ...]:
        """All trials that ever began, but those that two processes began at once."""
        return tuple(
            trial_record(self, trial)
            for trial in self.trials()
            if trial.state in STATES and EXCESS not in trial.user_attrs
        )


def open_study(
    storage: Storage, sweep: str, stage: Stage, settings: SweepSettings, base: Config, limit: int
) -> SweepStudy:
    """The study of a stage of a sweep, made where there is none.

    Finalists are all queued with what they need, and none is pruned.

    Raises:
        ConfigError: another program made it.
    """
    name = sweep if stage == "search" else f"{sweep}.{stage}"
    space, defaults = Space(()), Params()
    if stage == "finalists" or (stage == "search" and settings.user_share is not None):
        settings = settings.model_copy(update={"hours": None, "stop": False})  # all are run
    if stage == "finalists":
        update = {"pruner": "none", "objectives": settings.objectives[:1]}
        settings = settings.model_copy(update=update)
    else:
        space, resolved = Space.of(settings.space), flatten(base.model_dump(mode="json"))
        names = [dimension.name for dimension in space.dimensions]
        defaults = {name: resolved[name] for name in names if resolved.get(name) is not None}
    directions = [objective.direction for objective in settings.objectives]
    with storage.exclusive(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study = optuna.create_study(
            study_name=name,
            storage=storage.backend,
            directions=directions,
            pruner=build_pruner(settings, base.training.num_epochs),
            load_if_exists=True,
        )
    if study.directions != [StudyDirection[each.upper()] for each in directions] and (
        SETTINGS_KEY not in study.user_attrs
    ):
        found = ", ".join(each.name.lower() for each in study.directions)
        raise ConfigError(
            f"the study '{name}' in {without_password(storage.url)} must {', '.join(directions)}, "
            f"but it was made by another program to {found}; give another --name"
        )
    study.sampler = build_sampler(
        settings, lambda trial: config_index(trial, study.get_trials(deepcopy=False))
    )
    return SweepStudy(study, storage, stage, settings, space, limit, defaults)


def load_kept(storage: Storage, name: str) -> dict[str, Any]:
    """What a study keeps that another process made for a sweep.

    Raises:
        ConfigError: there is no such study, or no sweep made it.
    """
    try:
        study = optuna.load_study(study_name=name, storage=storage.backend)
    except KeyError:
        known = [each.study_name for each in optuna.get_all_study_summaries(storage.backend)]
        raise ConfigError(
            f"the storage {without_password(storage.url)} has no study '{name}'; it has "
            f"{', '.join(known) or 'none at all'}"
        ) from None
    if SETTINGS_KEY not in study.user_attrs:
        raise ConfigError(f"the study '{name}' was not made by a sweep")
    return study.user_attrs
