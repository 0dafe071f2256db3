"""The service of recommender.proto, as a client calls it and as a server answers it.

Made of the descriptor, not generated: generated code takes no grpcio older than its generator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message_factory import GetMessageClass

from experiments.serve.rpc import recommender_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Recommender"]


class RecommenderStub:
    """The methods of the service, each called with its request, as those of a generated stub.

    Args:
        channel: a ``grpc.Channel``, or one of ``grpc.aio``.
    """

    def __init__(self, channel: Any) -> None:
        for method in SERVICE.methods:
            call = channel.unary_unary(
                f"/{SERVICE.full_name}/{method.name}",
                request_serializer=GetMessageClass(method.input_type).SerializeToString,
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )
            setattr(self, method.name, call)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


def service_handler(methods: Mapping[str, Callable[[Any, Any], Any]]) -> grpc.GenericRpcHandler:
    """What a server answers the service with, of a function of (request, context) a method."""
    handlers = {
        method.name: grpc.unary_unary_rpc_method_handler(
            methods[method.name],
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )
        for method in SERVICE.methods
    }
    return grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)
