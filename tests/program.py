"""Python programs in processes of their own: for what must not happen in the tests' process, or be seen in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

TESTS = Path(__file__).parent

#: Seconds after which a program is given up.
TIMEOUT_SECONDS = 60.0


def command(*arguments: str) -> list[str]:
    """Runs this interpreter, with every warning shown."""
    return [sys.executable, "-W", "default", *arguments]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, with the modules of the tests and the generated code importable."""
    path = os.pathsep.join([str(TESTS), str(TESTS / "generated")])
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(more or {})}


def run(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end."""
    return subprocess.run(
        command(*arguments), env=environment(env), capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    )


def output_of(code: str, env: Mapping[str, str] | None = None) -> str:
    """What a program prints. It must succeed and write nothing to its standard error."""
    done = run("-c", code, env=env)
    assert (done.returncode, done.stderr) == (0, ""), f"exit code {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def started(code: str) -> Iterator[subprocess.Popen[str]]:
    """A program that runs meanwhile; it is ended with the block."""
    with subprocess.Popen(
        command("-c", code), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()
