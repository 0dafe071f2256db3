"""Settings of ``evaluation`` and ``diagnostics``: how rankings are measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from recsys.config.section import Fraction, Positive, Section, require

BaselineName = Literal["popularity", "item_knn", "ease", "ials", "bpr", "content_knn"]
RANKING_METRICS = ("recall", "precision", "ndcg", "hit_rate", "map", "mrr")
AMONG_NEW = "new_"
"""Begins the names of ranking metrics of lists of new items alone."""


class SegmentConfig(Section):
    """Where cold ends and head begins, by number of train interactions."""

    cold_max: Annotated[int, Field(ge=0)] = 5
    """Users and items with at most so many train interactions are cold."""
    head_share: Fraction = 0.2
    """The most active share of the others is head; the rest is tail."""


class EvaluationConfig(Section):
    """How rankings are measured."""

    metrics_k: Annotated[tuple[Positive, ...], Field(min_length=1)] = (5, 10, 20)
    """List lengths."""
    candidate_samples: Annotated[int, Field(ge=0)] = 500
    """Negatives a user in the sampled-candidate view; 0 leaves that view out."""
    baselines: tuple[BaselineName, ...] | None = None
    """What the model is held against, tuned on validation; popularity is always there. null takes
    the cheap ones: item_knn, ease and content_knn. ials and bpr are from the package implicit."""
    baseline_memory_limit_mb: Positive = 2048
    """ease takes 8 bytes for each two items, item_knn 16,000 and content_knn 3,200 for each item;
    a baseline that would take more is left out."""
    memory_limit_mb: Positive = 512
    """Bound on the working memory of ranking, whatever the number of users and items."""
    validation_users: Positive | None = None
    """Measure epochs on a fixed random sample of so many validation users; null takes all."""
    bootstrap_samples: Annotated[int, Field(ge=100)] = 1000
    """Resamplings of users behind each confidence interval."""
    confidence: Fraction = 0.95
    """Level of the confidence intervals."""
    segments: SegmentConfig = SegmentConfig()
    """Where cold ends and head begins."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        require(
            tuple(sorted(set(self.metrics_k))) == self.metrics_k,
            f"'metrics_k' must rise and not repeat, got {list(self.metrics_k)}",
        )
        names = self.baselines or ()
        require(
            len(set(names)) == len(names),
            f"'baselines' must name each once, got {list(names)}",
        )
        return self

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The ranking metrics of the whole catalogue, such as ``ndcg@10``."""
        return tuple(f"{metric}@{k}" for metric in RANKING_METRICS for k in self.metrics_k)


def is_ranking_metric(name: str) -> bool:
    """Whether a metric is of lists of the whole catalogue, or of its new items alone."""
    return name.partition("@")[0].removeprefix(AMONG_NEW) in RANKING_METRICS


def prefix_of(metric: str) -> str:
    """What a ranking metric of the same lists begins with: ``new_`` or nothing."""
    return AMONG_NEW if metric.startswith(AMONG_NEW) else ""


class DiagnosticsConfig(Section):
    """What the report looks into beyond the metrics."""

    report_path: Path = Path("artifacts/reports/recommendation_report.md")
    """Where the Markdown report goes; the HTML report goes beside it."""
    qualitative_users: Annotated[int, Field(ge=0)] = 5
    """Users whose history and recommendations are shown."""
    qualitative_k: Positive = 10
    """Recommendations shown for each."""
    item_sample_size: Annotated[int, Field(ge=2)] = 50
    """Items drawn for the category cohesion of neighbours and for the alignment of items."""
    user_sample_size: Annotated[int, Field(ge=2)] = 500
    """Users drawn for the alignment of users."""
    neighbor_k: Positive = 5
    """Neighbours of an item in the category cohesion."""
    feature_corr_sample_size: Annotated[int, Field(ge=100)] = 20_000
    """Random (user, item) pairs behind the feature correlations."""
    feature_corr_top_k: Positive = 20
    """Feature correlations shown."""
