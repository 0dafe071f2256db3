"""What the user asks of a sweep, read and checked before anything that takes long is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.settings import COMMAND_LINE, Tree, check_config, merge, parse_overrides, read_yaml
from recsys.config import Config
from recsys.config.section import nest
from sweeps.pruners import check_pruner
from sweeps.record import Objective
from sweeps.settings import SweepSettings, build_settings, parse_constraint, parse_objective
from sweeps.space import Space
from sweeps.start import START, starting_points


@dataclass(frozen=True)
class SweepRequest:
    """What the user asked for."""

    settings: SweepSettings
    space_name: str
    name: str | None  # of the sweep; None makes one from the space's and the settings' digest
    storage: str | None  # of the study; None takes a journal file in the sweep's directory
    sweeps_dir: Path
    upload_data: bool = False  # to the tracker, for workers elsewhere


def read_settings(
    space: Path, config: Path | None, overrides: Sequence[str], options: Mapping[str, Any]
) -> SweepSettings:
    """What decides a sweep, read and checked; ``options`` are settings of the sweep by name.

    Raises:
        ConfigError: an unknown or impossible setting.
    """
    file, changes = {} if config is None else read_yaml(config), parse_overrides(overrides)
    resolved = check_config(file, changes, origin=str(config or COMMAND_LINE))
    base = merge(file, changes)
    objectives = [parse_objective(text) for text in options.get("objectives") or ()]
    given = dict(options) | {
        "objectives": objectives or [Objective(resolved.monitor)],
        "constraints": [parse_constraint(text) for text in options.get("constraints") or ()],
        "base": base,
        "epoch_metrics": resolved.metric_names,
    }
    settings = build_settings(**given, **_read_space(space, base))
    Space.of(settings.space).check(lambda each: trial_config(base, each, str(space)))
    check_pruner(settings, [name for name, value in given.items() if value is not None])
    return settings


def _read_space(path: Path, base: Tree) -> dict[str, Any]:
    """What a space's file gives: the space, and its starting points."""
    tree = read_yaml(path)
    given = tree.pop(START, None)
    points = starting_points(
        Space.of(tree),
        given,
        lambda settings: trial_config(base, settings, str(path)),
        origin=str(path),
    )
    return {"space": tree, START: points}


def trial_config(base: Tree, settings: Mapping[str, Any], origin: str) -> Config:
    """The configuration of dotted settings on top of a base."""
    return check_config(merge(base, nest(settings)), {}, origin=origin)
