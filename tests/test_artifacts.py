import numpy as np
import pytest

from recsys.artifacts import locked, new_directory, replacement
from recsys.data.storage import Content, write_directory
from recsys.errors import ArtifactError
from recsys.reporting.record import write_json


def test_a_file_appears_whole(tmp_path):
    with replacement(tmp_path / "new" / "file.txt") as path:
        path.write_text("whole")
        assert not (tmp_path / "new" / "file.txt").exists()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.txt"]


def test_what_raises_leaves_the_old_file_alone(tmp_path):
    (tmp_path / "file.txt").write_text("old")
    with pytest.raises(KeyError), replacement(tmp_path / "file.txt") as path:
        path.write_text("new")
        raise KeyError
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path, nearly_full_disk):
    content = Content({"x": np.ones(50_000)}, {}, {})
    with nearly_full_disk(10_000), pytest.raises(ArtifactError, match="must be writable") as caught:
        write_directory(tmp_path / "file", content)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_a_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=r"file/x.json: must be writable \(.+\)"):
        write_json(tmp_path / "file" / "x.json", {})


def test_a_new_directory_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "made"
    with pytest.raises(RuntimeError), new_directory(path) as unfinished:
        (unfinished / "file").write_text("half")
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    with new_directory(path) as unfinished:
        (unfinished / "file").write_text("first")
        assert not path.exists()
    assert path.stat().st_mode & 0o777 == 0o755
    with pytest.raises(FileExistsError), new_directory(path) as unfinished:
        (unfinished / "file").write_text("second")
    assert (path / "file").read_text() == "first"
    assert [found.name for found in path.parent.iterdir()] == ["made"]


def test_a_lock_is_held_by_one_and_given_back(tmp_path):
    path = tmp_path / "lock"
    with (
        pytest.raises(ArtifactError, match="somebody is there"),
        locked(path),
        locked(path, refusal="somebody is there"),
    ):
        raise AssertionError
    with locked(path, refusal="somebody is there"):
        pass


def test_a_lock_that_cannot_be_made_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ArtifactError, match="file/lock: must be writable"),
        locked(tmp_path / "file" / "lock"),
    ):
        raise AssertionError
