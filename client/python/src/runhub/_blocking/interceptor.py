"""The interceptor of a client's calls: it retries calls and raises `runhub.Error`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from runhub._blocking.closing import CloseSignal
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


class Interceptor(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """The interceptor of a client."""

    def __init__(self, deadline: float, closing: CloseSignal) -> None:
        self._deadline = deadline
        self._closing = closing

    def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.ClientCallDetails, Any], Any],
        client_call_details: grpc.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Repeats the call until it is answered, fails for good, or reaches its deadline."""
        call = Call[Message](request, client_call_details.timeout, self._deadline, time.monotonic())
        while True:
            self._closing.check()
            sent, timeout = call.next_try(time.monotonic())
            answer = continuation(_with_timeout(client_call_details, timeout), sent)
            failure = answer.exception()
            if isinstance(failure, grpc.RpcError):
                self._closing.sleep(call.failed(_error_of(failure, self._closing), time.monotonic()))
                continue
            # A call on a closed channel fails with an error that is not gRPC's. Any other such error is raised when the
            # caller takes the result.
            if failure is not None:
                self._closing.check()
            return answer

    def intercept_unary_stream(
        self,
        continuation: Callable[[grpc.ClientCallDetails, Any], Any],
        client_call_details: grpc.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Makes the call once. Only the reader of a stream knows where a further stream must start."""
        self._closing.check()
        return _Stream(continuation(client_call_details, request), self._closing)


class _Stream:
    """A stream that raises `runhub.Error`."""

    def __init__(self, call: Any, closing: CloseSignal) -> None:
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


def _error_of(failure: grpc.RpcError, closing: CloseSignal) -> Error:
    # When a channel is closed, gRPC ends the running calls with CANCELLED.
    is_closed = closing.closed and failure.code() is grpc.StatusCode.CANCELLED
    error = Closed() if is_closed else error_of(failure)
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
