"""The interceptors of a client's calls: they retry calls and raise `runhub.Error`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio
from google.protobuf.message import Message

from runhub._rules.calls import Call
from runhub.aio.closing import CloseSignal
from runhub.errors import Closed, error_of


class UnaryInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    """The interceptor of a client's unary calls."""

    def __init__(self, deadline: float, closing: CloseSignal) -> None:
        self._deadline = deadline
        self._closing = closing

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Repeats the call until it is answered, fails for good, or reaches its deadline.

        If the caller cancels the call, it raises CancelledError and is not repeated.
        """
        call = Call[Message](request, client_call_details.timeout, self._deadline, time.monotonic())
        with self._closing.running_call():
            while True:
                sent, timeout = call.next_try(time.monotonic())
                answer = await continuation(_with_timeout(client_call_details, timeout), sent)
                try:
                    await self._closing.wait_for(answer)
                    return answer
                except Closed:
                    raise
                except grpc.RpcError as failure:
                    error = error_of(failure)
                    error.__cause__ = failure
                    pause = call.failed(error, time.monotonic())
                await self._closing.wait_for(asyncio.sleep(pause))


# A class of its own, because grpc.aio registers an interceptor for only one kind of call.
class StreamInterceptor(grpc.aio.UnaryStreamClientInterceptor):
    """The interceptor of a client's streams."""

    def __init__(self, closing: CloseSignal) -> None:
        self._closing = closing

    async def intercept_unary_stream(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Makes the call once. Only the reader of a stream knows where a further stream must start."""
        with self._closing.running_call():
            return _stream(await continuation(client_call_details, request), self._closing)


async def _stream(stream: Any, closing: CloseSignal) -> AsyncIterator[Any]:
    """Yields the stream's messages and raises `runhub.Error`."""
    with closing.callback(stream.cancel):
        try:
            async for response in stream:
                yield response
        except grpc.RpcError as failure:
            raise error_of(failure) from failure
        except asyncio.CancelledError:
            # A cancelled stream raises the same error as a cancelled reader.
            if closing.closed and not _is_cancelled(asyncio.current_task()):
                raise Closed from None
            raise


def _is_cancelled(task: asyncio.Task[Any] | None) -> bool:
    # Python before 3.11 does not tell whether a task was cancelled.
    return getattr(task, "cancelling", lambda: 0)() > 0


def _with_timeout(details: grpc.aio.ClientCallDetails, timeout: float) -> grpc.aio.ClientCallDetails:
    return grpc.aio.ClientCallDetails(
        details.method, timeout, details.metadata, details.credentials, details.wait_for_ready
    )
