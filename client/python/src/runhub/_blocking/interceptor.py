"""This module retries the calls of a client, and converts the errors of gRPC to `runhub.Error`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from runhub._blocking.closing import CloseSignal
from runhub._rules.calls import Call
from runhub.errors import Closed, Error, to_error


@dataclass(frozen=True)
class _CallDetails(grpc.ClientCallDetails):
    method: str
    timeout: float | None
    metadata: Any
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class Interceptor(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Retries the unary calls of one client, and converts the errors of all calls to `runhub.Error`."""

    def __init__(self, deadline: float, closing: CloseSignal) -> None:
        self._deadline = deadline
        self._closing = closing

    def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.ClientCallDetails, Any], Any],
        client_call_details: grpc.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Makes the call and returns the completed call, which holds the response.

        If the call fails with a temporary error, retries the call until the deadline.

        Raises `runhub.Error` if the error is permanent, the deadline ends the call, or the client is closed.
        """
        call = Call[Message](request, client_call_details.timeout, self._deadline, time.monotonic())
        while True:
            self._closing.raise_if_closed()
            sent, timeout = call.prepare_request(time.monotonic())
            answer = continuation(_with_timeout(client_call_details, timeout), sent)
            # If the pool of channels is closed, the answer is the error Closed and not a call.
            if isinstance(answer, Closed):
                raise answer
            failure = answer.exception()
            if isinstance(failure, grpc.RpcError):
                error = _convert_error(failure, self._closing)
                self._closing.sleep(call.record_failure(error, time.monotonic()))
                continue
            # If the channel is closed, the error of the call is not a grpc.RpcError. In this case, raise Closed. When
            # the caller reads the result of the call, gRPC raises any other error that is not a grpc.RpcError.
            if failure is not None:
                self._closing.raise_if_closed()
            return answer

    def intercept_unary_stream(
        self,
        continuation: Callable[[grpc.ClientCallDetails, Any], Any],
        client_call_details: grpc.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Opens the stream and returns the stream. Does not retry, because only the reader of a stream knows where
        another stream must start.

        Raises Closed if the client is closed.
        """
        self._closing.raise_if_closed()
        return _Stream(continuation(client_call_details, request), self._closing)


class _Stream:
    """Wraps a stream, and raises `runhub.Error` instead of the errors of gRPC."""

    def __init__(self, call: Any, closing: CloseSignal) -> None:
        self._call = call
        self._closing = closing

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._call)
        except Closed:
            # The pool of channels is closed.
            raise
        except grpc.RpcError as failure:
            raise _convert_error(failure, self._closing) from failure
        except ValueError:
            # gRPC raises ValueError if another thread closed the channel before the stream was opened.
            self._closing.raise_if_closed()
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


def _convert_error(failure: grpc.RpcError, closing: CloseSignal) -> Error:
    # If the client closes the channel, gRPC ends the running calls with CANCELLED. In this case, return Closed.
    is_closed = closing.is_closed and failure.code() is grpc.StatusCode.CANCELLED
    error = Closed() if is_closed else to_error(failure)
    error.__cause__ = failure
    return error


def _with_timeout(details: grpc.ClientCallDetails, timeout: float) -> _CallDetails:
    return _CallDetails(
        details.method,
        timeout,
        details.metadata,
        details.credentials,
        details.wait_for_ready,
        details.compression,
    )
