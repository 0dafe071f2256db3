"""What the server counts, in the form Prometheus reads."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)
SHARED_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
OTHER = "other"
"""Paths that are not told apart, as anyone can invent more."""


def is_shared() -> bool:
    """Whether several processes count together, in the files of a directory."""
    return SHARED_VARIABLE in os.environ


class Meters:
    """Counters of one server, in a registry of their own; of all its processes where it has many.

    ``SHARED_VARIABLE`` must then name a directory before prometheus_client is imported.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "bookends_requests", "Requests.", ("path", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "bookends_request_seconds",
            "Seconds from the head of a request to the end of its answer.",
            ("path",),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._together = Histogram(
            "bookends_questions_together",
            "Questions answered by one pass over the catalogue.",
            buckets=_SIZES,
            registry=self._registry,
        )
        self._reloads = Counter(
            "bookends_model_reloads", "Loads after the first.", ("result",), registry=self._registry
        )
        self._model = Gauge(
            "bookends_model_info",
            "Processes that answer by the model.",
            ("version", "run_id"),
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._bytes = Gauge(
            "bookends_model_bytes",
            "Bytes of the model.",
            registry=self._registry,
            multiprocess_mode="livemax",
        )
        self._shown: tuple[str, str] | None = None
        for result in ("loaded", "failed"):  # shown as 0 before the first
            self._reloads.labels(result)
        ProcessCollector(registry=self._registry)

    def show_model(self, version: str | None, run_id: str | None, n_bytes: int) -> None:
        """The model that answers from now on."""
        if self._shown is not None:
            self._model.labels(*self._shown).set(0)
        self._shown = version or "", run_id or ""
        self._model.labels(*self._shown).set(1)
        self._bytes.set(n_bytes)

    def count_reload(self, *, has_failed: bool) -> None:
        """A load after the first."""
        self._reloads.labels("failed" if has_failed else "loaded").inc()

    def count_pass(self, n_questions: int) -> None:
        """Questions that one pass over the catalogue answered."""
        self._together.observe(n_questions)

    def count_request(self, path: str, status: int | str, seconds: float) -> None:
        """A request that was answered; by gRPC the path is its method, the status its code."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def text(self) -> bytes:
        """All of it, in the text form of Prometheus."""
        registry = self._registry
        if is_shared():
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


@dataclass(frozen=True)
class Metered:
    """Counts the requests to an application.

    Attributes:
        app: the application.
        meters: where they are counted.
        paths: those that are told apart; all others count as one, as anyone can invent more.
    """

    app: ASGIApp
    meters: Meters
    paths: Collection[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on, and count."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, statuses = time.perf_counter(), [500]

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            path = scope["path"] if scope["path"] in self.paths else OTHER
            self.meters.count_request(path, statuses[-1], time.perf_counter() - started)
