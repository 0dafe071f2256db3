"""What the shell completes, what --help shows, and what a list of runs costs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from experiments.cli import main
from experiments.commands.words import RunPath
from experiments.run_directory import RunDirectory
from experiments.settings import load_config


def completed(words, incomplete):
    found = ShellComplete(main, {}, "bookends", "_BOOKENDS_COMPLETE")
    return [item.value for item in found.get_completions(words, incomplete)]


@pytest.mark.parametrize(
    "words", [["run"], ["sweep", "start"], ["config", "show"], ["data", "prepare"]]
)
def test_settings_are_completed_by_their_dotted_name(words):
    found = completed(words, "--training.learning")
    assert found == ["--training.learning_rate"]
    assert "--model.similarity" in completed(words, "--")


@pytest.mark.parametrize(
    ("words", "incomplete", "found"),
    [
        (["sweep", "start", "--sampler"], "t", ["tpe"]),
        (["sweep", "start", "--pruner"], "as", ["asha"]),
        (["sweep"], "wo", ["worker"]),
    ],
)
def test_words_of_a_sweep_are_completed(words, incomplete, found):
    assert completed(words, incomplete) == found


@pytest.fixture
def artifacts(tmp_path, monkeypatch):
    """A run, a sweep of the same name, and a directory without either."""
    monkeypatch.chdir(tmp_path)
    for path, file in (("runs/first", "record.json"), ("sweeps/first", "study.json")):
        (tmp_path / "artifacts" / path).mkdir(parents=True)
        (tmp_path / "artifacts" / path / file).write_text("{}")
    (tmp_path / "artifacts" / "runs" / "fire").mkdir()
    return tmp_path / "artifacts"


RUN, SWEEP = "artifacts/runs/first", "artifacts/sweeps/first"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["compare"], {RUN}),
        (["compare", "other"], {RUN}),
        (["bisect"], {RUN}),
        (["bisect", "other"], {RUN}),
        (["register"], {RUN}),
        (["report"], {RUN}),
        (["run", "--resume"], {RUN}),
        (["sweep", "report"], {SWEEP}),
        (["track"], {RUN, SWEEP}),
    ],
)
def test_what_takes_a_run_or_a_sweep_is_completed_by_name_or_path(artifacts, words, found):
    assert set(completed(words, "fir")) == found
    assert set(completed(words, "artifacts/")) == found


@pytest.mark.parametrize(
    ("kinds", "given", "found"),
    [
        (("runs",), "first", RUN),
        (("sweeps",), "first", SWEEP),
        (("runs", "sweeps"), "first", RUN),
        (("runs",), RUN, RUN),
        (("runs",), "nobody", "nobody"),
    ],
)
def test_a_directory_of_a_run_or_a_sweep_goes_by_its_name_too(artifacts, kinds, given, found):
    assert RunPath(*kinds).convert(given, None, None) == Path(found)


def test_a_directory_that_is_there_goes_before_a_name(artifacts, tmp_path):
    (tmp_path / "first").mkdir()
    assert RunPath("runs").convert("first", None, None) == Path("first")


def test_the_newest_run_is_completed_first(artifacts):
    (artifacts / "runs" / "fir").mkdir()
    (artifacts / "runs" / "fir" / "record.json").write_text("{}")
    os.utime(artifacts / "runs" / "first", (1, 1))
    assert completed(["compare"], "") == ["artifacts/runs/fir", RUN]


def test_another_word_for_a_run_may_be_a_file(artifacts):
    found = ShellComplete(main, {}, "bookends", "_BOOKENDS_COMPLETE")
    (item,) = found.get_completions(["compare", "first"], "lists.pa")
    assert (item.type, item.value) == ("file", "lists.pa")


def test_the_help_of_a_sweep_shows_every_option_once_its_defaults_and_the_other_commands():
    said = CliRunner().invoke(main, ["sweep", "--help"]).output
    for title in ("What is searched:", "How:", "The last round:", "Where:"):
        assert title in said
    start = main.commands["sweep"].commands["start"]
    for param in start.params:
        for option in param.opts:
            if option.startswith("--"):
                assert sum(line.split()[0] == option for line in said.splitlines() if line) == 1
    assert "sweep worker" in said
    assert "[default: that which training watches]" in " ".join(said.split())


def test_a_runs_name_says_what_differs_from_the_default(tmp_path):
    given = ["--training.learning_rate", "0.005", "--model.temperature", "0.2"]
    config = load_config(None, ["--experiment.runs_dir", str(tmp_path), *given])
    assert RunDirectory.create(config).name.startswith(
        "softmax-sum-temperature=0.2-learning_rate=0.005-20"
    )
    more = ["--training.num_epochs", "3", "--training.batch_size", "64"]
    config = load_config(None, ["--experiment.runs_dir", str(tmp_path), *given, *more])
    assert RunDirectory.create(config).name.count("=") == 3
    assert "-1_more-" in RunDirectory.create(config).name


@pytest.mark.parametrize(
    "code",
    [
        "import experiments.cli, experiments.runs_console, tracking.run_list",
        "from click.shell_completion import ShellComplete; from experiments.cli import main; "
        "[ShellComplete(main, {}, '', '').get_completions([name], 'a') "
        "for name in ('compare', 'register', 'bisect', 'report')]",
    ],
)
def test_runs_are_listed_and_completed_without_torch(code):
    code += "; import sys; print(sorted({'torch', 'optuna'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
