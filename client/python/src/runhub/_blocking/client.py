"""This module defines the blocking client and the function `connect`, which creates a client."""

from __future__ import annotations

from functools import partial
from types import TracebackType

import grpc

from runhub._blocking.closing import CloseSignal
from runhub._blocking.held_calls import HeldCalls
from runhub._blocking.interceptor import Interceptor
from runhub._blocking.lease import Lease
from runhub._blocking.subscription import Subscription, SubscriptionStubs
from runhub._rules.address import get_channel_options, to_channel_target
from runhub._rules.subscription import SubscriptionState
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
    """Makes calls to one server. Threads may share a client.

    The client connects at the first call. If a connection breaks, the client reconnects. For streams and calls with a
    `wait`, the client opens further connections, with at most 100 streams and calls on each. Each attribute is the stub
    of one service. If a call fails with a temporary error, the client retries the call with the same request_id until
    the call's time limit. If the call still fails, or if the error is permanent, the call raises `runhub.Error`. The
    time limit is the call's `timeout` in seconds. Without a `timeout`, the time limit is the client's deadline plus the
    request's `wait`. The method `future` of a call returns only after the call and all retries have ended.
    """

    def __init__(self, server: str, *, deadline: float = 30.0) -> None:
        """Creates a client. The function `connect` documents the parameters and the errors."""
        open_channel = partial(grpc.insecure_channel, to_channel_target(server), get_channel_options(server))
        self._channel = open_channel()
        self._held_calls = HeldCalls(open_channel)
        # The stubs for heartbeats and subscriptions bypass the retry interceptor. Leases and subscriptions make retries
        # themselves, because another thread can't cancel a call while the interceptor waits before a retry. The
        # constructor creates the stubs, because the creation of a stub on a closed channel crashes the process.
        self._heartbeat_stub = TaskServiceStub(self._channel)
        self._subscription_stubs = SubscriptionStubs(
            ServerServiceStub(self._channel),
            EventServiceStub(grpc.intercept_channel(self._channel, self._held_calls)),
            deadline,
        )
        self._closing = CloseSignal()
        # The retry interceptor comes first, so that each retry takes a new slot of the pool.
        channel = grpc.intercept_channel(self._channel, Interceptor(deadline, self._closing), self._held_calls)
        self.runs = RunServiceStub(channel)
        self.agents = AgentServiceStub(channel)
        self.tasks = TaskServiceStub(channel)
        self.events = EventServiceStub(channel)
        self.approvals = ApprovalServiceStub(channel)
        self.checkpoints = CheckpointServiceStub(channel)
        self.artifacts = ArtifactServiceStub(channel)
        self.server = ServerServiceStub(channel)

    def keep_lease(self, claim: Claim) -> Lease:
        """Returns a Lease that renews the lease of a claim in the background while its `with` block runs:
        `with client.keep_lease(claim) as lease:`."""
        return Lease(self._heartbeat_stub, claim, self._closing)

    def subscribe(self, request: SubscribeEventsRequest) -> Subscription:
        """Returns a Subscription, which yields the events of the log: `for update in client.subscribe(request):`.

        If the connection breaks, the subscription reconnects. To continue an earlier subscription, set `after_position`
        and `log_id` of the request to the earlier subscription's `position` and `log_id`. If the server's log has a
        different id, the new subscription raises LogChanged.
        """
        return Subscription(self._subscription_stubs, SubscriptionState(request), self._closing)

    def close(self) -> None:
        """Closes all connections. Running calls and later calls fail with CANCELLED. Each lease of the client is lost
        with the reason `unanswered`."""
        self._closing.close()
        self._held_calls.close()
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(server: str = "127.0.0.1:50051", *, deadline: float = 30.0) -> Client:
    """Returns a client of the server at the address `HOST:PORT`, `http://HOST:PORT` or `unix:PATH`.

    The client connects at the first call. `deadline` is the maximum time in seconds for a call and all retries. Raises
    ValueError if the address has none of the three forms.
    """
    return Client(server, deadline=deadline)
