"""This module retries the calls of a client, and converts the errors of gRPC to `runhub.Error`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio
from google.protobuf.message import Message

from runhub._rules.calls import Call
from runhub.aio.closing import CloseSignal
from runhub.errors import Closed, to_error


class UnaryInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    """Retries the unary calls of one client, and converts the errors of the calls to `runhub.Error`."""

    def __init__(self, deadline: float, closing: CloseSignal) -> None:
        self._deadline = deadline
        self._closing = closing

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Makes the call and returns the completed call, which holds the response.

        If the call fails with a temporary error, retries the call until the deadline.

        Raises `runhub.Error` if the error is permanent, the deadline ends the call, or the client is closed. If the
        caller cancels the call, raises CancelledError and does not retry the call.
        """
        call = Call[Message](request, client_call_details.timeout, self._deadline, time.monotonic())
        with self._closing.mark_running_call():
            while True:
                sent, timeout = call.prepare_request(time.monotonic())
                answer = await continuation(_with_timeout(client_call_details, timeout), sent)
                try:
                    await self._closing.wait_for(answer)
                    return answer
                except Closed:
                    raise
                except grpc.RpcError as failure:
                    error = to_error(failure)
                    error.__cause__ = failure
                    pause = call.record_failure(error, time.monotonic())
                await self._closing.wait_for(asyncio.sleep(pause))


# The stream interceptor is a separate class, because grpc.aio registers each interceptor for only one kind of call.
class StreamInterceptor(grpc.aio.UnaryStreamClientInterceptor):
    """Converts the errors of a client's streams to `runhub.Error`."""

    def __init__(self, closing: CloseSignal) -> None:
        self._closing = closing

    async def intercept_unary_stream(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Opens the stream and returns the stream's messages. Does not retry, because only the reader of a stream knows
        where another stream must start.

        Raises Closed if the client is closed.
        """
        with self._closing.mark_running_call():
            return _convert_errors(await continuation(client_call_details, request), self._closing)


async def _convert_errors(stream: Any, closing: CloseSignal) -> AsyncIterator[Any]:
    """Yields the messages of the stream, and raises `runhub.Error` instead of the errors of gRPC."""
    with closing.call_on_close(stream.cancel):
        try:
            async for response in stream:
                yield response
        except grpc.RpcError as failure:
            raise to_error(failure) from failure
        except asyncio.CancelledError:
            # A cancelled stream and a cancelled reader raise the same error. If the client is closed and the reader is
            # not cancelled, `close` has cancelled the stream, so raise Closed.
            if closing.is_closed and not _is_cancelled(asyncio.current_task()):
                raise Closed from None
            raise


def _is_cancelled(task: asyncio.Task[Any] | None) -> bool:
    # Python 3.10 does not report whether an asyncio task was cancelled, so this function returns False in Python 3.10.
    return getattr(task, "cancelling", lambda: 0)() > 0


def _with_timeout(details: grpc.aio.ClientCallDetails, timeout: float) -> grpc.aio.ClientCallDetails:
    return grpc.aio.ClientCallDetails(
        details.method, timeout, details.metadata, details.credentials, details.wait_for_ready
    )
