"""This module starts and controls the server against which a scenario runs."""

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
    """Represents a server that is already running, without a test server."""

    def __init__(self, address: str, binary: str) -> None:
        self.address = address
        self.binary = binary
        # The server's own address. If a test server controls the server, this address bypasses the test server's proxy.
        self.direct = address

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    async def send_command(self, command: str) -> None:
        """Raises StepFailed, because only a test server can execute a command such as `kill`."""
        raise StepFailed(f"the command {command} needs the program `test_server`: run the scenario without --server")

    async def run_cli(self, arguments: list[str]) -> None:
        """Runs `runhub` with `arguments` against the server. Raises StepFailed if the exit code is not 0."""
        process = await asyncio.create_subprocess_exec(
            self.binary, *arguments, "--server", self.direct, stdout=PIPE, stderr=PIPE
        )
        output, errors = await process.communicate()
        if process.returncode != 0:
            text = f"{output.decode()}{errors.decode()}"
            raise StepFailed(f"`runhub {' '.join(arguments)}` failed with the exit code {process.returncode}: {text}")


class TestServer(Server):
    """Runs a server behind a proxy for one scenario. The test server executes commands such as `kill`."""

    # Without this attribute, pytest collects the class as a test, because the name of the class starts with `Test`.
    __test__ = False

    def __init__(self) -> None:
        super().__init__("", "")
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> TestServer:
        self._process = await asyncio.create_subprocess_exec(find_or_build_test_server(), stdin=PIPE, stdout=PIPE)
        line = await self._read_line()
        words = line.split(" ")
        if len(words) != 4 or words[0] != "ready":
            raise StepFailed(
                f"the program `test_server` must print `ready ADDRESS BINARY DIRECT`, but printed {line!r}: "
                "read the standard error of `test_server`"
            )
        _, self.address, self.binary, self.direct = words
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # If the standard input of the program `test_server` is closed, `test_server` kills the Runhub server and exits.
        _get_standard_input(self._process).close()
        await self._process.wait()

    async def send_command(self, command: str) -> None:
        """Sends a command such as `kill` and waits until the test server has executed the command.

        Raises StepFailed if the test server reports an error or has exited.
        """
        async with self._lock:
            _get_standard_input(self._process).write(f"{command}\n".encode())
            answer = await self._read_line()
        if answer != "ok":
            raise StepFailed(
                f"`test_server` did not execute the command {command} ({answer or 'the program has exited'}): "
                "read the standard error of `test_server`"
            )

    async def _read_line(self) -> str:
        if self._process.stdout is None:
            raise StepFailed("`test_server` was started without a pipe for its standard output: report the bug")
        return (await self._process.stdout.readline()).decode().strip()


@cache
def find_or_build_test_server() -> str:
    """Returns the path of the test server's executable.

    If the environment variable RUNHUB_TEST_SERVER contains a path, returns that path. Otherwise builds the executable
    and returns the path of the built file. Raises CalledProcessError if the build fails.
    """
    if executable := os.environ.get("RUNHUB_TEST_SERVER"):
        return executable
    command = "cargo build --release --locked --bin runhub --example test_server"
    subprocess.run(command.split(), cwd=ROOT, check=True)
    return str(ROOT / "target/release/examples/test_server")


def is_test_server_available() -> bool:
    """Returns whether RUNHUB_TEST_SERVER is set or cargo is installed. Otherwise no test server can be started."""
    return bool(os.environ.get("RUNHUB_TEST_SERVER")) or shutil.which("cargo") is not None


def _get_standard_input(process: Process) -> asyncio.StreamWriter:
    if process.stdin is None:
        raise StepFailed("`test_server` was started without a pipe for its standard input: report the bug")
    return process.stdin
