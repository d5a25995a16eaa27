"""This module tests the request_ids, retries, deadlines and errors of calls with the blocking client and the asyncio
client."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

import grpc
import pytest
from conftest import Connect
from fake import FakeServer, never_respond, refuse, reply

import runhub
from runhub.v1 import (
    ClaimTaskRequest,
    ClaimTaskResponse,
    CreateRunRequest,
    CreateRunResponse,
    GetRunRequest,
    GetRunResponse,
    HeartbeatRequest,
    SubscribeEventsRequest,
)

CREATED = reply(CreateRunResponse())
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    "error",
    [
        refuse(UNAVAILABLE),
        refuse(UNAVAILABLE, "DRAINING", retry_delay=0.01),
        refuse(UNAVAILABLE, "STORE_FULL", retry_delay=0.01),
        # Errors of a proxy, which have no reason.
        refuse(grpc.StatusCode.INTERNAL),
        refuse(grpc.StatusCode.UNKNOWN),
        refuse(grpc.StatusCode.CANCELLED),
        refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", retry_delay=0.01),
    ],
)
async def test_temporary_error_is_retried_with_same_request_id(
    fake: FakeServer, connect: Connect, error: object
) -> None:
    fake.set_handlers("CreateRun", *[error] * 2, CREATED)  # type: ignore[list-item] # it is an Handler
    await connect(fake.address).call("runs", "CreateRun", CreateRunRequest(goal="a"))
    ids = {call.request.request_id for call in fake.wait_for_calls("CreateRun", 3)}
    assert [UUID(one).version for one in ids] == [7]


async def test_retry_waits_at_least_the_retry_delay(fake: FakeServer, connect: Connect) -> None:
    overloaded = refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", retry_delay=0.4)
    fake.set_handlers("CreateRun", overloaded, CREATED)
    await connect(fake.address).call("runs", "CreateRun", CreateRunRequest())
    first, second = fake.wait_for_calls("CreateRun", 2)
    assert 0.4 <= second.at - first.at < 2


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, None),
        (grpc.StatusCode.FAILED_PRECONDITION, "STALE_LEASE"),
        (grpc.StatusCode.INTERNAL, "INTERNAL"),
        (grpc.StatusCode.ABORTED, "REVISION_MISMATCH"),
    ],
)
async def test_permanent_error_is_not_retried(
    fake: FakeServer, connect: Connect, code: grpc.StatusCode, reason: str | None
) -> None:
    fake.set_handlers("CreateRun", refuse(code, reason), CREATED)
    with pytest.raises(runhub.Error) as raised:
        await connect(fake.address).call("runs", "CreateRun", CreateRunRequest())
    assert (raised.value.code(), raised.value.reason) == (code, reason)
    assert fake.count_calls("CreateRun") == 1


async def test_deadline_covers_all_retries(fake: FakeServer, connect: Connect) -> None:
    fake.set_handlers("CreateRun", refuse(UNAVAILABLE))
    began = time.monotonic()
    with pytest.raises(runhub.Error) as raised:
        await connect(fake.address, deadline=2).call("runs", "CreateRun", CreateRunRequest())
    assert raised.value.code() is UNAVAILABLE
    assert time.monotonic() - began < 8
    timeouts = [call.timeout or 0 for call in fake.wait_for_calls("CreateRun", 3)]
    assert max(timeouts) < 2.1
    assert timeouts[-1] < timeouts[0]


async def test_hanging_call_ends_at_deadline(fake: FakeServer, connect: Connect) -> None:
    fake.set_handlers("GetRun", never_respond())
    with pytest.raises(runhub.Error) as raised:
        await connect(fake.address).call("runs", "GetRun", GetRunRequest(), timeout=0.2)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert raised.value.reason is None


async def test_call_ends_at_deadline_with_last_error(fake: FakeServer, connect: Connect) -> None:
    fake.set_handlers("GetRun", refuse(UNAVAILABLE, "STORE_BUSY"), never_respond())
    with pytest.raises(runhub.StoreBusy):
        await connect(fake.address).call("runs", "GetRun", GetRunRequest(), timeout=2)
    assert fake.count_calls("GetRun") == 2


async def test_wait_is_added_to_deadline_but_not_to_timeout(fake: FakeServer, connect: Connect) -> None:
    fake.set_handlers("ClaimTask", reply(ClaimTaskResponse()))
    client = connect(fake.address, deadline=5)
    request = ClaimTaskRequest(wait={"seconds": 10})
    await client.call("tasks", "ClaimTask", request)
    await client.call("tasks", "ClaimTask", request, timeout=3)
    without_timeout, with_timeout = fake.wait_for_calls("ClaimTask", 2)
    # The upper bounds of the two timeouts leave 1 s for rounding, because gRPC rounds up the timeouts that clients
    # send.
    assert 13 < (without_timeout.timeout or 0) < 16
    assert 1 < (with_timeout.timeout or 0) < 4


async def test_reused_message_is_a_new_call_and_callers_request_id_is_kept(fake: FakeServer, connect: Connect) -> None:
    fake.set_handlers("CreateRun", CREATED)
    client = connect(fake.address)
    request = CreateRunRequest(goal="a")
    await client.call("runs", "CreateRun", request)
    await client.call("runs", "CreateRun", request)
    await client.call("runs", "CreateRun", CreateRunRequest(request_id="mine"))
    assert request == CreateRunRequest(goal="a")
    first, second, third = (call.request.request_id for call in fake.wait_for_calls("CreateRun", 3))
    assert first != second
    assert third == "mine"


async def test_request_without_request_id_field_is_sent_unchanged(fake: FakeServer, connect: Connect) -> None:
    fake.set_handlers("GetRun", reply(GetRunResponse()))
    client = connect(fake.address)
    await client.call("tasks", "Heartbeat", HeartbeatRequest())
    await client.call("runs", "GetRun", GetRunRequest(run_id="a"))
    assert fake.wait_for_calls("Heartbeat")[0].request == HeartbeatRequest()
    assert fake.wait_for_calls("GetRun")[0].request == GetRunRequest(run_id="a")


async def test_error_has_all_details_of_the_server(fake: FakeServer, connect: Connect) -> None:
    refusal = refuse(
        grpc.StatusCode.FAILED_PRECONDITION,
        "STALE_LEASE",
        metadata={"attempt_number": "1"},
        fields={"goal": "is blank", "labels": "too many"},
        retry_delay=1.5,
    )
    fake.set_handlers("GetRun", refusal)
    with pytest.raises(runhub.StaleLease) as raised:
        await connect(fake.address).call("runs", "GetRun", GetRunRequest())
    error = raised.value
    assert (error.reason, error.code()) == ("STALE_LEASE", grpc.StatusCode.FAILED_PRECONDITION)
    assert (error.message, error.details()) == ("for people", "for people")
    assert error.metadata == {"attempt_number": "1"}
    assert error.fields == [("goal", "is blank"), ("labels", "too many")]
    assert error.retry_delay == 1.5
    assert str(error) == "STALE_LEASE: for people"


async def test_unknown_reason_is_kept_and_reason_of_other_domain_is_ignored(fake: FakeServer, connect: Connect) -> None:
    unknown = refuse(grpc.StatusCode.NOT_FOUND, "REASON_OF_A_NEWER_SERVER")
    other = refuse(grpc.StatusCode.NOT_FOUND, "STALE_LEASE", domain="elsewhere")
    fake.set_handlers("GetRun", unknown, other)
    client = connect(fake.address)
    for reason in ("REASON_OF_A_NEWER_SERVER", None):
        with pytest.raises(runhub.Error) as raised:
            await client.call("runs", "GetRun", GetRunRequest())
        assert type(raised.value) is runhub.Error
        assert raised.value.reason == reason


async def test_response_over_16_mib_is_an_error(fake: FakeServer, connect: Connect) -> None:
    mib = 1024 * 1024
    sizes = [15 * mib, 17 * mib]
    fake.set_handlers("GetRun", *(reply(GetRunResponse(run={"goal": "x" * size})) for size in sizes))
    client = connect(fake.address)
    assert len((await client.call("runs", "GetRun", GetRunRequest())).run.goal) == 15 * mib
    with pytest.raises(runhub.Error) as raised:
        await client.call("runs", "GetRun", GetRunRequest())
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert fake.count_calls("GetRun") == 2


async def test_call_cancelled_by_its_caller_is_not_retried(fake: FakeServer) -> None:
    fake.set_handlers("GetRun", never_respond())
    async with runhub.aio.connect(fake.address) as client:

        async def get_run() -> None:
            await client.runs.GetRun(GetRunRequest())

        getting = asyncio.create_task(get_run())
        (call,) = await asyncio.to_thread(fake.wait_for_calls, "GetRun")
        getting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await getting
        assert await asyncio.to_thread(call.has_ended.wait, 5)
    assert fake.count_calls("GetRun") == 1


async def test_stream_of_a_stub_raises_error_with_reason(fake: FakeServer) -> None:
    fake.set_handlers("SubscribeEvents", refuse(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"))
    with runhub.connect(fake.address) as blocking, pytest.raises(runhub.RunNotFound):
        next(blocking.events.SubscribeEvents(SubscribeEventsRequest()))
    async with runhub.aio.connect(fake.address) as client:
        with pytest.raises(runhub.RunNotFound):
            await anext(aiter(client.events.SubscribeEvents(SubscribeEventsRequest())))


def test_stream_cancelled_by_its_caller_has_no_temporary_error(fake: FakeServer) -> None:
    fake.set_handlers("SubscribeEvents", never_respond())
    with runhub.connect(fake.address) as client:
        stream = client.events.SubscribeEvents(SubscribeEventsRequest())
        fake.wait_for_calls("SubscribeEvents")
        stream.cancel()
        with pytest.raises(runhub.Error) as raised:
            next(stream)
    assert raised.value.code() is grpc.StatusCode.CANCELLED
    assert not raised.value.is_temporary
