"""The end of a sweep: finalists on fresh seeds, the winner, one look at test, the run in full."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.console import RunConsole
from experiments.runner import run as run_job
from experiments.settings import check_config, merge
from experiments.sweep_delivery import deliver_sweep
from experiments.sweep_directory import per_user_path, vectors_path
from experiments.sweep_session import Session, close_session, track, ui_command
from experiments.sweep_stages import run_stage
from experiments.sweep_worker import LIMITS
from experiments.trial import nest
from recsys.baselines.tuning import tuned_baselines
from recsys.config import Config
from recsys.errors import BookendsError
from recsys.evaluation.evaluation import evaluate
from recsys.evaluation.ranking import Scorer, Vectors
from recsys.reporting.record import write_json
from sweeps.finalists import Judgement, Retraining, judge_finalists
from sweeps.importances import importances_of
from sweeps.record import Finalists, TestLook, TrialRecord
from sweeps.report import write_sweep_report
from sweeps.study import DEFAULT, SweepStudy

logger = logging.getLogger(__name__)
FIRST_FRESH_SEED = 1
BEST_RUN, TESTED, REPEATED = "best_run_name", "tested", "repeated"
"""What the study keeps of the end: the winner's run, and for whom each last step was done."""


def finish(session: Session) -> None:
    """Name the winner, look at test, write what there is to be read; nothing is done twice."""
    session.best_run_name = session.main.attribute(BEST_RUN)
    candidates = choose(session)
    if not candidates:
        raise BookendsError(
            "no trial was completed that keeps to the constraints, so that nothing can win; "
            f"see {session.directory.path / 'study.json'}"
        )
    if session.settings.finalists:
        retrain(session, candidates)
        session.finalists = judge(session, candidates)
        session.console.finalists(session.finalists)
    winner = candidates[0].number
    if session.finalists is not None and session.finalists.winner is not None:
        winner = session.finalists.winner
    config_tree = tree_of(session, winner)
    session.directory.write_best(config_tree, _comment(session, winner))
    finalists = [trial.number for trial in candidates]
    if session.finalists is not None and session.main.attribute(TESTED) != [winner, finalists]:
        look_at_test(session, winner)
        session.main.keep(TESTED, [winner, finalists])
    if session.settings.final_run and session.main.attribute(REPEATED) != winner:
        run_winner(session, config_tree, winner)
        session.main.keep(REPEATED, winner)
    _report(session)


def choose(session: Session) -> list[TrialRecord]:
    """The best trials, best first: of several objectives, of those that no other one beats."""
    record = session.record("running")
    ranked = list(record.ranked())
    if len(session.settings.objectives) > 1:
        ranked = [
            trial for trial in ranked if not any(_beats(session, rival, trial) for rival in ranked)
        ]
    unlike: dict[str, TrialRecord] = {}
    for trial in ranked:
        unlike.setdefault(repr(sorted(trial.params.items())), trial)
    return list(unlike.values())[: max(1, session.settings.finalists)]


def _beats(session: Session, rival: TrialRecord, trial: TrialRecord) -> bool:
    assert rival.values is not None and trial.values is not None
    signs = [1 if each.direction == "maximize" else -1 for each in session.settings.objectives]
    gains = [
        sign * (one - other)
        for sign, one, other in zip(signs, rival.values, trial.values, strict=True)
    ]
    return min(gains) >= 0 and max(gains) > 0


def fresh_seeds(session: Session) -> list[int]:
    """Seeds of the last round, other than that of the search."""
    base = session.base.experiment.seed
    return [base + FIRST_FRESH_SEED + number for number in range(session.settings.finalist_seeds)]


def with_default(session: Session, candidates: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The candidates and the default configuration, where it is not among them."""
    default = _default(session)
    if default is None or any(trial.number == default.number for trial in candidates):
        return list(candidates)
    return [*candidates, default]


def _default(session: Session) -> TrialRecord | None:
    """The last trial of the default configuration: an earlier one was lost."""
    numbers = [trial.number for trial in session.main.trials() if DEFAULT in trial.user_attrs]
    found = [trial for trial in session.trials(session.main) if trial.number in numbers]
    return found[-1] if found else None


def retrain(session: Session, candidates: Sequence[TrialRecord]) -> None:
    """Train finalists on fresh seeds; what an earlier session has done is kept."""
    chosen, seeds = with_default(session, candidates), fresh_seeds(session)
    wanted = [(trial, seed) for trial in chosen for seed in seeds]
    limits = session.main.attribute(LIMITS)
    session.main.keep(LIMITS, limits | {"finalists": 10**9})
    study = session.stage("finalists")
    known = _places(study)
    for trial, seed in wanted:
        if (trial.number, seed) not in known:
            study.queue(
                {}, trial=trial.number, seed=seed, settings=settings_of(session, trial.number, seed)
            )
    places = len(_places(study))
    study.limit = places
    session.main.keep(LIMITS, limits | {"finalists": places})
    run_stage(
        session, "finalists", study, f"{len(chosen)} finalists, each on {len(seeds)} fresh seeds"
    )


def _places(study: SweepStudy) -> set[tuple[int, int]]:
    """Trial and seed of each finalist; an entry that the storage lost has none."""
    notes = [trial.user_attrs for trial in study.trials()]
    return {(note["trial"], note["seed"]) for note in notes if "trial" in note}


def settings_of(session: Session, number: int, seed: int | None = None) -> dict[str, Any]:
    """The dotted settings of a trial, those of the default being none."""
    trial = next(each for each in session.main.trials() if each.number == number)
    settings: dict[str, Any] = {}
    if DEFAULT not in trial.user_attrs:
        assert session.main.space is not None
        settings = session.main.space.settings(session.main.values_of(trial))
    return settings if seed is None else settings | {"experiment.seed": seed}


def judge(session: Session, candidates: Sequence[TrialRecord]) -> Finalists:
    """Compare the finalists on validation, reader by reader."""
    objective = session.settings.objectives[0]
    evaluation = session.base.evaluation
    default = _default(session)
    retrained = [
        Retraining(
            trial=0 if default is not None and trial.number == default.number else trial.number,
            params=trial.params,
            search_value=None if trial.values is None else trial.values[0],
            per_user=tuple(
                _frame(session.directory.finalists_dir, trial.number, seed)
                for seed in fresh_seeds(session)
            ),
        )
        for trial in with_default(session, candidates)
    ]
    complete = [trial for trial in session.trials(session.main) if trial.values is not None]
    return judge_finalists(
        retrained,
        Judgement(
            metric=objective.metric,
            direction=objective.direction,
            confidence=evaluation.confidence,
            n_samples=evaluation.bootstrap_samples,
        ),
        seeds=fresh_seeds(session),
        search_values=[trial.values[0] for trial in complete if trial.values is not None],
        rng=np.random.default_rng([session.settings.seed, 30]),
    )


def _frame(directory: Path, trial: int, seed: int) -> pd.DataFrame | None:
    path = per_user_path(directory, trial, seed)
    return pd.read_parquet(path) if path.is_file() else None


def tree_of(session: Session, number: int) -> dict[str, Any]:
    """The configuration of a trial as differences from the defaults."""
    return merge(session.settings.base, nest(settings_of(session, number)))


def _comment(session: Session, winner: int) -> str:
    chosen = "the mean over fresh seeds" if session.finalists is not None else "its one trial"
    return (
        f"Trial {winner} of the sweep {session.directory.name}, chosen by {chosen} on validation.\n"
        f"Data {session.prepared.fingerprint}."
    )


def look_at_test(session: Session, winner: int) -> None:
    """Judge the finalists on test, all in this one look; the winner is named already."""
    assert session.finalists is not None
    look = TestLook(
        datetime.now(UTC).isoformat(), "finalists, the winner having been named", trial=winner
    )
    session.look(look)  # before it is done, so that a look that is cut short counts as well
    means: dict[str, Mapping[str, float | None]] = {}
    for row in session.finalists.rows:
        number = _number_of(session, row.trial)
        found = [_test_means(session, number, seed) for seed in session.finalists.seeds]
        kept = [each for each in found if each is not None]
        if kept:
            name = "default" if row.is_default else f"trial {row.trial}"
            name = "winner" if row.trial == winner else name
            means[name] = _average(kept)
    means |= _baselines_on_test(session)
    metrics = dict(means.pop("winner", {}))
    baselines = {name: dict(values) for name, values in means.items()}
    session.relook(dataclasses.replace(look, metrics=metrics, baselines=baselines))


def _number_of(session: Session, trial: int) -> int:
    """The number under which a finalist was trained: trial 0 may have been run again."""
    default = _default(session)
    return default.number if trial == 0 and default is not None else trial


def _test_means(session: Session, trial: int, seed: int) -> dict[str, Any] | None:
    """Means on test of one training; what an earlier look has shown is read."""
    path = vectors_path(session.directory.finalists_dir, trial, seed)
    seen = path.with_suffix(".test.json")
    if seen.is_file():
        return dict(json.loads(seen.read_text(encoding="utf-8")))
    if not path.is_file():
        return None
    with np.load(path) as arrays:
        vectors = Vectors(arrays["users"], arrays["items"], str(arrays["combine"]))  # type: ignore[arg-type]
    means = _means_on_test(session, vectors)
    if means is None:
        return None
    write_json(seen, means)
    path.unlink()
    return means


def _baselines_on_test(session: Session) -> dict[str, dict[str, Any]]:
    """Means on test of the baselines, tuned on validation; what an earlier look showed is read."""
    seen = session.directory.finalists_dir / "baselines.test.json"
    if seen.is_file():
        return dict(json.loads(seen.read_text(encoding="utf-8")))
    tuned = tuned_baselines(session.prepared, session.base, split="test")
    found = {name: _means_on_test(session, scorer) for name, scorer in tuned.scorers.items()}
    means = {name: values for name, values in found.items() if values is not None}
    write_json(seen, means)
    return means


def _means_on_test(session: Session, scorer: Scorer) -> dict[str, float] | None:
    """Means on test of all metrics; None where nothing is held out."""
    evaluation = evaluate(
        scorer,
        session.prepared,
        split="test",
        config=session.base.evaluation.model_copy(
            update={"bootstrap_samples": 100, "candidate_samples": 0}
        ),
        seed=session.base.experiment.seed,
        baselines={},
    )
    return None if evaluation.skipped is not None else evaluation.model.means


def _average(means: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    return {name: float(np.mean([each[name] for each in means])) for name in means[0]}


def run_winner(session: Session, tree: dict[str, Any], winner: int) -> None:
    """Run the winning configuration in full, as any other run."""
    looks = len(session.looks())
    config = winner_config(session, tree, looks)
    record = run_job(config, RunConsole())
    metrics = (record.evaluation or {}).get("model", {}).get("means", {})
    session.look(
        TestLook(
            datetime.now(UTC).isoformat(),
            "winner, re-run in full",
            trial=winner,
            run_name=record.run_name,
            metrics=metrics,
        )
    )
    session.best_run_name = record.run_name
    session.main.keep(BEST_RUN, record.run_name)


def winner_config(session: Session, tree: dict[str, Any], number: int) -> Config:
    """The winner's configuration, with a run name and a report of its own."""
    name = f"{session.directory.name}-best" + (f"-{number}" if number > 1 else "")
    base = check_config(tree, {}, origin="best.yaml")
    runs_dir = base.experiment.runs_dir
    while (runs_dir / name).exists():
        name += "-again"
    changes = {"experiment.run_name": name}
    return check_config(tree, nest(changes), origin="best.yaml")


def _report(session: Session) -> None:
    """Write what there is to be read, and send it to the tracker; the sweep is finished then."""
    record = session.record("finished")
    record = dataclasses.replace(record, importances=importances_of(record))
    record.write(session.directory.path)
    report, _ = write_sweep_report(session.directory.path)
    track(session)  # the store was away when the sweep began
    deliver_sweep(session, record)
    close_session(session, "finished")
    if session.base.experiment.tracking and (session.tracked is None or session.tracked.failures):
        logger.warning(
            "MLflow lacks some of this sweep; send it later with: bookends track %s",
            session.directory.path,
        )
    session.console.outcome(
        session.directory.path, session.directory.best_path, report, ui_command(session)
    )
