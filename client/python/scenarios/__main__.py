"""Plays scenarios: `python client/python/scenarios [--server ADDRESS] [--part NAME] FILES`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path

from matching import StepFailed
from play import play


def main() -> int:
    """Plays the scenarios, prints a line for each, and returns 0 if all of them passed."""
    parser = argparse.ArgumentParser(prog="scenarios", description="Plays scenarios with the Python client.")
    parser.add_argument("--server", metavar="ADDRESS", help="the server; default: each scenario starts its own stage")
    parser.add_argument("--part", metavar="NAME", help="the only part to play; default: all parts")
    parser.add_argument("files", nargs="+", type=Path, help="the scenario files")
    arguments = parser.parse_args()
    passed = [_passes(file, arguments.server, arguments.part) for file in arguments.files]
    return 0 if all(passed) else 1


def _passes(file: Path, server: str | None, part: str | None) -> bool:
    began = time.monotonic()
    outcome = "ok"
    try:
        asyncio.run(play(file, server, os.environ.get("RUNHUB_BIN", "runhub"), part))
    except StepFailed as failure:
        outcome = "FAILED"
        print(f"{file.stem}: {failure}", file=sys.stderr)
    milliseconds = int((time.monotonic() - began) * 1000)
    print(file.stem, "python", outcome, milliseconds, sep="\t", flush=True)
    return outcome == "ok"


if __name__ == "__main__":
    sys.exit(main())
