"""Measures oxgrpc against genuine grpcio, in one run and in alternating rounds.

The server is pinned to one core and the client to another. `pair` has the same stack at both ends; `server` loads a
server with a fast client of our own engine; `client` loads tonic's server. What counts are the ratios: machines differ.

    bench.py [--rounds N] [--seconds S] [--only TEXT] [--loop asyncio|uvloop] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
TICKS = os.sysconf("SC_CLK_TCK")
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, CLIENT_CORE = CORES[0], CORES[-1]


@dataclass(frozen=True)
class Cell:
    """One thing to measure: who serves, who calls, and what."""

    name: str
    scenario: str
    contenders: tuple[str, ...] = ("oxgrpc", "grpcio")
    #: "same" stack, "load" (the fast client) or "tonic" (the client's peer).
    peer: str = "same"
    connections: int = 1


CELLS = [
    Cell("server unary c100", "unary.64.100", ("oxgrpc", "grpcio", "tonic"), peer="load"),
    Cell("server unary 100 connections", "unary.64.1", ("oxgrpc", "grpcio", "tonic"), "load", 100),
    Cell("client unary c1", "unary.64.1", peer="tonic"),
    Cell("client unary c100", "unary.64.100", peer="tonic"),
    Cell("pair unary c1", "unary.64.1"),
    Cell("pair unary c16", "unary.64.16"),
    Cell("pair unary c100", "unary.64.100"),
    Cell("pair server stream 64 B", "sstream.64.1"),
    Cell("pair client stream 64 B", "cstream.64.1"),
    Cell("pair bidi ping-pong", "bidi.64.1"),
    Cell("pair unary 1 MiB c1", "unary.1m.1"),
    Cell("pair unary 1 MiB c4", "unary.1m.4"),
    Cell("pair server stream 1 MiB", "sstream.1m.1"),
    Cell("pair client stream 1 MiB", "cstream.1m.1"),
]
ENGINES = "engine alone, unary c100, no socket and no Python"


def python(stack: str) -> str:
    venv = os.environ["OXGRPC_VENV"] if stack == "oxgrpc" else os.environ["GRPCIO_VENV"]
    return str(Path(venv) / "bin" / "python")


def pinned(core: int, *command: str) -> list[str]:
    return ["taskset", "-c", str(core), *command]


class Server:
    """A server process that waits for its clients."""

    def __init__(self, stack: str, loop: str) -> None:
        if stack == "tonic":
            command = pinned(SERVER_CORE, os.environ["RIVALS"] + "/tonic-server")
        else:
            command = pinned(SERVER_CORE, python(stack), str(HERE / "worker.py"), stack, loop, "server")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = self.process.stdout.readline().strip()

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass
class Sample:
    per_second: float
    p50_us: float
    p99_us: float
    client_cpu_us: float
    server_cpu_us: float


def measure(cell: Cell, contender: str, servers: dict[str, Server], seconds: float, loop: str) -> Sample:
    server = servers["tonic" if cell.peer == "tonic" else contender]
    if cell.peer == "load":
        _, size, concurrency = cell.scenario.split(".")
        command = [
            os.environ["RIVALS"] + "/load",
            f"127.0.0.1:{server.port}",
            str(cell.connections),
            concurrency,
            size,
            str(seconds),
        ]
    else:
        worker = str(HERE / "worker.py")
        command = [python(contender), worker, contender, loop, "client", server.port, cell.scenario, str(seconds)]
    client = subprocess.Popen(pinned(CLIENT_CORE, *command), stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    if client.stdout.readline().strip() != "begin":
        raise RuntimeError(f"{cell.name}: the client of {contender} failed")
    before = server.cpu_seconds()
    result = json.loads(client.stdout.readline())
    used = server.cpu_seconds() - before
    client.wait()
    count = result["count"]
    return Sample(
        per_second=count / result["seconds"],
        p50_us=result["p50_us"],
        p99_us=result["p99_us"],
        client_cpu_us=result["cpu_seconds"] / count * 1e6,
        server_cpu_us=used / count * 1e6,
    )


@dataclass
class Result:
    cell: Cell
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def median(self, contender: str, what: str) -> float:
        return statistics.median(getattr(sample, what) for sample in self.samples[contender])

    def ratio(self, what: str) -> float:
        """oxgrpc's median over grpcio's."""
        return self.median("oxgrpc", what) / self.median("grpcio", what)

    def lines(self) -> list[str]:
        lines = []
        for contender in self.cell.contenders:
            rates = sorted(sample.per_second for sample in self.samples[contender])
            ratio = self.median(contender, "per_second") / self.median("grpcio", "per_second")
            lines.append(
                f"  {contender:<8}{statistics.median(rates):>12,.0f}/s  [{rates[0]:,.0f} - {rates[-1]:,.0f}]"
                f"  {ratio:6.2f}x   p50 {self.median(contender, 'p50_us'):,.0f} us"
                f"  p99 {self.median(contender, 'p99_us'):,.0f} us"
                f"   CPU us: client {self.median(contender, 'client_cpu_us'):,.2f}"
                f", server {self.median(contender, 'server_cpu_us'):,.2f}"
            )
        return lines


def engines() -> list[dict[str, object]]:
    """What a call costs in the engine alone, ours and the `h2` crate's, without socket and Python."""
    command = pinned(CLIENT_CORE, os.environ["RIVALS"] + "/engines")
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = [line.split() for line in output.splitlines()]
    return [{"engine": row[0], "client_ns": int(row[2]), "server_ns": int(row[5])} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--loop", default="asyncio", choices=("asyncio", "uvloop"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    cells = [cell for cell in CELLS if re.search(options.only, cell.name)]
    stacks = {stack for cell in cells for stack in (*cell.contenders, *(["tonic"] if cell.peer == "tonic" else []))}
    servers = {stack: Server(stack, options.loop) for stack in sorted(stacks)}
    results = [Result(cell) for cell in cells]
    try:
        for round_number in range(options.rounds):
            for result in results:
                contenders = result.cell.contenders
                for contender in contenders if round_number % 2 == 0 else reversed(contenders):
                    sample = measure(result.cell, contender, servers, options.seconds, options.loop)
                    result.samples.setdefault(contender, []).append(sample)
            print(f"round {round_number + 1} of {options.rounds}", file=sys.stderr)
    finally:
        for server in servers.values():
            server.stop()

    engine_rows = engines() if re.search(options.only, ENGINES) else []

    print(f"medians of {options.rounds} alternating rounds of {options.seconds:g} s, loop {options.loop}")
    for result in results:
        print(result.cell.name)
        print("\n".join(result.lines()))
    if engine_rows:
        print(ENGINES)
    for row in engine_rows:
        print("  {engine:<12}ns a call: client {client_ns}, server {server_ns}".format_map(row))
    if options.json:
        cells_measured = [
            {
                "name": result.cell.name,
                "samples": {
                    contender: [vars(sample) for sample in samples] for contender, samples in result.samples.items()
                },
            }
            for result in results
        ]
        document = {"cells": cells_measured, "engines": engine_rows}
        options.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
