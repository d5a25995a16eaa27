"""A server in the test's process that gives prepared answers and records the calls it receives."""

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
Answer = Callable[[Any, Context], Any]

# The limit of every wait in this file, in seconds. It only ends tests that would hang.
TIMEOUT = 10.0


class ReceivedCall:
    """A call that the server has received."""

    def __init__(self, request: Any, context: Context) -> None:
        self.request = request
        self.at = time.monotonic()
        self.timeout: float | None = context.time_remaining()
        self.has_ended = Event()
        if not context.add_callback(self.has_ended.set):
            self.has_ended.set()


class FakeServer:
    """By default the server extends every lease, and its log_id is `log`."""

    def __init__(self, address: str = "127.0.0.1:0") -> None:
        self._answers: dict[str, list[Answer]] = {}
        self._calls: dict[str, list[ReceivedCall]] = {}
        self._has_call = Condition()
        self._server = grpc.server(ThreadPoolExecutor(16), handlers=[_Handler(self)])
        port = self._server.add_insecure_port(address)
        self.address = address.replace(":0", f":{port}")
        self._server.start()
        self.set_answers("GetServerInfo", reply(v1.GetServerInfoResponse(log_id="log")))
        self.set_answers("Heartbeat", heartbeat())

    def set_answers(self, method: str, *answers: Answer) -> None:
        """Sets the answers to a method, one for each call. All further calls get the last one."""
        self._answers[method] = list(answers)

    def wait_for_calls(self, method: str, count: int = 1) -> list[ReceivedCall]:
        """Waits until the server has received `count` calls of the method, and returns all calls received."""
        with self._has_call:
            has_enough = self._has_call.wait_for(lambda: len(self._calls.get(method, [])) >= count, TIMEOUT)
            assert has_enough, f"{method}: {len(self._calls.get(method, []))} calls, expected {count}"
            return list(self._calls[method])

    def count(self, method: str) -> int:
        """Returns how many calls of the method the server has received."""
        with self._has_call:
            return len(self._calls.get(method, []))

    def stop(self) -> None:
        """Stops the server and ends all calls."""
        self._server.stop(None).wait()

    def answer(self, method: str, request: Message, context: Context) -> Any:
        """Records a call and answers it."""
        with self._has_call:
            self._calls.setdefault(method, []).append(ReceivedCall(request, context))
            answers = self._answers[method]
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            self._has_call.notify_all()
        return answer(request, context)


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, server: FakeServer) -> None:
        self._server = server

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = handler_call_details.method.rsplit("/", 1)[1]
        is_stream = method == "SubscribeEvents"
        kind: Any = grpc.unary_stream_rpc_method_handler if is_stream else grpc.unary_unary_rpc_method_handler
        return kind(
            partial(self._server.answer, method),
            request_deserializer=getattr(v1, f"{method}Request").FromString,
            response_serializer=getattr(v1, f"{method}Response").SerializeToString,
        )


def reply(message: Message) -> Answer:
    """Returns an answer with this message."""
    return lambda request, context: message


def heartbeat(state: v1.LeaseState = v1.LeaseState.LEASE_STATE_EXTENDED) -> Answer:
    """Returns an answer to a Heartbeat."""
    return reply(v1.HeartbeatResponse(results=[v1.BeatResult(state=state)]))


def refuse(
    code: grpc.StatusCode,
    reason: str | None = None,
    *,
    domain: str = "runhub",
    metadata: dict[str, str] | None = None,
    fields: dict[str, str] | None = None,
    retry_delay: float | None = None,
) -> Answer:
    """Returns an answer with this error. Without a reason, the error is like one of gRPC itself."""
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
    status = Status(code=code.value[0], message="for people", details=[_packed(detail) for detail in details])

    def answer(request: Message, context: Context) -> None:
        if reason:
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(code, "for people")

    return answer


def hang() -> Answer:
    """Returns an answer that does not come before the caller has cancelled the call."""

    def answer(request: Message, context: Context) -> Any:
        is_cancelled = Event()
        if context.add_callback(is_cancelled.set):
            is_cancelled.wait(TIMEOUT)
        context.abort(grpc.StatusCode.CANCELLED, "the caller has cancelled the call")

    return answer


def stream(*messages: v1.SubscribeEventsResponse, then: Answer | None = None) -> Answer:
    """Returns an answer that sends these messages, and then gives the answer `then` or ends the stream."""

    def answer(request: Message, context: Context) -> Iterator[Message]:
        yield from messages
        if then:
            then(request, context)

    return answer


def _packed(detail: Message) -> Packed:
    packed = Packed()
    packed.Pack(detail)
    return packed
