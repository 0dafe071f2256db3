"""A sweep's record of any size, whose values follow a known rule."""

import dataclasses
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from sweeps.record import Constraint, Objective, SweepRecord, TrialRecord
from tests.sweeps.trials import with_trials

SPACE = {
    "model.item_encoder.fusion": {"choice": ["sum", "concat"], "with": "model.user_encoder.fusion"},
    "model.user_encoder.feature_encoder.hidden_dims": {"choice": [[64], [192, 96]]},
    "training.learning_rate": {"float": [0.001, 0.1], "log": True},
    "training.optimizer": {"choice": ["adam", "adamw"]},
    "training.weight_decay": {
        "float": [0.0, 0.1],
        "when": {"training.optimizer": "adamw"},
    },
}
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def make_trial(number, rng, state="complete"):
    """The learning rate decides the value: 0.01 is best; the rest does not matter."""
    rate = 0.003 if number == 0 else float(10 ** rng.uniform(-3, -1))
    optimizer = "adam" if number == 0 else str(rng.choice(["adam", "adamw"]))
    params = {
        "model.item_encoder.fusion": str(rng.choice(["sum", "concat"])),
        "model.user_encoder.feature_encoder.hidden_dims": [[64], [192, 96]][rng.integers(2)],
        "training.learning_rate": rate,
        "training.optimizer": optimizer,
    }
    if optimizer == "adamw":
        params["training.weight_decay"] = float(rng.uniform(0, 0.1))
    value = 0.2 - 0.05 * (np.log10(rate) + 2) ** 2
    epochs = {"complete": 10, "pruned": 3, "failed": 0, "running": 2}[state]
    start = START + timedelta(seconds=20 * number)
    return TrialRecord(
        number=number,
        state=state,
        params=params,
        values=(value,) if state == "complete" else None,
        metrics={"ndcg@10": value, "recall@10": 2 * value},
        intermediate={epoch: value * epoch / 10 for epoch in range(1, epochs + 1)},
        epochs=epochs,
        planned_epochs=20,
        seconds=epochs * 1.5,
        overhead_seconds=0.06,
        worker=f"worker-{number % 2}",
        started=start.isoformat(),
        ended=None if state == "running" else (start + timedelta(seconds=15)).isoformat(),
        origin="default" if number == 0 else None,
        stop_reason="no gain in 3 epochs" if state == "complete" else "",
        error="out of <memory> & luck" if state == "failed" else None,
    )


@pytest.fixture
def make_sweep():
    """A record whose trials end in the given states, with the given fields replaced."""

    def make(states=("complete",) * 12, **changes):
        rng = np.random.default_rng(0)
        record = SweepRecord(
            name="rates",
            status="finished",
            created=START.isoformat(),
            base_config={"training": {"num_epochs": 20}, "experiment": {"seed": 0}},
            space=SPACE,
            objectives=(Objective("ndcg@10"),),
            n_trials=len(states),
            seconds=300.0,
            sampler={"name": "tpe"},
            pruner={"name": "median"},
            workers=2,
            fingerprint="sha256:abc",
            trials=tuple(make_trial(number, rng, state) for number, state in enumerate(states)),
            baselines={"popularity": {"ndcg@10": 0.05, "recall@10": 0.1}},
            environment={"command": "bookends sweep --space rates.yaml", "python": "3.11"},
        )
        return dataclasses.replace(record, **changes)

    return make


@pytest.fixture
def two_objectives(make_sweep):
    """Value against size, with a bound on the time that half the trials break."""
    record = make_sweep(
        objectives=(Objective("ndcg@10"), Objective("model_bytes", "minimize")),
        constraints=(Constraint("train_seconds", maximum=16.0),),
        pruner={"name": "none"},
    )
    return with_trials(
        record,
        lambda trial: {
            "values": (trial.values[0], float(1000 * (trial.number % 5))),
            "constraints": {"train_seconds": 10.0 + trial.number},
        },
    )
