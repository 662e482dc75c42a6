"""Servers of the asynchronous API."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING

from .. import _native
from .._common import fully_qualified_method
from .._interfaces import GenericRpcHandler, HandlerCallDetails, RpcMethodHandler
from .._status import Compression
from .._utilities import DictionaryGenericHandler
from . import _base_server
from ._typing import ChannelArgumentType

if TYPE_CHECKING:
    from .._credentials import ServerCredentials
    from ._interceptor import ServerInterceptor


#: Seconds that a client without calls gets to learn that the server goes away: one that is stuck is not waited for.
FAREWELL_SECONDS = 1.0


class Server(_base_server.Server):
    """A server, with its native part. One that serves and that nobody holds any more stops."""

    #: Where it serves.
    _loop: asyncio.AbstractEventLoop | None = None

    def __init__(
        self,
        migration_thread_pool: Executor | None,
        handlers: Sequence[GenericRpcHandler] | None,
        interceptors: Sequence[ServerInterceptor] | None,
        options: ChannelArgumentType | None,
        maximum_concurrent_rpcs: int | None,
        compression: Compression | None,
    ) -> None:
        self._native = _native.Server(migration_thread_pool, options, maximum_concurrent_rpcs, compression)
        if interceptors:
            from ._interceptor import ServerInterceptor

            invalid = [interceptor for interceptor in interceptors if not isinstance(interceptor, ServerInterceptor)]
            if invalid:
                raise ValueError(f"Interceptor must be ServerInterceptor, the following are invalid: {invalid}")
            self._native.intercept(partial(_intercept, tuple(interceptors), 0))
        self._stopped = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None
        self._deadline: float | None = None
        self.add_generic_rpc_handlers(handlers or ())

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[GenericRpcHandler]) -> None:
        for handler in generic_rpc_handlers:
            if not hasattr(handler, "service"):
                raise AttributeError(f"{handler!r} is no generic handler: it has no method 'service'")
            if type(handler) is DictionaryGenericHandler:
                for path, method_handler in handler._method_handlers.items():
                    # The first that was added for a path is the one that is asked.
                    if self._native.is_settled(path):
                        self._native.add_generic(handler)
                        break
                    self._native.register(path, method_handler)
            else:
                self._native.add_generic(handler)

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, RpcMethodHandler]
    ) -> None:
        for method, handler in method_handlers.items():
            self._native.register(fully_qualified_method(service_name, method), handler)

    def add_insecure_port(self, address: str) -> int:
        return self._native.listen(address)

    def add_secure_port(self, address: str, server_credentials: ServerCredentials) -> int:
        from .._credentials import ServerCredentials

        if not isinstance(server_credentials, ServerCredentials):
            raise TypeError(f"credentials are a ServerCredentials, not {type(server_credentials).__name__}")
        return self._native.listen(address, server_credentials._credentials)

    async def start(self) -> None:
        self._native.start()
        self._loop = asyncio.get_running_loop()

    async def stop(self, grace: float | None = None) -> None:
        if self._deadline is None and not self._native.is_running():
            self._end()
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (grace or 0)
        if self._deadline is None or deadline < self._deadline:
            self._deadline = deadline
            if self._stopping is not None:
                self._stopping.cancel()
            self._stopping = loop.create_task(self._stop(deadline))
            self._stopping.add_done_callback(self._stopping_ended)
        await self._stopped.wait()

    async def _stop(self, deadline: float) -> None:
        """Stops accepting, waits for calls until the deadline, and ends what is left."""
        self._native.stop_accepting()
        with contextlib.suppress(asyncio.TimeoutError):
            await self._drain(deadline)
        self._native.close()
        # Handlers that were cancelled get to their ends.
        await asyncio.sleep(0)

    async def _drain(self, deadline: float) -> None:
        """Waits until no call is under way, and none can be on its way: its client may not know yet that we go away."""
        loop = asyncio.get_running_loop()
        while (grace := deadline - loop.time()) > 0:
            await asyncio.wait_for(self._native.wait_for_idle(), grace)
            farewell = min(deadline - loop.time(), FAREWELL_SECONDS)
            try:
                await asyncio.wait_for(self._native.wait_for_idle(drained=True), farewell)
            except asyncio.TimeoutError:
                if self._native.is_idle():
                    return
            else:
                return

    def _stopping_ended(self, stopping: asyncio.Task[None]) -> None:
        """Whoever waits is told, even if the task was cancelled with all others of its loop, before its first step."""
        if stopping is self._stopping:
            self._end()

    def _end(self) -> None:
        try:
            self._native.close()
        finally:
            self._stopped.set()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        if self._stopped.is_set():
            return False
        try:
            await asyncio.wait_for(self._stopped.wait(), timeout)
        except asyncio.TimeoutError:
            return True
        return False

    def __del__(self) -> None:
        # The connections and the loop hold the native part: without this they would serve for ever.
        if self._loop is not None and not self._loop.is_closed() and self._native.is_running():
            self._loop.call_soon_threadsafe(self._native.close)


async def _intercept(
    interceptors: tuple[ServerInterceptor, ...],
    index: int,
    find_handler: Callable[[HandlerCallDetails], RpcMethodHandler | None],
    handler_call_details: HandlerCallDetails,
) -> RpcMethodHandler | None:
    """Runs the interceptor that has this place in the chain; behind the last one the server's handlers are asked."""
    if index == len(interceptors):
        return find_handler(handler_call_details)
    continuation = partial(_intercept, interceptors, index + 1, find_handler)
    return await interceptors[index].intercept_service(continuation, handler_call_details)


def server(
    migration_thread_pool: Executor | None = None,
    handlers: Sequence[GenericRpcHandler] | None = None,
    interceptors: Sequence[ServerInterceptor] | None = None,
    options: ChannelArgumentType | None = None,
    maximum_concurrent_rpcs: int | None = None,
    compression: Compression | None = None,
) -> Server:
    """A server. Needs no running loop; serves on the loop that starts it.

    Args:
      migration_thread_pool: where handlers run that are plain functions; the loop's default executor if ``None``.
      handlers: generic handlers, as :meth:`Server.add_generic_rpc_handlers` takes them.
      interceptors: server interceptors, the outermost first. They run for each call, in its task.
      options: pairs of ``grpc.*`` names and values, as grpcio takes them. ``oxgrpc.max_connections`` and
        ``oxgrpc.max_connections_per_peer`` limit the connections in all and from one IP address. Others are closed.
      maximum_concurrent_rpcs: how many handlers run at once; further calls end with RESOURCE_EXHAUSTED. A handler
        counts until it has ended, even if its call is over and it only cleans up.
      compression: how responses are compressed unless a handler says otherwise.
    """
    return Server(migration_thread_pool, handlers, interceptors, options, maximum_concurrent_rpcs, compression)
