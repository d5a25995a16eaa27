"""Every call of a stub: tried again while that helps, its errors by reason."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio
from google.protobuf.message import Message

from runhub._rules.calls import Call
from runhub.aio.closing import Closing
from runhub.errors import Closed, error_of


class CallsByReason(grpc.aio.UnaryUnaryClientInterceptor):
    """The interceptor of a client's calls."""

    def __init__(self, deadline: float, closing: Closing) -> None:
        self._deadline = deadline
        self._closing = closing

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Makes the call until it is answered. A call that the caller cancels raises CancelledError, and is over."""
        call = Call[Message](request, client_call_details.timeout, self._deadline, time.monotonic())
        with self._closing.call():
            while True:
                sent, timeout = call.next_try(time.monotonic())
                answer = await continuation(_with_timeout(client_call_details, timeout), sent)
                try:
                    await self._closing.unless(answer)
                    return answer
                except Closed:
                    raise
                except grpc.RpcError as failure:
                    error = error_of(failure)
                    error.__cause__ = failure
                    pause = call.failed(error, time.monotonic())
                await self._closing.unless(asyncio.sleep(pause))


# A class of its own: grpc.aio takes an interceptor for one kind of call only.
class StreamsByReason(grpc.aio.UnaryStreamClientInterceptor):
    """The interceptor of a client's streams."""

    def __init__(self, closing: Closing) -> None:
        self._closing = closing

    async def intercept_unary_stream(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Makes the call once: only who reads a stream knows where to go on."""
        with self._closing.call():
            return _by_reason(await continuation(client_call_details, request), self._closing)


async def _by_reason(stream: Any, closing: Closing) -> AsyncIterator[Any]:
    with closing.telling(stream.cancel):
        try:
            async for response in stream:
                yield response
        except grpc.RpcError as failure:
            raise error_of(failure) from failure
        except asyncio.CancelledError:
            # A stream that is cancelled says the same as a reader that is.
            if closing.closed and not _is_cancelled(asyncio.current_task()):
                raise Closed from None
            raise


def _is_cancelled(task: asyncio.Task[Any] | None) -> bool:
    # Before Python 3.11 nobody knows.
    return getattr(task, "cancelling", lambda: 0)() > 0


def _with_timeout(details: grpc.aio.ClientCallDetails, timeout: float) -> grpc.aio.ClientCallDetails:
    return grpc.aio.ClientCallDetails(
        details.method, timeout, details.metadata, details.credentials, details.wait_for_ready
    )
