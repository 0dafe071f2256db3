import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.environment import describe_environment
from tests import forked


def test_the_command_is_kept_without_the_passwords_of_its_addresses(monkeypatch):
    monkeypatch.setattr(
        "sys.argv",
        ["bookends", "sweep", "--storage=postgresql://ada:se cret@db/x", "--trials", "3"],
    )
    command = describe_environment()["command"]
    assert command == "bookends sweep --storage=postgresql://ada@db/x --trials 3"


def test_a_python_without_the_packages_is_named_with_two_ways_out():
    done = subprocess.run(
        [sys.executable, "-S", "-m", "experiments", "run"],  # -S leaves site-packages out
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"bookends: {sys.executable} must have the packages of Bookends")
    assert "lacks 'click'; activate the environment" in line and "--env-manager uv" in line


def test_what_only_reports_need_is_not_imported_before():
    """Every run and every worker of a sweep would import it at its start."""
    code = "import sys; print(*[name in sys.modules for name in sys.argv[1:]])"
    words = ("torch", "optuna", "scipy.stats", "sklearn")
    done = forked.run("-c", code, *words, cwd=".")
    assert done.stdout == "True True False False\n"


@pytest.mark.parametrize("given", [None, "active"])
def test_threads_sleep_while_they_wait_unless_told_otherwise(given):
    """OpenMP, which PyTorch brings, looks once."""
    code = "import experiments, os, sys; print(os.environ['OMP_WAIT_POLICY'], *sys.modules)"
    environ = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environ |= {} if given is None else {"OMP_WAIT_POLICY": given}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=True)
    policy, *imported = done.stdout.split()
    assert policy == (given or "passive") and "torch" not in imported
