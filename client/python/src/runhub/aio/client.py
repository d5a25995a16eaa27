"""A connection to a server."""

from __future__ import annotations

from types import TracebackType

import grpc.aio

from runhub._rules.address import options, target
from runhub._rules.log import Log
from runhub.aio.calls import CallsByReason, StreamsByReason
from runhub.aio.closing import Closing
from runhub.aio.lease import AsyncLease
from runhub.aio.subscription import AsyncSubscription
from runhub.v1 import Claim, SubscribeEventsRequest
from runhub.v1.agent_service_pb2_grpc import AgentServiceStub
from runhub.v1.approval_service_pb2_grpc import ApprovalServiceStub
from runhub.v1.artifact_service_pb2_grpc import ArtifactServiceStub
from runhub.v1.checkpoint_service_pb2_grpc import CheckpointServiceStub
from runhub.v1.event_service_pb2_grpc import EventServiceStub
from runhub.v1.run_service_pb2_grpc import RunServiceStub
from runhub.v1.server_service_pb2_grpc import ServerServiceStub
from runhub.v1.task_service_pb2_grpc import TaskServiceStub


class AsyncClient:
    """A connection to a server, of one event loop. It is made with the first call, and again when it breaks.

    Each attribute is the stub of a service. A call raises `runhub.Error`; it is made again while what stopped it may
    pass, with one request_id. Its `timeout` is for all tries together; without one it has the client's deadline, and on
    top of that the request's `wait`.
    """

    def __init__(self, server: str, *, deadline: float = 30.0) -> None:
        """See `connect`."""
        self._closing = Closing()
        interceptors = [CallsByReason(deadline, self._closing), StreamsByReason(self._closing)]
        self._channel = channel = grpc.aio.insecure_channel(target(server), options(server), interceptors=interceptors)
        self.runs = RunServiceStub(channel)
        self.agents = AgentServiceStub(channel)
        self.tasks = TaskServiceStub(channel)
        self.events = EventServiceStub(channel)
        self.approvals = ApprovalServiceStub(channel)
        self.checkpoints = CheckpointServiceStub(channel)
        self.artifacts = ArtifactServiceStub(channel)
        self.server = ServerServiceStub(channel)

    def keep_lease(self, claim: Claim) -> AsyncLease:
        """Keeps the lease of a claim in the background: `async with client.keep_lease(claim) as lease:`."""
        return AsyncLease(self.tasks, claim, self._closing)

    def subscribe(self, request: SubscribeEventsRequest, log_id: str | None = None) -> AsyncSubscription:
        """Follows the log, however often the connection breaks: `async for update in client.subscribe(request):`.

        With a cursor of another subscription, its `log_id` as well: if the server has another log by now it raises
        OtherLog.
        """
        return AsyncSubscription(self.events, self.server, Log(request, log_id), self._closing)

    async def close(self) -> None:
        """Closes the connection. What is still called, and what is called from now on, ends with CANCELLED; leases are
        lost as `unanswered`."""
        await self._closing.close()
        await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def connect(server: str = "127.0.0.1:50051", *, deadline: float = 30.0) -> AsyncClient:
    """Connects to `HOST:PORT`, `http://HOST:PORT` or `unix:PATH`; the connection is made with the first call. To be
    called in the event loop.

    `deadline` is how many seconds a call has for all its tries. An address that is none of these is a ValueError.
    """
    return AsyncClient(server, deadline=deadline)
