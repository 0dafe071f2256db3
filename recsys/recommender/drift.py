"""What became of the data between two models: users, items, interactions, tastes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
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
    sides = {"before": before, "after": after}
    items = _beside({side: _popularity(model) for side, model in sides.items()})
    categories = _beside({side: _categories(model) for side, model in sides.items()})
    counts = [
        _count("users", _is_in(before.users, after.users), _is_in(after.users, before.users)),
        _count("items", _is_in(before.items, after.items), _is_in(after.items, before.items)),
        _count("interactions", _held(before, after), _held(after, before)),
    ]
    measures: list[tuple[Cell, ...]] = [
        ("spearman of popularity, items in both", None, None, _correlation(items.dropna())),
        ("js of popularity", None, None, _divergence(items.fillna(0))),
        ("js of categories", None, None, _divergence(categories.fillna(0))),
    ]
    for what in ("items", "users"):
        shares = [_shares(model, what, bounds) for model in (before, after)]
        measures += [
            (f"share of {name} {what}", *of_both, None)
            for name, *of_both in zip(SEGMENTS, *shares, strict=True)
        ]
    columns = ("measure", "before", "after", "drift")
    return [
        Table.from_records("drift_counts", "What is new and gone", _COUNTS_NOTE, counts),
        Table("drift", "How the data moved", _DRIFT_NOTE, columns, tuple(measures)),
        _moved(categories.fillna(0)),
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


def _popularity(model: Recommender) -> pd.Series[float]:
    return pd.Series(model.popularity, model.items.ids.to_pylist(), dtype=float)


def _categories(model: Recommender) -> pd.Series[float]:
    return pd.Series(model.books.category_counts(model.popularity), dtype=float)


def _beside(counts: Mapping[str, pd.Series[float]]) -> pd.DataFrame:
    """Counts of both models by name, one column each; NaN where one does not have the name."""
    return pd.concat(counts, axis=1, sort=False)


def _correlation(counts: pd.DataFrame) -> float | None:
    """Of the ranks; None where a model counts the same for all."""
    if (counts.nunique() < 2).any():
        return None
    return float(scipy.stats.spearmanr(counts["before"], counts["after"]).statistic)


def _shares(model: Recommender, what: str, bounds: SegmentConfig) -> list[float]:
    """Share of interactions with items, or of users, in each segment."""
    counts: IntArray = model.popularity if what == "items" else model.seen.lengths
    segments = segments_of(counts, bounds)
    weights = counts if what == "items" else np.ones(len(counts))
    total = max(float(weights.sum()), 1.0)
    return [float(weights[segments == name].sum()) / total for name in SEGMENTS]


def _divergence(counts: pd.DataFrame) -> float | None:
    if not counts.sum().all():
        return None
    before, after = (counts[side].to_numpy() for side in ("before", "after"))
    return float(jensenshannon(before, after, base=2)) ** 2


def _moved(counts: pd.DataFrame) -> Table:
    """The categories whose share of all that is taken changed most."""
    shares = (counts / counts.sum().clip(lower=1)).sort_index()
    shares["difference"] = shares["after"] - shares["before"]
    most = shares["difference"].abs().sort_values(ascending=False, kind="stable")
    rows = shares.loc[most.index[:MOST_CATEGORIES]].itertuples(name=None)
    note = "Share of each category among the categories of the items taken in train."
    columns = ("category", *shares.columns)
    return Table("drift_categories", "Categories that moved most", note, columns, tuple(rows))
