"""Which ranking metrics are one number under several names."""

from __future__ import annotations

from collections.abc import Iterable

from recsys.config import AMONG_NEW

_OF_ONE_ITEM = {"hit_rate": "recall", "precision": "recall", "map": "mrr"}
_PREFIXES = ("sampled_", AMONG_NEW)


def distinct_metrics(
    metrics: Iterable[str], *, one_held_out: bool, preferred: str = ""
) -> list[str]:
    """The metrics without those that say the same as another by construction, in their order.

    Where every user has one held-out item, hit_rate@k is recall@k, precision@k is recall@k over k,
    and map@k is mrr@k. In a list of one item hit_rate, precision, map, mrr and ndcg are the same,
    and recall too with one held-out item. Of metrics that are the same recall and mrr stay, else
    the first.

    Args:
        metrics: names such as ``ndcg@10``, ``sampled_ndcg@10`` or ``novelty@10``.
        one_held_out: whether every judged user has exactly one held-out item.
        preferred: a metric that stays instead of those it equals.
    """
    names = list(dict.fromkeys(metrics))
    kept: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (name != preferred, name != _told_as(name))):
        kept.setdefault(_same_as(name, one_held_out), name)
    chosen = set(kept.values())
    return [name for name in names if name in chosen]


def _told_as(name: str) -> str:
    return _same_as(name, one_held_out=True)


def _same_as(name: str, one_held_out: bool) -> str:
    """One name for all metrics that are the same number, or a fixed part of it."""
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            return prefix + _same_as(name.removeprefix(prefix), one_held_out)
    stem, at, k = name.partition("@")
    if k == "1" and stem in ("hit_rate", "precision", "map", "mrr", "ndcg"):
        return "recall@1" if one_held_out else "hit_rate@1"
    if one_held_out and at:
        stem = _OF_ONE_ITEM.get(stem, stem)
    return f"{stem}{at}{k}"
