"""A worker on another machine, and what its parent serves it in place of a shared disk.

The study goes through Optuna's gRPC proxy, of which no public name starts one on a free port and
ends it again. The files of finalists, and where each worker is, go through the same server. Nothing
in it asks who calls.
"""

from __future__ import annotations

import re
import socket
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, GrpcStorageProxy
from optuna.storages._grpc.auto_generated import api_pb2_grpc
from optuna.storages._grpc.servicer import OptunaStorageProxyService

from experiments.settings import Tree
from experiments.signals import Interrupted
from experiments.sweep.directory import SweepDirectory
from experiments.sweep.shipping import ShippedFile, finder
from experiments.sweep.state import Assignment, load_state
from experiments.sweep.trial import FindData
from experiments.sweep.worker import Place, StopCheck, Worker
from recsys.artifacts import replacement
from recsys.config import DataConfig
from recsys.errors import ConfigError, TrackingError
from sweeps.storage import Storage, open_storage
from tracking.processes import Owner

SERVICE, PUT, ARRIVE, NAME = "bookends.Sweep", "Put", "Arrive", "name"
ANSWER_SECONDS = 30.0
CHUNK_BYTES = 1 << 20
_FILE_NAME = re.compile(r"trial-\d+-seed-\d+\.(parquet|npz)")
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@dataclass(frozen=True)
class Remote:
    """What a worker is given that shares nothing with its parent but the network."""

    launch: str
    """Name of this one start."""
    parent: Owner
    address: str
    """HOST:PORT of what the parent serves."""
    data: tuple[ShippedFile, ...] | None
    """The prepared data set; None where all machines have it."""
    changes: Tree
    """Settings that differ from those of the study: whole paths, and where data sets are kept."""
    tracking_uri: str | None
    """None for no tracker that all machines reach."""


def work(assignment: Assignment, remote: Remote, get: Callable[[Any], Any], node: str) -> None:
    """Run trials until none is left, or a signal comes; the trial under way is queued again then.

    Args:
        assignment: of the worker; its storage is empty where the parent's proxy is meant.
        remote: what goes with it.
        get: gives the array that a part of the data set stands for.
        node: of the cluster, on which it runs.

    Raises:
        TrackingError: the parent is gone.
        BookendsError: what speaks against this machine, as data that it cannot get.
    """
    url, stop = assignment.storage, StopCheck()
    storage = open_storage(url) if url else open_proxy(remote.address)
    try:
        with stop.on_signals(), suppress(Interrupted):
            report_node(remote.address, remote.launch, node)
            state = load_state(storage, assignment.study)
            place = _place(remote, assignment, finder(state.fingerprint, remote.data, get))
            Worker(assignment, state, remote.changes, storage, stop, place).run()
    except grpc.RpcError as error:
        details = error.details() if isinstance(error, grpc.Call) else error
        raise TrackingError(
            f"the sweep's parent at {remote.address} no longer answers ({details})"
        ) from None
    finally:
        storage.close()


def _place(remote: Remote, assignment: Assignment, find: FindData) -> Place:
    launch = {"name": remote.launch, "parent": asdict(remote.parent)}
    return Place(
        name=f"worker-{assignment.index}",
        tracking_uri=remote.tracking_uri,
        find_data=find,
        keep_finalist=lambda *given: _send_finalist(remote.address, *given),
        note={"launch": launch},
    )


def _send_finalist(address: str, *given: Any) -> None:
    """Have a finalist's files in the sweep's directory, on the parent's machine."""
    with tempfile.TemporaryDirectory() as place:
        directory = SweepDirectory(Path(place))
        directory.keep_finalist(*given)
        for path in directory.finalists_dir.iterdir():
            put_file(address, path)


def whole_paths(config: DataConfig, cache_dir: Path | None) -> dict[str, str]:
    """The settings of the data that name files, as they hold in any working directory."""
    places: dict[str, Path | str] = {f"{name}_path": at for name, at in config.sources.items()}
    places["cache_dir"] = cache_dir or config.cache_dir
    return {
        name: str(place.absolute() if isinstance(place, Path) else place)
        for name, place in places.items()
    }


@contextmanager
def served(
    storage: BaseStorage, files_dir: Path, host: str, n_workers: int, nodes: dict[str, str]
) -> Iterator[int]:
    """Serve a study until the block ends; gives the port.

    Args:
        storage: of the study.
        files_dir: where finalists' files go.
        host: address to listen at.
        n_workers: that are to be served at once.
        nodes: is told where each worker is, by the name of its start.
    """
    threads = ThreadPoolExecutor(max(10, 2 * n_workers))
    options = [*_UNLIMITED, ("grpc.so_reuseport", 0)]
    server = grpc.server(threads, options=options)
    api_pb2_grpc.add_StorageServiceServicer_to_server(OptunaStorageProxyService(storage), server)  # type: ignore[no-untyped-call]
    server.add_generic_rpc_handlers([_handlers(files_dir, nodes)])
    port = server.add_insecure_port(f"{host}:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(grace=None).wait()
        threads.shutdown(cancel_futures=True)


def open_proxy(address: str) -> Storage:
    """The storage behind an address of :func:`served`.

    Raises:
        ConfigError: nobody answers there.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    host, _, port = address.rpartition(":")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        backend = GrpcStorageProxy(host=host, port=int(port))
    try:
        backend.wait_server_ready(ANSWER_SECONDS)
    except ConnectionError:
        raise ConfigError(
            f"the sweep's parent must be reached at {address} from {socket.gethostname()}, but "
            "does not answer; '--ray-listen' names another address of its machine"
        ) from None
    return Storage(f"grpc://{address}", backend, None)


def put_file(address: str, path: Path) -> None:
    """Send a file to the folder behind an address of :func:`served`, there whole or not at all."""
    with grpc.insecure_channel(address, options=_UNLIMITED) as channel, path.open("rb") as file:
        put: grpc.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(f"/{SERVICE}/{PUT}")
        put(iter(lambda: file.read(CHUNK_BYTES), b""), metadata=((NAME, path.name),))


def report_node(address: str, name: str, node: str) -> None:
    """Tell the parent behind an address of :func:`served` on which node a worker's start runs."""
    with grpc.insecure_channel(address) as channel:
        arrive: grpc.UnaryUnaryMultiCallable[bytes, bytes]
        arrive = channel.unary_unary(f"/{SERVICE}/{ARRIVE}")
        arrive(node.encode(), metadata=((NAME, name),), timeout=ANSWER_SECONDS)


def _handlers(files_dir: Path, nodes: dict[str, str]) -> grpc.GenericRpcHandler:
    def arrive(node: bytes, context: grpc.ServicerContext) -> bytes:
        nodes[str(dict(context.invocation_metadata())[NAME])] = node.decode()
        return b""

    def put(chunks: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        name = str(dict(context.invocation_metadata()).get(NAME))
        if not _FILE_NAME.fullmatch(name):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"no finalist's file: {name!r:.80}")
        with replacement(files_dir / name) as path, path.open("wb") as file:
            for chunk in chunks:  # one that breaks off raises
                file.write(chunk)
        return b""

    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        PUT: grpc.stream_unary_rpc_method_handler(put),
        ARRIVE: grpc.unary_unary_rpc_method_handler(arrive),
    }
    return grpc.method_handlers_generic_handler(SERVICE, handlers)
