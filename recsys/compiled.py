"""Loops compiled by numba, for what numpy and torch would need many passes over memory for.

Compiled functions release the interpreter's lock, so that threads run them side by side.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])
FASTMATH = {"contract", "reassoc", "nsz"}
"""Sums may be taken in the order that vectorises; NaN and infinity keep their meaning."""


def cache_folder(sources: Path = Path(__file__).parent) -> Path | None:
    """Where machine code is kept; None where no place is writable.

    numba compiles a function again when its own file has changed, but a loop here may hold the code
    of functions from other files: so each state of the sources has a folder of its own.

    Args:
        sources: folder of all files that define compiled functions.
    """
    digest = hashlib.sha256()
    for file in sorted(sources.rglob("*.py")):
        status = file.stat()
        digest.update(f"{file} {status.st_mtime_ns} {status.st_size}\n".encode())
    name = f"numba-{digest.hexdigest()[:16]}"
    own, given = sources / "__pycache__", os.environ.get("NUMBA_CACHE_DIR")
    user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    places = [Path(given).absolute()] if given else [own, Path(user, "bookends")]
    for place in places:
        folder = place / name
        if not folder.is_absolute():  # a user without a home
            continue
        is_new = not folder.is_dir()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            if is_new and place == own:  # what is there is of states that are gone
                for old in set(place.glob("numba-*")) - {folder}:
                    shutil.rmtree(old, ignore_errors=True)
            return folder
    return None


CACHE_FOLDER = cache_folder()


def compiled(function: Function) -> Function:
    """Compile a function at its first call, and keep the machine code in :data:`CACHE_FOLDER`."""
    njit: Any = numba.njit  # its own types want a literal for every option
    config: Any = numba.config
    options = {"fastmath": FASTMATH, "error_model": "numpy", "nogil": True}
    if CACHE_FOLDER is None:
        return cast(Function, njit(function, **options))
    others = config.CACHE_DIR
    config.CACHE_DIR = str(CACHE_FOLDER)  # looked at here and now alone
    try:
        return cast(Function, njit(function, cache=True, **options))
    finally:
        config.CACHE_DIR = others


def inner(function: Function) -> Function:
    """Compile a function that only compiled functions call."""
    return cast(Function, numba.njit(fastmath=FASTMATH, error_model="numpy")(function))
