"""The lease keeper of threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import grpc
import pytest
from fake import FakeServer, beat, hang, refuse
from test_lease_aio import CLAIM, LOST

import runhub
from runhub.v1 import Claim, LeaseState


@pytest.fixture
def client(fake: FakeServer) -> Iterator[runhub.Client]:
    with runhub.connect(fake.address) as client:
        yield client
    assert "runhub-lease" not in {thread.name for thread in threading.enumerate()}


def test_it_beats_at_once_and_until_the_end(fake: FakeServer, client: runhub.Client) -> None:
    with client.keep_lease(Claim(lease_token="token", lease_duration={"seconds": 3600})) as lease:
        (asked,) = fake.asked("Heartbeat")
        assert asked.request.beats[0].lease_token == "token"
        lease.check()
    assert fake.count("Heartbeat") == 1


def test_a_beat_under_way_does_not_hold_up_the_end(fake: FakeServer, client: runhub.Client) -> None:
    fake.answers("Heartbeat", hang())
    with client.keep_lease(Claim(lease_token="token", lease_duration={"seconds": 3600})):
        (asked,) = fake.asked("Heartbeat")
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert asked.over.wait(5)


@pytest.mark.parametrize(
    ("trouble", "because"),
    [
        (LOST, "taken"),
        (hang(), "unanswered"),
        (refuse(grpc.StatusCode.UNAVAILABLE), "unanswered"),
        (refuse(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"), "refused"),
    ],
)
def test_work_that_waits_hears_of_the_loss(
    fake: FakeServer, client: runhub.Client, trouble: object, because: str
) -> None:
    fake.answers("Heartbeat", trouble)  # type: ignore[arg-type] # it is an Answer
    began = time.monotonic()
    with pytest.raises(runhub.LeaseLost) as lost, client.keep_lease(CLAIM) as lease:
        lease.wait(60)
    assert lost.value.because == because
    assert time.monotonic() - began < 5


def test_work_that_does_not_ask_hears_of_it_at_the_end(fake: FakeServer, client: runhub.Client) -> None:
    fake.answers("Heartbeat", LOST)
    over = threading.Event()
    with pytest.raises(runhub.LeaseLost), client.keep_lease(CLAIM) as lease:
        lease.on_lost(over.set)
        assert over.wait(5)
        assert lease.state == LeaseState.LEASE_STATE_LOST
        again = threading.Event()
        lease.on_lost(again.set)
        assert again.is_set()


def test_the_works_own_error_stays_what_it_is(fake: FakeServer, client: runhub.Client) -> None:
    fake.answers("Heartbeat", LOST)
    over = threading.Event()
    with pytest.raises(ZeroDivisionError), client.keep_lease(CLAIM) as lease:
        lease.on_lost(over.set)
        assert over.wait(5)
        raise ZeroDivisionError


def test_waiting_for_nothing_sleeps(client: runhub.Client) -> None:
    began = time.monotonic()
    with client.keep_lease(CLAIM) as lease:
        lease.wait(0.05)
    assert time.monotonic() - began >= 0.05


def test_progress_and_state(fake: FakeServer, client: runhub.Client) -> None:
    fake.answers("Heartbeat", beat(LeaseState.LEASE_STATE_PAUSE_REQUESTED))
    with client.keep_lease(CLAIM) as lease:
        lease.progress({"percent": 50})
        fake.asked("Heartbeat", 3)
        assert lease.state == LeaseState.LEASE_STATE_PAUSE_REQUESTED
    sent = [runhub.to_json(asked.request.beats[0].progress) for asked in fake.asked("Heartbeat", 3)]
    assert {"percent": 50} in sent[:2]
    assert sent.count(None) == len(sent) - 1
