"""One training of a sweep, evaluated on validation: what trials and finalists have in common.

Nothing here is ever given the test split: the data set that a trial sees has an empty one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np

from recsys.config import Config, DataConfig
from recsys.data.arrays import Interactions
from recsys.data.dataset import Prepared, prepare_cached
from recsys.errors import ConfigError
from recsys.evaluation.evaluation import Evaluation, HeldOutSplit, evaluate
from recsys.evaluation.ranking import Scorer, Vectors
from recsys.models.two_tower import TwoTower
from recsys.pipeline import model_vectors
from recsys.training.optimizers import parameter_size
from recsys.training.trainer import EpochResult, Step, Trainer
from sweeps.findings import Numbers
from sweeps.settings import COSTS

FindData = Callable[[DataConfig, int], Prepared]
"""Gives the data set of settings and a seed."""
MOST_PREPARED = 4
"""Data sets that a worker keeps at hand, where the space varies features."""


class SealedData:
    """Prepared data sets of a share of the users, without their test split, each prepared once."""

    def __init__(self, seed: int, user_share: float = 1.0, find: FindData = prepare_cached) -> None:
        self._seed = seed
        self._find = find
        self.user_share = user_share
        self._held: dict[str, Prepared] = {}

    def of(self, config: Config) -> Prepared:
        """The data set of a configuration, memory-mapped where it is not cut down."""
        key = config.data.model_dump_json()
        if key not in self._held:
            if len(self._held) >= MOST_PREPARED:
                del self._held[next(iter(self._held))]
            prepared = seal(self._find(config.data, self._seed))
            if self.user_share < 1:
                prepared = keep_users(prepared, self.user_share, self._seed)
            self._held[key] = prepared
        return self._held[key]


def seal(prepared: Prepared) -> Prepared:
    """The same data set without a test interaction in it."""
    nothing = prepared.test.select(np.zeros(len(prepared.test), dtype=bool))
    return dataclasses.replace(prepared, test=nothing)


def keep_users(prepared: Prepared, share: float, seed: int) -> Prepared:
    """The same data set with the train and validation interactions of some users only.

    Indices stay as they are, so that a model has the same size and settings mean the same. Users
    without a validation interaction are drawn from as well, in proportion.
    """
    rng = np.random.default_rng([seed, 20])
    is_kept = rng.permutation(len(prepared.users)) < max(1, round(share * len(prepared.users)))

    def cut(part: Interactions) -> Interactions:
        return part.select(is_kept[part.users])

    return dataclasses.replace(
        prepared, train=cut(prepared.train), validation=cut(prepared.validation)
    )


def train(
    trainer: Trainer,
    *,
    keep_going: Callable[[EpochResult], bool],
    on_step: Callable[[Step], None] | None = None,
) -> bool:
    """Train until an epoch is not to be followed by another; gives whether any was left."""
    with closing(trainer.epochs(on_step=on_step)) as epochs:
        for result in epochs:
            if not keep_going(result):
                return trainer.stop_reason is None
    return False


def measure(trainer: Trainer, prepared: Prepared, config: Config, wanted: Sequence[str]) -> Numbers:
    """The metrics of the best epoch, what training cost, and what else is wanted of validation.

    Args:
        trainer: what to measure; it goes back to its best weights where lists are looked at.
        prepared: what it was trained on.
        config: its settings.
        wanted: names; those that neither an epoch nor a cost gives need all lists to be evaluated.
    """
    parameters, n_bytes = parameter_size(trainer.model)
    best = trainer.history[(trainer.best_epoch or len(trainer.history)) - 1]
    metrics: Numbers = dict(best.validation)
    metrics |= {
        "train_seconds": sum(result.seconds for result in trainer.history),
        "model_bytes": n_bytes,
        "model_parameters": parameters,
        "epochs": len(trainer.history),
    }
    if any(name not in metrics for name in wanted):
        trainer.restore_best()
        vectors = validation_vectors(trainer.model, prepared)
        metrics = list_metrics(evaluate_lists(vectors, prepared, config)) | metrics
    return metrics


def validation_vectors(model: TwoTower, prepared: Prepared) -> Vectors:
    """All vectors as validation asks for them: histories hold train items alone."""
    return model_vectors(model, prepared, known=(prepared.train,))


def evaluate_lists(
    scorer: Scorer, prepared: Prepared, config: Config, split: HeldOutSplit = "validation"
) -> Evaluation:
    """The lists of a scorer, looked at from all sides but intervals and candidates."""
    settings = config.evaluation.model_copy(
        update={"bootstrap_samples": 100, "candidate_samples": 0}
    )
    seed = config.experiment.seed
    return evaluate(scorer, prepared, split=split, config=settings, seed=seed, baselines={})


def list_metrics(evaluation: Evaluation) -> Numbers:
    """Means of all metrics, and those of segments under names such as ``cold_items_ndcg@10``."""
    metrics: Numbers = dict(evaluation.model.means)
    table = evaluation.tables.get("segments")
    for cells in [] if table is None else table.records():
        for name, value in cells.items():
            if name.startswith(("ndcg@", "recall@")):
                key = f"{cells['segment']}_{cells['kind']}_{name}"
                metrics[key] = value if isinstance(value, float) and np.isfinite(value) else None
    return metrics


def check_measures(measures: Sequence[str], known: Numbers) -> None:
    """Refuse what no trial could be compared by: what popularity, which is known, has no value of.

    Raises:
        ConfigError: a name that no metric has, or whose segment is empty on validation.
    """
    for name in measures:
        if name in COSTS or known.get(name) is not None:
            continue
        if name in known:
            raise ConfigError(f"'{name}' must have a value on validation, but nothing is in it")
        names = sorted([*COSTS, *(each for each, value in known.items() if value is not None)])
        raise ConfigError(
            f"an objective or constraint must be one of {', '.join(names)}, got '{name}'"
        )
