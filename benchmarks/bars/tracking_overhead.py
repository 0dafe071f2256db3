"""What following a run of 20 epochs in an embedded store adds to its time."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.sides import Side, alternate
from benchmarks.sizes import Sizes
from benchmarks.table import Row, Target, number
from recsys.config import Config
from recsys.reporting.record import RunRecord

EPOCHS = 20
PARTS = ("opened", "followed", "closed")


def measure(sizes: Sizes, device: str) -> list[Row]:
    """Milliseconds of the tracker's calls in one run."""
    side = Side(start, environment={"MLFLOW_DISABLE_TELEMETRY": "true"})
    timings = alternate({"product": side}, rounds=max(sizes.rounds, 7), warm_up=2)
    ours = timings["product"]
    milliseconds = 1000 * ours.median
    return [
        Row(
            f"tracking, {EPOCHS} epochs, embedded store",
            milliseconds,
            unit="ms",
            bar=Target("<=", 150.0),
            ours=f"{number(milliseconds)} ms",
            note="All calls of the tracker: opening the run with every setting and the data set, "
            "18 validation metrics an epoch, closing with final metrics and seven files. "
            "The store exists and MLflow is imported; a first run in a process pays for both.",
            counted={f"{part} ms": 1000 * ours.count(part) for part in PARTS}
            | {"first touch of a new store, s": ours.count("first_touch")},
            timings=timings,
        )
    ]


def start() -> Callable[[], dict[str, float]]:
    """A run tracks one run directory whose training takes no time."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        if name != "MLFLOW_DISABLE_TELEMETRY":
            del os.environ[name]
    from tracking.store import connect

    folder = tempfile.TemporaryDirectory()
    root = Path(folder.name)
    os.chdir(root)
    uri = f"sqlite:///{root}/mlflow.db"
    started = time.perf_counter()
    connect(uri).search_experiments()
    first_touch = time.perf_counter() - started
    numbers = iter(range(10**6))

    def run() -> dict[str, float]:
        assert folder.name  # keeps the folder
        return track_once(root / f"run{next(numbers)}", uri) | {"first_touch": first_touch}

    return run


def track_once(run_dir: Path, uri: str) -> dict[str, float]:
    """Write a run directory, follow it, finish it; seconds of the tracker's calls alone."""
    from tracking.tracker import open_run

    names = Config().evaluation.metric_names
    epochs = [_epoch(number, names) for number in range(1, EPOCHS + 1)]
    record = partial(
        RunRecord,
        run_name=run_dir.name,
        created=time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        config=Config().model_dump(mode="json"),
        dataset={"fingerprint": "sha256:" + "a" * 24, "sources": {"users.csv": "1"}, "n_users": 1},
    )
    run_dir.mkdir()
    record(status="running").write(run_dir)
    (run_dir / "config.yaml").write_text("data: {}\n")
    clock = _Clock()
    with clock.part("opened"):
        run = open_run(run_dir, uri)
    with clock.part("followed"):
        for epoch in epochs:
            run.log_epoch(epoch)
    history, evaluation = [vars(epoch) for epoch in epochs], _evaluation(names)
    record(status="finished", history=history, evaluation=evaluation, seconds=2.0).write(run_dir)
    for page in range(5):
        (run_dir / f"page{page}.md").write_text("x" * 5000)
    with clock.part("closed"):
        run.close()
    return clock.parts | {"seconds": sum(clock.parts.values()), "cpu_seconds": clock.cpu_seconds}


class _Clock:
    """Seconds of the parts that are timed, by name, and CPU seconds of all of them."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self.cpu_seconds = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        cpu, started = time.process_time(), time.perf_counter()
        yield
        self.parts[name] = time.perf_counter() - started
        self.cpu_seconds += time.process_time() - cpu


def _epoch(number: int, names: Sequence[str]) -> SimpleNamespace:
    return SimpleNamespace(
        number=number,
        train_loss=1 / number,
        parts={"bce_positive": 0.5 / number, "bce_negative": 0.5 / number},
        validation={name: number / 100 for name in names},
        is_best=True,
        seconds=0.1,
    )


def _evaluation(names: Sequence[str]) -> dict[str, Any]:
    means = dict.fromkeys(names, 0.1) | {f"sampled_{name}": 0.2 for name in names}
    scores = {"means": means, "intervals": {name: [0.0, 0.2] for name in names}}
    baselines = {"popularity": scores}
    return {"split": "test", "skipped": None, "n_users": 9, "model": scores, "baselines": baselines}
