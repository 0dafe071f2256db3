"""What the parent of a sweep serves to workers elsewhere: its study, and a place for their files.

The study goes through Optuna's gRPC proxy, of which no public name starts one on a free port and
ends it again; the files of finalists go through the same server. Nothing in it asks who calls.
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

SERVICE, PUT, NAME = "bookends.Sweep", "Put", "name"
ANSWER_SECONDS = 30.0
CHUNK_BYTES = 1 << 20
_FILE_NAME = re.compile(r"trial-\d+-seed-\d+\.(parquet|npz)")
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@contextmanager
def served(storage: BaseStorage, files_dir: Path, host: str, n_workers: int) -> Iterator[int]:
    """Serve a study and a folder for files until the block ends; gives the port."""
    threads = ThreadPoolExecutor(max(10, 2 * n_workers))
    options = [*_UNLIMITED, ("grpc.so_reuseport", 0)]
    server = grpc.server(threads, options=options)
    api_pb2_grpc.add_StorageServiceServicer_to_server(OptunaStorageProxyService(storage), server)  # type: ignore[no-untyped-call]
    server.add_generic_rpc_handlers([_put_handler(files_dir)])
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


def _put_handler(files_dir: Path) -> grpc.GenericRpcHandler:
    def put(chunks: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        name = str(dict(context.invocation_metadata()).get(NAME))
        if not _FILE_NAME.fullmatch(name):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"no finalist's file: {name!r:.80}")
        with replacement(files_dir / name) as path, path.open("wb") as file:
            for chunk in chunks:  # one that breaks off raises
                file.write(chunk)
        return b""

    handler: grpc.RpcMethodHandler[bytes, bytes]
    handler = grpc.stream_unary_rpc_method_handler(put)
    return grpc.method_handlers_generic_handler(SERVICE, {PUT: handler})
