"""Who is served how well: users and items told apart by how much train knows of them.

``cold`` has at most ``cold_max`` train interactions. Of the others, the most active
``head_share`` is ``head`` and the rest ``tail``. Equally active ones are never torn apart: the cut
falls where the size of the head comes closest to the share, with the smaller head where two are
equally close, so that a head may be empty where all are alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.config import SegmentConfig
from recsys.data.arrays import BoolArray, FloatArray, IntArray
from recsys.evaluation.metrics import Places, discounts, mean, metrics_of_places
from recsys.evaluation.ranking import Ranking
from recsys.evaluation.tables import Cell, Table

SEGMENTS = ("cold", "tail", "head")
UNSEEN = "unseen"
TAIL_PREFIX = "tail_items_"
"""Of metrics that look at held-out items outside the head alone."""
Segments = npt.NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class Judged:
    """What one system's lists came to.

    Attributes:
        ranking: the lists of n users.
        found: places of all held-out pairs in them.
        values: for each metric one value a user, (n,).
    """

    ranking: Ranking
    found: Places
    values: Mapping[str, FloatArray]


def segments_of(counts: IntArray, config: SegmentConfig) -> Segments:
    """The segment of each user or item, (n,): "cold", "tail" or "head".

    Args:
        counts: train interactions, (n,).
        config: where cold ends and how large the head is.
    """
    segments = np.where(counts <= config.cold_max, "cold", "tail")
    activity, sizes = np.unique(-counts[counts > config.cold_max], return_counts=True)
    if len(activity):
        heads = np.concatenate([[0], np.cumsum(sizes)])
        cut = int(np.argmin(np.abs(heads - config.head_share * heads[-1])))
        if cut:
            segments[counts >= -activity[cut - 1]] = "head"
    return segments


def tail_metrics(
    found: Places, item_counts: IntArray, config: SegmentConfig, ks: Sequence[int]
) -> dict[str, FloatArray]:
    """Each ranking metric as if only the held-out items outside the head were to be found.

    The head takes most of a mean over users, so that a model can rise by giving up the rest.

    Args:
        found: places of the held-out pairs of n users.
        item_counts: train interactions of every item, which say what is head; cold ones are not.
        config: where the head begins.
        ks: list lengths.

    Returns:
        Keys such as ``"tail_items_ndcg@10"``; values (n,), NaN for a user without such an item.
    """
    outside = segments_of(item_counts, config)[found.items] != "head"
    values = metrics_of_places(found.select(outside), ks)
    return {TAIL_PREFIX + name: column for name, column in values.items()}


def main_k(ks: Sequence[int]) -> int:
    """The list length that summaries show: 10 where it is evaluated, else the largest."""
    return 10 if 10 in ks else max(ks)


def activity_tables(
    systems: Mapping[str, Judged],
    *,
    user_counts: IntArray,
    item_counts: IntArray,
    users: IntArray,
    config: SegmentConfig,
    k: int,
) -> tuple[Table, Table]:
    """How each system does by the train interactions of users and of held-out items.

    Args:
        systems: the model first (its columns carry no prefix), then baselines by name.
        user_counts: train interactions of every user, (U,).
        item_counts: the same of every item, (I,).
        users: the users judged, (n,).
        config: bounds of the segments.
        k: list length.

    Returns:
        By their number, and by segment.
    """
    held_out = next(iter(systems.values())).found.items
    by_count: list[dict[str, Cell]] = []
    by_segment: list[dict[str, Cell]] = []
    for kind, every, rows in (("users", user_counts, users), ("items", item_counts, held_out)):
        counts, values = every[rows], _values(systems, kind, k)
        ndcg = {name: column for name, column in values.items() if "ndcg@" in name}
        for label, chosen in ranges_of(counts, _COUNT_EDGES):
            by_count.append({"kind": kind, "train_interactions": label, **_means(ndcg, chosen)})
        for name, chosen in members(segments_of(every, config)[rows], counts):
            by_segment.append({"kind": kind, "segment": name, **_means(values, chosen)})
    title = "By number of train interactions"
    counted = Table.from_records("by_train_interactions", title, _COUNTS_NOTE, by_count)
    title = "Users and items by train interactions"
    return counted, Table.from_records("segments", title, _NOTE, by_segment)


def _values(systems: Mapping[str, Judged], kind: str, k: int) -> dict[str, FloatArray]:
    """Recall and NDCG of each user, or of each held-out interaction, by column."""
    values: dict[str, FloatArray] = {}
    for number, (name, judged) in enumerate(systems.items()):
        prefix = "" if number == 0 else f"{name}_"
        if kind == "users":
            recall, ndcg = judged.values[f"recall@{k}"], judged.values[f"ndcg@{k}"]
        else:
            ndcg = gains(judged.found.places, k)
            recall = (ndcg > 0).astype(np.float64)
        values |= {f"{prefix}recall@{k}": recall, f"{prefix}ndcg@{k}": ndcg}
    return values


def _means(values: Mapping[str, FloatArray], chosen: BoolArray) -> dict[str, Cell]:
    n = int(chosen.sum())
    return {"n": n} | {name: mean(column[chosen]) for name, column in values.items()}


def ranges_of(counts: IntArray, edges: Sequence[int]) -> Iterator[tuple[str, BoolArray]]:
    """(label, who is in it) of each range from an edge to below the next that anyone is in.

    Labels are such as "3–5", "1" or, where the range ends with ``MANY``, "51+".
    """
    for low, high in itertools.pairwise(edges):
        chosen = (counts >= low) & (counts < high)
        if chosen.any():
            end = "+" if high == MANY else f"–{high - 1}"
            yield str(low) if high == low + 1 else f"{low}{end}", chosen


MANY = np.iinfo(np.int64).max
_COUNT_EDGES = (0, 1, 2, 3, 6, 11, 21, 51, MANY)
_COUNTS_NOTE = (
    "Rows 'users' are means over the n users with so many train interactions; rows 'items' over "
    "the n held-out interactions whose item has so many: 1 / log2(place + 2) of those found among "
    "the first k, 0 for the others. Columns with a prefix are baselines."
)
_NOTE = (
    "cold: at most cold_max train interactions; unseen: those of the cold without any; head: the "
    "most active head_share of the others; tail: the rest. Rows 'users' are means over the n users "
    "of the segment. Rows 'items' are over the n held-out interactions whose item is in the "
    "segment: recall is the share found among the first k, ndcg the mean of 1 / log2(place + 2) of "
    "those found (place from 0), 0 for the others. Columns with a prefix are baselines."
)


def members(segments: Segments, counts: IntArray) -> Iterator[tuple[str, BoolArray]]:
    """(name, who is in it) of each segment; the unseen apart where they are a part of the cold.

    Args:
        segments: of each user or interaction, (n,).
        counts: train interactions, (n,).
    """
    for name in SEGMENTS:
        inside = segments == name
        yield name, inside
        unseen = inside & (counts == 0)
        if 0 < unseen.sum() < inside.sum():
            yield UNSEEN, unseen


def gains(places: IntArray, k: int) -> FloatArray:
    """1 / log2(place + 2) of each pair among the first k, 0 of the others."""
    found = (places >= 0) & (places < k)
    return np.where(found, discounts(k)[np.where(found, places, 0)], 0.0)
