"""Whether runs differ, and by how much: every run against one reference, user by user.

All tests of a comparison are one family: p-values are corrected by Holm's rule over every tested
metric of every run, so that the chance of any false finding among them stays below one minus the
confidence. Segments of users are a second family of their own. What is said is about these
trained models and the sampling of users, not about another seed or another split.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from recsys.evaluation.held_out import KNOWN, NEW_ITEMS, NEW_USERS
from recsys.evaluation.segments import TAIL_PREFIX, members
from recsys.evaluation.significance import Comparison, compare_metrics, holm

Verdict = Literal["better", "worse", "undecided", "alike", "not tested", "no users"]
TAIL_ITEMS = "cold and tail items"
"""The segment of what is found of held-out items outside the head."""
_GROUPS = {
    TAIL_PREFIX: TAIL_ITEMS,
    KNOWN: "known to it",
    NEW_USERS: "new users",
    NEW_ITEMS: "new items",
}
"""Segments of what is found of some test items alone; all but the first where a run is of other
data."""


@dataclass(frozen=True, eq=False)
class PairedValues:
    """What a run and the reference gave the same users, row by row.

    Attributes:
        name: of the run.
        run: n_train, segment, and one column a metric; one row a user.
        reference: the same of the reference.
    """

    name: str
    run: pd.DataFrame
    reference: pd.DataFrame


@dataclass(frozen=True)
class Method:
    """How runs are compared.

    Attributes:
        tested: metrics that are tested, the one that decides first.
        shown: metrics whose difference is shown with its interval, but not tested.
        confidence: level of the intervals; a corrected p-value below one minus it is a finding.
        n_samples: bootstrap resamples.
        has_tail_items: whether the runs hold the deciding metric of held-out items outside the
            head alone, told by the same bounds: then it is a segment too.
        seed: of resamples and sign flips. Every pair begins with it, so that what is measured of
            a pair does not depend on the other runs.
    """

    tested: tuple[str, ...]
    shown: tuple[str, ...] = ()
    confidence: float = 0.95
    n_samples: int = 2000
    has_tail_items: bool = False
    seed: int = 0

    @property
    def headline(self) -> str:
        """The metric that decides."""
        return self.tested[0]


@dataclass(frozen=True)
class Difference:
    """A run's value minus that of the reference, over the same users.

    Attributes:
        metric: such as "ndcg@10".
        segment: of users, or TAIL_ITEMS; None for everything.
        comparison: the run first, the reference second.
        confidence: level of the interval.
        p_corrected: after Holm's rule over its family; NaN where it was not tested.
    """

    metric: str
    segment: str | None
    comparison: Comparison
    confidence: float
    p_corrected: float = math.nan

    @property
    def points(self) -> float:
        """The difference in hundredths of the metric."""
        return 100 * self.comparison.difference

    @property
    def interval_points(self) -> tuple[float, float]:
        """Bootstrap interval of the difference, in hundredths of the metric."""
        low, high = self.comparison.interval
        return 100 * low, 100 * high

    @property
    def verdict(self) -> Verdict:
        """What the test allows to say: a direction only where chance alone would rarely do it."""
        if not self.comparison.n:
            return "no users"
        if self.comparison.n_better == self.comparison.n_worse == 0:
            return "alike"
        if math.isnan(self.p_corrected):
            return "not tested"
        if not self.p_corrected < 1 - self.confidence:
            return "undecided"
        return "better" if self.comparison.difference > 0 else "worse"


@dataclass(frozen=True)
class PairedRun:
    """A run against the reference.

    Attributes:
        name: of the run.
        tested: every tested metric, the deciding one first.
        shown: metrics that were not tested.
        segments: the deciding metric in each segment that has any users.
    """

    name: str
    tested: tuple[Difference, ...]
    shown: tuple[Difference, ...]
    segments: tuple[Difference, ...]

    @property
    def headline(self) -> Difference:
        """The deciding metric over all users."""
        return self.tested[0]


def compare_runs(pairs: Sequence[PairedValues], method: Method) -> tuple[PairedRun, ...]:
    """Compare every run with the reference; the same input gives the same numbers."""
    found = [_compare_pair(pair, method) for pair in pairs]
    tested = _corrected([each for pair in found for each in pair.tested])
    segments = _corrected([each for pair in found for each in pair.segments])
    return tuple(
        dataclasses.replace(
            pair,
            tested=tuple(next(tested) for _ in pair.tested),
            segments=tuple(next(segments) for _ in pair.segments),
        )
        for pair in found
    )


def _compare_pair(pair: PairedValues, method: Method) -> PairedRun:
    """The differences of a pair, not corrected yet."""
    run, reference, headline = pair.run, pair.reference, method.headline
    segments: list[Difference] = []
    if {"segment", "n_train"} <= set(reference.columns):
        labels, counts = (reference[name].to_numpy() for name in ("segment", "n_train"))
        for name, chosen in members(labels, counts):
            if chosen.any():
                among = run[chosen], reference[chosen]
                segments += _differences(*among, (headline,), method, segment=name)
    for prefix, segment in _GROUPS.items():
        column = prefix + headline
        is_there = method.has_tail_items if prefix == TAIL_PREFIX else column in run.columns
        if is_there and (chosen := reference[column].notna().to_numpy()).any():
            among = run[chosen], reference[chosen]
            found = _differences(*among, (column,), method, segment=segment)
            segments += [dataclasses.replace(each, metric=headline) for each in found]
    return PairedRun(
        name=pair.name,
        tested=tuple(_differences(run, reference, method.tested, method)),
        shown=tuple(_differences(run, reference, method.shown, method, n_flips=0)),
        segments=tuple(segments),
    )


def _differences(
    run: pd.DataFrame,
    reference: pd.DataFrame,
    metrics: Sequence[str],
    method: Method,
    *,
    segment: str | None = None,
    n_flips: int = 9999,
) -> list[Difference]:
    first, second = (
        {name: frame[name].to_numpy(np.float64) for name in metrics} for frame in (run, reference)
    )
    compared = compare_metrics(
        first,
        second,
        rng=np.random.default_rng(method.seed),
        n_samples=method.n_samples,
        confidence=method.confidence,
        n_flips=n_flips,
    )
    return [
        Difference(name, segment, comparison, method.confidence)
        for name, comparison in compared.items()
    ]


def _corrected(differences: list[Difference]) -> Iterator[Difference]:
    """The differences of one family, their p-values corrected for its size."""
    corrected = holm(np.array([found.comparison.p_value for found in differences]))
    for found, value in zip(differences, corrected.tolist(), strict=True):
        yield dataclasses.replace(found, p_corrected=value)
