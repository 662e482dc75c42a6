"""Runs the tests of one module and tells its parent, a line of JSON each, what became of them. A process of its own.

    child.py MODULE FD ID...

FD is where the lines go; the ID are tests that are left out, because they have run or ended a process before.
"""

from __future__ import annotations

import faulthandler
import importlib
import importlib.metadata
import json
import logging
import os
import signal
import sys
import traceback
import unittest
from collections.abc import Iterator
from typing import Any

#: What of a traceback is told.
_CHARACTERS = 2000


class Reporting(unittest.TestResult):
    def __init__(self, file: int) -> None:
        super().__init__()
        self._file = file
        self._outcome, self._message = "", ""

    def tell(self, event: str, **what: str) -> None:
        os.write(self._file, json.dumps({"event": event, **what}).encode() + b"\n")

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._outcome, self._message = "", ""
        self.tell("started", test=test.id())

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        self.tell("ended", test=test.id(), outcome=self._outcome or "passed", message=self._message)

    def addError(self, test: Any, err: Any) -> None:
        text = "".join(traceback.format_exception(*err))
        print(text, file=sys.stderr, flush=True)
        if isinstance(test, unittest.TestCase):
            self._outcome, self._message = "failed", text[-_CHARACTERS:]
        else:
            # what is set up for a class or a module
            self.tell("broken", message=text[-_CHARACTERS:])

    def addFailure(self, test: Any, err: Any) -> None:
        self.addError(test, err)

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            self.addError(test, err)

    def addSkip(self, test: Any, reason: str) -> None:
        self._outcome, self._message = "skipped", reason

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._outcome, self._message = "failed", "unexpected success"


def tests_of(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from tests_of(test)
        else:
            yield test


def genuine_is_out_of_reach() -> bool:
    grpc = importlib.import_module("grpc")
    installed = {(found.metadata["Name"] or "").lower() for found in importlib.metadata.distributions()}
    return grpc.__name__ == "oxgrpc" and "grpcio" not in installed


def main(module: str, file: int, left_out: list[str]) -> int:
    os.set_inheritable(file, False)
    # This directory is nothing that a test should find.
    del sys.path[0]
    # A shell's background jobs ignore SIGINT, and tests send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    logging.basicConfig()

    result = Reporting(file)
    if not genuine_is_out_of_reach():
        result.tell("broken", message="genuine grpcio can be imported here, or oxgrpc is not what `import grpc` means")
    else:
        try:
            suite = unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(module))
        except Exception:
            text = traceback.format_exc()
            print(text, file=sys.stderr, flush=True)
            result.tell("broken", message=text[-_CHARACTERS:])
        else:
            unittest.TestSuite(test for test in tests_of(suite) if test.id() not in left_out).run(result)
    result.tell("done")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
