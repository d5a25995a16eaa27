"""This module tests the leases of the blocking client."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import grpc
import pytest
from fake import FakeServer, never_respond, refuse, send_lease_state
from test_lease_aio import BREAKS, CLAIM, LONG_CLAIM, LOST

import runhub
from runhub.v1 import Claim, LeaseState


@pytest.fixture
def client(fake: FakeServer) -> Iterator[runhub.Client]:
    with runhub.connect(fake.address) as client:
        yield client
    assert "runhub-lease" not in {thread.name for thread in threading.enumerate()}


def test_first_heartbeat_is_sent_at_once_and_none_after_the_block(fake: FakeServer, client: runhub.Client) -> None:
    with client.keep_lease(Claim(lease_token="token", lease_duration={"seconds": 3600})) as lease:
        (call,) = fake.wait_for_calls("Heartbeat")
        assert call.request.beats[0].lease_token == "token"
        lease.check()
    assert fake.count_calls("Heartbeat") == 1


def test_running_heartbeat_does_not_delay_leaving_the_block(fake: FakeServer, client: runhub.Client) -> None:
    fake.set_handlers("Heartbeat", never_respond())
    with client.keep_lease(Claim(lease_token="token", lease_duration={"seconds": 3600})):
        (call,) = fake.wait_for_calls("Heartbeat")
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert call.has_ended.wait(5)


@pytest.mark.parametrize(
    ("answer", "because"),
    [
        (LOST, "taken"),
        (never_respond(), "unanswered"),
        (refuse(grpc.StatusCode.UNAVAILABLE), "unanswered"),
        (refuse(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"), "refused"),
    ],
)
def test_wait_ends_when_the_lease_is_lost(
    fake: FakeServer, client: runhub.Client, answer: object, because: str
) -> None:
    fake.set_handlers("Heartbeat", answer)  # type: ignore[arg-type] # it is an Handler
    began = time.monotonic()
    with pytest.raises(runhub.LeaseLost) as lost, client.keep_lease(CLAIM) as lease:
        lease.wait(60)
    assert lost.value.because == because
    assert time.monotonic() - began < 5


def test_block_that_does_not_check_the_lease_raises_lease_lost_at_its_end(
    fake: FakeServer, client: runhub.Client
) -> None:
    fake.set_handlers("Heartbeat", LOST)
    is_lost = threading.Event()
    with pytest.raises(runhub.LeaseLost), client.keep_lease(CLAIM) as lease:
        lease.on_lost(is_lost.set)
        assert is_lost.wait(5)
        assert lease.state == LeaseState.LEASE_STATE_LOST
        is_called_at_once = threading.Event()
        lease.on_lost(is_called_at_once.set)
        assert is_called_at_once.is_set()


def test_error_of_the_block_is_raised_unchanged(fake: FakeServer, client: runhub.Client) -> None:
    fake.set_handlers("Heartbeat", LOST)
    is_lost = threading.Event()
    with pytest.raises(ZeroDivisionError), client.keep_lease(CLAIM) as lease:
        lease.on_lost(is_lost.set)
        assert is_lost.wait(5)
        raise ZeroDivisionError


def test_wait_sleeps_while_the_lease_is_held(client: runhub.Client) -> None:
    began = time.monotonic()
    with client.keep_lease(CLAIM) as lease:
        lease.wait(0.05)
    assert time.monotonic() - began >= 0.05


def test_progress_is_sent_once_and_state_is_updated(fake: FakeServer, client: runhub.Client) -> None:
    fake.set_handlers("Heartbeat", send_lease_state(LeaseState.LEASE_STATE_PAUSE_REQUESTED))
    with client.keep_lease(CLAIM) as lease:
        lease.progress({"percent": 50})
        fake.wait_for_calls("Heartbeat", 3)
        assert lease.state == LeaseState.LEASE_STATE_PAUSE_REQUESTED
    sent = [runhub.to_json(call.request.beats[0].progress) for call in fake.wait_for_calls("Heartbeat", 3)]
    assert {"percent": 50} in sent[:2]
    assert sent.count(None) == len(sent) - 1


def test_lease_is_kept_if_a_proxy_breaks_heartbeats_or_the_store_is_full(
    fake: FakeServer, client: runhub.Client
) -> None:
    fake.set_handlers("Heartbeat", *BREAKS, send_lease_state())
    with client.keep_lease(LONG_CLAIM) as lease:
        fake.wait_for_calls("Heartbeat", len(BREAKS) + 1)
        lease.check()
