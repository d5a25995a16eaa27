"""This module runs the scenarios that every client must pass."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
from runner import run_scenario
from test_server import ROOT, is_test_server_available

# Disable pytest's time limit, because the first test may have to build the test server. Each step has its own time
# limit.
pytestmark = [pytest.mark.timeout(0), pytest.mark.filterwarnings("default:!!!")]

SCENARIOS = sorted((ROOT / "client/scenarios").glob("*.json"))


def test_scenarios_are_found() -> None:
    assert SCENARIOS


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.stem)
async def test_scenario_passes(file: Path) -> None:
    require_test_server()
    await run_scenario(file)


def require_test_server() -> None:
    if is_test_server_available():
        return
    text = "!!! THE SCENARIOS ARE SKIPPED, BECAUSE THERE IS NEITHER RUNHUB_TEST_SERVER NOR CARGO !!!"
    if os.environ.get("CI"):
        pytest.fail(text)
    warnings.warn(text, stacklevel=2)
    pytest.skip(text)
