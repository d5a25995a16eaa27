"""What a scenario's JSON says of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast


class Failed(Exception):
    """A scenario's step did not bring what it should."""


def filled(step: Any, variables: Mapping[str, Any]) -> Any:
    """The step with its variables replaced."""
    if isinstance(step, str) and step.startswith("$"):
        return variables[step[1:]]
    if isinstance(step, dict):
        return {key: filled(value, variables) for key, value in cast("dict[str, Any]", step).items()}
    if isinstance(step, list):
        return [filled(value, variables) for value in cast("list[Any]", step)]
    return step


def matches(wanted: Any, got: Any) -> bool:
    """Objects may have more than is wanted, lists not; null is what is absent."""
    if isinstance(wanted, dict):
        pairs = cast("dict[str, Any]", wanted).items()
        return isinstance(got, dict) and all(
            matches(value, cast("dict[str, Any]", got).get(key)) for key, value in pairs
        )
    if isinstance(wanted, list):
        entries, others = cast("list[Any]", wanted), cast("list[Any]", got)
        return isinstance(got, list) and len(entries) == len(others) and all(map(matches, entries, others))
    return (type(wanted) is type(got) and wanted == got) or _equal_numbers(wanted, got)


def expect(wanted: Any, got: Any) -> None:
    """Fails if they don't match."""
    if not matches(wanted, got):
        raise Failed(f"wanted {wanted}, got {got}")


def at(path: str, answer: Any) -> Any:
    """What stands at `claim.task.id` or `tasks.0.id`; `.` is all of it."""
    for name in path.split(".") if path != "." else ():
        try:
            answer = answer[int(name) if isinstance(answer, list) else name]
        except (KeyError, IndexError, ValueError, TypeError):
            raise Failed(f"{path} leads nowhere in {answer}") from None
    return answer


def _equal_numbers(wanted: Any, got: Any) -> bool:
    """The numbers of a Value are doubles."""
    numbers = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in (wanted, got))
    return numbers and wanted == got
