"""Mutual TLS: servers that want to know who their clients are."""

from __future__ import annotations

import asyncio
import datetime
import logging
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

import certificates
import echo
import oxgrpc as grpc
import wire
from certificates import Authority, Identity, authority, client, localhost
from oxgrpc import aio
from oxgrpc.experimental import session_cache


@asynccontextmanager
async def mutual(identity: Identity | None, roots: bytes | None = None) -> AsyncIterator[echo.Service]:
    """A service that asks for certificates, and a client that has this one or none."""
    server = grpc.ssl_server_credentials([localhost().pair], roots or authority().pem, require_client_auth=True)
    key, chain = (None, None) if identity is None else identity.pair
    channel = grpc.ssl_channel_credentials(authority().pem, key, chain)
    async with echo.serving(server_credentials=server, channel_credentials=channel) as service:
        yield service


async def refusal(service: echo.Service) -> str:
    with pytest.raises(aio.AioRpcError) as caught:
        await service.unary_unary(b"x", timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    return caught.value.details()


async def test_a_client_with_a_certificate() -> None:
    async with mutual(client()) as service:
        assert await service.unary_unary(b"x") == b"x"
        assert [response async for response in service.unary_stream(b"2")] == [b"0", b"1"]


async def test_a_client_without_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "oxgrpc")
    async with mutual(None) as service:
        assert "asks for a certificate" in await refusal(service)
    assert "the client has no certificate" in caplog.text


async def test_a_certificate_of_another_authority(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "oxgrpc")
    async with mutual(Authority("Another").identity("client.test")) as service:
        assert "the server refuses (alert UnknownCA)" in await refusal(service)
    assert "the client's certificate is refused" in caplog.text


async def test_a_certificate_that_has_expired() -> None:
    async with mutual(authority().identity("client.test", from_days=-2, to_days=-1)) as service:
        assert "alert CertificateExpired" in await refusal(service)


async def test_a_certificate_for_servers_is_not_for_clients() -> None:
    async with mutual(authority().identity("client.test", usage=certificates.SERVER)) as service:
        assert "the server refuses" in await refusal(service)
    async with mutual(authority().identity("client.test", usage=certificates.CLIENT)) as service:
        assert await service.unary_unary(b"x") == b"x"


async def test_what_openssl_makes_of_old() -> None:
    own = certificates.self_signed("client")
    for identity, roots in (
        (certificates.version_1("client", authority()), authority().pem),
        (own, own.chain),
        (authority().identity(common_name="client"), authority().pem),
    ):
        async with mutual(identity, roots) as service:
            assert await service.unary_unary(b"x") == b"x"
    async with mutual(certificates.version_1("client", Authority())) as service:
        assert "the server refuses" in await refusal(service)


async def test_an_intermediate_authority() -> None:
    async with mutual(Authority("Between", authority()).identity("client.test")) as service:
        assert await service.unary_unary(b"x") == b"x"


async def test_roots_alone_ask_for_nothing() -> None:
    """As in grpcio: clients are asked for a certificate if they need one, and not otherwise."""

    async def handler(request: bytes, context: aio.ServicerContext) -> bytes:
        return repr(context.peer_identities()).encode()

    server = grpc.ssl_server_credentials([localhost().pair], authority().pem, require_client_auth=False)
    channel = grpc.ssl_channel_credentials(authority().pem, *client().pair)
    async with echo.serving(server_credentials=server, channel_credentials=channel, UnaryUnary=handler) as service:
        assert await service.unary_unary(b"") == b"None"


async def test_a_session_does_not_outlive_its_certificate() -> None:
    """TLS itself would let it go on, with a new ticket each time."""
    expires = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=4)
    own = authority().identity("client.test", expires=expires)
    credentials = grpc.ssl_channel_credentials(authority().pem, *own.pair)
    options = [("grpc.ssl_session_cache", session_cache.ssl_session_cache_lru(1))]
    reused = []

    async def handler(request: bytes, context: aio.ServicerContext) -> bytes:
        reused.append(context.auth_context()["ssl_session_reused"])
        return b""

    server = grpc.ssl_server_credentials([localhost().pair], authority().pem, True)
    async with echo.serving(server_credentials=server, UnaryUnary=handler) as service:

        async def code() -> grpc.StatusCode:
            async with aio.secure_channel(service.target, credentials, options=options) as channel:
                return await channel.unary_unary(echo.path("UnaryUnary"))(b"", timeout=20).code()

        assert [await code(), await code()] == [grpc.StatusCode.OK] * 2
        assert reused == [[b"false"], [b"true"]]
        # There is no event to wait for but the time itself.
        while datetime.datetime.now(datetime.timezone.utc) <= expires + datetime.timedelta(seconds=1):
            await asyncio.sleep(0.2)
        assert await code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    "make",
    [
        lambda: None,
        lambda: Authority().identity("client.test"),
        lambda: authority().identity("client.test", to_days=-1, from_days=-2),
        lambda: authority().identity("client.test", usage=certificates.SERVER),
    ],
)
async def test_no_version_of_tls_lets_anybody_in(version: ssl.TLSVersion, make: Any) -> None:
    """In TLS 1.3 a client's handshake ends before the server has seen who it is. HTTP/2 does not begin, though."""
    identity: Identity | None = make()
    context = ssl.create_default_context(cadata=authority().pem.decode())
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    if identity is not None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(identity.key + identity.chain)
            file.flush()
            context.load_cert_chain(file.name)
    received = b""
    async with mutual(client()) as service:
        with suppress(ConnectionError, ssl.SSLError):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", service.port, ssl=context, server_hostname="localhost"
            )
            try:
                writer.write(wire.PREFACE + wire.settings())
                received = await asyncio.wait_for(reader.read(1), 20)
            finally:
                writer.close()
                with suppress(ConnectionError, ssl.SSLError):
                    await writer.wait_closed()
        assert await service.unary_unary(b"x") == b"x"
    assert received == b""
