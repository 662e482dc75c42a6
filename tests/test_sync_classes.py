"""The synchronous API's abstract classes, subclassed as packages do that only need the classes."""

from __future__ import annotations

import collections
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import oxgrpc as grpc
from oxgrpc import experimental


class Ended(grpc.RpcError, grpc.Call, grpc.Future[bytes]):
    """An error that is the call and its future, too: what a failed call is in grpcio."""

    def initial_metadata(self) -> Any:
        return ()

    def trailing_metadata(self) -> Any:
        return (("k", "v"),)

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.NOT_FOUND

    def details(self) -> str:
        return "none"

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> None:
        return None

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def running(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def result(self, timeout: float | None = None) -> bytes:
        raise self

    def exception(self, timeout: float | None = None) -> Exception:
        return self

    def traceback(self, timeout: float | None = None) -> None:
        return None

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        fn(self)


def test_an_error_can_be_the_call_too() -> None:
    error = Ended()
    with pytest.raises(grpc.RpcError) as caught:
        error.result()
    assert caught.value is error
    assert isinstance(error, grpc.Call)
    assert isinstance(error, grpc.Future)
    assert isinstance(error, grpc.RpcContext)
    done: list[Any] = []
    error.add_done_callback(done.append)
    assert done == [error]


def test_a_class_that_lacks_a_method_cannot_be_instantiated() -> None:
    class Unfinished(Ended):
        result = grpc.Future.result

    assert inspect.isabstract(Unfinished)
    for declared in (grpc.Call, grpc.Channel, grpc.Future, grpc.Server, grpc.ServicerContext, grpc.ServerInterceptor):
        with pytest.raises(TypeError, match="abstract"):
            declared()


def test_call_details_can_be_a_named_tuple() -> None:
    fields = ("method", "timeout", "metadata", "credentials", "wait_for_ready", "compression")

    class Details(collections.namedtuple("Details", fields), grpc.ClientCallDetails):
        pass

    details = Details("/s/m", 1.0, None, None, True, grpc.Compression.Gzip)
    assert isinstance(details, grpc.ClientCallDetails)
    assert details._replace(timeout=2.0).timeout == 2.0


def test_a_channel_that_wraps_nothing() -> None:
    class Method(grpc.UnaryStreamMultiCallable[int, int]):
        def __call__(self, request: int, *_: Any, **__: Any) -> Any:
            return iter(range(request))

    assert list(Method()(3)) == [0, 1, 2]

    class Channel(grpc.Channel):
        unary_unary = unary_stream = stream_unary = stream_stream = lambda self, *_, **__: Method()
        subscribe = unsubscribe = close = lambda self, *_: None

    with pytest.raises(NotImplementedError), Channel():
        pass
    assert list(Channel().unary_stream("/s/m")(1)) == [0]


def test_details_of_a_call_are_known_by_their_attributes() -> None:
    class Details:
        method = "/s/m"
        invocation_metadata = ()

    assert isinstance(Details(), grpc.HandlerCallDetails)
    assert not isinstance(object(), grpc.HandlerCallDetails)


def test_a_server_interceptor_asks_the_next() -> None:
    class Refuses(grpc.ServerInterceptor):
        def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            return None if handler_call_details.method == "/s/secret" else continuation(handler_call_details)

    class Details:
        def __init__(self, method: str) -> None:
            self.method = method
            self.invocation_metadata = ()

    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    service = grpc.method_handlers_generic_handler("s", {"open": handler, "secret": handler}).service
    assert Refuses().intercept_service(service, Details("/s/open")) is handler
    assert Refuses().intercept_service(service, Details("/s/secret")) is None


def _one(request: Any, context: Any) -> Any:
    return request


def _many(request: Any, context: Any) -> Iterator[Any]:
    yield request


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
def test_the_function_of_a_method_handler_can_be_wrapped(kind: str) -> None:
    function = _many if kind.endswith("stream") else _one
    handler = getattr(grpc, f"{kind}_rpc_method_handler")(function, bytes.decode, str.encode)

    def wrapper(wrapped: Any) -> Any:
        assert wrapped is function
        return lambda request, context: ("wrapped", wrapped(request, context))

    wrapped = experimental.wrap_server_method_handler(wrapper, handler)
    assert getattr(wrapped, kind)(1, None)[0] == "wrapped"
    assert wrapped._replace(**{kind: function}) == handler
    assert experimental.wrap_server_method_handler(wrapper, None) is None


def test_experimental_names() -> None:
    assert experimental.ChannelOptions.SingleThreadedUnaryStream == "SingleThreadedUnaryStream"
    assert issubclass(experimental.ExperimentalApiWarning, Warning)
    assert issubclass(experimental.UsageError, Exception)
