"""Generated files and what several bars make of them; each is made once and kept."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import shop
from benchmarks.sides import ROOT, Side, run_once
from benchmarks.sizes import Log, Sizes
from experiments.settings import check_config, merge, read_yaml
from recsys.config import Config
from recsys.data.arrays import IntArray, Interactions
from recsys.data.dataset import Prepared, prepare_cached

SEED = 20240501
Run = Callable[[], dict[str, float]]
CLASSIC = ROOT / "experiments" / "configs" / "classic.yaml"


def training_world(sizes: Sizes) -> Path:
    """The folder of the training bars: two files, their cache, and arrays for the peers."""
    return make_world(sizes.folder / "training", start_training_world, sizes.training)


def raw_world(folder: Path, log: Log) -> Path:
    """A folder with the two files of a raw log."""
    return make_world(folder, start_raw_world, log)


def distinct_world(parent: Path, log: Log) -> Path:
    """A folder in ``parent`` with the two files of a log without repeated pairs."""
    name = f"{log.interactions}-{log.users}-{log.items}"
    return make_world(parent / name, start_distinct_world, log)


def make_world(folder: Path, start: Callable[..., Run], log: Log) -> Path:
    """The folder, filled by the side that is named unless the generator as it is now did so before.

    Args:
        folder: a half-filled one is emptied first.
        start: of a side whose run fills it.
        log: how large; ``start`` takes its fields beside the folder.
    """
    done, made_by = folder / "done", hashlib.sha256(Path(shop.__file__).read_bytes()).hexdigest()
    if not done.exists() or done.read_text() != made_by:
        shutil.rmtree(folder, ignore_errors=True)
        run_once(Side(start, {"folder": str(folder), **vars(log)}))
        done.write_text(made_by)
    return folder


def start_training_world(folder: str, **log: int) -> Run:
    """Writes the files, prepares them, and saves what peers need as arrays."""
    write = start_distinct_world(folder, **log)

    def run() -> dict[str, float]:
        wanted = write()
        prepared = prepare_cached(training_config(Path(folder)).data, 0)
        assert len(prepared.train) == wanted["interactions"]
        save_for_peers(prepared, Path(folder) / "arrays.npz")
        return wanted

    return run


def start_distinct_world(folder: str, interactions: int, users: int, items: int) -> Run:
    """Writes the files of a log whose train split holds exactly so many interactions."""

    def run() -> dict[str, float]:
        shop.write_distinct_shop(
            Path(folder), n_users=users, n_items=items, n_train=interactions, seed=SEED
        )
        return {"interactions": interactions}

    return run


def start_raw_world(folder: str, interactions: int, users: int, items: int) -> Run:
    """Writes the files of a raw log."""

    def run() -> dict[str, float]:
        shop.write_raw_shop(
            Path(folder), n_users=users, n_items=items, n_interactions=interactions, seed=SEED
        )
        return {"interactions": interactions}

    return run


def training_config(folder: Path, changes: dict[str, dict[str, Any]] | None = None) -> Config:
    """The classic model on a world, with the features that every peer takes.

    Args:
        folder: of a world.
        changes: further settings, nested.
    """
    data = {
        "books_path": folder / "books.csv",
        "interactions_path": folder / "users.csv",
        "cache_dir": folder / "cache",
        "feature_params": shop.FEATURE_PARAMS,
        "min_user_interactions": 1,
        "min_item_interactions": 1,
    }
    # The term is no part of the classic model, and the plain loop and the peers have none.
    base = {"data": data, "model": {"popularity": False}}
    return check_config(read_yaml(CLASSIC), merge(base, changes or {}), origin="classic")


def load_training_world(folder: Path) -> Prepared:
    """What :func:`training_world` prepared."""
    return prepare_cached(training_config(folder).data, 0)


def sample_positives(train: Interactions, n: int) -> Interactions:
    """N train interactions drawn at random: a timed run is a part of an epoch."""
    rows: IntArray = np.random.default_rng(SEED).choice(len(train), min(n, len(train)), False)
    return train.select(rows)


def save_for_peers(prepared: Prepared, path: Path) -> None:
    """Interactions, and the item features as one CSR matrix (dense columns first)."""
    from scipy import sparse

    features = prepared.item_features
    parts = [sparse.csr_matrix(features.dense), *(b.to_scipy() for b in features.bags.values())]
    matrix = sparse.hstack(parts, format="csr", dtype=np.float32)
    np.savez(
        path,
        shape=[len(prepared.users), len(prepared.items)],
        train_users=prepared.train.users,
        train_items=prepared.train.items,
        test_users=prepared.test.users,
        test_items=prepared.test.items,
        feature_data=matrix.data,
        feature_indices=matrix.indices,
        feature_offsets=matrix.indptr,
        n_features=matrix.shape[1],
        n_dense=features.dense.shape[1],
    )
