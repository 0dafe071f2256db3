"""From the command line to what a sweep is asked for, every error in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.settings import check_config, merge, parse_overrides, read_yaml
from experiments.sweep_session import Request
from recsys.errors import ConfigError
from sweeps.record import Objective
from sweeps.settings import build_settings, parse_constraint, parse_objective

NAME_CHARACTERS = "letters, digits, '-', '_' and '.'"


def read_request(
    space: Path,
    config: Path | None,
    overrides: Sequence[str],
    options: Mapping[str, Any],
    *,
    name: str | None = None,
    storage: str | None = None,
    sweeps_dir: Path = Path("artifacts/sweeps"),
) -> Request:
    """What the user asked for, read and checked.

    Args:
        space: YAML with what may vary.
        config: YAML with differences from the defaults; None for none.
        overrides: dotted settings, as for a run.
        options: settings of the sweep by name; None where not given.
        name: of the sweep.
        storage: address of the study.
        sweeps_dir: where sweep directories are made.

    Raises:
        ConfigError: an unknown or impossible setting.
    """
    base = merge({} if config is None else read_yaml(config), parse_overrides(overrides))
    resolved = check_config(base, {}, origin=str(config or "defaults"))
    if (
        name is not None
        and not name.replace("-", "a").replace("_", "a").replace(".", "a").isalnum()
    ):
        raise ConfigError(f"'--name' must be made of {NAME_CHARACTERS}, got '{name}'")
    objectives = [parse_objective(text) for text in options.get("objectives") or ()]
    if not objectives:
        objectives = [Objective(resolved.training.early_stopping.monitor)]
    given = {key: value for key, value in options.items() if value is not None} | {
        "objectives": objectives,
        "constraints": [parse_constraint(text) for text in options.get("constraints") or ()],
        "space": read_yaml(space),
        "base": base,
        "epoch_metrics": resolved.evaluation.metric_names,
    }
    return Request(
        settings=build_settings(**given),
        space_name=space.stem,
        name=name,
        storage=storage,
        sweeps_dir=sweeps_dir,
    )
