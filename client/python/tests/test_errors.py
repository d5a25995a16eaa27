"""This module tests that each reason of the enum ErrorReason has an error class in the client."""

from __future__ import annotations

import pickle

import grpc
import pytest
from fake import FakeServer, refuse

import runhub
from runhub.errors import Cancelled, Closed
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
    without_reason = {"Cancelled"}
    assert classes - without_reason == {reason.title().replace("_", "") for reason in REASONS}


@pytest.mark.parametrize("code", grpc.StatusCode)
def test_error_without_reason_is_temporary_if_the_connection_may_have_broken(code: grpc.StatusCode) -> None:
    is_broken = code.name in {"UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED"}
    assert runhub.Error(code, "from a proxy").is_temporary == is_broken
    # A reason shows that the server itself has sent the error.
    is_unavailable = code is grpc.StatusCode.UNAVAILABLE
    assert runhub.Error(code, "", "REASON_OF_A_NEWER_SERVER").is_temporary == is_unavailable


def test_error_of_a_call_that_the_caller_has_ended_is_not_temporary() -> None:
    for error in (Closed(), Cancelled(grpc.StatusCode.CANCELLED, "the caller has cancelled the call")):
        assert not error.is_temporary
        assert not pickle.loads(pickle.dumps(error)).is_temporary
