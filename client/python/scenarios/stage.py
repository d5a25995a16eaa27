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

from matching import Failed

ROOT = Path(__file__).resolve().parents[3]


class Server:
    """One that runs already."""

    def __init__(self, address: str, binary: str) -> None:
        self.address = address
        self.binary = binary
        # Past the stage's proxy, if there is one.
        self.direct = address

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    async def tell(self, what: str) -> None:
        """Has it killed, started, and so on."""
        raise Failed(f"this server can't be told to {what}: it takes a stage")

    async def cli(self, arguments: list[str]) -> None:
        """Runs the command line against it."""
        command = await asyncio.create_subprocess_exec(
            self.binary, *arguments, "--server", self.direct, stdout=PIPE, stderr=PIPE
        )
        output, errors = await command.communicate()
        if command.returncode != 0:
            raise Failed(f"runhub {arguments}: {output.decode()}{errors.decode()}")


class Stage(Server):
    """A server of its own, that does what it is told."""

    def __init__(self) -> None:
        super().__init__("", "")
        self._telling = asyncio.Lock()

    async def __aenter__(self) -> Stage:
        self._process = await asyncio.create_subprocess_exec(stage(), stdin=PIPE, stdout=PIPE)
        line = await self._line()
        words = line.split(" ")
        if len(words) != 4 or words[0] != "ready":
            raise Failed(f"the stage said {line!r}")
        _, self.address, self.binary, self.direct = words
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # When its input ends, it ends.
        _input(self._process).close()
        await self._process.wait()

    async def tell(self, what: str) -> None:
        """Has it killed, started, and so on; returns when that is done."""
        async with self._telling:
            _input(self._process).write(f"{what}\n".encode())
            answer = await self._line()
        if answer != "ok":
            raise Failed(f"the stage, told to {what}: {answer}")

    async def _line(self) -> str:
        if self._process.stdout is None:
            raise Failed("the stage has no output")
        return (await self._process.stdout.readline()).decode().strip()


@cache
def stage() -> str:
    """The file of the stage, built if it is not given."""
    if given := os.environ.get("RUNHUB_STAGE"):
        return given
    command = "cargo build --release --locked --bin runhub --example stage"
    subprocess.run(command.split(), cwd=ROOT, check=True)
    return str(ROOT / "target/release/examples/stage")


def can_have_stage() -> bool:
    """Whether there is one, or what builds it."""
    return bool(os.environ.get("RUNHUB_STAGE")) or shutil.which("cargo") is not None


def _input(process: Process) -> asyncio.StreamWriter:
    if process.stdin is None:
        raise Failed("the stage has no input")
    return process.stdin
