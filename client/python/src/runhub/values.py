"""Any JSON, as the API carries it: google.protobuf.Value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Value

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None


def value(json: Json) -> Value:
    """A Value of any JSON: `value({"lines": 120})`. Its numbers are doubles; the server refuses NaN and infinities."""
    return json_format.ParseDict(json, Value())  # type: ignore[arg-type] # its type says dict, it takes any JSON


def to_json(value: Value) -> Any:
    """The JSON of a Value. Its numbers are floats; an unset Value is None."""
    return json_format.MessageToDict(value)
