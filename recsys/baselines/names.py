"""What baselines are called in text; apart from what builds them, since reports need no torch."""

from __future__ import annotations

_LABELS = {
    "item_knn": "ItemKNN",
    "ease": "EASE",
    "ials": "iALS",
    "bpr": "BPR",
    "content_knn": "ContentKNN",
}


def baseline_label(name: str) -> str:
    """The baseline's name in running text."""
    return _LABELS.get(name, name)
