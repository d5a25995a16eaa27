"""This module tests the runner of the scenarios."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
import runner
from fake import FakeServer, never_respond, refuse
from matching import StepFailed
from test_server import TestServer

GET = {"call": "RunService/GetRun"}


async def run_steps(fake: FakeServer, folder: Path, *steps: dict[str, Any]) -> None:
    file = folder / "one.json"
    file.write_text(json.dumps({"about": "one", "participants": {"main": steps}}))
    await runner.run_scenario(file, fake.address)


async def test_unknown_member_or_verb_fails_the_step(fake: FakeServer, tmp_path: Path) -> None:
    fake.set_handlers("GetRun", refuse(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"))
    step = GET | {"refused": {"reason": "RUN_NOT_FOUND"}}
    await run_steps(fake, tmp_path, step | {"why": "the run does not exist"})
    with pytest.raises(StepFailed, match="verb call must not have the members casue, expct"):
        await run_steps(fake, tmp_path, step | {"expct": {}, "casue": "typo"})
    with pytest.raises(StepFailed, match="the step has no verb, only the members clal: use one of the verbs call, "):
        await run_steps(fake, tmp_path, {"clal": "RunService/GetRun"})


@pytest.mark.parametrize("expected", [{"refused": {"reason": "RUN_NOT_FOUND"}}, {"answer": "it", "refused": {}}])
async def test_step_that_expects_an_error_has_a_short_limit(
    fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, Any]
) -> None:
    monkeypatch.setattr(runner, "_SHORT_STEP_LIMIT", 0.3)
    fake.set_handlers("GetRun", never_respond())
    steps = [GET | {"as": "it"}, expected] if "answer" in expected else [GET | expected]
    with pytest.raises(StepFailed, match="TimeoutError"):
        await run_steps(fake, tmp_path, *steps)


async def test_cli_bypasses_the_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    executable = tmp_path / "test_server"
    executable.write_text("#!/bin/sh\necho ready 127.0.0.1:1 /bin/sh 127.0.0.1:2\ncat >/dev/null\n")
    executable.chmod(0o755)
    monkeypatch.setattr("test_server.find_or_build_test_server", lambda: str(executable))
    async with TestServer() as server:
        assert (server.address, server.binary) == ("127.0.0.1:1", "/bin/sh")
        await server.run_cli(["-c", 'test "$1" = 127.0.0.1:2'])
