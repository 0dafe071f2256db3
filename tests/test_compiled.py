import numpy as np
import pytest

from recsys import compiled as module
from recsys.compiled import cache_folder, compiled


@pytest.fixture
def sources(tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    (tmp_path / "package" / "inner").mkdir(parents=True)
    (tmp_path / "package" / "loops.py").write_text("x = 1")
    (tmp_path / "package" / "inner" / "called.py").write_text("y = 1")
    return tmp_path / "package"


def test_another_state_of_any_source_has_another_folder_and_the_old_one_goes(sources):
    first = cache_folder(sources)
    assert first.parent == sources / "__pycache__"
    assert cache_folder(sources) == first
    (sources / "inner" / "called.py").write_text("y = 2 # edited")
    second = cache_folder(sources)
    assert second != first
    assert second.is_dir() and not first.exists()


def test_where_the_sources_cannot_be_written_the_users_cache_can(sources, tmp_path, monkeypatch):
    (sources / "__pycache__").write_text("in the way")
    assert cache_folder(sources).parent == tmp_path / "user" / "bookends"
    monkeypatch.setenv("XDG_CACHE_HOME", str(sources / "loops.py"))
    assert cache_folder(sources) is None


def test_a_user_without_a_home_has_no_place(sources, tmp_path, monkeypatch):
    (sources / "__pycache__").write_text("in the way")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    assert cache_folder(sources) is None
    assert not (tmp_path / "~").exists()


def test_the_users_own_choice_is_kept_to(sources, tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "chosen"))
    assert cache_folder(sources).parent == tmp_path / "chosen"


def test_machine_code_is_kept_in_the_folder_of_its_state(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "CACHE_FOLDER", tmp_path / "kept")

    @compiled
    def double(numbers):
        for place in range(len(numbers)):
            numbers[place] *= 2

    numbers = np.ones(3)
    double(numbers)
    assert numbers.tolist() == [2, 2, 2]
    assert list((tmp_path / "kept").rglob("*.nbc"))


def test_without_a_place_it_is_compiled_all_the_same(monkeypatch):
    monkeypatch.setattr(module, "CACHE_FOLDER", None)

    @compiled
    def half(number):
        return number / 2

    assert half(3.0) == 1.5
