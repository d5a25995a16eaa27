"""The lease keeper for asyncio."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import TYPE_CHECKING

from runhub._rules.heartbeats import HeartbeatSchedule
from runhub.aio.cancellation import Cancellation
from runhub.aio.closing import CloseSignal
from runhub.errors import Closed, Error, LeaseLost
from runhub.v1 import Claim, LeaseState
from runhub.values import Json, value

if TYPE_CHECKING:
    from runhub.v1.task_service_pb2_grpc import TaskServiceAsyncStub


class AsyncLease:
    """The lease of a claim. A background task keeps it while the block runs.

    If the lease is lost, the block is cancelled at its current await and raises LeaseLost. A cancellation from outside,
    or an error of the block's own, is raised unchanged. Report on the task after the block: a heartbeat that is sent
    after the completion is answered LOST.
    """

    def __init__(self, stub: TaskServiceAsyncStub, claim: Claim, closing: CloseSignal) -> None:
        self._stub = stub
        self._closing = closing
        self._schedule = HeartbeatSchedule(claim, time.monotonic())
        self._changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._has_left = False
        self._lost: LeaseLost | None = None

    @property
    def state(self) -> LeaseState:
        """The state in the last answered heartbeat: EXTENDED, PAUSE_REQUESTED or CANCEL_REQUESTED. LOST once the lease
        is lost. A request to stop does not end the lease: the server accepts a report."""
        return LeaseState.LEASE_STATE_LOST if self._lost else self._schedule.state

    def progress(self, json: Json) -> None:
        """Sets the progress that the next heartbeat carries, at most 1 MiB. It replaces a progress that is not sent
        yet."""
        self._schedule.progress(value(json))

    async def cancel_requested(self) -> None:
        """Waits until the run is being cancelled. The task should then be finished or released within the grace.

        Raises LeaseLost if the lease is lost. If the block is left during the wait, the wait is cancelled.
        """
        await self._wait_for_state(LeaseState.LEASE_STATE_CANCEL_REQUESTED)

    async def pause_requested(self) -> None:
        """Waits until the run is paused. The work should then stop at a good point; the keeper goes on keeping the
        lease.

        Raises LeaseLost if the lease is lost. If the block is left during the wait, the wait is cancelled.
        """
        await self._wait_for_state(LeaseState.LEASE_STATE_PAUSE_REQUESTED)

    async def resumed(self) -> None:
        """Waits until a paused run is resumed. Returns at once if the run is neither paused nor being cancelled.

        Raises LeaseLost if the lease is lost. If the block is left during the wait, the wait is cancelled.
        """
        await self._wait_for_state(LeaseState.LEASE_STATE_EXTENDED)

    async def __aenter__(self) -> AsyncLease:
        self._cancellation = Cancellation()
        self._keeping = asyncio.create_task(self._keep(), name="runhub-lease")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._has_left = True
        is_cancelled_by_lease = self._cancellation.has_caused(error)
        self._changed.cancel()
        self._keeping.cancel()
        await asyncio.wait([self._keeping])
        if is_cancelled_by_lease or error is None:
            self._check()

    async def _keep(self) -> None:
        lost = LeaseLost("unanswered")
        try:
            while True:
                before = self.state
                pause = await self._send_heartbeat()
                if self.state != before:
                    self._notify()
                await self._closing.wait_for(asyncio.sleep(pause))
        except LeaseLost as error:
            lost = error
        except Closed as closed:
            # A closed client sends no more heartbeats.
            lost.__cause__ = closed
        finally:
            self._lose(lost)

    async def _send_heartbeat(self) -> float:
        """Makes one try and returns how many seconds to wait before the next."""
        request, timeout = self._schedule.next_try(time.monotonic())
        try:
            response = await self._stub.Heartbeat(request, timeout=timeout)
        except Closed:
            raise
        except Error as error:
            return self._schedule.failed(error, time.monotonic())
        return self._schedule.answered(response, time.monotonic())

    def _lose(self, lost: LeaseLost) -> None:
        # After the block there is no work to cancel.
        if self._has_left:
            return
        self._lost = lost
        self._notify()
        self._cancellation.cancel()

    def _notify(self) -> None:
        changed = self._changed
        self._changed = asyncio.get_running_loop().create_future()
        changed.set_result(None)

    async def _wait_for_state(self, wanted: LeaseState) -> None:
        while self.state != wanted:
            self._check()
            # Without the shield, cancelling this wait would cancel the future that other waits share.
            await asyncio.shield(self._changed)

    def _check(self) -> None:
        if self._lost:
            raise LeaseLost(self._lost.because) from self._lost.__cause__
