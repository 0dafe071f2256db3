"""Registering a run: hold it against the champion, and let it take the place if it may."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.other_data import RunTest
from recsys.errors import BookendsError, TrackingError
from recsys.evaluation.gate import Contender, GateSettings, ServingCost, Verdict, judge
from recsys.recommender import Recommender
from recsys.recommender.drift import drift_sentence
from recsys.reporting.past_run import PastRun
from recsys.reporting.record import HELD_OUT_FILE
from recsys.reporting.results import monitor_of, results_of
from tracking.model import resolve_bundle
from tracking.past_runs import find_run
from tracking.registry import ChampionChangedError, Registered, Registry
from tracking.registry_page import Candidate

_ATTEMPTS = 5  # each one lost to another registration that did move the champion
_WARM_UP = 20
_CALLS = 300
_SECONDS = 10.0
_SEED = 0
_NO_TEST = f"the run keeps no test interactions ({HELD_OUT_FILE}) to judge the champion by"


@dataclass(frozen=True, eq=False)
class Registration:
    """What came of it.

    Attributes:
        candidate: the run as it was judged; None where its version was champion already.
        done: in the registry; None where nothing was to be written.
    """

    candidate: Candidate | None
    done: Registered | None

    @property
    def is_champion(self) -> bool:
        """Whether the run's version is champion now; where nothing was written, would be."""
        if self.done is None:
            return self.candidate is None or self.candidate.is_promoted
        return self.done.champion == self.done.version


def register(
    text: str,
    registry: Registry,
    gate: GateSettings,
    *,
    lists: Sequence[Path] = (),
    reason: str | None = None,
    dry_run: bool = False,
) -> Registration:
    """Judge a run, make a version of it, and make it champion if it may be.

    Args:
        text: a run directory, an MLflow run id, a prefix of one, or a run's name.
        registry: in the store of the run.
        gate: what the run is held to.
        lists: files with lists of other tools that it must be better than, too.
        reason: why it is to be champion whatever the gate says; None leaves it to the gate.
        dry_run: judge, and write nothing.

    Raises:
        BookendsError: no such run, one without a model or the metric, or no answer of the store.
    """
    run = find_run(text, registry.uri)
    if run.run_id is None:
        raise TrackingError(
            f"run '{run.name}': must be tracked to be registered, but {text} was not sent "
            f"to this store; 'bookends track {text} --tracking-uri URI' sends it"
        )
    version = registry.version_of(run.run_id)
    test = RunTest(run, registry.uri)
    own = _contender(run, run.name)
    others = [Contender(path.name, own.fingerprint, test.of_lists(path).theirs) for path in lists]
    for _ in range(_ATTEMPTS):
        champion = registry.champion()
        against = None if champion is None else int(champion.version)
        if against is not None and against == version:
            done = Registered(version, is_new=False, has_moved=False, champion=version)
            return Registration(None, None if dry_run else done)
        bundle = resolve_bundle(f"runs:/{run.run_id}/model", registry.uri)
        contender, opponent, model, drift = own, None, None, ""
        if champion is not None:
            contender, opponent, model, drift = _facing(champion, own, test, registry)
        verdict = judge(contender, opponent, measure(bundle, model), gate, others)
        candidate = Candidate(run.run_id, run.record, verdict, against, reason, drift)
        if dry_run:
            return Registration(candidate, None)
        with suppress(ChampionChangedError):
            return Registration(candidate, registry.register(candidate))
    raise TrackingError(
        f"the champion of '{registry.name}' must stand still while a run is judged, but changed "
        f"{_ATTEMPTS} times meanwhile; register again"
    )


def _contender(run: PastRun, name: str) -> Contender:
    results = results_of(run.record)
    is_judged = results is not None and results.split == "test"
    per_user = run.per_user if is_judged else pd.DataFrame()
    return Contender(name, run.fingerprint, per_user, monitor_of(run.record))


def _opponent(champion: ModelVersion, uri: str) -> Contender:
    """The champion; without values where its run is gone, so that the gate says so."""
    name = f"version {champion.version}"
    try:
        return _contender(find_run(champion.run_id or "", uri), name)
    except BookendsError:
        missing = f"its run {champion.run_id} was deleted, or cannot be read"
        fingerprint = champion.tags.get("bookends.dataset", "unknown")
        return Contender(name, fingerprint, pd.DataFrame(), missing=missing)


def _facing(
    champion: ModelVersion, own: Contender, test: RunTest, registry: Registry
) -> tuple[Contender, Contender, Recommender | None, str]:
    """The candidate and the champion as they are compared, the champion's model, and the drift.

    Both are judged on the candidate's test users where the champion was judged on others, or not
    at all. The model is None where it cannot be loaded.
    """
    opponent = _opponent(champion, registry.uri)
    has_test = not test.run.held_out.empty
    if not has_test:
        opponent = replace(opponent, missing=opponent.missing or _NO_TEST)
    try:
        uri = f"models:/{registry.name}/{champion.version}"
        model = Recommender.load(resolve_bundle(uri, registry.uri))
    except BookendsError as error:
        reason = f"{opponent.missing} {error}".strip()
        return own, replace(opponent, missing=reason), None, ""
    is_of_same_data = own.fingerprint == opponent.fingerprint and len(opponent.per_user)
    if is_of_same_data or not len(own.per_user) or not has_test:
        return own, opponent, model, ""
    found = test.of_model(model, opponent.fingerprint)
    opponent = replace(
        opponent, per_user=found.theirs, asked=found.said, n_left_out=found.n_left_out
    )
    return replace(own, per_user=found.ours), opponent, model, drift_sentence(found.tables)


def measure(bundle: Path, champion: Recommender | None) -> ServingCost:
    """What serving a bundle takes: bytes on disk, and the time to answer one user.

    The first answers are not counted: they pay for what is loaded once. Users are drawn with a
    fixed seed; a slow model is asked less often. The time is this machine's, in this process, with
    nothing around the model; the champion is asked in turn, so that what else the machine does
    falls on both.
    """
    model = Recommender.load(bundle)
    seconds = _answer_in_turn([model] if champion is None else [model, champion])
    p95 = [float(np.percentile(each, 95)) * 1000 for each in seconds]
    n_bytes = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    return ServingCost(n_bytes, *p95)


def _answer_in_turn(models: Sequence[Recommender]) -> list[list[float]]:
    """Seconds of each answer of each model, to users of its own."""
    questions = []
    for model in models:
        drawn = np.random.default_rng(_SEED).integers(len(model.users), size=_WARM_UP + _CALLS)
        questions.append([str(user) for user in model.users.id_of(drawn)])
    seconds: list[list[float]] = [[] for _ in models]
    end = time.perf_counter() + _SECONDS
    for number in range(_WARM_UP + _CALLS):
        for model, users, found in zip(models, questions, seconds, strict=True):
            begun = time.perf_counter()
            model.recommend([users[number]], k=min(10, len(model.items)))
            found.append(time.perf_counter() - begun)
        if time.perf_counter() > end and number >= _WARM_UP:
            break
    return [found[_WARM_UP:] for found in seconds]


def show(registration: Registration, name: str) -> None:
    """Print the criteria, and what came of them."""
    console = Console()
    candidate = registration.candidate
    if candidate is not None:
        title = f"{candidate.record.run_name} against {candidate.opponent}"
        console.print(_table(candidate.verdict, title))
    for text in _sentences(registration, name):
        console.print(escape(text), highlight=False, soft_wrap=True)


def _table(verdict: Verdict, title: str) -> Table:
    shown = Table(title=escape(title), title_justify="left")
    for column in verdict.table.columns:
        shown.add_column(column, overflow="fold")
    for row in verdict.criteria:
        result = "[green]passed[/green]" if row.passed else "[red]failed[/red]"
        shown.add_row(escape(row.name), escape(row.required), escape(row.found), result)
    return shown


def _sentences(registration: Registration, name: str) -> list[str]:
    candidate, done = registration.candidate, registration.done
    failed = [] if candidate is None else [row.name for row in candidate.verdict.failed]
    by_force = f" by force, though it failed: {'; '.join(failed)}" if failed else ""
    if done is None:
        if registration.is_champion:
            would, because = "would be", by_force
        else:
            would, because = "would not be", f": failed {'; '.join(failed)}"
        return [f"nothing was written; the run {would} champion of {name}{because}"]
    if not done.has_moved and registration.is_champion:
        return [f"version {done.version} of {name} is champion already; nothing changed"]
    state = "registered" if done.is_new else "looked at again"
    lines = [f"version {done.version} of {name} {state}"]
    if done.has_moved:
        lines.append(f"champion is version {done.version} now{by_force}")
        lines.append(f"models:/{name}@champion")
    else:
        stays = "nobody" if done.champion is None else f"version {done.champion}"
        lines.append(f"champion stays {stays}; failed: {'; '.join(failed)}")
    return lines
