"""``bookends serve`` as a process of its own."""

import os
import re
import signal
import socket
import time
from pathlib import Path

import grpc
import psutil
import pytest
import requests
from click.testing import CliRunner

from experiments.cli import main
from experiments.serve.rpc import recommender_pb2 as pb
from experiments.serve.rpc.recommender_pb2_grpc import RecommenderStub
from experiments.serve.server import read_token
from recsys.errors import ConfigError
from tests.forked import Forked, run
from tests.waiting import wait_until

TOKEN = {"Authorization": "Bearer right"}


class Server:
    """A process, what it says, and where it listens."""

    def __init__(self, *arguments):
        words = ("-m", "experiments", "serve", "--port", "0", *arguments)
        environ = os.environ | {"BOOKENDS_TOKEN": "right"}
        self.process = Forked(*words, cwd=Path.cwd(), env=environ, forks_children=False)

    def listen(self):
        found = self.wait(lambda: re.search(r"serving on \S+:(\d+)", self.log))
        self.port = int(found[1])
        found = re.search(r"serving gRPC on (\S+)", self.log)
        self.rpc_address = found and found[1]
        return self

    @property
    def log(self):
        return self.process.said()[1]

    def get(self, path):
        address = f"http://127.0.0.1:{self.port}{path}"
        return requests.get(address, headers=TOKEN, timeout=10)

    def wait(self, is_so):
        return wait_until(is_so, process=self.process, said=lambda: self.log)


@pytest.fixture
def serve(request):
    """Starts a server, which ends with the test at the latest, and its workers with it."""

    def start(*arguments):
        server = Server(*arguments)
        request.addfinalizer(server.process.kill)
        return server.listen()

    return start


def version_by_rpc(server):
    with grpc.insecure_channel(server.rpc_address) as channel:
        metadata = [("authorization", "Bearer right")]
        return RecommenderStub(channel).Model(pb.ModelRequest(), metadata=metadata).version


def test_a_process_serves_follows_the_alias_and_ends_when_all_is_answered(store, serve):
    uri, client = store
    server = serve("--tracking-uri", uri, "--reload-seconds", "0.2", "--grpc-port", "0")
    assert server.get("/model").json()["version"] == "1"
    client.set_registered_model_alias("bookends", "champion", "2")
    server.wait(lambda: server.get("/model").json()["version"] == "2")
    assert version_by_rpc(server) == "2"
    body = b'{"user_ids": ["user-0"], "k": 1}'
    head = (
        "POST /recommend HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer right\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head.encode() + body[:5])
        time.sleep(0.3)  # the request is in work when the signal comes
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(grpc.RpcError):
            version_by_rpc(server)
        connection.sendall(body[5:])
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"model_version":"2"' in answer
    assert server.process.wait(timeout=20) == 0
    assert "Traceback" not in server.log


def models_of(server):
    """How many processes answer by each version."""
    text = server.get("/metrics").text
    found = re.findall(r'bookends_model_info{.*version="(\d)"} (\d)', text)
    return {version: int(number) for version, number in found if number != "0"}


def n_connections(process):
    return sum(connection.status == "ESTABLISHED" for connection in process.net_connections())


def test_workers_share_connections_follow_the_alias_and_are_replaced(store, serve):
    uri, client = store
    options = ("--reload-seconds", "0.2", "--grpc-port", "0", "--workers", "2")
    server = serve("--tracking-uri", uri, *options)
    parent = psutil.Process(server.process.pid)
    server.wait(lambda: models_of(server) == {"1": 2})
    assert version_by_rpc(server) == "1"
    first, second = parent.children()
    connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(40)]
    server.wait(lambda: min(map(n_connections, (first, second))) >= 5)
    for connection in connections:
        connection.close()

    first.kill()
    server.wait(lambda: len({*parent.children()} - {first}) == 2)
    assert "worker-0 ended with exit code -9 and is replaced" in server.log
    client.set_registered_model_alias("bookends", "champion", "2")
    server.wait(lambda: models_of(server) == {"2": 2})

    workers = parent.children()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=20) == 0
    assert not any(worker.is_running() for worker in workers)
    assert "Traceback" not in server.log


def test_workers_end_with_their_parent(small_paths, serve):
    server = serve("--model", small_paths[0], "--workers", "2")
    workers = psutil.Process(server.process.pid).children()
    assert len(workers) == 2
    server.process.kill()
    server.process.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive


def test_a_model_that_workers_cannot_load_is_said_in_one_line(tmp_path):
    words = ("serve", "--model", tmp_path / "none", "--port", "0", "--workers", "2")
    result = run("-m", "experiments", *words, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "must be a bundle or run directory" in result.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("option", ["--port", "--grpc-port"])
def test_a_taken_port_is_said_in_one_line(small_paths, workers, option):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        arguments = ["--model", str(small_paths[0]), "--port", 0, "--workers", workers]
        arguments += [option, port]  # the last of an option counts
        before = dict(os.environ)
        result = CliRunner().invoke(main, ["serve", *arguments])
        assert dict(os.environ) == before
    assert result.exit_code == 2
    assert result.stderr.startswith(f"bookends: '--host' and '{option}' must be free")


def test_a_model_that_is_not_there_is_said_in_one_line(tmp_path):
    result = CliRunner().invoke(main, ["serve", "--model", str(tmp_path / "none"), "--port", "0"])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "must be a bundle or run directory" in result.stderr


def test_the_token_of_a_file_goes_before_that_of_the_environment(tmp_path):
    path = tmp_path / "token"
    path.write_text("file\n")
    assert read_token(path, {"BOOKENDS_TOKEN": "environment"}) == "file"
    assert read_token(None, {"BOOKENDS_TOKEN": "environment"}) == "environment"
    assert read_token(None, {}) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        ("two words", "printable ASCII"),
        ("schlüssel", "printable ASCII"),
    ],
)
def test_a_token_that_could_not_be_sent_is_refused(tmp_path, text, said):
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_token(path, {})


def test_an_empty_token_in_the_environment_is_no_open_door():
    with pytest.raises(ConfigError, match="BOOKENDS_TOKEN"):
        read_token(None, {"BOOKENDS_TOKEN": ""})
