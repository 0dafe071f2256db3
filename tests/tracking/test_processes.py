"""The process of a run: whether it lives, whose it is, which code it runs."""

import dataclasses
import getpass
import os
import subprocess

import pytest

from tracking import processes
from tracking.processes import Owner, maker_tags, source_tags


def test_the_source_is_a_name_that_the_ui_shows_whole_and_the_command_is_beside_it():
    command = "bookends run --config a/b.yaml --experiment.tracking_uri https://ada:secret@host/x"
    tags = source_tags({"command": command})
    assert tags["mlflow.source.name"] == "bookends run"
    assert tags["bookends.command"] == command.replace("ada:secret@", "")


def test_uncommitted_changes_are_told_beside_the_commit():
    tags = source_tags({"git_commit": "c0ffee-dirty"})
    assert tags["mlflow.source.git.commit"] == "c0ffee"
    assert tags["mlflow.source.git.dirty"] == "True"


def test_what_is_not_known_is_no_tag():
    assert set(source_tags({})) == {"mlflow.source.name", "mlflow.source.type"}


@pytest.mark.parametrize(
    "error", [KeyError("getpwuid(): uid not found: 12345"), OSError("no name")]
)
def test_a_user_without_a_name_goes_by_a_number(monkeypatch, error):
    def fail():
        raise error

    monkeypatch.setattr(getpass, "getuser", fail)
    assert maker_tags()["mlflow.user"] == str(os.getuid())


@pytest.mark.parametrize(
    ("machine", "change", "life"),
    [
        ("machine:a", {"boot_id": "x"}, "dead"),  # this machine was started again since
        ("machine:a", {"boot_id": "x", "machine": "machine:b"}, "elsewhere"),
        ("machine:a", {"boot_id": "x", "machine": ""}, "elsewhere"),  # noted by an older version
        ("pid:[1]", {"boot_id": "x"}, "elsewhere"),  # a container, here or on another machine
        ("pid:[1]", {"machine": "pid:[2]", "pid": 2**22 + 1}, "elsewhere"),  # one beside it
        ("pid:[1]", {"pid": 2**22 + 1}, "dead"),
        ("pid:[1]", {}, "alive"),
    ],
)
def test_only_what_is_provably_dead_counts_as_dead(monkeypatch, machine, change, life):
    """Containers share the names of machines."""
    monkeypatch.setattr(processes, "_machine", lambda: machine)
    assert Owner(**(vars(Owner.current()) | change)).life() == life


def test_a_process_that_ended_and_was_not_yet_reaped_is_dead():
    with subprocess.Popen(["sleep", "600"]) as process:
        start = processes._process_start(process.pid)
        owner = dataclasses.replace(Owner.current(), pid=process.pid, process_start=start)
        assert owner.life() == "alive"
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert owner.life() == "dead"
