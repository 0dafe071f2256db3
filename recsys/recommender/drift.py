"""What became of the data between two models: users, items, interactions, tastes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import scipy
from scipy.spatial.distance import jensenshannon

from recsys.config import SegmentConfig
from recsys.data.arrays import BoolArray, IntArray
from recsys.data.vocabulary import Vocabulary
from recsys.evaluation.segments import SEGMENTS, segments_of
from recsys.evaluation.tables import Cell, Table
from recsys.recommender.recommender import Recommender

MOST_CATEGORIES = 10
_COUNTS_NOTE = (
    "Train and validation interactions. kept: in both; gone: in the former alone; new: in the "
    "latter alone; new_share: of all that the latter has."
)
_DRIFT_NOTE = (
    "js: Jensen-Shannon divergence in bits, 0 for the same, 1 where nothing is in "
    "common (Lin 1991). spearman: rank correlation of the train interactions of items both "
    "know. cold, tail and head: the share of interactions in train that falls on such items, and "
    "of users with so many interactions, by the bounds of the latter run."
)


def drift_tables(before: Recommender, after: Recommender, bounds: SegmentConfig) -> list[Table]:
    """How the data of one model differ from those of another.

    Args:
        before: the former model.
        after: the latter.
        bounds: of cold, tail and head.

    Returns:
        Counts of what is new and gone, measures of drift, and the categories that moved most.
    """
    categories = _counts(before), _counts(after)
    return [
        Table.from_records(
            "drift_counts",
            "What is new and gone",
            _COUNTS_NOTE,
            [
                _count(
                    "users", _is_in(before.users, after.users), _is_in(after.users, before.users)
                ),
                _count(
                    "items", _is_in(before.items, after.items), _is_in(after.items, before.items)
                ),
                _count("interactions", _held(before, after), _held(after, before)),
            ],
        ),
        Table.from_records(
            "drift", "How the data moved", _DRIFT_NOTE, _measures(before, after, bounds, categories)
        ),
        *_moved(*categories),
    ]


def drift_sentence(tables: Sequence[Table]) -> str:
    """What the tables of drift say, in one sentence."""
    by_name = {table.name: table for table in tables}
    counts = [
        f"{row['new']:,} of {row['after']:,} {row['what']}"
        for row in by_name["drift_counts"].records()
    ]
    moved = {row["measure"]: row["drift"] for row in by_name["drift"].records()}
    bits = [
        f"{what} by {moved[f'js of {what}']:.4f}"
        for what in ("popularity", "categories")
        if moved[f"js of {what}"] is not None
    ]
    said = f"{', '.join(counts[:-1])} and {counts[-1]} are new"
    return said + (f"; moved, in bits: {', '.join(bits)}" if bits else "")


def _is_in(ids: Vocabulary, others: Vocabulary) -> BoolArray:
    found: BoolArray = others.index_of(ids.ids) >= 0
    return found


def _held(one: Recommender, other: Recommender) -> BoolArray:
    """Whether each interaction that a model has seen is one that the other has seen too."""
    users = other.users.index_of(one.users.ids)[one.seen.owners]
    items = other.items.index_of(one.items.ids)[one.seen.indices]
    known: BoolArray = other.seen.contains(np.maximum(users, 0), items) & (users >= 0)
    return known


def _count(what: str, before: BoolArray, after: BoolArray) -> dict[str, Cell]:
    """Counts of one kind, from whether each of the one side is also on the other."""
    new = int((~after).sum())
    return {
        "what": what,
        "before": len(before),
        "after": len(after),
        "kept": int(after.sum()),
        "gone": int((~before).sum()),
        "new": new,
        "new_share": new / len(after) if len(after) else None,
    }


def _counts(model: Recommender) -> dict[str, int]:
    return model.books.category_counts(model.popularity)


def _measures(
    before: Recommender,
    after: Recommender,
    bounds: SegmentConfig,
    categories: tuple[Mapping[str, int], Mapping[str, int]],
) -> list[dict[str, Cell]]:
    popularity = [
        dict(zip(model.items.ids.to_pylist(), model.popularity.tolist(), strict=True))
        for model in (before, after)
    ]
    common = [name for name in popularity[0] if name in popularity[1]]
    both = [np.array([counts[name] for name in common]) for counts in popularity]
    varies = all(len(np.unique(counts)) > 1 for counts in both)
    rows: list[dict[str, Cell]] = [
        {
            "measure": "spearman of popularity, items in both",
            "drift": float(scipy.stats.spearmanr(*both).statistic) if varies else None,
        },
        {"measure": "js of popularity", "drift": _divergence(*popularity)},
        {"measure": "js of categories", "drift": _divergence(*categories)},
    ]
    for what in ("items", "users"):
        shares = [_shares(model, what, bounds) for model in (before, after)]
        rows += [
            {"measure": f"share of {name} {what}", "before": first, "after": second}
            for name, first, second in zip(SEGMENTS, *shares, strict=True)
        ]
    order = ("measure", "before", "after", "drift")
    return [{name: row.get(name) for name in order} for row in rows]


def _shares(model: Recommender, what: str, bounds: SegmentConfig) -> list[float]:
    """Share of interactions with items, or of users, in each segment."""
    counts: IntArray = model.popularity if what == "items" else model.seen.lengths
    segments = segments_of(counts, bounds)
    weights = counts if what == "items" else np.ones(len(counts))
    total = max(float(weights.sum()), 1.0)
    return [float(weights[segments == name].sum()) / total for name in SEGMENTS]


def _divergence(first: Mapping[str, int], second: Mapping[str, int]) -> float | None:
    names = list(dict.fromkeys([*first, *second]))
    counts = [np.array([one.get(name, 0) for name in names], float) for one in (first, second)]
    if not all(values.sum() for values in counts):
        return None
    return float(jensenshannon(*counts, base=2)) ** 2


def _moved(first: Mapping[str, int], second: Mapping[str, int]) -> list[Table]:
    """The categories whose share of all that is taken changed most."""
    totals = [max(sum(counts.values()), 1) for counts in (first, second)]
    rows = []
    for name in dict.fromkeys([*first, *second]):
        before, after = first.get(name, 0) / totals[0], second.get(name, 0) / totals[1]
        rows.append((name, before, after, after - before))
    rows.sort(key=lambda row: (-abs(row[-1]), row[0]))
    note = "Share of each category among the categories of the items taken in train."
    title = "Categories that moved most"
    columns = ("category", "before", "after", "difference")
    return [Table("drift_categories", title, note, columns, tuple(rows[:MOST_CATEGORIES]))]
