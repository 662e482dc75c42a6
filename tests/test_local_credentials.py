"""Local credentials: no encryption, and peers on this machine only."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest

import echo
import oxgrpc as grpc
from oxgrpc import aio
from oxgrpc.experimental import insecure_channel_credentials

UDS, LOCAL_TCP = grpc.LocalConnectionType.UDS, grpc.LocalConnectionType.LOCAL_TCP


async def call(channel: aio.Channel) -> bytes:
    async with channel:
        return await channel.unary_unary(echo.path("UnaryUnary"))(b"x", timeout=20)


async def test_loopback() -> None:
    for server, channel in (
        (grpc.local_server_credentials(), grpc.local_channel_credentials()),
        (grpc.local_server_credentials(LOCAL_TCP), grpc.local_channel_credentials(LOCAL_TCP)),
    ):
        async with echo.serving(server_credentials=server, channel_credentials=channel) as service:
            assert await service.unary_unary(b"x") == b"x"


async def test_a_unix_socket(tmp_path: Path) -> None:
    target = f"unix:{tmp_path}/socket"
    server = aio.server()
    server.add_secure_port(target, grpc.local_server_credentials(UDS))
    async with echo.serving(server=server):
        assert await call(aio.secure_channel(target, grpc.local_channel_credentials(UDS))) == b"x"
        # There is nothing to agree on.
        assert await call(aio.insecure_channel(target)) == b"x"


async def test_a_client_asks_for_another_kind() -> None:
    async with echo.serving() as service:
        with pytest.raises(aio.AioRpcError) as caught:
            await call(aio.secure_channel(service.target, grpc.local_channel_credentials(UDS)))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "local credentials of this type are for Unix sockets only" in caught.value.details()


async def test_a_server_asks_for_another_kind(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "oxgrpc")
    async with echo.serving(server_credentials=grpc.local_server_credentials(UDS)) as service:
        with pytest.raises(aio.AioRpcError) as caught:
            await service.unary_unary(b"x")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "for Unix sockets only" in caplog.text


def outward_address() -> str | None:
    """An address of this machine's that is no loopback address, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            # Sends nothing: it only looks for the way (TEST-NET-1).
            sock.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address: str = sock.getsockname()[0]
        return None if address.startswith("127.") else address


async def test_clients_that_come_from_elsewhere(caplog: pytest.LogCaptureFixture) -> None:
    """A server that listens everywhere still serves this machine only."""
    address = outward_address()
    if address is None:
        pytest.skip("this machine has loopback addresses only")
    caplog.set_level(logging.DEBUG, "oxgrpc")
    server = aio.server()
    port = server.add_secure_port("0.0.0.0:0", grpc.local_server_credentials())
    async with echo.serving(server=server):
        with pytest.raises(aio.AioRpcError) as caught:
            await call(aio.insecure_channel(f"{address}:{port}"))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(aio.AioRpcError, match="for loopback addresses only"):
            await call(aio.secure_channel(f"{address}:{port}", grpc.local_channel_credentials()))
        assert await call(aio.insecure_channel(f"127.0.0.1:{port}")) == b"x"
    assert "for loopback addresses only" in caplog.text


async def test_tokens_may_be_sent() -> None:
    async def handler(request: bytes, context: aio.ServicerContext) -> bytes:
        return dict(context.invocation_metadata())["authorization"].encode()

    async with echo.serving(
        server_credentials=grpc.local_server_credentials(),
        channel_credentials=grpc.local_channel_credentials(),
        UnaryUnary=handler,
    ) as service:
        token = grpc.access_token_call_credentials("secret")
        assert await service.unary_unary(b"", credentials=token) == b"Bearer secret"


async def test_credentials_that_secure_nothing() -> None:
    assert insecure_channel_credentials() is insecure_channel_credentials()
    async with echo.serving(
        server_credentials=grpc.insecure_server_credentials(), channel_credentials=insecure_channel_credentials()
    ) as service:
        assert await service.unary_unary(b"x") == b"x"
        with pytest.raises(aio.UsageError, match="only valid on secure channels"):
            service.unary_unary(b"x", credentials=grpc.access_token_call_credentials("secret"))


async def test_xds_credentials_are_their_fallback() -> None:
    server = grpc.xds_server_credentials(grpc.insecure_server_credentials())
    channel = grpc.xds_channel_credentials(insecure_channel_credentials())
    async with echo.serving(server_credentials=server, channel_credentials=channel) as service:
        assert await service.unary_unary(b"x") == b"x"
