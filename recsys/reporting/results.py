"""The evaluation of a record, opened: typed access to metrics, intervals and baselines."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from recsys.config import AMONG_NEW, is_ranking_metric
from recsys.evaluation.distinct import distinct_metrics
from recsys.reporting.record import RunRecord, ScoresRecord, Value

ORACLE = "oracle"


@dataclass(frozen=True)
class Results:
    """What the held-out interactions said.

    Attributes:
        split: "test" or "validation".
        n_users: how many users had something to find.
        headline: the metric that stands for all, that which training watched.
        scores: of the model, then of what was judged beside it, by name.
        best: the best attainable value of the headline metric, where the world is known; None where
            new items are held out and ranked among all, since the true preferences do not know
            that they are new.
        expected: metrics that the best possible ranking has in expectation, where known.
        confidence: of the intervals, between 0 and 1.
        one_held_out: whether every user had exactly one item to find.
    """

    split: str
    n_users: int
    headline: str
    scores: Mapping[str, ScoresRecord]
    best: float | None
    expected: dict[str, float]
    confidence: float
    one_held_out: bool = False

    @property
    def metrics(self) -> Collection[str]:
        """Names of all that was measured of the model."""
        return self.scores["model"].means

    @property
    def level(self) -> str:
        """The confidence of the intervals, such as "95%"."""
        return f"{self.confidence * 100:g}%"

    @property
    def baselines(self) -> tuple[str, ...]:
        """What the model is to beat: all that was judged beside it but the oracle."""
        return tuple(name for name in self.scores if name not in ("model", ORACLE))

    @property
    def best_baseline(self) -> str | None:
        """The baseline with the largest headline metric, the first of equals; None without one."""
        known = {name: self.value(name, self.headline).mean for name in self.baselines}
        means = {name: mean for name, mean in known.items() if mean is not None}
        return max(means, key=lambda name: means[name]) if means else None

    @property
    def is_among_new(self) -> bool:
        """Whether the headline metric is of lists of new items alone."""
        return self.headline.startswith(AMONG_NEW)

    @property
    def ranking_metrics(self) -> tuple[str, ...]:
        """Ranking metrics of the lists that the headline is of, each number once."""
        return self._of_lists(among_new=self.is_among_new)

    @property
    def other_ranking_metrics(self) -> tuple[str, ...]:
        """Those of the whole catalogue where the headline is of new items alone, or likewise."""
        return self._of_lists(among_new=not self.is_among_new)

    def _of_lists(self, *, among_new: bool) -> tuple[str, ...]:
        names = filter(is_ranking_metric, self.metrics)
        return self._distinct(name for name in names if name.startswith(AMONG_NEW) == among_new)

    @property
    def sampled_metrics(self) -> tuple[str, ...]:
        """Ranking metrics among sampled candidates, each number once."""
        return self._distinct(name for name in self.metrics if name.startswith("sampled_"))

    @property
    def further_metrics(self) -> tuple[str, ...]:
        """Everything that is not about finding the held-out items."""
        return tuple(
            name
            for name in self.metrics
            if not is_ranking_metric(name) and not name.startswith("sampled_")
        )

    def _distinct(self, metrics: Iterable[str]) -> tuple[str, ...]:
        one = self.one_held_out
        return tuple(distinct_metrics(metrics, one_held_out=one, preferred=self.headline))

    def value(self, recommender: str, metric: str) -> Value:
        """One metric of one recommender; gaps where it was not measured."""
        return self.scores[recommender].value(metric)


def monitor_of(record: RunRecord) -> str:
    """The metric that decides: training watched it, the report and comparisons begin with it."""
    return str(record.setting("training.early_stopping.monitor", "ndcg@10"))


def one_held_out(dataset: Mapping[str, Any], split: str) -> bool:
    """Whether every user of a split had exactly one item to find, as a record describes the data.

    No where it is not told.
    """
    return (dataset.get("most_held_out") or {}).get(split) == 1


def results_of(record: RunRecord) -> Results | None:
    """The results of a record; None where nothing was evaluated."""
    evaluation = record.judged
    if evaluation is None or not evaluation.model.means:
        return None
    scores, headline = evaluation.systems, monitor_of(record)
    best = scores.get(ORACLE, ScoresRecord()).means.get(headline)
    known = {k.removeprefix("expected_"): v for k, v in (record.oracle or {}).items()}
    expected = {name: value for name, value in known.items() if value is not None}
    best = expected.get(headline) if best is None else best
    if record.split.get("strategy") == "cold_items" and not headline.startswith(AMONG_NEW):
        best = None  # a model may put new items high, the true preferences do not
    return Results(
        split=evaluation.split,
        n_users=evaluation.n_users,
        headline=headline,
        scores=scores,
        best=best,
        expected=expected,
        confidence=record.confidence,
        one_held_out=one_held_out(record.dataset, evaluation.split),
    )
