"""This module tests that calls, streams, subscriptions and leases end when the client is closed."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import grpc
import pytest
from clients import AnyClient
from conftest import Connect
from fake import FakeServer, Handler, never_respond, refuse, send_lease_state, send_stream
from test_lease_aio import CLAIM
from test_subscription_state import new_event

import runhub
from runhub.v1 import Claim, GetRunRequest, SubscribeEventsRequest

# An error after which a call, heartbeat or subscription waits 20 s before the next retry.
RETRY_IN_20_S = refuse(grpc.StatusCode.UNAVAILABLE, "DRAINING", retry_delay=20)
LONG_CLAIM = Claim(lease_token="token", lease_duration={"seconds": 3600})
ALL = SubscribeEventsRequest()
CLOSED = "the client is closed: create a new client"


@pytest.fixture(autouse=True)
async def fail_on_unretrieved_errors() -> AsyncIterator[None]:
    """Fails the test if an asyncio task ends with an error that no code retrieves.

    Pytest itself fails a test if a thread ends with an error.
    """
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    yield
    gc.collect()
    await asyncio.sleep(0)
    assert errors == []


async def assert_closed(coroutine: Coroutine[Any, Any, Any]) -> None:
    with pytest.raises(runhub.Error) as raised:
        await asyncio.wait_for(coroutine, 5)
    assert (raised.value.code(), raised.value.message) == (grpc.StatusCode.CANCELLED, CLOSED)
    assert raised.value.reason is None


async def assert_coroutine_ends_at_close(
    client: AnyClient, coroutine: Coroutine[Any, Any, Any], wait: Callable[[], object]
) -> None:
    task = asyncio.create_task(assert_closed(coroutine))
    await asyncio.to_thread(wait)
    # Give the client time to receive the response of the fake server before the client is closed.
    await asyncio.sleep(0.2)
    await asyncio.wait_for(client.close(), 5)
    await task


@pytest.mark.parametrize("answer", [never_respond(), RETRY_IN_20_S])
async def test_close_ends_call(fake: FakeServer, connect: Connect, answer: Handler) -> None:
    fake.set_handlers("GetRun", answer)
    client = connect(fake.address)
    await assert_coroutine_ends_at_close(
        client, client.call("runs", "GetRun", GetRunRequest()), lambda: fake.wait_for_calls("GetRun")
    )
    await assert_closed(client.call("runs", "GetRun", GetRunRequest()))
    assert fake.count_calls("GetRun") == 1


@pytest.mark.parametrize("end", [never_respond(), RETRY_IN_20_S])
async def test_close_ends_subscription(fake: FakeServer, connect: Connect, end: Handler) -> None:
    fake.set_handlers("SubscribeEvents", send_stream(new_event(3), then=end))
    client = connect(fake.address)
    subscription = client.subscribe(ALL)
    await subscription.next()
    await assert_coroutine_ends_at_close(client, subscription.next(), lambda: None)
    assert await subscription.next() is None
    await assert_closed(client.subscribe(ALL).next())


async def test_close_ends_subscription_that_reads_the_log_id(fake: FakeServer, connect: Connect) -> None:
    fake.set_handlers("GetServerInfo", never_respond())
    client = connect(fake.address)
    await assert_coroutine_ends_at_close(
        client, client.subscribe(ALL).next(), lambda: fake.wait_for_calls("GetServerInfo")
    )


async def test_close_ends_stream_of_asyncio_stub(fake: FakeServer) -> None:
    fake.set_handlers("SubscribeEvents", send_stream(new_event(3), then=never_respond()))
    client = runhub.aio.connect(fake.address)
    events = aiter(client.events.SubscribeEvents(ALL))
    await anext(events)
    reading = asyncio.create_task(assert_closed(anext(events)))  # type: ignore[arg-type] # it is a coroutine
    await asyncio.sleep(0)
    await client.close()
    await reading
    await assert_closed(anext(aiter(client.events.SubscribeEvents(ALL))))  # type: ignore[arg-type]


def test_close_ends_stream_of_blocking_stub(fake: FakeServer) -> None:
    fake.set_handlers("SubscribeEvents", send_stream(new_event(3), then=never_respond()))
    client = runhub.connect(fake.address)
    events = client.events.SubscribeEvents(ALL)
    next(events)
    threading.Timer(0.2, client.close).start()
    for one in (events, client.events.SubscribeEvents(ALL)):
        with pytest.raises(runhub.Error, match="the client is closed"):
            list(one)


@pytest.mark.parametrize("answer", [never_respond(), RETRY_IN_20_S, send_lease_state()])
async def test_asyncio_lease_is_lost_when_client_is_closed(fake: FakeServer, answer: Handler) -> None:
    fake.set_handlers("Heartbeat", answer)
    client = runhub.aio.connect(fake.address)
    began = time.monotonic()
    with pytest.raises(runhub.LeaseLost) as lost:
        async with client.keep_lease(LONG_CLAIM):
            await asyncio.to_thread(fake.wait_for_calls, "Heartbeat")
            await asyncio.sleep(0.2)
            await client.close()
            await asyncio.Event().wait()
    assert (lost.value.because, str(lost.value.__cause__)) == ("unanswered", f"CANCELLED: {CLOSED}")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("answer", [never_respond(), RETRY_IN_20_S, send_lease_state()])
def test_blocking_lease_is_lost_when_client_is_closed(fake: FakeServer, answer: Handler) -> None:
    fake.set_handlers("Heartbeat", answer)
    client = runhub.connect(fake.address)
    began = time.monotonic()
    with pytest.raises(runhub.LeaseLost) as lost, client.keep_lease(LONG_CLAIM) as lease:
        fake.wait_for_calls("Heartbeat")
        time.sleep(0.2)
        client.close()
        lease.wait(20)
    assert (lost.value.because, str(lost.value.__cause__)) == ("unanswered", f"CANCELLED: {CLOSED}")
    assert time.monotonic() - began < 5
    assert "runhub-lease" not in {thread.name for thread in threading.enumerate()}


async def test_lease_of_closed_client_is_lost_at_once(fake: FakeServer) -> None:
    client = runhub.aio.connect(fake.address)
    await client.close()
    with pytest.raises(runhub.LeaseLost) as lost:
        async with client.keep_lease(CLAIM):
            await asyncio.wait_for(asyncio.Event().wait(), 5)
    assert lost.value.because == "unanswered"
    blocking = runhub.connect(fake.address)
    blocking.close()
    with pytest.raises(runhub.LeaseLost) as lost, blocking.keep_lease(CLAIM) as lease:
        lease.wait(5)
    assert lost.value.because == "unanswered"


async def test_call_cancelled_before_close_stays_cancelled(fake: FakeServer) -> None:
    fake.set_handlers("GetRun", never_respond())
    client = runhub.aio.connect(fake.address)

    async def get_run() -> None:
        await client.runs.GetRun(GetRunRequest())

    getting = asyncio.create_task(get_run())
    await asyncio.to_thread(fake.wait_for_calls, "GetRun")
    getting.cancel()
    await client.close()
    with pytest.raises(asyncio.CancelledError):
        await getting


async def test_close_ends_call_that_has_not_been_awaited(fake: FakeServer) -> None:
    client = runhub.aio.connect(fake.address)
    call = client.runs.GetRun(GetRunRequest())
    await client.close()
    with pytest.raises(runhub.Error, match="the client is closed"):
        await call
