"""Dapr's stock Python SDK works against the gateway with two environment variables, and without a sidecar.

The SDK asks for genuine grpcio, so that it has a virtual environment of its own, which `make` makes.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PYTHON = ROOT / ".venv-dapr/bin/python"
GATEWAY = ROOT / "target/debug/examples/dapr"


@pytest.fixture(params=["memory", "directory"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    arguments = [] if request.param == "memory" else [str(tmp_path)]
    gateway = subprocess.Popen([GATEWAY, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert gateway.stdin is not None
    assert gateway.stdout is not None
    with gateway.stdin, gateway.stdout:
        _, grpc, _, http = gateway.stdout.readline().split()
        yield {
            **os.environ,
            "DAPR_GRPC_PORT": grpc,
            "DAPR_HTTP_PORT": http,
            "DAPR_HEALTH_TIMEOUT": "30",
            "PYTHONPATH": str(ROOT / "python"),
        }
    assert gateway.wait(30) == 0


@pytest.mark.parametrize("kind", [["aio"], ["aio", "oxgrpc"], ["sync"]], ids=" on ".join)
def test_an_application_works_unchanged(kind: list[str], environment: dict[str, str]) -> None:
    program = [PYTHON, ROOT / "tests/dapr_sdk/program.py", *kind]
    ran = subprocess.run(program, env=environment, timeout=50, text=True, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.endswith("done\n"), ran.stdout
