"""The table of endings: every way in which a call can end, at every moment, for every kind, and what both sides saw.

`peer/endings.py` plays the table on oxgrpc, on each loop, and on genuine grpcio. Here stands what is to be seen.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import LOOPS

HERE = Path(__file__).parent
sys.path.append(str(HERE / "peer"))

from endings import ENDINGS, KINDS, MOMENTS  # noqa: E402

GENUINE = HERE.parent / ".venv-grpcio" / "bin" / "python"

#: How a call that is under way ends: what its client's `await` raises, the code, and what the handler's `await` raises.
#: The moment and the kind make no difference. The context of a handler that was ended is cancelled, unless it was the
#: server's own program that did it.
TABLE = {
    "client cancels": ("CancelledError", "CANCELLED", "CancelledError"),
    "handler is cancelled": ("AioRpcError CANCELLED", "CANCELLED", "CancelledError"),
    "deadline passes": ("AioRpcError DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", "CancelledError"),
    # The server with INTERNAL_ERROR, the client with CANCEL.
    "peer resets": ("AioRpcError INTERNAL", "INTERNAL", "CancelledError"),
    "connection is lost": ("AioRpcError UNAVAILABLE", "UNAVAILABLE", "CancelledError"),
    "server stops": ("AioRpcError UNAVAILABLE", "UNAVAILABLE", "CancelledError"),
    "client's loop is closed": ("nobody waits", None, "CancelledError"),
}

#: What grpcio does otherwise; each has its row in docs/parity.md.
GENUINE_CLIENT = {"handler is cancelled": {"raised": "waits for ever"}}
#: The context of a handler that was ended is neither done nor cancelled.
GENUINE_CONTEXT = {"done": False, "cancelled": False}
GENUINE_SERVER = {"client's loop is closed": {"saw": "nothing"}}

CELLS = [(ending, moment, kind) for ending in ENDINGS for moment in MOMENTS for kind in KINDS]


def is_over(moment: str, kind: str) -> bool:
    """The only response has come with the status: nothing ends the call any more."""
    return moment == "after the last message" and kind.endswith("Unary")


def expected(ending: str, moment: str, kind: str) -> dict[str, dict[str, Any]]:
    raised, code, saw = TABLE[ending]
    if is_over(moment, kind):
        raised, code, saw = "response", "OK", "returned"
    client: dict[str, Any] = {"raised": raised, "code": code, "done": True, "cancelled": code == "CANCELLED"}
    if ending == "client's loop is closed":
        client = {"raised": "nobody waits"}
    was_ended = saw == "CancelledError" and ending != "handler is cancelled"
    return {"client": client, "server": {"saw": saw, "done": True, "cancelled": was_ended}}


def expected_of_genuine(ending: str, moment: str, kind: str) -> dict[str, dict[str, Any]]:
    ours = expected(ending, moment, kind)
    if is_over(moment, kind):
        return ours
    client = GENUINE_CLIENT.get(ending, ours["client"])
    return {"client": client, "server": {**ours["server"], **GENUINE_CONTEXT, **GENUINE_SERVER.get(ending, {})}}


def played(python: str, stack: str, loop: str) -> dict[str, Any]:
    command = [python, str(HERE / "peer" / "endings.py"), stack, loop]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return dict(map(json.loads, done.stdout.splitlines()))


@pytest.fixture(scope="module", params=LOOPS)
def ours(request: pytest.FixtureRequest) -> dict[str, Any]:
    return played(sys.executable, "oxgrpc", request.param)


@pytest.fixture(scope="module")
def genuine() -> dict[str, Any]:
    return played(str(GENUINE), "grpcio", "asyncio")


@pytest.mark.parametrize(("ending", "moment", "kind"), CELLS)
def test_what_both_sides_saw(ending: str, moment: str, kind: str, ours: dict[str, Any]) -> None:
    assert ours[f"{ending}, {moment}, {kind}"] == expected(ending, moment, kind)


@pytest.mark.parametrize(("ending", "moment", "kind"), CELLS)
def test_what_is_seen_with_grpcio(ending: str, moment: str, kind: str, genuine: dict[str, Any]) -> None:
    assert genuine[f"{ending}, {moment}, {kind}"] == expected_of_genuine(ending, moment, kind)
