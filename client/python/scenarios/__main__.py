"""Plays scenarios: `python client/python/scenarios [--server ADDRESS] [--part NAME] FILES`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path

from matching import Failed
from play import play


def main() -> int:
    """Prints a line for each scenario; 0 if all were passed."""
    parser = argparse.ArgumentParser(prog="scenarios", description="Plays scenarios by the Python client.")
    parser.add_argument("--server", metavar="ADDRESS", help="play against this one; else each has a stage of its own")
    parser.add_argument("--part", metavar="NAME", help="play only this part")
    parser.add_argument("files", nargs="+", type=Path)
    arguments = parser.parse_args()
    passed = [_passes(file, arguments.server, arguments.part) for file in arguments.files]
    return 0 if all(passed) else 1


def _passes(file: Path, server: str | None, part: str | None) -> bool:
    began, outcome = time.monotonic(), "ok"
    try:
        asyncio.run(play(file, server, os.environ.get("RUNHUB_BIN", "runhub"), part))
    except Failed as failed:
        outcome = "FAILED"
        print(f"{file.stem}: {failed}", file=sys.stderr)
    milliseconds = int((time.monotonic() - began) * 1000)
    print(file.stem, "python", outcome, milliseconds, sep="\t", flush=True)
    return outcome == "ok"


if __name__ == "__main__":
    sys.exit(main())
