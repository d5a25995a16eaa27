"""This module runs a fake server in the test's process. The server calls prepared handlers and records the received
calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Condition, Event
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from runhub import v1

Context = Any
Handler = Callable[[Any, Context], Any]

# The maximum time of every wait in this file, in seconds. Without this limit, a test could hang.
TIMEOUT = 10.0


class ReceivedCall:
    """Records one call that the server has received."""

    def __init__(self, request: Any, context: Context) -> None:
        self.request = request
        self.at = time.monotonic()
        self.timeout: float | None = context.time_remaining()
        # The client's address, which is different for each connection.
        self.peer: str = context.peer()
        self.has_ended = Event()
        if not context.add_callback(self.has_ended.set):
            self.has_ended.set()


class FakeServer:
    """Calls prepared handlers. By default, the server extends every lease and reports the log_id `log`."""

    def __init__(self, address: str = "127.0.0.1:0") -> None:
        self._handlers: dict[str, list[Handler]] = {}
        self._calls: dict[str, list[ReceivedCall]] = {}
        self._has_call = Condition()
        # Each running call needs a thread. The executor starts a thread only if a call needs the thread.
        self._server = grpc.server(ThreadPoolExecutor(256), handlers=[_Handler(self)])
        port = self._server.add_insecure_port(address)
        self.address = address.replace(":0", f":{port}")
        self._server.start()
        self.set_handlers("GetServerInfo", reply(v1.GetServerInfoResponse(log_id="log")))
        self.set_handlers("Heartbeat", send_lease_state())

    def set_handlers(self, method: str, *handlers: Handler) -> None:
        """Sets the handlers of a method, one handler for each call. The last handler also handles all further calls."""
        self._handlers[method] = list(handlers)

    def wait_for_calls(self, method: str, count: int = 1) -> list[ReceivedCall]:
        """Waits until the server has received `count` calls of the method, and returns all received calls.

        Fails the test if the server receives fewer calls within TIMEOUT.
        """
        with self._has_call:
            has_enough = self._has_call.wait_for(lambda: len(self._calls.get(method, [])) >= count, TIMEOUT)
            received = len(self._calls.get(method, []))
            assert has_enough, f"the server received {received} calls of {method}, but the test expects {count}"
            return list(self._calls[method])

    def count_calls(self, method: str) -> int:
        """Returns how many calls of the method the server has received."""
        with self._has_call:
            return len(self._calls.get(method, []))

    def stop(self) -> None:
        """Stops the server and ends all running calls."""
        self._server.stop(None).wait()

    def handle(self, method: str, request: Message, context: Context) -> Any:
        """Records a call and returns the response of the prepared handler. Fails if the handler fails the call."""
        with self._has_call:
            self._calls.setdefault(method, []).append(ReceivedCall(request, context))
            handlers = self._handlers[method]
            handler = handlers.pop(0) if len(handlers) > 1 else handlers[0]
            self._has_call.notify_all()
        return handler(request, context)


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, server: FakeServer) -> None:
        self._server = server

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = handler_call_details.method.rsplit("/", 1)[1]
        is_stream = method == "SubscribeEvents"
        kind: Any = grpc.unary_stream_rpc_method_handler if is_stream else grpc.unary_unary_rpc_method_handler
        return kind(
            partial(self._server.handle, method),
            request_deserializer=getattr(v1, f"{method}Request").FromString,
            response_serializer=getattr(v1, f"{method}Response").SerializeToString,
        )


def reply(message: Message) -> Handler:
    """Returns a handler that sends `message`."""
    return lambda request, context: message


def send_lease_state(state: v1.LeaseState = v1.LeaseState.LEASE_STATE_EXTENDED) -> Handler:
    """Returns a handler that responds to a Heartbeat call with the lease state `state`."""
    return reply(v1.HeartbeatResponse(results=[v1.BeatResult(state=state)]))


def refuse(
    code: grpc.StatusCode,
    reason: str | None = None,
    *,
    domain: str = "runhub",
    metadata: dict[str, str] | None = None,
    fields: dict[str, str] | None = None,
    retry_delay: float | None = None,
) -> Handler:
    """Returns a handler that fails the call with the gRPC code `code` and the reason `reason`.

    If `reason` is None, the error has no details, like an error of gRPC itself.
    """
    details: list[Message] = []
    if reason:
        details.append(ErrorInfo(reason=reason, domain=domain, metadata=metadata))
    if fields:
        violations = [BadRequest.FieldViolation(field=name, description=text) for name, text in fields.items()]
        details.append(BadRequest(field_violations=violations))
    if retry_delay is not None:
        delay = Duration()
        delay.FromNanoseconds(int(retry_delay * 1e9))
        details.append(RetryInfo(retry_delay=delay))
    status = Status(code=code.value[0], message="for people", details=[_pack(detail) for detail in details])

    def handle(request: Message, context: Context) -> None:
        if reason:
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(code, "for people")

    return handle


def never_respond() -> Handler:
    """Returns a handler that blocks until the caller cancels the call, or until TIMEOUT has passed."""

    def handle(request: Message, context: Context) -> Any:
        is_cancelled = Event()
        if context.add_callback(is_cancelled.set):
            is_cancelled.wait(TIMEOUT)
        context.abort(grpc.StatusCode.CANCELLED, "the caller has cancelled the call")

    return handle


def send_stream(*messages: v1.SubscribeEventsResponse, then: Handler | None = None) -> Handler:
    """Returns a handler that sends `messages` in order and then ends the stream with the handler `then`.

    If `then` is None, the stream ends without an error.
    """

    def handle(request: Message, context: Context) -> Iterator[Message]:
        yield from messages
        if then:
            then(request, context)

    return handle


def _pack(detail: Message) -> Packed:
    packed = Packed()
    packed.Pack(detail)
    return packed
