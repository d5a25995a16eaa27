"""A call in both worlds: request_id, retry, deadline, errors."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

import grpc
import pytest
from conftest import Connect
from fake import FakeServer, hang, refuse, reply

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
    "trouble",
    [
        refuse(UNAVAILABLE),
        refuse(UNAVAILABLE, "DRAINING", retry_delay=0.01),
        refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", retry_delay=0.01),
    ],
)
async def test_what_passes_is_tried_again_with_the_same_request_id(
    fake: FakeServer, connect: Connect, trouble: object
) -> None:
    fake.answers("CreateRun", *[trouble] * 2, CREATED)  # type: ignore[list-item] # it is an Answer
    await connect(fake.address).call("runs", "CreateRun", CreateRunRequest(goal="a"))
    ids = {asked.request.request_id for asked in fake.asked("CreateRun", 3)}
    assert [UUID(one).version for one in ids] == [7]


async def test_not_sooner_than_told(fake: FakeServer, connect: Connect) -> None:
    overloaded = refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", retry_delay=0.4)
    fake.answers("CreateRun", overloaded, CREATED)
    await connect(fake.address).call("runs", "CreateRun", CreateRunRequest())
    first, second = fake.asked("CreateRun", 2)
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
async def test_what_stays_is_not_tried_again(
    fake: FakeServer, connect: Connect, code: grpc.StatusCode, reason: str | None
) -> None:
    fake.answers("CreateRun", refuse(code, reason), CREATED)
    with pytest.raises(runhub.Error) as raised:
        await connect(fake.address).call("runs", "CreateRun", CreateRunRequest())
    assert (raised.value.code(), raised.value.reason) == (code, reason)
    assert fake.count("CreateRun") == 1


async def test_the_deadline_is_for_all_tries(fake: FakeServer, connect: Connect) -> None:
    fake.answers("CreateRun", refuse(UNAVAILABLE))
    began = time.monotonic()
    with pytest.raises(runhub.Error) as raised:
        await connect(fake.address, deadline=2).call("runs", "CreateRun", CreateRunRequest())
    assert raised.value.code() is UNAVAILABLE
    assert time.monotonic() - began < 8
    timeouts = [asked.timeout or 0 for asked in fake.asked("CreateRun", 3)]
    assert max(timeouts) < 2.1
    assert timeouts[-1] < timeouts[0]


async def test_a_call_that_hangs_ends_at_its_deadline(fake: FakeServer, connect: Connect) -> None:
    fake.answers("GetRun", hang())
    with pytest.raises(runhub.Error) as raised:
        await connect(fake.address).call("runs", "GetRun", GetRunRequest(), timeout=0.2)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert raised.value.reason is None


async def test_at_the_deadline_it_says_what_the_last_whole_try_met(fake: FakeServer, connect: Connect) -> None:
    fake.answers("GetRun", refuse(UNAVAILABLE, "STORE_BUSY"), hang())
    with pytest.raises(runhub.StoreBusy):
        await connect(fake.address).call("runs", "GetRun", GetRunRequest(), timeout=2)
    assert fake.count("GetRun") == 2


async def test_a_wait_comes_on_top_but_not_of_the_callers_timeout(fake: FakeServer, connect: Connect) -> None:
    fake.answers("ClaimTask", reply(ClaimTaskResponse()))
    world = connect(fake.address, deadline=5)
    request = ClaimTaskRequest(wait={"seconds": 10})
    await world.call("tasks", "ClaimTask", request)
    await world.call("tasks", "ClaimTask", request, timeout=3)
    default, told = fake.asked("ClaimTask", 2)
    # gRPC rounds up what it sends.
    assert 13 < (default.timeout or 0) < 16
    assert 1 < (told.timeout or 0) < 4


async def test_a_request_used_twice_is_two_calls_and_the_callers_id_is_kept(fake: FakeServer, connect: Connect) -> None:
    fake.answers("CreateRun", CREATED)
    world = connect(fake.address)
    request = CreateRunRequest(goal="a")
    await world.call("runs", "CreateRun", request)
    await world.call("runs", "CreateRun", request)
    await world.call("runs", "CreateRun", CreateRunRequest(request_id="mine"))
    assert request == CreateRunRequest(goal="a")
    first, second, third = (asked.request.request_id for asked in fake.asked("CreateRun", 3))
    assert first != second
    assert third == "mine"


async def test_what_takes_no_request_id_gets_none(fake: FakeServer, connect: Connect) -> None:
    fake.answers("GetRun", reply(GetRunResponse()))
    world = connect(fake.address)
    await world.call("tasks", "Heartbeat", HeartbeatRequest())
    await world.call("runs", "GetRun", GetRunRequest(run_id="a"))
    assert fake.asked("Heartbeat")[0].request == HeartbeatRequest()
    assert fake.asked("GetRun")[0].request == GetRunRequest(run_id="a")


async def test_an_error_has_all_that_was_said(fake: FakeServer, connect: Connect) -> None:
    trouble = refuse(
        grpc.StatusCode.FAILED_PRECONDITION,
        "STALE_LEASE",
        metadata={"attempt_number": "1"},
        fields={"goal": "is blank", "labels": "too many"},
        retry_delay=1.5,
    )
    fake.answers("GetRun", trouble)
    with pytest.raises(runhub.StaleLease) as raised:
        await connect(fake.address).call("runs", "GetRun", GetRunRequest())
    error = raised.value
    assert (error.reason, error.code()) == ("STALE_LEASE", grpc.StatusCode.FAILED_PRECONDITION)
    assert (error.message, error.details()) == ("for people", "for people")
    assert error.metadata == {"attempt_number": "1"}
    assert error.fields == [("goal", "is blank"), ("labels", "too many")]
    assert error.retry_delay == 1.5
    assert str(error) == "STALE_LEASE: for people"


async def test_an_unknown_reason_is_kept_and_one_of_another_domain_is_none(fake: FakeServer, connect: Connect) -> None:
    unknown = refuse(grpc.StatusCode.NOT_FOUND, "NO_SUCH_MOON")
    other = refuse(grpc.StatusCode.NOT_FOUND, "STALE_LEASE", domain="elsewhere")
    fake.answers("GetRun", unknown, other)
    world = connect(fake.address)
    for reason in ("NO_SUCH_MOON", None):
        with pytest.raises(runhub.Error) as raised:
            await world.call("runs", "GetRun", GetRunRequest())
        assert type(raised.value) is runhub.Error
        assert raised.value.reason == reason


async def test_an_answer_may_have_16_mib(fake: FakeServer, connect: Connect) -> None:
    mib = 1024 * 1024
    sizes = [15 * mib, 17 * mib]
    fake.answers("GetRun", *(reply(GetRunResponse(run={"goal": "x" * size})) for size in sizes))
    world = connect(fake.address)
    assert len((await world.call("runs", "GetRun", GetRunRequest())).run.goal) == 15 * mib
    with pytest.raises(runhub.Error) as raised:
        await world.call("runs", "GetRun", GetRunRequest())
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert fake.count("GetRun") == 2


async def test_a_call_cancelled_by_its_caller_is_not_made_again(fake: FakeServer) -> None:
    fake.answers("GetRun", hang())
    async with runhub.aio.connect(fake.address) as client:

        async def get() -> None:
            await client.runs.GetRun(GetRunRequest())

        getting = asyncio.create_task(get())
        (asked,) = await asyncio.to_thread(fake.asked, "GetRun")
        getting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await getting
        assert await asyncio.to_thread(asked.over.wait, 5)
    assert fake.count("GetRun") == 1


async def test_a_raw_stream_raises_by_reason_too(fake: FakeServer) -> None:
    fake.answers("SubscribeEvents", refuse(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"))
    with runhub.connect(fake.address) as blocking, pytest.raises(runhub.RunNotFound):
        next(blocking.events.SubscribeEvents(SubscribeEventsRequest()))
    async with runhub.aio.connect(fake.address) as client:
        with pytest.raises(runhub.RunNotFound):
            await anext(aiter(client.events.SubscribeEvents(SubscribeEventsRequest())))
