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

from recsys.data.arrays import BoolArray, FloatArray
from recsys.errors import DataError
from recsys.evaluation.bootstrap import bootstrap_intervals
from recsys.evaluation.evaluation import TAIL_PREFIX
from recsys.evaluation.held_out import KNOWN, NEW_ITEMS, NEW_USERS
from recsys.evaluation.metrics import mean
from recsys.evaluation.segments import members
from recsys.evaluation.significance import Comparison, compare_metrics, holm

Verdict = Literal["better", "worse", "undecided", "alike", "not tested", "no users"]
TAIL_ITEMS = "cold and tail items"
"""The segment of what is found of held-out items outside the head."""
_GROUPS = {
    KNOWN: "known to it",
    NEW_USERS: "new users",
    NEW_ITEMS: "new items",
}
"""Segments of what is found of some test items alone, where a run is of other data."""


@dataclass(frozen=True, eq=False)
class RunValues:
    """What a run gave each test user.

    Attributes:
        name: of the run.
        fingerprint: of the data and its split.
        per_user: user_id, n_train, segment, and one column a metric; one row a user.
        reference: what the reference gave the same users, where these are not all of its own or
            more columns are to be compared; None for the reference's own values.
    """

    name: str
    fingerprint: str
    per_user: pd.DataFrame
    reference: pd.DataFrame | None = None


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
        effect_size: mean difference over the standard deviation of the users' differences, Cohen's
            d_z (Cohen 1988; Lakens 2013); 0 where no user differs, NaN below two users or where
            all differ by the same.
        n_better: users whom the run serves better.
        n_worse: users whom it serves worse.
        p_corrected: after Holm's rule over its family; NaN where it was not tested.
        confidence: level of the interval.
    """

    metric: str
    segment: str | None
    comparison: Comparison
    effect_size: float
    n_better: int
    n_worse: int
    p_corrected: float
    confidence: float

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
        if self.n_better == self.n_worse == 0:
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


def compare_runs(
    reference: RunValues, others: Sequence[RunValues], method: Method
) -> tuple[PairedRun, ...]:
    """Compare every other run with the reference; the same input gives the same numbers.

    Raises:
        DataError: data or test users are not the same, or a metric is missing.
    """
    pairs = [_compare_pair(reference, other, method) for other in others]
    corrected = _corrected([found for pair in pairs for found in pair.tested])
    segments = _corrected([found for pair in pairs for found in pair.segments])
    return tuple(
        dataclasses.replace(
            pair,
            tested=tuple(next(corrected) for _ in pair.tested),
            segments=tuple(next(segments) for _ in pair.segments),
        )
        for pair in pairs
    )


def same_users(reference: RunValues, other: RunValues) -> pd.DataFrame:
    """The other run's values in the order of the reference's users.

    Raises:
        DataError: the data differ, or the test users do.
    """
    if other.fingerprint != reference.fingerprint:
        raise DataError(
            f"compared runs must have the same data: '{reference.name}' has "
            f"{reference.fingerprint}, '{other.name}' has {other.fingerprint}"
        )
    ids, theirs = (pd.Index(run.per_user["user_id"]) for run in (reference, other))
    for run, index in ((reference, ids), (other, theirs)):
        if not index.is_unique:
            raise DataError(f"run '{run.name}': its per-user metrics must name every user once")
    missing, added = len(ids.difference(theirs)), len(theirs.difference(ids))
    if missing or added:
        raise DataError(
            f"compared runs must have the same test users: {missing:,} of the {len(ids):,} of "
            f"'{reference.name}' are not among those of '{other.name}', which has {added:,} others"
        )
    aligned: pd.DataFrame = other.per_user.iloc[theirs.get_indexer(ids)].reset_index(drop=True)
    return aligned


def _compare_pair(reference: RunValues, other: RunValues, method: Method) -> PairedRun:
    if other.reference is not None:
        reference = dataclasses.replace(reference, per_user=other.reference)
    mine, theirs = reference.per_user, same_users(reference, other)
    for run, frame in ((reference, mine), (other, theirs)):
        absent = [name for name in (*method.tested, *method.shown) if name not in frame.columns]
        if absent:
            raise DataError(f"run '{run.name}': must have the metric '{absent[0]}' of each user")
    everyone = np.ones(len(mine), dtype=bool)
    segments: list[Difference] = []
    if {"segment", "n_train"} <= set(mine.columns):  # those of the reference
        labels, counts = mine["segment"].to_numpy(), mine["n_train"].to_numpy()
        for name, chosen in members(labels, counts, keep_empty=False):
            segments += _differences(mine, theirs, (method.headline,), chosen, method, name)
    for prefix, segment in {TAIL_PREFIX: TAIL_ITEMS, **_GROUPS}.items():
        name = prefix + method.headline
        is_there = method.has_tail_items if prefix == TAIL_PREFIX else name in theirs.columns
        if is_there and (chosen := mine[name].notna().to_numpy()).any():
            found = _differences(mine, theirs, (name,), chosen, method, segment)
            segments += [dataclasses.replace(each, metric=method.headline) for each in found]
    return PairedRun(
        name=other.name,
        tested=tuple(_differences(mine, theirs, method.tested, everyone, method)),
        shown=tuple(_untested(mine, theirs, method)),
        segments=tuple(segments),
    )


def _differences(
    reference: pd.DataFrame,
    other: pd.DataFrame,
    metrics: tuple[str, ...],
    chosen: BoolArray,
    method: Method,
    segment: str | None = None,
) -> Iterator[Difference]:
    """Tested differences over some users, not corrected yet."""
    first, second = (_values(frame, metrics, chosen) for frame in (other, reference))
    compared = compare_metrics(
        first,
        second,
        rng=np.random.default_rng(method.seed),
        n_samples=method.n_samples,
        confidence=method.confidence,
    )
    for name, comparison in compared.items():
        yield _difference(name, segment, first[name] - second[name], comparison, method)


def _untested(reference: pd.DataFrame, other: pd.DataFrame, method: Method) -> Iterator[Difference]:
    """Differences that are only shown: with an interval, but without the cost of a test."""
    everyone = np.ones(len(reference), dtype=bool)
    first, second = (_values(frame, method.shown, everyone) for frame in (other, reference))
    differences = {name: first[name] - second[name] for name in method.shown}
    intervals = bootstrap_intervals(
        differences,
        n_samples=method.n_samples,
        confidence=method.confidence,
        rng=np.random.default_rng(method.seed),
    )
    nothing = (float("nan"), float("nan"))
    for name, values in differences.items():
        both = ~np.isnan(values)
        comparison = Comparison(
            n=int(both.sum()),
            first=mean(first[name][both]),
            second=mean(second[name][both]),
            interval=intervals.get(name, nothing),
            p_value=float("nan"),
        )
        yield _difference(name, None, values, comparison, method)


def _values(
    frame: pd.DataFrame, metrics: tuple[str, ...], chosen: BoolArray
) -> dict[str, FloatArray]:
    return {name: frame[name].to_numpy(np.float64)[chosen] for name in metrics}


def _difference(
    metric: str,
    segment: str | None,
    differences: FloatArray,
    comparison: Comparison,
    method: Method,
) -> Difference:
    known = differences[~np.isnan(differences)]
    return Difference(
        metric=metric,
        segment=segment,
        comparison=comparison,
        effect_size=paired_effect_size(known),
        n_better=int((known > 0).sum()),
        n_worse=int((known < 0).sum()),
        p_corrected=comparison.p_value,
        confidence=method.confidence,
    )


def paired_effect_size(differences: FloatArray) -> float:
    """Cohen's d_z: mean over standard deviation (divisor n - 1) of paired differences.

    Args:
        differences: (n,), without NaN.

    Returns:
        0 where all are 0; NaN below two of them, and where they are all alike.
    """
    if len(differences) < 2:
        return float("nan")
    spread, middle = float(differences.std(ddof=1)), float(differences.mean())
    if spread <= 1e-12 * abs(middle) or spread == 0:  # alike but for rounding
        return 0.0 if middle == 0 else float("nan")
    return middle / spread


def _corrected(differences: list[Difference]) -> Iterator[Difference]:
    """The differences of one family, their p-values corrected for its size."""
    corrected = holm(np.array([found.comparison.p_value for found in differences]))
    return iter(
        [
            dataclasses.replace(found, p_corrected=float(value))
            for found, value in zip(differences, corrected, strict=True)
        ]
    )
