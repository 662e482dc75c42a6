"""Runs grpcio's own tests on oxgrpc, and compares with what passed before.

    python -m conformance.suite [--subset aio,interop,addons] [--only GLOB] [--ratchet]

Without --ratchet the table is written anew. With it nothing is written, and the exit status is 1 if a test that is
recorded as passed does not pass in three attempts.
"""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import os
import sys
import time
from collections import Counter
from pathlib import Path

from . import source, table
from .process import Runner

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build/grpcio-suite"
#: Some of grpcio's tests fail now and then with grpcio, too.
ATTEMPTS = 3
FILES_AT_ONCE = 2


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="conformance.suite", description=__doc__.partition("\n")[0])
    parser.add_argument("--python", type=Path, required=True, help="a Python with what the tests need, without grpcio")
    parser.add_argument("--compiler", type=Path, required=True, help="a Python with grpcio-tools")
    parser.add_argument("--subset", default="aio,interop,addons", help=",".join(table.valid()))
    parser.add_argument("--only", default="*", help="glob on a file's path")
    parser.add_argument("--ratchet", action="store_true", help="compare with the table, write nothing")
    return parser.parse_args()


def environment(tree: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GRPC_", "PYTHON"))}
    kept = {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}
    places = (ROOT / "conformance/preload", ROOT / "python", tree.resolve())
    return {**kept, "PYTHONPATH": os.pathsep.join(map(str, places)), "PYTHONUNBUFFERED": "1"}


async def run(runner: Runner, chosen: list[tuple[str, str]]) -> table.Outcomes:
    """Runs files, two at a time, and prints a line for each."""
    turns = asyncio.Semaphore(FILES_AT_ONCE)
    valid = table.valid()
    outcomes: table.Outcomes = {}

    async def one(subset: str, file: str) -> None:
        async with turns:
            began = time.monotonic()
            ran = await runner.run(file)
            took = time.monotonic() - began
        judged = table.judge(file, valid[subset][file], ran)
        outcomes.setdefault(subset, {})[file] = {test: word for test, (word, _) in judged.items()}
        passed = sum(word == table.PASSED for word, _ in judged.values())
        print(f"{subset:8}{file:62}{passed:4} of {len(judged):3}{took:7.1f} s", flush=True)
        for (word, message), count in Counter(judged.values()).items():
            if word != table.PASSED:
                print(f"            {count} {word}: {message[:200]}", flush=True)

    # The longest first, or the last one runs alone.
    longest_first = sorted(chosen, key=lambda each: -len(valid[each[0]][each[1]]))
    await asyncio.gather(*(one(subset, file) for subset, file in longest_first))
    return outcomes


async def run_until_sure(runner: Runner, chosen: list[tuple[str, str]]) -> table.Outcomes:
    """Runs files; those in which something was lost again, until it is found or the attempts are used up."""
    before = table.recorded()
    outcomes = await run(runner, chosen)
    for _ in range(ATTEMPTS - 1):
        doubtful = sorted({(subset, file) for subset, file, _ in table.lost(before, outcomes)})
        if not doubtful:
            break
        print("once more, because something passed before:")
        for subset, files in (await run(runner, doubtful)).items():
            for file, tests in files.items():
                outcomes[subset][file].update({test: word for test, word in tests.items() if word == table.PASSED})
    return outcomes


def main() -> int:
    options = arguments()
    valid = table.valid()
    subsets = options.subset.split(",")
    if unknown := set(subsets) - set(valid):
        sys.exit(f"no such subset: {', '.join(sorted(unknown))}; there are {', '.join(valid)}")
    chosen = [(name, file) for name in subsets for file in valid[name] if fnmatch.fnmatch(file, options.only)]

    logs = WORK / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    try:
        tree = source.prepare(WORK, options.compiler.absolute())
    except source.Unobtainable as error:
        print(f"\n*** GRPCIO'S OWN TESTS WERE NOT RUN: their source cannot be obtained here.\n*** {error}\n")
        return 0 if options.ratchet else 1

    runner = Runner(options.python.absolute(), tree, logs, environment(tree))
    before = table.recorded()
    outcomes = asyncio.run(run_until_sure(runner, chosen))
    lost = table.lost(before, outcomes)
    for title, tests in (("passes now", table.gained(before, outcomes)), ("PASSED BEFORE", lost)):
        for subset, file, test in tests:
            print(f"{title}: {subset} {file} {test}")
    for subset, words in table.summary(outcomes).items():
        print(f"{subset}: " + ", ".join(f"{count} {word}" for word, count in words.items()))
    print(f"logs: {logs.relative_to(ROOT)}")
    if options.ratchet:
        return 1 if lost else 0
    table.write(outcomes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
