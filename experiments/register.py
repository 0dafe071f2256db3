"""Registering a run: hold it against the champion, and let it take the place if it may."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from experiments.register_serving import measure
from recsys.errors import BookendsError, ConfigError, TrackingError
from recsys.evaluation.gate import Contender, GateSettings, ServingCost, Verdict, judge
from recsys.reporting.record import RECORD_FILE
from tracking.ledger import Ledger
from tracking.model import resolve_bundle
from tracking.past_runs import PastRun, find_run
from tracking.registry import (
    DEFAULT_NAME,
    Candidate,
    ChampionChangedError,
    Registered,
    Registry,
    Version,
)
from tracking.store import resolve_uri

_ATTEMPTS = 5  # each one lost to another registration that did move the champion


@dataclass(frozen=True)
class RegisterRequest:
    """What is asked for.

    Attributes:
        run: a run directory, an MLflow run id, a prefix of one, or a run's name.
        name: of the registered model.
        tracking_uri: the store; None takes the usual one.
        gate: what the run is held to.
        reason: why it is to be champion whatever the gate says; None leaves it to the gate.
        is_rehearsal: judge, and write nothing.
    """

    run: str
    name: str = DEFAULT_NAME
    tracking_uri: str | None = None
    gate: GateSettings = field(default_factory=GateSettings)
    reason: str | None = None
    is_rehearsal: bool = False


@dataclass(frozen=True, eq=False)
class Registration:
    """What came of it.

    Attributes:
        run: that was registered.
        champion: held against; None where there was none, or it is this run's version.
        verdict: of the gate; None where the run's version was champion already.
        done: in the registry; None in a rehearsal.
        is_forced: whether it was to be champion whatever the verdict.
    """

    run: PastRun
    champion: Version | None
    verdict: Verdict | None
    done: Registered | None
    is_forced: bool

    @property
    def is_champion(self) -> bool:
        """Whether the run's version is champion now; in a rehearsal, whether it would be."""
        if self.done is None:
            return self.verdict is None or self.verdict.passed or self.is_forced
        return self.done.champion == self.done.version


def register(request: RegisterRequest) -> Registration:
    """Judge a run, make a version of it, and make it champion if it may be.

    Raises:
        BookendsError: no such run, one without a model, a metric that it does not hold, or a store
            that does not answer.
    """
    if request.reason is not None and not request.reason.strip():
        raise ConfigError("'--force' must be given a reason ('--reason TEXT'), got an empty one")
    uri = store_of(request.run, request.tracking_uri)
    run = find_run(request.run, uri, None)
    if run.run_id is None:
        raise TrackingError(
            f"run '{run.name}': must be tracked to be registered, but {request.run} was not sent "
            f"to this store; 'bookends track {request.run} --tracking-uri URI' sends it"
        )
    registry = Registry(uri, request.name)
    version = registry.version_of(run.run_id)
    is_forced = request.reason is not None
    cost: ServingCost | None = None
    for _ in range(_ATTEMPTS):
        champion = registry.champion()
        if champion is not None and champion.number == version:
            done = Registered(version, is_new=False, has_moved=False, champion=version)
            shown = None if request.is_rehearsal else done
            return Registration(run, None, None, shown, is_forced)
        cost = cost or measure(resolve_bundle(f"runs:/{run.run_id}/model", uri))
        verdict = judge(_contender(run, run.name), _opponent(champion, uri), cost, request.gate)
        if request.is_rehearsal:
            return Registration(run, champion, verdict, None, is_forced)
        against = None if champion is None else champion.number
        candidate = Candidate(run.run_id, run.record, verdict, against, request.reason)
        try:
            done = registry.register(candidate)
            return Registration(run, champion, verdict, done, is_forced)
        except ChampionChangedError:
            continue
    raise TrackingError(
        f"the champion of '{request.name}' must stand still while a run is judged, but changed "
        f"{_ATTEMPTS} times meanwhile; register again"
    )


def store_of(run: str, tracking_uri: str | None) -> str:
    """The store asked for, else ``MLFLOW_TRACKING_URI``, else the one a run directory went to."""
    path = Path(run)
    asked = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not asked and (path / RECORD_FILE).is_file():
        asked = Ledger.read(path).tracking_uri
    return resolve_uri(asked)


def _contender(run: PastRun, name: str) -> Contender:
    evaluation = run.record.evaluation or {}
    is_judged = evaluation.get("split") == "test" and not evaluation.get("skipped")
    per_user = run.per_user if is_judged else pd.DataFrame()
    return Contender(name, str(run.record.dataset.get("fingerprint")), per_user)


def _opponent(champion: Version | None, uri: str) -> Contender | None:
    """The champion; without values where its run is gone, so that the gate says so."""
    if champion is None:
        return None
    name = f"version {champion.number}"
    try:
        return _contender(find_run(champion.run_id, uri, None), name)
    except BookendsError:
        missing = f"its run {champion.run_id} was deleted, or cannot be read"
        fingerprint = champion.tags.get("bookends.dataset", "unknown")
        return Contender(name, fingerprint, pd.DataFrame(), missing)
