"""Baselines and their settings in text; apart from what fits them, since reports need no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recsys.config import BaselineName

_LABELS = {
    "item_knn": "ItemKNN",
    "ease": "EASE",
    "ials": "iALS",
    "bpr": "BPR",
    "content_knn": "ContentKNN",
}
_SETTINGS: dict[BaselineName, str] = {
    "popularity": "",
    "item_knn": "{neighbours} neighbours, shrinkage {shrinkage:.4g}",
    "ease": "l2 {l2:.5g}",
    "content_knn": "{neighbours} neighbours",
    "ials": "{factors} factors, l2 {l2:.4g}, alpha {alpha:.4g}, {iterations} sweeps",
    "bpr": "{factors} factors, learning rate {learning_rate:.4g}, l2 {l2:.4g}, {epochs} epochs",
}


def baseline_label(name: str) -> str:
    """The baseline's name in running text."""
    return _LABELS.get(name, name)


def settings_text(name: BaselineName, settings: Mapping[str, Any]) -> str:
    """The settings of a baseline in words, ``recency`` where there is one."""
    scale = settings.get("recency")
    return _SETTINGS[name].format_map(settings) + ("" if scale is None else f", recency {scale:g}")
