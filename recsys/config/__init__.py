"""The configuration tree: every setting, its default, and what must hold of it.

Defaults live here and nowhere else; a YAML file holds differences. A setting that only some choice
of another setting gives a meaning (``temperature`` with ``cosine``) is ``None`` until that choice
is made, and refused where it would have no effect.
"""

from recsys.config.config import Config
from recsys.config.data import (
    DRAWN_SPLITS,
    TIMED_SPLITS,
    BagKind,
    DataConfig,
    FeatureParams,
    InteractionField,
    Order,
    SplitConfig,
    SplitStrategy,
    UserAggregation,
)
from recsys.config.evaluation import (
    AMONG_NEW,
    RANKING_METRICS,
    BaselineName,
    DiagnosticsConfig,
    EvaluationConfig,
    SegmentConfig,
    is_ranking_metric,
    prefix_of,
)
from recsys.config.model import (
    FusionName,
    HistoryPooling,
    ModelConfig,
    QueryScore,
    Similarity,
    TowerConfig,
)
from recsys.config.section import Section, flatten, merge, require
from recsys.config.training import (
    HistorySplitConfig,
    NegativeSampling,
    Precision,
    Schedule,
    TrainingConfig,
)

__all__ = [
    "AMONG_NEW",
    "DRAWN_SPLITS",
    "RANKING_METRICS",
    "TIMED_SPLITS",
    "BagKind",
    "BaselineName",
    "Config",
    "DataConfig",
    "DiagnosticsConfig",
    "EvaluationConfig",
    "FeatureParams",
    "FusionName",
    "HistoryPooling",
    "HistorySplitConfig",
    "InteractionField",
    "ModelConfig",
    "NegativeSampling",
    "Order",
    "Precision",
    "QueryScore",
    "Schedule",
    "Section",
    "SegmentConfig",
    "Similarity",
    "SplitConfig",
    "SplitStrategy",
    "TowerConfig",
    "TrainingConfig",
    "UserAggregation",
    "flatten",
    "is_ranking_metric",
    "merge",
    "prefix_of",
    "require",
]
