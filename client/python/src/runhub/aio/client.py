"""The client for asyncio."""

from __future__ import annotations

from types import TracebackType

import grpc.aio

from runhub._rules.address import options, target
from runhub._rules.subscription import SubscriptionState
from runhub.aio.closing import CloseSignal
from runhub.aio.interceptors import StreamInterceptor, UnaryInterceptor
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
    """A connection to a server, for one event loop. The client connects with the first call, and reconnects when the
    connection breaks.

    Each attribute is the stub of a service. A call raises `runhub.Error` if it fails. If a call fails for a temporary
    reason, the client repeats it with the same request_id. A call's `timeout` covers all its tries. Without a
    `timeout`, the limit is the client's deadline plus the request's `wait`.
    """

    def __init__(self, server: str, *, deadline: float = 30.0) -> None:
        """See `connect`."""
        self._closing = CloseSignal()
        interceptors = [UnaryInterceptor(deadline, self._closing), StreamInterceptor(self._closing)]
        channel = grpc.aio.insecure_channel(target(server), options(server), interceptors=interceptors)
        self._channel = channel
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
        """Follows the event log through broken connections: `async for update in client.subscribe(request):`.

        If the request has the cursor of another subscription, pass that subscription's `log_id` too. If the server has
        a different log, the subscription then raises OtherLog.
        """
        return AsyncSubscription(self.events, self.server, SubscriptionState(request, log_id), self._closing)

    async def close(self) -> None:
        """Closes the connection. Running calls and later calls end with CANCELLED; leases are lost as `unanswered`."""
        await self._closing.close()
        await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def connect(server: str = "127.0.0.1:50051", *, deadline: float = 30.0) -> AsyncClient:
    """Returns a client of the server at `HOST:PORT`, `http://HOST:PORT` or `unix:PATH`. Must be called in an event
    loop.

    The client connects with the first call. `deadline` is the time for all tries of a call, in seconds. Raises
    ValueError if the address has none of these forms.
    """
    return AsyncClient(server, deadline=deadline)
