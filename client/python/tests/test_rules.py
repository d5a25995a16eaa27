"""The rules of both worlds, at times that the test makes up."""

from __future__ import annotations

import os

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

import runhub
from runhub import v1
from runhub._rules.address import target
from runhub._rules.beats import Beats
from runhub._rules.calls import Call, Delays
from runhub.v1 import BeatResult, Claim, ClaimTaskRequest, HeartbeatResponse, LeaseState

AWAY = runhub.Error(grpc.StatusCode.UNAVAILABLE, "away")
LATE = runhub.Error(grpc.StatusCode.DEADLINE_EXCEEDED, "late")
REFUSED = runhub.InvalidField(grpc.StatusCode.INVALID_ARGUMENT, "too much", "INVALID_FIELD")


def test_delays_double_up_to_two_seconds_with_jitter() -> None:
    delays = Delays()
    for full in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0):
        assert full / 2 <= delays.next(None) <= full
    assert delays.next(5.0) == 5.0


def test_delays_are_short_where_there_is_little_time() -> None:
    delays = Delays(limit=1.0)
    assert all(delays.next(None) <= 0.1 for _ in range(10))


def test_a_call_ends_when_the_next_try_would_be_too_late() -> None:
    call = Call(ClaimTaskRequest(), timeout=None, deadline=30.0, now=100.0)
    told = runhub.Overloaded(grpc.StatusCode.RESOURCE_EXHAUSTED, "", "OVERLOADED", retry_delay=5.0)
    assert call.next_try(110.0)[1] == 20.0
    assert call.failed(told, 110.0) == 5.0
    for error, now in ((told, 125.5), (REFUSED, 110.0)):
        with pytest.raises(runhub.Error) as raised:
            call.failed(error, now)
        assert raised.value is error


def test_at_the_deadline_a_call_ends_with_what_the_last_whole_try_met() -> None:
    call = Call(ClaimTaskRequest(), timeout=None, deadline=30.0, now=100.0)
    with pytest.raises(runhub.Error) as raised:
        call.failed(LATE, 130.0)
    assert raised.value is LATE
    call = Call(ClaimTaskRequest(), timeout=None, deadline=30.0, now=100.0)
    call.failed(AWAY, 101.0)
    with pytest.raises(runhub.Error) as raised:
        call.failed(LATE, 130.0)
    assert raised.value is AWAY


def test_a_try_waits_for_the_rest_of_the_wait() -> None:
    request = ClaimTaskRequest(run_id="a", wait=Duration(seconds=50), request_id="mine")
    call = Call(request, timeout=None, deadline=30.0, now=100.0)
    # The first as it is, however late it gets away.
    assert call.next_try(100.5) == (request, 79.5)
    rest, timeout = call.next_try(120.0)
    assert rest == ClaimTaskRequest(run_id="a", wait=Duration(seconds=30), request_id="mine")
    assert timeout == 60.0
    # A wait of 0 is none.
    assert call.next_try(170.0)[0].wait == Duration()


def test_a_wait_is_as_long_as_the_server_makes_it() -> None:
    assert Call(ClaimTaskRequest(wait=Duration(seconds=3600)), None, 30.0, 100.0).next_try(100.0)[1] == 330.0
    refused = ClaimTaskRequest(wait=Duration(seconds=-1), request_id="mine")
    call = Call(refused, None, 30.0, 100.0)
    assert [call.next_try(101.0), call.next_try(101.0)] == [(refused, 29.0)] * 2


@pytest.mark.parametrize(
    ("server", "called"),
    [
        ("127.0.0.1:50051", "dns:///127.0.0.1:50051"),
        ("http://localhost:1", "dns:///localhost:1"),
        ("http://localhost:1/", "dns:///localhost:1"),
        ("[::1]:50051", "dns:///[::1]:50051"),
        ("unix:/tmp/a b%.sock", "unix:///tmp/a%20b%25.sock"),
        ("unix:a.sock", f"unix://{os.getcwd()}/a.sock"),
    ],
)
def test_addresses(server: str, called: str) -> None:
    assert target(server) == called


@pytest.mark.parametrize("server", ["", "localhost", "https://localhost:1", "unix:", "::1:50051", "http://a:1/b"])
def test_no_addresses(server: str) -> None:
    with pytest.raises(ValueError, match="no address of a server"):
        runhub.connect(server)


def beats(lease: float, now: float = 100.0) -> Beats:
    duration = Duration()
    duration.FromNanoseconds(int(lease * 1e9))
    return Beats(Claim(lease_token="token", lease_duration=duration), now)


def answer(state: LeaseState = LeaseState.LEASE_STATE_EXTENDED) -> HeartbeatResponse:
    return HeartbeatResponse(results=[BeatResult(state=state)])


@pytest.mark.parametrize(("lease", "interval"), [(6.0, 2.0), (600.0, 10.0), (0.0, 1 / 3)])
def test_beats_come_at_a_third_of_the_lease_but_every_ten_seconds(lease: float, interval: float) -> None:
    kept = beats(lease)
    request, timeout = kept.next_try(100.0)
    assert request.beats[0].lease_token == "token"
    assert timeout == max(lease, 1.0) / 3
    # From when it was sent, not from when it was answered.
    assert kept.answered(answer(), 100.1) == pytest.approx(interval - 0.1)


def test_a_lease_is_lost_when_no_beat_was_answered_for_as_long_as_it_lasts() -> None:
    kept = beats(6.0)
    kept.next_try(101.0)
    kept.answered(answer(), 103.0)
    kept.next_try(103.0)
    assert kept.failed(LATE, 105.0) <= 0.05
    assert kept.failed(AWAY, 106.99) <= 0.011
    assert kept.next_try(106.9)[1] == pytest.approx(0.1)
    with pytest.raises(runhub.LeaseLost) as lost:
        kept.next_try(107.0)
    assert lost.value.because == "unanswered"
    assert lost.value.__cause__ is AWAY


def test_a_lease_is_lost_by_answer_and_by_refusal() -> None:
    with pytest.raises(runhub.LeaseLost) as taken:
        beats(6.0).answered(answer(LeaseState.LEASE_STATE_LOST), 101.0)
    assert taken.value.because == "taken"
    with pytest.raises(runhub.LeaseLost) as refused:
        beats(6.0).failed(REFUSED, 101.0)
    assert (refused.value.because, refused.value.__cause__) == ("refused", REFUSED)


def test_an_answer_to_no_beat_is_none() -> None:
    assert beats(6.0).answered(HeartbeatResponse(), 101.0) <= 0.05


def test_a_progress_is_sent_until_it_is_answered_and_the_latest_wins() -> None:
    kept = beats(6.0)

    def sent() -> object:
        beat = kept.next_try(100.0)[0].beats[0]
        return runhub.to_json(beat.progress) if beat.HasField("progress") else "none"

    assert sent() == "none"
    kept.progress(runhub.value(1))
    kept.progress(runhub.value(2))
    assert sent() == 2
    kept.failed(AWAY, 100.0)
    assert sent() == 2
    kept.progress(runhub.value(3))
    kept.failed(AWAY, 100.0)
    assert sent() == 3
    kept.progress(runhub.value(4))
    kept.answered(answer(), 100.0)
    assert sent() == 4
    kept.answered(answer(), 100.0)
    assert sent() == "none"


def test_the_state_is_that_of_the_last_answer() -> None:
    kept = beats(6.0)
    for state in (v1.LeaseState.LEASE_STATE_PAUSE_REQUESTED, v1.LeaseState.LEASE_STATE_EXTENDED):
        kept.answered(answer(state), 100.0)
        assert kept.state == state
