"""What a handler is told of who its client is: the same as genuine grpcio tells."""

from __future__ import annotations

from typing import Any

import pytest

import echo
import oxgrpc as grpc
from certificates import Authority, Identity, authority, client, localhost, version_1
from oxgrpc import aio
from oxgrpc.experimental import session_cache


class Told:
    """A handler that keeps what it is told."""

    def __init__(self) -> None:
        self.identities: Any = None
        self.key: Any = None
        self.context: dict[str, list[bytes]] = {}

    async def __call__(self, request: bytes, context: aio.ServicerContext) -> bytes:
        self.identities, self.key = context.peer_identities(), context.peer_identity_key()
        self.context = context.auth_context()
        return b""


async def told(server: grpc.ServerCredentials | None, channel: grpc.ChannelCredentials | None, **options: Any) -> Told:
    seen = Told()
    credentials = {"server_credentials": server, "channel_credentials": channel}
    async with echo.serving(UnaryUnary=seen, **credentials, **options) as service:
        await service.unary_unary(b"")
    return seen


async def told_by_tls(identity: Identity | None) -> Told:
    needs = identity is not None
    server = grpc.ssl_server_credentials([localhost().pair], authority().pem if needs else None, needs)
    key, chain = (None, None) if identity is None else identity.pair
    return await told(server, grpc.ssl_channel_credentials(authority().pem, key, chain))


async def test_without_security() -> None:
    seen = await told(None, None)
    assert (seen.identities, seen.key) == (None, None)
    assert seen.context == {"transport_security_type": [b"insecure"], "security_level": [b"TSI_SECURITY_NONE"]}


async def test_without_a_certificate() -> None:
    seen = await told_by_tls(None)
    assert (seen.identities, seen.key) == (None, None)
    # A name was asked for only where the target has one: here it is an address.
    assert seen.context == {
        "transport_security_type": [b"ssl"],
        "security_level": [b"TSI_PRIVACY_AND_INTEGRITY"],
        "ssl_session_reused": [b"false"],
        "ssl_tls_version": [b"TLSv1.3"],
        "ssl_negotiated_key_exchange_group": [b"X25519"],
    }


async def test_a_certificate_with_names() -> None:
    names = ["a.test", "*.b.test", "10.0.0.1", "::1", "who@a.test", "spiffe://a.test/work/load"]
    identity = authority().identity(*names, common_name="A, B + C")
    seen = await told_by_tls(identity)
    values = [name.encode() for name in names]
    assert (seen.identities, seen.key) == (values, "x509_subject_alternative_name")
    assert list(seen.context) == [
        "transport_security_type",
        "x509_subject",
        "x509_common_name",
        "x509_pem_cert",
        "x509_subject_alternative_name",
        "peer_dns",
        "peer_ip",
        "peer_email",
        "peer_uri",
        "security_level",
        "ssl_session_reused",
        "ssl_tls_version",
        "ssl_negotiated_key_exchange_group",
        "peer_spiffe_id",
    ]
    assert seen.context["x509_subject"] == [b"CN=A\\, B \\+ C,O=Tests\\, Inc."]
    assert seen.context["x509_common_name"] == [b"A, B + C"]
    assert seen.context["x509_pem_cert"] == [identity.chain]
    assert seen.context["peer_dns"] == [b"a.test", b"*.b.test"]
    assert seen.context["peer_ip"] == [b"10.0.0.1", b"::1"]
    assert seen.context["peer_email"] == [b"who@a.test"]
    assert seen.context["peer_spiffe_id"] == seen.context["peer_uri"] == [b"spiffe://a.test/work/load"]


@pytest.mark.parametrize("names", [["spiffe://a.test/x", "spiffe://a.test/y"], ["spiffe://a.test"], ["http://a/b"]])
async def test_what_is_no_spiffe_id(names: list[str]) -> None:
    seen = await told_by_tls(authority().identity(*names))
    assert "peer_spiffe_id" not in seen.context
    assert seen.context["peer_uri"] == [name.encode() for name in names]


async def test_a_certificate_without_names() -> None:
    for identity in (authority().identity(common_name="Alone"), version_1("Alone", authority())):
        seen = await told_by_tls(identity)
        assert (seen.identities, seen.key) == ([b"Alone"], "x509_common_name")
        assert "x509_subject_alternative_name" not in seen.context


async def test_the_certificate_is_the_clients_own() -> None:
    between = Authority("Between", authority())
    identity = between.identity("client.test")
    seen = await told_by_tls(identity)
    assert seen.context["x509_pem_cert"] == [identity.chain.removesuffix(between.links)]
    assert seen.context["x509_pem_cert_chain"] == [between.links]


async def test_local_credentials() -> None:
    seen = await told(grpc.local_server_credentials(), grpc.local_channel_credentials())
    assert (seen.identities, seen.key) == ([b"local"], "transport_security_type")
    assert seen.context == {
        "transport_security_type": [b"local"],
        "security_level": [b"TSI_PRIVACY_AND_INTEGRITY"],
    }


async def test_the_name_that_was_asked_for() -> None:
    seen = Told()
    credentials = grpc.ssl_server_credentials([localhost().pair])
    async with echo.serving(server_credentials=credentials, UnaryUnary=seen) as service:
        channel_credentials = grpc.ssl_channel_credentials(authority().pem)
        async with aio.secure_channel(f"localhost:{service.port}", channel_credentials) as channel:
            await channel.unary_unary(echo.path("UnaryUnary"))(b"")
    assert seen.context["ssl_requested_server_name"] == [b"localhost"]


async def test_a_session_that_goes_on() -> None:
    seen = Told()
    server = grpc.ssl_server_credentials([localhost().pair], authority().pem, True)
    credentials = grpc.ssl_channel_credentials(authority().pem, *client().pair)
    others = grpc.ssl_channel_credentials(authority().pem, *client().pair)
    cache = session_cache.ssl_session_cache_lru(2)
    options = [("grpc.ssl_session_cache", cache)]
    async with echo.serving(server_credentials=server, UnaryUnary=seen) as service:

        async def is_reused(credentials: grpc.ChannelCredentials, options: Any) -> bytes:
            async with aio.secure_channel(service.target, credentials, options=options) as channel:
                await channel.unary_unary(echo.path("UnaryUnary"))(b"")
            assert seen.identities == [b"client.test"]
            return seen.context["ssl_session_reused"][0]

        assert [await is_reused(credentials, options) for _ in range(3)] == [b"false", b"true", b"true"]
        # What one has verified is no proof to others, and without a cache nothing is kept.
        assert await is_reused(others, options) == b"false"
        assert await is_reused(credentials, None) == b"false"


async def test_it_outlives_the_connection() -> None:
    contexts = []

    async def handler(request: bytes, context: aio.ServicerContext) -> bytes:
        contexts.append(context)
        return b""

    server = grpc.ssl_server_credentials([localhost().pair], authority().pem, True)
    channel = grpc.ssl_channel_credentials(authority().pem, *client().pair)
    async with echo.serving(server_credentials=server, channel_credentials=channel, UnaryUnary=handler) as service:
        await service.unary_unary(b"")
    assert contexts.pop().peer_identities() == [b"client.test"]
