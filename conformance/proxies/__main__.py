"""Runs calls of all kinds through nghttpx, haproxy and nginx, with oxgrpc at both ends or grpcio at one of them.

    python -m conformance.proxies --grpcio PYTHON [--only NAME,...] [--ours oxgrpc|grpcio] [--quick]

Every call of every burst has to succeed, from one call to a hundred at once and from no octets to 4 MiB. While the
proxy is reloaded and after it was killed no call may hang or end in another way than OK or UNAVAILABLE, and no handler
may be left over. The exit status is 1 if that is not so, or if a proxy is missing. With ``--ours grpcio`` the genuine
one is at both ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..program import ROOT
from ..stack import STACKS
from .proxy import PROXIES, Instance, Proxy, version

WORK = ROOT / "build/proxies"
ANSWER_SECONDS = 120.0

KINDS = ("upload", "download", "upload-stream", "download-stream", "mirror")
COUNTS = (1, 4, 16, 64, 100)
SIZES = (0, 1, 65_530, 256 << 10, 1 << 20, 4000 << 10, 4 << 20)
#: What a burst may amount to; a stream has three messages.
BURST_BYTES = 420 << 20
#: The bursts of --quick, which have been deadlocks.
QUICK = {(64, 1 << 20), (100, 4000 << 10), (4, 4 << 20)}


@dataclass(frozen=True)
class Pair:
    """Who calls whom."""

    client: str
    server: str


class Program:
    """A client or a server in a process of its own, spoken to by lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> bytes:
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), ANSWER_SECONDS)
        if not line:
            raise RuntimeError("a program has ended: see what it said above")
        return line

    async def ask(self, command: str) -> dict[str, int]:
        assert self.process.stdin is not None
        self.process.stdin.write(command.encode() + b"\n")
        answer: dict[str, int] = json.loads(await self.line())
        return answer

    def peak_mib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) >> 10


@asynccontextmanager
async def program(python: Path, module: str, *arguments: str) -> AsyncIterator[Program]:
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    command = [str(python), "-m", f"conformance.proxies.{module}", *arguments]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=kept, **pipes)
    try:
        yield Program(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 10.0)
        except asyncio.TimeoutError:
            process.kill()
            await process.wait()


def bursts(proxy: str, is_quick: bool) -> list[tuple[str, int, int]]:
    """The bursts that must succeed: kind, count and size.

    haproxy 2.6 is stuck when both directions of a connection are full at once, as it handles no WINDOW_UPDATE behind
    data that it cannot pass on. Only windows of many MiB on every stream avoid that: it is spared the largest mirrors.
    """
    found = []
    for kind in KINDS:
        messages = 1 if kind in ("upload", "download") else 3
        for count in COUNTS:
            for size in SIZES:
                fits = count * size * messages <= BURST_BYTES
                if proxy == "haproxy" and kind == "mirror" and count > 16 and size > 65_530:
                    continue
                if fits and (not is_quick or (count, size) in QUICK):
                    found.append((kind, count, size))
    return found


class Run:
    """A proxy between two stacks."""

    def __init__(self, proxy: Proxy, pair: Pair, pythons: dict[str, Path], is_quick: bool) -> None:
        self.proxy, self.pair, self.pythons, self.is_quick = proxy, pair, pythons, is_quick
        self.failures: list[str] = []

    async def carry_out(self) -> list[str]:
        name = f"{self.pair.client} -> {self.proxy.name} -> {self.pair.server}"
        begun = time.monotonic()
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(
                program(self.pythons[self.pair.server], "service", self.pair.server)
            )
            instance = Instance(self.proxy, int(await server.line()), WORK / name.replace(" -> ", "-"))
            first = await stack.enter_async_context(AsyncExitStack())
            process = await first.enter_async_context(instance.running())
            client = await stack.enter_async_context(
                program(self.pythons[self.pair.client], "load", self.pair.client, str(instance.port))
            )
            done = await self._bursts(client)
            peaks = f"client {client.peak_mib()} MiB, server {server.peak_mib()} MiB"

            await client.ask("begin")
            process.send_signal(self.proxy.reload)
            self._judge("reload", await client.ask("end"))

            await client.ask("begin")
            await first.aclose()
            await stack.enter_async_context(instance.running())
            self._judge("kill", await client.ask("end"))
        passed = "passed" if not self.failures else f"{len(self.failures)} FAILED"
        print(
            f"{name:34} {done} bursts, reload, kill: {passed} in {time.monotonic() - begun:.0f} s; {peaks}", flush=True
        )
        for failure in self.failures:
            print(f"    {failure}", flush=True)
        return self.failures

    async def _bursts(self, client: Program) -> int:
        wanted = bursts(self.proxy.name, self.is_quick)
        for kind, count, size in wanted:
            outcomes = await client.ask(f"burst {kind} {count} {size}")
            if outcomes != {"OK": count}:
                self.failures.append(f"{count} x {kind} of {size} octets: {outcomes}")
        return len(wanted)

    def _judge(self, event: str, outcomes: dict[str, int]) -> None:
        if set(outcomes) - {"OK", "UNAVAILABLE"}:
            self.failures.append(f"{event}: {outcomes}")


async def run(proxies: list[Proxy], pairs: list[Pair], pythons: dict[str, Path], is_quick: bool) -> int:
    failures = [await Run(proxy, pair, pythons, is_quick).carry_out() for proxy in proxies for pair in pairs]
    return sum(map(len, failures))


def main() -> int:
    parser = argparse.ArgumentParser(prog="conformance.proxies", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--grpcio", type=Path, required=True, help="a Python with genuine grpcio")
    parser.add_argument("--only", default="", help="names of proxies")
    parser.add_argument("--ours", choices=STACKS, default="oxgrpc")
    parser.add_argument("--quick", action="store_true", help="only the bursts that used to be deadlocks")
    options = parser.parse_args()

    names = [name for name in options.only.split(",") if name]
    proxies = [proxy for proxy in PROXIES if not names or proxy.name in names]
    for proxy in proxies:
        if proxy.program is None:
            print(f"{proxy.name} is not installed", file=sys.stderr)
            return 1
        print(version(proxy))
    pythons = {"oxgrpc": Path(sys.executable), "grpcio": options.grpcio.absolute()}
    ends = dict.fromkeys([(options.ours, options.ours), (options.ours, "grpcio"), ("grpcio", options.ours)])
    pairs = [Pair(*end) for end in ends]
    return int(asyncio.run(run(proxies, pairs, pythons, options.quick)) > 0)


if __name__ == "__main__":
    sys.exit(main())
