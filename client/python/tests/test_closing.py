"""Calls, streams, subscriptions and leases end when their client is closed."""

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
from fake import Answer, FakeServer, hang, heartbeat, refuse, stream
from test_lease_aio import CLAIM
from test_subscription_state import event

import runhub
from runhub.v1 import Claim, GetRunRequest, SubscribeEventsRequest

# After this error, the next try of a heartbeat, call or subscription is 20 s away.
RETRY_IN_20_S = refuse(grpc.StatusCode.UNAVAILABLE, "DRAINING", retry_delay=20)
LONG_CLAIM = Claim(lease_token="token", lease_duration={"seconds": 3600})
ALL = SubscribeEventsRequest()


@pytest.fixture(autouse=True)
async def no_unretrieved_errors() -> AsyncIterator[None]:
    """Fails the test if a task ends with an error that nobody retrieves. Pytest already fails for threads."""
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    yield
    gc.collect()
    await asyncio.sleep(0)
    assert errors == []


async def assert_closed(work: Coroutine[Any, Any, Any]) -> None:
    with pytest.raises(runhub.Error) as raised:
        await asyncio.wait_for(work, 5)
    assert (raised.value.code(), raised.value.message) == (grpc.StatusCode.CANCELLED, "the client is closed")
    assert raised.value.reason is None


async def assert_close_ends(client: AnyClient, work: Coroutine[Any, Any, Any], wait: Callable[[], object]) -> None:
    task = asyncio.create_task(assert_closed(work))
    await asyncio.to_thread(wait)
    # Gives the client time to receive its answer.
    await asyncio.sleep(0.2)
    await asyncio.wait_for(client.close(), 5)
    await task


@pytest.mark.parametrize("answer", [hang(), RETRY_IN_20_S])
async def test_close_ends_call(fake: FakeServer, connect: Connect, answer: Answer) -> None:
    fake.set_answers("GetRun", answer)
    client = connect(fake.address)
    await assert_close_ends(
        client, client.call("runs", "GetRun", GetRunRequest()), lambda: fake.wait_for_calls("GetRun")
    )
    await assert_closed(client.call("runs", "GetRun", GetRunRequest()))
    assert fake.count("GetRun") == 1


@pytest.mark.parametrize("answer", [stream(event(3), then=hang()), stream(event(3), then=RETRY_IN_20_S)])
async def test_close_ends_subscription(fake: FakeServer, connect: Connect, answer: Answer) -> None:
    fake.set_answers("SubscribeEvents", answer)
    client = connect(fake.address)
    subscription = client.subscribe(ALL)
    await subscription.next()
    await assert_close_ends(client, subscription.next(), lambda: None)
    assert await subscription.next() is None
    await assert_closed(client.subscribe(ALL).next())


async def test_close_ends_subscription_that_reads_the_log_id(fake: FakeServer, connect: Connect) -> None:
    fake.set_answers("GetServerInfo", hang())
    client = connect(fake.address)
    await assert_close_ends(client, client.subscribe(ALL).next(), lambda: fake.wait_for_calls("GetServerInfo"))


async def test_close_ends_stream_of_asyncio_stub(fake: FakeServer) -> None:
    fake.set_answers("SubscribeEvents", stream(event(3), then=hang()))
    client = runhub.aio.connect(fake.address)
    events = aiter(client.events.SubscribeEvents(ALL))
    await anext(events)
    reading = asyncio.create_task(assert_closed(anext(events)))  # type: ignore[arg-type] # it is a coroutine
    await asyncio.sleep(0)
    await client.close()
    await reading
    await assert_closed(anext(aiter(client.events.SubscribeEvents(ALL))))  # type: ignore[arg-type]


def test_close_ends_stream_of_blocking_stub(fake: FakeServer) -> None:
    fake.set_answers("SubscribeEvents", stream(event(3), then=hang()))
    client = runhub.connect(fake.address)
    events = client.events.SubscribeEvents(ALL)
    next(events)
    threading.Timer(0.2, client.close).start()
    for one in (events, client.events.SubscribeEvents(ALL)):
        with pytest.raises(runhub.Error, match="the client is closed"):
            list(one)


@pytest.mark.parametrize("answer", [hang(), RETRY_IN_20_S, heartbeat()])
async def test_close_loses_asyncio_lease(fake: FakeServer, answer: Answer) -> None:
    fake.set_answers("Heartbeat", answer)
    client = runhub.aio.connect(fake.address)
    began = time.monotonic()
    with pytest.raises(runhub.LeaseLost) as lost:
        async with client.keep_lease(LONG_CLAIM):
            await asyncio.to_thread(fake.wait_for_calls, "Heartbeat")
            await asyncio.sleep(0.2)
            await client.close()
            await asyncio.Event().wait()
    assert (lost.value.because, str(lost.value.__cause__)) == ("unanswered", "CANCELLED: the client is closed")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("answer", [hang(), RETRY_IN_20_S, heartbeat()])
def test_close_loses_blocking_lease(fake: FakeServer, answer: Answer) -> None:
    fake.set_answers("Heartbeat", answer)
    client = runhub.connect(fake.address)
    began = time.monotonic()
    with pytest.raises(runhub.LeaseLost) as lost, client.keep_lease(LONG_CLAIM) as lease:
        fake.wait_for_calls("Heartbeat")
        time.sleep(0.2)
        client.close()
        lease.wait(20)
    assert (lost.value.because, str(lost.value.__cause__)) == ("unanswered", "CANCELLED: the client is closed")
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
    fake.set_answers("GetRun", hang())
    client = runhub.aio.connect(fake.address)

    async def get() -> None:
        await client.runs.GetRun(GetRunRequest())

    getting = asyncio.create_task(get())
    await asyncio.to_thread(fake.wait_for_calls, "GetRun")
    getting.cancel()
    await client.close()
    with pytest.raises(asyncio.CancelledError):
        await getting


async def test_close_ends_call_that_was_not_awaited_yet(fake: FakeServer) -> None:
    client = runhub.aio.connect(fake.address)
    call = client.runs.GetRun(GetRunRequest())
    await client.close()
    with pytest.raises(runhub.Error, match="the client is closed"):
        await call
