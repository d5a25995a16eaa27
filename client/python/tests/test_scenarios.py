"""The scenarios that every client must pass."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
from play import play
from stage import ROOT, can_have_stage

# The first test may have to build the stage, and each step has a limit of its own.
pytestmark = [pytest.mark.timeout(0), pytest.mark.filterwarnings("default:!!!")]

SCENARIOS = sorted((ROOT / "client/scenarios").glob("*.json"))


def test_scenarios_are_found() -> None:
    assert SCENARIOS


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.stem)
async def test_scenario_passes(file: Path) -> None:
    needs_stage()
    await play(file)


def needs_stage() -> None:
    if can_have_stage():
        return
    text = "!!! THE SCENARIOS ARE SKIPPED, BECAUSE THERE IS NEITHER RUNHUB_STAGE NOR CARGO !!!"
    if os.environ.get("CI"):
        pytest.fail(text)
    warnings.warn(text, stacklevel=2)
    pytest.skip(text)
