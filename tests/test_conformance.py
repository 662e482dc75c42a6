"""What measures us. A hang of one of grpcio's tests costs that test alone; what passed before is missed when lost."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from conformance.connect import runner as connect  # noqa: E402
from conformance.interop import ports  # noqa: E402
from conformance.suite import process, table  # noqa: E402

TESTS = """
import os, threading, time, unittest
import grpc

class Test(unittest.TestCase):
    def test_a_passes(self):
        self.assertEqual(grpc.__name__, "oxgrpc")
    def test_b_crashes(self):
        os.abort()
    def test_c_fails(self):
        self.fail("as meant")
    def test_d_hangs(self):
        threading.Event().wait()
    def test_e_is_skipped(self):
        self.skipTest("as meant")
    def test_f_needs_what_is_missing(self):
        raise AttributeError("the synchronous API comes next")
    def test_g_passes_last(self):
        pass
"""
NAMES = [f"Test.{line.split()[1].partition('(')[0]}" for line in TESTS.splitlines() if "def test" in line]


def runner(tree: Path) -> process.Runner:
    paths = (ROOT / "conformance/preload", ROOT / "python", tree)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    return process.Runner(Path(sys.executable), tree, tree, environment)


async def test_each_test_has_an_outcome_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "TEST_SECONDS", 2.0)
    (tmp_path / "some_test.py").write_text(TESTS)
    ran = await runner(tmp_path).run("some_test.py")
    judged = table.judge("some_test.py", [*NAMES, "Test.test_that_is_gone"], ran)
    words = [word for word, _ in judged.values()]
    assert words == ["passed", "crashed", "failed", "hung", "skipped", table.SYNCHRONOUS, "passed", "not run"]
    assert judged["Test.test_c_fails"][1] == "AssertionError: as meant"


async def test_a_module_that_cannot_be_imported_says_why(tmp_path: Path) -> None:
    (tmp_path / "some_test.py").write_text("from grpc import _nothing\n")
    judged = table.judge("some_test.py", ["Test.test_x"], await runner(tmp_path).run("some_test.py"))
    word, why = judged["Test.test_x"]
    assert word == "not run"
    assert "_nothing" in why


def test_what_passed_before_is_missed() -> None:
    before = {"aio": {"a_test.py": {"T.x": "passed", "T.y": "failed", "T.z": "passed"}}}
    now = {"aio": {"a_test.py": {"T.x": "not run", "T.y": "passed", "T.z": "passed"}}}
    assert table.lost(before, now) == [("aio", "a_test.py", "T.x")]
    assert table.gained(before, now) == [("aio", "a_test.py", "T.y")]


def test_the_port_of_a_process_is_found() -> None:
    assert ports.listening(os.getpid()) is None
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert ports.listening(os.getpid()) == server.getsockname()[1]
    if socket.has_dualstack_ipv6():
        with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
            assert ports.listening(os.getpid()) == server.getsockname()[1]


SUITE_OUTPUT = """
Computed 4 test case permutation(s) across 1 server configuration(s).
Sending request for "Basic/HTTPVersion:2/TLS:false/unary/success"...
Sending request for "Basic/HTTPVersion:2/TLS:true/unary/success"...
Received response for "Basic/HTTPVersion:2/TLS:true/unary/success"...
Sending request for "Odd/HTTPVersion:2/TLS:false/codec"...
Sending request for "Odd/HTTPVersion:2/TLS:true/codec"...
FAILED: Basic/HTTPVersion:2/TLS:false/unary/success:
\texpecting an error but received none: FAILED
INFO: Odd/HTTPVersion:2/TLS:false/codec failed (as expected):
\texpecting an error but received none
FAILED: Odd/HTTPVersion:2/TLS:true/codec was expected to fail but did not

Total cases: 4
1 passed, 2 failed
"""


def test_the_suites_output_is_read_and_checked_against_its_own_count() -> None:
    assert connect.read_outcomes(SUITE_OUTPUT) == {
        "Basic/HTTPVersion:2/TLS:false/unary/success": connect.FAILED,
        "Basic/HTTPVersion:2/TLS:true/unary/success": connect.PASSED,
        "Odd/HTTPVersion:2/TLS:false/codec": connect.KNOWN,
        "Odd/HTTPVersion:2/TLS:true/codec": connect.FAILED,
    }
    with pytest.raises(RuntimeError, match="Total cases: 5"):
        connect.read_outcomes(SUITE_OUTPUT.replace("cases: 4", "cases: 5"))
    with pytest.raises(RuntimeError, match="could not be run"):
        connect.read_outcomes(SUITE_OUTPUT + "Another 3 could not be run due to client timing out.\n")
    with pytest.raises(RuntimeError, match="has not counted"):
        connect.read_outcomes("panic: runtime error")


@pytest.mark.parametrize("go", ["absent", "without a proxy", "with a proxy that lacks the module"])
def test_a_suite_that_cannot_be_built_says_why(go: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "without a proxy": "dial tcp 127.0.0.1:1: connect: connection refused",
        "with a proxy that lacks the module": "404 Not Found",
    }
    if go in said:
        (tmp_path / "go").write_text(f"#!/bin/sh\necho '{said[go]}'\nexit 1\n")
        (tmp_path / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/nowhere" if go == "absent" else f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(connect, "WORK", tmp_path / "work")
    with pytest.raises(connect.Unobtainable, match=said.get(go, "not on this machine")) as raised:
        connect.obtain(Path(sys.executable))
    assert raised.value.proxy_is_unreachable == (go == "without a proxy")
