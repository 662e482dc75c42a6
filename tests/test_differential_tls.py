"""The same scripts on oxgrpc and on genuine grpcio over mutual TLS, in both directions."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

import oxgrpc as grpc
from certificates import Authority
from test_differential import start

# The directory of the scripts is on the path, for test_differential.
from credential_scripts import SECURED  # isort: skip
from scripts import Client  # isort: skip


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What both ends need."""
    path = tmp_path_factory.mktemp("certificates")
    root = Authority()
    server = Authority("Between", root).identity("127.0.0.1")
    client = Authority("Another", root).identity("client.test", "10.1.2.3", "spiffe://a.test/b", common_name="A, B")
    for name, content in (
        ("roots.pem", root.pem),
        ("server.key", server.key),
        ("server.pem", server.chain),
        ("client.key", client.key),
        ("client.pem", client.chain),
    ):
        (path / name).write_bytes(content)
    return str(path)


@pytest.fixture(scope="module")
def targets(directory: str) -> Iterator[dict[str, str]]:
    ends = {stack: start(stack, "asyncio", "server", directory) for stack in ("grpcio", "oxgrpc")}
    try:
        yield {stack: f"127.0.0.1:{int(first_port(end))}" for stack, end in ends.items()}
        said = {stack: end.communicate(timeout=30)[0].strip() for stack, end in ends.items()}
        assert set(said.values()) == {"0 handlers were left"}, said
    finally:
        for end in ends.values():
            end.kill()


def first_port(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    return server.stdout.readline().split()[0]


def as_observed_by_a_genuine_client(target: str, directory: str) -> dict[str, Any]:
    client = start("grpcio", "asyncio", "client", target, target, directory)
    output, _ = client.communicate(timeout=300)
    assert client.returncode == 0, f"the genuine client failed after {output[-200:]}"
    return dict(map(json.loads, output.splitlines()))


@pytest.fixture(scope="module")
def genuine(targets: dict[str, str], directory: str) -> dict[str, Any]:
    return as_observed_by_a_genuine_client(targets["grpcio"], directory)


@pytest.fixture(scope="module")
def of_our_server(targets: dict[str, str], directory: str) -> dict[str, Any]:
    return as_observed_by_a_genuine_client(targets["oxgrpc"], directory)


@pytest.mark.parametrize("name", SECURED)
def test_our_server_is_what_a_genuine_one_is(name: str, of_our_server: dict[str, Any], genuine: dict[str, Any]) -> None:
    assert of_our_server[name] == genuine[name]


@pytest.mark.parametrize("name", SECURED)
@pytest.mark.parametrize("server", ["grpcio", "oxgrpc"])
async def test_our_client_is_what_a_genuine_one_is(
    name: str, server: str, loop_kind: str, targets: dict[str, str], genuine: dict[str, Any], directory: str
) -> None:
    client = Client(grpc, targets[server], f"{server} {loop_kind} {name}", targets[server], directory)
    async with client.channel:
        observed = json.loads(json.dumps(await SECURED[name](client)))
    assert observed == genuine[name]
