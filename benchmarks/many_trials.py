"""What a trial costs in the storage and the sampler when the study has many.

    python -m benchmarks.many_trials
    python -m benchmarks.many_trials --trials 100 1000 10000 --sampler random

A study of so many trials that ended is written to a journal file, of three settings and ten epochs
each; then a worker opens it, asks for a trial, draws, reports its epochs to the pruner and ends it,
as in a sweep. Milliseconds of processor time, medians over the rounds, training left out; and what
the parent does while it waits: one look at the study, and its record as JSON.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import optuna
from optuna.trial import TrialState

from recsys.config import Config
from sweeps.record import Objective
from sweeps.settings import SweepSettings, build_settings
from sweeps.storage import open_storage
from sweeps.study import SweepStudy, open_study
from sweeps.trials import END, Notes

SPACE = {
    "training.learning_rate": {"float": [1e-4, 1e-1], "log": True},
    "model.temperature": {"float": [0.05, 0.5]},
    "model.user_encoder.id_embedding.params.embedding_dim": {"choice": [32, 64, 128]},
}
N_EPOCHS = 10
METRIC = "ndcg@10"
Result = TypeVar("Result")


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--pruner", default="median")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    for n_trials in given.trials:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{n_trials:,} trials, {given.sampler}: {_measure(n_trials, given, folder)}")


def _measure(n_trials: int, given: argparse.Namespace, folder: str) -> str:
    settings = build_settings(
        space=SPACE,
        objectives=[Objective(METRIC)],
        sampler=given.sampler,
        pruner=given.pruner,
        n_trials=2 * n_trials,
        base={},
        epoch_metrics=(METRIC,),
    )
    path = Path(folder) / "journal.log"
    _write(_open(path, settings), n_trials)
    opened, study = _timed(lambda: _open(path, settings))
    looked, _ = _timed(lambda: (study.n_free(), study.is_done()))
    steps = [_trial(study) for _ in range(given.rounds)]
    parts = {
        name: statistics.median(step[name] for step in steps)
        for name in ("ask", "draw", "epoch", "end")
    }
    recorded, _ = _timed(lambda: list(study.records()))
    cells = " ".join(f"{name} {value:,.1f} ms," for name, value in parts.items())
    return (
        f"open {opened:,.0f} ms; a trial: {cells} look {looked:,.1f} ms, records {recorded:,.0f} "
        f"ms; journal {path.stat().st_size / 1e6:,.1f} MB"
    )


def _open(path: Path, settings: SweepSettings) -> SweepStudy:
    base = Config.model_validate({"training": {"num_epochs": N_EPOCHS}})
    storage = open_storage(str(path))
    return open_study(storage, "many", "search", settings, base, settings.most_trials)


def _write(study: SweepStudy, n_trials: int) -> None:
    """Trials that ended, a third of them pruned."""
    rng = np.random.default_rng(0)
    random = optuna.samplers.RandomSampler(0)
    sampler, study.study.sampler = study.study.sampler, random
    for number in range(n_trials):
        trial = study.study.ask()
        assert study.space is not None
        study.begin(trial, {"worker": "worker-0"})
        values = np.sort(rng.random(N_EPOCHS))
        n_epochs = N_EPOCHS if number % 3 else 4
        for epoch, value in enumerate(values[:n_epochs], 1):
            trial.report(value, epoch)
        how = "complete" if number % 3 else "pruned"
        notes = Notes(epochs=n_epochs, metrics={METRIC: float(values[n_epochs - 1])})
        study.end(trial, how, notes, [float(values[-1])] if number % 3 else None)
    study.study.sampler = sampler
    ended = study.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    assert len(ended) == n_trials and all(END in trial.user_attrs for trial in ended)


def _trial(study: SweepStudy) -> dict[str, float]:
    """Milliseconds of what a worker does about one trial."""
    asked, trial = _timed(study.next_trial)
    assert trial is not None
    drawn, _ = _timed(lambda: study.begin(trial, {"worker": "worker-0"}))
    reported, _ = _timed(lambda: [study.report(trial, epoch, 0.9) for epoch in range(1, 11)])
    ended, _ = _timed(lambda: study.end(trial, "complete", Notes(epochs=N_EPOCHS), [0.9]))
    return {"ask": asked, "draw": drawn, "epoch": reported / N_EPOCHS, "end": ended}


def _timed(act: Callable[[], Result]) -> tuple[float, Result]:
    started = time.process_time()
    result = act()
    return 1000 * (time.process_time() - started), result


if __name__ == "__main__":
    main()
