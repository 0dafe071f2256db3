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
    """How systems rank new items among themselves.

    Attributes:
        items: those that nobody is known to have, ascending.
        users: who went on to choose one, ascending; (n,).
        values: by system and metric, such as ``new_ndcg@10``, in lists of new items alone; (n,).
        tuned: the systems for which another stood in.
    """

    items: IntArray
    users: IntArray
    values: dict[str, dict[str, FloatArray]]
    tuned: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        systems: Mapping[str, Scorer],
        task: Task,
        config: EvaluationConfig,
        tuned_for_it: Mapping[str, Scorer] | None = None,
    ) -> NewItems | None:
        """Rank new items among themselves, for the users who went on to choose one.

        Args:
            systems: what to judge, by name; all over the same users and items.
            task: users, their held-out items, and what they are known to have.
            config: list lengths and the bound on memory.
            tuned_for_it: what stands in for some systems where new items alone are ranked.

        Returns:
            None where nobody chose one.
        """
        items, task = task_among_new(task)
        if not len(task.users):
            return None
        tuned = tuned_for_it or {}
        values = {
            name: metrics_among_new(tuned.get(name, system), items, task, config)
            for name, system in systems.items()
        }
        return cls(items, task.users, values, tuple(tuned))

    def of_metric(self, metric: str) -> dict[str, FloatArray]:
        """A metric of every system, (n,) each."""
        return {system: values[metric] for system, values in self.values.items()}

    def of_users(self, users: IntArray, system: str) -> dict[str, FloatArray]:
        """A system's values in the order of the users given, NaN for those who chose none."""
        chose = np.isin(users, self.users)
        values = {}
        for name, column in self.values[system].items():
            values[name] = np.full(len(users), np.nan)
            values[name][chose] = column
        return values

    def table(self, judged: Mapping[str, Judged], config: EvaluationConfig) -> Table:
        """Means of NDCG among all items and among new ones, and the share of lists of new ones.

        Args:
            judged: lists of all items, by system.
            config: list lengths.
        """
        k = main_k(config.metrics_k)
        metric, records = f"ndcg@{k}", list[dict[str, Cell]]()
        for name, values in self.values.items():
            found, shown = judged[name].found, judged[name].ranking.items[:, :k]
            of_new = found.select(np.isin(found.items, self.items))
            is_new = np.isin(shown[shown >= 0], self.items)
            records.append(
                {
                    "system": name,
                    metric: mean(metrics_of_places(of_new, (k,))[metric]),
                    "share_of_lists": mean(is_new.astype(np.float64)),
                    AMONG_NEW + metric: mean(values[AMONG_NEW + metric]),
                }
            )
        note = (
            f"{len(self.items):,} items are new: nobody is known to have them. {metric}: how well "
            f"those are found that the {len(self.users):,} users with a held-out one went on to "
            "choose, among all items. It rises with share_of_lists, the share of all lists that "
            f"new items take; {AMONG_NEW}{metric}, of lists of new items alone, does not."
            + "".join(f" For these {name} is tuned anew." for name in self.tuned)
            + (f" A list of {k} holds all of them." if len(self.items) <= k else "")
        )
        return Table.from_records("new_items", "New items", note, records)


def task_among_new(task: Task) -> tuple[IntArray, Task]:
    """The new items, and the task among them alone: they are numbered in their order."""
    is_new = np.ones(task.relevant.n_columns, dtype=bool)
    for known in task.known:
        is_new[known.indices] = False
    items = np.flatnonzero(is_new)
    relevant = task.relevant.columns(items)
    return items, Task(task.users[relevant.lengths[task.users] > 0], relevant, ())


def metrics_among_new(
    scorer: Scorer, items: IntArray, task: Task, config: EvaluationConfig
) -> dict[str, FloatArray]:
    """Each ranking metric of each user in lists of new items alone.

    Args:
        scorer: of every user and item.
        items: the new items.
        task: among them alone, of n users; see :func:`task_among_new`.
        config: list lengths and the bound on memory.

    Returns:
        Keys such as ``"new_ndcg@10"``; (n,).
    """
    k, limit = max(config.metrics_k), config.memory_limit_mb
    lists = rank(scorer.of_items(items), task.users, masked=(), k=k, memory_limit_mb=limit)
    values = ranking_metrics(lists, task.relevant, config.metrics_k)
    return {AMONG_NEW + name: column for name, column in values.items()}
