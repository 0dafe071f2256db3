"""What the shell completes, what --help shows, and what a list of runs costs."""

import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from experiments.cli import main
from experiments.run_directory import RunDirectory
from experiments.settings import load_config


def completed(words, incomplete):
    found = ShellComplete(main, {}, "bookends", "_BOOKENDS_COMPLETE")
    return [item.value for item in found.get_completions(words, incomplete)]


@pytest.mark.parametrize("words", [["run"], ["sweep", "start"], ["config", "show"]])
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


def test_runs_and_sweeps_are_completed_by_name_or_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path, file in (("runs/first", "record.json"), ("sweeps/second", "study.json")):
        (tmp_path / "artifacts" / path).mkdir(parents=True)
        (tmp_path / "artifacts" / path / file).write_text("{}")
    (tmp_path / "artifacts" / "runs" / "fire").mkdir()  # holds no run
    assert completed(["report"], "fir") == ["artifacts/runs/first"]
    assert completed(["track"], "artifacts/sw") == ["artifacts/sweeps/second"]


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
    assert "[default: ndcg@10]" in " ".join(said.split())


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


def test_runs_are_listed_without_torch():
    code = (
        "import sys, experiments.cli, experiments.runs_console, tracking.run_list; "
        "print(sorted({'torch', 'optuna'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
