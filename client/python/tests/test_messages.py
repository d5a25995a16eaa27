"""This module tests the exports of `runhub.v1`, and the conversion between JSON and google.protobuf.Value."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest
from test_server import ROOT

import runhub
from runhub import v1


def test_v1_has_every_message_and_enum() -> None:
    modules = {name for _, name, _ in pkgutil.iter_modules(v1.__path__) if name.endswith("_pb2")}
    assert modules == {f"{file.stem}_pb2" for file in (ROOT / "proto/runhub/v1").glob("*.proto")}
    for name in modules:
        file: Any = importlib.import_module(f"runhub.v1.{name}").DESCRIPTOR
        for kind in (*file.message_types_by_name, *file.enum_types_by_name):
            assert hasattr(v1, kind), kind


@pytest.mark.parametrize("json", [None, True, 1.5, "text", [1, None, {"a": []}], {"lines": 120, "files": ["a", None]}])
def test_json_survives_conversion_to_value_and_back(json: runhub.Json) -> None:
    assert runhub.to_json(runhub.value(json)) == json
