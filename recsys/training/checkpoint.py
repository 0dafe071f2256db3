"""Checkpoints: everything training needs to go on, written whole or not at all."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch

from recsys.artifacts import replacement
from recsys.errors import ArtifactError


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write the state atomically: a reader finds the old file or the new one, never a part."""
    with replacement(path) as unfinished, unfinished.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # of its writer, where the disk took a part only
            raise OSError(f"its disk took a part: {str(error).splitlines()[0]}") from error
        file.flush()
        os.fsync(file.fileno())


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
