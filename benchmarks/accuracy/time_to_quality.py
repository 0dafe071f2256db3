"""``python -m benchmarks.accuracy.time_to_quality``: seconds until iALS's validation NDCG@10.

iALS (package implicit, 96 factors, the settings that its grid chose on validation) is fitted once;
our model is trained on the same data with the same number of threads until its validation NDCG@10
is at least that, validation after every epoch included.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.accuracy.cases import CONFIGS
from experiments.runner import keep_memory
from experiments.settings import load_config
from recsys.baselines.implicit_als import ImplicitALS
from recsys.baselines.protocol import Histories
from recsys.data.dataset import prepare_cached
from recsys.evaluation.evaluation import validation_metrics
from recsys.pipeline import build_trainer

METRIC = "ndcg@10"


def main() -> None:
    """Print both sides' seconds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--cache", type=Path, default=Path("artifacts/cache"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--l2", type=float, default=10.0)
    parser.add_argument("--alpha", type=float, default=1.0)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    keep_memory()
    folder = chosen.data / "goodbooks"
    config = load_config(
        CONFIGS / "goodbooks.yaml",
        [
            f"--data.books_path={folder / 'books.csv.gz'}",
            f"--data.interactions_path={folder / 'users.csv.gz'}",
            f"--data.cache_dir={chosen.cache}",
        ],
    )
    prepared = prepare_cached(config.data, 0)
    users = np.unique(prepared.validation.users)
    histories = Histories.of(prepared.train)
    started, cpu = time.perf_counter(), time.process_time()
    fitted = ImplicitALS(factors=96, l2=chosen.l2, alpha=chosen.alpha).fit(histories)
    als = time.perf_counter() - started, time.process_time() - cpu
    wanted = validation_metrics(
        fitted.scorer(histories, None), prepared, config=config.evaluation, users=users
    )[METRIC]
    print(f"iALS-96: {METRIC} {wanted:.4f} after {als[0]:.1f} s ({als[1]:.1f} CPU s)")
    started, cpu = time.perf_counter(), time.process_time()
    trainer = build_trainer(config, prepared)
    for result in trainer.epochs():
        if result.validation[METRIC] >= wanted:
            break
    ours = time.perf_counter() - started, time.process_time() - cpu
    reached = result.validation[METRIC]
    print(
        f"ours: {METRIC} {reached:.4f} after {ours[0]:.1f} s ({ours[1]:.1f} CPU s), "
        f"epoch {result.number}; ratio {ours[0] / als[0]:.2f} ({ours[1] / als[1]:.2f} by CPU)"
    )


if __name__ == "__main__":
    main()
