"""This module tests the rules that the blocking client and the asyncio client share.

Each test passes the current time to the rules, so no test waits.
"""

from __future__ import annotations

import os

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

import runhub
from runhub import v1
from runhub._rules.address import to_channel_target
from runhub._rules.calls import Backoff, Call
from runhub._rules.heartbeats import HeartbeatSchedule
from runhub._rules.held_calls import SLOTS_PER_CONNECTION, ChannelPool
from runhub.v1 import BeatResult, Claim, ClaimTaskRequest, HeartbeatResponse, LeaseState

UNAVAILABLE = runhub.Error(grpc.StatusCode.UNAVAILABLE, "down")
TOO_LATE = runhub.Error(grpc.StatusCode.DEADLINE_EXCEEDED, "late")
REFUSED = runhub.InvalidField(grpc.StatusCode.INVALID_ARGUMENT, "too large", "INVALID_FIELD")


def test_delays_double_up_to_two_seconds_with_jitter() -> None:
    backoff = Backoff()
    for full in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0):
        assert full / 2 <= backoff.next_delay(None) <= full
    assert backoff.next_delay(5.0) == 5.0


def test_delays_are_at_most_a_tenth_of_the_limit() -> None:
    backoff = Backoff(limit=1.0)
    assert all(backoff.next_delay(None) <= 0.1 for _ in range(10))


def test_call_ends_if_next_retry_would_be_after_the_deadline() -> None:
    call = Call(ClaimTaskRequest(), timeout=None, deadline=30.0, now=100.0)
    overloaded = runhub.Overloaded(grpc.StatusCode.RESOURCE_EXHAUSTED, "", "OVERLOADED", retry_delay=5.0)
    assert call.prepare_request(110.0)[1] == 20.0
    assert call.record_failure(overloaded, 110.0) == 5.0
    for error, now in ((overloaded, 125.5), (REFUSED, 110.0)):
        with pytest.raises(runhub.Error) as raised:
            call.record_failure(error, now)
        assert raised.value is error


def test_call_ends_at_deadline_with_last_error() -> None:
    call = Call(ClaimTaskRequest(), timeout=None, deadline=30.0, now=100.0)
    with pytest.raises(runhub.Error) as raised:
        call.record_failure(TOO_LATE, 130.0)
    assert raised.value is TOO_LATE
    call = Call(ClaimTaskRequest(), timeout=None, deadline=30.0, now=100.0)
    call.record_failure(UNAVAILABLE, 101.0)
    with pytest.raises(runhub.Error) as raised:
        call.record_failure(TOO_LATE, 130.0)
    assert raised.value is UNAVAILABLE


def test_retry_requests_the_remaining_wait() -> None:
    request = ClaimTaskRequest(run_id="a", wait=Duration(seconds=50), request_id="mine")
    call = Call(request, timeout=None, deadline=30.0, now=100.0)
    # Even if the first call starts late, the first call sends the request unchanged.
    assert call.prepare_request(100.5) == (request, 79.5)
    rest, timeout = call.prepare_request(120.0)
    assert rest == ClaimTaskRequest(run_id="a", wait=Duration(seconds=30), request_id="mine")
    assert timeout == 60.0
    # The wait of 50 s has ended, so the retry has a wait of 0.
    assert call.prepare_request(170.0)[0].wait == Duration()


def test_wait_extends_the_deadline_by_0_to_300_seconds() -> None:
    assert Call(ClaimTaskRequest(wait=Duration(seconds=3600)), None, 30.0, 100.0).prepare_request(100.0)[1] == 330.0
    refused = ClaimTaskRequest(wait=Duration(seconds=-1), request_id="mine")
    call = Call(refused, None, 30.0, 100.0)
    assert [call.prepare_request(101.0), call.prepare_request(101.0)] == [(refused, 29.0)] * 2


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
def test_valid_address_becomes_a_grpc_target(server: str, expected: str) -> None:
    assert to_channel_target(server) == expected


@pytest.mark.parametrize("server", ["", "localhost", "https://localhost:1", "unix:", "::1:50051", "http://a:1/b"])
def test_invalid_address_is_an_error(server: str) -> None:
    with pytest.raises(ValueError, match="is not a valid server address"):
        runhub.connect(server)


def new_schedule(lease: float, now: float = 100.0) -> HeartbeatSchedule:
    duration = Duration()
    duration.FromNanoseconds(int(lease * 1e9))
    return HeartbeatSchedule(Claim(lease_token="token", lease_duration=duration), now)


def new_heartbeat_response(state: LeaseState = LeaseState.LEASE_STATE_EXTENDED) -> HeartbeatResponse:
    return HeartbeatResponse(results=[BeatResult(state=state)])


@pytest.mark.parametrize(("lease", "interval"), [(6.0, 2.0), (600.0, 10.0), (0.0, 1 / 3)])
def test_heartbeat_interval_is_a_third_of_the_lease_but_at_most_ten_seconds(lease: float, interval: float) -> None:
    schedule = new_schedule(lease)
    request, timeout = schedule.prepare_heartbeat(100.0)
    assert request.beats[0].lease_token == "token"
    assert timeout == max(lease, 1.0) / 3
    # The interval starts when the heartbeat is sent, not when the response arrives.
    assert schedule.record_answer(new_heartbeat_response(), 100.1) == pytest.approx(interval - 0.1)


def test_lease_is_lost_if_no_heartbeat_is_answered_for_a_lease_duration() -> None:
    schedule = new_schedule(6.0)
    schedule.prepare_heartbeat(101.0)
    schedule.record_answer(new_heartbeat_response(), 103.0)
    schedule.prepare_heartbeat(103.0)
    assert schedule.record_failure(TOO_LATE, 105.0) <= 0.05
    assert schedule.record_failure(UNAVAILABLE, 106.99) <= 0.011
    assert schedule.prepare_heartbeat(106.9)[1] == pytest.approx(0.1)
    with pytest.raises(runhub.LeaseLost) as lost:
        schedule.prepare_heartbeat(107.0)
    assert lost.value.because == "unanswered"
    assert lost.value.__cause__ is UNAVAILABLE


def test_lease_is_lost_if_the_server_answers_lost_or_refuses_a_heartbeat() -> None:
    with pytest.raises(runhub.LeaseLost) as taken:
        new_schedule(6.0).record_answer(new_heartbeat_response(LeaseState.LEASE_STATE_LOST), 101.0)
    assert taken.value.because == "taken"
    with pytest.raises(runhub.LeaseLost) as refused:
        new_schedule(6.0).record_failure(REFUSED, 101.0)
    assert (refused.value.because, refused.value.__cause__) == ("refused", REFUSED)


def test_response_without_result_counts_as_failure() -> None:
    assert new_schedule(6.0).record_answer(HeartbeatResponse(), 101.0) <= 0.05


def test_latest_progress_is_sent_until_a_heartbeat_is_answered() -> None:
    schedule = new_schedule(6.0)

    def read_next_progress() -> object:
        beat = schedule.prepare_heartbeat(100.0)[0].beats[0]
        return runhub.to_json(beat.progress) if beat.HasField("progress") else "none"

    assert read_next_progress() == "none"
    schedule.set_progress(runhub.value(1))
    schedule.set_progress(runhub.value(2))
    assert read_next_progress() == 2
    schedule.record_failure(UNAVAILABLE, 100.0)
    assert read_next_progress() == 2
    schedule.set_progress(runhub.value(3))
    schedule.record_failure(UNAVAILABLE, 100.0)
    assert read_next_progress() == 3
    schedule.set_progress(runhub.value(4))
    schedule.record_answer(new_heartbeat_response(), 100.0)
    assert read_next_progress() == 4
    schedule.record_answer(new_heartbeat_response(), 100.0)
    assert read_next_progress() == "none"


def test_state_comes_from_the_last_response() -> None:
    schedule = new_schedule(6.0)
    for state in (v1.LeaseState.LEASE_STATE_PAUSE_REQUESTED, v1.LeaseState.LEASE_STATE_EXTENDED):
        schedule.record_answer(new_heartbeat_response(state), 100.0)
        assert schedule.state == state


def test_pool_takes_free_slot_of_first_channel_and_opens_channel_only_if_all_slots_are_taken() -> None:
    names = iter(["first", "second", "third"])
    pool = ChannelPool(lambda: next(names))
    slots = [pool.take_slot() for _ in range(2 * SLOTS_PER_CONNECTION)]
    assert [slot.channel for slot in slots] == ["first"] * SLOTS_PER_CONNECTION + ["second"] * SLOTS_PER_CONNECTION
    # The second release has no effect, so only one slot of the first channel is free.
    slots[0].release()
    slots[0].release()
    assert [pool.take_slot().channel for _ in range(2)] == ["first", "third"]


def test_closed_pool_returns_its_channels_and_opens_no_channel() -> None:
    pool = ChannelPool(lambda: "channel")
    pool.take_slot()
    assert pool.close() == ["channel"]
    assert pool.close() == []
    with pytest.raises(runhub.Error, match="the client is closed"):
        pool.take_slot()
