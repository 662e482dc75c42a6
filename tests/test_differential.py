"""The same scripts on oxgrpc and on genuine grpcio, in both directions.

What a genuine client observes of a genuine server is what everyone has to observe: our client of a genuine server, a
genuine client of our server, and our client of ours.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator

import pytest

import genuine_peer
import oxgrpc as grpc
from conftest import LOOPS
from genuine_peer import GenuineClient, start

# The directory of the scripts is on the path, for genuine_peer.
import interceptor_scripts  # noqa: F401  # isort: skip
import order_scripts  # noqa: F401  # isort: skip
from scripts import SCRIPTS, Client  # isort: skip


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


@pytest.fixture(scope="module")
def genuine(targets: dict[str, tuple[str, str]]) -> GenuineClient:
    return GenuineClient(*targets["grpcio"])


@pytest.fixture(scope="module", params=LOOPS)
def of_our_server(targets: dict[str, tuple[str, str]], request: pytest.FixtureRequest) -> GenuineClient:
    return GenuineClient(*targets[f"oxgrpc on {request.param}"])


@pytest.mark.parametrize("name", SCRIPTS)
def test_our_server_is_what_a_genuine_one_is(name: str, of_our_server: GenuineClient, genuine: GenuineClient) -> None:
    genuine_peer.assert_same(name, of_our_server, genuine)


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("server", ["grpcio", "oxgrpc on asyncio", "oxgrpc on asyncio with interceptors"])
async def test_our_client_is_what_a_genuine_one_is(
    name: str, server: str, loop_kind: str, targets: dict[str, tuple[str, str]], genuine: GenuineClient
) -> None:
    plain, intercepted = targets[server.removesuffix(" with interceptors")]
    target = intercepted if server.endswith("interceptors") else plain
    client = Client(grpc, target, f"{server} {loop_kind} {name}", intercepted)
    async with client.channel:
        observed = await SCRIPTS[name](client)
    await asyncio.to_thread(genuine.assert_observes, name, observed)
