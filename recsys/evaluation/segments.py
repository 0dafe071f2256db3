"""Who is served how well: users and items told apart by how much train knows of them.

``cold`` has at most ``cold_max`` train interactions. Of the others, the most active
``head_share`` is ``head`` and the rest ``tail``. Equally active ones are never torn apart: the cut
falls where the size of the head comes closest to the share, with the smaller head where two are
equally close, so that a head may be empty where all are alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.config import SegmentConfig
from recsys.data.arrays import BoolArray, FloatArray, IntArray
from recsys.evaluation.metrics import Places, discounts, mean
from recsys.evaluation.tables import Cell, Table

SEGMENTS = ("cold", "tail", "head")
UNSEEN = "unseen"
Segments = npt.NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class Judged:
    """What one system's lists came to.

    Attributes:
        values: for each metric one value a user, (n,).
        found: places of all held-out pairs in the lists.
    """

    values: Mapping[str, FloatArray]
    found: Places


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


def main_k(ks: Sequence[int]) -> int:
    """The list length that summaries show: 10 where it is evaluated, else the largest."""
    return 10 if 10 in ks else max(ks)


def segment_table(
    systems: Mapping[str, Judged],
    *,
    user_counts: IntArray,
    item_counts: IntArray,
    users: IntArray,
    config: SegmentConfig,
    k: int,
) -> Table:
    """How each system does in each segment of users and of held-out items.

    Args:
        systems: the model first (its columns carry no prefix), then baselines by name.
        user_counts: train interactions of every user, (U,).
        item_counts: the same of every item, (I,).
        users: the users judged, (n,).
        config: bounds of the segments.
        k: list length.
    """
    user_segments, item_segments = (
        segments_of(user_counts, config),
        segments_of(item_counts, config),
    )
    records: list[dict[str, Cell]] = []
    for name, chosen in members(user_segments[users], user_counts[users]):
        record: dict[str, Cell] = {"kind": "users", "segment": name, "n": int(chosen.sum())}
        for prefix, judged in _prefixed(systems):
            for metric in (f"recall@{k}", f"ndcg@{k}"):
                record[prefix + metric] = mean(judged.values[metric][chosen])
        records.append(record)
    held_out = next(iter(systems.values())).found.items
    for name, chosen in members(item_segments[held_out], item_counts[held_out]):
        record = {"kind": "items", "segment": name, "n": int(chosen.sum())}
        for prefix, judged in _prefixed(systems):
            found = gains(judged.found.places[chosen], k)
            record[f"{prefix}recall@{k}"] = mean((found > 0).astype(np.float64))
            record[f"{prefix}ndcg@{k}"] = mean(found)
        records.append(record)
    return Table.from_records("segments", "Users and items by train interactions", _NOTE, records)


_NOTE = (
    "cold: at most cold_max train interactions; unseen: those of the cold without any; head: the "
    "most active head_share of the others; tail: the rest. Rows 'users' are means over the n users "
    "of the segment. Rows 'items' are over the n held-out interactions whose item is in the "
    "segment: recall is the share found among the first k, ndcg the mean of 1 / log2(place + 2) of "
    "those found (place from 0), 0 for the others. Columns with a prefix are baselines."
)


def members(
    segments: Segments, counts: IntArray, *, keep_empty: bool = True
) -> Iterator[tuple[str, BoolArray]]:
    """(name, who is in it) of each segment; the unseen apart where they are a part of the cold.

    Args:
        segments: of each user or interaction, (n,).
        counts: train interactions, (n,).
        keep_empty: whether segments without members are among them.
    """
    for name in SEGMENTS:
        inside = segments == name
        if keep_empty or inside.any():
            yield name, inside
        unseen = inside & (counts == 0)
        if 0 < unseen.sum() < inside.sum():
            yield UNSEEN, unseen


def _prefixed(systems: Mapping[str, Judged]) -> Iterator[tuple[str, Judged]]:
    for number, (name, judged) in enumerate(systems.items()):
        yield ("" if number == 0 else f"{name}_"), judged


def gains(places: IntArray, k: int) -> FloatArray:
    """1 / log2(place + 2) of each pair among the first k, 0 of the others."""
    found = (places >= 0) & (places < k)
    return np.where(found, discounts(k)[np.where(found, places, 0)], 0.0)
