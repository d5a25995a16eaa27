"""This module replaces the variables in a scenario's steps, and compares expected JSON with actual JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast


class StepFailed(Exception):
    """Reports that a step of a scenario failed. The message explains the failure."""


def substitute(step: Any, variables: Mapping[str, Any]) -> Any:
    """Returns the step with each string `$name` replaced by the value of the variable `name`.

    Raises KeyError if a variable is not set.
    """
    if isinstance(step, str) and step.startswith("$"):
        return variables[step[1:]]
    if isinstance(step, dict):
        return {key: substitute(value, variables) for key, value in cast("dict[str, Any]", step).items()}
    if isinstance(step, list):
        return [substitute(value, variables) for value in cast("list[Any]", step)]
    return step


def matches(expected: Any, actual: Any) -> bool:
    """Returns whether the actual JSON matches the expected JSON.

    An object must have the expected members and may have other members. A list must have the expected length. An
    expected null also matches an absent member. Numbers and other values must be equal.
    """
    if isinstance(expected, dict):
        pairs = cast("dict[str, Any]", expected).items()
        return isinstance(actual, dict) and all(
            matches(value, cast("dict[str, Any]", actual).get(key)) for key, value in pairs
        )
    if isinstance(expected, list):
        entries = cast("list[Any]", expected)
        others = cast("list[Any]", actual)
        return isinstance(actual, list) and len(entries) == len(others) and all(map(matches, entries, others))
    return (type(expected) is type(actual) and expected == actual) or _are_equal_numbers(expected, actual)


def expect_match(expected: Any, actual: Any) -> None:
    """Raises StepFailed if the actual JSON does not match the expected JSON."""
    if not matches(expected, actual):
        raise StepFailed(
            f"the step's result must match {expected}, but is {actual}: check the scenario's steps before this step"
        )


def find_value(path: str, answer: Any) -> Any:
    """Returns the value in `answer` at a path such as `claim.task.id` or `tasks.0.id`. For the path `.`, returns the
    whole `answer`.

    Raises StepFailed if `answer` has no value at the path.
    """
    for name in path.split(".") if path != "." else ():
        try:
            answer = answer[int(name) if isinstance(answer, list) else name]
        except (KeyError, IndexError, ValueError, TypeError):
            raise StepFailed(
                f"the step's result {answer} has no value at the path {path}: correct the path in `save`"
            ) from None
    return answer


def _are_equal_numbers(expected: Any, actual: Any) -> bool:
    # A google.protobuf.Value stores each number as a double, so the actual number is 1.0 where the scenario expects 1.
    are_numbers = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in (expected, actual))
    return are_numbers and expected == actual
