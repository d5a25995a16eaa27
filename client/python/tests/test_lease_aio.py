"""This module tests the leases of the asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import grpc
import pytest
from fake import FakeServer, never_respond, refuse, send_lease_state

import runhub
from runhub.v1 import Claim, LeaseState

# This claim has the shortest lease duration, so that a test loses an unanswered lease after 1 s.
CLAIM = Claim(lease_token="token", lease_duration={"seconds": 1})
LONG_CLAIM = Claim(lease_token="token", lease_duration={"seconds": 30})
LOST = send_lease_state(LeaseState.LEASE_STATE_LOST)

# Errors after which a client retries a heartbeat. The first three errors are the errors of a proxy.
BREAKS = [
    refuse(grpc.StatusCode.INTERNAL),
    refuse(grpc.StatusCode.UNKNOWN),
    refuse(grpc.StatusCode.CANCELLED),
    refuse(grpc.StatusCode.UNAVAILABLE, "STORE_FULL"),
]


class TaskWithoutUncancel(asyncio.Task[Any]):
    """Behaves like an asyncio task of Python 3.10, which does not count cancellations."""

    uncancel = None  # type: ignore[assignment]


@pytest.fixture(params=[asyncio.Task, TaskWithoutUncancel])
def start_task(request: pytest.FixtureRequest) -> Any:
    def start_task(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return request.param(work, loop=asyncio.get_running_loop())

    return start_task


@pytest.fixture
async def client(fake: FakeServer) -> AsyncIterator[runhub.aio.AsyncClient]:
    async with runhub.aio.connect(fake.address) as client:
        yield client


async def wait_for_heartbeats(fake: FakeServer, count: int = 1) -> list[Any]:
    return [call.request.beats[0] for call in await asyncio.to_thread(fake.wait_for_calls, "Heartbeat", count)]


async def hold_lease(client: runhub.aio.AsyncClient) -> None:
    async with client.keep_lease(CLAIM):
        await asyncio.Event().wait()


async def test_first_heartbeat_is_sent_at_once_and_none_after_the_block(
    fake: FakeServer, client: runhub.aio.AsyncClient
) -> None:
    tasks = asyncio.all_tasks()
    async with client.keep_lease(Claim(lease_token="token", lease_duration={"seconds": 3600})) as lease:
        beats = await wait_for_heartbeats(fake)
        assert [one.lease_token for one in beats] == ["token"]
        assert lease.state == LeaseState.LEASE_STATE_EXTENDED
    assert asyncio.all_tasks() == tasks
    assert fake.count_calls("Heartbeat") == 1


async def test_heartbeats_are_sent_every_third_of_the_lease(fake: FakeServer, client: runhub.aio.AsyncClient) -> None:
    async with client.keep_lease(CLAIM):
        await wait_for_heartbeats(fake, 3)
    first, second, _ = fake.wait_for_calls("Heartbeat", 3)
    assert 0.3 <= second.at - first.at < 1


@pytest.mark.parametrize(
    ("answer", "because", "cause"),
    [
        (LOST, "taken", None),
        (never_respond(), "unanswered", grpc.StatusCode.DEADLINE_EXCEEDED),
        (refuse(grpc.StatusCode.UNAVAILABLE), "unanswered", grpc.StatusCode.UNAVAILABLE),
        (refuse(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"), "refused", grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_lost_lease_cancels_the_block(
    fake: FakeServer, client: runhub.aio.AsyncClient, start_task: Any, answer: Any, because: str, cause: Any
) -> None:
    fake.set_handlers("Heartbeat", answer)
    working = start_task(hold_lease(client))
    with pytest.raises(runhub.LeaseLost) as lost:
        await asyncio.wait_for(working, 5)
    assert lost.value.because == because
    assert getattr(lost.value.__cause__, "code", lambda: None)() is cause


async def test_cancellation_by_other_code_is_raised_unchanged(
    fake: FakeServer, client: runhub.aio.AsyncClient, start_task: Any
) -> None:
    working = start_task(hold_lease(client))
    await wait_for_heartbeats(fake)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    # The asyncio task must still count the cancellation. Otherwise an `asyncio.timeout` around the lease's `async with`
    # block would not work.
    assert getattr(working, "cancelling", lambda: 1)() == 1


async def test_cancellation_by_other_code_is_raised_even_if_the_lease_is_lost(
    fake: FakeServer, client: runhub.aio.AsyncClient, start_task: Any
) -> None:
    fake.set_handlers("Heartbeat", LOST)
    cleaning = asyncio.Event()

    async def hold_lease_and_clean_up() -> None:
        async with client.keep_lease(CLAIM):
            try:
                await asyncio.Event().wait()
            finally:
                cleaning.set()
                await asyncio.Event().wait()

    working = start_task(hold_lease_and_clean_up())
    await cleaning.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working


async def test_error_of_the_block_is_raised_unchanged(fake: FakeServer, client: runhub.aio.AsyncClient) -> None:
    own = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as raised:
        async with client.keep_lease(CLAIM):
            raise own
    assert raised.value is own
    fake.set_handlers("Heartbeat", LOST)
    with pytest.raises(ZeroDivisionError) as raised:
        async with client.keep_lease(CLAIM):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise own from None
    assert raised.value is own


async def test_block_that_suppresses_cancellation_raises_lease_lost_at_its_end(
    fake: FakeServer, client: runhub.aio.AsyncClient
) -> None:
    fake.set_handlers("Heartbeat", LOST)
    with pytest.raises(runhub.LeaseLost):
        async with client.keep_lease(CLAIM) as lease:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                assert lease.state == LeaseState.LEASE_STATE_LOST
    # If the asyncio task were still cancelled after the lease's block, this `await` would raise CancelledError.
    await asyncio.sleep(0)


async def test_progress_is_sent_once_with_the_next_heartbeat(fake: FakeServer, client: runhub.aio.AsyncClient) -> None:
    async with client.keep_lease(CLAIM) as lease:
        lease.progress({"percent": 50})
        beats = await wait_for_heartbeats(fake, 2)
    assert runhub.to_json(beats[0].progress) == {"percent": 50}
    assert not beats[1].HasField("progress")


async def test_block_can_wait_for_pause_and_cancel_requests(fake: FakeServer, client: runhub.aio.AsyncClient) -> None:
    pause = LeaseState.LEASE_STATE_PAUSE_REQUESTED
    cancel = LeaseState.LEASE_STATE_CANCEL_REQUESTED
    fake.set_handlers("Heartbeat", send_lease_state(pause), send_lease_state(), send_lease_state(cancel))
    async with client.keep_lease(CLAIM) as lease:
        await lease.resumed()
        await lease.pause_requested()
        assert lease.state == pause
        await lease.resumed()
        await asyncio.gather(lease.cancel_requested(), lease.cancel_requested())
        assert lease.state == cancel


async def test_waits_end_when_the_lease_is_lost_and_when_the_block_is_left(
    fake: FakeServer, client: runhub.aio.AsyncClient
) -> None:
    async with client.keep_lease(CLAIM) as lease:
        waiting = asyncio.create_task(lease.cancel_requested())
        await wait_for_heartbeats(fake)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    fake.set_handlers("Heartbeat", LOST)
    with pytest.raises(runhub.LeaseLost):
        async with client.keep_lease(CLAIM) as lease:
            waiting = asyncio.create_task(lease.cancel_requested())
            await asyncio.Event().wait()
    with pytest.raises(runhub.LeaseLost):
        await waiting


async def test_lease_is_kept_if_a_proxy_breaks_heartbeats_or_the_store_is_full(
    fake: FakeServer, client: runhub.aio.AsyncClient
) -> None:
    fake.set_handlers("Heartbeat", *BREAKS, send_lease_state())
    async with client.keep_lease(LONG_CLAIM):
        await wait_for_heartbeats(fake, len(BREAKS) + 1)
