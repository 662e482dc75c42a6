"""Local credentials: no encryption, and peers on this machine only."""

from __future__ import annotations

import logging
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
