"""The scenarios that hold all clients to the same."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
from play import play
from stage import ROOT, can_have_stage

# Without a stage it is built first; and each step has its own time.
pytestmark = [pytest.mark.timeout(0), pytest.mark.filterwarnings("default:!!!")]

SCENARIOS = sorted((ROOT / "client/scenarios").glob("*.json"))


def test_there_are_scenarios() -> None:
    assert SCENARIOS


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.stem)
async def test_scenario(file: Path) -> None:
    needs_stage()
    await play(file)


def needs_stage() -> None:
    if can_have_stage():
        return
    text = "!!! NEITHER RUNHUB_STAGE NOR CARGO: THE SCENARIOS ARE LEFT OUT !!!"
    if os.environ.get("CI"):
        pytest.fail(text)
    warnings.warn(text, stacklevel=2)
    pytest.skip(text)
