"""Connections that ask nothing: they end, and they take no more descriptors than are to spare."""

import asyncio
import logging
import os
import resource
import socket

import pytest
import uvicorn

from experiments.serve import connections
from experiments.serve.connections import SPARE_DESCRIPTORS, Listener, TimedProtocol


@pytest.fixture
def listener(monkeypatch):
    """A process of many tests may hold more descriptors than a server ever does."""
    monkeypatch.setattr(connections, "MAX_DESCRIPTORS", 2**20)
    with Listener() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        yield listener


async def empty(scope, receive, send):
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def exchange(listener, sent):
    """What comes back for the given bytes until the server closes the connection."""
    config = uvicorn.Config(
        empty, http=TimedProtocol, log_config=None, lifespan="off", access_log=False
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve([listener]))
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    for part in sent:
        writer.write(part)
        await asyncio.sleep(0.02)
    try:
        return await asyncio.wait_for(reader.read(), timeout=5)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()
        server.should_exit = True
        await serving


def test_a_head_that_does_not_end_closes_the_connection_though_bytes_come(listener, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.1)
    head = [b"GET / HTTP/1.1\r\n", b"Host: here\r\n", b"X"]
    assert asyncio.run(exchange(listener, head)) == b""


def test_a_half_head_after_an_answer_closes_the_connection_too(listener, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.1)
    sent = [b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", b"GET / HTTP/1.1\r\n"]
    assert asyncio.run(exchange(listener, sent)).startswith(b"HTTP/1.1 204")


def test_connections_leave_descriptors_free_and_that_is_said_once(listener, monkeypatch, caplog):
    caplog.set_level(logging.WARNING, logger="bookends")
    monkeypatch.setattr(logging.getLogger("bookends"), "propagate", True)
    free = [os.dup(0) for _ in range(2 * 3)]  # three connections have two ends each here
    for descriptor in free:
        os.close(descriptor)
    limit = max(free) + 1 + SPARE_DESCRIPTORS
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    ends = []
    try:
        for _ in range(3):
            ends.append(socket.create_connection(listener.getsockname(), timeout=5))
            ends.append(listener.accept()[0])
        for _ in range(2):
            ends.append(socket.create_connection(listener.getsockname(), timeout=5))
            with pytest.raises(BlockingIOError):
                listener.accept()
            assert ends[-1].recv(1) == b""
    finally:
        for end in ends:
            end.close()
    assert len(caplog.messages) == 1
