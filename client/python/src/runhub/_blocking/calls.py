"""Every call of a stub: tried again while that helps, its errors by reason."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from runhub._blocking.closing import Closing
from runhub._rules.calls import Call
from runhub.errors import Closed, Error, error_of


@dataclass(frozen=True)
class _Details(grpc.ClientCallDetails):
    method: str
    timeout: float | None
    metadata: Any
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class ByReason(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """The interceptor of a client."""

    def __init__(self, deadline: float, closing: Closing) -> None:
        self._deadline = deadline
        self._closing = closing

    def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.ClientCallDetails, Any], Any],
        client_call_details: grpc.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Makes the call until it is answered."""
        call = Call[Message](request, client_call_details.timeout, self._deadline, time.monotonic())
        while True:
            self._closing.check()
            sent, timeout = call.next_try(time.monotonic())
            answer = continuation(_with_timeout(client_call_details, timeout), sent)
            failure = answer.exception()
            if isinstance(failure, grpc.RpcError):
                self._closing.pause(call.failed(_error_of(failure, self._closing), time.monotonic()))
                continue
            # On a channel that is closed no call can be made. What else is not gRPC's shows when the result is taken.
            if failure is not None:
                self._closing.check()
            return answer

    def intercept_unary_stream(
        self,
        continuation: Callable[[grpc.ClientCallDetails, Any], Any],
        client_call_details: grpc.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Makes the call once: only who reads a stream knows where to go on."""
        self._closing.check()
        return _Stream(continuation(client_call_details, request), self._closing)


class _Stream:
    """A stream whose errors are by reason."""

    def __init__(self, call: Any, closing: Closing) -> None:
        self._call = call
        self._closing = closing

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._call)
        except grpc.RpcError as failure:
            raise _error_of(failure, self._closing) from failure

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


def _error_of(failure: grpc.RpcError, closing: Closing) -> Error:
    # So gRPC ends what is under way when its channel is closed.
    error = Closed() if closing.closed and failure.code() is grpc.StatusCode.CANCELLED else error_of(failure)
    error.__cause__ = failure
    return error


def _with_timeout(details: grpc.ClientCallDetails, timeout: float) -> _Details:
    return _Details(
        details.method,
        timeout,
        details.metadata,
        details.credentials,
        details.wait_for_ready,
        details.compression,
    )
