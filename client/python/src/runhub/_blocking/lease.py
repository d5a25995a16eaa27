"""Keeping a claimed task while it is worked on."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from threading import Event, Lock, Thread
from types import TracebackType

import grpc

from runhub._blocking.closing import Closing
from runhub._rules.beats import Beats
from runhub.errors import Closed, LeaseLost, error_of
from runhub.v1 import Claim, HeartbeatResponse, LeaseState
from runhub.v1.task_service_pb2_grpc import TaskServiceStub
from runhub.values import Json, value


class Lease:
    """The lease of a claim, kept by a thread while the block runs.

    Nothing can end a thread's work from outside: the work asks, by `check`, `wait` or `on_lost`. Leaving the block
    raises LeaseLost if it was lost, unless the work's own error leaves it. Report on the task after the block: a beat
    that comes right after a completion would be answered LOST.
    """

    def __init__(self, stub: TaskServiceStub, claim: Claim, closing: Closing) -> None:
        self._stub = stub
        self._closing = closing
        self._beats = Beats(claim, time.monotonic())
        self._thread = Thread(target=self._keep, name="runhub-lease", daemon=True)
        # Held to change what follows, never while something is waited for.
        self._lock = Lock()
        self._left = False
        # No more beats: the block was left, or the client is closed.
        self._ended = Event()
        self._over = Event()
        self._lost: LeaseLost | None = None
        self._callbacks: list[Callable[[], object]] = []
        self._call: grpc.Future[HeartbeatResponse] | None = None

    @property
    def state(self) -> LeaseState:
        """How the lease stands by the last answered beat: EXTENDED, PAUSE_REQUESTED, CANCEL_REQUESTED, or LOST from
        when it is over. Being asked to stop does not end it: the report is taken."""
        return LeaseState.LEASE_STATE_LOST if self._lost else self._beats.state

    def progress(self, json: Json) -> None:
        """Sets what the next beat says of how far the work is, at most 1 MiB. Until it is answered the latest wins."""
        self._beats.progress(value(json))

    def check(self) -> None:
        """Raises LeaseLost if the lease is lost."""
        if self._lost:
            raise LeaseLost(self._lost.because) from self._lost.__cause__

    def wait(self, seconds: float) -> None:
        """Sleeps for so long; raises LeaseLost the moment the lease is lost."""
        self._over.wait(seconds)
        self.check()

    def on_lost(self, callback: Callable[[], object]) -> None:
        """Calls it the moment the lease is lost, `process.kill`, say; from another thread, which it must not hold
        up."""
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
            self._left = True
        self._end()
        self._thread.join()
        if error is None:
            self.check()

    def _end(self) -> None:
        with self._lock:
            self._ended.set()
            if self._call:
                self._call.cancel()

    def _keep(self) -> None:
        # If the client is closed: nobody beats any more.
        lost = LeaseLost("unanswered")
        lost.__cause__ = Closed()
        try:
            with self._closing.telling(self._end):
                while not self._ended.wait(self._beat()):
                    pass
        except LeaseLost as told:
            lost = told
        except grpc.FutureCancelledError:
            # It was ended during a beat.
            pass
        finally:
            self._lose(lost)

    def _beat(self) -> float:
        """One try. Returns how long to wait before the next."""
        request, timeout = self._beats.next_try(time.monotonic())
        with self._lock:
            if self._ended.is_set():
                return 0.0
            self._call = call = self._stub.Heartbeat.future(request, timeout=timeout)
        failure = call.exception()
        if isinstance(failure, grpc.RpcError):
            return self._beats.failed(error_of(failure), time.monotonic())
        return self._beats.answered(call.result(), time.monotonic())

    def _lose(self, lost: LeaseLost) -> None:
        with self._lock:
            # Work that has come to its end is not told any more.
            if self._left:
                return
            self._lost = lost
            self._over.set()
        # All are called, whatever one of them raises.
        with ExitStack() as stack:
            for callback in reversed(self._callbacks):
                stack.callback(callback)
