"""This module tests the subscriptions of the blocking client and the asyncio client against a fake server."""

from __future__ import annotations

import asyncio
import threading

import grpc
import pytest
from conftest import Connect
from fake import FakeServer, Handler, never_respond, refuse, reply, send_stream
from test_subscription_state import new_caught_up, new_end, new_event

import runhub
from runhub.v1 import EndReason, GetServerInfoResponse, SubscribeEventsRequest

ALL = SubscribeEventsRequest()
ENDED = new_end(EndReason.END_REASON_RUN_ENDED, 9)
BROKEN = refuse(grpc.StatusCode.UNAVAILABLE)
DRAINING = refuse(grpc.StatusCode.UNAVAILABLE, "DRAINING", retry_delay=0.2)
LOG_CHANGED = refuse(grpc.StatusCode.FAILED_PRECONDITION, "LOG_CHANGED")


@pytest.mark.parametrize(
    ("first", "resumed_after"),
    [
        (send_stream(new_event(3), new_caught_up(5), then=BROKEN), 5),
        # The stream ends without an error, for example because a proxy closes the stream.
        (send_stream(new_event(3), new_caught_up(5)), 5),
        (send_stream(new_event(3), new_caught_up(5), new_end(EndReason.END_REASON_DRAINING, 6), then=DRAINING), 6),
    ],
)
async def test_subscription_resumes_after_a_break(
    fake: FakeServer, connect: Connect, first: Handler, resumed_after: int
) -> None:
    fake.set_handlers("SubscribeEvents", first, BROKEN, send_stream(new_caught_up(7), new_event(8), ENDED))
    subscription = connect(fake.address).subscribe(SubscribeEventsRequest(run_id="a"))
    for expected in (new_event(3), new_caught_up(5), new_event(8), ENDED, None):
        assert await subscription.next() == expected
    assert subscription.position == 9
    requests = [call.request for call in fake.wait_for_calls("SubscribeEvents", 3)]
    resumed = SubscribeEventsRequest(run_id="a", after_position=resumed_after, log_id="log")
    assert requests == [SubscribeEventsRequest(run_id="a", log_id="log"), resumed, resumed]


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED])
async def test_subscription_resumes_after_an_error_of_a_proxy(
    fake: FakeServer, connect: Connect, code: grpc.StatusCode
) -> None:
    fake.set_handlers("GetServerInfo", refuse(code), reply(GetServerInfoResponse(log_id="log")))
    fake.set_handlers("SubscribeEvents", send_stream(new_event(3), then=refuse(code)), refuse(code), send_stream(ENDED))
    subscription = connect(fake.address).subscribe(ALL)
    for expected in (new_event(3), ENDED, None):
        assert await subscription.next() == expected
    cursors = [call.request.after_position for call in fake.wait_for_calls("SubscribeEvents", 3)]
    assert cursors == [0, 3, 3]


async def test_subscription_resumes_after_draining(fake: FakeServer, connect: Connect) -> None:
    fake.set_handlers("SubscribeEvents", send_stream(then=DRAINING), send_stream(ENDED))
    assert await connect(fake.address).subscribe(ALL).next() == ENDED
    first, second = fake.wait_for_calls("SubscribeEvents", 2)
    assert second.at - first.at >= 0.2


async def test_permanent_error_ends_the_subscription(fake: FakeServer, connect: Connect) -> None:
    fake.set_handlers(
        "SubscribeEvents", send_stream(new_event(3), then=refuse(grpc.StatusCode.OUT_OF_RANGE, "POSITION_COMPACTED"))
    )
    subscription = connect(fake.address).subscribe(ALL)
    assert await subscription.next() == new_event(3)
    with pytest.raises(runhub.PositionCompacted):
        await subscription.next()
    assert await subscription.next() is None
    assert fake.count_calls("SubscribeEvents") == 1


async def test_another_log_ends_the_subscription(fake: FakeServer, connect: Connect) -> None:
    fake.set_handlers("GetServerInfo", *(reply(GetServerInfoResponse(log_id=log)) for log in ("one", "two")))
    store_full = refuse(grpc.StatusCode.UNAVAILABLE, "STORE_FULL", retry_delay=0.01)
    fake.set_handlers("SubscribeEvents", send_stream(new_event(3), then=store_full), LOG_CHANGED)
    subscription = connect(fake.address).subscribe(ALL)
    assert await subscription.next() == new_event(3)
    with pytest.raises(runhub.LogChanged):
        await subscription.next()
    # Each stream names the log of the first stream, so that the server of another log refuses the stream.
    requests = [call.request for call in fake.wait_for_calls("SubscribeEvents", 2)]
    assert requests == [SubscribeEventsRequest(log_id="one"), SubscribeEventsRequest(after_position=3, log_id="one")]


async def test_new_subscription_continues_only_in_the_same_log(fake: FakeServer, connect: Connect) -> None:
    fake.set_handlers("SubscribeEvents", send_stream(new_event(3)), send_stream(ENDED), LOG_CHANGED)
    client = connect(fake.address)
    subscription = client.subscribe(ALL)
    assert subscription.log_id is None
    await subscription.next()
    assert subscription.log_id == "log"
    same = SubscribeEventsRequest(after_position=subscription.position, log_id=subscription.log_id)
    assert await client.subscribe(same).next() == ENDED
    other = client.subscribe(SubscribeEventsRequest(after_position=3, log_id="other"))
    assert other.log_id == "other"
    with pytest.raises(runhub.LogChanged):
        await other.next()
    logs = [call.request.log_id for call in fake.wait_for_calls("SubscribeEvents", 3)[-2:]]
    assert logs == ["log", "other"]


async def test_subscription_has_no_deadline_even_if_the_server_hangs(fake: FakeServer, connect: Connect) -> None:
    fake.set_handlers("GetServerInfo", never_respond(), reply(GetServerInfoResponse(log_id="log")))
    fake.set_handlers("SubscribeEvents", send_stream(ENDED))
    assert await connect(fake.address, deadline=1).subscribe(ALL).next() == ENDED
    # If a call has no deadline, grpcio reports the remaining time as None or as more than 1e6 s.
    assert (fake.wait_for_calls("SubscribeEvents")[0].timeout or 1e9) > 1e6


async def test_closing_the_subscription_closes_its_stream(fake: FakeServer, connect: Connect) -> None:
    fake.set_handlers("SubscribeEvents", send_stream(new_event(3), then=never_respond()))
    subscription = connect(fake.address).subscribe(ALL)
    await subscription.next()
    await subscription.close()
    assert await asyncio.to_thread(fake.wait_for_calls("SubscribeEvents")[0].has_ended.wait, 5)
    assert await subscription.next() is None


async def test_leaving_the_loop_closes_the_stream(fake: FakeServer) -> None:
    fake.set_handlers("SubscribeEvents", send_stream(new_event(3), then=never_respond()))
    with runhub.connect(fake.address) as blocking:
        for _ in blocking.subscribe(ALL):
            break
        assert fake.wait_for_calls("SubscribeEvents")[0].has_ended.wait(5)
    async with runhub.aio.connect(fake.address) as client:
        async for _ in client.subscribe(ALL):
            break
        assert await asyncio.to_thread(fake.wait_for_calls("SubscribeEvents", 2)[1].has_ended.wait, 5)


async def test_cancelling_the_reader_closes_the_stream(fake: FakeServer) -> None:
    fake.set_handlers("SubscribeEvents", send_stream(then=never_respond()))
    async with runhub.aio.connect(fake.address) as client:

        async def read_updates() -> None:
            async for _ in client.subscribe(ALL):
                pass

        reading = asyncio.create_task(read_updates())
        (call,) = await asyncio.to_thread(fake.wait_for_calls, "SubscribeEvents")
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await asyncio.to_thread(call.has_ended.wait, 5)


@pytest.mark.parametrize("hanging", ["GetServerInfo", "SubscribeEvents"])
def test_another_thread_can_close_the_subscription(fake: FakeServer, hanging: str) -> None:
    fake.set_handlers("SubscribeEvents", send_stream(then=never_respond()))
    if hanging == "GetServerInfo":
        fake.set_handlers("GetServerInfo", never_respond())
    with runhub.connect(fake.address) as client:
        subscription = client.subscribe(ALL)
        received: list[object] = []
        reading = threading.Thread(target=lambda: received.extend(subscription))
        reading.start()
        (call,) = fake.wait_for_calls(hanging)
        subscription.close()
        reading.join(5)
        assert not reading.is_alive()
        assert received == []
        assert call.has_ended.wait(5)


def test_another_thread_can_close_the_subscription_while_the_server_is_down() -> None:
    server = FakeServer()
    retry_in_60_s = refuse(grpc.StatusCode.UNAVAILABLE, "DRAINING", retry_delay=60)
    server.set_handlers("SubscribeEvents", send_stream(then=retry_in_60_s))
    with runhub.connect(server.address) as client:
        subscription = client.subscribe(ALL)
        reading = threading.Thread(target=lambda: list(subscription))
        reading.start()
        server.wait_for_calls("SubscribeEvents")
        server.stop()
        subscription.close()
        reading.join(5)
        assert not reading.is_alive()
