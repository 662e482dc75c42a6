"""Runs a file of tests in processes of its own, under limits: a crash or a hang costs one test, and it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

TEST_SECONDS = 60.0
FILE_SECONDS = 180.0
EXIT_SECONDS = 15.0
#: How many processes a file may cost.
PROCESSES = 6

_CHILD = Path(__file__).with_name("child.py").resolve()


@dataclass
class Outcome:
    """What became of a test: passed, failed, skipped, crashed or hung; and what was said."""

    word: str
    message: str = ""


@dataclass
class Ran:
    """What became of a file."""

    tests: dict[str, Outcome] = field(default_factory=dict)
    #: What kept tests from being run at all.
    broken: str = ""


@dataclass(frozen=True)
class Runner:
    """Where and with what the tests run."""

    python: Path
    tree: Path
    logs: Path
    environment: dict[str, str]

    async def run(self, file: str) -> Ran:
        module = file.removesuffix(".py").replace("/", ".")
        ran = Ran()
        deadline = asyncio.get_running_loop().time() + FILE_SECONDS
        with open(self.logs / f"{module}.log", "wb") as log:
            for _ in range(PROCESSES):
                if await self._process(module, ran, deadline, log):
                    break
        return ran

    async def _process(self, module: str, ran: Ran, deadline: float, log: BinaryIO) -> bool:
        """Runs what has not run; whether nothing is left to run."""
        reading, writing = os.pipe()
        command = [str(_CHILD), module, str(writing), *ran.tests]
        process = await asyncio.create_subprocess_exec(
            str(self.python),
            *command,
            cwd=self.tree,
            env=self.environment,
            pass_fds=(writing,),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        os.close(writing)
        lines = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(lines)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(reading, "rb"))
        under_way, done, word = "", False, "crashed"
        try:
            while not done and (
                line := await asyncio.wait_for(lines.readline(), min(TEST_SECONDS, deadline - loop.time()))
            ):
                event = json.loads(line)
                if event["event"] == "started":
                    under_way = event["test"]
                elif event["event"] == "ended":
                    ran.tests[under_way] = Outcome(event["outcome"], event["message"])
                    under_way = ""
                elif event["event"] == "broken":
                    ran.broken = ran.broken or event["message"]
                else:
                    done = True
            await asyncio.wait_for(process.wait(), EXIT_SECONDS)
        except asyncio.TimeoutError:
            word = "hung"
            if not done and process.returncode is None:
                # Where it hangs is for the log.
                process.send_signal(signal.SIGUSR1)
                await asyncio.sleep(0.5)
        finally:
            _kill_group(process.pid)
            await process.wait()
            transport.close()
        if done:
            return True
        if not under_way:
            ran.broken = ran.broken or f"{word} outside a test"
            return True
        ran.tests[under_way] = Outcome(word, f"exit status {process.returncode}" if word == "crashed" else "")
        return loop.time() > deadline


def _kill_group(leader: int) -> None:
    """What tests started and left behind ends with them."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
