"""This module converts between JSON and google.protobuf.Value, which is the API's type for any JSON value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Value

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None


def value(json: Json) -> Value:
    """Converts JSON to a Value, for example `value({"lines": 120})`.

    A Value stores each number as a double. The server refuses NaN and infinities.
    """
    return json_format.ParseDict(json, Value())  # type: ignore[arg-type] # typed as dict, but accepts any JSON


def to_json(value: Value) -> Any:
    """Converts a Value to JSON. Each number becomes a float. An unset Value becomes None."""
    return json_format.MessageToDict(value)
