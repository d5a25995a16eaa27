"""The client for threads."""

from __future__ import annotations

from types import TracebackType

import grpc

from runhub._blocking.closing import CloseSignal
from runhub._blocking.interceptor import Interceptor
from runhub._blocking.lease import Lease
from runhub._blocking.subscription import Subscription, SubscriptionStubs
from runhub._rules.address import options, target
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
    """A connection to a server, which threads may share. The client connects with the first call, and reconnects when
    the connection breaks.

    Each attribute is the stub of a service. A call raises `runhub.Error` if it fails. If a call fails for a temporary
    reason, the client repeats it with the same request_id. A call's `timeout` covers all its tries. Without a
    `timeout`, the limit is the client's deadline plus the request's `wait`. The `future` of a call makes all tries
    before it returns.
    """

    def __init__(self, server: str, *, deadline: float = 30.0) -> None:
        """See `connect`."""
        self._channel = grpc.insecure_channel(target(server), options(server))
        # Leases and subscriptions retry by themselves, and another thread must be able to cancel their calls, which it
        # can't while the interceptor waits between two tries. So their stubs bypass the interceptor. The stubs are made
        # here, because making a stub on a closed channel crashes the process.
        self._heartbeat_stub = TaskServiceStub(self._channel)
        self._subscription_stubs = SubscriptionStubs(self._channel, deadline)
        self._closing = CloseSignal()
        channel = grpc.intercept_channel(self._channel, Interceptor(deadline, self._closing))
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
        return Lease(self._heartbeat_stub, claim, self._closing)

    def subscribe(self, request: SubscribeEventsRequest, log_id: str | None = None) -> Subscription:
        """Follows the event log through broken connections: `for update in client.subscribe(request):`.

        If the request has the cursor of another subscription, pass that subscription's `log_id` too. If the server has
        a different log, the subscription then raises OtherLog.
        """
        return Subscription(self._subscription_stubs, SubscriptionState(request, log_id), self._closing)

    def close(self) -> None:
        """Closes the connection. Running calls and later calls end with CANCELLED; leases are lost as `unanswered`."""
        self._closing.close()
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(server: str = "127.0.0.1:50051", *, deadline: float = 30.0) -> Client:
    """Returns a client of the server at `HOST:PORT`, `http://HOST:PORT` or `unix:PATH`.

    The client connects with the first call. `deadline` is the time for all tries of a call, in seconds. Raises
    ValueError if the address has none of these forms.
    """
    return Client(server, deadline=deadline)
