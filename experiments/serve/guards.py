"""What a request passes before the application sees it: the token and the limit of its body."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Collection
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from experiments.serve.refusals import TOKEN_LINE

BODY_SECONDS = 30
"""A body that takes longer is given up."""
DRAINED_BYTES = 16 * 2**20
DRAIN_SECONDS = 2
"""How much of a refused body is still read: a client that writes before it reads would see a
broken connection, not the answer."""


def carries_token(header: bytes, token: bytes) -> bool:
    """Whether the header 'Authorization' carries the bearer token."""
    scheme, _, given = header.partition(b" ")
    is_right = hmac.compare_digest(given.strip(), token)
    return scheme.lower() == b"bearer" and is_right


@dataclass(frozen=True)
class TokenGuard:
    """Lets requests pass that carry the bearer token, and all to the open paths.

    Attributes:
        app: what is guarded.
        token: what must be given.
        open_paths: where it need not.
    """

    app: ASGIApp
    token: bytes
    open_paths: Collection[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 or hand on."""
        app = self.app
        if scope["type"] == "http" and scope["path"] not in self.open_paths:
            header = Headers(scope=scope).get("authorization", "").encode("latin-1")
            if not carries_token(header, self.token):
                app = JSONResponse({"detail": TOKEN_LINE}, 401, {"WWW-Authenticate": "Bearer"})
        await app(scope, receive, send)


@dataclass(frozen=True)
class BodyGuard:
    """Reads the body before the application does, up to a limit, whether announced or chunked.

    Attributes:
        app: what is guarded.
        max_bytes: of a body.
    """

    app: ASGIApp
    max_bytes: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 408 or 413, or hand on the whole body as one message."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length") or "0"
        is_small = announced.isdecimal() and int(announced[:20]) <= self.max_bytes
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await self._read(receive) if is_small else None
        except TimeoutError:
            status, text = 408, f"the body must arrive within {BODY_SECONDS} seconds"
        else:
            if body is not None:
                await self.app(scope, _replayed(body, receive), send)
                return
            status, text = 413, f"the body must be at most {self.max_bytes} bytes"
            await _drain(receive)
        refusal = JSONResponse({"detail": text}, status, {"Connection": "close"})
        await refusal(scope, receive, send)

    async def _read(self, receive: Receive) -> Message | None:
        """The body as one message; None where it is too large."""
        parts, n_bytes = [], 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return message
            parts.append(message.get("body", b""))
            n_bytes += len(parts[-1])
            if n_bytes > self.max_bytes:
                return None
            if not message.get("more_body", False):
                return {"type": "http.request", "body": b"".join(parts), "more_body": False}


def _replayed(body: Message, receive: Receive) -> Receive:
    waiting = [body]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


async def _drain(receive: Receive) -> None:
    n_bytes = 0
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while n_bytes < DRAINED_BYTES:
                message = await receive()
                n_bytes += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return
