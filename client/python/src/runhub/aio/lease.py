"""This module renews the lease of a claim in a background asyncio task."""

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
    """Holds the lease of a claim. A background asyncio task renews the lease while the `async with` block runs.

    If the lease is lost, the client cancels the block at its current `await`, and the block raises LeaseLost. If other
    code cancels the block or the block itself raises an error, the error is raised unchanged. Report on the task after
    the block, because the server answers a heartbeat after the report with LOST.
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
        """Returns the state from the last response to a heartbeat: EXTENDED, PAUSE_REQUESTED or CANCEL_REQUESTED.

        Returns EXTENDED before the first response, and LOST once the lease is lost. After PAUSE_REQUESTED and
        CANCEL_REQUESTED, the lease is still valid, and the server accepts a report on the task.
        """
        return LeaseState.LEASE_STATE_LOST if self._lost else self._schedule.state

    def progress(self, json: Json) -> None:
        """Sets the progress that the next heartbeat sends. The progress may be at most 1 MiB in size.

        If an earlier progress value has not been sent, the client discards the earlier value.
        """
        self._schedule.set_progress(value(json))

    async def cancel_requested(self) -> None:
        """Waits until the run is being cancelled. The agent should then complete or release the task before
        the grace period ends.

        Raises LeaseLost if the lease is lost. If the `async with` block ends during the wait, the wait is
        cancelled.
        """
        await self._wait_for_state(LeaseState.LEASE_STATE_CANCEL_REQUESTED)

    async def pause_requested(self) -> None:
        """Waits until the run is paused. The agent should then stop at a point from which the agent can continue later.
        The client continues to renew the lease.

        Raises LeaseLost if the lease is lost. If the `async with` block ends during the wait, the wait is
        cancelled.
        """
        await self._wait_for_state(LeaseState.LEASE_STATE_PAUSE_REQUESTED)

    async def resumed(self) -> None:
        """Waits until a paused run is resumed. If the run is neither paused nor being cancelled, does not wait.

        Raises LeaseLost if the lease is lost. If the `async with` block ends during the wait, the wait is
        cancelled.
        """
        await self._wait_for_state(LeaseState.LEASE_STATE_EXTENDED)

    async def __aenter__(self) -> AsyncLease:
        self._cancellation = Cancellation(self._schedule.task_id)
        self._renewing = asyncio.create_task(self._renew(), name="runhub-lease")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._has_left = True
        is_cancelled_by_lease = self._cancellation.has_caused(error)
        self._changed.cancel()
        self._renewing.cancel()
        await asyncio.wait([self._renewing])
        if is_cancelled_by_lease or error is None:
            self._raise_if_lost()

    async def _renew(self) -> None:
        lost = LeaseLost("unanswered", self._schedule.task_id)
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
            # A closed client can't send heartbeats, so the lease is lost with the reason `unanswered`.
            lost.__cause__ = closed
        finally:
            self._report_loss(lost)

    async def _send_heartbeat(self) -> float:
        """Sends one heartbeat and returns the time in seconds to wait before the next heartbeat.

        Raises LeaseLost if the lease is lost, and Closed if the client is closed.
        """
        request, timeout = self._schedule.prepare_heartbeat(time.monotonic())
        try:
            response = await self._stub.Heartbeat(request, timeout=timeout)
        except Closed:
            raise
        except Error as error:
            return self._schedule.record_failure(error, time.monotonic())
        return self._schedule.record_answer(response, time.monotonic())

    def _report_loss(self, lost: LeaseLost) -> None:
        # If the `async with` block has ended, there is no code to cancel, so the loss of the lease must not be
        # reported.
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
            self._raise_if_lost()
            # Without the shield, the cancellation of one wait would also cancel the future that all waits share.
            await asyncio.shield(self._changed)

    def _raise_if_lost(self) -> None:
        if self._lost:
            raise LeaseLost(self._lost.because, self._schedule.task_id) from self._lost.__cause__
