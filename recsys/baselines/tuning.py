"""Baselines at their best: settings chosen on validation, then ready to score the split.

Every candidate learns from train and is judged on validation, by the metric that training watches.
For test the chosen settings score the histories as they were known by then, train and validation
items, with weights of train alone or, where the run refits, of both.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from recsys.baselines.build import CHEAP, RECENCY_SCALES, Grid, grid_of
from recsys.baselines.ease import ease_bytes
from recsys.baselines.names import baseline_label
from recsys.baselines.protocol import Baseline, Fitted
from recsys.config import BaselineName, Config
from recsys.data.dataset import Prepared
from recsys.data.histories import Histories
from recsys.evaluation.metrics import mean, ranking_metrics
from recsys.evaluation.ranking import Scorer, Task, rank
from recsys.evaluation.tables import Cell, Table

logger = logging.getLogger(__name__)

TUNING_USERS = 2000


@dataclass(frozen=True, eq=False)
class TunedBaselines:
    """Baselines that can be judged.

    Attributes:
        scorers: by name, popularity first.
        table: what was tried and chosen.
        notes: a sentence for each that was left out.
    """

    scorers: dict[str, Scorer]
    table: Table
    notes: tuple[str, ...]


def tuned_baselines(
    prepared: Prepared,
    config: Config,
    *,
    split: Literal["validation", "test"],
    refit: bool = False,
) -> TunedBaselines:
    """The baselines that the settings ask for, tuned on validation.

    Args:
        prepared: what they learn from.
        config: which baselines, the metric that decides, and bounds of memory.
        split: what they are to be judged by.
        refit: for test, learn from train and validation with the settings chosen.

    Raises:
        ConfigError: a baseline needs a package that is not installed.
    """
    trial = _Tuning.of(prepared, config)
    if split == "test" and not len(prepared.test):
        return TunedBaselines({}, trial.table(), ())
    scorers: dict[str, Scorer] = {}
    notes = []
    for name in _names(config):
        reason = _left_out(name, len(prepared.items), config)
        if reason:
            notes.append(f"{baseline_label(name)} was left out: {reason}.")
            trial.records.append({"baseline": name, "settings": f"left out: {reason}"})
            continue
        chosen = trial.choose(name, grid_of(name, len(prepared.items), config.experiment.seed))
        scorers[name] = _scorer(chosen, trial.histories, prepared, split=split, refit=refit)
    return TunedBaselines(scorers, trial.table(), tuple(notes))


def _names(config: Config) -> tuple[BaselineName, ...]:
    asked = CHEAP if config.evaluation.baselines is None else config.evaluation.baselines
    return tuple(dict.fromkeys(("popularity", *asked)))


def _left_out(name: BaselineName, n_items: int, config: Config) -> str | None:
    """Why a baseline cannot be had; None where it can."""
    limit = config.evaluation.baseline_memory_limit_mb
    if name not in ("item_knn", "ease") or ease_bytes(n_items) <= limit * 2**20:
        return None
    return (
        f"{n_items:,} items squared need {ease_bytes(n_items) / 1e9:.1f} GB, and "
        f"'evaluation.baseline_memory_limit_mb' is {limit:,}"
    )


@dataclass(frozen=True, eq=False)
class _Chosen:
    baseline: Baseline
    fitted: Fitted
    recency: float | None


def _scorer(
    chosen: _Chosen, train: Histories, prepared: Prepared, *, split: str, refit: bool
) -> Scorer:
    if split == "validation":
        return chosen.fitted.scorer(train, chosen.recency)
    known = Histories.of(prepared.train, prepared.validation)
    fitted = chosen.baseline.fit(known) if refit else chosen.fitted
    return fitted.scorer(known, chosen.recency)


@dataclass(eq=False)
class _Tuning:
    """Tries settings on validation and notes what came of them."""

    histories: Histories
    task: Task
    monitor: str
    memory_limit_mb: int
    records: list[dict[str, Cell]] = field(default_factory=list)

    @classmethod
    def of(cls, prepared: Prepared, config: Config) -> _Tuning:
        users = np.unique(prepared.validation.users).astype(np.int64)
        if len(users) > TUNING_USERS:
            rng = np.random.default_rng([config.experiment.seed, TUNING_USERS])
            users = np.sort(rng.choice(users, TUNING_USERS, replace=False))
        task = Task(users, prepared.validation.by_user, (prepared.train.by_user,))
        monitor = config.training.early_stopping.monitor
        return cls(Histories.of(prepared.train), task, monitor, config.evaluation.memory_limit_mb)

    def choose(self, name: BaselineName, grid: Grid) -> _Chosen:
        """The best settings on validation; the first of equals, or untried where alone."""
        first = len(self.records)
        search = _Search(lambda number: self._try(name, grid.candidates[number]))
        if grid.start is None:
            for number in range(len(grid.candidates)):
                search.look_at(number)
        else:
            search.climb(grid.start, len(grid.candidates), grid.most)
        best = search.best
        chosen = _Chosen(grid.candidates[best.number], best.fitted, None)
        value = best.value
        if best.fitted.takes_recency and self.histories.has_order:
            for scale in RECENCY_SCALES:
                found = self._judge(name, chosen.baseline, best.fitted, scale)
                if found > value:
                    chosen, value = _Chosen(chosen.baseline, best.fitted, scale), found
        for record in self.records[first:]:
            same = record["settings"] == chosen.baseline.settings
            is_chosen = same and record["recency_scale"] == chosen.recency
            record["chosen"] = "yes" if is_chosen else ""
        logger.info("%s: %s, recency %s", name, chosen.baseline.settings, chosen.recency)
        return chosen

    def table(self) -> Table:
        """What was tried of each baseline."""
        note = (
            f"Learned from train, judged by {self.monitor} of {len(self.task.users):,} validation "
            "users. recency_scale: an item at position p from the latest of a history weighs "
            "exp(-p / scale); a gap weighs all alike."
        )
        return Table.from_records(
            "baseline_tuning", "Settings of the baselines", note, self.records
        )

    def _try(self, name: BaselineName, baseline: Baseline) -> tuple[float, Fitted]:
        started = time.perf_counter()
        fitted = baseline.fit(self.histories)
        seconds = time.perf_counter() - started
        logger.debug("%s, %s: fitted in %.1f s", name, baseline.settings, seconds)
        return self._judge(name, baseline, fitted, None), fitted

    def _judge(
        self, name: BaselineName, baseline: Baseline, fitted: Fitted, recency: float | None
    ) -> float:
        """The mean on validation; minus infinity where there is nobody to judge by."""
        value = float("nan")
        if len(self.task.users):
            k = int(self.monitor.partition("@")[2])
            ranking = rank(
                fitted.scorer(self.histories, recency),
                self.task.users,
                masked=self.task.known,
                k=k,
                memory_limit_mb=self.memory_limit_mb,
            )
            value = mean(ranking_metrics(ranking, self.task.relevant, (k,))[self.monitor])
        self.records.append(
            {"baseline": name, "settings": baseline.settings, "recency_scale": recency}
            | {f"validation_{self.monitor}": value}
        )
        return -np.inf if np.isnan(value) else value


@dataclass(frozen=True, eq=False)
class _Found:
    number: int
    value: float
    fitted: Fitted


class _Search:
    """Keeps the best of what was tried, and nothing of the rest."""

    def __init__(self, attempt: Callable[[int], tuple[float, Fitted]]) -> None:
        self._attempt, self.tried = attempt, 0
        self._best: _Found | None = None

    @property
    def best(self) -> _Found:
        assert self._best is not None, "nothing was tried"
        return self._best

    def look_at(self, number: int) -> bool:
        """Try one; whether it is better than all before."""
        value, fitted = self._attempt(number)
        self.tried += 1
        better = self._best is None or value > self._best.value
        if better:
            self._best = _Found(number, value, fitted)
        return better

    def climb(self, start: int, n: int, most: int) -> None:
        """Go on in the direction in which values rise: upwards first, else downwards."""
        self.look_at(start)
        for step in (1, -1):
            number = start + step
            while 0 <= number < n and self.tried < most and self.look_at(number):
                number += step
            if self.best.number != start:
                break
