"""Keeping a claimed task while it is worked on."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import TYPE_CHECKING

from runhub._rules.beats import Beats
from runhub.aio.cancellation import Cancellation
from runhub.aio.closing import Closing
from runhub.errors import Closed, Error, LeaseLost
from runhub.v1 import Claim, LeaseState
from runhub.values import Json, value

if TYPE_CHECKING:
    from runhub.v1.task_service_pb2_grpc import TaskServiceAsyncStub


class AsyncLease:
    """The lease of a claim, kept by a task while the block runs.

    When it is lost the block is cancelled where it waits, and left with LeaseLost; a cancellation from outside stays
    one, and the work's own error stays what it is. Report on the task after the block: a beat that comes right after a
    completion would be answered LOST.
    """

    def __init__(self, stub: TaskServiceAsyncStub, claim: Claim, closing: Closing) -> None:
        self._stub = stub
        self._closing = closing
        self._beats = Beats(claim, time.monotonic())
        self._changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = False
        self._lost: LeaseLost | None = None

    @property
    def state(self) -> LeaseState:
        """How the lease stands by the last answered beat: EXTENDED, PAUSE_REQUESTED, CANCEL_REQUESTED, or LOST from
        when it is over. Being asked to stop does not end it: the report is taken."""
        return LeaseState.LEASE_STATE_LOST if self._lost else self._beats.state

    def progress(self, json: Json) -> None:
        """Sets what the next beat says of how far the work is, at most 1 MiB. Until it is answered the latest wins."""
        self._beats.progress(value(json))

    async def cancel_requested(self) -> None:
        """Waits until the run is being cancelled: to finish or release the task within the grace. Raises LeaseLost, as
        the next two do. Who still waits when the block is left is cancelled."""
        await self._reached(LeaseState.LEASE_STATE_CANCEL_REQUESTED)

    async def pause_requested(self) -> None:
        """Waits until the run is paused: to come to a good place to stop. The lease is kept."""
        await self._reached(LeaseState.LEASE_STATE_PAUSE_REQUESTED)

    async def resumed(self) -> None:
        """Waits until the run goes on after a pause; returns at once when it is neither paused nor being cancelled."""
        await self._reached(LeaseState.LEASE_STATE_EXTENDED)

    async def __aenter__(self) -> AsyncLease:
        self._work = Cancellation()
        self._keeping = asyncio.create_task(self._keep(), name="runhub-lease")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        ours = self._work.is_ours(error)
        self._changed.cancel()
        self._keeping.cancel()
        await asyncio.wait([self._keeping])
        if ours or error is None:
            self._check()

    async def _keep(self) -> None:
        lost = LeaseLost("unanswered")
        try:
            while True:
                before = self.state
                pause = await self._beat()
                if self.state != before:
                    self._tell()
                await self._closing.unless(asyncio.sleep(pause))
        except LeaseLost as told:
            lost = told
        except Closed as closed:
            # Nobody beats any more.
            lost.__cause__ = closed
        finally:
            self._lose(lost)

    async def _beat(self) -> float:
        """One try. Returns how long to wait before the next."""
        request, timeout = self._beats.next_try(time.monotonic())
        try:
            response = await self._stub.Heartbeat(request, timeout=timeout)
        except Closed:
            raise
        except Error as error:
            return self._beats.failed(error, time.monotonic())
        return self._beats.answered(response, time.monotonic())

    def _lose(self, lost: LeaseLost) -> None:
        # Work that has come to its end is not told any more.
        if self._left:
            return
        self._lost = lost
        self._tell()
        self._work.cancel()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.get_running_loop().create_future()
        changed.set_result(None)

    async def _reached(self, wanted: LeaseState) -> None:
        while self.state != wanted:
            self._check()
            # Shielded, for others wait for it as well.
            await asyncio.shield(self._changed)

    def _check(self) -> None:
        if self._lost:
            raise LeaseLost(self._lost.because) from self._lost.__cause__
