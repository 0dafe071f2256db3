"""What the parent and the workers of a sweep share: its stages, and what its study keeps of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from pydantic import BaseModel, ConfigDict, ValidationError

from experiments.dataset import data_changes, describe_dataset
from recsys.config import Config
from recsys.data.dataset import Prepared
from recsys.errors import ConfigError, first_problem
from recsys.reporting.results import one_held_out
from sweeps.findings import EarlierSweep, Numbers, SearchEnd, TestLook, TunedBaseline
from sweeps.record import DEFAULT
from sweeps.settings import SweepSettings
from sweeps.storage import Storage
from sweeps.study import Stage, SweepStudy, load_kept
from sweeps.trials import ORIGIN, RETRY_OF
from tracking.payload import main_metrics
from tracking.processes import Owner

STORAGE_VARIABLE, TRACKING_VARIABLE = "BOOKENDS_STORAGE", "BOOKENDS_TRACKING_URI"


@dataclass(frozen=True)
class Assignment:
    """What a worker is given; all else it reads from the study."""

    study: str  # its name
    storage: str  # its address
    stage: Stage | None = None  # None for the one that is under way
    index: int = 0  # of the worker on its machine
    has_parent: bool = False  # whether it ends with the process that started it


class Tracking(BaseModel):
    """The sweep's run in MLflow."""

    model_config = ConfigDict(frozen=True)

    uri: str
    """Without a password."""
    run_id: str
    experiment_id: str


class SweepState(BaseModel):
    """What the study keeps beside its trials, each field one of its attributes."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    settings: SweepSettings
    created: str
    """Start of the first session, ISO 8601, UTC."""
    sweep_dir: Path
    fingerprint: str
    """Of the prepared data."""
    dataset: dict[str, Any] = {}
    """The data as a record describes them."""
    uploaded: dict[str, str] = {}
    """Digest of each file of the prepared data that the tracker holds, by its name."""
    stage: Stage
    """The one that is under way, finalists left out."""
    limits: dict[Stage, int]
    """How many trials each stage may have."""
    owner: Owner | None = None
    """The process of the latest session."""
    sessions: int = 0
    """How often the sweep was started or resumed."""
    seconds: float = 0.0
    """Wall time of all sessions that ended."""
    parts: dict[str, float] = {}
    """Seconds of all sessions by what they went to."""
    tracking: Tracking | None = None
    search_end: SearchEnd | None = None
    """Why the search ended, once it did."""
    baselines: dict[str, Numbers] = {}
    """What popularity and tuned baselines score on validation."""
    tuned_baselines: tuple[TunedBaseline, ...] = ()
    """How the baselines were tuned, once the search had ended."""
    earlier: tuple[EarlierSweep, ...] = ()
    """The sweeps that it starts from, as they were then."""
    test_looks: tuple[TestLook, ...] = ()
    """Each opening of the test split."""
    tested: tuple[int, tuple[int, ...]] | None = None
    """Winner and finalists that test was opened for."""
    repeated: int | None = None
    """The winner that was run in full."""
    best_run_name: str | None = None
    """The run that was."""

    def data_changes(self, found: Prepared, unknown: Collection[str] = ()) -> str:
        """How data differ from those that the sweep was begun on; empty where they do not.

        Args:
            found: the data.
            unknown: splits that cannot be compared.
        """
        if found.fingerprint == self.fingerprint:
            return ""
        here = {name: of for name, of in describe_dataset(found).items() if name not in unknown}
        return data_changes({"fingerprint": self.fingerprint} | self.dataset, here)


def load_state(storage: Storage, name: str) -> SweepState:
    """What the study of a sweep keeps.

    Raises:
        ConfigError: there is no such study, or no sweep made it.
    """
    return read_state(load_kept(storage, name), name)


def read_state(kept: Mapping[str, Any], name: str) -> SweepState:
    """The state that the study of this name keeps.

    Raises:
        ConfigError: what it keeps is not that of a sweep.
    """
    try:
        return SweepState.model_validate(kept)
    except ValidationError as error:
        raise ConfigError(
            f"the study '{name}' must be a sweep's of this version, but another program or "
            f"version made it ({first_problem(error)}); give another --name"
        ) from None


def epoch_metrics(settings: SweepSettings, base: Config, dataset: Mapping[str, Any]) -> list[str]:
    """The ranking metrics on validation that a sweep shows in MLflow, each number once.

    Args:
        settings: name the metric that decides; where epochs have no value of it, the one that
            training watches does.
        base: names those that there are.
        dataset: as a record describes it.
    """
    known, first = base.metric_names, settings.objectives[0].metric
    metric = first if first in known else base.monitor
    one = one_held_out(dataset, "validation")
    return [*main_metrics(known, metric, one_held_out=one)]


def settings_of(
    study: SweepStudy, trial: optuna.Trial | FrozenTrial, params: Mapping[str, Any]
) -> dict[str, Any]:
    """The dotted settings that a trial changes; those of the default configuration are none."""
    if study.stage == "finalists":
        return dict(trial.user_attrs["settings"])
    return {} if DEFAULT in trial.user_attrs else study.space.settings(params)


def title_of(study: SweepStudy, trial: optuna.Trial | FrozenTrial) -> str:
    """The name of a trial's run."""
    if study.stage == "finalists":
        return f"finalist trial {trial.user_attrs['trial']} seed {trial.user_attrs['seed']}"
    return f"trial {trial.number}" + (" default" if DEFAULT in trial.user_attrs else "")


def tags_of(study: SweepStudy, trial: optuna.Trial | FrozenTrial, worker: str) -> dict[str, str]:
    """The tags of a trial's run that say which it is."""
    tags = {"bookends.stage": study.stage, "optuna.study": study.name, "bookends.worker": worker}
    if RETRY_OF in trial.user_attrs:
        tags["optuna.retry_of"] = str(trial.user_attrs[RETRY_OF])
    if ORIGIN in trial.user_attrs:
        tags["bookends.origin"] = trial.user_attrs[ORIGIN]
    return tags
