"""``python -m benchmarks.accuracy.time_to_lightfm``: seconds until LightFM's best validation.

On goodbooks, with the item features of our configuration. LightFM is trained with each loss until
its validation NDCG@10 has not risen for two epochs; its time is that of its epochs up to the best,
of the better loss, evaluation not counted. Ours is trained until its validation is at least that,
evaluation counted. Both on all cores, one after the other.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.time_to_ials import METRIC, goodbooks, timed, train_until
from benchmarks.sides import RunningSide, Side
from benchmarks.worlds import save_for_peers
from experiments.environment import keep_memory
from recsys.config import Config
from recsys.data.dataset import Prepared, prepare_cached
from recsys.evaluation.evaluation import validation_metrics
from recsys.evaluation.scorers import Vectors

PATIENCE = 2


def main() -> None:
    """Print LightFM's epochs, our time to its best, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--cache", type=Path, default=Path("artifacts/cache"))
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=0.05, help="LightFM's own default")
    parser.add_argument("--losses", nargs="+", default=["warp", "bpr"])
    parser.add_argument("--most-epochs", type=int, default=30)
    chosen = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    keep_memory()
    config = goodbooks(chosen.data, chosen.cache)
    prepared = prepare_cached(config.data, 0)
    with tempfile.TemporaryDirectory() as folder:
        save_for_peers(prepared, Path(folder) / "arrays.npz")
        reached = []
        for loss in chosen.losses:
            settings = {
                "path": f"{folder}/arrays.npz",
                "out": f"{folder}/vectors.npz",
                "loss": loss,
                "dim": chosen.dim,
                "learning_rate": chosen.learning_rate,
            }
            reached.append(best_of(prepared, config, settings, chosen.most_epochs))
    wanted, theirs, their_cpu = max(reached)
    ours, our_cpu = timed(lambda: train_until(wanted, prepared, config))
    print(f"LightFM {METRIC} {wanted:.4f} after {theirs:.0f} s ({their_cpu:.0f} CPU s)")
    print(f"ours as good after {ours:.1f} s ({our_cpu:.1f} CPU s)")
    print(f"wall: ratio {ours / theirs:.3f}; CPU: ratio {our_cpu / their_cpu:.3f}")


def best_of(
    prepared: Prepared, config: Config, settings: dict[str, Any], most_epochs: int
) -> tuple[float, float, float]:
    """Best validation of one LightFM, and its wall and CPU seconds until there."""
    users = np.unique(prepared.validation.users)
    best = (0.0, 0.0, 0.0)
    seconds = cpu_seconds = 0.0
    without_gain = 0
    with RunningSide(Side("benchmarks.peers:start_lightfm_epochs", settings, is_peer=True)) as peer:
        for epoch in range(1, most_epochs + 1):
            spent = peer.run()
            seconds, cpu_seconds = seconds + spent["seconds"], cpu_seconds + spent["cpu_seconds"]
            with np.load(settings["out"]) as arrays:
                vectors = Vectors(arrays["users"], arrays["items"])
            value = validation_metrics(vectors, prepared, config=config.evaluation, users=users)
            print(
                f"LightFM {settings['loss']} {epoch}: {value[METRIC]:.4f}, {seconds:.0f} s",
                flush=True,
            )
            without_gain = 0 if value[METRIC] > best[0] else without_gain + 1
            best = max(best, (value[METRIC], seconds, cpu_seconds))
            if without_gain == PATIENCE:
                break
    return best


if __name__ == "__main__":
    main()
