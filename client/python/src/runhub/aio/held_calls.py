"""This module makes the held calls and opens the streams of the asyncio client on further channels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import grpc.aio

from runhub._rules.held_calls import ChannelPool, Slot, get_codec, is_held


class HeldCallInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    """Makes the held calls of one client on the channels of a pool. Makes all other unary calls on the intercepted
    channel."""

    def __init__(self, pool: ChannelPool[grpc.aio.Channel]) -> None:
        self._pool = pool

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Starts the call and returns the running call. Raises Closed if the pool is closed."""
        if not is_held(request):
            return await continuation(client_call_details, request)
        codec = get_codec(client_call_details.method, request)
        slot = self._pool.take_slot()
        method = slot.channel.unary_unary(client_call_details.method, codec.serialize, codec.deserialize)
        return _start_call(slot, method, client_call_details, request)


# This interceptor is a separate class, because grpc.aio registers each interceptor for only one kind of call.
class HeldStreamInterceptor(grpc.aio.UnaryStreamClientInterceptor):
    """Opens the streams of one client on the channels of a pool."""

    def __init__(self, pool: ChannelPool[grpc.aio.Channel]) -> None:
        self._pool = pool

    async def intercept_unary_stream(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Opens the stream and returns the stream. Raises Closed if the pool is closed."""
        codec = get_codec(client_call_details.method, request)
        slot = self._pool.take_slot()
        method = slot.channel.unary_stream(client_call_details.method, codec.serialize, codec.deserialize)
        return _start_call(slot, method, client_call_details, request)


def _release(slot: Slot[grpc.aio.Channel], call: Any) -> None:
    """Releases the slot of a call that has ended."""
    slot.release()


def _start_call(
    slot: Slot[grpc.aio.Channel], method: Callable[..., Any], details: grpc.aio.ClientCallDetails, request: Any
) -> Any:
    """Starts a call of `method` and returns the call. Releases the slot when the call ends, or if the call can't be
    started."""
    try:
        call = method(
            request,
            timeout=details.timeout,
            metadata=details.metadata,
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
        )
    except BaseException:
        slot.release()
        raise
    call.add_done_callback(partial(_release, slot))
    return call
