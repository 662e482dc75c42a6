"""What is secret is not shown: neither keys nor tokens get into errors and logs."""

from __future__ import annotations

import asyncio
import base64
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

import echo
from certificates import authority, localhost
from oxgrpc import (
    StatusCode,
    access_token_call_credentials,
    aio,
    composite_channel_credentials,
    metadata_call_credentials,
    ssl_channel_credentials,
    ssl_server_credentials,
)

KEY = localhost().key
SECRET = KEY.splitlines()[1]

#: What becomes of a key on its way through environment variables, templates and editors.
SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "line feeds that are written out": lambda key: key.replace(b"\n", b"\\n"),
    "blanks for line feeds": lambda key: key.replace(b"\n", b" "),
    "no line feeds": lambda key: key.replace(b"\n", b""),
    "quotes": lambda key: b'"' + key.replace(b"\n", b"\\n") + b'"',
    "no last line": lambda key: key[: key.index(b"-----END")],
    "another last line": lambda key: key.replace(b"END PRIVATE", b"END PUBLIC"),
    "a broken first line": lambda key: key.replace(b"KEY-----\n", b"KEY----\n", 1),
    "what is no base64": lambda key: key.replace(b"M", b"*"),
    "half of it": lambda key: key.replace(SECRET, SECRET[:-7]),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_key_that_cannot_be_read(name: str) -> None:
    spoilt, chain = SPOILT[name](KEY), localhost().chain
    for make in (
        lambda: ssl_channel_credentials(authority().pem, spoilt, chain),
        lambda: ssl_server_credentials([(spoilt, chain)]),
        # In the wrong place.
        lambda: ssl_channel_credentials(authority().pem, KEY, spoilt),
        lambda: ssl_server_credentials([(KEY, chain)], spoilt, True),
        lambda: ssl_channel_credentials(spoilt),
    ):
        with pytest.raises(ValueError, match=r"PEM|holds no key") as caught:
            make()
        assert not shows(str(caught.value), SECRET), caught.value


def shows(text: str, secret: bytes) -> bool:
    """Whether a text has any part of a secret in it, in one of the ways that octets are printed."""
    parts = [secret[at : at + 12] for at in range(0, len(secret) - 12, 4)]
    return any(
        written in text
        for part in parts
        for written in (part.decode(), part.hex(), ", ".join(map(str, part)), base64.b64encode(part).decode())
    )


async def test_a_token_that_cannot_be_sent(caplog: pytest.LogCaptureFixture) -> None:
    """A line feed at the end of a file comes with the token that is in it."""
    caplog.set_level(logging.DEBUG)
    token = "a-very-secret-token\n"
    async with echo.serving(server_credentials=ssl_server_credentials([localhost().pair])) as service:
        transport = ssl_channel_credentials(authority().pem)

        def plugin(context: Any, callback: Any) -> None:
            callback((("authorization", f"Bearer {token}"),), None)

        for credentials in (access_token_call_credentials(token), metadata_call_credentials(plugin)):
            async with aio.secure_channel(
                service.target, composite_channel_credentials(transport, credentials)
            ) as channel:
                with pytest.raises((aio.AioRpcError, ValueError)) as caught:
                    await channel.unary_unary(echo.path("UnaryUnary"))(b"x")
                assert "authorization" in str(caught.value)
                assert "a-very" not in str(caught.value)
        async with aio.secure_channel(service.target, transport) as channel:
            for metadata in ((("authorization", token),), (("authorization", token, 1),), ([token],), (token,)):
                with pytest.raises((TypeError, ValueError)) as error:
                    await channel.unary_unary(echo.path("UnaryUnary"))(b"x", metadata=metadata)  # type: ignore[arg-type]
                assert "a-very" not in str(error.value)
    assert "a-very" not in caplog.text
    plugins_end()


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError, KeyboardInterrupt])
async def test_a_plugin_that_ends_its_thread(error: type[BaseException]) -> None:
    """The call does not wait for what will never come."""

    def plugin(context: Any, callback: Any) -> None:
        raise error("gone")

    await fails(plugin, "gone")


async def test_a_plugin_whose_metadata_raises() -> None:
    def pairs() -> Any:
        yield "a", "b"
        raise OSError("gone")

    await fails(lambda context, callback: callback(pairs(), None), "gone")


async def fails(plugin: Any, why: str) -> None:
    transport = ssl_channel_credentials(authority().pem)
    async with echo.serving(server_credentials=ssl_server_credentials([localhost().pair])) as service:
        credentials = composite_channel_credentials(transport, metadata_call_credentials(plugin))
        async with aio.secure_channel(service.target, credentials) as channel:
            call = channel.unary_unary(echo.path("UnaryUnary"))(b"x")
            assert await asyncio.wait_for(call.code(), 20) is StatusCode.UNAVAILABLE
            assert why in await call.details()
    plugins_end()


def plugins_end() -> None:
    """Their threads may be a little slower than what they say."""
    for thread in threading.enumerate():
        if thread.name.startswith("oxgrpc"):
            thread.join(20)
