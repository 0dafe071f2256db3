"""What the server refuses: with a 4xx and one line, never with a trace or a wrong list."""

import json
import logging

import pytest
from fastapi.testclient import TestClient

from experiments.serve.app import Service, build_app
from experiments.serve.model import CurrentModel, ModelSource


def detail_of(answer, status):
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert list(body) == ["detail"]
    assert "\n" not in body["detail"] and "Traceback" not in body["detail"]
    assert len(body["detail"]) < 600
    return body["detail"]


BAD = [
    ("/recommend", {}, "'user_ids' or 'liked' must be given"),
    ("/recommend", {"user_ids": []}, "body.user_ids"),
    ("/recommend", {"user_ids": "r1"}, "body.user_ids"),
    ("/recommend", {"user_ids": [1]}, "body.user_ids"),
    ("/recommend", {"user_ids": ["r"] * 1001}, "at most 1000"),
    ("/recommend", {"user_ids": ["\ud800"]}, "unicode"),
    ("/recommend", {"liked": [["\ud800"]]}, "unicode"),
    ("/recommend", {"user_ids": ["r"], "categories": ["\ud800"]}, "unicode"),
    ("/similar-items", {"item_ids": ["\ud800"]}, "unicode"),
    ("/new-book/similar", {"books": [{"title": "\ud800"}]}, "unicode"),
    ("/recommend", {"liked": ["b1"]}, "body.liked"),
    ("/recommend", {"liked_ratings": [[1.0]], "user_ids": ["r"]}, "given with 'liked'"),
    ("/recommend", {"liked": [["b1"]], "liked_ratings": [[1, 2]]}, "got 2 for 1 items"),
    ("/recommend", {"liked": [["b1"]], "liked_ratings": [["5"]]}, "body.liked_ratings"),
    ("/recommend", {"user_ids": ["r"], "liked": [[], []]}, "got 1 and 2"),
    ("/recommend", {"user_ids": ["r"], "k": 0}, "body.k"),
    ("/recommend", {"user_ids": ["r"], "k": "5"}, "body.k"),
    ("/recommend", {"user_ids": ["r"], "k": 2.5}, "body.k"),
    ("/recommend", {"user_ids": ["r"], "k": True}, "body.k"),
    ("/recommend", {"user_ids": ["r"], "k": 1001}, "at most 1000 on this server, got 1001"),
    ("/recommend", {"user_ids": ["r"], "k": 999}, "the catalogue"),
    ("/recommend", {"user_ids": ["r"] * 500, "k": 900}, "got 900 times 500"),
    ("/recommend", {"user_ids": ["r"], "exclude_seen": "no"}, "body.exclude_seen"),
    ("/recommend", {"user_ids": ["r"], "exclude_read": True}, "body.exclude_read"),
    ("/recommend", {"user_ids": ["r"], "categories": ["Nonsense"]}, "Nonsense"),
    ("/similar-items", {"item_ids": ["nothing"]}, "must be in the catalogue, got 'nothing'"),
    ("/similar-items", {"item_ids": ["x" * 9000]}, "must be in the catalogue"),
    ("/similar-items", {"user_ids": ["r"]}, "body.item_ids"),
    ("/new-book/similar", {"books": [{}]}, "book 0 has none"),
    ("/new-book/similar", {"books": [{"weight": 3}]}, "got 'weight'"),
    ("/new-book/similar", {"books": [{"weight": "heavy"}]}, "body.books.0.weight"),
    ("/new-book/similar", {"books": [{"\ud800": 3}]}, "book"),
    ("/new-book/similar", {"books": [{"weight": 10**400}]}, "weight"),
    ("/recommend", {"\ud800": 3}, "body"),
    ("/recommend", {"user_ids": ["r"], "k": 10**400}, "k"),
    ("/new-book/users", {"books": [{"title": 3}]}, "body.books.0.title"),
    ("/new-book/users", {"books": [{"title": "t"}], "categories": ["Even"]}, "body.categories"),
]


@pytest.mark.parametrize(("path", "question", "said"), BAD)
def test_bad_input_is_refused_with_one_line(client, path, question, said):
    body = json.dumps(question)  # with escapes, so that half a character can be sent
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert said in detail_of(answer, 422)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"user_ids": ["r"], "k": NaN}']
)
def test_a_body_that_is_no_json_is_refused(client, body):
    answer = client.post("/recommend", content=body, headers={"Content-Type": "application/json"})
    detail_of(answer, 422 if body == b"" or b"NaN" in body else 400)


def test_what_is_not_there_is_refused_with_one_line(client):
    detail_of(client.get("/nothing"), 404)
    detail_of(client.get("/recommend"), 405)
    detail_of(client.post("/recommend/", json={}, follow_redirects=False), 404)


def test_a_model_without_towers_refuses_new_books(open_client, small_paths):
    client = open_client(small_paths[0])
    answer = client.post("/new-book/similar", json={"books": [{"title": "t"}], "k": 1})
    assert "towers" in detail_of(answer, 422)


def test_the_limit_of_k_is_the_servers(open_client, towers_path):
    client = open_client(towers_path, max_k=3)
    assert client.post("/recommend", json={"user_ids": [None], "k": 3}).status_code == 200
    detail_of(client.post("/recommend", json={"user_ids": [None], "k": 4}), 422)


def test_a_mistake_of_ours_shows_no_trace(open_client, small_paths, our_mistake, caplog):
    client = open_client(small_paths[0])
    with caplog.at_level(logging.ERROR):
        answer = client.post("/recommend", json={"user_ids": ["r"]})
    assert "secret" not in detail_of(answer, 500)
    assert "/recommend failed" in caplog.text


def test_a_mistake_of_ours_reaches_the_server_whole_which_logs_its_trace(
    load, small_paths, our_mistake
):
    client = TestClient(build_app(Service(load(small_paths[0]))))
    with client, pytest.raises(ZeroDivisionError) as raised:
        client.post("/recommend", json={"user_ids": ["r"]})
    assert raised.traceback[-1].name == "fail"


class TestToken:
    @pytest.fixture
    def guarded(self, open_client, small_paths):
        return open_client(small_paths[0], token="right")

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Bearer "},
            {"Authorization": "Basic right"},
            {"Authorization": "right"},
            {"Authorization": b"Bearer r\xefght"},
        ],
    )
    @pytest.mark.parametrize("path", ["/recommend", "/model", "/metrics", "/openapi.json", "/x"])
    def test_nothing_is_answered_without_it(self, guarded, headers, path):
        answer = guarded.get(path, headers=headers)
        detail_of(answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Bearer"

    def test_with_it_all_is_answered(self, guarded):
        headers = {"Authorization": "Bearer right"}
        assert guarded.get("/model", headers=headers).status_code == 200
        question = {"user_ids": ["user-1"], "k": 1}
        answer = guarded.post("/recommend", json=question, headers=headers)
        assert answer.status_code == 200

    @pytest.mark.parametrize("path", ["/healthz", "/readyz"])
    def test_health_needs_none(self, guarded, path):
        assert guarded.get(path).status_code == 200


class TestBodyLimit:
    QUESTION = b'{"user_ids": ["user-1"], "k": 1}'

    @pytest.fixture
    def limited(self, open_client, small_paths):
        return open_client(small_paths[0], max_body_bytes=100)

    def send(self, client, body):
        return client.post("/recommend", content=body, headers={"Content-Type": "application/json"})

    def test_a_body_at_the_limit_is_answered_and_one_byte_more_is_not(self, limited):
        at_limit = self.QUESTION.ljust(100)
        assert self.send(limited, at_limit).status_code == 200
        assert "at most 100 bytes" in detail_of(self.send(limited, at_limit + b" "), 413)

    def test_a_chunked_body_has_the_same_limit(self, limited, monkeypatch):
        monkeypatch.setattr("experiments.serve.guards.DRAIN_SECONDS", 0.05)
        assert self.send(limited, iter([self.QUESTION[:10], self.QUESTION[10:]])).status_code == 200
        detail_of(self.send(limited, (b" " * 50 for _ in range(3))), 413)


def test_without_a_model_the_server_lives_but_is_not_ready(small_paths):
    current = CurrentModel(ModelSource(str(small_paths[0])))
    with TestClient(build_app(Service(current))) as client:
        assert client.get("/healthz").status_code == 200
        detail_of(client.get("/readyz"), 503)
        detail_of(client.post("/recommend", json={"user_ids": ["user-1"]}), 503)


def test_more_questions_than_may_wait_are_refused(open_client, small_paths, monkeypatch):
    monkeypatch.setattr("experiments.serve.app.MOST_WAITING", 0)
    answer = open_client(small_paths[0]).post("/recommend", json={"user_ids": ["r"], "k": 1})
    detail_of(answer, 503)
    assert answer.headers["Retry-After"] == "1"


def test_requests_are_counted_by_path_and_status(open_client, small_paths):
    client = open_client(small_paths[0])
    client.post("/recommend", json={"user_ids": ["user-1"], "k": 1})
    client.post("/recommend", json={})
    client.get("/invented-1")
    client.get("/invented-2")
    text = client.get("/metrics").text
    assert 'bookends_requests_total{path="/recommend",status="200"} 1.0' in text
    assert 'bookends_requests_total{path="/recommend",status="422"} 1.0' in text
    assert 'bookends_requests_total{path="other",status="404"} 2.0' in text
    assert 'bookends_request_seconds_count{path="/recommend"} 2.0' in text
