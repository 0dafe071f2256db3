"""Checkpoints: everything training needs to go on, written whole or not at all."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch

from recsys.errors import ArtifactError


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write the state atomically: a reader finds the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state written by :func:`save_checkpoint`; nothing in the file is executed.

    Raises:
        ArtifactError: there is no such file, or it is damaged.
    """
    if not path.exists():
        raise ArtifactError(f"{path}: no checkpoint here; a run writes one after its first epoch")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, BadZipFile, pickle.UnpicklingError, OSError) as error:
        reason = type(error).__name__
        raise ArtifactError(f"{path}: the checkpoint is damaged ({reason})") from error
    return state
