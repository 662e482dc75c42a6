"""The same scripts on oxgrpc and on genuine grpcio, in both directions.

What a genuine client observes of a genuine server is what everyone has to observe: our client of a genuine server, a
genuine client of our server, and our client of ours.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import oxgrpc as grpc
from conftest import LOOPS

HERE = Path(__file__).parent
sys.path.append(str(HERE / "peer"))

import interceptor_scripts  # noqa: E402, F401
import order_scripts  # noqa: E402, F401
from scripts import SCRIPTS, Client  # noqa: E402

GENUINE = HERE.parent / ".venv-grpcio" / "bin" / "python"


def start(stack: str, *arguments: str) -> subprocess.Popen[str]:
    python = sys.executable if stack == "oxgrpc" else str(GENUINE)
    command = [python, str(HERE / "peer" / "program.py"), stack, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def targets() -> Iterator[dict[str, tuple[str, str]]]:
    """The servers: a genuine one, and ours on each loop."""
    ends = {"grpcio": start("grpcio", "asyncio", "server")}
    ends |= {f"oxgrpc on {loop}": start("oxgrpc", loop, "server") for loop in LOOPS}
    try:
        yield {name: targets_of(end) for name, end in ends.items()}
        said = {name: end.communicate(timeout=30)[0].strip() for name, end in ends.items()}
        assert set(said.values()) == {"0 handlers were left"}, said
    finally:
        for end in ends.values():
            end.kill()


def targets_of(server: subprocess.Popen[str]) -> tuple[str, str]:
    """A server's target without interceptors, and the one with them."""
    assert server.stdout is not None
    plain, intercepted = server.stdout.readline().split()
    return f"127.0.0.1:{int(plain)}", f"127.0.0.1:{int(intercepted)}"


def as_observed_by_a_genuine_client(targets: tuple[str, str]) -> dict[str, Any]:
    client = start("grpcio", "asyncio", "client", *targets)
    output, _ = client.communicate(timeout=300)
    assert client.returncode == 0, f"the genuine client failed after {output[-200:]}"
    return dict(map(json.loads, output.splitlines()))


@pytest.fixture(scope="module")
def genuine(targets: dict[str, tuple[str, str]]) -> dict[str, Any]:
    return as_observed_by_a_genuine_client(targets["grpcio"])


@pytest.fixture(scope="module", params=LOOPS)
def of_our_server(targets: dict[str, tuple[str, str]], request: pytest.FixtureRequest) -> dict[str, Any]:
    return as_observed_by_a_genuine_client(targets[f"oxgrpc on {request.param}"])


@pytest.mark.parametrize("name", SCRIPTS)
def test_our_server_is_what_a_genuine_one_is(name: str, of_our_server: dict[str, Any], genuine: dict[str, Any]) -> None:
    assert of_our_server[name] == genuine[name]


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("server", ["grpcio", "oxgrpc on asyncio", "oxgrpc on asyncio with interceptors"])
async def test_our_client_is_what_a_genuine_one_is(
    name: str, server: str, loop_kind: str, targets: dict[str, tuple[str, str]], genuine: dict[str, Any]
) -> None:
    plain, intercepted = targets[server.removesuffix(" with interceptors")]
    target = intercepted if server.endswith("interceptors") else plain
    client = Client(grpc, target, f"{server} {loop_kind} {name}", intercepted)
    async with client.channel:
        # Through JSON, like the other side's: a tuple is a list there.
        observed = json.loads(json.dumps(await SCRIPTS[name](client)))
    assert observed == genuine[name]
