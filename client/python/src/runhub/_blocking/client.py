"""A connection to a server."""

from __future__ import annotations

from types import TracebackType

import grpc

from runhub._blocking.calls import ByReason
from runhub._blocking.closing import Closing
from runhub._blocking.lease import Lease
from runhub._blocking.subscription import LogServer, Subscription
from runhub._rules.address import options, target
from runhub._rules.log import Log
from runhub.v1 import Claim, SubscribeEventsRequest
from runhub.v1.agent_service_pb2_grpc import AgentServiceStub
from runhub.v1.approval_service_pb2_grpc import ApprovalServiceStub
from runhub.v1.artifact_service_pb2_grpc import ArtifactServiceStub
from runhub.v1.checkpoint_service_pb2_grpc import CheckpointServiceStub
from runhub.v1.event_service_pb2_grpc import EventServiceStub
from runhub.v1.run_service_pb2_grpc import RunServiceStub
from runhub.v1.server_service_pb2_grpc import ServerServiceStub
from runhub.v1.task_service_pb2_grpc import TaskServiceStub


class Client:
    """A connection to a server, to be shared between threads. It is made with the first call, and again when it breaks.

    Each attribute is the stub of a service. A call raises `runhub.Error`; it is made again while what stopped it may
    pass, with one request_id. Its `timeout` is for all tries together; without one it has the client's deadline, and on
    top of that the request's `wait`. A call's `future` takes its tries before it returns.
    """

    def __init__(self, server: str, *, deadline: float = 30.0) -> None:
        """See `connect`."""
        self._channel = grpc.insecure_channel(target(server), options(server))
        # Without the interceptor, whose tries can't be cut short from another thread. Made now: to make
        # a stub on a channel that is closed crashes the process.
        self._tasks = TaskServiceStub(self._channel)
        self._log_server = LogServer(self._channel, deadline)
        self._closing = Closing()
        channel = grpc.intercept_channel(self._channel, ByReason(deadline, self._closing))
        self.runs = RunServiceStub(channel)
        self.agents = AgentServiceStub(channel)
        self.tasks = TaskServiceStub(channel)
        self.events = EventServiceStub(channel)
        self.approvals = ApprovalServiceStub(channel)
        self.checkpoints = CheckpointServiceStub(channel)
        self.artifacts = ArtifactServiceStub(channel)
        self.server = ServerServiceStub(channel)

    def keep_lease(self, claim: Claim) -> Lease:
        """Keeps the lease of a claim in the background: `with client.keep_lease(claim) as lease:`."""
        return Lease(self._tasks, claim, self._closing)

    def subscribe(self, request: SubscribeEventsRequest, log_id: str | None = None) -> Subscription:
        """Follows the log, however often the connection breaks: `for update in client.subscribe(request):`.

        With a cursor of another subscription, its `log_id` as well: if the server has another log by now it raises
        OtherLog.
        """
        return Subscription(self._log_server, Log(request, log_id), self._closing)

    def close(self) -> None:
        """Closes the connection. What is still called, and what is called from now on, ends with CANCELLED; leases are
        lost as `unanswered`."""
        self._closing.close()
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(server: str = "127.0.0.1:50051", *, deadline: float = 30.0) -> Client:
    """Connects to `HOST:PORT`, `http://HOST:PORT` or `unix:PATH`; the connection is made with the first call.

    `deadline` is how many seconds a call has for all its tries. An address that is none of these is a ValueError.
    """
    return Client(server, deadline=deadline)
