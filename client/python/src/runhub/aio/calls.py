"""Every call of a stub: tried again while that helps, its errors by reason."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio
from google.protobuf.message import Message

from runhub._rules.calls import Call
from runhub.errors import error_of


class CallsByReason(grpc.aio.UnaryUnaryClientInterceptor):
    """The interceptor of a client's calls."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Makes the call until it is answered. A call that the caller cancels raises CancelledError, and is over."""
        call = Call[Message](request, client_call_details.timeout, self._deadline, time.monotonic())
        while True:
            sent, timeout = call.next_try(time.monotonic())
            answer = await continuation(_with_timeout(client_call_details, timeout), sent)
            try:
                await answer
                return answer
            except grpc.RpcError as failure:
                error = error_of(failure)
                pause = call.pause_after(error, time.monotonic())
                if pause is None:
                    raise error from failure
            await asyncio.sleep(pause)


# A class of its own: grpc.aio takes an interceptor for one kind of call only.
class StreamsByReason(grpc.aio.UnaryStreamClientInterceptor):
    """The interceptor of a client's streams."""

    async def intercept_unary_stream(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Makes the call once: only who reads a stream knows where to go on."""
        return _by_reason(await continuation(client_call_details, request))


async def _by_reason(stream: Any) -> AsyncIterator[Any]:
    try:
        async for response in stream:
            yield response
    except grpc.RpcError as failure:
        raise error_of(failure) from failure


def _with_timeout(details: grpc.aio.ClientCallDetails, timeout: float) -> grpc.aio.ClientCallDetails:
    return grpc.aio.ClientCallDetails(
        details.method, timeout, details.metadata, details.credentials, details.wait_for_ready
    )
