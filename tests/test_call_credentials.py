"""Call credentials: what a call carries to prove who makes it, and the plugins that say what that is."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import types
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import echo
import oxgrpc as grpc
from certificates import authority, localhost
from oxgrpc import _auth, aio


@pytest.fixture(autouse=True)
def plugins_end(leak_guard: None) -> Iterator[None]:
    """A plugin may still be on its way out when its call has ended."""
    yield
    join()


def join() -> None:
    """Waits for the threads in which plugins run."""
    for thread in threading.enumerate():
        if thread.name.startswith("oxgrpc "):
            thread.join()


async def carried(request: bytes, context: aio.ServicerContext) -> bytes:
    """What the call carries."""
    return repr([tuple(pair) for pair in context.invocation_metadata() if pair[0] != "user-agent"]).encode()


@asynccontextmanager
async def secured(*of_channel: grpc.CallCredentials, **more: Any) -> AsyncIterator[echo.Service]:
    channel = grpc.ssl_channel_credentials(authority().pem)
    if of_channel:
        channel = grpc.composite_channel_credentials(channel, *of_channel)
    async with echo.serving(
        server_credentials=grpc.ssl_server_credentials([localhost().pair]),
        channel_credentials=channel,
        **{"UnaryUnary": carried, **more},
    ) as service:
        yield service


class Plugin(grpc.AuthMetadataPlugin):
    """A plugin that is a function of a test's."""

    def __init__(self, function: Callable[[Any, Any], None]) -> None:
        self.function = function

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        self.function(context, callback)


def plugin(function: Callable[[Any, Any], None], name: str | None = None) -> grpc.CallCredentials:
    return grpc.metadata_call_credentials(Plugin(function), name)


def giving(key: str, value: str | bytes) -> grpc.CallCredentials:
    return plugin(lambda context, callback: callback(((key, value),), None))


async def failure(call: Any) -> tuple[str, str]:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value.code().name, caught.value.details()


async def test_a_token() -> None:
    async with secured() as service:
        token = grpc.access_token_call_credentials("abc")
        assert eval(await service.unary_unary(b"", credentials=token)) == [("authorization", "Bearer abc")]
        assert eval(await service.unary_unary(b"")) == []


async def test_the_channels_come_first() -> None:
    of_channel = grpc.access_token_call_credentials("channel"), giving("x-two", "2")
    async with secured(*of_channel) as service:
        own = grpc.composite_call_credentials(giving("x-three", "3"), grpc.access_token_call_credentials("own"))
        assert eval(await service.unary_unary(b"", metadata=(("x-zero", "0"),), credentials=own)) == [
            ("x-zero", "0"),
            ("authorization", "Bearer channel"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("authorization", "Bearer own"),
        ]
        assert len(eval(await service.unary_unary(b""))) == 2


async def test_composites_of_composites() -> None:
    token = grpc.access_token_call_credentials
    inner = grpc.composite_call_credentials(token("a"), token("b"))
    outer = grpc.composite_call_credentials(inner, token("c"))
    async with secured() as service:
        sent = eval(await service.unary_unary(b"", credentials=outer))
        assert [value for _, value in sent] == ["Bearer a", "Bearer b", "Bearer c"]


async def test_what_a_plugin_is_told() -> None:
    told: list[Any] = []

    def tell(context: Any, callback: Any) -> None:
        told.append((context.service_url, context.method_name, threading.current_thread() is threading.main_thread()))
        assert isinstance(context, grpc.AuthMetadataContext)
        assert isinstance(callback, grpc.AuthMetadataPluginCallback)
        callback((), None)

    async with secured() as service:
        await service.unary_unary(b"", credentials=plugin(tell))
        assert told.pop() == (f"https://{service.target}/{echo.SERVICE}", "UnaryUnary", False)
        options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.default_authority", "localhost:443")]
        credentials = grpc.ssl_channel_credentials(authority().pem)
        async with aio.secure_channel(service.target, credentials, options=options) as channel:
            await channel.unary_unary(echo.path("UnaryUnary"))(b"", credentials=plugin(tell))
        assert told.pop() == (f"https://localhost/{echo.SERVICE}", "UnaryUnary", False)


async def test_a_plugin_runs_in_the_context_of_its_credentials() -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    def tell(context: Any, callback: Any) -> None:
        callback((("x-variable", variable.get()),), None)
        variable.set("changed")

    variable.set("made")
    credentials = plugin(tell)
    variable.set("called")
    async with secured() as service:
        for _ in range(2):
            assert eval(await service.unary_unary(b"", credentials=credentials)) == [("x-variable", "made")]


async def test_all_kinds_of_calls() -> None:
    seen: list[Any] = []

    def note(context: aio.ServicerContext) -> None:
        seen.append(dict(context.invocation_metadata())["x-plugin"])

    async def unary_stream(request: bytes, context: aio.ServicerContext) -> AsyncIterator[bytes]:
        note(context)
        yield request

    async def stream_unary(requests: AsyncIterator[bytes], context: aio.ServicerContext) -> bytes:
        note(context)
        return b"".join([request async for request in requests])

    async def stream_stream(requests: AsyncIterator[bytes], context: aio.ServicerContext) -> AsyncIterator[bytes]:
        note(context)
        async for request in requests:
            yield request

    credentials = giving("x-plugin", "yes")
    async with secured(UnaryStream=unary_stream, StreamUnary=stream_unary, StreamStream=stream_stream) as service:
        assert [r async for r in service.unary_stream(b"a", credentials=credentials)] == [b"a"]
        assert await service.stream_unary(iter([b"a", b"b"]), credentials=credentials) == b"ab"
        assert [r async for r in service.stream_stream(iter([b"a", b"b"]), credentials=credentials)] == [b"a", b"b"]
        call = service.stream_stream(credentials=credentials)
        await call.write(b"by hand")
        assert await call.read() == b"by hand"
        await call.done_writing()
        assert await call.read() is aio.EOF
        call = service.stream_unary(credentials=credentials)
        await call.done_writing()
        assert await call == b""
    assert seen == ["yes"] * 5


async def test_binary_metadata_and_none() -> None:
    async with secured() as service:
        binary = giving("x-token-bin", bytes(range(256)))
        assert eval(await service.unary_unary(b"", credentials=binary)) == [("x-token-bin", bytes(range(256)))]
        nothing = plugin(lambda context, callback: callback(None, None))
        assert eval(await service.unary_unary(b"", credentials=nothing)) == []


async def test_a_plugin_that_answers_later_from_another_thread() -> None:
    threads: list[threading.Thread] = []

    def later(context: Any, callback: Any) -> None:
        thread = threading.Thread(target=callback, args=((("x-later", "yes"),), None))
        threads.append(thread)
        thread.start()

    async with secured() as service:
        calls = [service.unary_unary(b"", credentials=plugin(later)) for _ in range(20)]
        assert [eval(response) for response in await asyncio.gather(*calls)] == [[("x-later", "yes")]] * 20
    for thread in threads:
        thread.join()


async def test_a_plugin_that_takes_its_time_holds_nobody_up() -> None:
    release, asked = threading.Event(), threading.Event()

    def slow(context: Any, callback: Any) -> None:
        asked.set()
        release.wait()
        callback((("x-slow", "yes"),), None)

    async with secured() as service:
        call = service.unary_unary(b"", credentials=plugin(slow))
        await asyncio.to_thread(asked.wait)
        assert await service.unary_unary(b"") == b"[]"
        assert not call.done()
        release.set()
        assert eval(await call) == [("x-slow", "yes")]


async def test_only_the_first_answer_counts() -> None:
    complaints: list[str] = []

    def twice(context: Any, callback: Any) -> None:
        callback((("x-first", "yes"),), None)
        for again in ((("x-second", "yes"),), None), (None, ValueError("late")):
            with pytest.raises(RuntimeError) as caught:
                callback(*again)
            complaints.append(str(caught.value))

    async with secured() as service:
        assert eval(await service.unary_unary(b"", credentials=plugin(twice))) == [("x-first", "yes")]
        await asyncio.to_thread(join)
    assert complaints == ["AuthMetadataPluginCallback invoked more than once!"] * 2


async def test_a_plugin_that_has_an_error() -> None:
    credentials = plugin(lambda context, callback: callback(None, ValueError("no token")))
    async with secured() as service:
        assert await failure(service.unary_unary(b"", credentials=credentials)) == (
            "UNAVAILABLE",
            "Getting metadata from plugin failed with error: no token",
        )
        # The others of a composite are not asked.
        both = grpc.composite_call_credentials(credentials, plugin(lambda context, callback: pytest.fail("asked")))
        assert (await failure(service.unary_unary(b"", credentials=both)))[0] == "UNAVAILABLE"


async def test_a_plugin_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    late: list[Any] = []

    def fail(context: Any, callback: Any) -> None:
        late.append(callback)
        raise ValueError("broken")

    async with secured() as service:
        assert await failure(service.unary_unary(b"", credentials=plugin(fail, "my plugin"))) == (
            "UNAVAILABLE",
            "Getting metadata from plugin failed with error: broken",
        )
        await asyncio.to_thread(join)
        with pytest.raises(RuntimeError, match="raised exception"):
            late.pop()((), None)
    assert 'AuthMetadataPluginCallback "my plugin" raised exception!' in caplog.text


async def test_a_plugin_that_raises_after_its_answer() -> None:
    def fail(context: Any, callback: Any) -> None:
        callback((("x-first", "yes"),), None)
        raise ValueError("broken")

    async with secured() as service:
        assert eval(await service.unary_unary(b"", credentials=plugin(fail))) == [("x-first", "yes")]
        await asyncio.to_thread(join)


@pytest.mark.parametrize("metadata", [(("Bad Key", "1"),), (("x-a", "new\nline"),), (("x-a-bin", "text"),), 7, ("ab",)])
async def test_metadata_that_cannot_be_sent(metadata: Any) -> None:
    async with secured() as service:
        credentials = plugin(lambda context, callback: callback(metadata, None))
        assert (await failure(service.unary_unary(b"", credentials=credentials)))[0] == "UNAVAILABLE"
        assert await service.unary_unary(b"") == b"[]"


@asynccontextmanager
async def silent(service: echo.Service, **options: Any) -> AsyncIterator[Any]:
    """A call whose plugin answers when the block has ended."""
    callbacks: list[Any] = []
    asked = threading.Event()

    def never(context: Any, callback: Any) -> None:
        callbacks.append(callback)
        asked.set()

    call = service.unary_unary(b"", credentials=plugin(never), **options)
    await asyncio.to_thread(asked.wait)
    yield call
    # It is too late, and nobody minds.
    callbacks.pop()((("x-late", "yes"),), None)
    await asyncio.sleep(0)


async def test_the_deadline_passes_while_a_plugin_thinks() -> None:
    async with secured() as service, silent(service, timeout=0.1) as call:
        assert await failure(call) == ("DEADLINE_EXCEEDED", "Deadline Exceeded")


async def test_a_call_is_cancelled_while_a_plugin_thinks() -> None:
    async with secured() as service:
        async with silent(service) as call:
            assert call.cancel()
            assert await call.code() is grpc.StatusCode.CANCELLED
        async with silent(service) as call:
            waiting = asyncio.ensure_future(asyncio.wait_for(call, 0.05))
            with pytest.raises(asyncio.TimeoutError):
                await waiting
            assert call.cancelled()


async def test_a_channel_is_closed_while_a_plugin_thinks() -> None:
    async with secured() as service, silent(service) as call:
        await service.channel.close()
        assert await call.code() is grpc.StatusCode.CANCELLED


async def test_many_calls_with_plugins_at_once() -> None:
    async with secured(giving("x-channel", "yes")) as service:
        calls = (service.unary_unary(b"", credentials=giving("x-number", f"{number}")) for number in range(200))
        for number, response in enumerate(await asyncio.gather(*calls)):
            assert eval(response) == [("x-channel", "yes"), ("x-number", f"{number}")]


async def test_what_is_no_call_credentials() -> None:
    async with secured() as service:
        for wrong in (object(), grpc.ssl_channel_credentials(authority().pem), "token"):
            with pytest.raises(TypeError, match="credentials are a CallCredentials"):
                service.unary_unary(b"", credentials=wrong)
    with pytest.raises(TypeError, match="a plugin is callable"):
        grpc.metadata_call_credentials(None)
    with pytest.raises(ValueError, match="no call credentials"):
        grpc.composite_call_credentials()
    from oxgrpc.experimental import insecure_channel_credentials

    with pytest.raises(ValueError, match="for secure channels only"):
        grpc.composite_channel_credentials(insecure_channel_credentials(), grpc.access_token_call_credentials("x"))


async def test_google_credentials() -> None:
    """What `oauth2client` and its like give: an object with `get_access_token`."""

    class Simple:
        def get_access_token(self) -> Any:
            return types.SimpleNamespace(access_token="simple")

    class Signing:
        def get_access_token(self, additional_claims: Any = None) -> Any:
            return types.SimpleNamespace(access_token=additional_claims["aud"])

    class Broken:
        def get_access_token(self) -> Any:
            raise ValueError("expired")

    async with secured() as service:

        def call(credentials: Any) -> Any:
            made = grpc.metadata_call_credentials(_auth.GoogleCallCredentials(credentials))
            return service.unary_unary(b"", credentials=made)

        assert eval(await call(Simple())) == [("authorization", "Bearer simple")]
        url = f"https://{service.target}/{echo.SERVICE}"
        assert eval(await call(Signing())) == [("authorization", f"Bearer {url}")]
        assert await failure(call(Broken())) == (
            "UNAVAILABLE",
            "Getting metadata from plugin failed with error: expired",
        )


async def test_tokens_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with secured() as service:
        await service.unary_unary(b"", credentials=grpc.access_token_call_credentials("very-secret"))
    assert "very-secret" not in caplog.text
