"""The saved view that an experiment of ours is given in MLflow's UI."""

import base64
import json
import zlib

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from tracking.mirror import mirror
from tracking.tracker import open_run
from tracking.views import VIEW_TAG, show_view

NOTE = "mlflow.note.content"
MLFLOWS_LIMIT = 5000  # characters of an experiment's tag


@pytest.fixture
def experiment_id(client):
    return client.create_experiment("mine")


def state_of(tags):
    packed = json.loads(tags[VIEW_TAG])["state"].removeprefix("deflate;")
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def with_monitor(record, monitor):
    record.config["training"]["early_stopping"]["monitor"] = monitor
    return record


@pytest.mark.parametrize("follow", [open_run, mirror])
def test_the_experiment_of_a_run_has_the_view_and_a_note_that_links_to_it(
    run_dir, finish, store, client, follow
):
    if follow is mirror:
        finish(run_dir)
    sent = follow(run_dir, store)
    tags = client.get_experiment(sent.experiment_id).tags
    assert json.loads(tags[VIEW_TAG])["name"] == "Bookends"
    assert f"#/experiments/{sent.experiment_id}/runs?viewStateShareKey=bookends" in tags[NOTE]


def test_the_view_begins_with_the_monitored_metric(client, experiment_id, finished_record):
    show_view(client, experiment_id, with_monitor(finished_record, "recall@20"))
    state = state_of(client.get_experiment(experiment_id).tags)
    assert state["selectedColumns"][:2] == [
        "metrics.`test/recall_at_20`",
        "metrics.`best/recall_at_20`",
    ]
    assert state["compareRunCharts"][0]["metricKey"] == "val/recall_at_20"
    assert len(set(state["selectedColumns"])) == len(state["selectedColumns"])


def test_every_chart_stands_in_a_section_of_the_view(client, experiment_id, finished_record):
    show_view(client, experiment_id, finished_record)
    state = state_of(client.get_experiment(experiment_id).tags)
    sections = {section["uuid"] for section in state["compareRunSections"]}
    assert {card["metricSectionId"] for card in state["compareRunCharts"]} <= sections


def test_a_users_own_view_and_note_stay(client, experiment_id, finished_record):
    client.set_experiment_tag(experiment_id, VIEW_TAG, "theirs")
    client.set_experiment_tag(experiment_id, NOTE, "theirs too")
    show_view(client, experiment_id, finished_record)
    tags = client.get_experiment(experiment_id).tags
    assert (tags[VIEW_TAG], tags[NOTE]) == ("theirs", "theirs too")


def test_an_experiment_that_may_not_be_changed_is_no_obstacle(run_dir, store, client, monkeypatch):
    def refuse(*_):
        raise MlflowException("you may not", error_code=PERMISSION_DENIED)

    monkeypatch.setattr(type(client), "set_experiment_tag", refuse)
    assert open_run(run_dir, store).is_live


def test_the_view_fits_into_a_tag(client, experiment_id, finished_record):
    record = with_monitor(finished_record, "precision@1000")
    show_view(client, experiment_id, record)
    tags = client.get_experiment(experiment_id).tags
    assert max(map(len, tags.values())) <= MLFLOWS_LIMIT
