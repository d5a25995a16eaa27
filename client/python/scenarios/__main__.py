"""This module runs scenario files with the Python client.

The command line is `python client/python/scenarios [--server ADDRESS] [--participant NAME] FILES`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path

from matching import StepFailed
from runner import run_scenario


def main() -> int:
    """Runs the scenarios, prints one line for each scenario, and returns the exit code: 0 if all scenarios passed,
    otherwise 1."""
    parser = argparse.ArgumentParser(prog="scenarios", description="Runs scenarios with the Python client.")
    parser.add_argument(
        "--server", metavar="ADDRESS", help="the server; default: each scenario starts its own test server"
    )
    parser.add_argument("--participant", metavar="NAME", help="the only participant to run; default: all participants")
    parser.add_argument("files", nargs="+", type=Path, help="the scenario files")
    arguments = parser.parse_args()
    passed = [_run_and_print(file, arguments.server, arguments.participant) for file in arguments.files]
    return 0 if all(passed) else 1


def _run_and_print(file: Path, server: str | None, participant: str | None) -> bool:
    began = time.monotonic()
    outcome = "ok"
    try:
        asyncio.run(run_scenario(file, server, os.environ.get("RUNHUB_BIN", "runhub"), participant))
    except StepFailed as failure:
        outcome = "FAILED"
        print(f"{file.stem}: {failure}", file=sys.stderr)
    milliseconds = int((time.monotonic() - began) * 1000)
    print(file.stem, "python", outcome, milliseconds, sep="\t", flush=True)
    return outcome == "ok"


if __name__ == "__main__":
    sys.exit(main())
