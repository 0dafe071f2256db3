"""A tracking store and a run directory to send to it."""

import dataclasses
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from recsys.config import Config
from recsys.evaluation.tables import Table
from recsys.reporting.record import RunRecord, write_tables
from recsys.training.trainer import EpochResult
from tracking.model import save_model  # quiets what MLflow says while imported
from tracking.store import connect

FINGERPRINT = "sha256:" + "0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    """And nothing makes a run active in MLflow's own sense."""
    monkeypatch.chdir(tmp_path)
    yield
    assert mlflow.active_run() is None


@pytest.fixture
def store(copy_store, tmp_path):
    """The address of an empty store of the test's own."""
    path = tmp_path / "store"
    path.mkdir()
    return copy_store(path)


@pytest.fixture
def client(store):
    return connect(store)


@pytest.fixture
def epochs():
    """Three epochs of a training that improves."""
    return [
        EpochResult(
            number=number,
            train_loss=1 / number,
            parts={"bce": 1 / number},
            validation={"ndcg@10": number / 10, "recall@20": number / 5},
            is_best=True,
            seconds=0.5,
        )
        for number in (1, 2, 3)
    ]


@pytest.fixture
def running_record():
    """The record of a run that has just begun."""
    return RunRecord(
        run_name="sample-adaptive_mimic-1",
        status="running",
        created="2026-01-02T03:04:05+00:00",
        config=Config().model_dump(mode="json"),
        dataset={
            "fingerprint": FINGERPRINT,
            "sources": {"data/sample/books.csv": "a1", "data/sample/users.csv": "b2"},
            "n_users": 20,
            "n_items": 10,
            "train": 100,
            "split": {"strategy": "leave_latest_out", "order": "timestamp", "skipped": None},
        },
        environment={"python": "3.11.7", "git_commit": "c0ffee", "command": "bookends run"},
        model_size={"parameters": 1000, "bytes": 4000},
    )


@pytest.fixture
def finished_record(running_record, epochs):
    """The record of the same run at its end."""
    scores = {
        "means": {"ndcg@10": 0.3, "sampled_ndcg@10": 0.5, "novelty@10": None},
        "intervals": {"ndcg@10": [0.25, 0.35], "sampled_ndcg@10": [0.45, 0.55]},
    }
    baseline = {"means": {"ndcg@10": 0.1}, "intervals": {"ndcg@10": [0.05, 0.15]}}
    return dataclasses.replace(
        running_record,
        status="finished",
        history=[dataclasses.asdict(epoch) for epoch in epochs],
        best_epoch=3,
        stop_reason="all epochs done",
        evaluation={
            "split": "test",
            "skipped": None,
            "n_users": 20,
            "model": scores,
            "baselines": {"popularity": baseline},
        },
        oracle={"expected_ndcg@10": 0.4},
        tables=["segments"],
        seconds=12.5,
        peak_memory_mb=321.0,
    )


@pytest.fixture
def run_dir(tmp_path, running_record):
    """The directory of a run that has just begun."""
    path = tmp_path / "runs" / running_record.run_name
    path.mkdir(parents=True)
    running_record.write(path)
    (path / "config.yaml").write_text("model:\n  embedding_dim: 96\n")
    return path


@pytest.fixture
def finish(finished_record):
    """What the end of a run does to its directory, all but the model."""

    def write(run_dir: Path, **changes):
        dataclasses.replace(finished_record, **changes).write(run_dir)
        write_tables(
            run_dir,
            [Table("segments", "Segments", "By activity.", ("segment", "n"), (("cold", 3),))],
        )
        (run_dir / "figures").mkdir(exist_ok=True)
        (run_dir / "figures" / "learning_curve.svg").write_text("<svg/>")
        (run_dir / "report.md").write_text("# Report\n")
        (run_dir / "report.html").write_text("<html></html>")
        (run_dir / "checkpoint.pt").write_bytes(b"only training reads this")
        users = [f"user-{number}" for number in range(3)]
        frame = pd.DataFrame({"user_id": users, "ndcg@10": np.array([0.0, 0.5, 1.0])})
        frame.to_parquet(run_dir / "per_user.parquet")

    return write


@pytest.fixture
def contents():
    """All that a store holds of a run, for comparing."""

    def read(client, run_id):
        run = client.get_run(run_id)
        folders = [None, *[f.path for f in client.list_artifacts(run_id) if f.is_dir]]
        return {
            "params": run.data.params,
            "tags": run.data.tags,
            "status": run.info.status,
            "end": run.info.end_time,
            "points": {
                key: [(p.step, p.timestamp, repr(p.value)) for p in points]
                for key in run.data.metrics
                if (points := client.get_metric_history(run_id, key))
            },
            "inputs": [i.dataset.digest for i in run.inputs.dataset_inputs],
            "models": [m.model_id for m in run.outputs.model_outputs],
            "files": {
                found.path: found.file_size
                for folder in folders
                for found in client.list_artifacts(run_id, folder)
                if not found.is_dir
            },
        }

    return read


@pytest.fixture(scope="session")
def bundle(small_recommender):
    """Three users, four books; user n likes book n best and has read it."""
    return small_recommender([0, 1, 2])


@pytest.fixture(scope="session")
def saved(tmp_path_factory, bundle):
    """The bundle as a saved MLflow model."""
    path = tmp_path_factory.mktemp("model")
    bundle.save(path / "bundle")
    save_model(path / "bundle", path / "saved", users=["user-0", "user-1"])
    return path / "saved"


@pytest.fixture(scope="session")
def towers_model(towers, tmp_path_factory):
    """The recommender with towers as a saved MLflow model."""
    path = tmp_path_factory.mktemp("towers")
    towers.save(path / "bundle")
    save_model(path / "bundle", path / "saved", users=["r0003"])
    return path / "saved"
