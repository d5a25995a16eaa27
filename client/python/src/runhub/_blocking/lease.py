"""The lease keeper for threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from threading import Event, Lock, Thread
from types import TracebackType

import grpc

from runhub._blocking.closing import CloseSignal
from runhub._rules.heartbeats import HeartbeatSchedule
from runhub.errors import Closed, LeaseLost, error_of
from runhub.v1 import Claim, HeartbeatResponse, LeaseState
from runhub.v1.task_service_pb2_grpc import TaskServiceStub
from runhub.values import Json, value


class Lease:
    """The lease of a claim. A background thread keeps it while the block runs.

    A thread can't be cancelled from outside, so the work must ask for the lease with `check`, `wait` or `on_lost`. If
    the lease was lost, leaving the block raises LeaseLost, unless the block raises an error of its own. Report on the
    task after the block: a heartbeat that is sent after the completion is answered LOST.
    """

    def __init__(self, stub: TaskServiceStub, claim: Claim, closing: CloseSignal) -> None:
        self._stub = stub
        self._closing = closing
        self._schedule = HeartbeatSchedule(claim, time.monotonic())
        self._thread = Thread(target=self._keep, name="runhub-lease", daemon=True)
        # Protects the fields below. Never held during a wait.
        self._lock = Lock()
        self._has_left = False
        # Set when heartbeats must stop: the block was left, or the client is closed.
        self._stop = Event()
        # Set when the lease is lost.
        self._is_lost = Event()
        self._lost: LeaseLost | None = None
        self._callbacks: list[Callable[[], object]] = []
        self._call: grpc.Future[HeartbeatResponse] | None = None

    @property
    def state(self) -> LeaseState:
        """The state in the last answered heartbeat: EXTENDED, PAUSE_REQUESTED or CANCEL_REQUESTED. LOST once the lease
        is lost. A request to stop does not end the lease: the server accepts a report."""
        return LeaseState.LEASE_STATE_LOST if self._lost else self._schedule.state

    def progress(self, json: Json) -> None:
        """Sets the progress that the next heartbeat carries, at most 1 MiB. It replaces a progress that is not sent
        yet."""
        self._schedule.progress(value(json))

    def check(self) -> None:
        """Raises LeaseLost if the lease is lost."""
        if self._lost:
            raise LeaseLost(self._lost.because) from self._lost.__cause__

    def wait(self, seconds: float) -> None:
        """Sleeps for this time. Raises LeaseLost as soon as the lease is lost."""
        self._is_lost.wait(seconds)
        self.check()

    def on_lost(self, callback: Callable[[], object]) -> None:
        """Calls the callback, for example `process.kill`, as soon as the lease is lost.

        Another thread calls it, so it must not block. If the lease is lost already, it is called at once.
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

    def _keep(self) -> None:
        # The result if the heartbeats stop because the client is closed.
        lost = LeaseLost("unanswered")
        lost.__cause__ = Closed()
        try:
            with self._closing.callback(self._stop_heartbeats):
                while not self._stop.wait(self._send_heartbeat()):
                    pass
        except LeaseLost as error:
            lost = error
        except grpc.FutureCancelledError:
            # The heartbeats were stopped while one was being sent.
            pass
        finally:
            self._lose(lost)

    def _send_heartbeat(self) -> float:
        """Makes one try and returns how many seconds to wait before the next."""
        request, timeout = self._schedule.next_try(time.monotonic())
        with self._lock:
            if self._stop.is_set():
                return 0.0
            call = self._stub.Heartbeat.future(request, timeout=timeout)
            self._call = call
        failure = call.exception()
        if isinstance(failure, grpc.RpcError):
            return self._schedule.failed(error_of(failure), time.monotonic())
        return self._schedule.answered(call.result(), time.monotonic())

    def _lose(self, lost: LeaseLost) -> None:
        with self._lock:
            # After the block there is no work to end.
            if self._has_left:
                return
            self._lost = lost
            self._is_lost.set()
        # An ExitStack calls every callback, even if one of them raises.
        with ExitStack() as stack:
            for callback in reversed(self._callbacks):
                stack.callback(callback)
