"""A sweep on a real PostgreSQL: Optuna's storage and MLflow's backend, in two databases."""

import subprocess
from urllib.parse import urlsplit

import pytest
import yaml
from mlflow import MlflowClient

from sweeps.record import SweepRecord

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ONE_TRIAL = (
    *("--space", "space.yaml", "--config", "config.yaml"),
    *("--trials", "1", "--baseline-trials", "0"),
)


@pytest.fixture
def tracked(postgres, sweep_shop, monkeypatch):
    """The address of MLflow's database, which holds a password, in the environment."""
    settings = yaml.safe_load((sweep_shop / "config.yaml").read_text())
    del settings["experiment"]["tracking_uri"]
    (sweep_shop / "config.yaml").write_text(yaml.safe_dump(settings))
    address = postgres("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    return address


def test_four_processes_share_a_study_and_a_tracker_in_two_databases(
    postgres, tracked, sweep_shop, bookends
):
    done = bookends(
        "sweep", "--space", "space.yaml", "--config", "config.yaml", "--trials", "12",
        "--workers", "4", "--baseline-trials", "0", "--finalists", "1", "--finalist-seeds", "1",
        "--no-final", "--name", "shared", "--storage", postgres("optuna"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    record = SweepRecord.read(sweep_shop / "artifacts" / "sweeps" / "shared")
    ended = [trial for trial in record.trials if trial.state in ("complete", "pruned")]
    assert len(ended) == 12
    assert len({trial.worker for trial in ended}) >= 2
    assert len({repr(sorted(trial.params.items())) for trial in ended}) == 12
    client = MlflowClient(tracked)
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


def test_a_worker_joins_by_the_address_alone(postgres, sweep_shop, open_sweep, work, bookends):
    session = open_sweep(storage=postgres("optuna"), n_trials=3, name="joined")
    done = bookends("sweep", "worker", "--study", "joined", "--storage", postgres("optuna"))
    assert done.returncode == 0, done.stderr
    assert "3 trials run" in done.stdout
    workers = {trial.worker for trial in session.main.records()}
    assert len(workers) == 1 and all("worker-0" in name for name in workers)


def test_mlflows_database_is_refused_on_a_server_too(tracked, sweep_shop, bookends):
    done = bookends("sweep", *ONE_TRIAL, "--storage", tracked)
    assert done.returncode == 2 and "must be a database of its own" in done.stderr


def test_no_password_is_kept_or_shown_whatever_a_sweep_and_its_run_leave_behind(
    postgres, tracked, sweep_shop, bookends
):
    """Everything that is written is searched: files, both databases, and what is printed."""
    options = ("--finalists", "0", "--name", "kept")
    storage = postgres("optuna_kept")
    arguments = (*ONE_TRIAL, *options)
    done = bookends("sweep", *arguments, "--storage", storage)
    assert done.returncode == 0, done.stdout + done.stderr
    secret = urlsplit(tracked).password
    files = [path for path in sweep_shop.rglob("*") if path.is_file()]
    assert len(files) > 50  # the sweep's, the winner's run and MLflow's artifacts
    assert [path for path in files if secret.encode() in path.read_bytes()] == []
    for address in (tracked, storage):
        plain = address.replace("+psycopg", "")
        dumped = subprocess.run(["pg_dump", plain], capture_output=True, check=True).stdout
        assert b"kept" in dumped and secret.encode() not in dumped
    assert secret not in done.stdout + done.stderr
