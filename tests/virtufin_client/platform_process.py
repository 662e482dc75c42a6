"""The real gateway with its backends, `oxgrpc up`, in a process of its own; and a user's backend in another."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BINARY = Path(__file__).parent.parent.parent / "target" / "debug" / "oxgrpc"

#: A user's backend as a program, on whatever grpc is here.
BACKEND = "import virtufin.api.client, asyncio, custom_backend; asyncio.run(custom_backend.main())"

#: Seconds after which a process that was asked to end is killed.
GRACE_SECONDS = 20.0


@contextmanager
def process(*command: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A program that is asked to end with the block."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(list(map(str, command)), env=env, stdout=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.terminate()
            try:
                started.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                started.kill()
                raise


class Platform:
    """Where the gateway listens, and its registry file."""

    def __init__(self, services: Path) -> None:
        self.services = services
        self.grpc_port = 0
        self.http_port = 0
        self.worker_port = 0
        self._entries: dict[str, int] = {}

    def register(self, name: str, port: int) -> None:
        self._entries[name] = port
        self._write()

    def _write(self) -> None:
        entries = [
            {
                "name": name,
                "protocol": "grpc",
                "grpc": {"host": "127.0.0.1", "port": port, "reflectionEnabled": True},
            }
            for name, port in self._entries.items()
        ]
        written = self.services.with_suffix(".new")
        written.write_text(json.dumps({"services": entries}))
        written.replace(self.services)

    @contextmanager
    def registered(self, name: str, port: int) -> Iterator[None]:
        """A backend that is in the registry meanwhile."""
        self.register(name, port)
        try:
            yield
        finally:
            del self._entries[name]
            self._write()


@contextmanager
def started(directory: Path, *flags: str) -> Iterator[Platform]:
    """`oxgrpc up` on free ports, with the backend `echo` in its registry."""
    platform = Platform(directory / "services.json")
    with socket.socket() as reserved, process(sys.executable, "-c", BACKEND) as backend:
        # A port that worker code may be loaded from: a server of the tests shares it.
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        platform.worker_port = reserved.getsockname()[1]
        assert backend.stdout is not None
        platform.register("echo", int(backend.stdout.readline()))
        workers = [f"--allow-worker-url=127.0.0.1:{platform.worker_port}", f"--worker-python={sys.executable}"]
        command = [
            BINARY,
            "up",
            "--services",
            platform.services,
            "--output=json",
            "--log-level=error",
            *workers,
            *flags,
        ]
        with process(*command) as gateway:
            assert gateway.stdout is not None
            line = gateway.stdout.readline()
            assert line, "the gateway did not start: see its standard error; `cargo build -p oxgrpc-cli` builds it"
            addresses: dict[str, Any] = json.loads(line)
            platform.grpc_port = int(addresses["grpc"].rpartition(":")[2])
            platform.http_port = int(addresses["http"].rstrip("/").rpartition(":")[2])
            yield platform
