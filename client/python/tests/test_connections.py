"""This module tests which connections the blocking client and the asyncio client use for held calls and streams."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Awaitable, Callable

import grpc
import pytest
from clients import AnyClient, AnySubscription
from conftest import Connect
from fake import FakeServer, Handler, never_respond, refuse, reply, send_stream
from proxy import Proxy
from test_closing import CLOSED
from test_subscription_state import new_end, new_event

import runhub
from runhub._blocking.closing import CloseSignal
from runhub._blocking.held_calls import HeldCalls
from runhub._blocking.interceptor import Interceptor
from runhub.v1 import (
    ClaimTaskRequest,
    ClaimTaskResponse,
    EndReason,
    GetServerInfoRequest,
    HeartbeatRequest,
    ListEventsRequest,
    ListEventsResponse,
    SubscribeEventsRequest,
)
from runhub.v1.event_service_pb2_grpc import EventServiceStub
from runhub.v1.task_service_pb2_grpc import TaskServiceStub

ALL = SubscribeEventsRequest()
HELD_CLAIM = ClaimTaskRequest(wait={"seconds": 60})
CLAIMED = reply(ClaimTaskResponse())
REFUSED = refuse(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")
ENDLESS = send_stream(new_event(3), then=never_respond())
ENDED = send_stream(new_end(EndReason.END_REASON_RUN_ENDED, 9))

UseSlot = Callable[[AnyClient], Awaitable[object]]


def list_peers(fake: FakeServer, method: str) -> list[str]:
    """Returns the client's address of each received call of the method. The address is different for each
    connection."""
    return [call.peer for call in fake.wait_for_calls(method)]


async def open_streams(client: AnyClient, count: int) -> list[AnySubscription]:
    subscriptions = [client.subscribe(ALL) for _ in range(count)]
    for one in subscriptions:
        assert await one.next() == new_event(3)
    return subscriptions


async def make_held_call(client: AnyClient) -> None:
    await client.call("tasks", "ClaimTask", HELD_CLAIM)


async def make_refused_call(client: AnyClient) -> None:
    with pytest.raises(runhub.RunNotFound):
        await make_held_call(client)


async def read_ended_stream(client: AnyClient) -> None:
    subscription = client.subscribe(ALL)
    assert await subscription.next() is not None
    assert await subscription.next() is None


async def open_refused_stream(client: AnyClient) -> None:
    with pytest.raises(runhub.RunNotFound):
        await client.subscribe(ALL).next()


async def close_stream(client: AnyClient) -> None:
    (subscription,) = await open_streams(client, 1)
    await subscription.close()


async def abandon_stream(client: AnyClient) -> None:
    await open_streams(client, 1)


@pytest.mark.parametrize(
    ("use_slot", "method", "answer"),
    [
        (make_held_call, "ClaimTask", CLAIMED),
        (make_refused_call, "ClaimTask", REFUSED),
        (read_ended_stream, "SubscribeEvents", ENDED),
        (open_refused_stream, "SubscribeEvents", send_stream(then=REFUSED)),
        (close_stream, "SubscribeEvents", ENDLESS),
        (abandon_stream, "SubscribeEvents", ENDLESS),
    ],
)
async def test_sequential_calls_and_streams_reuse_one_further_connection(
    fake: FakeServer, connect: Connect, use_slot: UseSlot, method: str, answer: Handler
) -> None:
    fake.set_handlers(method, answer)
    client = connect(fake.address)
    await client.call("server", "GetServerInfo", GetServerInfoRequest())
    for _ in range(300):
        await use_slot(client)
    (further,) = {*list_peers(fake, method)}
    assert further not in list_peers(fake, "GetServerInfo")


async def test_calls_with_wait_use_a_different_connection_from_other_calls(fake: FakeServer, connect: Connect) -> None:
    fake.set_handlers("ClaimTask", CLAIMED)
    fake.set_handlers("ListEvents", reply(ListEventsResponse()))
    client = connect(fake.address)
    for wait in ({"seconds": 1}, {"seconds": 0}):
        await client.call("tasks", "ClaimTask", ClaimTaskRequest(wait=wait))
        await client.call("events", "ListEvents", ListEventsRequest(wait=wait))
    await client.call("tasks", "Heartbeat", HeartbeatRequest())
    held_claim, plain_claim = list_peers(fake, "ClaimTask")
    assert held_claim != plain_claim
    assert list_peers(fake, "ListEvents") == [held_claim, plain_claim]
    assert list_peers(fake, "Heartbeat") == [plain_claim]


async def test_connection_has_at_most_100_streams(fake: FakeServer, connect: Connect) -> None:
    fake.set_handlers("SubscribeEvents", ENDLESS)
    # The test must keep the subscriptions, because Python would close the streams of unused subscriptions.
    subscriptions = await open_streams(connect(fake.address), 101)
    assert sorted(Counter(list_peers(fake, "SubscribeEvents")).values()) == [1, 100]
    assert len(subscriptions) == 101


async def test_close_closes_all_connections(fake: FakeServer, connect: Connect) -> None:
    fake.set_handlers("SubscribeEvents", ENDLESS)
    async with Proxy(fake.address) as proxy:
        client = connect(proxy.address)
        subscriptions = await open_streams(client, 101)
        for one in subscriptions:
            await one.close()
        # The client keeps the connections for further streams.
        assert proxy.connection_count == 3
        await client.close()
        await proxy.wait_until_unused()


def claim_task(channel: grpc.Channel) -> None:
    TaskServiceStub(channel).ClaimTask(HELD_CLAIM)


def read_stream(channel: grpc.Channel) -> None:
    list(EventServiceStub(channel).SubscribeEvents(ALL))


@pytest.mark.parametrize("start_call", [claim_task, read_stream])
def test_held_call_on_closed_pool_ends_with_closed(
    fake: FakeServer, start_call: Callable[[grpc.Channel], None]
) -> None:
    with grpc.insecure_channel(fake.address) as first:
        held_calls = HeldCalls(lambda: first)
        held_calls.close()
        channel = grpc.intercept_channel(first, Interceptor(30, CloseSignal()), held_calls)
        with pytest.raises(runhub.Error, match=CLOSED) as raised:
            start_call(channel)
        assert not raised.value.is_temporary


@pytest.mark.parametrize("start_call", [claim_task, read_stream])
def test_held_call_on_closed_channel_ends_with_closed(
    fake: FakeServer, start_call: Callable[[grpc.Channel], None]
) -> None:
    closing = CloseSignal()

    def open_closed_channel() -> grpc.Channel:
        # Another thread can close the client and the channel just before the call is started on the channel.
        closing.close()
        channel = grpc.insecure_channel(fake.address)
        channel.close()
        return channel

    with grpc.insecure_channel(fake.address) as first:
        channel = grpc.intercept_channel(first, Interceptor(30, closing), HeldCalls(open_closed_channel))
        with pytest.raises(runhub.Error, match=CLOSED):
            start_call(channel)


def test_calls_and_streams_started_while_the_client_is_closed_end_with_closed(fake: FakeServer) -> None:
    fake.set_handlers("ClaimTask", CLAIMED)
    fake.set_handlers("SubscribeEvents", ENDED)
    client = runhub.connect(fake.address)
    errors: list[runhub.Error] = []

    def use_client(start: Callable[[], object]) -> None:
        try:
            while True:
                start()
        except runhub.Error as error:
            errors.append(error)

    starts = [lambda: client.tasks.ClaimTask(HELD_CLAIM), lambda: list(client.events.SubscribeEvents(ALL))] * 4
    threads = [threading.Thread(target=use_client, args=(start,)) for start in starts]
    for thread in threads:
        thread.start()
    fake.wait_for_calls("ClaimTask", 10)
    fake.wait_for_calls("SubscribeEvents", 10)
    client.close()
    for thread in threads:
        thread.join(5)
    assert [(error.code(), error.message) for error in errors] == [(grpc.StatusCode.CANCELLED, CLOSED)] * 8
