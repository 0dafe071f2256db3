"""Requests a second, latency and memory of a server of recommendations, under a bounded load.

    python -m benchmarks.serving_load artifacts/million
    python -m benchmarks.serving_load artifacts/million --server mlflow --seconds 10
    python -m benchmarks.serving_load artifacts/million --ann

Starts the server on a free port, asks it for the lists of known readers drawn at random, one reader
a request, over connections that are kept, and ends it.
The client is asyncio streams: a library for HTTP would take more time than the server. It runs on
the same machine, and takes its share of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from recsys.recommender import Recommender

START_SECONDS = 600
WARM_SECONDS = 2.0


@dataclass(frozen=True)
class Load:
    """What is sent.

    Attributes:
        path: where to.
        bodies: of the requests, drawn from at random.
        n_connections: requests in work at once.
        seconds: for how long.
    """

    path: str
    bodies: tuple[bytes, ...]
    n_connections: int
    seconds: float


def questions(kind: str, readers: list[str], k: int) -> tuple[str, tuple[bytes, ...]]:
    """Path and bodies that ask for the lists of readers."""
    if kind == "bookends":
        asked = [{"user_ids": [reader], "k": k} for reader in readers]
        return "/recommend", tuple(json.dumps(body).encode() for body in asked)
    rows = [{"dataframe_records": [{"user_id": reader}], "params": {"k": k}} for reader in readers]
    return "/invocations", tuple(json.dumps(body).encode() for body in rows)


async def put_under_load(port: int, load: Load, seed: int = 0) -> tuple[np.ndarray, float]:
    """Milliseconds of every request, and the seconds that all of them took.

    Raises:
        RuntimeError: a request was not answered with 200.
    """
    started = time.perf_counter()
    until = started + load.seconds
    rngs = [random.Random(seed + number) for number in range(load.n_connections)]
    lists = await asyncio.gather(*(_ask(port, load, until, rng) for rng in rngs))
    return np.concatenate([np.array(times) for times in lists]), time.perf_counter() - started


async def _ask(port: int, load: Load, until: float, rng: random.Random) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    milliseconds = []
    try:
        while time.perf_counter() < until:
            body = rng.choice(load.bodies)
            head = f"POST {load.path} HTTP/1.1\r\nHost: localhost\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            started = time.perf_counter()
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            lines = answer.lower().split(b"\r\n")
            length = next(line for line in lines if line.startswith(b"content-length:"))
            content = await reader.readexactly(int(length.partition(b":")[2]))
            if b" 200 " not in lines[0]:
                raise RuntimeError(f"must be answered with 200, got {content[:300]!r}")
            milliseconds.append(1000 * (time.perf_counter() - started))
    finally:
        writer.close()
    return milliseconds


@contextmanager
def running(kind: str, bundle: Path, arguments: list[str]) -> Iterator[tuple[int, psutil.Process]]:
    """A server of the bundle: its port and process; ended with the context."""
    with tempfile.TemporaryDirectory() as folder:
        port = _free_port()
        command = _command(kind, bundle, port, Path(folder)) + arguments
        path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
        with (Path(folder) / "log").open("w") as log:
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env=os.environ | {"PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"},
                start_new_session=True,
            )
        try:
            health = f"http://127.0.0.1:{port}/{'readyz' if kind == 'bookends' else 'ping'}"
            until = time.monotonic() + START_SECONDS
            while not _is_up(health):
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError((Path(folder) / "log").read_text()[-2000:])
                time.sleep(0.2)
            print((Path(folder) / "log").read_text().strip().replace("\n", "\n  "))
            yield port, psutil.Process(process.pid)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=60)


def _command(kind: str, bundle: Path, port: int, folder: Path) -> list[str]:
    if kind == "bookends":
        start = [sys.executable, "-m", "experiments", "serve", "--model", str(bundle)]
        return [*start, "--port", str(port)]
    from tracking.model import save_model

    readers = Recommender.load(bundle).users.ids.slice(0, 2).to_pylist()
    save_model(bundle, folder / "model", readers=readers)
    start = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder / "model")]
    return [*start, "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _is_up(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def memory(process: psutil.Process) -> tuple[int, int]:
    """Bytes of a process and those it started: resident, and resident without mapped files."""
    tree = [process, *process.children(recursive=True)]
    held = [one.memory_info() for one in tree]
    return sum(one.rss for one in held), sum(one.rss - one.shared for one in held)


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--server", choices=("bookends", "mlflow"), default="bookends")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--readers", type=int, default=1000, help="how many to draw from")
    parser.add_argument("--ann", action="store_true", help="bookends alone: search by an index")
    given = parser.parse_args()
    readers = Recommender.load(given.bundle).users.ids.slice(0, given.readers).to_pylist()
    path, bodies = questions(given.server, readers, given.k)
    with running(given.server, given.bundle, ["--ann"] * given.ann) as (port, process):
        asyncio.run(put_under_load(port, Load(path, bodies, 1, WARM_SECONDS)))
        for n_connections in given.connections:
            load = Load(path, bodies, n_connections, given.seconds)
            times, seconds = asyncio.run(put_under_load(port, load))
            p50, p95, p99 = np.percentile(times, [50, 95, 99])
            resident, own = memory(process)
            print(
                f"{given.server}, {n_connections} connections: {len(times) / seconds:,.0f} "
                f"requests/s, p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms, "
                f"{len(times):,} requests; {resident / 1e6:,.0f} MB resident, "
                f"{own / 1e6:,.0f} MB without mapped files"
            )


if __name__ == "__main__":
    main()
