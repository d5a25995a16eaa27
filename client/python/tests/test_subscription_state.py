"""This module tests which messages a subscription yields, and from which position a subscription resumes."""

from __future__ import annotations

import grpc
import pytest

import runhub
from runhub._rules.subscription import SubscriptionState
from runhub.v1 import (
    Bookmark,
    CaughtUp,
    End,
    EndReason,
    Event,
    Run,
    RunSnapshot,
    SubscribeEventsRequest,
    SubscribeEventsResponse,
    Task,
)


def new_event(position: int) -> SubscribeEventsResponse:
    return SubscribeEventsResponse(event=Event(position=position))


def new_caught_up(position: int) -> SubscribeEventsResponse:
    return SubscribeEventsResponse(caught_up=CaughtUp(position=position))


def new_end(reason: EndReason, position: int) -> SubscribeEventsResponse:
    return SubscribeEventsResponse(end=End(reason=reason, position=position))


def test_subscription_resumes_after_last_position_of_any_message() -> None:
    state = SubscriptionState(SubscribeEventsRequest(run_id="a"))
    assert state.position is None
    state.set_log("log")
    assert not state.next_request().HasField("after_position")
    for response, position in (
        (new_event(3), 3),
        (new_caught_up(5), 5),
        (SubscribeEventsResponse(bookmark=Bookmark(position=8)), 8),
        (new_end(EndReason.END_REASON_DRAINING, 9), 9),
    ):
        state.receive(response)
        assert state.position == position
        assert state.next_request() == SubscribeEventsRequest(run_id="a", after_position=position, log_id="log")


def test_position_0_is_a_cursor_and_callers_request_is_unchanged() -> None:
    request = SubscribeEventsRequest(after_position=0)
    state = SubscriptionState(request)
    assert state.position == 0
    state.receive(new_event(3))
    assert request == SubscribeEventsRequest(after_position=0)


def test_caught_up_is_yielded_once() -> None:
    state = SubscriptionState(SubscribeEventsRequest())
    assert state.receive(new_caught_up(1)) == new_caught_up(1)
    assert state.receive(new_caught_up(2)) is None


def test_draining_is_not_yielded_and_other_ends_end_the_subscription() -> None:
    state = SubscriptionState(SubscribeEventsRequest())
    assert state.receive(new_end(EndReason.END_REASON_DRAINING, 1)) is None
    assert not state.ended
    for reason in (EndReason.END_REASON_RUN_ENDED, EndReason.END_REASON_RUN_DELETED):
        assert state.receive(new_end(reason, 1)) == new_end(reason, 1)
        assert state.ended


def test_snapshot_parts_are_joined_and_broken_snapshot_starts_again() -> None:
    state = SubscriptionState(SubscribeEventsRequest(run_id="a"))

    def receive_part(part: RunSnapshot) -> SubscribeEventsResponse | None:
        return state.receive(SubscribeEventsResponse(snapshot=part))

    for _ in range(2):
        # In the first iteration, the stream breaks after the first part of the snapshot.
        state.next_request()
        assert receive_part(RunSnapshot(run=Run(id="a"), pending_tasks=[Task(id="1")])) is None
        assert state.position is None
    assert receive_part(RunSnapshot(pending_tasks=[Task(id="2")])) is None
    whole = receive_part(RunSnapshot(pending_tasks=[Task(id="3")], position=7))
    tasks = [Task(id=id_) for id_ in "123"]
    snapshot = RunSnapshot(run=Run(id="a"), pending_tasks=tasks, position=7)
    assert whole == SubscribeEventsResponse(snapshot=snapshot)
    assert state.position == 7


def test_log_of_the_request_or_of_the_first_stream_is_in_every_request() -> None:
    assert SubscriptionState(SubscribeEventsRequest(log_id="one")).log_id == "one"
    state = SubscriptionState(SubscribeEventsRequest())
    assert state.log_id is None
    state.set_log("one")
    state.receive(new_event(3))
    assert state.next_request() == SubscribeEventsRequest(after_position=3, log_id="one")


def test_unknown_message_is_not_yielded() -> None:
    assert SubscriptionState(SubscribeEventsRequest()).receive(SubscribeEventsResponse()) is None


def test_delays_double_and_start_again_after_a_message() -> None:
    state = SubscriptionState(SubscribeEventsRequest())
    delays = [state.record_stream_end(None) for _ in range(8)]
    assert delays[0] <= 0.05 < 1.0 <= delays[-1] <= 2.0
    state.receive(new_caught_up(1))
    assert state.record_stream_end(None) <= 0.05
    late = runhub.Error(grpc.StatusCode.DEADLINE_EXCEEDED, "")
    with_delay = runhub.Draining(grpc.StatusCode.UNAVAILABLE, "", "DRAINING", retry_delay=3.0)
    assert state.record_stream_end(late) <= 0.1
    assert state.record_stream_end(with_delay) == 3.0
    with pytest.raises(runhub.RunNotFound):
        state.record_stream_end(runhub.RunNotFound(grpc.StatusCode.NOT_FOUND, "", "RUN_NOT_FOUND"))
