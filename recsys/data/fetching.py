"""Inputs that lie in an object store or HDFS: copied once, and again where they changed."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs

from recsys.addresses import copy_path, hide_passwords
from recsys.artifacts import locked, make_folder, replacement
from recsys.config import DataConfig
from recsys.data.files import is_part, parts_of
from recsys.errors import DataError

logger = logging.getLogger(__name__)

CHUNK_BYTES = 8 << 20
CONNECTIONS = 8
RETRY_SECONDS = 20
"""How long Google's client tries; its own limit is a quarter of an hour."""
State = dict[str, list[int]]
"""Size in bytes and time of the last change in nanoseconds of each file, by name."""


def fetch_inputs(config: DataConfig) -> None:
    """Have a copy of every input that is an address, as its store has it now.

    Files whose size and time are those of the copy are not fetched again.

    Raises:
        DataError: a store cannot be reached or has no such file, or it changes meanwhile.
        ArtifactError: the copy cannot be written.
    """
    for place in config.sources.values():
        if isinstance(place, str):
            fetch(place, config.cache_dir)


def fetch(address: str, cache_dir: Path) -> Path:
    """A copy, as :func:`copy_path` places it, of the file or of the folder's Parquet files.

    Raises:
        DataError, ArtifactError: as :func:`fetch_inputs`.
    """
    path = copy_path(address, cache_dir)
    make_folder(path.parent, "data.cache_dir")
    with locked(_beside(path, "lock")):
        store, found = _look(address)
        state, kept = _state(found), _read_state(_beside(path, "json"))
        changed = [
            name
            for name in found
            if state[name] != kept.get(name) or not (path / name).is_file()  # "" is the path
        ]
        if state == kept and not changed:
            return path
        logger.info("%s: fetching %d of %d files", address, len(changed), len(found))
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            copying = [
                pool.submit(_copy, store, found[name].path, path / name, address)
                for name in changed
            ]
            for copy in copying:
                copy.result()
        if _state(_look(address)[1]) != state:
            raise DataError(f"{address}: must not change while it is fetched")
        for part in parts_of(path):
            if path.is_dir() and part.name not in found:
                part.unlink()
        with replacement(_beside(path, "json")) as unfinished:
            unfinished.write_text(json.dumps(state), encoding="utf-8")
    return path


def _look(address: str) -> tuple[fs.FileSystem, dict[str, fs.FileInfo]]:
    """The store, and what is to be copied by name below the address; "" for the file itself."""
    if address.startswith("abfs"):
        _try_apart(address)
    google = address.startswith(("gs://", "gcs://")) and "retry_limit_seconds" not in address
    limited = f"{address}{'&' if '?' in address else '?'}retry_limit_seconds={RETRY_SECONDS}"
    try:
        store, place = fs.FileSystem.from_uri(limited if google else address)
        info = store.get_file_info(place)
        if info.type == fs.FileType.File:
            return store, {"": info}
        if info.type == fs.FileType.Directory:
            inside = store.get_file_info(fs.FileSelector(place))
    except (OSError, pa.ArrowException) as error:
        raise _unreachable(address, error) from error
    if info.type == fs.FileType.NotFound:
        raise DataError(f"{address}: no such file")
    parts = {PurePosixPath(each.path).name: each for each in inside if each.is_file}
    parts = {name: parts[name] for name in sorted(parts) if is_part(name)}
    if not parts:
        raise DataError(
            f"{address}: a folder must hold files whose names end in .parquet, has none"
        )
    return store, parts


def _try_apart(address: str) -> None:
    """Ask in a process of its own: without a login Azure's client ends the one that it is in."""
    asking = (
        "import sys; from pyarrow import fs; "
        "store, place = fs.FileSystem.from_uri(sys.argv[1]); store.get_file_info(place)"
    )
    tried = subprocess.run(
        [sys.executable, "-c", asking, address], capture_output=True, text=True, check=False
    )
    if tried.returncode < 0:
        said = [line.strip() for line in tried.stderr.splitlines() if "what():" in line]
        raise _unreachable(address, OSError(" ".join(said) or f"signal {-tried.returncode}"))


def _copy(store: fs.FileSystem, source: str, path: Path, address: str) -> None:
    with replacement(path) as unfinished, unfinished.open("wb") as out:
        for chunk in _chunks(store, source, address):
            out.write(chunk)


def _chunks(store: fs.FileSystem, source: str, address: str) -> Iterator[bytes]:
    try:
        with store.open_input_stream(source, compression=None) as stream:  # .gz stays as it is
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
    except (pa.ArrowException, OSError) as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> DataError:
    reason = hide_passwords(str(error).strip().partition("\n")[0])[:300]
    return DataError(f"{address}: must be an address that can be read ({reason})")


def _state(found: Mapping[str, fs.FileInfo]) -> State:
    return {name: [info.size, info.mtime_ns or 0] for name, info in found.items()}


def _read_state(path: Path) -> State:
    """What the copies were made of; empty where nothing tells."""
    try:
        state: State = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{kind}")
