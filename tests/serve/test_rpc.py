"""Over gRPC the answers, limits and refusals are those of the HTTP server."""

import asyncio
import contextlib
import logging
import re
import socket
import sys
import time
from importlib import resources
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient
from google.protobuf import descriptor_pb2
from google.protobuf.json_format import MessageToDict
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_tools import protoc
from starlette.exceptions import HTTPException

from experiments.cli import main
from experiments.serve import answers, schemas
from experiments.serve.answering import as_json
from experiments.serve.app import Service, build_app
from experiments.serve.rpc import recommender_pb2 as pb
from experiments.serve.rpc.messages import question_of
from experiments.serve.rpc.recommender_pb2_grpc import RecommenderStub
from experiments.serve.rpc.service import RpcServer
from recsys.errors import ConfigError

TOKEN = [("authorization", "Bearer right")]
SECONDS = 20


class Servers:
    """Both servers over one model: a client of HTTP, and a channel of gRPC."""

    def __init__(self, current, **settings):
        service = Service(current, **settings)
        self.http = TestClient(build_app(service), raise_server_exceptions=False)
        reserved = socket.socket()
        reserved.bind(("127.0.0.1", 0))
        self.rpc = RpcServer(reserved, service)

    def __enter__(self):
        self.http.__enter__()
        self.address = self.http.portal.call(self.rpc.start)
        self.channel = grpc.insecure_channel(self.address)
        self.ask = RecommenderStub(self.channel)
        return self

    def __exit__(self, *error):
        self.channel.close()
        self.http.portal.call(self.rpc.stop, 5)
        self.http.__exit__(*error)

    def health(self, service="", **options):
        request = health_pb2.HealthCheckRequest(service=service)
        return health_pb2_grpc.HealthStub(self.channel).Check(request, timeout=SECONDS, **options)


@pytest.fixture
def open_servers(load):
    """Makes both servers over a model."""
    with contextlib.ExitStack() as opened:

        def build(uri, **settings):
            return opened.enter_context(Servers(load(uri), **settings))

        yield build


@pytest.fixture(scope="module")
def servers(load, towers_path):
    """Both servers over the recommender with towers."""
    with Servers(load(towers_path)) as servers:
        yield servers


def refusal(call, request, **options):
    with pytest.raises(grpc.RpcError) as raised:
        call(request, timeout=SECONDS, **options)
    assert "\n" not in raised.value.details()
    return raised.value.code().name, raised.value.details()


def same(answered, body):
    """Whether a response is an answer over HTTP: every field, null where it is left out."""
    if isinstance(body, dict):
        return {field.name for field in answered.DESCRIPTOR.fields} == set(body) and all(
            not answered.HasField(name) if value is None else same(getattr(answered, name), value)
            for name, value in body.items()
        )
    if isinstance(body, list):
        return len(answered) == len(body) and all(map(same, answered, body))
    return answered == body


class Ids:
    """A few ids that a recommender knows."""

    def __init__(self, recommender):
        self.users = recommender.users.ids.to_pylist()[:3]
        self.items = recommender.items.ids.to_pylist()[:3]


QUESTIONS = {
    "known users, and one without an id": lambda ids: (
        "Recommend",
        pb.RecommendRequest(users=[*({"user_id": id} for id in ids.users), {}], k=4),
        "/recommend",
        {"user_ids": [*ids.users, None], "k": 4},
    ),
    "what they have seen of a category, too": lambda ids: (
        "Recommend",
        pb.RecommendRequest(
            users=[{"user_id": ids.users[0]}], k=60, exclude_seen=False, categories=["even"]
        ),
        "/recommend",
        {"user_ids": ids.users[:1], "k": 60, "exclude_seen": False, "categories": ["even"]},
    ),
    "users by what they like": lambda ids: (
        "Recommend",
        pb.RecommendRequest(
            users=[
                {"liked": [{"item_id": ids.items[0], "rating": 5}, {"item_id": ids.items[1]}]},
                {"user_id": "stranger"},
                {"user_id": ids.users[0], "liked": [{"item_id": ids.items[2], "rating": 1}]},
            ]
        ),
        "/recommend",
        {
            "user_ids": [None, "stranger", ids.users[0]],
            "liked": [ids.items[:2], [], ids.items[2:]],
            "liked_ratings": [[5, None], [], [1]],
        },
    ),
    "items, one of them twice": lambda ids: (
        "SimilarItems",
        pb.SimilarItemsRequest(item_ids=[*ids.items, ids.items[0]], k=2),
        "/similar-items",
        {"item_ids": [*ids.items, ids.items[0]], "k": 2},
    ),
    "new books": lambda ids: (
        "NewBookSimilar",
        pb.NewBookSimilarRequest(books=[{"title": "A title"}, {"categories": "Even"}], k=3),
        "/new-book/similar",
        {"books": [{"title": "A title"}, {"categories": "Even"}], "k": 3},
    ),
    "users of new books": lambda ids: (
        "NewBookUsers",
        pb.NewBookUsersRequest(books=[{"title": "A title"}], k=3),
        "/new-book/users",
        {"books": [{"title": "A title"}], "k": 3},
    ),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_an_answer_is_that_of_http_to_the_bit(servers, towers, name):
    method, request, path, question = QUESTIONS[name](Ids(towers))
    body = servers.http.post(path, json=question)
    assert body.status_code == 200, body.text
    answered = getattr(servers.ask, method)(request, timeout=SECONDS)
    assert answered.results
    assert same(answered, body.json())


def test_ratings_and_numbers_become_those_of_the_question():
    """None of today's models weighs ratings, so they are looked at on their way."""
    users = [{"liked": [{"item_id": "a", "rating": 2.5}, {"item_id": "b"}]}, {"user_id": "u"}]
    question = question_of(schemas.RecommendQuestion, pb.RecommendRequest(users=users))
    assert question.liked_ratings == [[2.5, None], []]
    books = [{"title": "T", "numbers": {"pages": 300}}]
    question = question_of(schemas.NewBookSimilarQuestion, pb.NewBookSimilarRequest(books=books))
    assert question.books[0].model_dump(exclude_none=True) == {"title": "T", "pages": 300.0}


def test_the_model_is_shown(servers):
    shown = MessageToDict(servers.ask.Model(pb.ModelRequest()), preserving_proto_field_name=True)
    body = servers.http.get("/model").json()
    numbers = {name: int(shown.pop(name)) for name in ("n_users", "n_items", "n_bytes")}
    assert shown | numbers == {name: value for name, value in body.items() if value is not None}


SAME_LINE = [
    (
        "Recommend",
        pb.RecommendRequest(users=[{}], k=1001),
        "/recommend",
        {"user_ids": [None], "k": 1001},
    ),
    (
        "SimilarItems",
        pb.SimilarItemsRequest(item_ids=["nothing"]),
        "/similar-items",
        {"item_ids": ["nothing"]},
    ),
    (
        "NewBookUsers",
        pb.NewBookUsersRequest(books=[{"numbers": {"weight": 3}}]),
        "/new-book/users",
        {"books": [{"weight": 3}]},
    ),
]


@pytest.mark.parametrize(("method", "request_", "path", "question"), SAME_LINE)
def test_a_refusal_says_the_line_of_http(servers, method, request_, path, question):
    body = servers.http.post(path, json=question)
    assert body.status_code == 422
    expected = ("INVALID_ARGUMENT", body.json()["detail"])
    assert refusal(getattr(servers.ask, method), request_) == expected


NAN = float("nan")


@pytest.mark.parametrize(
    ("method", "request_", "line"),
    [
        ("Recommend", pb.RecommendRequest(), "users: "),
        (
            "Recommend",
            pb.RecommendRequest(users=[{}, {"liked": [{"item_id": "a", "rating": NAN}]}]),
            "users.1.liked.0.rating: Input should be a finite number",
        ),
        (
            "Recommend",
            pb.RecommendRequest(users=[{}, {"liked": [{"item_id": "a"}] * 10_001}]),
            "users.1.liked: List should have at most 10000 items",
        ),
        (
            "NewBookSimilar",
            pb.NewBookSimilarRequest(books=[{"title": "T", "numbers": {"title": 3}}]),
            "books.0.title: Input should be a valid string",
        ),
    ],
)
def test_a_refusal_says_where_in_the_request(servers, method, request_, line):
    code, said = refusal(getattr(servers.ask, method), request_)
    assert code == "INVALID_ARGUMENT"
    assert said.startswith(line)


def test_connections_beyond_the_limit_are_closed(open_servers, small_paths, monkeypatch):
    monkeypatch.setattr("experiments.serve.rpc.service.most_descriptors", lambda: 4)
    servers = open_servers(small_paths[0])
    host, port = servers.address.split(":")
    with contextlib.ExitStack() as opened:
        greetings = []
        for _ in range(3):
            connection = socket.create_connection((host, int(port)), timeout=SECONDS)
            opened.enter_context(connection)
            try:
                greetings.append(connection.recv(100) != b"")  # the settings of HTTP/2, or the end
            except ConnectionError:
                greetings.append(False)
    assert greetings == [True, True, False]


def test_bytes_that_are_no_message_are_refused(servers):
    call = servers.channel.unary_unary("/bookends.v1.Recommender/Recommend")
    expected = ("INVALID_ARGUMENT", "the request must be a message of the .proto")
    assert refusal(call, b"\xff\xff") == expected


def test_the_limits_are_the_servers(open_servers, towers_path):
    servers = open_servers(towers_path, max_k=3, max_body_bytes=100)
    users = [{"user_id": "u"}]
    assert servers.ask.Recommend(pb.RecommendRequest(users=users, k=3), timeout=SECONDS).results
    code, line = refusal(servers.ask.Recommend, pb.RecommendRequest(users=users, k=4))
    assert (code, "at most 3 on this server" in line) == ("INVALID_ARGUMENT", True)
    large = pb.RecommendRequest(users=[{"user_id": "u" * 200}])
    code, line = refusal(servers.ask.Recommend, large)
    assert (code, "100" in line) == ("RESOURCE_EXHAUSTED", True)


def test_questions_of_both_servers_wait_together(
    open_servers, small_paths, held_question, monkeypatch
):
    begun, may_end = held_question
    monkeypatch.setattr("experiments.serve.app.MOST_WAITING", 1)
    servers = open_servers(small_paths[0])
    request = pb.RecommendRequest(users=[{"user_id": "user-0"}], k=1)
    first = servers.ask.Recommend.future(request, timeout=SECONDS)
    assert begun.wait(SECONDS)
    body = servers.http.post("/recommend", json={"user_ids": ["user-0"], "k": 1})
    assert body.status_code == 503
    expected = ("UNAVAILABLE", body.json()["detail"])
    assert refusal(servers.ask.Recommend, request) == expected
    assert servers.health().status == health_pb2.HealthCheckResponse.SERVING
    may_end.set()
    assert len(first.result().results) == 1


def test_a_call_in_work_is_answered_before_the_end(open_servers, small_paths, held_question):
    begun, may_end = held_question
    servers = open_servers(small_paths[0])
    request = pb.RecommendRequest(users=[{"user_id": "user-0"}], k=1)
    first = servers.ask.Recommend.future(request, timeout=SECONDS)
    assert begun.wait(SECONDS)
    ended = servers.http.portal.start_task_soon(servers.rpc.stop, SECONDS)
    until = time.monotonic() + SECONDS
    with contextlib.suppress(grpc.RpcError):  # it takes no new calls before long
        while time.monotonic() < until:
            servers.health(metadata=[])
    assert time.monotonic() < until
    assert not ended.done() and not first.done()
    may_end.set()
    assert len(first.result().results) == 1
    ended.result(SECONDS)


def test_after_the_end_of_the_threads_a_question_is_refused(load, small_paths):
    service = Service(load(small_paths[0]))
    service.end()
    question = schemas.SimilarItemsQuestion(item_ids=["book-0"])
    with pytest.raises(HTTPException, match="about to end"):
        asyncio.run(service.answer(answers.similar_items, question, as_json))


def test_a_mistake_of_ours_shows_no_trace(open_servers, small_paths, our_mistake, caplog):
    servers = open_servers(small_paths[0])
    with caplog.at_level(logging.ERROR):
        said = refusal(servers.ask.Recommend, pb.RecommendRequest(users=[{}]))
    assert said == ("INTERNAL", "the server made a mistake; its log says which")
    assert "ZeroDivisionError" in caplog.text


class TestToken:
    @pytest.fixture
    def guarded(self, open_servers, small_paths):
        return open_servers(small_paths[0], token="right")

    @pytest.mark.parametrize(
        "metadata", [[], [("authorization", "Bearer wrong")], [("authorization", "right")]]
    )
    def test_nothing_is_answered_without_it(self, guarded, metadata):
        body = guarded.http.get("/model")
        for call, request in (
            (guarded.ask.Model, pb.ModelRequest()),
            (guarded.ask.Recommend, pb.RecommendRequest()),
            (guarded.channel.unary_unary("/invented/Method"), b""),
        ):
            said = refusal(call, request, metadata=metadata)
            assert said == ("UNAUTHENTICATED", body.json()["detail"])
        with pytest.raises(grpc.RpcError) as raised:
            ProtoReflectionDescriptorDatabase(guarded.channel).get_services()
        assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED

    def test_with_it_all_is_answered(self, guarded):
        model = guarded.ask.Model(pb.ModelRequest(), metadata=TOKEN, timeout=SECONDS)
        assert model.n_users == 3

    def test_health_needs_none(self, guarded):
        assert guarded.health().status == health_pb2.HealthCheckResponse.SERVING


def test_calls_are_counted_by_method_and_code(open_servers, small_paths):
    servers = open_servers(small_paths[0])
    servers.ask.Recommend(pb.RecommendRequest(users=[{}], k=1), timeout=SECONDS)
    refusal(servers.ask.Recommend, pb.RecommendRequest(users=[{}], k=0))
    assert refusal(servers.channel.unary_unary("/invented/Method"), b"")[0] == "UNIMPLEMENTED"
    text = servers.http.get("/metrics").text
    method = "/bookends.v1.Recommender/Recommend"
    for code in ("OK", "INVALID_ARGUMENT"):
        assert f'bookends_requests_total{{path="{method}",status="{code}"}} 1.0' in text
    assert f'bookends_request_seconds_count{{path="{method}"}} 2.0' in text
    assert "invented" not in text


def test_reflection_describes_the_service_as_the_proto_does(servers):
    database = ProtoReflectionDescriptorDatabase(servers.channel)
    assert "bookends.v1.Recommender" in database.get_services()
    shown = database.FindFileContainingSymbol("bookends.v1.Recommender")
    expected = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(expected)
    assert shown == expected


def test_health_knows_the_service_and_no_other(servers):
    name = "bookends.v1.Recommender"
    assert servers.health(name).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as raised:
        servers.health("other")
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


def test_the_generated_code_is_that_of_the_proto(tmp_path):
    folder = resources.files("experiments.serve.rpc")
    roots = [f"-I{Path(str(folder)).parents[2]}", f"-I{resources.files('grpc_tools') / '_proto'}"]
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi")]
    source = "experiments/serve/rpc/recommender.proto"
    assert protoc.main(["protoc", *roots, *outputs, source]) == 0
    made = sorted((tmp_path / source).parent.iterdir())
    assert [path.name for path in made] == ["recommender_pb2.py", "recommender_pb2.pyi"]
    new, old = ([(at / path.name).read_text() for path in made] for at in (made[0].parent, folder))
    versions = [re.search("Protobuf Python Version: .*", text)[0] for text, _ in (new, old)]
    if versions[0] != versions[1]:
        pytest.skip(f"generated by another one: {versions}")
    assert new == old, "make proto"


def test_without_the_extra_one_line_says_what_to_install(small_paths, monkeypatch):
    monkeypatch.delitem(sys.modules, "experiments.serve.rpc.service", raising=False)
    monkeypatch.setitem(sys.modules, "grpc_health.v1", None)
    arguments = ["serve", "--model", str(small_paths[0]), "--port", "0", "--grpc-port", "0"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("bookends: '--grpc-port' needs gRPC: pip install")
    assert result.stderr.count("\n") == 1


def test_a_port_that_was_taken_since_is_said(load, small_paths):
    with socket.socket() as other:

        class Reserved(socket.socket):
            def close(self):
                address = self.getsockname()
                super().close()
                other.bind(address)

        reserved = Reserved()
        reserved.bind(("127.0.0.1", 0))
        server = RpcServer(reserved, Service(load(small_paths[0])))
        with pytest.raises(ConfigError, match="'--grpc-port' must be free"):
            asyncio.run(server.start())
