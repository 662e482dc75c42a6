"""The port that a process listens on, from Linux's tables: not every program tells which one it was given."""

from __future__ import annotations

import os
from pathlib import Path

_LISTENING = "0A"


def listening(process: int) -> int | None:
    """A TCP port on which the process takes connections, None as long as there is none."""
    try:
        sockets = {_link(descriptor) for descriptor in Path(f"/proc/{process}/fd").iterdir()}
        tables = [Path(f"/proc/{process}/net/{table}").read_text() for table in ("tcp", "tcp6")]
    except OSError:
        return None  # it has ended
    for line in "".join(table.partition("\n")[2] for table in tables).splitlines():
        fields = line.split()
        if fields[3] == _LISTENING and f"socket:[{fields[9]}]" in sockets:
            return int(fields[1].rpartition(":")[2], 16)
    return None


def _link(descriptor: Path) -> str:
    try:
        return os.readlink(descriptor)
    except OSError:
        return ""  # closed meanwhile
