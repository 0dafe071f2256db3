"""What a connection may take before it has asked anything: a file descriptor, and seconds."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from experiments.serve.model import LOG

HEAD_SECONDS = 10.0
"""A request whose head takes longer is given up, and its connection is closed."""
MAX_DESCRIPTORS = 1024
SPARE_DESCRIPTORS = 32
"""File descriptors that connections leave free for the model, the store and the log."""
SECONDS_BETWEEN_WARNINGS = 60.0


def most_descriptors() -> int:
    """File descriptors that this process may hold."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_DESCRIPTORS if soft == resource.RLIM_INFINITY else min(soft, MAX_DESCRIPTORS)


class Listener(socket.socket):
    """A listening socket that closes what it accepts while file descriptors are scarce.

    asyncio takes all waiting connections before it looks at the first, and logs a trace for each
    that finds no descriptor; so the limit must stand here. The system gives the lowest free
    descriptor, which therefore tells how many are in use.
    """

    _warned = float("-inf")

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection.

        Raises:
            BlockingIOError: none waits, or the next was closed.
        """
        connection, address = super().accept()
        most = most_descriptors()
        if connection.fileno() < most - SPARE_DESCRIPTORS:
            return connection, address
        connection.close()
        if time.monotonic() - self._warned > SECONDS_BETWEEN_WARNINGS:
            self._warned = time.monotonic()
            LOG.warning("too many open connections for %d file descriptors; new ones close", most)
        raise BlockingIOError


def address_of(listener: socket.socket) -> str:
    """Host and port of a socket, as an address names them."""
    host, port = listener.getsockname()[:2]
    return f"{f'[{host}]' if ':' in host else host}:{port}"


class TimedProtocol(H11Protocol):
    """HTTP whose connections are closed when the head of a request is not there in time."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._time_head()

    def data_received(self, data: bytes) -> None:
        """Wait no more where the head is whole; a timer that runs is not set anew by each byte."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_timer()
        elif not self.transport.is_closing():
            self._time_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_timer()
        super().connection_lost(exc)

    def _time_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
