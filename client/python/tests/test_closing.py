"""What becomes of all that a client does when it is closed."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import grpc
import pytest
from conftest import Connect
from fake import Answer, FakeServer, beat, hang, refuse, stream
from test_lease_aio import CLAIM
from test_log import event
from worlds import World

import runhub
from runhub.v1 import Claim, GetRunRequest, SubscribeEventsRequest

# A beat's, a call's and a subscription's next try is far away.
LATER = refuse(grpc.StatusCode.UNAVAILABLE, "DRAINING", retry_delay=20)
LONG = Claim(lease_token="token", lease_duration={"seconds": 3600})
ALL = SubscribeEventsRequest()


@pytest.fixture(autouse=True)
async def nothing_left_behind() -> AsyncIterator[None]:
    """No traceback: neither of a thread, for that is a failure anyway, nor of a task."""
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    yield
    gc.collect()
    await asyncio.sleep(0)
    assert said == []


async def is_closed(doing: Coroutine[Any, Any, Any]) -> None:
    with pytest.raises(runhub.Error) as raised:
        await asyncio.wait_for(doing, 5)
    assert (raised.value.code(), raised.value.message) == (grpc.StatusCode.CANCELLED, "the client is closed")
    assert raised.value.reason is None


async def closed_while(world: World, doing: Coroutine[Any, Any, Any], asked: Callable[[], object]) -> None:
    task = asyncio.create_task(is_closed(doing))
    await asyncio.to_thread(asked)
    # It has heard of its answer.
    await asyncio.sleep(0.2)
    await asyncio.wait_for(world.close(), 5)
    await task


@pytest.mark.parametrize("answer", [hang(), LATER])
async def test_a_call_ends(fake: FakeServer, connect: Connect, answer: Answer) -> None:
    fake.answers("GetRun", answer)
    world = connect(fake.address)
    await closed_while(world, world.call("runs", "GetRun", GetRunRequest()), lambda: fake.asked("GetRun"))
    await is_closed(world.call("runs", "GetRun", GetRunRequest()))
    assert fake.count("GetRun") == 1


@pytest.mark.parametrize("answer", [stream(event(3), then=hang()), stream(event(3), then=LATER)])
async def test_a_subscription_ends(fake: FakeServer, connect: Connect, answer: Answer) -> None:
    fake.answers("SubscribeEvents", answer)
    world = connect(fake.address)
    watch = world.subscribe(ALL)
    await watch.next()
    await closed_while(world, watch.next(), lambda: None)
    assert await watch.next() is None
    await is_closed(world.subscribe(ALL).next())


async def test_a_subscription_ends_that_looks_at_the_log(fake: FakeServer, connect: Connect) -> None:
    fake.answers("GetServerInfo", hang())
    world = connect(fake.address)
    await closed_while(world, world.subscribe(ALL).next(), lambda: fake.asked("GetServerInfo"))


async def test_a_raw_stream_ends(fake: FakeServer) -> None:
    fake.answers("SubscribeEvents", stream(event(3), then=hang()))
    client = runhub.aio.connect(fake.address)
    events = aiter(client.events.SubscribeEvents(ALL))
    await anext(events)
    reading = asyncio.create_task(is_closed(anext(events)))  # type: ignore[arg-type] # it is a coroutine
    await asyncio.sleep(0)
    await client.close()
    await reading
    await is_closed(anext(aiter(client.events.SubscribeEvents(ALL))))  # type: ignore[arg-type]


def test_a_raw_stream_of_threads_ends(fake: FakeServer) -> None:
    fake.answers("SubscribeEvents", stream(event(3), then=hang()))
    client = runhub.connect(fake.address)
    events = client.events.SubscribeEvents(ALL)
    next(events)
    threading.Timer(0.2, client.close).start()
    for one in (events, client.events.SubscribeEvents(ALL)):
        with pytest.raises(runhub.Error, match="the client is closed"):
            list(one)


@pytest.mark.parametrize("answer", [hang(), LATER, beat()])
async def test_a_lease_is_lost(fake: FakeServer, answer: Answer) -> None:
    fake.answers("Heartbeat", answer)
    client = runhub.aio.connect(fake.address)
    began = time.monotonic()
    with pytest.raises(runhub.LeaseLost) as lost:
        async with client.keep_lease(LONG):
            await asyncio.to_thread(fake.asked, "Heartbeat")
            await asyncio.sleep(0.2)
            await client.close()
            await asyncio.Event().wait()
    assert (lost.value.because, str(lost.value.__cause__)) == ("unanswered", "CANCELLED: the client is closed")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("answer", [hang(), LATER, beat()])
def test_a_lease_of_threads_is_lost(fake: FakeServer, answer: Answer) -> None:
    fake.answers("Heartbeat", answer)
    client = runhub.connect(fake.address)
    began = time.monotonic()
    with pytest.raises(runhub.LeaseLost) as lost, client.keep_lease(LONG) as lease:
        fake.asked("Heartbeat")
        time.sleep(0.2)
        client.close()
        lease.wait(20)
    assert (lost.value.because, str(lost.value.__cause__)) == ("unanswered", "CANCELLED: the client is closed")
    assert time.monotonic() - began < 5
    assert "runhub-lease" not in {thread.name for thread in threading.enumerate()}


async def test_a_lease_of_a_closed_client_is_lost_at_once(fake: FakeServer) -> None:
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


async def test_who_is_cancelled_meanwhile_stays_so(fake: FakeServer) -> None:
    fake.answers("GetRun", hang())
    client = runhub.aio.connect(fake.address)

    async def get() -> None:
        await client.runs.GetRun(GetRunRequest())

    getting = asyncio.create_task(get())
    await asyncio.to_thread(fake.asked, "GetRun")
    getting.cancel()
    await client.close()
    with pytest.raises(asyncio.CancelledError):
        await getting


async def test_a_call_that_has_not_begun_ends_too(fake: FakeServer) -> None:
    client = runhub.aio.connect(fake.address)
    call = client.runs.GetRun(GetRunRequest())
    await client.close()
    with pytest.raises(runhub.Error, match="the client is closed"):
        await call
