"""The suite itself: built from the Go module proxy, and run; and what its output says of each case.

Its protos are those of the same module: the programs under test need them as Python modules.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..program import ROOT, started
from ..stack import generate, program_environment

MODULE = "connectrpc.com/conformance"
VERSION = "v1.0.7"
WORK = ROOT / "build/connect"
LOGS = WORK / "logs"
RUN_SECONDS = 300.0
PASSED, FAILED, KNOWN = "passed", "failed", "known to fail"

_HERE = Path(__file__).parent
_PROTOS = [
    f"connectrpc/conformance/v1/{name}.proto" for name in ("config", "service", "client_compat", "server_compat")
]
_BUILD_SECONDS = 600
#: How Go tells that a proxy is not reached, as opposed to one that has no such module.
_UNREACHED = r"dial tcp|no such host|i/o timeout|connection reset|TLS handshake timeout|proxyconnect|GOPROXY=off"


class Unobtainable(Exception):
    """The suite cannot be built here, which says nothing about oxgrpc."""

    def __init__(self, text: str, proxy_is_unreachable: bool = False) -> None:
        super().__init__(text)
        self.proxy_is_unreachable = proxy_is_unreachable


@dataclass(frozen=True)
class Suite:
    program: Path
    environment: dict[str, str]

    async def run(self, mode: str, command: list[str], log: Path) -> dict[str, str]:
        """The outcome of each case. ``mode`` says what the command is: a client or a server.

        Raises:
          RuntimeError: the suite has not come to an end, or its output is not what was expected.
        """
        options = ["--mode", mode, "--conf", str(_HERE / "features.yaml"), "--vv"]
        if mode == "server":
            options += ["--known-failing", f"@{_HERE / 'known-failing.txt'}"]
        with open(log, "wb") as output:
            async with started(
                [str(self.program), *options, "--", *command], self.environment, output.fileno()
            ) as suite:
                try:
                    status = await asyncio.wait_for(suite.wait(), RUN_SECONDS)
                except asyncio.TimeoutError:
                    raise RuntimeError(f"the suite has not ended within {RUN_SECONDS:.0f} s") from None
        outcomes = read_outcomes(log.read_text(errors="replace"))
        if (status == 0) != (FAILED not in outcomes.values()):
            raise RuntimeError(f"the suite ended with exit status {status}")
        return outcomes


def read_outcomes(output: str) -> dict[str, str]:
    """The outcome of each case, out of what the suite prints with ``--vv``.

    Raises:
      RuntimeError: that disagrees with its own count.
    """
    outcomes = dict.fromkeys(re.findall(r'(?m)^Sending request for "(.*)"\.\.\.$', output), PASSED)
    outcomes |= dict.fromkeys(re.findall(r"(?m)^INFO: (.*) failed \(as expected\)", output), KNOWN)
    outcomes |= dict.fromkeys(re.findall(r"(?m)^FAILED: (.*?)(?::| was expected to fail.*)$", output), FAILED)
    counted = re.search(r"(?m)^Total cases: (\d+)\n(\d+) passed, (\d+) failed$", output)
    if lost := re.search(r"(?m)^Another \d+ could not be run.*$", output):
        raise RuntimeError(lost.group())
    if counted is None:
        raise RuntimeError("the suite has not counted its cases: its last words are " + output.strip()[-300:])
    words = Counter(outcomes.values())
    if tuple(map(int, counted.groups())) != (len(outcomes), words[PASSED], words[FAILED]):
        raise RuntimeError(f"{counted.group()!r} is not what the cases say: {dict(words)}")
    return outcomes


def obtain(compiler: Path) -> Suite:
    """Builds the suite, unless it is there. ``compiler`` is a Python with grpcio-tools.

    Raises:
      Unobtainable: there is no Go, or what it needs cannot be downloaded.
    """
    made = WORK / VERSION
    program, generated = made / "connectconformance", made / "generated"
    if not program.is_file():
        if shutil.which("go") is None:
            raise Unobtainable("it is built with Go (1.21 or later), which is not on this machine")
        made.mkdir(parents=True, exist_ok=True)
        module = json.loads(_go("mod", "download", "-json", f"{MODULE}@{VERSION}"))
        generate(compiler, Path(module["Dir"]) / "proto", _PROTOS, generated)
        _go("install", f"{MODULE}/cmd/connectconformance@{VERSION}", GOBIN=str(made))
    return Suite(program, program_environment(generated))


def _go(*arguments: str, **places: str) -> str:
    command = ["go", *arguments]
    environment = {**os.environ, **places}
    try:
        done = subprocess.run(
            command, cwd=WORK, env=environment, capture_output=True, text=True, timeout=_BUILD_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise Unobtainable(f"{' '.join(command)} has not ended within {_BUILD_SECONDS} s") from None
    if done.returncode:
        said = f"{done.stdout}\n{done.stderr}".strip()
        text = f"{' '.join(command)}: {said[-600:]}"
        raise Unobtainable(text, proxy_is_unreachable=re.search(_UNREACHED, said) is not None)
    return done.stdout
