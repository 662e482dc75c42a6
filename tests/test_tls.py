"""TLS: calls of all kinds over it, whom a client believes, and what it is told where it does not."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import certificates
import echo
import oxgrpc as grpc
import wire
from certificates import Authority, Identity, authority, localhost
from oxgrpc import aio

MEBIBYTE = 1 << 20
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def server_credentials(*identities: Identity) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials([identity.pair for identity in identities or (localhost(),)])


def channel_credentials(root: bytes | None = None) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(root_certificates=root or authority().pem)


@asynccontextmanager
async def secured(
    identity: Identity | None = None, roots: bytes | None = None, **more: Any
) -> AsyncIterator[echo.Service]:
    """A service with this identity, and a channel that trusts these roots."""
    async with echo.serving(
        server_credentials=server_credentials(identity or localhost()),
        channel_credentials=channel_credentials(roots),
        **more,
    ) as service:
        yield service


async def failure(service: echo.Service) -> str:
    """Why a call fails, which it does with UNAVAILABLE."""
    with pytest.raises(aio.AioRpcError) as caught:
        await service.unary_unary(b"x", timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    details = caught.value.details()
    assert details.startswith(f"failed to connect to all addresses; last error: ipv4:{service.target}: TLS")
    return details


async def numbers(count: int, size: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield b"%d" % number * size


async def test_calls_of_all_kinds() -> None:
    async with secured() as service:
        assert await service.unary_unary(b"hello") == b"hello"
        assert [response async for response in service.unary_stream(b"3")] == [b"0", b"1", b"2"]
        assert await service.stream_unary(numbers(3, 2)) == b"001122"
        assert [response async for response in service.stream_stream(numbers(3, 1))] == [b"0", b"1", b"2"]


async def test_messages_of_16_mebibytes_both_ways() -> None:
    server = aio.server(options=UNLIMITED)
    message = bytes(range(256)) * (16 * MEBIBYTE // 256)
    async with secured(server=server, channel_options=UNLIMITED) as service:
        assert await service.unary_unary(message) == message
        assert [response async for response in service.stream_stream(iter([message, b"", message]))] == [
            message,
            b"",
            message,
        ]


async def test_many_streams_at_once() -> None:
    async with secured() as service:

        async def one(number: int) -> None:
            requests = [b"%d" % number * 1000, b"", b"x" * 20_000]
            assert [response async for response in service.stream_stream(iter(requests))] == requests

        await asyncio.gather(*(one(number) for number in range(200)))


async def test_messages_of_an_octet() -> None:
    async with secured() as service:
        call = service.stream_stream()
        for number in range(500):
            await call.write(bytes([number % 256]))
            assert await call.read() == bytes([number % 256])
        await call.done_writing()
        assert await call.read() is aio.EOF


async def test_a_hundred_thousand_messages_at_once() -> None:
    async with secured() as service:
        received = [response async for response in service.unary_stream(b"100000")]
        assert received == [b"%d" % number for number in range(100_000)]


async def test_status_and_metadata() -> None:
    async def handler(request: bytes, context: aio.ServicerContext) -> bytes:
        await context.send_initial_metadata((("x-initial", "1"),))
        await context.abort(grpc.StatusCode.DATA_LOSS, "gone", (("x-trailing", "2"),))

    async with secured(UnaryUnary=handler) as service:
        call = service.unary_unary(b"")
        assert ("x-initial", "1") in list(await call.initial_metadata())
        assert (await call.code(), await call.details()) == (grpc.StatusCode.DATA_LOSS, "gone")
        assert ("x-trailing", "2") in list(await call.trailing_metadata())


async def test_the_scheme_is_https() -> None:
    asked: list[Any] = []

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load(context, localhost())
    context.set_alpn_protocols(["h2"])

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(wire.PREFACE))
        writer.write(wire.settings((wire.HEADER_TABLE_SIZE, 0)))
        while not asked:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] == wire.HEADERS:
                asked.extend(wire.read_block(payload))
        await close(writer)

    server = await asyncio.start_server(play, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with aio.secure_channel(f"localhost:{port}", channel_credentials()) as channel:
            call = channel.unary_unary("/a/B")(b"")
            assert await call.code() is grpc.StatusCode.UNAVAILABLE, await call.details()
    assert (b":scheme", b"https") in asked
    assert (b":authority", b"localhost:%d" % port) in asked


def load(context: ssl.SSLContext, identity: Identity) -> None:
    """Gives a context of the standard library's a key and its certificates, which it takes from a file only."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(identity.key + identity.chain)
        file.flush()
        context.load_cert_chain(file.name)


# Whom a client believes


async def test_an_unknown_authority() -> None:
    async with secured(roots=Authority("Another").pem) as service:
        assert "certificate is refused: it is not signed by anything that is trusted" in await failure(service)


async def test_another_authority_of_the_same_name() -> None:
    async with secured(roots=Authority().pem) as service:
        assert "certificate is refused: it is not signed by who it says" in await failure(service)


async def test_another_name() -> None:
    async with secured(authority().identity("elsewhere.test")) as service:
        assert "it is not for 127.0.0.1, but for elsewhere.test" in await failure(service)


async def test_a_certificate_that_has_expired() -> None:
    async with secured(authority().identity("127.0.0.1", from_days=-2, to_days=-1)) as service:
        assert "it has expired" in await failure(service)


async def test_a_certificate_that_is_not_valid_yet() -> None:
    async with secured(authority().identity("127.0.0.1", from_days=1)) as service:
        assert "not valid yet" in await failure(service)


async def test_a_certificate_for_clients() -> None:
    async with secured(authority().identity("127.0.0.1", usage=certificates.CLIENT)) as service:
        assert "certificate is refused" in await failure(service)


async def test_an_intermediate_authority() -> None:
    between = Authority("Between", Authority("Below the root", authority()))
    async with secured(between.identity("127.0.0.1")) as service:
        assert await service.unary_unary(b"x") == b"x"


async def test_an_intermediate_authority_that_is_not_sent() -> None:
    between = Authority("Between", authority())
    identity = between.identity("127.0.0.1")
    alone = Identity(identity.key, identity.chain[: identity.chain.index(b"-----END") + 26])
    async with secured(alone) as service:
        assert "unknown issuer" in await failure(service)
    # It may be trusted itself.
    async with secured(alone, roots=between.pem) as service:
        assert await service.unary_unary(b"x") == b"x"


async def test_one_who_is_no_authority_signs() -> None:
    villain = Authority("Villain")
    signer = authority().identity("villain.test")
    villain.key = certificates.serialization.load_pem_private_key(signer.key, None)
    villain.name = certificates.x509.load_pem_x509_certificate(signer.chain).subject
    villain.links = signer.chain
    for identity in (villain.identity("127.0.0.1"), certificates.version_1("localhost", villain)):
        async with secured(identity, channel_options=[("grpc.ssl_target_name_override", "localhost")]) as service:
            assert "certificate is refused" in await failure(service)


@pytest.mark.parametrize(
    ("names", "asked", "is_named"),
    [
        (["a.test"], "a.test", True),
        (["A.Test"], "a.tEST", True),
        (["*.a.test"], "b.a.test", True),
        (["*.a.test"], "c.b.a.test", False),
        (["*.a.test"], "a.test", False),
        (["*.test"], "a.test", False),
        (["a.test", "b.test"], "b.test", True),
        (["::1"], "::1", True),
        (["127.0.0.1"], "127.0.0.2", False),
    ],
)
async def test_names(names: list[str], asked: str, is_named: bool) -> None:
    options = [("grpc.ssl_target_name_override", asked)]
    async with secured(authority().identity(*names), channel_options=options) as service:
        if is_named:
            assert await service.unary_unary(b"x") == b"x"
        else:
            assert f"it is not for {asked}" in await failure(service)


async def test_a_common_name_counts_where_there_is_no_other() -> None:
    options = [("grpc.ssl_target_name_override", "only.test")]
    async with secured(authority().identity(common_name="only.test"), channel_options=options) as service:
        assert await service.unary_unary(b"x") == b"x"
    identity = authority().identity("other.test", common_name="only.test")
    async with secured(identity, channel_options=options) as service:
        assert "it is not for only.test" in await failure(service)


async def test_what_openssl_makes_of_old() -> None:
    """Such certificates grpcio takes, too: see chain.rs and test_trust.py."""
    options = [("grpc.ssl_target_name_override", "old.test")]
    own = certificates.self_signed("old.test")
    pinned = Authority().identity("old.test")
    for identity, roots in (
        (own, own.chain),
        (pinned, pinned.chain),
        (certificates.version_1("old.test", authority()), authority().pem),
        (authority().identity("old.test", is_authority=True), authority().pem),
    ):
        async with secured(identity, roots, channel_options=options) as service:
            assert await service.unary_unary(b"x") == b"x"


async def test_what_openssl_makes_of_old_is_not_believed_blindly() -> None:
    options = [("grpc.ssl_target_name_override", "old.test")]
    own, stranger = certificates.self_signed("old.test"), Authority()
    expired = Authority().identity("old.test", from_days=-2, to_days=-1)
    for identity, roots in (
        (own, authority().pem),
        (certificates.version_1("old.test", stranger), authority().pem),
        # The same name and another key.
        (certificates.version_1("old.test", Authority()), authority().pem),
        (certificates.version_1("else.test", authority()), authority().pem),
        (expired, expired.chain),
        (authority().identity("old.test", is_authority=True, to_days=0), authority().pem),
    ):
        async with secured(identity, roots, channel_options=options) as service:
            assert "certificate is refused" in await failure(service)


# What a channel asks for


async def test_the_authority_follows_the_name_override() -> None:
    asked: list[str] = []

    async def handler(request: bytes, context: aio.ServicerContext) -> bytes:
        asked.append(context.auth_context()["ssl_requested_server_name"][0].decode())
        return b""

    identity = authority().identity("one.test", "two.test", "127.0.0.1")
    for options, name in (
        ([("grpc.ssl_target_name_override", "one.test")], "one.test"),
        ([("grpc.default_authority", "two.test:80")], "two.test"),
        ([("grpc.default_authority", "nobody.test"), ("grpc.ssl_target_name_override", "one.test")], "one.test"),
    ):
        async with secured(identity, channel_options=options, UnaryUnary=handler) as service:
            await service.unary_unary(b"")
        assert asked.pop() == name


async def test_a_server_with_several_identities() -> None:
    one, two = authority().identity("one.test"), authority().identity("two.test", "*.two.test")
    async with echo.serving(server_credentials=server_credentials(one, two)) as service:
        for name, is_there in (("one.test", True), ("two.test", True), ("b.two.test", True), ("three.test", False)):
            options = [("grpc.ssl_target_name_override", name)]
            async with aio.secure_channel(service.target, channel_credentials(), options=options) as channel:
                call = channel.unary_unary(echo.path("UnaryUnary"))(b"x")
                assert (await call.code() is grpc.StatusCode.OK) == is_there


async def test_the_certificates_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "roots.pem"
    file.write_bytes(authority().pem)
    monkeypatch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(file))
    credentials = grpc.ssl_channel_credentials()
    monkeypatch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(tmp_path / "nowhere"))
    of_system = grpc.ssl_channel_credentials()
    async with echo.serving(server_credentials=server_credentials()) as service:
        async with aio.secure_channel(service.target, credentials) as channel:
            assert await channel.unary_unary(echo.path("UnaryUnary"))(b"x") == b"x"
        async with aio.secure_channel(service.target, of_system) as channel:
            call = channel.unary_unary(echo.path("UnaryUnary"))(b"x")
            assert await call.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_secure_and_an_insecure_port() -> None:
    server = aio.server()
    secure = server.add_secure_port("127.0.0.1:0", server_credentials())
    async with echo.serving(server=server) as service:
        assert await service.unary_unary(b"x") == b"x"
        async with aio.secure_channel(f"localhost:{secure}", channel_credentials()) as channel:
            assert await channel.unary_unary(echo.path("UnaryUnary"))(b"y") == b"y"


async def test_a_unix_socket(tmp_path: Path) -> None:
    server = aio.server()
    target = f"unix:{tmp_path}/socket"
    assert server.add_secure_port(target, server_credentials()) == 1
    async with echo.serving(server=server), aio.secure_channel(target, channel_credentials()) as channel:
        assert await channel.unary_unary(echo.path("UnaryUnary"))(b"y") == b"y"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_versions(version: ssl.TLSVersion) -> None:
    async with secured() as service:
        context = client_context()
        context.minimum_version = context.maximum_version = version
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", service.port, ssl=context, server_hostname="localhost"
        )
        writer.write(wire.PREFACE + wire.settings())
        assert (await reader.readexactly(9))[3] == wire.SETTINGS
        await close(writer)


def client_context() -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority().pem.decode())
    context.set_alpn_protocols(["h2"])
    return context


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


@pytest.mark.parametrize("offered", [None, ["http/1.1"]])
async def test_clients_that_do_not_offer_http_2(offered: list[str] | None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "oxgrpc")
    async with secured() as service:
        context = ssl.create_default_context(cadata=authority().pem.decode())
        if offered:
            context.set_alpn_protocols(offered)
        with suppress(ConnectionError, ssl.SSLError):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", service.port, ssl=context, server_hostname="localhost"
            )
            assert await reader.read() == b""
            await close(writer)
        assert await service.unary_unary(b"x") == b"x"
    assert "ALPN" in caplog.text


async def test_servers_that_do_not_offer_http_2() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load(context, localhost())

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        await close(writer)

    server = await asyncio.start_server(play, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with aio.secure_channel(f"127.0.0.1:{port}", channel_credentials()) as channel:
            call = channel.unary_unary("/a/B")(b"")
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
            assert "the peer does not agree to HTTP/2 by ALPN" in await call.details()


async def test_a_server_that_speaks_no_tls() -> None:
    async with (
        echo.serving() as service,
        aio.secure_channel(service.target, channel_credentials()) as channel,
    ):
        call = channel.unary_unary(echo.path("UnaryUnary"))(b"x")
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
        assert "TLS handshake failed: what the server sends is not TLS" in await call.details()


# What cannot be used is told at once


def bad_credentials() -> dict[str, tuple[Callable[[], Any], type[Exception], str]]:
    key, chain = localhost().pair
    other_key = authority().identity("other.test").key
    encrypted = authority().identity("a.test", password=b"secret").key
    old_encrypted = b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"
    client, server = grpc.ssl_channel_credentials, grpc.ssl_server_credentials
    root = authority().pem
    return {
        "no root": (lambda: client(b"nonsense"), ValueError, "root_certificates holds no certificate"),
        "an empty root": (lambda: client(b""), ValueError, "root_certificates holds no certificate"),
        "half a root": (lambda: client(root[:100]), ValueError, "root_certificates"),
        "a root that is none": (
            lambda: client(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            ValueError,
            "a root certificate cannot be used",
        ),
        "a root that is text": (lambda: client(root.decode()), TypeError, "expected certificate to be bytes"),
        "a key alone": (lambda: client(root, key), ValueError, "private_key needs its certificate_chain"),
        "a chain alone": (lambda: client(root, None, chain), ValueError, "certificate_chain needs its private_key"),
        "another's key": (lambda: client(root, other_key, chain), ValueError, "not the certificate's"),
        "an encrypted key": (
            lambda: client(root, encrypted, chain),
            ValueError,
            "encrypted: decrypt it first.*openssl",
        ),
        "a key encrypted of old": (lambda: client(root, old_encrypted, chain), ValueError, "decrypt it first"),
        "a server's other key": (lambda: server([(other_key, chain)]), ValueError, "not the certificate's"),
        "a server's encrypted key": (lambda: server([(encrypted, chain)]), ValueError, "decrypt it first"),
        "no key": (lambda: server([(b"x", chain)]), ValueError, "the private key holds no key"),
        "no chain": (lambda: server([(key, b"x")]), ValueError, "the certificate chain holds no certificate"),
        "no pairs": (lambda: server([]), ValueError, "At least one private key-certificate chain pair"),
        "a key that is text": (lambda: server([(key.decode(), chain)]), TypeError, "private_key is PEM as bytes"),
        "clients without roots": (
            lambda: server([(key, chain)], None, True),
            ValueError,
            "Illegal to require client auth without",
        ),
        "bad roots for clients": (lambda: server([(key, chain)], b"x", True), ValueError, "root_certificates"),
        "ALTS": (grpc.alts_channel_credentials, NotImplementedError, "use ssl_channel_credentials"),
        "ALTS at a server": (grpc.alts_server_credentials, NotImplementedError, "use ssl_server_credentials"),
        "no credentials": (lambda: aio.secure_channel("localhost:1", None), TypeError, "not NoneType"),
        "no server credentials": (lambda: aio.server().add_secure_port("localhost:0", None), TypeError, "not NoneType"),
    }


@pytest.mark.parametrize("name", bad_credentials())
def test_what_cannot_be_used_is_told_at_once(name: str) -> None:
    make, error, text = bad_credentials()[name]
    with pytest.raises(error, match=text):
        make()


def test_a_target_without_a_port_means_tls() -> None:
    with pytest.raises(ValueError, match="secure_channel with ssl_channel_credentials"):
        aio.secure_channel("https://localhost:50051", channel_credentials())


# Peers that do not keep to it


async def test_garbage_instead_of_a_handshake(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "oxgrpc")
    async with secured() as service:
        for octets in (b"GET / HTTP/1.1\r\n\r\n", bytes(1000), b"\x16\x03\x01\x40\x00" + bytes(0x4000), b"\xff" * 100):
            with await wire.Peer.connect(service.port) as peer:
                await peer.send(octets)
                assert await ends(peer.socket)
        assert await service.unary_unary(b"x") == b"x"
    assert "TLS handshake failed" in caplog.text


async def ends(sock: socket.socket) -> bool:
    """Whether the other end closes, whatever it says before."""
    loop = asyncio.get_running_loop()
    with suppress(ConnectionError):
        while await loop.sock_recv(sock, 1 << 16):
            pass
    return True


async def test_a_plain_text_client() -> None:
    async with (
        echo.serving(server_credentials=server_credentials()) as service,
        aio.insecure_channel(service.target) as channel,
    ):
        call = channel.unary_unary(echo.path("UnaryUnary"))(b"x")
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
        assert "TLS on a plaintext connection" in await call.details()


async def test_the_end_of_the_transport_in_a_handshake() -> None:
    async with secured() as service:
        context = client_context()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            session.do_handshake()
        hello = outgoing.read()
        for cut in (1, 5, 40, len(hello) - 1, len(hello)):
            with await wire.Peer.connect(service.port) as peer:
                await peer.send(hello[:cut])
                peer.socket.shutdown(socket.SHUT_WR)
                assert await ends(peer.socket)
        assert await service.unary_unary(b"x") == b"x"


async def test_an_end_without_close_notify_loses_nothing() -> None:
    """The server answers, and its machine is gone: what it has answered counts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load(context, localhost())
    context.set_alpn_protocols(["h2"])

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(wire.PREFACE))
        writer.write(wire.settings())
        while (head := await reader.readexactly(9))[3] != wire.HEADERS:
            await reader.readexactly(int.from_bytes(head[:3], "big"))
        writer.write(
            wire.headers(1, [(b":status", b"200"), (b"content-type", b"application/grpc")])
            + wire.data(1, b"\0\0\0\0\5first")
            + wire.data(1, b"\0\0\0\0\6second")
        )
        await writer.drain()
        # Not abort(), which may drop what is not sent.
        with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as transport:
            transport.shutdown(socket.SHUT_WR)
        await reader.read()
        await close(writer)

    server = await asyncio.start_server(play, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with aio.secure_channel(f"localhost:{port}", channel_credentials()) as channel:
            call = channel.unary_stream("/a/B")(b"")
            assert await call.read() == b"first"
            assert await call.read() == b"second"
            with pytest.raises(aio.AioRpcError) as caught:
                await call.read()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_server_says_goodbye() -> None:
    """A client can tell the end from a cut."""
    async with secured() as service:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", service.port, ssl=client_context(), server_hostname="localhost"
        )
        writer.write(wire.PREFACE + wire.settings())
        await reader.readexactly(9)
        await service.server.stop(None)
        # Without close_notify this would raise.
        await reader.read()
        await close(writer)


async def test_records_that_come_octet_by_octet() -> None:
    async with secured() as service:
        context = client_context()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        loop = asyncio.get_running_loop()
        with await wire.Peer.connect(service.port) as peer:

            async def send() -> None:
                for octet in outgoing.read():
                    await peer.send(bytes([octet]))
                    await asyncio.sleep(0)

            async def receive() -> None:
                incoming.write(await loop.sock_recv(peer.socket, 1 << 16))

            while True:
                try:
                    session.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await send()
                    await receive()
            session.write(wire.PREFACE + wire.settings())
            await send()
            while True:
                try:
                    assert session.read(9)[3] == wire.SETTINGS
                    break
                except ssl.SSLWantReadError:
                    await receive()


async def test_a_client_that_stops_in_the_middle_of_the_handshake(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "oxgrpc")
    server = aio.server(options=[("grpc.server_handshake_timeout_ms", 200)])
    async with secured(server=server) as service:
        await service.unary_unary(b"x")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            session.do_handshake()
        hello = outgoing.read()
        for cut in (0, 10, len(hello)):
            with await wire.Peer.connect(service.port) as peer:
                await peer.send(hello[:cut])
                assert await ends(peer.socket)
        # Whoever has begun in time stays.
        assert await service.unary_unary(b"x") == b"x"
    assert "does not begin to speak HTTP/2" in caplog.text


async def test_a_server_that_stops_in_the_middle_of_the_handshake() -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(play, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        options = [("grpc.min_reconnect_backoff_ms", 200)]
        async with aio.secure_channel(f"127.0.0.1:{port}", channel_credentials(), options=options) as channel:
            call = channel.unary_unary("/a/B")(b"")
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
