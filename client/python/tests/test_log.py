"""What a subscription shows of what comes."""

from __future__ import annotations

import grpc
import pytest

import runhub
from runhub._rules.log import Log
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


def event(position: int) -> SubscribeEventsResponse:
    return SubscribeEventsResponse(event=Event(position=position))


def caught_up(position: int) -> SubscribeEventsResponse:
    return SubscribeEventsResponse(caught_up=CaughtUp(position=position))


def end(reason: EndReason, position: int) -> SubscribeEventsResponse:
    return SubscribeEventsResponse(end=End(reason=reason, position=position))


def test_it_goes_on_after_the_last_position_of_whatever_message() -> None:
    log = Log(SubscribeEventsRequest(run_id="a"))
    assert log.position is None
    assert not log.begin("log").HasField("after_position")
    for response, position in (
        (event(3), 3),
        (caught_up(5), 5),
        (SubscribeEventsResponse(bookmark=Bookmark(position=8)), 8),
        (end(EndReason.END_REASON_DRAINING, 9), 9),
    ):
        log.take(response)
        assert log.position == position
        assert log.begin("log") == SubscribeEventsRequest(run_id="a", after_position=position)


def test_position_0_is_a_cursor_and_the_callers_request_stays_as_it_is() -> None:
    request = SubscribeEventsRequest(after_position=0)
    log = Log(request)
    assert log.position == 0
    log.take(event(3))
    assert request == SubscribeEventsRequest(after_position=0)


def test_caught_up_is_shown_once() -> None:
    log = Log(SubscribeEventsRequest())
    assert log.take(caught_up(1)) == caught_up(1)
    assert log.take(caught_up(2)) is None


def test_draining_is_not_shown_and_the_end_is_the_end() -> None:
    log = Log(SubscribeEventsRequest())
    assert log.take(end(EndReason.END_REASON_DRAINING, 1)) is None
    assert not log.ended
    for reason in (EndReason.END_REASON_RUN_ENDED, EndReason.END_REASON_RUN_DELETED):
        assert log.take(end(reason, 1)) == end(reason, 1)
        assert log.ended


def test_a_snapshot_is_put_together_and_begins_anew_when_it_is_broken_off() -> None:
    log = Log(SubscribeEventsRequest(run_id="a"))

    def take(snapshot: RunSnapshot) -> SubscribeEventsResponse | None:
        return log.take(SubscribeEventsResponse(snapshot=snapshot))

    for _ in range(2):
        # Also when the first of them was broken off here.
        log.begin("log")
        assert take(RunSnapshot(run=Run(id="a"), pending_tasks=[Task(id="1")])) is None
        assert log.position is None
    assert take(RunSnapshot(pending_tasks=[Task(id="2")])) is None
    whole = take(RunSnapshot(pending_tasks=[Task(id="3")], position=7))
    tasks = [Task(id=one) for one in "123"]
    snapshot = RunSnapshot(run=Run(id="a"), pending_tasks=tasks, position=7)
    assert whole == SubscribeEventsResponse(snapshot=snapshot)
    assert log.position == 7


def test_another_log_is_not_gone_on_with() -> None:
    log = Log(SubscribeEventsRequest())
    log.begin("one")
    log.begin("one")
    with pytest.raises(runhub.OtherLog):
        log.begin("two")


def test_what_is_not_known_yet_is_not_shown() -> None:
    assert Log(SubscribeEventsRequest()).take(SubscribeEventsResponse()) is None


def test_it_waits_as_a_call_does_and_anew_once_something_came() -> None:
    log = Log(SubscribeEventsRequest())
    delays = [log.broken(None) for _ in range(8)]
    assert delays[0] <= 0.05 < 1.0 <= delays[-1] <= 2.0
    log.take(caught_up(1))
    assert log.broken(None) <= 0.05
    late = runhub.Error(grpc.StatusCode.DEADLINE_EXCEEDED, "")
    told = runhub.Draining(grpc.StatusCode.UNAVAILABLE, "", "DRAINING", retry_delay=3.0)
    assert log.broken(late) <= 0.1
    assert log.broken(told) == 3.0
    with pytest.raises(runhub.RunNotFound):
        log.broken(runhub.RunNotFound(grpc.StatusCode.NOT_FOUND, "", "RUN_NOT_FOUND"))
