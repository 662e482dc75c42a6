"""Runs the connectrpc conformance suite on a client and a server of ours, over gRPC on HTTP/2 with and without TLS.

    python -m conformance.connect --compiler PYTHON [--mode client,server] [--ours oxgrpc|grpcio] [--ratchet]

The exit status is 1 if a case failed, or one passed that is known to fail. Without --ratchet the table is written anew.
With it nothing is written, the cases have to be those of the table, and a module proxy that cannot be reached is no
failure. With ``--ours grpcio`` the genuine one is in oxgrpc's place, and the table is left alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

from ..program import ROOT
from ..stack import STACKS
from . import runner
from .runner import FAILED, LOGS, PASSED

TABLE = ROOT / "conformance/connect.json"
MODES = ("client", "server")

Outcomes = dict[str, str]
#: By who talks to whom and how, and by the suite's chapter: how many cases passed.
Rows = dict[str, dict[str, str]]


def rows(mode: str, ours: str, outcomes: Outcomes) -> Rows:
    counted: dict[str, dict[str, Counter[str]]] = {}
    for case, outcome in outcomes.items():
        peer = "grpc-go" if "(grpc " in case else "connect-go"
        ends = (ours, peer) if mode == "client" else (peer, ours)
        # Cases without a word about TLS are those about client certificates.
        security = "plain" if "/TLS:false" in case else "tls"
        chapters = counted.setdefault(f"{' -> '.join(ends)}, {security}", {})
        chapters.setdefault(case.partition("/")[0], Counter())[outcome] += 1
    return {
        row: {chapter: f"{words[PASSED]} of {words.total()}" for chapter, words in sorted(chapters.items())}
        for row, chapters in sorted(counted.items())
    }


def summary(outcomes: Outcomes) -> dict[str, int]:
    words = Counter(outcomes.values())
    return {"cases": words.total(), PASSED: words.pop(PASSED, 0), **dict(sorted(words.items()))}


async def run(suite: runner.Suite, mode: str, stack: str, python: Path) -> Outcomes:
    command = [str(python), "-m", f"conformance.connect.{mode}", stack]
    log = LOGS / f"{stack}-{mode}.log"
    outcomes = await suite.run(mode, command, log)
    print(f"{mode}: " + ", ".join(f"{count} {word}" for word, count in summary(outcomes).items()), flush=True)
    for case, outcome in outcomes.items():
        if outcome == FAILED:
            print(f"    {outcome}: {case}", flush=True)
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(prog="conformance.connect", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--compiler", type=Path, required=True, help="a Python with grpcio and grpcio-tools")
    parser.add_argument("--mode", default=",".join(MODES), help="what of ours is run")
    parser.add_argument("--ours", choices=STACKS, default="oxgrpc")
    parser.add_argument("--ratchet", action="store_true", help="compare with the table, write nothing")
    options = parser.parse_args()

    LOGS.mkdir(parents=True, exist_ok=True)
    compiler = options.compiler.absolute()
    try:
        suite = runner.obtain(compiler)
    except runner.Unobtainable as error:
        print(f"\n*** THE CONNECTRPC CONFORMANCE SUITE WAS NOT RUN.\n*** {error}\n")
        return 0 if options.ratchet and error.proxy_is_unreachable else 1

    python = Path(sys.executable) if options.ours == "oxgrpc" else compiler
    modes = options.mode.split(",")
    try:
        outcomes = {mode: asyncio.run(run(suite, mode, options.ours, python)) for mode in modes}
    except RuntimeError as error:
        print(f"*** {error}")
        return 1
    finally:
        print(f"logs: {LOGS.relative_to(ROOT)}")
    if any(FAILED in cases.values() for cases in outcomes.values()):
        return 1
    if options.ours != "oxgrpc" or modes != list(MODES):
        return 0
    table: dict[str, object] = {"suite": f"{runner.MODULE} {runner.VERSION}"}
    table["summary"] = {mode: summary(cases) for mode, cases in outcomes.items()}
    table["rows"] = {
        row: counts for mode, cases in outcomes.items() for row, counts in rows(mode, options.ours, cases).items()
    }
    if not options.ratchet:
        TABLE.write_text(json.dumps(table, indent=1) + "\n")
    elif table != json.loads(TABLE.read_text()):
        print(f"the cases are not those of {TABLE.name}, which `make conformance` writes")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
