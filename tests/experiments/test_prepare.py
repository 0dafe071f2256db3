"""The data set as a step of its own."""

import pytest
import yaml

from recsys.config import DataConfig
from recsys.data.dataset import prepare_cached
from tests.cli import bookends


@pytest.fixture
def command(tmp_path, board_settings, monkeypatch):
    """Runs a command on the checkerboard, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    data = board_settings["data"] | {"cache_dir": str(tmp_path / "cache")}
    settings = dict(board_settings) | {"data": data, "experiment": {"tracking": False}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))

    def run(*words):
        return bookends(*words, "--config", "config.yaml")

    run.data = data
    return run


def test_preparing_says_what_is_left_and_a_run_takes_it(command, tmp_path):
    refused = command("run", "--prepared")
    assert refused.exit_code == 2 and "must have been prepared by" in refused.output
    made = command("data", "prepare")
    assert made.exit_code == 0
    prepared = prepare_cached(DataConfig(**command.data), 0)
    for step in prepared.filter_steps:
        assert step.name in made.output and f"{step.interactions:,}" in made.output
    assert f"train {len(prepared.train):,}, validation" in made.output
    assert f"0 of {len(prepared.users):,} users (0.0%)" in made.output
    assert prepared.fingerprint in made.output
    assert str(tmp_path / "cache" / prepared.fingerprint.replace(":", "-")) in made.output
    assert command("run", "--prepared").exit_code == 0


def test_other_settings_want_preparing_again(command):
    assert command("data", "prepare").exit_code == 0
    refused = command("run", "--prepared", "--data.min_user_interactions", "2")
    assert refused.exit_code == 2 and "must have been prepared by" in refused.output
