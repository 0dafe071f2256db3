"""Runs of two processes, as torchrun or ``--processes 2`` starts them."""

import contextlib
import os
import signal
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from mlflow import MlflowClient

from experiments.cli import main
from experiments.processes import ADDRESS
from experiments.settings import dump_yaml
from recsys.reporting.record import RunRecord
from tests import forked
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
WORDS = ["run", "--config", "config.yaml", "--experiment.run_name=pair"]
MANY = "--training.num_epochs=5000"
RUN = Path("artifacts/runs/pair")
OTHERS_ENDED = "all training processes must stay to the end, but another one has ended"


@pytest.fixture
def shop(tmp_path, copy_store, board_config, monkeypatch):
    """A directory to run in, with a config of the checkerboard and a tracker of its own."""
    changes = {"training": {"precision": "float32"}}
    config = board_config(changes | {"experiment": {"tracking_uri": copy_store(tmp_path)}})
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "lo")
    return tmp_path


def stream(run=RUN):
    epochs = RunRecord.read(run).history if (run / "record.json").exists() else []
    return [epoch.train_loss for epoch in epochs]


def tracked(shop):
    client = MlflowClient(f"sqlite:///{shop}/mlflow.db")
    experiments = [each.experiment_id for each in client.search_experiments()]
    return [run.info.status for run in client.search_runs(experiments)]


@contextlib.contextmanager
def pair(shop, *words):
    """Two processes with the environment that torchrun gives them."""
    given = os.environ | {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    given[ADDRESS] = f"file://{shop}/meeting"
    processes = [
        forked.Forked(
            *("-m", "experiments", *words),
            cwd=shop,
            env=given | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()


def wait_for_epochs(n):
    wait_until(lambda: len(stream()) >= n, 100)


def test_a_run_begun_by_one_process_and_ended_by_two_is_the_one_never_stopped(shop):
    """It has one directory, one run in the tracker, and one process that speaks."""
    long = [*WORDS, "--training.num_epochs=6"]
    whole = CliRunner().invoke(main, [*long, "--experiment.run_name=whole"])
    assert whole.exit_code == 0, whole.output
    begun = forked.Forked("-m", "experiments", *long, cwd=shop)
    wait_for_epochs(2)
    begun.send_signal(signal.SIGINT)
    begun.wait(60)
    assert 2 <= len(stream()) < 6
    with pair(shop, "run", "--resume", str(RUN)) as (first, second):
        said, complaint = first.communicate(100)
        assert (first.returncode, second.communicate(60)) == (0, ("", "")), complaint
    assert stream() == pytest.approx(stream(RUN.with_name("whole")), rel=1e-5)
    assert "best epoch" in said and RunRecord.read(RUN).status == "finished"
    assert sorted(path.name for path in RUN.parent.iterdir()) == ["pair", "whole"]
    assert tracked(shop) == ["FINISHED", "FINISHED"]


def test_processes_that_a_run_starts_end_with_it(shop, monkeypatch):
    """As ``--processes 2`` starts them; forked here, since Python takes seconds to start."""
    started = []

    def start(command, *, env, **_):
        started.append(forked.Forked(*command[1:], cwd=shop, env=os.environ | env))
        return started[-1]

    monkeypatch.setattr("experiments.processes.Popen", start)
    done = CliRunner().invoke(main, [*WORDS, "--processes", "2"])
    assert done.exit_code == 0, done.output
    assert [process.returncode for process in started] == [0]
    alone = CliRunner().invoke(main, [*WORDS, "--experiment.run_name=alone"])
    assert alone.exit_code == 0
    assert stream() == pytest.approx(stream(RUN.with_name("alone")), rel=1e-5)
    refused = CliRunner().invoke(main, [*WORDS, "--processes", "2"])  # the name is taken
    assert refused.exit_code == 2 and "must be new" in refused.stderr
    assert started[1].returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("rank", "number", "status"),
    [
        (0, signal.SIGTERM, "interrupted"),
        (0, signal.SIGKILL, "running"),
        (1, signal.SIGTERM, "failed"),
        (1, signal.SIGKILL, "failed"),
    ],
)
def test_where_one_process_ends_early_the_other_says_so_and_ends(shop, rank, number, status):
    with pair(shop, *WORDS, MANY) as processes:
        wait_for_epochs(1)
        processes[rank].send_signal(number)
        other = processes[1 - rank]
        _, said = other.communicate(60)
        processes[rank].wait(60)
    assert other.returncode == 2
    *before, line = said.splitlines()
    assert OTHERS_ENDED in line or "but left after" in line
    assert all(each.startswith("INFO") for each in before)
    assert processes[rank].returncode == (-9 if number == signal.SIGKILL else 143)
    assert RunRecord.read(RUN).status == status


@pytest.mark.parametrize("entry", ["main", "train"])
def test_mlflow_run_passes_the_number_of_processes_on(entry):
    project = yaml.safe_load((ROOT / "MLproject").read_text())
    given = {"config": "c.yaml", "processes": "3"}
    _python, _m, _module, name, *words = project["entry_points"][entry]["command"].split()
    command = main.commands[name].make_context(name, [word.format(**given) for word in words])
    assert command.params["processes"] == 3


def test_processes_are_counted_once(shop, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    refused = CliRunner().invoke(main, [*WORDS, "--processes", "2"])
    assert refused.exit_code == 2
    assert refused.stderr == "bookends: '--processes' must not be given under torchrun, got 2\n"
    refused = CliRunner().invoke(main, WORDS)
    assert refused.exit_code == 2 and "MASTER_ADDR and MASTER_PORT must be there" in refused.stderr


@pytest.mark.parametrize(
    ("name", "value"), [("WORLD_SIZE", "two"), ("WORLD_SIZE", "0"), ("RANK", "-1")]
)
def test_what_torchrun_sets_must_be_numbers(shop, monkeypatch, name, value):
    given = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for each, text in (given | {name: value}).items():
        monkeypatch.setenv(each, text)
    refused = CliRunner().invoke(main, WORDS)
    assert refused.exit_code == 2
    assert f"{name} in the environment must be a whole number" in refused.stderr
    assert f"got '{value}'" in refused.stderr


@pytest.mark.parametrize(("local_rank", "n_lines"), [("0", 1), ("1", 0)])
def test_a_wrong_setting_is_said_once_a_machine(shop, monkeypatch, local_rank, n_lines):
    for name, value in {"WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": local_rank}.items():
        monkeypatch.setenv(name, value)
    for wrong in (["--training.num_epochs=none"], ["--processes", "2"]):
        refused = CliRunner().invoke(main, [*WORDS, *wrong])
        assert refused.exit_code == 2
        assert len(refused.stderr.splitlines()) == n_lines


def test_a_process_alone_says_what_is_wrong_whatever_the_environment_holds(shop, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    refused = CliRunner().invoke(main, [*WORDS, "--training.num_epochs=none"])
    assert refused.exit_code == 2
    assert "num_epochs" in refused.stderr
