"""What the parent of a sweep serves to workers elsewhere: its study, and an ear for their news.

The study goes through Optuna's gRPC proxy, of which no public name starts one on a free port and
ends it again. The files of finalists, and where each worker is, go through the same server. Nothing
in it asks who calls.
"""

from __future__ import annotations

import re
import socket
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, GrpcStorageProxy
from optuna.storages._grpc.auto_generated import api_pb2_grpc
from optuna.storages._grpc.servicer import OptunaStorageProxyService

from recsys.artifacts import replacement
from recsys.errors import ConfigError
from sweeps.storage import Storage

SERVICE, PUT, ARRIVE, NAME = "bookends.Sweep", "Put", "Arrive", "name"
ANSWER_SECONDS = 30.0
CHUNK_BYTES = 1 << 20
_FILE_NAME = re.compile(r"trial-\d+-seed-\d+\.(parquet|npz)")
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


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
