"""The tests that count, what became of each, and what must never get worse.

``grpcio-valid.json`` names the tests that genuine grpcio 1.85.1 passes in three runs of three. ``grpcio-suite.json`` is
what oxgrpc does with them: subset, file, test, outcome.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .process import Ran

VALID = Path(__file__).parents[1] / "grpcio-valid.json"
TABLE = Path(__file__).parents[1] / "grpcio-suite.json"

PASSED = "passed"
#: Not written yet, as opposed to wrong.
SYNCHRONOUS = "needs the synchronous API"

Outcomes = dict[str, dict[str, dict[str, str]]]


def valid() -> dict[str, dict[str, list[str]]]:
    """The tests that count: by subset and file, without their module's name."""
    tests: dict[str, dict[str, list[str]]] = json.loads(VALID.read_text())["tests"]
    return tests


def recorded() -> Outcomes:
    if not TABLE.is_file():
        return {}
    outcomes: Outcomes = json.loads(TABLE.read_text())["tests"]
    return outcomes


def judge(file: str, tests: list[str], ran: Ran) -> dict[str, tuple[str, str]]:
    """The outcome of each test that counts, and the last line of what was said."""
    module = file.removesuffix(".py").replace("/", ".")
    judged = {}
    for test in tests:
        outcome = ran.tests.get(f"{module}.{test}")
        word, message = (outcome.word, outcome.message) if outcome else ("not run", ran.broken)
        if word != PASSED and "synchronous API" in message:
            word = SYNCHRONOUS
        judged[test] = (word, message.strip().rpartition("\n")[2])
    return judged


def lost(before: Outcomes, now: Outcomes) -> list[tuple[str, str, str]]:
    """What passed before and does not now."""
    return [
        (subset, file, test)
        for subset, file, test, word in _each(now)
        if word != PASSED and before.get(subset, {}).get(file, {}).get(test) == PASSED
    ]


def gained(before: Outcomes, now: Outcomes) -> list[tuple[str, str, str]]:
    """What passes now and did not before."""
    return [
        (subset, file, test)
        for subset, file, test, word in _each(now)
        if word == PASSED and before.get(subset, {}).get(file, {}).get(test) != PASSED
    ]


def summary(outcomes: Outcomes) -> dict[str, dict[str, int]]:
    """For each subset, how many tests count and how many had each outcome."""
    counted: dict[str, Counter[str]] = {}
    for subset, _, _, word in _each(outcomes):
        counted.setdefault(subset, Counter())[word] += 1
    return {
        subset: {"tests": words.total(), PASSED: words.pop(PASSED, 0), **dict(sorted(words.items()))}
        for subset, words in counted.items()
    }


def write(outcomes: Outcomes) -> None:
    """Replaces what the table says of these files; the other files stay."""
    merged = recorded()
    for subset, files in outcomes.items():
        merged[subset] = {**merged.get(subset, {}), **files}
    ordered = {subset: dict(sorted(files.items())) for subset, files in sorted(merged.items())}
    content = {"summary": summary(ordered), "tests": ordered}
    TABLE.write_text(json.dumps(content, indent=1) + "\n")


def _each(outcomes: Outcomes) -> Iterator[tuple[str, str, str, str]]:
    for subset, files in outcomes.items():
        for file, tests in files.items():
            for test, word in tests.items():
                yield subset, file, test, word
