"""Baselines at their best: settings chosen on validation, then ready to score the split.

Every candidate learns from train and is measured on validation, by the metric that training
watches. For test the chosen settings score the histories as they were known by then, train and
validation items, with weights of train alone or, where the run refits, of both.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from recsys.baselines import content_knn, item_knn
from recsys.baselines.baseline import Fitted
from recsys.baselines.build import BETWEEN_ITEMS, CHEAP, RECENCY_SCALES, fit_baseline, grid_of
from recsys.baselines.ease import ease_bytes
from recsys.baselines.names import settings_text
from recsys.baselines.neighbours import MOST_PRODUCTS, nearest_bytes
from recsys.config import AMONG_NEW, BaselineName, Config
from recsys.data.arrays import IntArray
from recsys.data.dataset import Prepared
from recsys.data.histories import Histories
from recsys.evaluation.metrics import mean, ranking_metrics
from recsys.evaluation.new_items import task_among_new
from recsys.evaluation.ranking import Scorer, Task, rank
from recsys.evaluation.tables import Cell, Table

logger = logging.getLogger(__name__)

TUNING_USERS = 2000
TUNING_USERS_AMONG_NEW = 50_000
"""Ranking new items alone takes little."""
FEWEST_USERS = 20
"""Fewer users with a new item say nothing of settings."""


@dataclass(frozen=True, eq=False)
class TunedBaselines:
    """Baselines that can be ranked.

    Attributes:
        scorers: by name, popularity first.
        among_new: of them, what is tuned anew to rank new items among themselves; empty where
            validation holds none.
        table: what was tried and chosen, and why the others were left out.
    """

    scorers: dict[str, Scorer]
    among_new: dict[str, Scorer]
    table: Table


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
        split: what they are to be measured on.
        refit: for test, learn from train and validation with the settings chosen.
    """
    monitor = config.monitor.removeprefix(AMONG_NEW)
    tuning, scorers = _Tuning(prepared, config, monitor), dict[str, Scorer]()

    def ready(name: BaselineName, chosen: _Candidate) -> Scorer:
        known, fitted = tuning.histories, chosen.fitted
        if split == "test":
            known = Histories.of(prepared.train, prepared.validation)
            fitted = tuning.fit(name, chosen.settings, known) if refit else fitted
        return fitted(known, chosen.recency)

    names: tuple[BaselineName, ...] = ("popularity", *asked_for(prepared, config))
    for name in dict.fromkeys(names) if split == "validation" or len(prepared.test) else ():
        if reason := reason_to_leave_out(name, prepared, config):
            tuning.records.append({"baseline": name, "settings": f"left out: {reason}"})
            continue
        scorers[name] = ready(name, tuning.choose(name))
    among_new = {}
    if "content_knn" in scorers:  # the others know nothing of new items
        anew = _Tuning(prepared, config, AMONG_NEW + monitor)
        if anew.n_users >= FEWEST_USERS:
            among_new["content_knn"] = ready("content_knn", anew.choose("content_knn"))
            tuning.records += anew.records
    return TunedBaselines(scorers, among_new, tuning.table())


def asked_for(prepared: Prepared, config: Config) -> tuple[BaselineName, ...]:
    """The baselines of a run: those that the settings name, else the cheap ones that can be."""
    if config.evaluation.baselines is not None:
        return config.evaluation.baselines
    return tuple(name for name in CHEAP if name != "content_knn" or prepared.item_features.bags)


def chosen_settings(name: BaselineName, prepared: Prepared, config: Config) -> dict[str, Any]:
    """The settings of a baseline that a run would choose on validation, by name.

    ``recency`` is the scale, None where all items of a history weigh the same.
    """
    chosen = _Tuning(prepared, config, config.monitor).choose(name)
    return chosen.settings | {"recency": chosen.recency}


def reason_to_leave_out(name: BaselineName, prepared: Prepared, config: Config) -> str | None:
    """Why a baseline cannot be had, or would take too long or too much; None where it is not so."""
    n_items, products = len(prepared.items), 0
    match name:
        case "ease":
            n_bytes, what = ease_bytes(n_items), f"{n_items:,} items squared need"
        case "item_knn":
            n_bytes = nearest_bytes(n_items, item_knn.MOST_NEIGHBOURS)
            what = f"neighbours of {n_items:,} items need"
            products = _products(prepared.train.user_counts)
        case "content_knn":
            bags = prepared.item_features.bags
            if not bags:
                return "nothing but numbers is known of the items"
            n_bytes = nearest_bytes(n_items, content_knn.MOST_NEIGHBOURS)
            what = f"neighbours of {n_items:,} items need"
            products = sum(_products(np.bincount(each.indices)) for each in bags.values())
        case _:
            return None
    limit = config.evaluation.baseline_memory_limit_mb
    if n_bytes > limit * 2**20:
        setting = f"'evaluation.baseline_memory_limit_mb' is {limit:,}"
        return f"{what} {n_bytes / 1e9:.1f} GB, and {setting}"
    if products > MOST_PRODUCTS:
        return (
            f"to compare {n_items:,} items takes {products:.1e} products, over {MOST_PRODUCTS:.0e}"
        )
    return None


def _products(counts: IntArray) -> int:
    """Pairs of entries in the same row, of so many entries each."""
    return int((counts.astype(np.int64) ** 2).sum())


@dataclass(frozen=True, eq=False)
class _Candidate:
    """Settings that were tried; ``value`` is minus infinity where validation has no users."""

    settings: dict[str, Any]
    recency: float | None
    fitted: Fitted
    value: float
    record: dict[str, Cell]


class _Tuning:
    """Tries settings on validation and records what came of them.

    Args:
        prepared: what the baselines learn from.
        config: bounds of memory, and the seed.
        monitor: the ranking metric that decides.
    """

    def __init__(self, prepared: Prepared, config: Config, monitor: str) -> None:
        among_new = monitor.startswith(AMONG_NEW)
        users = np.unique(prepared.validation.users).astype(np.int64)
        most = TUNING_USERS_AMONG_NEW if among_new else TUNING_USERS
        if len(users) > most:
            rng = np.random.default_rng([config.experiment.seed, most])
            users = np.sort(rng.choice(users, most, replace=False))
        self._task = Task(users, prepared.validation.by_user, (prepared.train.by_user,))
        self._only: IntArray | None = None
        if among_new:
            self._only, self._task = task_among_new(self._task)
        self._monitor = monitor
        self._memory_limit_mb = config.evaluation.memory_limit_mb
        self._items, self._seed = prepared.item_features, config.experiment.seed
        self._n_items = len(prepared.items)
        self.histories = Histories.of(prepared.train)
        self.records: list[dict[str, Cell]] = []

    @property
    def n_users(self) -> int:
        """Users it is measured on."""
        return len(self._task.users)

    def fit(self, name: BaselineName, settings: dict[str, Any], histories: Histories) -> Fitted:
        """The named baseline, fitted to histories."""
        return fit_baseline(name, settings, histories, self._items, self._seed)

    def choose(self, name: BaselineName) -> _Candidate:
        """The best settings of a run's grid on validation; the first of equals."""
        grid, first = grid_of(name, self._n_items), len(self.records)
        is_ordered = name in BETWEEN_ITEMS and self.histories.has_order

        def attempt(number: int) -> _Candidate:
            settings = grid.candidates[number]
            fitted = self.fit(name, settings, self.histories)
            scales = (None, *RECENCY_SCALES) if is_ordered else (None,)
            tried = [self._measured(name, settings, fitted, recency) for recency in scales]
            return max(tried, key=lambda each: each.value)

        n = len(grid.candidates)
        if grid.start is None:
            best = max(map(attempt, range(n)), key=lambda tried: tried.value)
        else:
            best = climb(attempt, grid.start, n, grid.most)
        for record in self.records[first:]:
            record["chosen"] = "yes" if record is best.record else ""
        if len(self.records) > first + 1:
            what = name if self._only is None else f"{name} among new items"
            settings = best.settings | {"recency": best.recency}
            logger.info("%s: %s", what, settings_text(name, settings))
        return best

    def table(self) -> Table:
        """What was tried of each baseline."""
        note = (
            f"Learned from train, measured by {self._monitor} of {len(self._task.users):,} "
            "validation users. recency_scale: an item at position p from the latest of a history "
            f"weighs exp(-p / scale); a gap weighs all alike. {AMONG_NEW}: of new items alone, "
            "which nobody has in train."
        )
        return Table.from_records(
            "baseline_tuning", "Settings of the baselines", note, self.records
        )

    def _measured(
        self, name: BaselineName, settings: dict[str, Any], fitted: Fitted, recency: float | None
    ) -> _Candidate:
        value, k = -np.inf, int(self._monitor.partition("@")[2])
        if self.n_users:
            scorer = fitted(self.histories, recency)
            ranking = rank(
                scorer if self._only is None else scorer.of_items(self._only),
                self._task.users,
                masked=self._task.known,
                k=k,
                memory_limit_mb=self._memory_limit_mb,
            )
            metric = self._monitor.removeprefix(AMONG_NEW)
            value = mean(ranking_metrics(ranking, self._task.relevant, (k,))[metric])
        record: dict[str, Cell] = {
            "baseline": name,
            "settings": settings_text(name, settings),
            "recency_scale": recency,
            f"validation_{self._monitor}": value if self.n_users else None,
        }
        self.records.append(record)
        return _Candidate(settings, recency, fitted, value, record)


def climb(
    attempt: Callable[[int], _Candidate], start: int, n_candidates: int, most: int
) -> _Candidate:
    """The best that is found by following rising values from ``start``: upwards, else downwards.

    Args:
        attempt: tries the candidate of a number.
        start: the number to begin with.
        n_candidates: how many there are.
        most: at most so many are tried.
    """
    best = first = attempt(start)
    tried = 1
    for step in (1, -1):
        number = start + step
        while 0 <= number < n_candidates and tried < most:
            found, tried = attempt(number), tried + 1
            if found.value <= best.value:
                break
            best, number = found, number + step
        if best is not first:
            break
    return best
