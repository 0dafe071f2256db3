"""The gRPC server: its questions go the way of those over HTTP, and so do their refusals."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from pydantic import BaseModel

from experiments.serve import answers, schemas
from experiments.serve.app import Service
from experiments.serve.connections import HEAD_SECONDS, address_of, most_descriptors
from experiments.serve.guards import carries_token
from experiments.serve.meters import OTHER
from experiments.serve.model import LOG, Served
from experiments.serve.refusals import MISTAKE_LINE, REFUSED, TOKEN_LINE, describe
from experiments.serve.rpc import recommender_pb2 as pb
from experiments.serve.rpc.messages import question_of, response_of
from experiments.serve.rpc.recommender_pb2_grpc import SERVICE, service_handler
from recsys.errors import ConfigError
from recsys.recommender.search import Asking

Give = Callable[[Any], Awaitable[Message]]
Method = Callable[[Any, Any], Awaitable[Any]]
_NAME = SERVICE.full_name
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_METHODS = {
    f"/{service.full_name}/{method.name}"
    for file in (pb.DESCRIPTOR, health_pb2.DESCRIPTOR)
    for service in file.services_by_name.values()
    for method in service.methods
}
"""Those that are counted by name; all others count as one, as anyone can invent more."""
_CODES = {422: grpc.StatusCode.INVALID_ARGUMENT, 503: grpc.StatusCode.UNAVAILABLE}


class RpcServer:
    """Answers over gRPC, in the event loop of the HTTP server.

    Calls for health need no token.

    Args:
        reserved: a socket that holds the address to listen on.
        service: lets questions in, those of both servers together.
    """

    def __init__(self, reserved: socket.socket, service: Service) -> None:
        self._reserved, self._service = reserved, service
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> str:
        """Listen, and answer from now on.

        Returns:
            Where.

        Raises:
            ConfigError: the address is taken.
        """
        may_share = self._reserved.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        server = self._server = grpc.aio.server(
            interceptors=[_Guard(self._service)],
            options=[
                ("grpc.so_reuseport", int(may_share != 0)),
                ("grpc.max_receive_message_length", self._service.max_body_bytes),
                # the other half is for HTTP, the model, the store and the log
                ("grpc.max_allowed_incoming_connections", most_descriptors() // 2),
                ("grpc.server_handshake_timeout_ms", int(HEAD_SECONDS * 1000)),
            ],
        )
        server.add_generic_rpc_handlers((service_handler(_methods(self._service)),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((_NAME, _HEALTH, reflection.SERVICE_NAME), server)
        address = address_of(self._reserved)
        self._reserved.close()
        try:
            server.add_insecure_port(address)
        except RuntimeError as error:  # it was taken since
            raise ConfigError(f"'--host' and '--grpc-port' must be free, got {address}") from error
        for name in (health.OVERALL_HEALTH, _NAME):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        await server.start()
        return address

    async def stop(self, seconds: float) -> None:
        """Take no more calls, and give those in work the seconds to end."""
        if self._server is not None:
            await self._health.enter_graceful_shutdown()
            await self._server.stop(seconds)


def _methods(service: Service) -> dict[str, Method]:
    """The methods of recommender.proto, by their names."""

    def asking(
        kind: type[BaseModel],
        ask: Callable[[Served, Any, int], Asking[Any]],
        response: type[Message],
    ) -> Method:
        async def give(request: Message) -> Message:
            return await service.answer(ask, question_of(kind, request), response_of(response))

        return _refusing(give)

    async def model(_: Message) -> Message:
        return response_of(pb.ModelResponse)(answers.model_card(service.served()))

    return {
        "Recommend": asking(schemas.RecommendQuestion, answers.recommend, pb.RecommendResponse),
        "SimilarItems": asking(
            schemas.SimilarItemsQuestion, answers.similar_items, pb.SimilarItemsResponse
        ),
        "NewBookSimilar": asking(
            schemas.NewBookSimilarQuestion, answers.similar_to_book, pb.NewBookSimilarResponse
        ),
        "NewBookUsers": asking(
            schemas.NewBookUsersQuestion, answers.users_of_book, pb.NewBookUsersResponse
        ),
        "Model": _refusing(model),
    }


def _refusing(give: Give) -> Method:
    """A method that refuses with a code and one line, and shows no trace."""

    async def method(request: Message, context: grpc.aio.ServicerContext[Any, Any]) -> Message:
        try:
            return await give(request)
        except REFUSED as error:
            status, line = describe(error)
            await context.abort(_CODES[status], line)
        except Exception as error:
            LOG.error("%s failed; the error follows", type(request).__name__, exc_info=error)
            await context.abort(grpc.StatusCode.INTERNAL, MISTAKE_LINE)

    return method


class _Guard(grpc.aio.ServerInterceptor):
    """Lets calls pass that carry the token, and those for health; counts those with one answer."""

    def __init__(self, service: Service) -> None:
        self._meters, self._token = service.meters, service.token

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """What handles a call."""
        method = handler_call_details.method
        path = method if method in _METHODS else OTHER
        if not self._lets_pass(handler_call_details):
            return grpc.stream_stream_rpc_method_handler(self._counted(path, _no_token))
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        return grpc.unary_unary_rpc_method_handler(
            self._counted(path, _reading(handler)),
            response_serializer=handler.response_serializer,
        )

    def _lets_pass(self, details: grpc.HandlerCallDetails) -> bool:
        if self._token is None or details.method.startswith(f"/{_HEALTH}/"):
            return True
        given = dict(details.invocation_metadata).get("authorization", "")
        return carries_token(given.encode() if isinstance(given, str) else given, self._token)

    def _counted(self, path: str, method: Method) -> Method:
        async def counted(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            started, code = perf_counter(), grpc.StatusCode.CANCELLED
            try:
                response = await method(request, context)
                code = grpc.StatusCode.OK
                return response
            except grpc.aio.AbortError:
                code = context.code()
                raise
            finally:
                self._meters.count_request(path, code.name, perf_counter() - started)

        return counted


def _reading(handler: Any) -> Method:
    """The method of a handler for a request as bytes; those that are no message are refused."""

    async def method(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            message = handler.request_deserializer(request)
        except DecodeError:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, "the request must be a message of the .proto"
            )
        return await handler.unary_unary(message, context)

    return method


async def _no_token(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, TOKEN_LINE)
