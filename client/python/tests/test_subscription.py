"""A subscription in both worlds."""

from __future__ import annotations

import asyncio
import threading

import grpc
import pytest
from conftest import Connect
from fake import Answer, FakeServer, hang, refuse, reply, stream
from test_log import caught_up, end, event

import runhub
from runhub.v1 import EndReason, GetServerInfoResponse, SubscribeEventsRequest

ALL = SubscribeEventsRequest()
ENDED = end(EndReason.END_REASON_RUN_ENDED, 9)
BROKEN = refuse(grpc.StatusCode.UNAVAILABLE)
DRAINING = refuse(grpc.StatusCode.UNAVAILABLE, "DRAINING", retry_delay=0.2)


@pytest.mark.parametrize(
    ("first", "resumed_after"),
    [
        (stream(event(3), caught_up(5), then=BROKEN), 5),
        # A proxy ended it.
        (stream(event(3), caught_up(5)), 5),
        (stream(event(3), caught_up(5), end(EndReason.END_REASON_DRAINING, 6), then=DRAINING), 6),
    ],
)
async def test_it_goes_on_after_a_break(fake: FakeServer, connect: Connect, first: Answer, resumed_after: int) -> None:
    fake.answers("SubscribeEvents", first, BROKEN, stream(caught_up(7), event(8), ENDED))
    watch = connect(fake.address).subscribe(SubscribeEventsRequest(run_id="a"))
    for wanted in (event(3), caught_up(5), event(8), ENDED, None):
        assert await watch.next() == wanted
    assert watch.position == 9
    requests = [asked.request for asked in fake.asked("SubscribeEvents", 3)]
    resumed = SubscribeEventsRequest(run_id="a", after_position=resumed_after)
    assert requests == [SubscribeEventsRequest(run_id="a"), resumed, resumed]


async def test_draining_is_waited_out(fake: FakeServer, connect: Connect) -> None:
    fake.answers("SubscribeEvents", stream(then=DRAINING), stream(ENDED))
    assert await connect(fake.address).subscribe(ALL).next() == ENDED
    first, second = fake.asked("SubscribeEvents", 2)
    assert second.at - first.at >= 0.2


async def test_a_refusal_is_the_last_thing_it_brings(fake: FakeServer, connect: Connect) -> None:
    fake.answers("SubscribeEvents", stream(event(3), then=refuse(grpc.StatusCode.OUT_OF_RANGE, "POSITION_COMPACTED")))
    watch = connect(fake.address).subscribe(ALL)
    assert await watch.next() == event(3)
    with pytest.raises(runhub.PositionCompacted):
        await watch.next()
    assert await watch.next() is None
    assert fake.count("SubscribeEvents") == 1


async def test_another_log_ends_it(fake: FakeServer, connect: Connect) -> None:
    fake.answers("GetServerInfo", *(reply(GetServerInfoResponse(log_id=log)) for log in ("one", "two")))
    fake.answers("SubscribeEvents", stream(event(3)))
    watch = connect(fake.address).subscribe(ALL)
    await watch.next()
    with pytest.raises(runhub.OtherLog):
        await watch.next()
    assert fake.count("SubscribeEvents") == 1


async def test_in_another_process_it_goes_on_in_the_same_log_only(fake: FakeServer, connect: Connect) -> None:
    fake.answers("SubscribeEvents", stream(event(3)), stream(ENDED))
    world = connect(fake.address)
    watch = world.subscribe(ALL)
    assert watch.log_id is None
    await watch.next()
    assert watch.log_id == "log"
    assert await world.subscribe(SubscribeEventsRequest(after_position=3), watch.log_id).next() == ENDED
    other = world.subscribe(SubscribeEventsRequest(after_position=3), "other")
    assert other.log_id == "other"
    with pytest.raises(runhub.OtherLog):
        await other.next()
    assert fake.count("SubscribeEvents") == 2


async def test_it_has_no_deadline_even_if_the_server_hangs(fake: FakeServer, connect: Connect) -> None:
    fake.answers("GetServerInfo", hang(), reply(GetServerInfoResponse(log_id="log")))
    fake.answers("SubscribeEvents", stream(ENDED))
    assert await connect(fake.address, deadline=1).subscribe(ALL).next() == ENDED
    # A server that was given none shows a very long one.
    assert (fake.asked("SubscribeEvents")[0].timeout or 1e9) > 1e6


async def test_closing_it_closes_its_stream(fake: FakeServer, connect: Connect) -> None:
    fake.answers("SubscribeEvents", stream(event(3), then=hang()))
    watch = connect(fake.address).subscribe(ALL)
    await watch.next()
    await watch.close()
    assert await asyncio.to_thread(fake.asked("SubscribeEvents")[0].over.wait, 5)
    assert await watch.next() is None


async def test_leaving_the_loop_closes_its_stream(fake: FakeServer) -> None:
    fake.answers("SubscribeEvents", stream(event(3), then=hang()))
    with runhub.connect(fake.address) as blocking:
        for _ in blocking.subscribe(ALL):
            break
        assert fake.asked("SubscribeEvents")[0].over.wait(5)
    async with runhub.aio.connect(fake.address) as client:
        async for _ in client.subscribe(ALL):
            break
        assert await asyncio.to_thread(fake.asked("SubscribeEvents", 2)[1].over.wait, 5)


async def test_its_reader_can_be_cancelled(fake: FakeServer) -> None:
    fake.answers("SubscribeEvents", stream(then=hang()))
    async with runhub.aio.connect(fake.address) as client:

        async def read() -> None:
            async for _ in client.subscribe(ALL):
                pass

        reading = asyncio.create_task(read())
        (asked,) = await asyncio.to_thread(fake.asked, "SubscribeEvents")
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await asyncio.to_thread(asked.over.wait, 5)


@pytest.mark.parametrize("hanging", ["GetServerInfo", "SubscribeEvents"])
def test_another_thread_can_close_it(fake: FakeServer, hanging: str) -> None:
    fake.answers("SubscribeEvents", stream(then=hang()))
    if hanging == "GetServerInfo":
        fake.answers("GetServerInfo", hang())
    with runhub.connect(fake.address) as client:
        subscription = client.subscribe(ALL)
        brought: list[object] = []
        reading = threading.Thread(target=lambda: brought.extend(subscription))
        reading.start()
        (asked,) = fake.asked(hanging)
        subscription.close()
        reading.join(5)
        assert not reading.is_alive()
        assert brought == []
        assert asked.over.wait(5)


def test_another_thread_can_close_it_while_the_server_is_away() -> None:
    server = FakeServer()
    server.answers("SubscribeEvents", stream(then=refuse(grpc.StatusCode.UNAVAILABLE, "DRAINING", retry_delay=60)))
    with runhub.connect(server.address) as client:
        subscription = client.subscribe(ALL)
        reading = threading.Thread(target=lambda: list(subscription))
        reading.start()
        server.asked("SubscribeEvents")
        server.stop()
        subscription.close()
        reading.join(5)
        assert not reading.is_alive()
