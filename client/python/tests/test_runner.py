"""The runner of the scenarios."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import play
import pytest
from fake import FakeServer, hang, refuse
from matching import Failed
from stage import Stage

GET = {"call": "RunService/GetRun"}


async def played(fake: FakeServer, folder: Path, *steps: dict[str, Any]) -> None:
    file = folder / "one.json"
    file.write_text(json.dumps({"about": "one", "parts": {"main": steps}}))
    await play.play(file, fake.address)


async def test_what_no_runner_looks_at_is_a_failure(fake: FakeServer, tmp_path: Path) -> None:
    fake.answers("GetRun", refuse(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"))
    refused = GET | {"refused": {"reason": "RUN_NOT_FOUND"}}
    await played(fake, tmp_path, refused | {"why": "it is gone"})
    with pytest.raises(Failed, match="a step with call takes no becuase, expct"):
        await played(fake, tmp_path, refused | {"expct": {}, "becuase": "typo"})
    with pytest.raises(Failed, match="a step with a verb takes no clal"):
        await played(fake, tmp_path, {"clal": "RunService/GetRun"})


@pytest.mark.parametrize("wanted", [{"refused": {"reason": "RUN_NOT_FOUND"}}, {"answer": "it", "refused": {}}])
async def test_a_refusal_comes_soon(
    fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: dict[str, Any]
) -> None:
    monkeypatch.setattr(play, "_SOON", 0.3)
    fake.answers("GetRun", hang())
    steps = [GET | {"as": "it"}, wanted] if "answer" in wanted else [GET | wanted]
    with pytest.raises(Failed, match="TimeoutError"):
        await played(fake, tmp_path, *steps)


async def test_the_command_line_goes_past_the_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = tmp_path / "stage"
    said.write_text("#!/bin/sh\necho ready 127.0.0.1:1 /bin/sh 127.0.0.1:2\ncat >/dev/null\n")
    said.chmod(0o755)
    monkeypatch.setattr("stage.stage", lambda: str(said))
    async with Stage() as stage:
        assert (stage.address, stage.binary) == ("127.0.0.1:1", "/bin/sh")
        await stage.cli(["-c", 'test "$1" = 127.0.0.1:2'])
