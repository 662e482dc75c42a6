"""Runs the weather station: its server in one process, its client in another.

    run.py [--stack oxgrpc|grpcio]    the one switch: which gRPC both run on

Genuine grpcio runs from its own virtual environment.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
GENERATED = ROOT / "examples" / "generated"


def load(stack: str) -> None:
    """Makes `import grpc` mean the stack, and the generated code importable."""
    sys.path[:0] = [str(HERE), str(GENERATED)]
    if stack == "oxgrpc":
        import oxgrpc

        oxgrpc.install_as_grpc()


def start(stack: str, *arguments: str) -> subprocess.Popen[str]:
    python = sys.executable if stack == "oxgrpc" else str(ROOT / ".venv-grpcio" / "bin" / "python")
    command = [python, __file__, "--stack", stack, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE if "server" in arguments else None, text=True)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stack", choices=("oxgrpc", "grpcio"), default="oxgrpc")
    parser.add_argument("role", nargs="?", choices=("server", "client"))
    parser.add_argument("port", nargs="?", type=int)
    options = parser.parse_args()
    if options.role is not None:
        load(options.stack)
        import client
        import server

        asyncio.run(server.main() if options.role == "server" else client.main(options.port))
        return 0

    print(f"starting the weather station's server on {options.stack}", flush=True)
    serving = start(options.stack, "server")
    assert serving.stdout is not None
    try:
        port = serving.stdout.readline().strip()
        print(f"it listens on port {port}; starting its client", flush=True)
        begun = time.monotonic()
        code = start(options.stack, "client", port).wait(timeout=60)
        print(f"the client has ended with exit code {code} after {time.monotonic() - begun:.2f} s")
    finally:
        serving.terminate()
        serving.wait(timeout=10)
    return code


if __name__ == "__main__":
    sys.exit(main())
