"""``python -m benchmarks.accuracy.time_to_ials``: seconds until iALS's validation NDCG@10.

On goodbooks. iALS-96 (package implicit) is tuned on validation: regularisation, weight of an
interaction, sweeps; of settings within .0005 of the best the fastest counts. Then both sides run in
turn, on all cores: iALS is fitted, and our model is trained until its validation NDCG@10, taken
after every epoch and counted in its time, is at least that of iALS.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.cases import CONFIGS
from experiments.environment import keep_memory
from experiments.settings import load_config
from recsys.baselines.implicit_factors import fit_ials
from recsys.baselines.names import settings_text
from recsys.config import Config
from recsys.data.dataset import Prepared, prepare_cached
from recsys.data.histories import Histories
from recsys.evaluation.evaluation import validation_metrics
from recsys.pipeline import build_trainer

METRIC = "ndcg@10"
FACTORS = 96
WEIGHTS = ((30.0, 10.0), (100.0, 10.0), (100.0, 40.0), (300.0, 40.0))
"""Regularisation and weight of an interaction."""
SWEEPS = (3, 6, 15)
NEXT_TO_BEST = 0.0005
ROUNDS = 3


def main() -> None:
    """Print what was tuned, both sides' seconds, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--cache", type=Path, default=Path("artifacts/cache"))
    chosen = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    keep_memory()
    config = goodbooks(chosen.data, chosen.cache)
    prepared = prepare_cached(config.data, 0)
    settings, wanted = tuned(prepared, config)
    print(f"iALS: {settings_text('ials', settings)}: {METRIC} {wanted:.4f}")
    histories = Histories.of(prepared.train)
    theirs, ours = [], []
    for _ in range(ROUNDS):
        theirs.append(timed(lambda: fit_ials(histories, **settings, seed=0)))
        ours.append(timed(lambda: train_until(wanted, prepared, config)))
        print(f"iALS {theirs[-1][0]:.1f} s, ours {ours[-1][0]:.1f} s", flush=True)
    for name, at in (("wall", 0), ("CPU", 1)):
        one, other = median(run[at] for run in ours), median(run[at] for run in theirs)
        print(f"{name}: ours {one:.1f} s, iALS {other:.1f} s, ratio {one / other:.2f}")


def goodbooks(data: Path, cache: Path) -> Config:
    """Our configuration of goodbooks.

    Args:
        data: folder of the data sets.
        cache: of prepared data.
    """
    return load_config(
        CONFIGS / "goodbooks.yaml",
        [
            f"--data.books_path={data / 'goodbooks' / 'books.csv.gz'}",
            f"--data.interactions_path={data / 'goodbooks' / 'users.csv.gz'}",
            f"--data.cache_dir={cache}",
        ],
    )


def tuned(prepared: Prepared, config: Config) -> tuple[dict[str, Any], float]:
    """Settings of the fastest iALS that is next to the best on validation, and its value."""
    users, histories = np.unique(prepared.validation.users), Histories.of(prepared.train)
    tried = []
    for (l2, alpha), sweeps in itertools.product(WEIGHTS, SWEEPS):
        settings = {"factors": FACTORS, "l2": l2, "alpha": alpha, "iterations": sweeps}
        started = time.perf_counter()
        scorer = fit_ials(histories, **settings, seed=0)(histories, None)
        seconds = time.perf_counter() - started
        value = validation_metrics(scorer, prepared, config=config.evaluation, users=users)[METRIC]
        tried.append((seconds, value, settings))
        print(f"{settings_text('ials', settings)}: {value:.4f} in {seconds:.1f} s", flush=True)
    best = max(value for _, value, _ in tried)
    _, value, settings = min(
        (each for each in tried if each[1] >= best - NEXT_TO_BEST), key=lambda each: each[0]
    )
    return settings, value


def train_until(wanted: float, prepared: Prepared, config: Config) -> None:
    """Train until validation is at least as wanted."""
    for result in build_trainer(config, prepared).epochs():
        if result.validation[METRIC] >= wanted:
            return
    raise SystemExit(f"{METRIC} {wanted:.4f} was not reached")


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the wall clock and of all processors."""
    started, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - started, time.process_time() - cpu


if __name__ == "__main__":
    main()
