"""Ends of a differential test in processes of their own (peer/program.py), and what a genuine client observes.

On a busy machine a genuine client does not always observe the same, because its threads race: where there is a
difference, it looks again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.append(str(HERE / "peer"))

_GENUINE = HERE.parent / ".venv-grpcio" / "bin" / "python"

#: How often a genuine client looks again.
LOOKS = 4


def start(stack: str, *arguments: str) -> subprocess.Popen[str]:
    """Starts an end in the virtual environment of its stack, oxgrpc's or grpcio's."""
    python = sys.executable if stack == "oxgrpc" else str(_GENUINE)
    command = [python, str(HERE / "peer" / "program.py"), stack, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


class GenuineClient:
    """What a genuine client has observed of a server, script by script, each time that it has looked."""

    def __init__(self, *server: str) -> None:
        """The server's targets, and the directory of its certificates if it has any."""
        self._server = server
        self.observed: dict[str, list[Any]] = {}
        self._look()

    def _look(self, *only: str) -> None:
        client = start("grpcio", "asyncio", "client", *self._server, *only)
        output, _ = client.communicate(timeout=300)
        assert client.returncode == 0, f"the genuine client failed after {output[-200:]}"
        for name, observed in map(json.loads, output.splitlines()):
            self.observed.setdefault(name, []).append(observed)

    def look_again(self, name: str) -> None:
        """Runs one script once more."""
        self._look(f"--only={name}")

    def assert_observes(self, name: str, observed: Any) -> None:
        """Fails unless a genuine client has observed this, too, or does when it looks again."""
        # Through JSON, like the other side's: a tuple is a list there.
        observed = json.loads(json.dumps(observed))
        for _ in range(LOOKS):
            if observed in self.observed[name]:
                return
            self.look_again(name)
        assert observed == self.observed[name][-1]


def assert_same(name: str, one: GenuineClient, other: GenuineClient) -> None:
    """Fails unless a genuine client observes of one server what it observes of another."""
    for _ in range(LOOKS):
        if one.observed[name][-1] in other.observed[name]:
            return
        one.look_again(name)
        other.look_again(name)
    assert one.observed[name][-1] == other.observed[name][-1]
