"""The package ``implicit``, imported where a baseline needs it."""

from __future__ import annotations

import importlib
from typing import Any

from recsys.config import BaselineName
from recsys.errors import ConfigError


def implicit_module(part: str, name: BaselineName) -> Any:
    """A module of the package ``implicit``.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        return importlib.import_module(f"implicit.{part}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "implicit":
            raise
        raise ConfigError(
            f"'evaluation.baselines' names '{name}', which needs the package 'implicit', but it "
            "is not installed; pip install implicit"
        ) from None
