"""This module renews the lease of a claim in a background thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from threading import Event, Lock, Thread
from types import TracebackType

import grpc

from runhub._blocking.closing import CloseSignal
from runhub._rules.heartbeats import HeartbeatSchedule
from runhub.errors import Closed, LeaseLost, to_error
from runhub.v1 import Claim, HeartbeatResponse, LeaseState
from runhub.v1.task_service_pb2_grpc import TaskServiceStub
from runhub.values import Json, value


class Lease:
    """Holds the lease of a claim. A background thread renews the lease while the `with` block runs.

    Python can't cancel a thread from another thread, so the code in the block must check the lease with `check`, `wait`
    or `on_lost`. If the block itself raises an error, the error is raised unchanged. Otherwise, if the lease is lost,
    leaving the block raises LeaseLost. Report on the task after the block, because the server answers a heartbeat after
    the report with LOST.
    """

    def __init__(self, stub: TaskServiceStub, claim: Claim, closing: CloseSignal) -> None:
        self._stub = stub
        self._closing = closing
        self._schedule = HeartbeatSchedule(claim, time.monotonic())
        self._thread = Thread(target=self._renew, name="runhub-lease", daemon=True)
        # This lock protects `_has_left`, `_lost`, `_callbacks` and `_call`. No thread may hold the lock while the
        # thread waits.
        self._lock = Lock()
        self._has_left = False
        # If the `with` block of the lease was left or the client was closed, this event is set, and no further
        # heartbeat may be sent.
        self._stop = Event()
        # When the lease is lost, this event is set, so that `wait` ends early.
        self._is_lost = Event()
        self._lost: LeaseLost | None = None
        self._callbacks: list[Callable[[], object]] = []
        self._call: grpc.Future[HeartbeatResponse] | None = None

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

    def check(self) -> None:
        """Raises LeaseLost if the lease is lost."""
        if self._lost:
            raise LeaseLost(self._lost.because, self._schedule.task_id) from self._lost.__cause__

    def wait(self, seconds: float) -> None:
        """Sleeps for `seconds` seconds. Raises LeaseLost as soon as the lease is lost."""
        self._is_lost.wait(seconds)
        self.check()

    def on_lost(self, callback: Callable[[], object]) -> None:
        """Registers a callback, for example `process.kill`, that is called when the lease is lost.

        The callback must not block, because the thread that sends the heartbeats calls the callback. If the lease is
        already lost, this method calls the callback itself.
        """
        with self._lock:
            if not self._lost:
                self._callbacks.append(callback)
                return
        callback()

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._has_left = True
        self._stop_heartbeats()
        self._thread.join()
        if error is None:
            self.check()

    def _stop_heartbeats(self) -> None:
        with self._lock:
            self._stop.set()
            if self._call:
                self._call.cancel()

    def _renew(self) -> None:
        # If the heartbeats stop because the client is closed, the lease is lost with the reason `unanswered`.
        lost = LeaseLost("unanswered", self._schedule.task_id)
        lost.__cause__ = Closed()
        try:
            with self._closing.call_on_close(self._stop_heartbeats):
                while not self._stop.wait(self._send_heartbeat()):
                    pass
        except LeaseLost as error:
            lost = error
        except grpc.FutureCancelledError:
            # `_stop_heartbeats` has cancelled the running heartbeat, so the heartbeat has no result to record.
            pass
        finally:
            self._report_loss(lost)

    def _send_heartbeat(self) -> float:
        """Sends one heartbeat and returns the time in seconds to wait before the next heartbeat.

        Raises LeaseLost if the lease is lost.
        """
        request, timeout = self._schedule.prepare_heartbeat(time.monotonic())
        with self._lock:
            if self._stop.is_set():
                return 0.0
            call = self._stub.Heartbeat.future(request, timeout=timeout)
            self._call = call
        failure = call.exception()
        if isinstance(failure, grpc.RpcError):
            return self._schedule.record_failure(to_error(failure), time.monotonic())
        return self._schedule.record_answer(call.result(), time.monotonic())

    def _report_loss(self, lost: LeaseLost) -> None:
        with self._lock:
            # If the `with` block has ended, there is no code to stop, so the loss of the lease must not be reported.
            if self._has_left:
                return
            self._lost = lost
            self._is_lost.set()
        # If a callback raises an error, the ExitStack still calls the remaining callbacks.
        with ExitStack() as stack:
            for callback in reversed(self._callbacks):
                stack.callback(callback)
