"""The end of a sweep: finalists on fresh seeds, the winner, one look at test, the run in full."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from experiments.console import RunConsole
from experiments.runner import run as run_job
from experiments.settings import check_config, merge, write_yaml
from experiments.sweep.baselines import baselines_on_test, compare_baselines, tune_baselines
from experiments.sweep.delivery import deliver_sweep
from experiments.sweep.directory import read_values
from experiments.sweep.session import Session, track
from experiments.sweep.stage import run_stage
from experiments.sweep.state import settings_of
from experiments.sweep.trial import evaluate_lists
from recsys.config import Config
from recsys.config.section import nest
from recsys.errors import BookendsError
from recsys.evaluation.ranking import Vectors
from recsys.reporting.record import read_json, write_json, write_text
from sweeps.ending import difference_error
from sweeps.finalists import (
    DEFAULT_TRIAL,
    ComparisonRules,
    PerUser,
    Retraining,
    clear_losers,
    compare_finalists,
)
from sweeps.findings import Finalists, TestLook
from sweeps.importances import importances_of
from sweeps.on_test import on_test
from sweeps.record import SweepRecord, TrialRecord
from sweeps.report import write_sweep_report
from sweeps.study import ERROR
from tracking.store import how_to_look

FIRST_FRESH_SEED = 1
logger = logging.getLogger(__name__)


def finish(session: Session) -> None:
    """Name the winner, look at test, write what there is to be read; nothing is done twice."""
    record = session.record("running")
    candidates = choose(record, session.settings.finalists)
    if not candidates:
        raise BookendsError(
            "no trial was completed that keeps to the constraints, so that nothing can win; "
            f"see {session.directory.path / 'study.json'}"
        )
    winner = candidates[0].number
    if session.settings.finalists:
        chosen = finalists_of(record, candidates)
        dropped = retrain(session, chosen)
        session.finalists = compare(session, record, chosen, dropped)
        session.console.finalists(session.finalists)
        if session.finalists.winner is not None:
            winner = session.finalists.winner
    tree = merge(session.settings.base, nest(trial_settings(session, winner)))
    by = "the mean over fresh seeds" if session.finalists is not None else "its one trial"
    head = (
        f"# Trial {winner} of the sweep {session.directory.name}, chosen by {by} on "
        f"validation.\n# Data {session.prepared.fingerprint}.\n"
    )
    write_text(session.directory.best_path, head + write_yaml(tree))
    with session.part("baselines"):
        tune_baselines(session)
    if session.finalists is not None:
        _compare_with_baselines(session, session.finalists, winner)
    look_for = (winner, tuple(trial.number for trial in candidates))
    if session.finalists is not None and session.state.tested != look_for:
        with session.part("look at test"):
            look_at_test(session, session.finalists, winner)
        session.keep(tested=look_for)
    if session.settings.final_run and session.state.repeated != winner:
        with session.part("final run"):
            run_winner(session, tree, winner)
        session.keep(repeated=winner)
    _report(session)


def choose(record: SweepRecord, n_finalists: int) -> list[TrialRecord]:
    """The best trials, best first: of several objectives, of those that no other one beats."""
    ranked = record.front() if len(record.objectives) > 1 else record.ranked()
    unlike: dict[str, TrialRecord] = {}
    for trial in ranked:
        unlike.setdefault(repr(sorted(trial.params.items())), trial)
    return list(unlike.values())[: max(1, n_finalists)]


def finalists_of(record: SweepRecord, candidates: Sequence[TrialRecord]) -> dict[int, TrialRecord]:
    """The candidates and the default configuration, by number: 0 also where it was run again."""
    default = record.default
    chosen = [*candidates, *([] if default is None else [default])]
    return {DEFAULT_TRIAL if trial.is_default else trial.number: trial for trial in chosen}


def fresh_seeds(session: Session) -> list[int]:
    """Seeds of the last round, other than that of the search."""
    first = session.base.experiment.seed + FIRST_FRESH_SEED
    return list(range(first, first + session.settings.finalist_seeds))


def trial_settings(session: Session, number: int) -> dict[str, Any]:
    """The dotted settings of a trial of the search."""
    trial = session.main.trials()[number]
    return settings_of(session.main, trial, session.main.values_of(trial))


def measure_error(session: Session) -> None:
    """Let the study keep how far finalists will be uncertain, where the search may end by that.

    The default configuration is trained on their seeds for it, as it would be at the end.
    """
    if not session.settings.stops or ERROR in session.main.kept():
        return
    title = f"the noise of finalists: the default on {session.settings.finalist_seeds} fresh seeds"
    train_on_seeds(session, {DEFAULT_TRIAL: {}}, fresh_seeds(session), title)
    known = [values for values in _per_user(session, DEFAULT_TRIAL) if values is not None]
    error = difference_error(known, session.settings.finalist_seeds)
    session.main.keep(ERROR, error)
    if error is None:
        session.console.say("the noise of finalists is not known, so nothing ends in it")


def train_on_seeds(
    session: Session,
    settings: Mapping[int, Mapping[str, Any]],
    seeds: Sequence[int],
    title: str,
) -> None:
    """Train configurations on seeds; what was trained before is kept.

    Args:
        session: of the sweep.
        settings: by trial of the search, what each changes.
        seeds: all that each is to be trained on.
        title: shown over them.
    """
    study = session.stage("finalists")
    notes = [trial.user_attrs for trial in study.trials()]
    # an entry that the storage lost names no trial
    known = {(note["trial"], note["seed"]) for note in notes if "trial" in note}
    wanted = [(number, seed) for number in settings for seed in seeds]
    for number, seed in wanted:
        if (number, seed) not in known:
            changes = {**settings[number], "experiment.seed": seed}
            study.queue({}, trial=number, seed=seed, settings=changes)
    session.set_limit("finalists", len(known.union(wanted)))
    with session.part("finalists"):
        run_stage(session, "finalists", title)


def _per_user(session: Session, number: int, n_seeds: int | None = None) -> PerUser:
    """Each user's values on validation, by seed; None for one that was not kept."""
    seeds, metric = fresh_seeds(session)[:n_seeds], session.settings.objectives[0].metric
    paths = [session.directory.per_user_path(number, seed) for seed in seeds]
    return [read_values(path, metric) if path.is_file() else None for path in paths]


def retrain(session: Session, chosen: Mapping[int, TrialRecord]) -> dict[int, int]:
    """Train finalists on fresh seeds; what an earlier session has done is kept.

    Returns:
        {finalist that clearly lost: after how many seeds}.
    """
    seeds = fresh_seeds(session)
    settings = {number: trial_settings(session, number) for number in chosen}
    n_seeds, dropped = len(seeds), dict[int, int]()
    title = f"{len(chosen)} finalists, each on {n_seeds} fresh seeds"
    for done in range(2, n_seeds) if session.settings.race else ():
        train_on_seeds(session, settings, seeds[:done], title)
        rng = np.random.default_rng([session.settings.seed, 31, done])
        racing = [_retrained(session, number, chosen[number], n_seeds=done) for number in settings]
        lost = clear_losers(racing, comparison_rules(session), n_looks=n_seeds - 2, rng=rng)
        for number in sorted(lost):
            name = "the default" if number == DEFAULT_TRIAL else f"trial {number}"
            session.console.say(f"{name} has clearly lost after {done} seeds and gets no more")
            dropped[number] = done
            del settings[number]
        title = f"{len(settings)} finalists go on"
    train_on_seeds(session, settings, seeds, title)
    return dropped


def compare(
    session: Session,
    record: SweepRecord,
    chosen: Mapping[int, TrialRecord],
    dropped: Mapping[int, int],
) -> Finalists:
    """Compare the finalists on validation, user by user."""
    return compare_finalists(
        [
            _retrained(session, number, trial, dropped_after=dropped.get(number))
            for number, trial in chosen.items()
        ],
        comparison_rules(session),
        seeds=fresh_seeds(session),
        search_values=[trial.values[0] for trial in record.trials if trial.values is not None],
        rng=np.random.default_rng([session.settings.seed, 30]),
    )


def comparison_rules(session: Session) -> ComparisonRules:
    """How finalists are compared."""
    objective, evaluation = session.settings.objectives[0], session.base.evaluation
    return ComparisonRules(
        metric=objective.metric,
        direction=objective.direction,
        confidence=evaluation.confidence,
        n_samples=evaluation.bootstrap_samples,
    )


def _compare_with_baselines(session: Session, finalists: Finalists, winner: int) -> None:
    values, rules = _per_user(session, winner), comparison_rules(session)
    session.versus_baseline = compare_baselines(session, finalists, values, rules)
    if session.versus_baseline is not None:
        session.console.say(session.versus_baseline.verdict)


def _retrained(
    session: Session,
    number: int,
    trial: TrialRecord,
    *,
    n_seeds: int | None = None,
    dropped_after: int | None = None,
) -> Retraining:
    """A finalist with what its trainings left, on all seeds or the first so many."""
    return Retraining(
        trial=number,
        params=trial.params,
        search_value=None if trial.values is None else trial.values[0],
        per_user=_per_user(session, number, dropped_after or n_seeds),
        dropped_after=dropped_after,
    )


def look_at_test(session: Session, finalists: Finalists, winner: int) -> None:
    """Evaluate the finalists on test, all in this one look; the winner is named already."""
    looks = session.state.test_looks
    purpose = "finalists, the winner having been named"
    look = TestLook(datetime.now(UTC).isoformat(), purpose, trial=winner)
    session.keep(test_looks=[*looks, look])  # first, so that one that is cut short counts as well
    means: dict[str, dict[str, float | None]] = {}
    for row in finalists.rows:
        found = [_finalist_on_test(session, row.trial, seed) for seed in finalists.seeds]
        kept = pd.DataFrame([each for each in found if each is not None])
        if len(kept):
            name = "default" if row.is_default else f"trial {row.trial}"
            name = "winner" if row.trial == winner else name
            means[name] = {str(metric): float(kept[metric].mean(skipna=False)) for metric in kept}
    means |= baselines_on_test(session)
    look = dataclasses.replace(look, metrics=means.pop("winner", {}), baselines=means)
    session.keep(test_looks=[*looks, look])


def _finalist_on_test(session: Session, trial: int, seed: int) -> Mapping[str, Any] | None:
    """Means on test of one training; what an earlier look has shown is read."""
    path = session.directory.vectors_path(trial, seed)
    seen = path.with_suffix(".test.json")
    if not seen.is_file():
        if not path.is_file():
            return None
        with np.load(path) as arrays:
            vectors = Vectors(arrays["users"], arrays["items"], str(arrays["combine"]))  # type: ignore[arg-type]
        evaluation = evaluate_lists(vectors, session.prepared, session.base, "test")
        if evaluation.skipped is not None:  # nothing is held out
            return None
        write_json(seen, evaluation.model.means)
        path.unlink()
    return read_json(seen)


def run_winner(session: Session, tree: dict[str, Any], winner: int) -> None:
    """Run the winning configuration in full, as any other run."""
    looks = session.state.test_looks
    record = run_job(_winner_config(session, tree, len(looks)), RunConsole())
    look = TestLook(
        datetime.now(UTC).isoformat(),
        "winner, re-run in full",
        trial=winner,
        run_name=record.run_name,
        metrics=record.evaluation.model.means if record.evaluation else {},
    )
    session.keep(test_looks=[*looks, look], best_run_name=record.run_name)


def _winner_config(session: Session, tree: dict[str, Any], number: int) -> Config:
    """The winner's configuration, with a run name of its own."""
    name = f"{session.directory.name}-best" + (f"-{number}" if number > 1 else "")
    while (session.base.experiment.runs_dir / name).exists():
        name += "-again"
    return check_config(tree, {"experiment": {"run_name": name}}, origin="best.yaml")


def _report(session: Session) -> None:
    """Write what there is to be read, and send it to the tracker; the sweep is finished then."""
    directory, record = session.directory, session.record("finished")
    record = dataclasses.replace(record, importances=importances_of(record))
    record.write(directory.path)
    report, _ = write_sweep_report(directory.path)
    track(session)  # the store was away when the sweep began
    deliver_sweep(session, record)
    session.close("finished")
    if said := on_test(record):
        session.console.say(said)
    tracked = session.tracked
    if session.base.experiment.tracking and (tracked is None or tracked.failures):
        logger.warning(
            "MLflow lacks some of this sweep; send it later with: bookends track %s",
            directory.path,
        )
    seen = how_to_look(tracked.uri, tracked.experiment_id, tracked.run_id) if tracked else {}
    best = directory.best_path
    session.console.where(
        {
            "sweep": directory.path,
            "report": report,
            "best": f"{best}, to be run with 'bookends run --config {best}'",
            **seen,
        }
    )
