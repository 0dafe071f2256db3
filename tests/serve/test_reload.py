"""The alias moves while requests run: none fails, and each is answered by one model."""

import asyncio
import gc
import logging
import threading

import pytest
import uvicorn
from fastapi.testclient import TestClient

from experiments.serve.app import Service, build_app
from experiments.serve.model import refreshed
from experiments.serve.server import _Server
from tests.waiting import wait_until
from tracking.model import is_alias

FAVOURITE = {"1": "book-0", "2": "book-1"}
QUESTION = {"user_ids": ["user-0"], "k": 1, "exclude_seen": False}


def reloads(current):
    lines = current.meters.text().decode().splitlines()
    return {
        result: next(
            float(line.split()[-1])
            for line in lines
            if line.startswith(f'bookends_model_reloads_total{{result="{result}"')
        )
        for result in ("loaded", "failed")
    }


def test_requests_go_on_while_the_alias_moves(store, champion):
    found, ended = [], threading.Event()

    with TestClient(build_app(Service(champion))) as client, refreshed(champion, 0.05):

        def ask():
            while not ended.is_set():
                found.append(client.post("/recommend", json=QUESTION))

        def move_to(version):
            store[1].set_registered_model_alias("bookends", "champion", version)
            wait_until(lambda: client.get("/model").json()["version"] == version)
            n_wanted = len(found) + 5
            wait_until(lambda: len(found) >= n_wanted)

        askers = [threading.Thread(target=ask) for _ in range(2)]
        for asker in askers:
            asker.start()
        try:
            for version in ("2", "1", "2"):
                move_to(version)
        finally:
            ended.set()
            for asker in askers:
                asker.join()
        text = client.get("/metrics").text

    assert {answer.status_code for answer in found} == {200}
    bodies = [answer.json() for answer in found]
    assert {body["model_version"] for body in bodies} == {"1", "2"}
    for body in bodies:  # the list is that of the version that signs it
        item = body["results"][0]["items"][0]
        assert item["item_id"] == FAVOURITE[body["model_version"]]
    assert 'bookends_model_info{run_id="",version="2"} 1.0' in text
    assert 'bookends_model_info{run_id="",version="1"} 0.0' in text
    assert reloads(champion) == {"loaded": 3, "failed": 0}


def test_health_is_answered_while_a_question_is_in_work(champion, held_question):
    begun, may_end = held_question
    statuses = []
    with TestClient(build_app(Service(champion))) as client:

        def ask():
            statuses.append(client.post("/recommend", json=QUESTION).status_code)

        asker = threading.Thread(target=ask)
        asker.start()
        assert begun.wait(20)
        assert client.get("/healthz").status_code == 200
        assert statuses == []
        may_end.set()
        asker.join()
    assert statuses == [200]


def test_a_version_that_cannot_be_loaded_leaves_the_old_one(
    store, champion, small_paths, tmp_path, caplog
):
    _, client = store
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in small_paths[1].iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    (damaged / "users.arrow").write_bytes(b"nothing")
    version = client.create_model_version("bookends", damaged.as_uri()).version
    client.set_registered_model_alias("bookends", "champion", version)
    with caplog.at_level(logging.ERROR, "bookends.serve"):
        champion.refresh()
        champion.refresh()
    assert champion.served.place.version == "1"
    assert reloads(champion) == {"loaded": 0, "failed": 2}
    assert len(caplog.records) == 1  # the same failure is not said again and again
    assert "users.arrow" in caplog.records[0].getMessage()
    client.set_registered_model_alias("bookends", "champion", "2")
    champion.refresh()
    assert champion.served.place.version == "2"


def test_an_alias_that_is_taken_away_leaves_the_model(store, champion):
    store[1].delete_registered_model_alias("bookends", "champion")
    champion.refresh()
    assert champion.served.place.version == "1"
    assert reloads(champion)["failed"] == 1


def test_a_new_model_is_out_of_the_collectors_way(store, champion):
    store[1].set_registered_model_alias("bookends", "champion", "2")
    try:
        champion.refresh()
        assert champion.served.place.version == "2"
        assert len(gc.get_objects()) < gc.get_freeze_count() / 10
    finally:
        gc.unfreeze()


def test_a_server_that_is_up_is_out_of_the_collectors_way(monkeypatch):
    async def nothing(*_):
        pass

    monkeypatch.setattr("uvicorn.Server.startup", nothing)
    try:
        asyncio.run(_Server(uvicorn.Config("none")).startup())
        assert len(gc.get_objects()) < gc.get_freeze_count() / 10
    finally:
        gc.unfreeze()


def test_an_alias_that_stays_loads_nothing(champion):
    before = champion.served
    champion.refresh()
    assert champion.served is before
    assert reloads(champion) == {"loaded": 0, "failed": 0}


@pytest.mark.parametrize(
    ("uri", "can_move"),
    [
        ("models:/bookends@champion", True),
        ("models:/bookends/3", False),
        ("runs:/0123/model", False),
        ("artifacts/someone@home", False),
    ],
)
def test_only_an_alias_is_looked_at_again(uri, can_move):
    assert is_alias(uri) is can_move
