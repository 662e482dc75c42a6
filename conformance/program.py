"""Programs of other implementations, as child processes that leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


@contextlib.asynccontextmanager
async def started(
    command: list[str], environment: dict[str, str], output: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that ends, with all that it started, when the block does."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
