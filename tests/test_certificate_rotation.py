"""Certificates that change while a server runs: no call is lost, and new connections see the new ones.

`ROTATION_SECONDS=30` lets the rotation under load go on for so long; it is a second otherwise.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from typing import Any

import pytest

import echo
import oxgrpc as grpc
from certificates import Identity, authority, client
from oxgrpc import aio

LOAD_SECONDS = float(os.environ.get("ROTATION_SECONDS", "1"))
PERIOD_SECONDS = 0.1


def configuration(identity: Identity, roots: bytes | None = None) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([identity.pair], roots)


def identity(number: int) -> Identity:
    return authority().identity("127.0.0.1", "localhost", f"number-{number}.test")


def dynamic(
    fetch: Callable[[], Any], initial: Identity | None = None, requires_clients: bool = False
) -> grpc.ServerCredentials:
    roots = authority().pem if requires_clients else None
    return grpc.dynamic_ssl_server_credentials(configuration(initial or identity(0), roots), fetch, requires_clients)


async def served(port: int) -> str:
    """The name in the certificate that a new connection sees."""
    context = ssl.create_default_context(cadata=authority().pem.decode())
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    certificate = writer.get_extra_info("peercert")
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    return certificate["subjectAltName"][-1][1]


async def test_each_connection_asks() -> None:
    answers: list[Any] = [None, configuration(identity(1)), None, configuration(identity(2)), None]
    async with echo.serving(server_credentials=dynamic(lambda: answers.pop(0))) as service:
        seen = [await served(service.port) for _ in range(5)]
    assert seen == [f"number-{number}.test" for number in (0, 1, 1, 2, 2)]


async def test_a_connection_that_stands_goes_on() -> None:
    latest = [configuration(identity(1))]
    channel = grpc.ssl_channel_credentials(authority().pem)
    credentials = dynamic(lambda: latest[0])
    async with echo.serving(server_credentials=credentials, channel_credentials=channel) as service:
        stream = service.stream_stream()
        for number in range(2, 5):
            await stream.write(b"%d" % number)
            assert await stream.read() == b"%d" % number
            latest[0] = configuration(identity(number))
            assert await served(service.port) == f"number-{number}.test"
        await stream.done_writing()
        assert await stream.read() is aio.EOF


async def test_what_goes_wrong_leaves_the_old_ones(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("no disk")

    unusable: list[Callable[[], Any]] = [fail, lambda: "nonsense", lambda: 7, lambda: grpc.ServerCredentials(None)]
    expected = ["", "not str", "not int", "not ServerCredentials"]
    for fetch, text in zip(unusable, expected, strict=True):
        async with echo.serving(server_credentials=dynamic(fetch)) as service:
            for _ in range(2):
                assert await served(service.port) == "number-0.test"
        assert text in caplog.text
        assert "Error fetching certificate configuration" in caplog.text
        caplog.clear()


async def test_clients_are_verified_by_what_is_new(caplog: pytest.LogCaptureFixture) -> None:
    latest: list[Any] = [None]
    credentials = dynamic(lambda: latest[0], requires_clients=True)
    channel_credentials = grpc.ssl_channel_credentials(authority().pem, *client().pair)

    async def call() -> grpc.StatusCode:
        async with aio.secure_channel(service.target, channel_credentials) as channel:
            return await channel.unary_unary(echo.path("UnaryUnary"))(b"x").code()

    async with echo.serving(server_credentials=credentials) as service:
        assert await call() is grpc.StatusCode.OK
        stranger = type(authority())("Another").pem
        latest[0] = configuration(identity(1), stranger)
        assert await call() is grpc.StatusCode.UNAVAILABLE
        latest[0] = configuration(identity(1), authority().pem)
        assert await call() is grpc.StatusCode.OK
        # Clients cannot be verified by nothing: those that were trusted are.
        latest[0] = configuration(identity(2))
        assert await call() is grpc.StatusCode.OK
    assert "clients cannot be verified without root_certificates" in caplog.text


def test_what_is_no_configuration() -> None:
    with pytest.raises(TypeError, match=r"must be a grpc\.ServerCertificateConfiguration"):
        grpc.dynamic_ssl_server_credentials(None, lambda: None)
    with pytest.raises(TypeError, match="must be callable"):
        grpc.dynamic_ssl_server_credentials(configuration(identity(0)), 7)
    with pytest.raises(ValueError, match="At least one private key-certificate chain pair"):
        grpc.ssl_server_certificate_configuration([])


async def test_rotation_under_load() -> None:
    """Certificates change ten times a second under calls on connections that stand and on new ones: none fails."""
    latest = [configuration(identity(0))]
    channel_credentials = grpc.ssl_channel_credentials(authority().pem)
    credentials = dynamic(lambda: latest[0])
    until = asyncio.get_running_loop().time() + LOAD_SECONDS
    calls = connections = rotations = 0

    def goes_on() -> bool:
        return asyncio.get_running_loop().time() < until

    async def rotate() -> None:
        nonlocal rotations
        while goes_on():
            await asyncio.sleep(PERIOD_SECONDS)
            rotations += 1
            latest[0] = configuration(identity(rotations))

    async def load(service: echo.Service) -> None:
        nonlocal calls
        while goes_on():
            assert await service.unary_unary(b"standing") == b"standing"
            calls += 1

    async def stream(service: echo.Service) -> None:
        nonlocal calls
        call = service.stream_stream()
        while goes_on():
            await call.write(b"streaming")
            assert await call.read() == b"streaming"
            calls += 1
        await call.done_writing()
        assert await call.read() is aio.EOF

    async def reconnect(target: str) -> None:
        nonlocal calls, connections
        while goes_on():
            async with aio.secure_channel(target, channel_credentials) as channel:
                method = channel.unary_unary(echo.path("UnaryUnary"))
                assert await asyncio.gather(*(method(b"new") for _ in range(5))) == [b"new"] * 5
            calls, connections = calls + 5, connections + 1

    async with echo.serving(server_credentials=credentials, channel_credentials=channel_credentials) as service:
        await asyncio.gather(rotate(), load(service), stream(service), *(reconnect(service.target) for _ in range(3)))
    assert rotations >= LOAD_SECONDS / PERIOD_SECONDS / 4
    assert min(calls, connections) > rotations
