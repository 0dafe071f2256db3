"""Baselines by the names that a report gives them."""

from __future__ import annotations

_LABELS = {
    "popularity": "popularity",
    "item_knn": "ItemKNN",
    "ease": "EASE",
    "ials": "iALS",
    "bpr": "BPR",
}


def baseline_label(name: str) -> str:
    """The name in running text; one that is not known stays as it is."""
    return _LABELS.get(name, name)
