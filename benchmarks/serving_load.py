"""Requests a second, latency and memory of servers of recommendations, under a bounded load.

    python -m benchmarks.serving_load --model artifacts/runs/NAME
    python -m benchmarks.serving_load --model artifacts/million --server bookends ann mlflow

Starts the servers on free ports, sends them requests in turn, several rounds, for the lists of
known users drawn at random, one user a request, over connections that are kept, and ends them.
Prints medians over the rounds, so that what else the machine does falls on all of them.
The client is asyncio streams: a library for HTTP would take more time than the server. It runs on
the same machine, and takes its share of it. For gRPC it is that of grpcio, which takes more.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import psutil

from experiments.serve.rpc import recommender_pb2
from recsys.recommender import Recommender
from tracking.model import resolve_bundle

KINDS = ("bookends", "workers", "ann", "grpc", "mlflow")
RPC_PATH = "/bookends.v1.Recommender/Recommend"
START_SECONDS = 1800
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


def requests(kind: str, users: list[str], k: int) -> tuple[str, tuple[bytes, ...]]:
    """Path and bodies that ask for the lists of users."""
    if kind == "grpc":
        messages = [recommender_pb2.RecommendRequest(users=[{"user_id": u}], k=k) for u in users]
        return RPC_PATH, tuple(message.SerializeToString() for message in messages)
    if kind != "mlflow":
        asked = [{"user_ids": [user], "k": k} for user in users]
        return "/recommend", tuple(json.dumps(body).encode() for body in asked)
    rows = [{"dataframe_records": [{"user_id": user}], "params": {"k": k}} for user in users]
    return "/invocations", tuple(json.dumps(body).encode() for body in rows)


async def put_under_load(port: int, load: Load, seed: int = 0) -> tuple[np.ndarray, float]:
    """Milliseconds of every request, and the seconds that all of them took.

    Raises:
        RuntimeError: a request was not answered with 200.
    """
    started = time.perf_counter()
    until = started + load.seconds
    rngs = [random.Random(seed + number) for number in range(load.n_connections)]
    ask = _ask_rpc if load.path == RPC_PATH else _ask
    lists = await asyncio.gather(*(ask(port, load, until, rng) for rng in rngs))
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


async def _ask_rpc(port: int, load: Load, until: float, rng: random.Random) -> list[float]:
    # a pool of its own, else all channels of an address share one connection
    options = [("grpc.use_local_subchannel_pool", 1)]
    milliseconds = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        call = channel.unary_unary(load.path)
        while time.perf_counter() < until:
            started = time.perf_counter()
            await call(rng.choice(load.bodies))
            milliseconds.append(1000 * (time.perf_counter() - started))
    return milliseconds


@contextmanager
def running(kind: str, bundle: Path, n_workers: int) -> Iterator[tuple[int, psutil.Process]]:
    """A server of the bundle: its port and process; ended with the context."""
    with tempfile.TemporaryDirectory() as folder:
        port, rpc_port = _free_port(), _free_port()
        command = _command(kind, bundle, port, Path(folder))
        if kind == "workers":
            command += ["--workers", str(n_workers)]
        if kind == "grpc":
            command += ["--grpc-port", str(rpc_port)]
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
            health = f"http://127.0.0.1:{port}/{'ping' if kind == 'mlflow' else 'readyz'}"
            until = time.monotonic() + START_SECONDS
            while not _is_up(health):
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError((Path(folder) / "log").read_text()[-2000:])
                time.sleep(0.2)
            print((Path(folder) / "log").read_text().strip().replace("\n", "\n  "))
            yield rpc_port if kind == "grpc" else port, psutil.Process(process.pid)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=60)


def _command(kind: str, bundle: Path, port: int, folder: Path) -> list[str]:
    if kind != "mlflow":
        start = [sys.executable, "-m", "experiments", "serve", "--model", str(bundle)]
        return [*start, "--port", str(port), *["--ann"] * (kind == "ann")]
    from tracking.model import save_model

    users = Recommender.load(bundle).users.ids.slice(0, 2).to_pylist()
    save_model(bundle, folder / "model", users=users)
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


def memory(process: psutil.Process) -> tuple[int, int, int]:
    """Bytes of a process and those it started: resident, without mapped files, shared counted once.

    The first two count what several of them hold once for each; the third shares it out.
    """
    tree = [process, *process.children(recursive=True)]
    held = [one.memory_full_info() for one in tree]
    own = sum(one.rss - one.shared for one in held)
    return sum(one.rss for one in held), own, sum(one.pss for one in held)


@dataclass(frozen=True)
class Round:
    """What one round showed.

    Attributes:
        rate: requests a second.
        percentiles: milliseconds: 50th, 95th, 99th.
        resident: bytes of the process and its children, those of mapped files included.
        own: without those.
        shared_once: resident, what several processes hold counted once.
    """

    rate: float
    percentiles: tuple[float, ...]
    resident: int
    own: int
    shared_once: int


def measure(port: int, process: psutil.Process, load: Load) -> Round:
    """One round of one server."""
    times, seconds = asyncio.run(put_under_load(port, load))
    percentiles = tuple(float(value) for value in np.percentile(times, [50, 95, 99]))
    return Round(len(times) / seconds, percentiles, *memory(process))


def describe(kind: str, n_connections: int, rounds: list[Round]) -> str:
    """Medians over the rounds, as a line."""
    p50, p95, p99 = np.median([one.percentiles for one in rounds], axis=0)
    rates = sorted(one.rate for one in rounds)
    return (
        f"{kind}, {n_connections} connections: {np.median(rates):,.0f} requests/s "
        f"({rates[0]:,.0f} to {rates[-1]:,.0f}), p50 {p50:.1f} ms, p95 {p95:.1f} ms, "
        f"p99 {p99:.1f} ms; {rounds[-1].resident / 1e6:,.0f} MB resident, "
        f"{rounds[-1].own / 1e6:,.0f} MB without mapped files, "
        f"{rounds[-1].shared_once / 1e6:,.0f} MB with shared pages counted once"
    )


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="a run directory or a bundle")
    parser.add_argument("--server", choices=KINDS, nargs="+", default=["bookends", "mlflow"])
    parser.add_argument("--workers", type=int, default=2, help="of the server 'workers'")
    parser.add_argument("--seconds", type=float, default=5.0, help="of one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--users", type=int, default=1000, help="how many to draw from")
    given = parser.parse_args()
    bundle = resolve_bundle(str(given.model), None)
    users = Recommender.load(bundle).users.ids.slice(0, given.users).to_pylist()
    loads = {kind: requests(kind, users, given.k) for kind in given.server}
    found: dict[tuple[str, int], list[Round]] = {}
    with ExitStack() as servers:
        running_now = {
            kind: servers.enter_context(running(kind, bundle, given.workers)) for kind in loads
        }
        for kind, (port, _) in running_now.items():
            asyncio.run(put_under_load(port, Load(*loads[kind], 1, WARM_SECONDS)))
        for _ in range(given.rounds):
            for n_connections, kind in itertools.product(given.connections, loads):
                load = Load(*loads[kind], n_connections, given.seconds)
                one = measure(*running_now[kind], load)
                found.setdefault((kind, n_connections), []).append(one)
    for (kind, n_connections), rounds in found.items():
        print(describe(kind, n_connections, rounds))
    print("load average of the machine, last minute:", round(os.getloadavg()[0], 1))


if __name__ == "__main__":
    main()
