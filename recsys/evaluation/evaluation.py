"""A model against held-out interactions: everything that is said about its rankings.

The final judgement ranks the whole catalogue for every user with a held-out item, known items left
out: those of train for validation, those of train and validation for test. It is repeated for the
baselines, popularity first, over the same users, candidates and resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from recsys.config import RANKING_METRICS, EvaluationConfig
from recsys.data.arrays import FloatArray, IntArray, Interactions
from recsys.data.dataset import Prepared
from recsys.evaluation.beyond_accuracy import coverage, list_character
from recsys.evaluation.bootstrap import Interval, bootstrap_intervals
from recsys.evaluation.candidates import sampled_metrics
from recsys.evaluation.metrics import (
    Places,
    find_places,
    means,
    metrics_of_places,
    ranking_metrics,
)
from recsys.evaluation.qualitative import category_bags
from recsys.evaluation.ranking import Ranking, Task, Vectors, rank
from recsys.evaluation.segments import Judged, main_k, segment_table, segments_of
from recsys.evaluation.significance import compare_metrics, holm
from recsys.evaluation.tables import Table

HeldOutSplit = Literal["validation", "test"]
TAIL_PREFIX = "tail_items_"
"""Of the columns per user that look at held-out items outside the head alone."""


@dataclass(frozen=True)
class Scores:
    """What a system's lists come to.

    Attributes:
        means: mean of each metric over the users that have a value; a metric without any is left
            out. ``coverage@k`` is of all lists together.
        intervals: bootstrap interval over users of each mean; ``coverage@k`` has none.
    """

    means: dict[str, float]
    intervals: dict[str, Interval]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How a model ranks what its users went on to read.

    Attributes:
        split: what was held out, "validation" or "test".
        skipped: why there is nothing to report; None where there is. All else is then empty.
        n_users: users with at least one held-out item.
        model: the model's scores.
        baselines: scores of "popularity" and of what else was given.
        segments: the model and baselines by segment of users and of held-out items.
        versus_popularity: the model's difference to popularity on each ranking metric.
        per_user: user_id, n_train, segment, the model's metrics, its ranking metrics on the
            held-out items outside the head alone under the prefix ``tail_items_`` (NaN for a user
            without any), and the ranking metrics of each baseline under its name as prefix; one
            row a user, ascending by index.
        ranking: the model's lists, as long as the largest k, in the order of ``per_user``.
        baseline_rankings: the same of the baselines.
    """

    split: HeldOutSplit
    skipped: str | None
    n_users: int
    model: Scores
    baselines: dict[str, Scores]
    segments: Table
    versus_popularity: Table
    per_user: pd.DataFrame
    ranking: Ranking
    baseline_rankings: dict[str, Ranking]

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables to show; none where evaluation was skipped."""
        return () if self.skipped else (self.versus_popularity, self.segments)


def evaluate(
    vectors: Vectors,
    prepared: Prepared,
    *,
    split: HeldOutSplit,
    config: EvaluationConfig,
    seed: int,
    baselines: Mapping[str, Vectors],
) -> Evaluation:
    """Judge a model's rankings of the whole catalogue on a held-out split.

    Args:
        vectors: the model's, of every user and item.
        prepared: what it was trained on.
        split: what to judge by.
        config: list lengths, samples and bounds.
        seed: of sampled candidates, resamples and sign flips.
        baselines: what to hold the model against, by name, beside popularity.

    Raises:
        BookendsError: the model's vectors hold NaN or infinity.
    """
    task = _task(prepared, split)
    if not len(task.users):
        return _skipped(split, prepared.split.skipped, max(config.ks))
    systems = {"model": vectors, "popularity": popularity(prepared.train), **baselines}
    rankings = {name: _rank(system, task, config) for name, system in systems.items()}
    judged = {name: _judge(ranking, task, config) for name, ranking in rankings.items()}
    values = _all_values(systems, rankings, judged, task, prepared, config, seed)
    scores = {
        name: _scores(rankings[name], values[name], len(prepared.items), config, seed)
        for name in systems
    }
    return Evaluation(
        split=split,
        skipped=None,
        n_users=len(task.users),
        model=scores.pop("model"),
        baselines=scores,
        segments=segment_table(
            judged,
            user_counts=prepared.train.user_counts,
            item_counts=prepared.train.item_counts,
            users=task.users,
            config=config.segments,
            k=main_k(config.ks),
        ),
        versus_popularity=_versus(judged["model"], judged["popularity"], config, seed),
        per_user=_per_user(
            task.users,
            prepared,
            config,
            values,
            tail_metrics(judged["model"].found, prepared, config),
        ),
        ranking=rankings.pop("model"),
        baseline_rankings=rankings,
    )


def validation_metrics(
    vectors: Vectors, prepared: Prepared, *, config: EvaluationConfig, users: IntArray
) -> dict[str, float]:
    """Means of the ranking metrics on validation, over the whole catalogue.

    Nothing else is computed, so that it can be had after every epoch.

    Args:
        vectors: the model's, of every user and item.
        prepared: what it is trained on; train items are left out of the lists.
        config: list lengths and the bound on memory.
        users: whom to judge by; users without a validation item do not count.

    Returns:
        Keys such as ``"ndcg@10"``; NaN where no user has a validation item.

    Raises:
        BookendsError: the vectors hold NaN or infinity.
    """
    relevant = prepared.validation.by_user
    task = Task(np.asarray(users, dtype=np.int64), relevant, (prepared.train.by_user,))
    return means(ranking_metrics(_rank(vectors, task, config), relevant, config.ks))


def popularity(train: Interactions) -> Vectors:
    """Every user's score of an item is the item's number of train interactions."""
    return Vectors(
        users=np.ones((train.n_users, 1), dtype=np.float32),
        items=train.item_counts[:, None].astype(np.float32),
    )


def _task(prepared: Prepared, split: HeldOutSplit) -> Task:
    """Users with held-out items, ascending; their held-out items; what they are known to know."""
    held_out = prepared.validation if split == "validation" else prepared.test
    known = [prepared.train] if split == "validation" else [prepared.train, prepared.validation]
    users = np.unique(held_out.users).astype(np.int64)
    return Task(users, held_out.by_user, tuple(part.by_user for part in known if len(part)))


def _skipped(split: HeldOutSplit, reason: str | None, k: int) -> Evaluation:
    nobody = np.empty(0, dtype=np.int64)
    nothing = Scores({}, {})
    return Evaluation(
        split=split,
        skipped=reason or f"no interaction is held out for {split}",
        n_users=0,
        model=nothing,
        baselines={},
        segments=Table("segments", "Readers and books by train interactions", "", (), ()),
        versus_popularity=Table("versus_popularity", "Model against popularity", "", (), ()),
        per_user=pd.DataFrame(),
        ranking=Ranking(
            nobody, np.empty((0, k), dtype=np.int32), np.empty((0, k), dtype=np.float32)
        ),
        baseline_rankings={},
    )


def _rank(vectors: Vectors, task: Task, config: EvaluationConfig) -> Ranking:
    return rank(
        vectors,
        task.users,
        masked=task.known,
        k=max(config.ks),
        memory_limit_mb=config.memory_limit_mb,
    )


def _judge(ranking: Ranking, task: Task, config: EvaluationConfig) -> Judged:
    found = find_places(ranking, task.relevant)
    return Judged(metrics_of_places(found, config.ks), found)


def _all_values(
    systems: Mapping[str, Vectors],
    rankings: Mapping[str, Ranking],
    judged: Mapping[str, Judged],
    task: Task,
    prepared: Prepared,
    config: EvaluationConfig,
    seed: int,
) -> dict[str, dict[str, FloatArray]]:
    """Every metric that has a value a user, of every system."""
    categories = category_bags(prepared.books)
    sampled: dict[str, dict[str, FloatArray]] = {name: {} for name in systems}
    if config.candidate_samples:
        sampled = sampled_metrics(
            systems,
            task,
            n_samples=config.candidate_samples,
            ks=config.ks,
            seed=seed,
            memory_limit_mb=config.memory_limit_mb,
        )
    return {
        name: {
            **judged[name].values,
            **sampled[name],
            **list_character(rankings[name], prepared.train, categories, config.ks),
        }
        for name in systems
    }


def _scores(
    ranking: Ranking,
    values: Mapping[str, FloatArray],
    n_items: int,
    config: EvaluationConfig,
    seed: int,
) -> Scores:
    """Means and intervals; every system is resampled alike."""
    intervals = bootstrap_intervals(
        values,
        n_samples=config.bootstrap_samples,
        confidence=config.confidence,
        rng=np.random.default_rng([seed, 0]),
    )
    per_user = {name: value for name, value in means(values).items() if not np.isnan(value)}
    return Scores({**per_user, **coverage(ranking, n_items, config.ks)}, intervals)


def _versus(model: Judged, baseline: Judged, config: EvaluationConfig, seed: int) -> Table:
    """The model's difference to popularity on each ranking metric at the main k."""
    names = [f"{metric}@{main_k(config.ks)}" for metric in RANKING_METRICS]
    compared = compare_metrics(
        {name: model.values[name] for name in names},
        {name: baseline.values[name] for name in names},
        rng=np.random.default_rng([seed, 1]),
        n_samples=config.bootstrap_samples,
        confidence=config.confidence,
    )
    p_values = holm(np.array([comparison.p_value for comparison in compared.values()]))
    records = [
        {
            "metric": name,
            "n": comparison.n,
            "model": comparison.first,
            "popularity": comparison.second,
            "difference": comparison.difference,
            "low": comparison.interval[0],
            "high": comparison.interval[1],
            "p_value": comparison.p_value,
            "p_corrected": corrected,
        }
        for (name, comparison), corrected in zip(compared.items(), p_values.tolist(), strict=True)
    ]
    note = (
        f"Paired over users. low to high: {config.confidence:.0%} bootstrap interval of the "
        "difference. p_value: two-sided sign-flip test; p_corrected: after Holm's correction for "
        "the metrics shown."
    )
    return Table.from_records("versus_popularity", "Model against popularity", note, records)


def tail_metrics(
    found: Places, prepared: Prepared, config: EvaluationConfig
) -> dict[str, FloatArray]:
    """Each ranking metric as if only the held-out items outside the head were to be found.

    The head takes most of a mean over users, so that a model can rise by giving up the rest.

    Args:
        found: places of the held-out pairs of n users.
        prepared: says by its train interactions which items are head; cold ones are not.
        config: list lengths and where the head begins.

    Returns:
        Keys such as ``"ndcg@10"``; values (n,), NaN for a user without such an item.
    """
    segments = segments_of(prepared.train.item_counts, config.segments)
    outside = segments[found.items] != "head"
    kept = Places(found.rows[outside], found.items[outside], found.places[outside], found.n_rows)
    return metrics_of_places(kept, config.ks)


def _per_user(
    users: IntArray,
    prepared: Prepared,
    config: EvaluationConfig,
    values: Mapping[str, Mapping[str, FloatArray]],
    tail: Mapping[str, FloatArray],
) -> pd.DataFrame:
    counts = prepared.train.user_counts
    columns = {
        "user_id": prepared.users.id_of(users),
        "n_train": counts[users],
        "segment": segments_of(counts, config.segments)[users],
        **values["model"],
        **{TAIL_PREFIX + key: column for key, column in tail.items()},
    }
    for name, metrics in values.items():
        if name != "model":
            columns |= {f"{name}_{key}": metrics[key] for key in config.metric_names}
    return pd.DataFrame(columns)
