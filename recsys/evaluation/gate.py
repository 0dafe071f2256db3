"""Whether a candidate may take the champion's place: every criterion, with what was found.

A candidate passes when it

- was judged on the same sealed test users as the champion, in the same segments: by the same data,
  or, where the champion is of other data, by its lists for the candidate's test users, those left
  out whose test items it was trained on. Else the two cannot be compared, and nothing else is held
  against the candidate but its cost;
- is better on the metric: a positive difference whose two-sided paired sign-flip test over users
  gives a p-value of at most ``alpha``. Without a champion the popularity baseline stands in;
- loses on no protected segment (cold users; items outside the head; where the champion is of other
  data also what both know, users new to it, items new to it) more than a margin, which is a share
  of the champion's own value there, so that it means the same on a segment where little is found
  as on one where much is;
- is small and fast enough to be served.

The margin is held against the *lower end of the interval* of the paired difference, not against the
point estimate: that a segment does not suffer is a claim of the candidate, so the burden of proof
is the candidate's, and a segment with few users, where a point estimate is mostly noise, refuses
rather than passes by it. The interval is the bootstrap's of level ``1 - 2 * alpha``, so that its
lower end is a one-sided bound of level ``alpha``: the test of non-inferiority (Piaggio and others,
CONSORT 2012). All criteria must hold at once, so none needs a correction for their number (Berger
1982).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from recsys.config import AMONG_NEW
from recsys.data.arrays import BoolArray, FloatArray
from recsys.errors import ConfigError
from recsys.evaluation.held_out import KNOWN, NEW_ITEMS, NEW_USERS
from recsys.evaluation.segments import TAIL_PREFIX
from recsys.evaluation.significance import Comparison, compare
from recsys.evaluation.tables import Table

_SEED = 0  # the same values give the same verdict
_BASELINE, _CONTENT = "popularity", "content_knn"
_GROUPS = {
    TAIL_PREFIX: ("tail_items", "items outside the head kept"),
    KNOWN: ("known", "users and items the champion knows kept"),
    NEW_USERS: ("new_users", "users new to the champion kept"),
    NEW_ITEMS: ("new_items", "items new to the champion kept"),
}


@dataclass(frozen=True)
class GateSettings:
    """What a candidate is held to.

    Attributes:
        metric: a ranking metric that runs hold per user, such as ``ndcg@10``. None takes that by
            which the champion was trained, so that each is held to the same; without a champion
            that of the candidate. It is of lists of the whole catalogue where such lists were
            asked for or given.
        alpha: level of the test, and of the bound on a segment's loss; above 0, below 0.5.
        margin: share of the champion's value that a protected segment may lose, from 0 to 1.
        max_bytes: of all files of the bundle.
        max_p95_ms: 95th percentile of the time to answer one user, in milliseconds.
        max_latency_ratio: of the same to the champion's, measured in turn: a model that is no
            slower than it passes on a busy machine too.
        n_samples: bootstrap resamples.
    """

    metric: str | None = None
    alpha: float = 0.05
    margin: float = 0.2
    max_bytes: int = 2 * 1024**3
    max_p95_ms: float = 100.0
    max_latency_ratio: float = 1.25
    n_samples: int = 2000

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            ConfigError: a value is outside its bounds.
        """
        bounds = {
            "alpha": (0 < self.alpha < 0.5, "above 0 and below 0.5"),
            "margin": (0 <= self.margin <= 1, "from 0 to 1, a share of the champion's value"),
            "max_bytes": (self.max_bytes > 0, "above 0"),
            "max_p95_ms": (self.max_p95_ms > 0, "above 0 milliseconds"),
            "max_latency_ratio": (self.max_latency_ratio > 0, "above 0"),
        }
        for name, (holds, must) in bounds.items():
            if not holds:
                raise ConfigError(f"'{name}' must be {must}, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class Contender:
    """A model as the gate sees it.

    Attributes:
        name: how to call it in what is found.
        fingerprint: of the data it was trained and judged on.
        per_user: one row a test user, as evaluation made it; without rows where the model was
            not judged on test.
        monitor: the metric by which it was trained; None where that is not known.
        missing: why there are no rows, or none for the other's test users, where that is known.
        asked: of a model that gave its lists for the test users of the other: what it was trained
            on and whom it knows, in words; "" for one of the same data.
        n_left_out: users left out then, as the model was trained on a test item of theirs.
    """

    name: str
    fingerprint: str
    per_user: pd.DataFrame
    monitor: str | None = None
    missing: str = ""
    asked: str = ""
    n_left_out: int = 0


@dataclass(frozen=True)
class ServingCost:
    """What serving a bundle takes.

    Attributes:
        n_bytes: of all its files.
        p95_ms: 95th percentile of the time to answer one user, in milliseconds.
        champion_p95_ms: the same of the champion, asked in turn; None where there is none.
    """

    n_bytes: int
    p95_ms: float
    champion_p95_ms: float | None = None


@dataclass(frozen=True)
class Criterion:
    """One thing that must hold.

    Attributes:
        key: snake_case, names it in tags.
        name: names it in what is shown.
        required: what must hold.
        found: what was found.
        passed: whether it holds.
    """

    key: str
    name: str
    required: str
    found: str
    passed: bool


@dataclass(frozen=True)
class Verdict:
    """What the gate says of a candidate.

    Attributes:
        criteria: all that was looked at.
    """

    criteria: tuple[Criterion, ...]

    @property
    def passed(self) -> bool:
        """Whether all criteria hold."""
        return all(criterion.passed for criterion in self.criteria)

    @property
    def failed(self) -> tuple[Criterion, ...]:
        """The criteria that do not hold."""
        return tuple(criterion for criterion in self.criteria if not criterion.passed)

    @property
    def table(self) -> Table:
        """One row a criterion."""
        rows = [
            (row.name, row.required, row.found, "passed" if row.passed else "failed")
            for row in self.criteria
        ]
        columns = ("criterion", "must hold", "found", "result")
        return Table("gate", "Gate", "", columns, tuple(rows))


def judge(
    candidate: Contender,
    champion: Contender | None,
    cost: ServingCost,
    settings: GateSettings,
    others: Sequence[Contender] = (),
) -> Verdict:
    """Hold a candidate against the champion, or against popularity where there is none.

    Args:
        candidate: that would take the place.
        champion: that has it.
        cost: of serving the candidate.
        settings: what it is held to.
        others: lists of other tools for the same test users, which it must be better than, too.

    Raises:
        ConfigError: the candidate's values per user hold no such metric, or those of given lists.
    """
    gave_lists = [*others, *([champion] if champion is not None and champion.asked else [])]
    metric = settings.metric
    if metric is None:
        metric = (champion.monitor if champion else None) or candidate.monitor or "ndcg@10"
        metric = metric.removeprefix(AMONG_NEW) if gave_lists else metric
    _require_metric(candidate, metric)
    for other in gave_lists:
        if len(other.per_user) and metric not in other.per_user.columns:
            raise ConfigError(
                f"'metric' must be one of lists of the whole catalogue with {other.name}, which "
                f"gave such lists alone, such as '{metric.removeprefix(AMONG_NEW)}', got '{metric}'"
            )
    settings = replace(settings, metric=metric)
    rows: list[Criterion] = []
    if not len(candidate.per_user):
        found = "it was judged on no user"
        rows.append(Criterion("evaluated", "judged on test", "has test users", found, False))
    elif champion is None:
        name = _first_opponent(candidate, metric)
        ours, theirs = (_values(candidate, prefix + metric) for prefix in ("", f"{name}_"))
        rows.append(_better(f"better than {name}", ours, theirs, settings))
    else:
        comparable = _asked if champion.asked else _comparable
        rows += comparable(candidate, champion, metric)
        if all(row.passed for row in rows):
            rows += _against(candidate, _aligned(champion, candidate), settings)
    if len(candidate.per_user):
        ours = _values(candidate, metric)
        for other in others:
            theirs = _values(_aligned(other, candidate), metric)
            key = f"better_than_{other.name}"
            rows.append(_better(f"better than {other.name}", ours, theirs, settings, key=key))
    return Verdict((*rows, *_served(cost, settings)))


def _first_opponent(candidate: Contender, metric: str) -> str:
    """The baseline that the first champion must be better than: one that can order the items."""
    knows_content = f"{_CONTENT}_{metric}" in candidate.per_user.columns
    return _CONTENT if metric.startswith(AMONG_NEW) and knows_content else _BASELINE


def _require_metric(candidate: Contender, metric: str) -> None:
    columns = list(candidate.per_user.columns)
    known = [name for name in columns if f"{_BASELINE}_{name}" in columns]
    if len(candidate.per_user) and metric not in known:
        raise ConfigError(
            f"'metric' must be one that {candidate.name} holds per user ({', '.join(known)}), "
            f"got '{metric}'"
        )


def _better(
    name: str, values: FloatArray, other: FloatArray, settings: GateSettings, key: str = "better"
) -> Criterion:
    found = _compared(values, other, settings, confidence=1 - settings.alpha)
    low, high = found.interval
    return Criterion(
        key=key,
        name=name,
        required=f"{settings.metric} higher, paired test p at most {settings.alpha:g}",
        found=f"{_difference(found)} [{low:+.4f}, {high:+.4f}], p = {found.p_value:.4f}, "
        f"{found.n:,} users",
        passed=found.difference > 0 and found.p_value <= settings.alpha,
    )


def _comparable(candidate: Contender, champion: Contender, metric: str) -> Iterator[Criterion]:
    """Whether the two were asked the same, of the same users."""
    same = candidate.fingerprint == champion.fingerprint
    reasons = (candidate.fingerprint, champion.missing, "cannot be compared")
    yield Criterion(
        key="same_data",
        name="same data as the champion",
        required=f"fingerprint {champion.fingerprint}",
        found=candidate.fingerprint if same else "; ".join(filter(None, reasons)),
        passed=same,
    )
    users, others = (set(one.per_user.get("user_id", ())) for one in (candidate, champion))
    yield Criterion(
        key="same_users",
        name="same test users as the champion",
        required=f"its {len(others):,} users" if others else "its users, each with values",
        found=_overlap(users, others, champion.missing),
        passed=users == others,
    )
    if same and users == others and (reason := _unlike(candidate, champion, metric)):
        yield Criterion(
            key="same_measures",
            name="same measures as the champion",
            required=f"{metric} per user, over the same segments",
            found=f"{reason}; cannot be compared",
            passed=False,
        )


def _asked(candidate: Contender, champion: Contender, _: str) -> Iterator[Criterion]:
    """What the champion's values on the candidate's test users stand on."""
    yield Criterion(
        key="same_test",
        name="judged on the candidate's test users",
        required="lists of both for the same users",
        found=champion.asked,
        passed=True,
    )
    n_left = len(champion.per_user)
    yield Criterion(
        key="no_leak",
        name="test items the champion was not trained on",
        required="users left to judge by",
        found=f"{n_left:,} users; {champion.n_left_out:,} left out, whose test items it was "
        "trained on",
        passed=n_left > 0,
    )


def _overlap(users: set[str], others: set[str], missing: str) -> str:
    if users == others:
        return "the same"
    found = f"{len(users & others):,} of them and {len(users - others):,} others"
    if not others:
        found = missing or "its values per user are not there"
    return f"{found}; cannot be compared"


def _unlike(candidate: Contender, champion: Contender, metric: str) -> str | None:
    """Why values that bear the same names are not of the same things; None where they are."""
    tails = [] if metric.startswith(AMONG_NEW) else [TAIL_PREFIX + metric]
    for one in (candidate, champion):
        if missing := [name for name in (metric, *tails) if name not in one.per_user.columns]:
            return f"{one.name} holds no {' or '.join(missing)} per user"
    ours, theirs = candidate.per_user, _aligned(champion, candidate).per_user
    same_users = np.array_equal(ours["segment"], theirs["segment"])
    if not same_users or not np.array_equal(ours[tails].isna(), theirs[tails].isna()):
        return "segments were cut elsewhere (evaluation.segments)"
    return None


def _aligned(champion: Contender, candidate: Contender) -> Contender:
    """The champion with its users in the order of the candidate's."""
    by_user = champion.per_user.set_index("user_id", drop=False)
    ordered = by_user.loc[candidate.per_user["user_id"]].reset_index(drop=True)
    return Contender(champion.name, champion.fingerprint, ordered)


def _against(
    candidate: Contender, champion: Contender, settings: GateSettings
) -> Iterator[Criterion]:
    """Better on the whole, and no worse than the margin where it is protected."""
    metric = settings.metric
    assert metric is not None
    ours, theirs = _values(candidate, metric), _values(champion, metric)
    yield _better(f"better than {champion.name}", ours, theirs, settings)
    cold: BoolArray = (champion.per_user["segment"] == "cold").to_numpy()
    yield _kept("cold_users", "cold users kept", ours[cold], theirs[cold], settings)
    for prefix, (key, name) in _GROUPS.items():
        column = prefix + metric
        if prefix == TAIL_PREFIX and metric.startswith(AMONG_NEW):
            continue  # no new item is of the head
        if column in champion.per_user.columns:
            ours, theirs = _values(candidate, column), _values(champion, column)
            yield _kept(key, name, ours, theirs, settings)


def _kept(
    key: str, name: str, values: FloatArray, other: FloatArray, settings: GateSettings
) -> Criterion:
    share = f"loses at most {settings.margin:.0%} of {settings.metric}"
    found = _compared(values, other, settings, confidence=1 - 2 * settings.alpha)
    if not found.n:
        return Criterion(key, name, share, "no test user is concerned", True)
    low, allowed = found.interval[0], settings.margin * found.second
    text = f"{_difference(found)}, at least {low:+.4f}, {found.n:,} users"
    passed = low >= -allowed
    if not passed and found.difference >= -allowed:
        text += "; too few to rule out a greater loss"
    return Criterion(
        key, name, f"{share} ({allowed:.4f}), at level {settings.alpha:g}", text, passed
    )


def _served(cost: ServingCost, settings: GateSettings) -> Iterator[Criterion]:
    required, passed = f"at most {_size(settings.max_bytes)}", cost.n_bytes <= settings.max_bytes
    yield Criterion("bytes", "size of the bundle", required, _size(cost.n_bytes), passed)
    required, found = f"95% within {settings.max_p95_ms:g} ms", f"95% within {cost.p95_ms:.3g} ms"
    passed = cost.p95_ms <= settings.max_p95_ms
    if cost.champion_p95_ms is not None:
        ratio = cost.p95_ms / cost.champion_p95_ms
        required += f", or {settings.max_latency_ratio:g} times the champion's"
        found += f", {ratio:.3g} times the champion's in turn"
        passed = passed or ratio <= settings.max_latency_ratio
    yield Criterion("latency", "time to answer one user", required, found, passed)


def _compared(
    values: FloatArray, other: FloatArray, settings: GateSettings, *, confidence: float
) -> Comparison:
    return compare(
        values,
        other,
        rng=np.random.default_rng(_SEED),
        n_samples=settings.n_samples,
        confidence=confidence,
    )


def _values(contender: Contender, column: str) -> FloatArray:
    values: FloatArray = contender.per_user[column].to_numpy(dtype=np.float64)
    return values


def _difference(found: Comparison) -> str:
    return f"{found.first:.4f} against {found.second:.4f}: {found.difference:+.4f}"


def _size(n_bytes: int) -> str:
    if n_bytes < 1024:
        return f"{n_bytes} B"
    power = min((n_bytes.bit_length() - 1) // 10, 4)
    return f"{n_bytes / 1024**power:,.1f} {' KMGT'[power]}iB"
