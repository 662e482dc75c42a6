"""Runs grpc's interop cases between oxgrpc and the other implementations, and writes a table of what passed.

    python -m conformance.interop --compiler PYTHON [--only PEER,...] [--security plain,tls] [--ours oxgrpc|grpcio]

The exit status is 1 if a case failed. Rows whose implementation cannot run on this machine are left out and named. With
``--ours grpcio`` the genuine one is in oxgrpc's place, which tells a failure of ours from one of the programs; the
table is not written then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ..program import ROOT, started
from ..stack import STACKS, generate, program_environment
from . import certificates
from .certificates import Certificates
from .peers import HERE, WORK, Peer, Python, peers
from .ports import listening

TABLE = ROOT / "conformance/interop.json"
LOGS = WORK / "logs"
CASES = (
    *("empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream"),
    *("cancel_after_begin", "cancel_after_first_response", "timeout_on_sleeping_server"),
    *("status_code_and_message", "special_status_message", "unimplemented_method", "unimplemented_service"),
    "custom_metadata",
)
START_SECONDS = 60.0
CASE_SECONDS = 20.0
ROWS_AT_ONCE = 2
PASSED = "passed"


@dataclass(frozen=True)
class Row:
    """A client, a server and how they are connected."""

    client: Peer
    server: Peer
    tls: Certificates | None

    @property
    def security(self) -> str:
        return "tls" if self.tls else "plain"

    async def run(self, environment: dict[str, str]) -> dict[str, str]:
        """Runs all cases against one server; what became of each."""
        log = LOGS / f"{self.client.name}-{self.server.name}-{self.security}.log"
        outcomes = {}
        with open(log, "wb") as output:
            async with started(self.server.server(self.tls), environment, output.fileno()) as server:
                port = await _port(server)
                for case in CASES:
                    command = self.client.client(port, case, self.tls)
                    outcomes[case] = await _outcome(command, environment) if port else "no server"
        return outcomes


async def _port(server: asyncio.subprocess.Process) -> int:
    """The server's port; 0 if it has none in time."""
    for _ in range(int(START_SECONDS * 20)):
        if server.returncode is not None:
            break
        if port := listening(server.pid):
            return port
        await asyncio.sleep(0.05)
    return 0


async def _outcome(command: list[str], environment: dict[str, str]) -> str:
    async with started(command, environment, subprocess.PIPE) as client:
        try:
            said, _ = await asyncio.wait_for(client.communicate(), CASE_SECONDS)
        except asyncio.TimeoutError:
            return f"hung for {CASE_SECONDS:.0f} s"
    if client.returncode == 0:
        return PASSED
    return f"exit status {client.returncode}: {said.decode(errors='replace').strip()[-300:]}"


async def run(rows: list[Row], environment: dict[str, str]) -> list[dict[str, str]]:
    """Runs rows, two at a time, and prints a line for each."""
    turns = asyncio.Semaphore(ROWS_AT_ONCE)

    async def one(row: Row) -> dict[str, str]:
        async with turns:
            outcomes = await row.run(environment)
        passed = sum(outcome == PASSED for outcome in outcomes.values())
        print(f"{row.client.name:>9} -> {row.server.name:9} {row.security:5} {passed:3} of {len(CASES)}", flush=True)
        for case, outcome in outcomes.items():
            if outcome != PASSED:
                print(f"    {case}: {outcome}", flush=True)
        return outcomes

    return await asyncio.gather(*map(one, rows))


def main() -> int:
    parser = argparse.ArgumentParser(prog="conformance.interop", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--compiler", type=Path, required=True, help="a Python with grpcio and grpcio-tools")
    parser.add_argument("--only", default="", help="names of peers")
    parser.add_argument("--security", default="plain,tls")
    parser.add_argument("--ours", choices=STACKS, default="oxgrpc")
    options = parser.parse_args()

    LOGS.mkdir(parents=True, exist_ok=True)
    programs = program_environment(generate(options.compiler.absolute(), HERE, ["test.proto"], WORK / "generated"))
    secured: dict[str, Certificates | None] = {}
    if "plain" in options.security:
        secured["plain"] = None
    if "tls" in options.security and shutil.which("openssl"):
        secured["tls"] = certificates.make(WORK / "certificates")
    elif "tls" in options.security:
        print("*** THE ROWS WITH TLS ARE LEFT OUT: no openssl on this machine")

    ours = Python(options.ours, Path(sys.executable) if options.ours == "oxgrpc" else options.compiler)
    asked = [peer for peer in peers(options.compiler) if not options.only or peer.name in options.only.split(",")]
    here = []
    for peer in asked:
        if missing := peer.missing():
            print(f"*** THE ROWS OF {peer.name.upper()} ARE LEFT OUT: no {' and no '.join(missing)} on this machine")
        else:
            print(f"{peer.name} {peer.version}", flush=True)
            peer.build()
            here.append(peer)

    rows = [
        Row(client, server, tls)
        for peer in here
        for client, server in ((ours, peer), (peer, ours))
        for tls in secured.values()
    ]
    results = asyncio.run(run(rows, programs))
    failed = sum(outcome != PASSED for outcomes in results for outcome in outcomes.values())
    print(f"{len(rows) * len(CASES) - failed} of {len(rows) * len(CASES)} passed; logs: {LOGS.relative_to(ROOT)}")
    if options.ours == "oxgrpc" and not options.only:
        table = {
            f"{row.client.name} -> {row.server.name}, {row.security}": outcomes
            for row, outcomes in zip(rows, results, strict=True)
        }
        content = {"versions": {peer.name: peer.version for peer in here}, "rows": table}
        TABLE.write_text(json.dumps(content, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
