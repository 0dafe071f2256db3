"""The baselines of a sweep: tuned once the search has ended, with as many trials as it had."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from experiments.sweep.directory import read_values
from experiments.sweep.session import Session, send_baselines
from experiments.sweep.trial import evaluate_lists, list_metrics
from recsys.artifacts import replacement
from recsys.baselines.build import fit_baseline
from recsys.baselines.implicit_factors import OF_IMPLICIT
from recsys.baselines.names import baseline_label, settings_text
from recsys.baselines.tuning import asked_for, chosen_settings, reason_to_leave_out
from recsys.config import BaselineName
from recsys.data.histories import Histories
from recsys.errors import BookendsError
from recsys.evaluation.evaluation import Evaluation, HeldOutSplit
from recsys.reporting.formatting import number
from recsys.reporting.record import read_json, write_json
from sweeps.baselines import (
    RECENCY,
    TUNED,
    best_trial,
    compare_with_baseline,
    suggest,
)
from sweeps.finalists import ComparisonRules, PerUser
from sweeps.findings import (
    BaselineComparison,
    BaselineTrial,
    Finalists,
    Numbers,
    TunedBaseline,
    best_baseline,
)
from sweeps.record import Objective
from sweeps.settings import COSTS
from sweeps.space import Params

MOST_TRIALS = 50
"""Of each baseline, where the user names no number."""
MOST_INTERACTIONS = 1_000_000
"""Beyond, a fit of iALS or BPR takes minutes."""
FAILURES = (BookendsError, RuntimeError, ArithmeticError)


def tune_baselines(session: Session) -> None:
    """Let the study keep what each baseline reaches on validation; nothing is tried twice."""
    n_trials, seconds = _budget(session)
    asked = session.base.evaluation.baselines
    found, values = list[TunedBaseline](), dict(session.state.baselines)
    if n_trials:
        session.console.heading(f"baselines, up to {n_trials} trials of each on validation")
    for name in TUNED if n_trials else ():
        if asked is not None and name not in asked:
            continue
        tuned = _tune(session, name, n_trials, seconds)
        found.append(tuned)
        label = baseline_label(name)
        if tuned.left_out:
            session.console.say(f"{label} was left out: {tuned.left_out}")
            continue
        values[name] = read_json(_path(session, name))["metrics"]
        session.console.say(
            f"{label}: {number(tuned.value)} after {tuned.n_trials} trials ({tuned.settings})"
        )
    session.keep(tuned_baselines=found, baselines=values)
    if session.tracked is not None:
        send_baselines(session, session.tracked)


def _budget(session: Session) -> tuple[int, float | None]:
    """Trials of each baseline, and the seconds that they may take; None does not bind."""
    settings = session.settings
    searched = session.stage("search" if settings.user_share is None else "share")
    n_trials = settings.baseline_trials
    if n_trials is None:
        n_trials = min(searched.search_end().n_trials, MOST_TRIALS)
    return n_trials, None if settings.hours is None else searched.spent_seconds()


def _tune(
    session: Session, name: BaselineName, n_trials: int, seconds: float | None
) -> TunedBaseline:
    if reason := _reason_to_leave_out(session, name):
        return TunedBaseline(name=name, left_out=reason)
    objective, path = _objective(session), _path(session, name)
    tried = [BaselineTrial(**each) for each in read_json(path)["tried"]] if path.is_file() else []
    while len(tried) < n_trials:
        if tried and seconds is not None and sum(each.seconds for each in tried) >= seconds:
            break
        tried.append(_try(session, name, tried, objective))
    best = best_trial(tried, objective.direction)
    if best is None:
        return TunedBaseline(name=name, left_out=f"none of {len(tried)} trials gave a value")
    return TunedBaseline(
        name=name,
        settings=settings_text(name, best.params),
        params=best.params,
        value=best.value,
        n_trials=len(tried),
        seconds=sum(each.seconds for each in tried),
    )


def _try(
    session: Session, name: BaselineName, tried: list[BaselineTrial], objective: Objective
) -> BaselineTrial:
    """One trial, put where a later session finds it; the best so far with its values of users."""
    started = time.monotonic()
    params = suggest(
        name,
        tried,
        direction=objective.direction,
        has_order=Histories.of(session.prepared.train).has_order,
        seed=session.settings.seed,
    )
    if not tried:
        params = _of_a_run(session, name, params)
    path, evaluation, metrics = _path(session, name), None, Numbers()
    try:
        evaluation = _evaluate(session, name, params, "validation")
        metrics = _finite(list_metrics(evaluation))
    except FAILURES as error:
        session.console.say(f"{baseline_label(name)}: a trial failed: {error}")
    trial = BaselineTrial(params, metrics.get(objective.metric), time.monotonic() - started)
    every = [*tried, trial]
    if evaluation is not None and best_trial(every, objective.direction) is trial:
        with replacement(path.with_suffix(".parquet")) as file:
            evaluation.per_user.to_parquet(file, index=False)
    else:
        metrics = read_json(path)["metrics"] if tried else {}
    write_json(path, {"tried": [asdict(each) for each in every], "metrics": metrics})
    return trial


def _of_a_run(session: Session, name: BaselineName, usual: Params) -> Params:
    """The settings that a run would choose where it has the baseline, else the usual ones.

    So none is worse in a sweep of few trials than in the report of a run.
    """
    if name not in asked_for(session.prepared, session.base):
        return usual
    try:
        found = chosen_settings(name, session.prepared, session.base)
    except FAILURES as error:
        session.console.say(f"{baseline_label(name)}: its usual settings are tried, since {error}")
        return usual
    return {setting: found[setting] for setting in usual}


def _evaluate(
    session: Session, name: BaselineName, params: Params, split: HeldOutSplit
) -> Evaluation:
    """A baseline that learned from train, with histories as they are known for the split."""
    prepared = session.prepared
    train = Histories.of(prepared.train)
    known = train if split == "validation" else Histories.of(prepared.train, prepared.validation)
    settings = {key: value for key, value in params.items() if key != RECENCY}
    seed = session.base.experiment.seed
    fitted = fit_baseline(name, settings, train, prepared.item_features, seed)
    return evaluate_lists(fitted(known, params.get(RECENCY)), prepared, session.base, split)


def _objective(session: Session) -> Objective:
    """The first objective, or the metric that training watches where a baseline has none."""
    first, monitor = session.settings.objectives[0], session.base.monitor
    return Objective(monitor) if first.metric in COSTS else first


def _reason_to_leave_out(session: Session, name: BaselineName) -> str | None:
    n_train = len(session.prepared.train)
    if name in OF_IMPLICIT and n_train > MOST_INTERACTIONS:
        return f"{n_train:,} train interactions are more than {MOST_INTERACTIONS:,}"
    return reason_to_leave_out(name, session.prepared, session.base)


def compare_baselines(
    session: Session,
    finalists: Finalists,
    winner: PerUser,
    rules: ComparisonRules,
) -> BaselineComparison | None:
    """The winner against the best baseline on validation; None where one is missing."""
    best = best_baseline(session.state.tuned_baselines, rules.direction)
    if best is None or all(values is None for values in winner):
        return None
    values = read_values(_path(session, best[0].name).with_suffix(".parquet"), rules.metric)
    rng = np.random.default_rng([session.settings.seed, 41])
    return compare_with_baseline(winner, finalists, best[0], values, rules, rng)


def baselines_on_test(session: Session) -> dict[str, dict[str, float | None]]:
    """Means on test of the tuned baselines and popularity; what an earlier look showed is read."""
    chosen: dict[BaselineName, Params] = {"popularity": {}}
    chosen |= {
        each.name: each.params for each in session.state.tuned_baselines if not each.left_out
    }
    path = session.directory.finalists_dir / "baselines.test.json"
    seen = read_json(path) if path.is_file() else {}
    if seen.get("params") != chosen:
        means = {}
        for name, params in chosen.items():
            evaluation = _evaluate(session, name, params, "test")
            if evaluation.skipped is None:
                means[name] = _finite(evaluation.model.means)
        seen = {"params": chosen, "means": means}
        write_json(path, seen)
    return dict(seen["means"])


def _finite(values: Mapping[str, float | None]) -> Numbers:
    return {k: v if v is not None and np.isfinite(v) else None for k, v in values.items()}


def _path(session: Session, name: str) -> Path:
    return session.directory.path / "baselines" / f"{name}.json"
