"""The port that a process listens on, from Linux's tables: not every program tells which one it was given."""

from __future__ import annotations

import os
from pathlib import Path

_LISTENING = "0A"


def listening(process: int) -> int | None:
    """A TCP port on which the process takes connections, None as long as there is none."""
    sockets = set()
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        try:
            sockets.add(os.readlink(descriptor))
        except OSError:
            continue  # closed meanwhile
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING and f"socket:[{fields[9]}]" in sockets:
                return int(fields[1].rpartition(":")[2], 16)
    return None
