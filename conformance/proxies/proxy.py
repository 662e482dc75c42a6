"""How each proxy is configured, started and reloaded. All of them take HTTP/2 without TLS and speak it to the server.

Their windows are the defaults: 65,535 octets for a connection of nghttpx's and haproxy's clients.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ..program import started

#: Where Debian puts them, which is not everybody's path.
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
START_SECONDS = 20.0

NGHTTPX = """
frontend=127.0.0.1,{port};no-tls
backend=127.0.0.1,{backend};/;proto=h2
workers=1
log-level=ERROR
errorlog-file={directory}/error.log
accesslog-file=/dev/null
pid-file={directory}/pid
"""

HAPROXY = """
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend clients
  bind 127.0.0.1:{port} proto h2
  default_backend servers
backend servers
  server server 127.0.0.1:{backend} proto h2
"""

NGINX = """
daemon off;
worker_processes 1;
pid {directory}/pid;
error_log {directory}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_max_body_size 0;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{
    listen 127.0.0.1:{port} http2;
    location / {{ grpc_pass grpc://127.0.0.1:{backend}; }}
  }}
}}
"""


@dataclass(frozen=True)
class Proxy:
    """A kind of proxy."""

    name: str
    configuration: str
    arguments: tuple[str, ...]
    #: What makes it read its configuration anew, while its connections end gracefully.
    reload: signal.Signals

    @property
    def program(self) -> str | None:
        return shutil.which(self.name, path=PATH)


PROXIES = (
    Proxy("nghttpx", NGHTTPX, ("--conf={file}",), signal.SIGHUP),
    Proxy("haproxy", HAPROXY, ("-W", "-f", "{file}"), signal.SIGUSR2),
    Proxy("nginx", NGINX, ("-p", "{directory}", "-c", "{file}"), signal.SIGHUP),
)


class Instance:
    """A proxy in front of a server. It can be killed and started again on its port."""

    def __init__(self, proxy: Proxy, backend: int, directory: Path) -> None:
        self.proxy = proxy
        self.port = _free_port()
        self._process: asyncio.subprocess.Process | None = None
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / "configuration"
        values = {"port": self.port, "backend": backend, "directory": directory, "file": file}
        file.write_text(proxy.configuration.format(**values))
        self._command = [str(proxy.program), *(argument.format(**values) for argument in proxy.arguments)]
        self._log = directory / "output.log"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """Runs it until the block ends, however that is reached."""
        with open(self._log, "ab") as output:
            async with started(self._command, dict(os.environ), output.fileno()) as process:
                await asyncio.wait_for(self._start(process), START_SECONDS)
                yield process

    async def _start(self, process: asyncio.subprocess.Process) -> None:
        while not await self._takes_connections():
            if process.returncode is not None:
                raise RuntimeError(f"{self.proxy.name} has ended: {self._log.read_text()[-500:]}")
            await asyncio.sleep(0.02)

    async def _takes_connections(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def version(proxy: Proxy) -> str:
    """What a proxy says of its version."""
    flag = "-v" if proxy.name in ("haproxy", "nginx") else "--version"
    done = subprocess.run([str(proxy.program), flag], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout.partition("\n")[0]
