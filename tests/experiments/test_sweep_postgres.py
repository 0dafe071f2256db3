"""A sweep on a real PostgreSQL: Optuna's storage and MLflow's backend, in two databases."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sweeps.record import SweepRecord

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def programs():
    """Directory of PostgreSQL's programs; None where it is not installed."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return installed[-1].parent if installed else None


@pytest.fixture(scope="module")
def server():
    """The address of a server of the test's own, without a database: trust, no fsync."""
    pytest.importorskip("psycopg", reason="the driver of PostgreSQL, psycopg, is not installed")
    binaries = programs()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    # PostgreSQL refuses to run as root, so that root runs it as the user of its package.
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    directory = Path(tempfile.mkdtemp(prefix="bookends-postgres-"))
    if user:
        shutil.chown(directory, "postgres", "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(program, *arguments):
        command = [*user, str(binaries / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=directory, timeout=120)

    try:
        run("initdb", "-D", str(directory / "data"), "-U", "postgres", "-A", "trust", "--no-sync")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {directory} -c fsync=off"
        log = str(directory / "log")
        run("pg_ctl", "-D", str(directory / "data"), "-w", "-l", log, "-o", options, "start")
        for name in ("optuna", "mlflow"):
            run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", name)
        yield f"postgresql+psycopg://postgres@127.0.0.1:{port}"
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            run("pg_ctl", "-D", str(directory / "data"), "-m", "immediate", "stop")
        shutil.rmtree(directory, ignore_errors=True)


def test_four_processes_share_a_study_and_a_tracker_in_two_databases(server, sweep_shop, bookends):
    done = bookends(
        "sweep", "--space", "space.yaml", "--config", "config.yaml", "--trials", "12",
        "--workers", "4", "--finalists", "1", "--finalist-seeds", "1", "--no-final",
        "--name", "shared", "--storage", f"{server}/optuna",
        "--experiment.tracking_uri", f"{server}/mlflow",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    record = SweepRecord.read(sweep_shop / "artifacts" / "sweeps" / "shared")
    ended = [trial for trial in record.trials if trial.state in ("complete", "pruned")]
    assert len(ended) == 12
    assert len({trial.worker for trial in ended}) >= 2
    assert len({repr(sorted(trial.params.items())) for trial in ended}) == 12
    client = MlflowClient(f"{server}/mlflow")
    experiment = client.get_experiment_by_name("bookends")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.data.tags.get("bookends.kind") == "sweep"]
    assert parent.info.status == "FINISHED"
    children = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    searched = [r for r in children if r.data.tags["bookends.stage"] == "search"]
    assert sorted(int(run.data.tags["optuna.trial"]) for run in searched) == sorted(
        trial.number for trial in record.trials
    )
    assert not [run for run in runs if run.info.status == "RUNNING"]


def test_a_worker_joins_by_the_address_alone(server, sweep_shop, open_sweep, work, bookends):
    session = open_sweep(storage=f"{server}/optuna", n_trials=3, name="joined")
    done = bookends("sweep", "worker", "--study", "joined", "--storage", f"{server}/optuna")
    assert done.returncode == 0, done.stderr
    assert "3 trials run" in done.stdout
    workers = {trial.worker for trial in session.trials(session.main)}
    assert len(workers) == 1 and all("worker-0" in name for name in workers)


def test_mlflows_database_is_refused_on_a_server_too(server, sweep_shop, bookends):
    arguments = ("--space", "space.yaml", "--config", "config.yaml", "--trials", "1")
    tracked = ("--experiment.tracking_uri", f"{server}/mlflow")
    done = bookends("sweep", *arguments, *tracked, "--storage", f"{server}/mlflow")
    assert done.returncode == 2 and "must be a database of its own" in done.stderr
