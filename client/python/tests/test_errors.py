"""This module tests that each reason of the enum ErrorReason has an error class in the client."""

from __future__ import annotations

import grpc
import pytest
from fake import FakeServer, refuse

import runhub
from runhub.v1 import ErrorReason, GetRunRequest

# The names of all reasons that the server can send. The list omits UNSPECIFIED, because the server never sends
# UNSPECIFIED.
REASONS = [name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()[1:]]


def test_unspecified_comes_first_in_the_enum() -> None:
    assert ErrorReason.keys()[0] == "ERROR_REASON_UNSPECIFIED"
    assert "STALE_LEASE" in REASONS


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_has_a_public_class(fake: FakeServer, reason: str) -> None:
    expected = getattr(runhub, reason.title().replace("_", ""))
    fake.set_handlers("GetRun", refuse(grpc.StatusCode.NOT_FOUND, reason))
    # The deadline is short, because the client retries a call with a temporary error until the deadline.
    with runhub.connect(fake.address, deadline=0.5) as client, pytest.raises(runhub.Error) as raised:
        client.runs.GetRun(GetRunRequest())
    assert type(raised.value) is expected
    assert expected.__name__ in runhub.__all__
    assert raised.value.reason == reason


def test_every_class_has_a_reason() -> None:
    classes = {cls.__name__ for cls in runhub.Error.__subclasses__() if cls.__module__ == "runhub.errors"}
    without_reason = {"Closed", "OtherLog"}
    assert classes - without_reason == {reason.title().replace("_", "") for reason in REASONS}
