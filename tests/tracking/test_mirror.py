"""Sending a run directory, once or again."""

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest

from recsys.errors import ArtifactError, TrackingError
from recsys.evaluation.tables import Table
from recsys.reporting.record import RunRecord, write_tables
from tracking.ledger import Ledger
from tracking.mirror import mirror
from tracking.model import bundle_digest
from tracking.processes import Owner
from tracking.tracker import open_run


@pytest.fixture
def finished_dir(run_dir, finish):
    finish(run_dir)
    return run_dir


def test_all_of_a_run_directory_arrives(finished_dir, store, client, contents):
    held = contents(client, mirror(finished_dir, store).run_id)
    assert set(held["files"]) == {
        *("config.yaml", "environment.json", "figures/learning_curve.svg"),
        *("per_user.parquet", "per_user_preview.csv", "record.json"),
        *("report.html", "report.md", "tables/segments.json"),
        *("tables/epochs.json", "tables/all_metrics.json"),
    }
    assert [step for step, *_ in held["points"]["train/loss"]] == [1, 2, 3]
    assert held["points"]["test/ndcg_at_10"][0][2] == "0.3"
    assert held["status"] == "FINISHED"


def test_sending_again_writes_nothing_also_without_the_ledger(
    finished_dir, store, client, bundle, contents, monkeypatch
):
    bundle.save(finished_dir / "model")
    sent = mirror(finished_dir, store)
    before, ledger = contents(client, sent.run_id), (finished_dir / "tracking.json").read_text()
    assert sent.model_id is not None
    calls = []
    with monkeypatch.context() as patch:
        for name in ("log_batch", "log_artifact", "log_inputs", "set_terminated", "create_run"):
            patch.setattr(type(client), name, lambda *_, name=name, **__: calls.append(name))
        assert mirror(finished_dir, store) == sent
    assert calls == []
    assert (finished_dir / "tracking.json").read_text() == ledger
    (finished_dir / "tracking.json").unlink()
    assert mirror(finished_dir, store) == sent
    assert contents(client, sent.run_id) == before


def test_what_was_half_sent_is_completed(finished_dir, store, client, monkeypatch):
    calls = []

    def full(self, source, path):
        calls.append(path)
        if len(calls) == 3:
            raise OSError("no space left on device")
        return original(self, source, path)

    from tracking.remote_run import RemoteRun

    original = RemoteRun.send_file
    monkeypatch.setattr(RemoteRun, "send_file", full)
    with pytest.raises(TrackingError, match="no space left"):
        mirror(finished_dir, store)
    delivery = next(iter(Ledger.read(finished_dir).deliveries.values()))
    assert not delivery.complete
    sent = mirror(finished_dir, store)
    assert sent.run_id == delivery.run_id
    assert len(calls) == 3 + 11 - 2  # two had arrived
    assert client.get_run(sent.run_id).info.status == "FINISHED"


def test_a_file_lost_by_the_store_is_sent_again(finished_dir, store, client, contents):
    sent = mirror(finished_dir, store)
    before = contents(client, sent.run_id)
    location = client.get_run(sent.run_id).info.artifact_uri.removeprefix("file://")
    (finished_dir / location / "report.md").unlink()
    mirror(finished_dir, store)
    assert contents(client, sent.run_id)["files"] == before["files"]


def test_a_report_rebuilt_since_is_sent_and_nothing_else(finished_dir, store, client, contents):
    sent = mirror(finished_dir, store)
    before = contents(client, sent.run_id)
    for text in ("# REPORT\n", "# A better report\n"):  # the first is as long as what was there
        (finished_dir / "report.md").write_text(text)
        mirror(finished_dir, store)
        path = Path(client.download_artifacts(sent.run_id, "report.md"))
        assert path.read_text() == text
    after = contents(client, sent.run_id)
    changed = {path for path, size in after["files"].items() if before["files"][path] != size}
    assert changed == {"report.md"}
    assert {**after, "files": 0} == {**before, "files": 0}


def test_only_a_metric_that_changed_gets_another_point(finished_dir, store, client, contents):
    """As after a resume: the run took longer, and what was measured stayed."""
    sent = mirror(finished_dir, store)
    before = contents(client, sent.run_id)["points"]
    dataclasses.replace(RunRecord.read(finished_dir), seconds=99.0).write(finished_dir)
    mirror(finished_dir, store)
    after = contents(client, sent.run_id)["points"]
    assert {key for key in after if after[key] != before[key]} == {"run/seconds"}


def test_live_and_later_give_the_same_values_the_monitored_metric_first(
    finished_dir, store, client, epochs, contents, finish, running_record
):
    """MLflow draws the first metric that it was told when runs are compared."""
    config = running_record.config | {"training": {"early_stopping": {"monitor": "recall@20"}}}
    both = {"ndcg@20": 0.1, "recall@20": 0.2}
    epochs = [dataclasses.replace(epoch, validation=both) for epoch in epochs]
    history = [dataclasses.asdict(epoch) for epoch in epochs]
    live_dir, later_dir = finished_dir.with_name("live"), finished_dir.with_name("later")
    for directory in (live_dir, later_dir):
        directory.mkdir()
        begun = dataclasses.replace(running_record, run_name=directory.name, config=config)
        begun.write(directory)
        (directory / "config.yaml").write_text("model:\n  embedding_dim: 96\n")
    tracked = open_run(live_dir, store)
    for epoch in epochs[:2]:  # the third is missing, as after an outage
        tracked.log_epoch(epoch)
    for directory in (live_dir, later_dir):
        finish(directory, run_name=directory.name, config=config, history=history)
    tracked.close()
    later = mirror(later_dir, store)

    def values(run_id):
        held = contents(client, run_id)
        points = [(key, [(step, v) for step, _, v in p]) for key, p in held["points"].items()]
        return points, held["params"], set(held["files"]), held["inputs"]

    points, *_ = found = values(tracked.run_id)
    assert found == values(later.run_id)
    sent = [key for key, _ in points]
    assert sent.index("val/recall_at_20") < sent.index("val/ndcg_at_20")


def test_a_table_has_just_the_keys_that_the_ui_pages_and_mlflow_loads_it(
    finished_dir, store, client, monkeypatch
):
    sent = mirror(finished_dir, store)
    path = Path(client.download_artifacts(sent.run_id, "tables/segments.json"))
    assert json.loads(path.read_text()) == {"columns": ["segment", "n"], "data": [["cold", 3]]}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    frame = client.load_table(sent.experiment_id, "tables/segments.json", [sent.run_id])
    assert frame.to_dict("records") == [{"segment": "cold", "n": 3}]


def test_a_run_deleted_in_the_store_is_made_anew(finished_dir, store, client, contents):
    first = mirror(finished_dir, store)
    client.delete_run(first.run_id)
    second = mirror(finished_dir, store)
    assert second.run_id != first.run_id
    assert "report.md" in contents(client, second.run_id)["files"]


def test_two_stores_each_get_the_run(finished_dir, store, tmp_path, template_store):
    other = f"sqlite:///{tmp_path}/other/mlflow.db"
    first, second = mirror(finished_dir, store), mirror(finished_dir, other)
    assert mirror(finished_dir, store) == first
    assert mirror(finished_dir, other) == second


def test_the_store_used_last_is_the_usual_one(finished_dir, store, tmp_path, monkeypatch):
    sent = mirror(finished_dir, store)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert mirror(finished_dir) == sent
    assert not list(elsewhere.iterdir())


def test_a_run_that_another_process_trains_is_left_to_it(run_dir, store, monkeypatch):
    open_run(run_dir, store)
    monkeypatch.setattr(Owner, "current", classmethod(lambda cls: cls("here", "boot", 1, "2")))
    with pytest.raises(TrackingError, match="is training there"):
        mirror(run_dir, store)


def test_a_run_killed_in_training_is_sent_as_failed(run_dir, store, client, epochs):
    open_run(run_dir, store)
    ledger = Ledger.read(run_dir)
    ledger.owner = dataclasses.replace(ledger.owner, process_start="0")
    ledger.write(run_dir)
    run = client.get_run(mirror(run_dir, store).run_id)
    assert (run.info.status, run.data.tags["bookends.status"]) == ("FAILED", "killed")


def test_what_cannot_be_sent_is_an_error_in_one_line(finished_dir, tmp_path, store):
    with pytest.raises(ArtifactError, match=r"record\.json"):
        mirror(tmp_path, store)
    with pytest.raises(TrackingError, match="could not be sent to http://127") as caught:
        mirror(finished_dir, "http://127.0.0.1:9")
    assert "\n" not in str(caught.value)


def test_a_model_half_sent_is_completed_not_doubled(
    finished_dir, store, client, bundle, monkeypatch
):
    bundle.save(finished_dir / "model")

    def away(*_, **__):
        raise OSError("connection reset")

    with monkeypatch.context() as patch:
        patch.setattr(type(client), "log_model_artifacts", away)
        with pytest.raises(TrackingError, match="connection reset"):
            mirror(finished_dir, store)
    sent = mirror(finished_dir, store)
    models = client.search_logged_models([sent.experiment_id])
    assert [(model.model_id, str(model.status)) for model in models] == [(sent.model_id, "READY")]


def test_a_model_carries_the_test_metrics_of_its_run_and_not_those_of_baselines(
    finished_dir, store, client, bundle
):
    bundle.save(finished_dir / "model")
    sent = mirror(finished_dir, store)
    metrics = {m.key: m.value for m in client.get_logged_model(sent.model_id).metrics}
    assert metrics["test/ndcg_at_10"] == 0.3
    assert len(client.get_metric_history(sent.run_id, "test/ndcg_at_10")) == 1
    groups = {key.partition("/")[0] for key in metrics}
    assert groups == {"test", "test_ci_low", "test_ci_high", "test_sampled"}


def test_a_model_bears_the_runs_name_and_its_metrics_the_data_set(
    finished_dir, store, client, bundle, finish
):
    bundle.save(finished_dir / "model")
    finish(finished_dir, run_name="lr 0.05")
    model = client.get_logged_model(mirror(finished_dir, store).model_id)
    assert model.name == "lr 0_05"  # MLflow allows no dot in a model's name
    name, fingerprint = "sample/books.csv+users.csv", RunRecord.read(finished_dir).dataset
    on = {(metric.dataset_name, metric.dataset_digest) for metric in model.metrics}
    assert on == {(name, fingerprint["fingerprint"])}


def test_the_group_best_ends_in_the_metrics_of_the_kept_epoch(
    run_dir, store, client, epochs, finish
):
    """The third epoch is the last, the second is kept."""
    values = (0.1, 0.3, 0.2)
    epochs = [
        dataclasses.replace(epoch, validation={"ndcg@10": value}, is_best=value != 0.2)
        for epoch, value in zip(epochs, values, strict=True)
    ]
    tracked = open_run(run_dir, store)
    for epoch in epochs[:2]:
        tracked.log_epoch(epoch)
    finish(run_dir, history=[dataclasses.asdict(epoch) for epoch in epochs], best_epoch=2)
    tracked.close()
    metrics = client.get_run(tracked.run_id).data.metrics
    assert (metrics["best/ndcg_at_10"], metrics["val/ndcg_at_10"]) == (0.3, 0.2)
    points = client.get_metric_history(tracked.run_id, "best/ndcg_at_10")
    assert [(point.step, point.value) for point in points] == [(1, 0.1), (2, 0.3)]


def test_numbers_of_tables_and_of_the_preview_are_as_long_as_mlflow_shows(
    finished_dir, store, client
):
    table = Table("segments", "Segments", "", ("segment", "share"), (("cold", 1 / 3), ("n", 12345)))
    write_tables(finished_dir, [table])
    users = pd.DataFrame({"user_id": ["a"], "n_train": [7], "ndcg@10": [1 / 3]})
    users.to_parquet(finished_dir / "per_user.parquet")
    run_id = mirror(finished_dir, store).run_id
    shown = json.loads(Path(client.download_artifacts(run_id, "tables/segments.json")).read_text())
    assert shown["data"] == [["cold", 0.333333], ["n", 12345]]
    preview = Path(client.download_artifacts(run_id, "per_user_preview.csv")).read_text()
    assert preview.splitlines()[1] == "a,7,0.3333"


def test_an_interrupted_run_has_no_model(finished_dir, store, bundle):
    bundle.save(finished_dir / "model")
    dataclasses.replace(RunRecord.read(finished_dir), status="interrupted").write(finished_dir)
    assert mirror(finished_dir, store).model_id is None


def test_a_changed_byte_changes_the_bundles_digest(tmp_path, bundle):
    bundle.save(tmp_path / "model")
    before = bundle_digest(tmp_path / "model")
    changed = tmp_path / "model" / "recommender.json"
    changed.write_text(changed.read_text() + " ")
    assert bundle_digest(tmp_path / "model") != before
