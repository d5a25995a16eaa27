"""A server in process that answers as a test says, and remembers what it was asked."""

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

# Nothing here takes so long: it is for tests that would hang.
PATIENCE = 10.0


class Asked:
    """One call that came."""

    def __init__(self, request: Any, context: Context) -> None:
        self.request = request
        self.at = time.monotonic()
        self.timeout: float | None = context.time_remaining()
        self.over = Event()
        if not context.add_callback(self.over.set):
            self.over.set()


class FakeServer:
    """Until a test says otherwise it extends every lease and has the log `log`."""

    def __init__(self, address: str = "127.0.0.1:0") -> None:
        self._answers: dict[str, list[Answer]] = {}
        self._asked: dict[str, list[Asked]] = {}
        self._more = Condition()
        self._server = grpc.server(ThreadPoolExecutor(16), handlers=[_Handler(self)])
        port = self._server.add_insecure_port(address)
        self.address = address.replace(":0", f":{port}")
        self._server.start()
        self.answers("GetServerInfo", reply(v1.GetServerInfoResponse(log_id="log")))
        self.answers("Heartbeat", beat())

    def answers(self, method: str, *answers: Answer) -> None:
        """What it answers, one after the other; the last of them from then on."""
        self._answers[method] = list(answers)

    def asked(self, method: str, count: int = 1) -> list[Asked]:
        """What it was asked, as soon as there were so many."""
        with self._more:
            came = self._more.wait_for(lambda: len(self._asked.get(method, [])) >= count, PATIENCE)
            assert came, f"{method}: {len(self._asked.get(method, []))} calls, wanted {count}"
            return list(self._asked[method])

    def count(self, method: str) -> int:
        """How often it was asked until now."""
        with self._more:
            return len(self._asked.get(method, []))

    def stop(self) -> None:
        """Ends all calls."""
        self._server.stop(None).wait()

    def answer(self, method: str, request: Message, context: Context) -> Any:
        """Answers a call."""
        with self._more:
            self._asked.setdefault(method, []).append(Asked(request, context))
            answers = self._answers[method]
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            self._more.notify_all()
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
    """Answers with this."""
    return lambda request, context: message


def beat(state: v1.LeaseState = v1.LeaseState.LEASE_STATE_EXTENDED) -> Answer:
    """Answers a heartbeat."""
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
    """Refuses; without a reason as gRPC itself does."""
    details: list[Message] = []
    if reason:
        details.append(ErrorInfo(reason=reason, domain=domain, metadata=metadata))
    if fields:
        violations = [BadRequest.FieldViolation(field=name, description=what) for name, what in fields.items()]
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
    """Answers nothing until the caller is gone."""

    def answer(request: Message, context: Context) -> Any:
        gone = Event()
        if context.add_callback(gone.set):
            gone.wait(PATIENCE)
        context.abort(grpc.StatusCode.CANCELLED, "the caller is gone")

    return answer


def stream(*messages: v1.SubscribeEventsResponse, then: Answer | None = None) -> Answer:
    """Sends these; then ends, or does as told."""

    def answer(request: Message, context: Context) -> Iterator[Message]:
        yield from messages
        if then:
            then(request, context)

    return answer


def _packed(detail: Message) -> Packed:
    packed = Packed()
    packed.Pack(detail)
    return packed
