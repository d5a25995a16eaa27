"""The server that a scenario is played against."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from asyncio.subprocess import PIPE, Process
from functools import cache
from pathlib import Path
from types import TracebackType

from matching import StepFailed

ROOT = Path(__file__).resolve().parents[3]


class Server:
    """A server that is running already."""

    def __init__(self, address: str, binary: str) -> None:
        self.address = address
        self.binary = binary
        # The server's own address, which bypasses the stage's proxy.
        self.direct = address

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    async def command(self, command: str) -> None:
        """Sends a command to the stage. Raises StepFailed, because this server has no stage."""
        raise StepFailed(f"the command {command} needs a stage, but --server names a server without one")

    async def cli(self, arguments: list[str]) -> None:
        """Runs the command line against the server. Raises StepFailed if the command fails."""
        process = await asyncio.create_subprocess_exec(
            self.binary, *arguments, "--server", self.direct, stdout=PIPE, stderr=PIPE
        )
        output, errors = await process.communicate()
        if process.returncode != 0:
            raise StepFailed(f"runhub {arguments}: {output.decode()}{errors.decode()}")


class Stage(Server):
    """A server that is started for one scenario and takes commands."""

    def __init__(self) -> None:
        super().__init__("", "")
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Stage:
        self._process = await asyncio.create_subprocess_exec(stage(), stdin=PIPE, stdout=PIPE)
        line = await self._line()
        words = line.split(" ")
        if len(words) != 4 or words[0] != "ready":
            raise StepFailed(f"the stage printed {line!r}, not `ready ADDRESS BINARY DIRECT`")
        _, self.address, self.binary, self.direct = words
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The stage exits when its input ends.
        _input(self._process).close()
        await self._process.wait()

    async def command(self, command: str) -> None:
        """Sends a command such as `kill` and waits until it is done. Raises StepFailed if the command fails."""
        async with self._lock:
            _input(self._process).write(f"{command}\n".encode())
            answer = await self._line()
        if answer != "ok":
            raise StepFailed(f"the stage answered {command} with: {answer}")

    async def _line(self) -> str:
        if self._process.stdout is None:
            raise StepFailed("the stage has no output")
        return (await self._process.stdout.readline()).decode().strip()


@cache
def stage() -> str:
    """Returns the path of the stage's executable. Builds it unless RUNHUB_STAGE names one."""
    if given := os.environ.get("RUNHUB_STAGE"):
        return given
    command = "cargo build --release --locked --bin runhub --example stage"
    subprocess.run(command.split(), cwd=ROOT, check=True)
    return str(ROOT / "target/release/examples/stage")


def can_have_stage() -> bool:
    """Returns whether RUNHUB_STAGE names a stage or cargo can build one."""
    return bool(os.environ.get("RUNHUB_STAGE")) or shutil.which("cargo") is not None


def _input(process: Process) -> asyncio.StreamWriter:
    if process.stdin is None:
        raise StepFailed("the stage has no input")
    return process.stdin
