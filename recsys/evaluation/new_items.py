"""New items: those that nobody is known to have, as a launch or an empty shelf would bring.

Where a held-out new item stands among all items says two things at once: how a system ranks new
items among themselves, and how high it puts all of them. The second can be had for nothing, by
raising every new item. So they are ranked among themselves too, which such a raise leaves as it
is, and the share of the lists that they take is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recsys.config import AMONG_NEW, EvaluationConfig
from recsys.data.arrays import FloatArray, IntArray
from recsys.evaluation.metrics import mean, metrics_of_places, ranking_metrics
from recsys.evaluation.ranking import Scorer, Task, rank
from recsys.evaluation.segments import Judged, main_k
from recsys.evaluation.tables import Cell, Table


@dataclass(frozen=True, eq=False)
class NewItems:
    """How systems rank new items.

    Attributes:
        ndcg: by system, of the users who went on to choose one, among new items alone; (n,).
        table: means, and shares of lists.
    """

    ndcg: dict[str, FloatArray]
    table: Table


def rank_new_items(
    systems: Mapping[str, Scorer],
    judged: Mapping[str, Judged],
    task: Task,
    config: EvaluationConfig,
    tuned_for_it: Mapping[str, Scorer] | None = None,
) -> NewItems | None:
    """Rank new items among themselves, for the users who went on to choose one.

    Args:
        systems: what to judge, by name; all over the same users and items.
        judged: their lists of all items.
        task: users, their held-out items, and what they are known to have.
        config: list lengths and the bound on memory.
        tuned_for_it: what stands in for some systems where new items alone are ranked.

    Returns:
        None where no new item is held out, or a list would hold all of them.
    """
    items, new_task = task_among_new(task)
    users, k = new_task.users, main_k(config.metrics_k)
    if len(items) <= k or not len(users):
        return None
    is_new = np.isin(np.arange(task.relevant.n_columns), items)
    metric, ndcg = f"ndcg@{k}", dict[str, FloatArray]()
    records: list[dict[str, Cell]] = []
    for name, system in systems.items():
        limit = config.memory_limit_mb
        alone = (tuned_for_it or {}).get(name, system).of_items(items)
        lists = rank(alone, users, masked=(), k=k, memory_limit_mb=limit)
        ndcg[name] = ranking_metrics(lists, new_task.relevant, (k,))[metric]
        found, shown = judged[name].found, judged[name].ranking.items[:, :k]
        among_all = metrics_of_places(found.select(is_new[found.items]), (k,))[metric]
        records.append(
            {
                "system": name,
                metric: mean(among_all),
                "share_of_lists": mean(is_new[shown[shown >= 0]].astype(np.float64)),
                metric + AMONG_NEW: mean(ndcg[name]),
            }
        )
    note = (
        f"{len(items):,} of {len(is_new):,} items are new: nobody is known to have them. {metric}: "
        f"how well those are found that the {len(users):,} users with a held-out one went on to "
        "choose, among all items. It rises with share_of_lists, the share of all lists that new "
        f"items take; {metric}{AMONG_NEW}, of lists of new items alone, does not."
        + "".join(f" For these {name} is tuned anew." for name in tuned_for_it or {})
    )
    return NewItems(ndcg, Table.from_records("new_items", "New items", note, records))


def task_among_new(task: Task) -> tuple[IntArray, Task]:
    """The new items, and the task among them alone: they are numbered in their order."""
    is_new = np.ones(task.relevant.n_columns, dtype=bool)
    for known in task.known:
        is_new[known.indices] = False
    items = np.flatnonzero(is_new)
    relevant = task.relevant.columns(items)
    return items, Task(task.users[relevant.lengths[task.users] > 0], relevant, ())
