"""A directory of tensors, Arrow tables and JSON that is read only as it was written.

``manifest.json`` holds the SHA-256 digest and the size of every other file. A directory with a
file that differs, lacks or was added is not read. Nothing in it is executed: there is no pickle.
Tensors and tables are memory-mapped, so that several processes share one copy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors.torch
from safetensors import SafetensorError
from safetensors.numpy import save_file

from recsys.artifacts import file_digest, replaced_directory
from recsys.errors import ArtifactError

FORMAT = 5
MANIFEST = "manifest.json"
VALUES = "recommender.json"
TENSORS = ".safetensors"
TABLE = ".arrow"

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Bundle:
    """What a bundle directory holds.

    Attributes:
        tensors: by file (without its ending), then by name; a file without tensors is not made.
        tables: by file.
        values: what JSON can hold.
    """

    tensors: Mapping[str, Arrays]
    tables: Mapping[str, pa.Table]
    values: Mapping[str, Any]

    @property
    def n_bytes(self) -> int:
        """Bytes of tensors and tables."""
        arrays = sum(array.nbytes for held in self.tensors.values() for array in held.values())
        return arrays + sum(int(table.nbytes) for table in self.tables.values())


def write_bundle(path: Path, bundle: Bundle) -> None:
    """Write the directory whole or not at all; an older one is replaced.

    Raises:
        ArtifactError: it cannot be written.
    """
    try:
        with replaced_directory(path) as unfinished:
            _write_files(unfinished, bundle)
    except (OSError, ValueError, SafetensorError) as error:
        raise ArtifactError(f"{path}: must be writable ({error})") from error


def _write_files(directory: Path, bundle: Bundle) -> None:
    for name, arrays in bundle.tensors.items():
        if arrays:
            contiguous = {key: np.asarray(array, order="C") for key, array in arrays.items()}
            save_file(contiguous, directory / f"{name}{TENSORS}")
            (directory / f"{name}{TENSORS}").chmod(0o644)  # safetensors lets nobody else read it
    for name, table in bundle.tables.items():
        with pa.ipc.new_file(str(directory / f"{name}{TABLE}"), table.schema) as writer:
            writer.write_table(table)
    _write_json(directory / VALUES, dict(bundle.values))
    files = {
        file.name: {"sha256": file_digest(file), "bytes": file.stat().st_size}
        for file in sorted(directory.iterdir())
    }
    _write_json(directory / MANIFEST, {"format": FORMAT, "files": files})


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_bundle(path: Path) -> Bundle:
    """What :func:`write_bundle` wrote, memory-mapped, every file as it was.

    Raises:
        ArtifactError: the directory holds no bundle, one of another format, or one in which a
            file is missing, changed or added.
    """
    names = _check_files(path, _read_manifest(path))
    try:
        tensors = {
            name.removesuffix(TENSORS): _map_tensors(path / name)
            for name in names
            if name.endswith(TENSORS)
        }
        tables = {
            name.removesuffix(TABLE): _map_table(path / name)
            for name in names
            if name.endswith(TABLE)
        }
        values = json.loads((path / VALUES).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, SafetensorError, pa.ArrowException) as error:
        raise ArtifactError(f"{path}: must hold a whole recommender ({_head(error)})") from error
    if not isinstance(values, dict):
        raise ArtifactError(f"{path / VALUES}: must hold a JSON object")
    return Bundle(tensors, tables, values)


def _head(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _read_manifest(path: Path) -> dict[str, Any]:
    """The manifest's files, by name."""
    file = path / MANIFEST
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        version, files = content["format"], content["files"]
        if version != FORMAT:
            raise ArtifactError(f"{path}: must be of format {FORMAT}, got {version!r}")
        expected = {str(name): (entry["sha256"], entry["bytes"]) for name, entry in files.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path}: must hold a whole recommender ({_head(error)})") from error
    return expected


def _check_files(path: Path, expected: Mapping[str, tuple[str, int]]) -> list[str]:
    """The names of the files, once each is found to be what the manifest says."""
    found = {file.name for file in path.iterdir()}
    extra = sorted(found - expected.keys() - {MANIFEST})
    if extra:
        raise ArtifactError(f"{path}: must hold nothing but the recommender, got '{extra[0]}'")
    for name, (digest, size) in expected.items():
        file = path / name
        if Path(name).name != name or not file.is_file():
            raise ArtifactError(f"{path}: must hold a whole recommender, '{name}' is missing")
        actual = file.stat().st_size
        if actual != size:
            raise ArtifactError(f"{file}: must have {size} bytes, has {actual}")
        if file_digest(file) != digest:
            raise ArtifactError(
                f"{file}: must have the SHA-256 digest of the manifest, was changed"
            )
    return sorted(expected)


def _map_tensors(path: Path) -> dict[str, np.ndarray]:
    tensors = safetensors.torch.load_file(path)
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _map_table(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    table.validate(full=True)  # texts that lie outside the file would end the process
    return table
