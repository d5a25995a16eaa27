"""Every call of a stub: tried again while that helps, its errors by reason."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from runhub._rules.calls import Call
from runhub.errors import error_of


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

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.ClientCallDetails, Any], Any],
        client_call_details: grpc.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Makes the call until it is answered."""
        call = Call[Message](request, client_call_details.timeout, self._deadline, time.monotonic())
        while True:
            sent, timeout = call.next_try(time.monotonic())
            answer = continuation(_with_timeout(client_call_details, timeout), sent)
            failure = answer.exception()
            # What is not gRPC's, a channel that is closed, say, shows when the result is taken.
            if not isinstance(failure, grpc.RpcError):
                return answer
            error = error_of(failure)
            pause = call.pause_after(error, time.monotonic())
            if pause is None:
                raise error from failure
            time.sleep(pause)

    def intercept_unary_stream(
        self,
        continuation: Callable[[grpc.ClientCallDetails, Any], Any],
        client_call_details: grpc.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Makes the call once: only who reads a stream knows where to go on."""
        return _Stream(continuation(client_call_details, request))


class _Stream:
    """A stream whose errors are by reason."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._call)
        except grpc.RpcError as failure:
            raise error_of(failure) from failure

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


def _with_timeout(details: grpc.ClientCallDetails, timeout: float) -> _Details:
    return _Details(
        details.method,
        timeout,
        details.metadata,
        details.credentials,
        details.wait_for_ready,
        details.compression,
    )
