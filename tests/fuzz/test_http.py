"""Damaged requests to the application of ``bookends serve``: an answer, or a reason as JSON."""

import asyncio
import contextlib
import copy
import json
import logging

import pytest

from experiments.serve.app import Service, build_app
from experiments.serve.model import CurrentModel, ModelSource

LIMITS = {"token": "t", "max_k": 50, "max_body_bytes": 10_000}
PIECES = [b"", b"\0", b"\xff", b'"', b"{", b"[" * 5000, b"}", b",", b"\\ud800", b"NaN", b"1e999"]
PIECES += [b"9" * 5000, b"null", b"-1", b"\r\n", b"\xef\xbb\xbf", b"//", b"\\", b"x" * 20_000]
PATHS = ["/healthz", "/readyz", "/model", "/metrics", "/openapi.json", "/docs", "/new-book", "/"]
PATHS += ["", "/\0", "/é", "//recommend", "/recommend/", "/new-book/similar/../../etc", "*"]
PATHS += ["http://x/"]
METHODS = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "POST ", "post", "", "TRACE", "PATCH"]
HEADS = [
    (b"content-type", [b"text/plain", b"", b"\xff", b"application/json;charset=x", b"a/b+json"]),
    (b"content-type", [b"multipart/form-data", b"application/x-www-form-urlencoded"]),
    (b"content-length", [b"0", b"-1", b"x", b"9" * 30, b"\xb2", b"1e3", b"", b"10001"]),
    (b"authorization", [b"", b"Bearer", b"Bearer \xff", b"Basic dA==", b"bearer  t ", b"Bearer x"]),
    (b"host", [b"", b"\xff", b"[", b"x:y", b"a" * 5000]),
    (b"accept", [b"text/html", b"\0"]),
    (b"x-forwarded-for", [b"\xff\xfe"]),
    (b"expect", [b"100-continue"]),
    (b"range", [b"bytes=9-1"]),
    (b"cookie", [b"\xff=;;="]),
]
NAMES = ["user_ids", "liked", "liked_ratings", "item_ids", "books", "k", "categories"]
NAMES += ["x", "\ud800"]


@pytest.fixture(scope="module")
def application(towers, towers_path):
    """The application over a model, and questions that it answers."""
    users, items = towers.users.ids.to_pylist()[:2], towers.items.ids.to_pylist()[:3]
    book = {"title": "t", "author": None, "categories": towers.books.categories[0]}
    questions = {
        "/recommend": [
            {"user_ids": [*users, None], "k": 2, "exclude_seen": False},
            {"liked": [items, []], "liked_ratings": [[1, 2, None], None], "k": 1},
            {"user_ids": ["x"], "liked": [items], "categories": [towers.books.categories[0]]},
        ],
        "/similar-items": [{"item_ids": items, "k": 2, "categories": []}],
        "/new-book/similar": [{"books": [book], "k": 3}],
        "/new-book/users": [{"books": [book, book], "k": 3}],
    }
    current = CurrentModel(ModelSource(str(towers_path)))
    current.start()
    return build_app(Service(current, **LIMITS)), questions


def damaged(rng, raw):
    """The bytes with pieces put in, in place of some."""
    for _ in range(rng.choice([1, 1, 3])):
        at = rng.randrange(len(raw) + 1)
        raw = raw[:at] + rng.choice(PIECES) + raw[at + rng.choice([0, 0, 1, 5]) :]
    return raw


def request(rng, questions, change_json):
    """A request as the server hands it on: scope and messages; the question, where it is whole."""
    path = rng.choice(list(questions))
    question = copy.deepcopy(rng.choice(questions[path]))
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        change_json(rng, question, NAMES)
    body = json.dumps(question).encode()
    if rng.random() < 0.3:
        body, question = damaged(rng, body), None
    heads = {b"content-type": b"application/json", b"authorization": b"Bearer t"}
    method, query = "POST", b""
    if rng.random() < 0.3:
        name, values = rng.choice(HEADS)
        heads[name] = rng.choice(values)
    if rng.random() < 0.1:
        method = rng.choice(METHODS)
    if rng.random() < 0.1:
        path, question = rng.choice(PATHS), None
        method = rng.choice([method, "GET"])
    if rng.random() < 0.2:
        query = damaged(rng, b"k=3&user_ids=a")
    scope = {"type": "http", "method": method, "path": path, "query_string": query}
    scope |= {"raw_path": path.encode(), "headers": list(heads.items()), "root_path": ""}
    scope |= {"http_version": "1.1", "scheme": "http", "asgi": {"version": "3.0"}}
    scope |= {"server": rng.choice([("h", 1), None]), "client": rng.choice([("c", 1), None])}
    at = rng.randrange(len(body) + 1)
    messages = [{"type": "http.request", "body": body[:at], "more_body": True}]
    messages.append({"type": "http.request", "body": body[at:], "more_body": False})
    if rng.random() < 0.05:
        messages.pop()
    return scope, [*messages, {"type": "http.disconnect"}], question


async def ask(app, scope, messages):
    """Status, and body, which may be empty where the client has gone."""
    sent, messages = [], list(messages)

    async def receive():
        return messages.pop(0) if len(messages) > 1 else messages[0]

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"] if sent else None, body


def check_answer(path, question, answer):
    """As many lists as were asked for, each of at most ``k``, ranked from 1."""
    asked = question.get("user_ids") or question.get("liked") or question.get("item_ids")
    assert len(answer["results"]) == len(asked or question["books"])
    for result in answer["results"]:
        ranked = result.get("items", result.get("users"))
        assert [each["rank"] for each in ranked] == list(range(1, len(ranked) + 1))
        assert len(ranked) <= question.get("k", 10)
        scores = [each["score"] for each in ranked]
        assert scores == sorted(scores, reverse=True) or result.get("source") == "popularity"


def no_number(text):
    raise AssertionError(f"{text} is not JSON")


def test_a_damaged_request_is_answered_or_told_why_not(
    application, inputs, tally, change_json, caplog
):
    caplog.set_level(logging.CRITICAL)
    app, questions = application

    async def run():
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(app.router.lifespan_context(app))
            for rng in inputs:
                scope, messages, question = request(rng, questions, change_json)
                status, body = await ask(app, scope, messages)
                if len(messages) == 2:  # the client has gone
                    tally["gone"] += 1
                elif status == 200:
                    if question is not None and scope["method"] == "POST":
                        answer = json.loads(body, parse_constant=no_number)
                        check_answer(scope["path"], question, answer)
                    tally["answered"] += 1
                else:
                    assert 400 <= status < 500
                    detail = json.loads(body)["detail"]
                    assert detail and "\n" not in detail and len(detail) < 600
                    tally["refused"] += 1

    asyncio.run(run())
    assert tally["answered"] > tally.total() // 10
