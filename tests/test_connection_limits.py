"""How many connections a server takes, in all and from one address, and what the log says of the others."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

import echo
import wire
from oxgrpc import _log, aio


async def connect(port: int, source: str = "127.0.0.1") -> wire.Peer:
    sock = socket.socket()
    sock.setblocking(False)
    sock.bind((source, 0))
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return wire.Peer(sock)


async def is_served(peer: wire.Peer) -> bool:
    if not await peer.send_unless_closed(wire.PREFACE, wire.settings()):
        return False
    first = await peer.receive()
    return first is not None and first.kind == wire.SETTINGS


@pytest.mark.parametrize(
    ("option", "others"), [("oxgrpc.max_connections", False), ("oxgrpc.max_connections_per_peer", True)]
)
async def test_connections_above_the_limit_are_closed(
    option: str, others: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_log, "_connection_refused", _log._Seldom(logging.WARNING))
    async with echo.serving(aio.server(options=[(option, 2)])) as service:
        assert await service.unary_unary(b"x") == b"x"
        with await connect(service.port) as second, await connect(service.port) as third:
            assert await is_served(second)
            for _ in range(2):
                with await connect(service.port) as refused:
                    assert not await is_served(refused)
            assert not await is_served(third)
            with await connect(service.port, "127.0.0.2") as other:
                assert await is_served(other) is others
            assert await service.unary_unary(b"x") == b"x"
        # The server may see later that a client has gone.
        served = False
        while not served:
            with await connect(service.port) as again:
                served = await is_served(again)
    said = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert len(said) == 1, "one record for all that happens within seconds"
    assert said[0].endswith(f"refused: {option} is 2")


def test_what_repeats_is_said_once_in_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(_log, "monotonic", lambda: now)
    monkeypatch.setattr(_log, "_accept_failed", _log._Seldom(logging.ERROR))
    for _ in range(50):
        _log.accept_failed("Too many open files")
    now += _log._Seldom.SECONDS
    _log.accept_failed("Too many open files")
    said = [record.getMessage() for record in caplog.records]
    first = "cannot accept connections: Too many open files"
    assert said == [first, f"{first} (49 such records were left out before)"]
