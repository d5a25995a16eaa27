"""The lease keeper of asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import grpc
import pytest
from fake import FakeServer, beat, hang, refuse

import runhub
from runhub.v1 import Claim, LeaseState

# The shortest there is: silence is noticed after a second.
CLAIM = Claim(lease_token="token", lease_duration={"seconds": 1})
LOST = beat(LeaseState.LEASE_STATE_LOST)


class TaskOf310(asyncio.Task[Any]):
    """A task as Python 3.10 has it: nobody counts how often it was cancelled."""

    uncancel = None  # type: ignore[assignment]


@pytest.fixture(params=[asyncio.Task, TaskOf310])
def start(request: pytest.FixtureRequest) -> Any:
    def start(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return request.param(work, loop=asyncio.get_running_loop())

    return start


@pytest.fixture
async def client(fake: FakeServer) -> AsyncIterator[runhub.aio.AsyncClient]:
    async with runhub.aio.connect(fake.address) as client:
        yield client


async def asked(fake: FakeServer, count: int = 1) -> list[Any]:
    return [one.request.beats[0] for one in await asyncio.to_thread(fake.asked, "Heartbeat", count)]


async def hold(client: runhub.aio.AsyncClient) -> None:
    async with client.keep_lease(CLAIM):
        await asyncio.Event().wait()


async def test_it_beats_at_once_and_until_the_end(fake: FakeServer, client: runhub.aio.AsyncClient) -> None:
    tasks = asyncio.all_tasks()
    async with client.keep_lease(Claim(lease_token="token", lease_duration={"seconds": 3600})) as lease:
        beats = await asked(fake)
        assert [one.lease_token for one in beats] == ["token"]
        assert lease.state == LeaseState.LEASE_STATE_EXTENDED
    assert asyncio.all_tasks() == tasks
    assert fake.count("Heartbeat") == 1


async def test_it_goes_on_beating(fake: FakeServer, client: runhub.aio.AsyncClient) -> None:
    async with client.keep_lease(CLAIM):
        await asked(fake, 3)
    first, second, _ = fake.asked("Heartbeat", 3)
    assert 0.3 <= second.at - first.at < 1


@pytest.mark.parametrize(
    ("trouble", "because", "cause"),
    [
        (LOST, "taken", None),
        (hang(), "unanswered", grpc.StatusCode.DEADLINE_EXCEEDED),
        (refuse(grpc.StatusCode.UNAVAILABLE), "unanswered", grpc.StatusCode.UNAVAILABLE),
        (refuse(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"), "refused", grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_a_lost_lease_cancels_the_work(
    fake: FakeServer, client: runhub.aio.AsyncClient, start: Any, trouble: Any, because: str, cause: Any
) -> None:
    fake.answers("Heartbeat", trouble)
    working = start(hold(client))
    with pytest.raises(runhub.LeaseLost) as lost:
        await asyncio.wait_for(working, 5)
    assert lost.value.because == because
    assert getattr(lost.value.__cause__, "code", lambda: None)() is cause


async def test_a_cancellation_from_outside_stays_one(
    fake: FakeServer, client: runhub.aio.AsyncClient, start: Any
) -> None:
    working = start(hold(client))
    await asked(fake)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    # And it still counts, for a timeout around it, say.
    assert getattr(working, "cancelling", lambda: 1)() == 1


async def test_a_cancellation_from_outside_stays_one_while_the_lease_is_lost(
    fake: FakeServer, client: runhub.aio.AsyncClient, start: Any
) -> None:
    fake.answers("Heartbeat", LOST)
    cleaning = asyncio.Event()

    async def work() -> None:
        async with client.keep_lease(CLAIM):
            try:
                await asyncio.Event().wait()
            finally:
                cleaning.set()
                await asyncio.Event().wait()

    working = start(work())
    await cleaning.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working


async def test_the_works_own_error_stays_what_it_is(fake: FakeServer, client: runhub.aio.AsyncClient) -> None:
    own = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as raised:
        async with client.keep_lease(CLAIM):
            raise own
    assert raised.value is own
    fake.answers("Heartbeat", LOST)
    with pytest.raises(ZeroDivisionError) as raised:
        async with client.keep_lease(CLAIM):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise own from None
    assert raised.value is own


async def test_who_holds_back_the_cancellation_hears_of_it_at_the_end(
    fake: FakeServer, client: runhub.aio.AsyncClient
) -> None:
    fake.answers("Heartbeat", LOST)
    with pytest.raises(runhub.LeaseLost):
        async with client.keep_lease(CLAIM) as lease:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                assert lease.state == LeaseState.LEASE_STATE_LOST
    # What follows is not cancelled.
    await asyncio.sleep(0)


async def test_a_progress_goes_with_the_next_beat_once(fake: FakeServer, client: runhub.aio.AsyncClient) -> None:
    async with client.keep_lease(CLAIM) as lease:
        lease.progress({"percent": 50})
        beats = await asked(fake, 2)
    assert runhub.to_json(beats[0].progress) == {"percent": 50}
    assert not beats[1].HasField("progress")


async def test_requests_to_stop_are_heard(fake: FakeServer, client: runhub.aio.AsyncClient) -> None:
    pause, cancel = (LeaseState.LEASE_STATE_PAUSE_REQUESTED, LeaseState.LEASE_STATE_CANCEL_REQUESTED)
    fake.answers("Heartbeat", beat(pause), beat(), beat(cancel))
    async with client.keep_lease(CLAIM) as lease:
        await lease.resumed()
        await lease.pause_requested()
        assert lease.state == pause
        await lease.resumed()
        await asyncio.gather(lease.cancel_requested(), lease.cancel_requested())
        assert lease.state == cancel


async def test_those_who_wait_hear_of_the_loss_and_of_the_end(fake: FakeServer, client: runhub.aio.AsyncClient) -> None:
    async with client.keep_lease(CLAIM) as lease:
        waiting = asyncio.create_task(lease.cancel_requested())
        await asked(fake)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    fake.answers("Heartbeat", LOST)
    with pytest.raises(runhub.LeaseLost):
        async with client.keep_lease(CLAIM) as lease:
            waiting = asyncio.create_task(lease.cancel_requested())
            await asyncio.Event().wait()
    with pytest.raises(runhub.LeaseLost):
        await waiting
