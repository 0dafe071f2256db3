"""A comparison of runs as a value: what differs between them, and whether it is real."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from recsys.config import AMONG_NEW, DRAWN_SPLITS, RANKING_METRICS, prefix_of
from recsys.config.section import flatten
from recsys.errors import DataError
from recsys.evaluation.distinct import distinct_metrics
from recsys.evaluation.run_comparison import Method, PairedRun, PairedValues, compare_runs
from recsys.evaluation.segments import TAIL_PREFIX, main_k
from recsys.reporting.past_run import PastRun
from recsys.reporting.results import monitor_of, one_held_out

_PLACES = (
    *("experiment.name", "experiment.run_name", "experiment.runs_dir"),
    *("experiment.tracking", "experiment.tracking_uri", "diagnostics.report_path"),
    "experiment.tags",
    *("data.books_path", "data.interactions_path", "data.cache_dir"),
    *("data.validation_path", "data.test_path"),
)
"""Settings that say where things lie; equal data is told by its fingerprint."""
_TAKEN = {"metric", "setting", "what"}
"""Columns that stand beside those of the runs."""
_SAMPLED = "sampled_"


@dataclass(frozen=True, eq=False)
class RunComparison:
    """What a comparison found.

    Attributes:
        name: of the comparison.
        key: of its inputs and method: the same for the same comparison, hexadecimal.
        method: how the runs were compared.
        runs: each under a name of its own, first the reference, which every other is compared with.
        pairs: each of the others against the reference.
    """

    name: str
    key: str
    method: Method
    runs: tuple[PastRun, ...]
    pairs: tuple[PairedRun, ...]

    @property
    def reference(self) -> PastRun:
        """The first run."""
        return self.runs[0]

    @property
    def others(self) -> tuple[PastRun, ...]:
        """All but the first."""
        return self.runs[1:]

    @property
    def n_users(self) -> int:
        """Test users, the same of every run."""
        return len(self.reference.per_user)

    @property
    def n_tests(self) -> int:
        """Tests in the family that Holm's rule corrects for."""
        return sum(len(pair.tested) for pair in self.pairs)


def compare(
    runs: Sequence[PastRun],
    *,
    name: str = "",
    metrics: Sequence[str] = (),
    confidence: float | None = None,
) -> RunComparison:
    """Compare runs with the first of them.

    Args:
        runs: two or more; names that occur twice are told apart by the run's id.
        name: of the comparison; empty makes one from the runs.
        metrics: to test, the deciding one first; none takes the metric that the reference was
            trained by, and the other ranking metrics of the same list length.
        confidence: of intervals and findings; None takes that of the reference's evaluation.

    Raises:
        DataError: fewer than two runs or one twice, a run without a test evaluation, other data,
            other test users, or a metric that a run does not have.
    """
    if len(runs) < 2:
        raise DataError(f"a comparison must have two runs or more, got {len(runs)}")
    for run in runs:
        _refuse_unjudged(run)
    named = _named_apart(runs)
    values = [_same_users(named[0], other) for other in named[1:]]
    method = _method(named, metrics, confidence)
    key = _key(named, method)
    called = name or _default_name(named, key)
    return RunComparison(called, key, method, tuple(named), compare_runs(values, method))


def differing_settings(runs: Sequence[PastRun]) -> list[tuple[str, list[Any]]]:
    """(setting, its value in each run) of every setting that is not alike in all.

    Settings that only say where files lie or what a run is called are left out. A setting that a
    run does not have is ``...``. Lists of another tool have none, and count for nothing.
    """
    flat = [flatten(run.record.config) for run in runs]
    names = dict.fromkeys(name for settings in flat for name in settings)
    rows = [(name, [settings.get(name, ...) for settings in flat]) for name in names]
    return [
        (name, values)
        for name, values in rows
        if not name.startswith(_PLACES) and _differ(values, flat)
    ]


def has_other_files(one: PastRun, other: PastRun) -> bool:
    """Whether the files that two runs read have other contents."""
    return sorted(one.record.sources.values()) != sorted(other.record.sources.values())


def _differ(values: Sequence[Any], flat: Sequence[Mapping[str, Any]]) -> bool:
    of_runs = [value for value, settings in zip(values, flat, strict=True) if settings]
    return any(value != of_runs[0] for value in of_runs)


def has_same_segments(runs: Sequence[PastRun]) -> bool:
    """Whether all runs tell cold, tail and head by the same bounds."""
    bounds = [run.record.setting("evaluation.segments") for run in runs if run.paired is None]
    return all(bound == bounds[0] for bound in bounds)


def _refuse_unjudged(run: PastRun) -> None:
    if run.paired is not None:
        return
    evaluation = run.record.evaluation
    if evaluation is None:
        why = f"its status is '{run.record.status}' and it holds no evaluation"
    elif evaluation.skipped:
        why = f"its evaluation was skipped: {evaluation.skipped}"
    elif evaluation.split != "test":
        why = f"it was evaluated on '{evaluation.split}'"
    elif "user_id" not in run.per_user.columns or not len(run.per_user):
        why = "it holds no per-user metrics"
    else:
        return
    raise DataError(f"run '{run.name}': must have been evaluated on the test split, but {why}")


def _same_users(reference: PastRun, other: PastRun) -> PairedValues:
    """The values of both, in the order of the reference's users.

    Raises:
        DataError: the data differ, or the test users do.
    """
    ours = reference.per_user if other.paired is None else other.paired.ours
    if other.paired is None and other.fingerprint != reference.fingerprint:
        raise DataError(
            f"compared runs must have the same data: '{reference.name}' has "
            f"{reference.fingerprint}, '{other.name}' has {other.fingerprint}"
            f"{_data_differences(reference, other)}"
        )
    ids, theirs = pd.Index(ours["user_id"]), pd.Index(other.per_user["user_id"])
    for run, index in ((reference, ids), (other, theirs)):
        if not index.is_unique:
            raise DataError(f"run '{run.name}': its per-user metrics must name every user once")
    missing, added = len(ids.difference(theirs)), len(theirs.difference(ids))
    if missing or added:
        raise DataError(
            f"compared runs must have the same test users: {missing:,} of the {len(ids):,} of "
            f"'{reference.name}' are not among those of '{other.name}', which has {added:,} others"
        )
    aligned = other.per_user.iloc[theirs.get_indexer(ids)].reset_index(drop=True)
    return PairedValues(other.name, aligned, ours)


def _data_differences(reference: PastRun, other: PastRun) -> str:
    """What made the data another, where the records tell."""
    said = [
        f"{name} is {values[0]!r} and {values[1]!r}"
        for name, values in differing_settings([reference, other])
        if name.startswith("data.") and ... not in values
    ]
    if has_other_files(reference, other):
        said.append("the files' contents differ")
    seeds = [run.record.setting("experiment.seed") for run in (reference, other)]
    if reference.record.split.get("strategy") in DRAWN_SPLITS and seeds[0] != seeds[1]:
        said.append(
            f"experiment.seed is {seeds[0]} and {seeds[1]}, which a random split draws from"
        )
    return f" ({'; '.join(said)})" if said else ""


def _named_apart(runs: Sequence[PastRun]) -> list[PastRun]:
    """The runs, those of one name called after their id or start too.

    Raises:
        DataError: a run is there twice.
    """
    seen = set[tuple[str, str]]()
    times = Counter(run.name for run in runs)
    named = []
    for run in runs:
        identity = run.name, run.record.created
        if identity in seen:
            raise DataError(f"a comparison must have different runs, got '{run.name}' twice")
        seen.add(identity)
        mark = run.run_id[:8] if run.run_id else run.record.created
        is_clear = times[run.name] == 1 and run.name not in _TAKEN
        label = run.name if is_clear else f"{run.name} ({mark})"
        named.append(dataclasses.replace(run, name=label))
    return named


def _method(runs: Sequence[PastRun], metrics: Sequence[str], confidence: float | None) -> Method:
    reference = runs[0]
    common = [
        name
        for name in reference.means
        if all(name in run.means and name in run.per_user.columns for run in runs)
    ]
    tested = tuple(dict.fromkeys(metrics)) or _usual_metrics(reference, common)
    absent = [name for name in tested if name not in common]
    if absent or not tested:
        wanted = f", got '{absent[0]}'" if absent else ""
        known = ", ".join(common)
        raise DataError(f"'--metric' must be one that every run has of each user ({known}){wanted}")
    candidates = {
        run.record.setting("evaluation.candidate_samples") for run in runs if run.paired is None
    }
    one = one_held_out(reference.record.dataset, "test")
    return Method(
        tested=tested,
        shown=tuple(
            name
            for name in distinct_metrics([*tested, *common], one_held_out=one, preferred=tested[0])
            if name not in tested and (len(candidates) == 1 or not name.startswith(_SAMPLED))
        ),
        confidence=confidence or reference.record.confidence,
        has_tail_items=has_same_segments(runs)
        and all(TAIL_PREFIX + tested[0] in run.per_user.columns for run in runs),
    )


def _usual_metrics(reference: PastRun, common: Sequence[str]) -> tuple[str, ...]:
    """The metric that training watched, then the other ranking metrics of its list length."""
    record = reference.record
    headline = monitor_of(record)
    if headline not in common:  # lists of others are of the whole catalogue
        headline = headline.removeprefix(AMONG_NEW)
    if headline not in common:
        ks = record.setting("evaluation.metrics_k") or record.setting("evaluation.ks") or [10]
        headline = f"ndcg@{main_k(ks)}"
    k, prefix = headline.partition("@")[2], prefix_of(headline)
    names = [headline, *(f"{prefix}{metric}@{k}" for metric in ("ndcg", *RANKING_METRICS))]
    known = [name for name in names if name in common]
    one = one_held_out(record.dataset, "test")
    return tuple(distinct_metrics(known, one_held_out=one, preferred=headline))


def _default_name(runs: Sequence[PastRun], key: str) -> str:
    others = runs[1].name if len(runs) == 2 else f"{len(runs) - 1}-runs"
    return name_against(others, runs[0].name, key[:6])


def name_against(others: str, reference: str, key: str) -> str:
    """Such as ``sum-against-mimic-1a2b3c``, safe as the name of a directory."""
    return re.sub(r"[^\w.-]", "-", f"{others[:60]}-against-{reference[:60]}-{key}").lstrip(".")


def _key(runs: Sequence[PastRun], method: Method) -> str:
    compared = [
        (run.name, run.record.created, run.fingerprint, *([run.paired.said] if run.paired else []))
        for run in runs
    ]
    how = (method.tested, method.confidence, method.n_samples, method.seed)
    return hashlib.sha256(json.dumps((compared, how)).encode()).hexdigest()[:20]
