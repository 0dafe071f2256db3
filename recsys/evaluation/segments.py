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


def counts_table(
    systems: Mapping[str, Judged],
    *,
    user_counts: IntArray,
    item_counts: IntArray,
    users: IntArray,
    k: int,
) -> Table:
    """How each system does by the number of train interactions of users and of held-out items.

    Args: as of :func:`segment_table`.
    """
    held_out = next(iter(systems.values())).found.items
    values = {
        "users": {name: judged.values[f"ndcg@{k}"] for name, judged in systems.items()},
        "items": {name: gains(judged.found.places, k) for name, judged in systems.items()},
    }
    counts = {"users": user_counts[users], "items": item_counts[held_out]}
    records: list[dict[str, Cell]] = []
    for kind, known in counts.items():
        for low, high in itertools.pairwise((0, *_COUNT_EDGES)):
            chosen = (known >= low) & (known < high)
            if not chosen.any():
                continue
            record: dict[str, Cell] = {
                "kind": kind,
                "train_interactions": _range_label(low, high),
                "n": int(chosen.sum()),
            }
            for number, name in enumerate(systems):
                prefix = "" if number == 0 else f"{name}_"
                record[f"{prefix}ndcg@{k}"] = mean(values[kind][name][chosen])
            records.append(record)
    title = "By number of train interactions"
    return Table.from_records("by_train_interactions", title, _COUNTS_NOTE, records)


def _range_label(low: int, high: int) -> str:
    """Such as "3–5", "1" or "51+" for whole numbers from low to below high."""
    if high == _MANY:
        return f"{low}+"
    return str(low) if high == low + 1 else f"{low}–{high - 1}"


_MANY = np.iinfo(np.int64).max
_COUNT_EDGES = (1, 2, 3, 6, 11, 21, 51, _MANY)
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


def _prefixed(systems: Mapping[str, Judged]) -> Iterator[tuple[str, Judged]]:
    for number, (name, judged) in enumerate(systems.items()):
        yield ("" if number == 0 else f"{name}_"), judged


def gains(places: IntArray, k: int) -> FloatArray:
    """1 / log2(place + 2) of each pair among the first k, 0 of the others."""
    found = (places >= 0) & (places < k)
    return np.where(found, discounts(k)[np.where(found, places, 0)], 0.0)
