"""This module makes the held calls and opens the streams of the blocking client on further channels."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

import grpc

from runhub._rules.held_calls import ChannelPool, Slot, get_codec, is_held


class HeldCalls(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Makes the held calls and opens the streams of one client on the channels of a pool. Makes all other calls on the
    intercepted channel."""

    def __init__(self, open_channel: Callable[[], grpc.Channel]) -> None:
        self._pool = ChannelPool(open_channel)
        # This lock protects `_pool`, because threads share a client.
        self._lock = Lock()

    def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.ClientCallDetails, Any], Any],
        client_call_details: grpc.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Starts the call and returns the running call. Raises Closed if the pool is closed."""
        if not is_held(request):
            return continuation(client_call_details, request)
        codec = get_codec(client_call_details.method, request)
        slot = self._take_slot()
        method = slot.channel.unary_unary(client_call_details.method, codec.serialize, codec.deserialize)
        return _start_call(slot, method.future, client_call_details, request)

    def intercept_unary_stream(
        self,
        continuation: Callable[[grpc.ClientCallDetails, Any], Any],
        client_call_details: grpc.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Opens the stream and returns the stream. Raises Closed if the pool is closed."""
        codec = get_codec(client_call_details.method, request)
        slot = self._take_slot()
        method = slot.channel.unary_stream(client_call_details.method, codec.serialize, codec.deserialize)
        return _start_call(slot, method, client_call_details, request)

    def close(self) -> None:
        """Closes all channels of the pool. Further held calls and streams fail."""
        with self._lock:
            channels = self._pool.close()
        for channel in channels:
            channel.close()

    def _take_slot(self) -> Slot[grpc.Channel]:
        with self._lock:
            return self._pool.take_slot()


def _start_call(
    slot: Slot[grpc.Channel], method: Callable[..., Any], details: grpc.ClientCallDetails, request: Any
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
            compression=details.compression,
        )
    except BaseException:
        slot.release()
        raise
    # `add_done_callback` would store a reference to the call. Python could then not collect an abandoned stream, and
    # gRPC would not cancel the stream.
    if not call.add_callback(slot.release):
        # The call has already ended, so gRPC does not call the callback.
        slot.release()
    return call
