"""The process that serves: settings in, a server until it is told to end."""

from __future__ import annotations

import asyncio
import ipaddress
import logging.config
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import uvicorn

from experiments.serve.app import Service, build_app
from experiments.serve.connections import Listener, TimedProtocol, address_of
from experiments.serve.model import LOG, CurrentModel, ModelSource, refreshed, settle
from experiments.serve.workers import run_workers
from experiments.signals import Interrupted, interruptible
from recsys.errors import ConfigError
from tracking.model import is_alias

if TYPE_CHECKING:
    from experiments.serve.rpc.service import RpcServer

TOKEN_VARIABLE = "BOOKENDS_TOKEN"
GRACE_SECONDS = 30
"""What requests in work are given to end."""
_LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        name: {"handlers": ["stderr"], "level": level, "propagate": False}
        for name, level in (("bookends", "INFO"), ("recsys", "WARNING"), ("uvicorn", "WARNING"))
    },
}


def serve(
    source: ModelSource,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    grpc_port: int | None = None,
    workers: int = 1,
    token_file: Path | None = None,
    **options: Any,
) -> None:
    """Serve until SIGINT or SIGTERM; requests in work are answered first.

    Args:
        source: what is to be served.
        host: address to listen on.
        port: 0 for a free one.
        grpc_port: where to answer over gRPC, too; 0 for a free one, None for nowhere.
        workers: processes that answer.
        token_file: holds the token that requests must carry.
        **options: of :func:`_answer`.

    Raises:
        BookendsError: no such model, no such token, a port is taken, or gRPC is not installed.
        Interrupted: the signal came before the server was up.
    """
    logging.config.dictConfig(_LOGGING)
    token = read_token(token_file)
    with interruptible(), ExitStack() as sockets:
        is_shared = workers > 1
        reserved = [sockets.enter_context(_listener(host, port, "--port", is_shared))]
        if grpc_port is not None:
            _rpc_server()
            listener = _listener(host, grpc_port, "--grpc-port", is_shared)
            reserved.append(sockets.enter_context(listener))
        if token is None and not ipaddress.ip_address(reserved[0].getsockname()[0]).is_loopback:
            LOG.warning("anyone who reaches %s may ask: %s is not set", host, TOKEN_VARIABLE)
        answer = partial(_answer, source, token=token, **options)
        if not is_shared:
            answer(reserved=reserved, on_ready=_say_where(reserved))
            return
        n_threads = max(1, len(os.sched_getaffinity(0)) // workers)

        def work(on_ready: Callable[[], None]) -> None:
            with interruptible(), ExitStack() as own:
                sockets = [own.enter_context(_shared(each)) for each in reserved]
                answer(reserved=sockets, on_ready=on_ready, n_threads=n_threads)

        run_workers(workers, work, _say_where(reserved, f" by {workers} processes"))


def _say_where(reserved: list[socket.socket], how: str = "") -> Callable[[], None]:
    """What says where we listen; asked now, as a socket that was closed can no longer tell."""
    http, *rpc = map(address_of, reserved)

    def say() -> None:
        for address in rpc:
            LOG.info("serving gRPC on %s", address)
        LOG.info("serving on http://%s%s", http, how)

    return say


def _answer(
    source: ModelSource,
    *,
    reserved: list[socket.socket],
    on_ready: Callable[[], None],
    reload_seconds: float = 10.0,
    **limits: Any,
) -> None:
    """Load the model and answer until a signal comes.

    Args:
        source: what is to be served.
        reserved: sockets that hold the addresses of HTTP and, where it is wanted, of gRPC.
        on_ready: called when questions are answered.
        reload_seconds: between two looks at the alias.
        **limits: of :class:`Service`, and its token.
    """
    listener, *for_rpc = reserved
    current = CurrentModel(source)
    with _all_cores():  # an index takes minutes; a later one is built by one thread
        current.start()
    service = Service(current, **limits)
    server = _Server(
        uvicorn.Config(
            build_app(service),
            http=TimedProtocol,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )
    server.on_ready = on_ready
    for socket_of_rpc in for_rpc:
        server.rpc = _rpc_server()(socket_of_rpc, service)
    with refreshed(current, reload_seconds) if is_alias(source.uri) else nullcontext():
        try:
            server.run(sockets=[listener])
        except Interrupted:  # uvicorn raises the signal again when all is answered
            LOG.info("ended")


def _rpc_server() -> type[RpcServer]:
    """The gRPC server, of an extra."""
    try:
        from experiments.serve.rpc.service import RpcServer
    except ImportError as error:
        raise ConfigError(f"'--grpc-port' needs gRPC: pip install -e '.[grpc]' ({error})") from None
    return RpcServer


@contextmanager
def _all_cores() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Server(uvicorn.Server):
    """Tells when it listens; a gRPC server begins and ends with it."""

    on_ready: Callable[[], None] = staticmethod(lambda: None)
    rpc: RpcServer | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.rpc is not None:
            await self.rpc.start()
        settle()
        self.on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        ends = [super().shutdown(sockets)]
        if self.rpc is not None:
            ends.append(self.rpc.stop(GRACE_SECONDS))
        await asyncio.gather(*ends)


def read_token(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> str | None:
    """The token that requests must carry: that of the file, else of the environment; None for none.

    Raises:
        ConfigError: the file cannot be read, or the token could not be sent in a header.
    """
    place = str(path) if path is not None else TOKEN_VARIABLE
    try:
        token = environ.get(TOKEN_VARIABLE) if path is None else path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: must hold a token ({error})") from error
    if token is None:
        return None
    if not token:
        raise ConfigError(f"{place}: must hold a token, is empty")
    if not all("!" <= character <= "~" for character in token):
        raise ConfigError(f"{place}: a token must be printable ASCII without spaces")
    return token


def _listener(host: str, port: int, option: str, is_shared: bool) -> socket.socket:
    """A socket at an address, taken before the model is loaded: a taken port is known at once.

    Where it ``is_shared``, it only holds the address, beside which others may listen.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = Listener(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"'--host' must be an address of this machine, got '{host}'") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"'--host' and '{option}' must be free, got {host}:{port} ({error.strerror})"
        ) from error
    if not is_shared:
        return listener
    address = listener.getsockname()
    listener.close()  # nobody else has it; a shared socket would have been let in beside another's
    return _shared(listener, address)


def _shared(like: socket.socket, address: Any = None) -> socket.socket:
    """A socket at an address, that of another where none is given, at which others may be, too."""
    listener = Listener(like.family, like.type, like.proto)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(address or like.getsockname())
    return listener
