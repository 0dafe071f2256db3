"""Directories that are read whole or not at all."""

import os
import time

import numpy as np
import pyarrow as pa
import pytest

from recsys.data import storage
from recsys.data.storage import Content, is_whole, read_directory, write_directory
from recsys.errors import ArtifactError

CONTENT = Content(
    arrays={"numbers": np.arange(1000, dtype=np.int32), "empty": np.zeros((0, 3), np.float32)},
    tables={"ids": pa.table({"id": ["a", "ü"]})},
    values={"answer": [42, None, "ü"]},
)


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "below" / "whole"
    write_directory(path, CONTENT)
    return path


def test_what_is_written_is_read(directory):
    content = read_directory(directory)
    assert content.arrays["numbers"].tolist() == list(range(1000))
    assert content.arrays["empty"].shape == (0, 3)
    assert content.tables["ids"].equals(CONTENT.tables["ids"])
    assert content.values == CONTENT.values
    assert [path.name for path in directory.parent.iterdir()] == ["whole"]


def test_arrays_and_tables_are_mapped_and_read_only(directory):
    before = pa.total_allocated_bytes()
    content = read_directory(directory)
    assert pa.total_allocated_bytes() == before
    numbers = content.arrays["numbers"]
    assert type(numbers) is np.ndarray
    assert isinstance(numbers.base, np.memmap)
    assert not numbers.flags.writeable


FILES = ["numbers.npy", "empty.npy", "ids.arrow", "values.json", "manifest.json"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: raw + b"x", None])
def test_a_damaged_file_is_noticed(directory, name, damage):
    file = directory / name
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage(file.read_bytes()))
    assert not is_whole(directory)
    with pytest.raises(ArtifactError):
        read_directory(directory)


@pytest.mark.parametrize("manifest", ["[]", "{}", '{"sizes": 3}', '{"sizes": {}}'])
def test_a_manifest_that_holds_something_else_is_noticed(directory, manifest):
    (directory / "manifest.json").write_text(manifest)
    with pytest.raises(ArtifactError):
        read_directory(directory)


def test_a_file_whose_content_is_nonsense_of_the_right_size_is_noticed(directory):
    for name in ("numbers.npy", "ids.arrow", "values.json"):
        write_directory(directory.parent / name, CONTENT)
        file = directory.parent / name / name
        file.write_bytes(b"?" * file.stat().st_size)
        with pytest.raises(ArtifactError):
            read_directory(directory.parent / name)


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path):
    old, recent = (tmp_path / f".whole.{name}.tmp" for name in ("old", "recent"))
    old.mkdir()
    recent.mkdir()
    two_days_ago = time.time() - 2 * storage.ABANDONED_SECONDS
    os.utime(old, (two_days_ago, two_days_ago))
    write_directory(tmp_path / "whole", CONTENT)
    assert sorted(path.name for path in tmp_path.iterdir()) == [recent.name, "whole"]
