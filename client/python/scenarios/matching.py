"""Variables of a scenario, and the comparison of expected and actual JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast


class StepFailed(Exception):
    """A step of a scenario failed. The message says what was expected and what happened."""


def substitute(step: Any, variables: Mapping[str, Any]) -> Any:
    """Returns the step with its variables replaced. Raises KeyError if a variable is not set."""
    if isinstance(step, str) and step.startswith("$"):
        return variables[step[1:]]
    if isinstance(step, dict):
        return {key: substitute(value, variables) for key, value in cast("dict[str, Any]", step).items()}
    if isinstance(step, list):
        return [substitute(value, variables) for value in cast("list[Any]", step)]
    return step


def matches(expected: Any, actual: Any) -> bool:
    """Returns whether the JSON is as expected. An object may have further members, a list may not have further entries;
    an expected null means absent."""
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


def check(expected: Any, actual: Any) -> None:
    """Raises StepFailed if the JSON is not as expected."""
    if not matches(expected, actual):
        raise StepFailed(f"expected {expected}, got {actual}")


def value_at(path: str, answer: Any) -> Any:
    """Returns the value at a path such as `claim.task.id` or `tasks.0.id`; `.` is the whole answer.

    Raises StepFailed if there is no such value.
    """
    for name in path.split(".") if path != "." else ():
        try:
            answer = answer[int(name) if isinstance(answer, list) else name]
        except (KeyError, IndexError, ValueError, TypeError):
            raise StepFailed(f"there is no value at {path} in {answer}") from None
    return answer


def _are_equal_numbers(expected: Any, actual: Any) -> bool:
    # A Value stores numbers as doubles, so 1 becomes 1.0.
    are_numbers = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in (expected, actual))
    return are_numbers and expected == actual
