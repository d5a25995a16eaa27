"""The rules that both clients share, at times that the test chooses."""

from __future__ import annotations

import os

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

import runhub
from runhub import v1
from runhub._rules.address import target
from runhub._rules.calls import Backoff, Call
from runhub._rules.heartbeats import HeartbeatSchedule
from runhub.v1 import BeatResult, Claim, ClaimTaskRequest, HeartbeatResponse, LeaseState

UNAVAILABLE = runhub.Error(grpc.StatusCode.UNAVAILABLE, "down")
TOO_LATE = runhub.Error(grpc.StatusCode.DEADLINE_EXCEEDED, "late")
REFUSED = runhub.InvalidField(grpc.StatusCode.INVALID_ARGUMENT, "too large", "INVALID_FIELD")


def test_delays_double_up_to_two_seconds_with_jitter() -> None:
    backoff = Backoff()
    for full in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0):
        assert full / 2 <= backoff.next(None) <= full
    assert backoff.next(5.0) == 5.0


def test_delays_are_short_if_there_is_little_time() -> None:
    backoff = Backoff(limit=1.0)
    assert all(backoff.next(None) <= 0.1 for _ in range(10))


def test_call_ends_if_next_try_would_be_after_the_deadline() -> None:
    call = Call(ClaimTaskRequest(), timeout=None, deadline=30.0, now=100.0)
    overloaded = runhub.Overloaded(grpc.StatusCode.RESOURCE_EXHAUSTED, "", "OVERLOADED", retry_delay=5.0)
    assert call.next_try(110.0)[1] == 20.0
    assert call.failed(overloaded, 110.0) == 5.0
    for error, now in ((overloaded, 125.5), (REFUSED, 110.0)):
        with pytest.raises(runhub.Error) as raised:
            call.failed(error, now)
        assert raised.value is error


def test_call_ends_at_deadline_with_error_of_last_ended_try() -> None:
    call = Call(ClaimTaskRequest(), timeout=None, deadline=30.0, now=100.0)
    with pytest.raises(runhub.Error) as raised:
        call.failed(TOO_LATE, 130.0)
    assert raised.value is TOO_LATE
    call = Call(ClaimTaskRequest(), timeout=None, deadline=30.0, now=100.0)
    call.failed(UNAVAILABLE, 101.0)
    with pytest.raises(runhub.Error) as raised:
        call.failed(TOO_LATE, 130.0)
    assert raised.value is UNAVAILABLE


def test_further_try_asks_for_the_rest_of_the_wait() -> None:
    request = ClaimTaskRequest(run_id="a", wait=Duration(seconds=50), request_id="mine")
    call = Call(request, timeout=None, deadline=30.0, now=100.0)
    # The first try is sent unchanged, even if it is sent late.
    assert call.next_try(100.5) == (request, 79.5)
    rest, timeout = call.next_try(120.0)
    assert rest == ClaimTaskRequest(run_id="a", wait=Duration(seconds=30), request_id="mine")
    assert timeout == 60.0
    # The wait is over, so the try asks for a wait of 0.
    assert call.next_try(170.0)[0].wait == Duration()


def test_wait_counts_up_to_the_limit_of_the_server() -> None:
    assert Call(ClaimTaskRequest(wait=Duration(seconds=3600)), None, 30.0, 100.0).next_try(100.0)[1] == 330.0
    refused = ClaimTaskRequest(wait=Duration(seconds=-1), request_id="mine")
    call = Call(refused, None, 30.0, 100.0)
    assert [call.next_try(101.0), call.next_try(101.0)] == [(refused, 29.0)] * 2


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("127.0.0.1:50051", "dns:///127.0.0.1:50051"),
        ("http://localhost:1", "dns:///localhost:1"),
        ("http://localhost:1/", "dns:///localhost:1"),
        ("[::1]:50051", "dns:///[::1]:50051"),
        ("unix:/tmp/a b%.sock", "unix:///tmp/a%20b%25.sock"),
        ("unix:a.sock", f"unix://{os.getcwd()}/a.sock"),
    ],
)
def test_valid_address_becomes_a_target_of_grpc(server: str, expected: str) -> None:
    assert target(server) == expected


@pytest.mark.parametrize("server", ["", "localhost", "https://localhost:1", "unix:", "::1:50051", "http://a:1/b"])
def test_invalid_address_is_an_error(server: str) -> None:
    with pytest.raises(ValueError, match="is not a valid server address"):
        runhub.connect(server)


def schedule_of(lease: float, now: float = 100.0) -> HeartbeatSchedule:
    duration = Duration()
    duration.FromNanoseconds(int(lease * 1e9))
    return HeartbeatSchedule(Claim(lease_token="token", lease_duration=duration), now)


def answer(state: LeaseState = LeaseState.LEASE_STATE_EXTENDED) -> HeartbeatResponse:
    return HeartbeatResponse(results=[BeatResult(state=state)])


@pytest.mark.parametrize(("lease", "interval"), [(6.0, 2.0), (600.0, 10.0), (0.0, 1 / 3)])
def test_heartbeats_come_at_a_third_of_the_lease_but_at_least_every_ten_seconds(lease: float, interval: float) -> None:
    schedule = schedule_of(lease)
    request, timeout = schedule.next_try(100.0)
    assert request.beats[0].lease_token == "token"
    assert timeout == max(lease, 1.0) / 3
    # The interval starts when the heartbeat was sent, not when it was answered.
    assert schedule.answered(answer(), 100.1) == pytest.approx(interval - 0.1)


def test_lease_is_lost_if_no_heartbeat_is_answered_for_its_duration() -> None:
    schedule = schedule_of(6.0)
    schedule.next_try(101.0)
    schedule.answered(answer(), 103.0)
    schedule.next_try(103.0)
    assert schedule.failed(TOO_LATE, 105.0) <= 0.05
    assert schedule.failed(UNAVAILABLE, 106.99) <= 0.011
    assert schedule.next_try(106.9)[1] == pytest.approx(0.1)
    with pytest.raises(runhub.LeaseLost) as lost:
        schedule.next_try(107.0)
    assert lost.value.because == "unanswered"
    assert lost.value.__cause__ is UNAVAILABLE


def test_lease_is_lost_by_answer_and_by_refusal() -> None:
    with pytest.raises(runhub.LeaseLost) as taken:
        schedule_of(6.0).answered(answer(LeaseState.LEASE_STATE_LOST), 101.0)
    assert taken.value.because == "taken"
    with pytest.raises(runhub.LeaseLost) as refused:
        schedule_of(6.0).failed(REFUSED, 101.0)
    assert (refused.value.because, refused.value.__cause__) == ("refused", REFUSED)


def test_answer_without_result_counts_as_failed_try() -> None:
    assert schedule_of(6.0).answered(HeartbeatResponse(), 101.0) <= 0.05


def test_latest_progress_is_sent_until_it_is_answered() -> None:
    schedule = schedule_of(6.0)

    def sent() -> object:
        beat = schedule.next_try(100.0)[0].beats[0]
        return runhub.to_json(beat.progress) if beat.HasField("progress") else "none"

    assert sent() == "none"
    schedule.progress(runhub.value(1))
    schedule.progress(runhub.value(2))
    assert sent() == 2
    schedule.failed(UNAVAILABLE, 100.0)
    assert sent() == 2
    schedule.progress(runhub.value(3))
    schedule.failed(UNAVAILABLE, 100.0)
    assert sent() == 3
    schedule.progress(runhub.value(4))
    schedule.answered(answer(), 100.0)
    assert sent() == 4
    schedule.answered(answer(), 100.0)
    assert sent() == "none"


def test_state_is_that_of_the_last_answer() -> None:
    schedule = schedule_of(6.0)
    for state in (v1.LeaseState.LEASE_STATE_PAUSE_REQUESTED, v1.LeaseState.LEASE_STATE_EXTENDED):
        schedule.answered(answer(state), 100.0)
        assert schedule.state == state
