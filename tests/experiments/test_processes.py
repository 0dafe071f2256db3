"""Runs of two processes, as torchrun or ``--processes 2`` starts them."""

import contextlib
import os
import signal
from pathlib import Path

import pytest
import yaml

from experiments.cli import main
from experiments.processes import ADDRESS
from tests import forked
from tests.experiments.shop import run_words
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
PRECISE = "training.precision=float32"
WORDS = run_words("pair", [PRECISE])
MANY = "--training.num_epochs=5000"
OTHERS_ENDED = "all training processes must stay to the end, but another one has ended"


@pytest.fixture
def shop(shop, monkeypatch):
    """Processes of this shop meet over the loopback interface."""
    monkeypatch.chdir(shop.path)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "lo")
    return shop


def losses(shop, name="pair"):
    is_there = (shop.directory(name) / "record.json").exists()
    return [epoch.train_loss for epoch in shop.record(name).history] if is_there else []


@contextlib.contextmanager
def pair(shop, *words):
    """Two processes with the environment that torchrun gives them."""
    given = os.environ | {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    given[ADDRESS] = f"file://{shop.path}/meeting"
    processes = [
        forked.Forked(
            *("-m", "experiments", *words),
            cwd=shop.path,
            env=given | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()


def wait_for_epochs(shop, n):
    wait_until(lambda: len(losses(shop)) >= n, 100)


def test_a_run_begun_by_one_process_and_ended_by_two_is_the_one_never_stopped(shop):
    """It has one directory, one run in the tracker, and one process that speaks."""
    shop.run("whole", PRECISE, "training.num_epochs=6")
    begun = forked.Forked("-m", "experiments", *WORDS, "--training.num_epochs=6", cwd=shop.path)
    wait_for_epochs(shop, 2)
    begun.send_signal(signal.SIGINT)
    begun.wait(60)
    assert 2 <= len(losses(shop)) < 6
    with pair(shop, "run", "--resume", "artifacts/runs/pair") as (first, second):
        said, complaint = first.communicate(100)
        assert (first.returncode, second.communicate(60)) == (0, ("", "")), complaint
    assert losses(shop) == pytest.approx(losses(shop, "whole"), rel=1e-5)
    assert "best epoch" in said and shop.record("pair").status == "finished"
    runs = shop.directory("pair").parent
    assert sorted(path.name for path in runs.iterdir()) == ["pair", "whole"]
    assert [run.info.status for run in shop.all_tracked()] == ["FINISHED", "FINISHED"]


def test_processes_that_a_run_starts_end_with_it(shop, monkeypatch):
    """As ``--processes 2`` starts them; forked here, since Python takes seconds to start."""
    started = []

    def start(command, *, env, **_):
        started.append(forked.Forked(*command[1:], cwd=shop.path, env=os.environ | env))
        return started[-1]

    monkeypatch.setattr("experiments.processes.Popen", start)
    done = shop.bookends(*WORDS, "--processes", "2")
    assert done.exit_code == 0, done.output
    assert [process.returncode for process in started] == [0]
    shop.run("alone", PRECISE)
    assert losses(shop) == pytest.approx(losses(shop, "alone"), rel=1e-5)
    refused = shop.bookends(*WORDS, "--processes", "2")  # the name is taken
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
        wait_for_epochs(shop, 1)
        processes[rank].send_signal(number)
        other = processes[1 - rank]
        _, said = other.communicate(60)
        processes[rank].wait(60)
    assert other.returncode == 2
    *before, line = said.splitlines()
    assert OTHERS_ENDED in line or "but left after" in line
    assert all(each.startswith("INFO") for each in before)
    assert processes[rank].returncode == (-9 if number == signal.SIGKILL else 143)
    assert shop.record("pair").status == status


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
    refused = shop.bookends(*WORDS, "--processes", "2")
    assert refused.exit_code == 2
    assert refused.stderr == "bookends: '--processes' must not be given under torchrun, got 2\n"
    refused = shop.bookends(*WORDS)
    assert refused.exit_code == 2 and "MASTER_ADDR and MASTER_PORT must be there" in refused.stderr


@pytest.mark.parametrize(
    ("name", "value"), [("WORLD_SIZE", "two"), ("WORLD_SIZE", "0"), ("RANK", "-1")]
)
def test_what_torchrun_sets_must_be_numbers(shop, monkeypatch, name, value):
    given = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for each, text in (given | {name: value}).items():
        monkeypatch.setenv(each, text)
    refused = shop.bookends(*WORDS)
    assert refused.exit_code == 2
    assert f"{name} in the environment must be a whole number" in refused.stderr
    assert f"got '{value}'" in refused.stderr


@pytest.mark.parametrize(("local_rank", "n_lines"), [("0", 1), ("1", 0)])
def test_a_wrong_setting_is_said_once_a_machine(shop, monkeypatch, local_rank, n_lines):
    for name, value in {"WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": local_rank}.items():
        monkeypatch.setenv(name, value)
    for wrong in (["--training.num_epochs=none"], ["--processes", "2"]):
        refused = shop.bookends(*WORDS, *wrong)
        assert refused.exit_code == 2
        assert len(refused.stderr.splitlines()) == n_lines


def test_a_process_alone_says_what_is_wrong_whatever_the_environment_holds(shop, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    refused = shop.bookends(*WORDS, "--training.num_epochs=none")
    assert refused.exit_code == 2
    assert "num_epochs" in refused.stderr
