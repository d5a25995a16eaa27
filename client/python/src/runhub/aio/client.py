"""This module defines the asyncio client and the function `connect`, which creates a client."""

from __future__ import annotations

from functools import partial
from types import TracebackType

import grpc.aio

from runhub._rules.address import get_channel_options, to_channel_target
from runhub._rules.held_calls import ChannelPool
from runhub._rules.subscription import SubscriptionState
from runhub.aio.closing import CloseSignal
from runhub.aio.held_calls import HeldCallInterceptor, HeldStreamInterceptor
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
    """Makes calls to one server, within one event loop.

    The client connects at the first call. If a connection breaks, the client reconnects. For streams and calls with a
    `wait`, the client opens further connections, with at most 100 streams and calls on each. Each attribute is the stub
    of one service. If a call fails with a temporary error, the client retries the call with the same request_id until
    the call's time limit. If the call still fails, or if the error is permanent, the call raises `runhub.Error`. The
    time limit is the call's `timeout` in seconds. Without a `timeout`, the time limit is the client's deadline plus the
    request's `wait`.
    """

    def __init__(self, server: str, *, deadline: float = 30.0) -> None:
        """Creates a client. The function `connect` documents the parameters and the errors."""
        self._closing = CloseSignal()
        open_channel = partial(grpc.aio.insecure_channel, to_channel_target(server), get_channel_options(server))
        self._pool = ChannelPool(open_channel)
        # The retry interceptor comes first, so that each retry takes a new slot of the pool.
        interceptors = [
            UnaryInterceptor(deadline, self._closing),
            StreamInterceptor(self._closing),
            HeldCallInterceptor(self._pool),
            HeldStreamInterceptor(self._pool),
        ]
        channel = open_channel(interceptors=interceptors)
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
        """Returns an AsyncLease that renews the lease of a claim in the background while its `async with` block runs:
        `async with client.keep_lease(claim) as lease:`."""
        return AsyncLease(self.tasks, claim, self._closing)

    def subscribe(self, request: SubscribeEventsRequest) -> AsyncSubscription:
        """Returns an AsyncSubscription, which yields the events of the log:
        `async for update in client.subscribe(request):`.

        If the connection breaks, the subscription reconnects. To continue an earlier subscription, set `after_position`
        and `log_id` of the request to the earlier subscription's `position` and `log_id`. If the server's log has a
        different id, the new subscription raises LogChanged.
        """
        return AsyncSubscription(self.events, self.server, SubscriptionState(request), self._closing)

    async def close(self) -> None:
        """Closes all connections. Running calls and later calls fail with CANCELLED. Each lease of the client is lost
        with the reason `unanswered`."""
        await self._closing.close()
        for channel in self._pool.close():
            await channel.close()
        await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def connect(server: str = "127.0.0.1:50051", *, deadline: float = 30.0) -> AsyncClient:
    """Returns a client of the server at the address `HOST:PORT`, `http://HOST:PORT` or `unix:PATH`.

    The client connects at the first call. `deadline` is the maximum time in seconds for a call and all retries. Raises
    RuntimeError if no event loop is running, and ValueError if the address has none of the three forms.
    """
    return AsyncClient(server, deadline=deadline)
