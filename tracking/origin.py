"""Where a run in MLflow came from: the code, the command and the user."""

from __future__ import annotations

import getpass
import importlib.metadata
import os
from collections.abc import Mapping
from typing import Any

from recsys.addresses import hide_passwords

_LONGEST_COMMAND = 5000


def source_tags(environment: Mapping[str, Any], name: str | None = None) -> dict[str, str]:
    """Where the code came from; ``mlflow run`` has set these already, in its own way.

    MLflow's UI shows what follows the last slash of a source's name, so that has no options.

    Args:
        environment: with git_commit, command and python of the process, as far as known.
        name: of the source; None takes the command up to its first option.
    """
    commit = environment.get("git_commit") or ""
    command = hide_passwords(environment.get("command") or "")
    values = {
        "bookends.command": command[:_LONGEST_COMMAND],
        "bookends.python": environment.get("python"),
        "mlflow.source.name": name or command.partition(" -")[0] or "bookends run",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit.removesuffix("-dirty"),
        "mlflow.source.git.dirty": str(commit.endswith("-dirty")) if commit else "",
    }
    return {key: str(value) for key, value in values.items() if value}


def maker_tags() -> dict[str, str]:
    """Who made it, and with which version of the package."""
    return {"bookends.version": _version(), "mlflow.user": user_name()}


def user_name() -> str:
    """Who runs this process: the name, or the number of a container's user that has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _version() -> str:
    try:
        return importlib.metadata.version("bookends")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
