"""A model against held-out interactions: everything that is said about its rankings.

The final judgement ranks the whole catalogue for every user with a held-out item, known items left
out: those of train for validation, those of train and validation for test. It is repeated for the
baselines given, over the same users, candidates and resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pandas as pd

from recsys.config import (
    AMONG_NEW,
    RANKING_METRICS,
    EvaluationConfig,
    is_ranking_metric,
    prefix_of,
)
from recsys.data.arrays import FloatArray, IntArray
from recsys.data.dataset import Prepared
from recsys.evaluation.beyond_accuracy import coverage, list_character
from recsys.evaluation.bootstrap import Interval, bootstrap_intervals
from recsys.evaluation.candidates import sampled_metrics
from recsys.evaluation.distinct import distinct_metrics
from recsys.evaluation.metrics import find_places, means, metrics_of_places, ranking_metrics
from recsys.evaluation.new_items import NewItems, metrics_among_new, task_among_new
from recsys.evaluation.qualitative import category_bags
from recsys.evaluation.ranking import Ranking, Scorer, Task, rank
from recsys.evaluation.segments import (
    Judged,
    activity_tables,
    gains,
    main_k,
    segments_of,
    tail_metrics,
)
from recsys.evaluation.significance import Comparison, compare_metrics, holm
from recsys.evaluation.tables import Cell, Table

HeldOutSplit = Literal["validation", "test"]
ORACLE = "oracle"
"""The one that knows the preferences behind generated data: it bounds, and is not to be beaten."""


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
    """How a model ranks what its users went on to choose.

    Attributes:
        split: what was held out, "validation" or "test".
        skipped: why there is nothing to report, and all else empty; None where there is.
        n_users: users with at least one held-out item.
        model: the model's scores.
        baselines: scores of what the model was held against.
        tables: by name, in the order of the report: the model's difference to each baseline on each
            ranking metric, and on cold items and users; new items, where some are held out; model
            and baselines by number of train interactions, and by segment, of users and of held-out
            items.
        per_user: user_id, n_train, segment, the model's metrics, its ranking metrics on the
            held-out items outside the head alone under the prefix ``tail_items_`` (NaN for a user
            without any), and the ranking metrics of each baseline under its name as prefix; one
            row a user, ascending by index. Where whole items are held out, ranking metrics are
            of lists of new items alone as well, under the prefix ``new_``.
        rankings: the lists of the model and the baselines by name, as long as the largest k, in the
            order of ``per_user``.
    """

    split: HeldOutSplit
    skipped: str | None = None
    n_users: int = 0
    model: Scores = field(default_factory=lambda: Scores({}, {}))
    baselines: dict[str, Scores] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    per_user: pd.DataFrame = field(default_factory=pd.DataFrame)
    rankings: dict[str, Ranking] = field(default_factory=dict)


def evaluate(  # noqa: PLR0913 (all but the first two by name)
    scorer: Scorer,
    prepared: Prepared,
    *,
    split: HeldOutSplit,
    config: EvaluationConfig,
    seed: int,
    baselines: Mapping[str, Scorer],
    among_new: Mapping[str, Scorer] | None = None,
    headline: str = "",
) -> Evaluation:
    """Judge a model's rankings of the whole catalogue on a held-out split.

    Args:
        scorer: the model's vectors, of every user and item.
        prepared: what it was trained on.
        split: what to judge by.
        config: list lengths, samples and bounds.
        seed: of sampled candidates, resamples and sign flips.
        baselines: what to hold the model against, by name; an oracle is shown beside
            them and not tested against.
        among_new: baselines tuned anew, where new items are ranked among themselves.
        headline: the metric that stands for all; of metrics that are the same it is the one told.

    Raises:
        BookendsError: a score is NaN or infinite.
    """
    task = _task(prepared, split)
    if not len(task.users):
        reason = prepared.split.skipped or f"no interaction is held out for {split}"
        return Evaluation(split, skipped=reason)
    systems = {"model": scorer, **baselines}
    judged = _judge(systems, task, prepared, config, seed)
    new_items = NewItems.of(systems, task, config, among_new)
    if new_items is not None and holds_items_out(prepared):
        judged = {
            name: replace(each, values={**new_items.of_users(task.users, name), **each.values})
            for name, each in judged.items()
        }
    holds_all = new_items is not None and len(new_items.items) <= main_k(config.metrics_k)
    if holds_all and not holds_items_out(prepared):
        new_items = None
    scores = {
        name: _scores(each, len(prepared.items), config, seed) for name, each in judged.items()
    }
    tables = (
        _versus(judged, config, seed, headline),
        _versus_cold(judged, new_items, task.users, prepared, config, seed),
        *((new_items.table(judged, config),) if new_items is not None else ()),
        *activity_tables(
            judged,
            user_counts=prepared.train.user_counts,
            item_counts=prepared.train.item_counts,
            users=task.users,
            config=config.segments,
            k=main_k(config.metrics_k),
        ),
    )
    return Evaluation(
        split=split,
        n_users=len(task.users),
        model=scores.pop("model"),
        baselines=scores,
        tables={table.name: table for table in tables},
        per_user=_per_user(task.users, prepared, config, judged),
        rankings={name: each.ranking for name, each in judged.items()},
    )


def validation_metrics(
    scorer: Scorer,
    prepared: Prepared,
    *,
    config: EvaluationConfig,
    users: IntArray,
) -> dict[str, float]:
    """Means of the ranking metrics on validation, over the whole catalogue.

    Nothing else is computed, so that it can be had after every epoch.

    Args:
        scorer: the model's vectors, of every user and item.
        prepared: what it is trained on; train items are left out of the lists.
        config: list lengths and the bound on memory.
        users: whom to judge by; users without a validation item do not count.

    Returns:
        Keys such as ``"ndcg@10"``, where whole items are held out also ``"new_ndcg@10"``, of lists
        of new items alone; NaN where no user has a validation item.

    Raises:
        BookendsError: a score is NaN or infinite.
    """
    relevant = prepared.validation.by_user
    task = Task(np.asarray(users, dtype=np.int64), relevant, (prepared.train.by_user,))
    found = means(ranking_metrics(_rank(scorer, task, config), relevant, config.metrics_k))
    if holds_items_out(prepared):
        items, task = task_among_new(task)
        found |= means(metrics_among_new(scorer, items, task, config))
    return found


def holds_items_out(prepared: Prepared) -> bool:
    """Whether whole items are held out, so that whoever has something to find has a new item."""
    return prepared.split.strategy == "cold_items"


def _task(prepared: Prepared, split: HeldOutSplit) -> Task:
    """Users with held-out items, ascending; their held-out items; what they are known to know."""
    held_out = prepared.validation if split == "validation" else prepared.test
    known = [prepared.train] if split == "validation" else [prepared.train, prepared.validation]
    users = np.unique(held_out.users).astype(np.int64)
    return Task(users, held_out.by_user, tuple(part.by_user for part in known if len(part)))


def most_held_out(users: IntArray) -> int:
    """The most held-out items of one user, from the user of each; 0 where none is held out."""
    return int(np.unique(users, return_counts=True)[1].max(initial=0))


def _rank(scorer: Scorer, task: Task, config: EvaluationConfig) -> Ranking:
    return rank(
        scorer,
        task.users,
        masked=task.known,
        k=max(config.metrics_k),
        memory_limit_mb=config.memory_limit_mb,
    )


def _judge(
    systems: Mapping[str, Scorer],
    task: Task,
    prepared: Prepared,
    config: EvaluationConfig,
    seed: int,
) -> dict[str, Judged]:
    """The lists of every system, and every metric that has a value a user."""
    categories = category_bags(prepared.books)
    rankings = {name: _rank(system, task, config) for name, system in systems.items()}
    sampled: dict[str, dict[str, FloatArray]] = {name: {} for name in systems}
    if config.candidate_samples:
        sampled = sampled_metrics(
            systems,
            task,
            n_samples=config.candidate_samples,
            ks=config.metrics_k,
            seed=seed,
            memory_limit_mb=config.memory_limit_mb,
        )
    judged = {}
    for name, ranking in rankings.items():
        found = find_places(ranking, task.relevant)
        values = metrics_of_places(found, config.metrics_k) | sampled[name]
        values |= list_character(ranking, prepared.train, categories, config.metrics_k)
        judged[name] = Judged(ranking, found, values)
    return judged


def _scores(judged: Judged, n_items: int, config: EvaluationConfig, seed: int) -> Scores:
    """Means and intervals; every system is resampled alike."""
    intervals = bootstrap_intervals(
        judged.values,
        n_samples=config.bootstrap_samples,
        confidence=config.confidence,
        rng=np.random.default_rng([seed, 0]),
    )
    per_user = {name: value for name, value in means(judged.values).items() if not np.isnan(value)}
    return Scores(per_user | coverage(judged.ranking, n_items, config.metrics_k), intervals)


def _versus(
    judged: Mapping[str, Judged], config: EvaluationConfig, seed: int, headline: str
) -> Table:
    """The model's difference to each baseline on each ranking metric at the headline's k.

    They are of new items alone where the headline is. Metrics that are one number by construction
    are tested once, and corrected for once.
    """
    k = int(headline.partition("@")[2] or main_k(config.metrics_k))
    names = distinct_metrics(
        [f"{prefix_of(headline)}{metric}@{k}" for metric in RANKING_METRICS],
        one_held_out=most_held_out(judged["model"].found.rows) == 1,
        preferred=headline,
    )
    values = {
        system: {name: found.values[name] for name in names} for system, found in judged.items()
    }
    compared = [
        ({"baseline": baseline, "metric": name}, found)
        for baseline, metrics in _against_each(values, config, seed).items()
        for name, found in metrics.items()
    ]
    note = _paired_note(config, "the baselines and metrics shown")
    records = _paired_records(compared)
    return Table.from_records("versus_baselines", "Model against baselines", note, records)


def _versus_cold(
    judged: Mapping[str, Judged],
    new_items: NewItems | None,
    users: IntArray,
    prepared: Prepared,
    config: EvaluationConfig,
    seed: int,
) -> Table:
    """The model's difference to each baseline where train knows little: cold items and users."""
    k = main_k(config.metrics_k)
    cold_users = segments_of(prepared.train.user_counts, config.segments)[users] == "cold"
    held_out = judged["model"].found.items
    cold_items = segments_of(prepared.train.item_counts, config.segments)[held_out] == "cold"
    of_kind: dict[str, dict[str, FloatArray]] = {
        "items": {name: gains(found.found.places[cold_items], k) for name, found in judged.items()},
        "new items": {} if new_items is None else new_items.of_metric(f"{AMONG_NEW}ndcg@{k}"),
        "users": {name: found.values[f"ndcg@{k}"][cold_users] for name, found in judged.items()},
    }
    compared = [
        ({"kind": kind, "baseline": baseline}, found[kind])
        for kind, values in of_kind.items()
        if len(values.get("model", ()))
        for baseline, found in _against_each(
            {name: {kind: column} for name, column in values.items()}, config, seed
        ).items()
    ]
    note = (
        f"NDCG@{k} of cold users; of held-out cold items 1 / log2(place + 2) among the first {k}, "
        f"else 0; NDCG@{k} of users with a held-out item that nobody is known to have, among such "
        f"new items alone. {_paired_note(config, 'the rows shown')}"
    )
    title = "Model against baselines where little is known"
    return Table.from_records("versus_baselines_cold", title, note, _paired_records(compared))


def _against_each(
    values: Mapping[str, Mapping[str, FloatArray]], config: EvaluationConfig, seed: int
) -> dict[str, dict[str, Comparison]]:
    """The model against each baseline but the oracle, all resampled alike."""
    return {
        baseline: compare_metrics(
            values["model"],
            metrics,
            rng=np.random.default_rng([seed, 1]),
            n_samples=config.bootstrap_samples,
            confidence=config.confidence,
        )
        for baseline, metrics in values.items()
        if baseline not in ("model", ORACLE)
    }


def _paired_records(
    compared: Sequence[tuple[Mapping[str, str], Comparison]],
) -> list[dict[str, Cell]]:
    """One row a comparison, p-values corrected for all of them."""
    p_values = holm(np.array([found.p_value for _, found in compared]))
    records: list[dict[str, Cell]] = []
    for (named, found), corrected in zip(compared, p_values.tolist(), strict=True):
        values = {"n": found.n, "model": found.first, "baseline_value": found.second}
        values |= {"difference": found.difference}
        values |= dict(zip(("low", "high"), found.interval, strict=True))
        records.append({**named, **values, "p_value": found.p_value, "p_corrected": corrected})
    return records


def _paired_note(config: EvaluationConfig, family: str) -> str:
    return (
        f"Paired. low to high: {config.confidence:.0%} bootstrap interval of the difference. "
        f"p_value: two-sided sign-flip test; p_corrected: after Holm's correction for {family}."
    )


def _per_user(
    users: IntArray, prepared: Prepared, config: EvaluationConfig, judged: Mapping[str, Judged]
) -> pd.DataFrame:
    counts, model = prepared.train.user_counts, judged["model"]
    columns = {
        "user_id": prepared.users.id_of(users),
        "n_train": counts[users],
        "segment": segments_of(counts, config.segments)[users],
        **model.values,
        **tail_metrics(model.found, prepared.train.item_counts, config.segments, config.metrics_k),
    }
    ranking = [name for name in model.values if is_ranking_metric(name)]
    for name, each in judged.items():
        if name != "model":
            columns |= {f"{name}_{key}": each.values[key] for key in ranking}
    return pd.DataFrame(columns)
