"""What every call of a client has in common: target, credentials, default deadline, metadata; and one channel a loop.

A channel of genuine grpcio belongs to the event loop that it was made on. So each loop that uses a client gets a
connection of its own when it first does, which makes one client safe to use from several tasks, threads and loops.
"""

from __future__ import annotations

import asyncio
import enum
import threading
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Union

import grpc
import grpc.aio

from .gateway_pb2_grpc import GatewayStub
from .pubsub_pb2_grpc import PubsubStub
from .state_pb2_grpc import StateStub

if TYPE_CHECKING:
    from ._replies import ReplyStream

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class Unset(enum.Enum):
    """The type of :data:`UNSET`."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


#: Stands for "as the client was told", where ``None`` means "without".
UNSET = Unset.UNSET

#: Seconds, ``None`` for no deadline, or what the client was told.
Timeout = Union[float, None, Unset]

#: gRPC metadata, as a mapping or as pairs.
Metadata = Union[Mapping[str, Union[str, bytes]], Iterable[tuple[str, Union[str, bytes]]]]

#: The deadline of a unary call. The gateway's own for a backend is 30 s: its answer, which says more, comes first.
DEFAULT_TIMEOUT_SECONDS = 60.0

#: Options of every channel; those of the caller come after them and win.
#:
#: Connections are retried every 5 s at the latest, where grpc's default is 2 minutes. A connection with a call on it is
#: probed every minute, so that a subscription notices a peer that has vanished. State may exceed 4 MiB in sum.
CHANNEL_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 30_000),
    ("grpc.max_receive_message_length", -1),
)


def pairs(metadata: Metadata | None) -> tuple[tuple[str, str | bytes], ...]:
    """Returns metadata as pairs."""
    if metadata is None:
        return ()
    return tuple(metadata.items() if isinstance(metadata, Mapping) else metadata)


def target_of(host: str, port: int) -> str:
    """Returns what gRPC takes for a host and a port; an IPv6 address gets its brackets."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


@dataclass(frozen=True)
class Settings:
    """What a client was told. Its repr keeps the secrets."""

    target: str
    credentials: grpc.ChannelCredentials | None = field(default=None, repr=False)
    timeout: float | None = DEFAULT_TIMEOUT_SECONDS
    metadata: tuple[tuple[str, str | bytes], ...] = field(default=(), repr=False)
    options: tuple[tuple[str, Any], ...] = ()

    def channel(self) -> grpc.aio.Channel:
        options = (*CHANNEL_OPTIONS, *self.options)
        if self.credentials is None:
            return grpc.aio.insecure_channel(self.target, options=options)
        return grpc.aio.secure_channel(self.target, self.credentials, options=options)


def cancelled_from_outside() -> bool:
    """Whether the running task was cancelled, rather than the call that it waits for."""
    task = asyncio.current_task()
    cancelling = getattr(task, "cancelling", None)  # Python 3.11
    return cancelling is not None and bool(cancelling())


class _Closable(Protocol):
    async def aclose(self) -> None: ...


class Connection:
    """The channel of one event loop, and what is open on it."""

    def __init__(self, channel: grpc.aio.Channel, settings: Settings, *, owned: bool = True) -> None:
        self.channel = channel
        self.gateway = GatewayStub(channel)
        self.state = StateStub(channel)
        self.pubsub = PubsubStub(channel)
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        #: Streams and subscriptions that end with the connection.
        self.open: set[_Closable] = set()
        #: Reply streams by topic.
        self.replies: dict[str, ReplyStream] = {}
        #: Subscriptions that are not live yet, each with its topics (empty for all): a publish waits for them.
        self.opening: dict[asyncio.Future[None], frozenset[str]] = {}
        #: ``async with`` blocks on this loop.
        self.entered = 0
        self.closed = False
        self._owned = owned

    def metadata(self, more: Metadata | None) -> tuple[tuple[str, str | bytes], ...]:
        """Returns the client's metadata and a call's."""
        return (*self.settings.metadata, *pairs(more))

    def timeout(self, timeout: Timeout) -> float | None:
        """Returns the deadline of a call in seconds from now."""
        return self.settings.timeout if isinstance(timeout, Unset) else timeout

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Answer],
        request: Request,
        timeout: Timeout = UNSET,
        metadata: Metadata | None = None,
    ) -> Answer:
        """Makes a unary call.

        Raises:
          grpc.RpcError: it failed.
          RuntimeError: the client was closed meanwhile.
        """
        with self.closing_told():
            return await method(request, timeout=self.timeout(timeout), metadata=self.metadata(metadata))

    @contextmanager
    def closing_told(self) -> Iterator[None]:
        """Raises RuntimeError where a channel that is closed would have the caller look cancelled."""
        try:
            yield
        except asyncio.CancelledError as error:
            if not self.closed or cancelled_from_outside():
                raise
            raise RuntimeError("the client was closed while it waited for the gateway") from error

    async def aclose(self) -> None:
        """Ends what is open and closes the channel."""
        self.closed = True
        while self.open:
            await asyncio.gather(*(stream.aclose() for stream in tuple(self.open)))
        if self._owned:
            await self.channel.close()


class Connections:
    """The connections of a client, one a loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        #: Names of registered services, as last heard; for `event.service` and for `dir`.
        self.services: dict[str, None] = {}
        #: Method names by service, as last heard.
        self.methods: dict[str, tuple[str, ...]] = {}
        self._by_loop: dict[asyncio.AbstractEventLoop, Connection] = {}
        self._closed = False
        self._lock = threading.Lock()

    def current(self) -> Connection:
        """Returns the running loop's connection, which is made when it is first asked for.

        Raises:
          RuntimeError: no loop is running here, or the client is closed.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._closed:
                raise RuntimeError("the client is closed: enter it again with `async with`, or make another one")
            found = self._by_loop.get(loop)
            if found is None:
                for gone in [loop for loop in self._by_loop if loop.is_closed()]:
                    del self._by_loop[gone]
                found = self._by_loop[loop] = Connection(self.settings.channel(), self.settings)
            return found

    def enter(self) -> None:
        """Begins an ``async with`` block."""
        with self._lock:
            self._closed = False
        self.current().entered += 1

    async def leave(self) -> None:
        """Ends an ``async with`` block: the loop's last one closes its connection."""
        with self._lock:
            connection = self._by_loop.get(asyncio.get_running_loop())
            if connection is None:
                return
            connection.entered -= 1
            if connection.entered > 0:
                return
            del self._by_loop[connection.loop]
            self._closed = not self._by_loop
        await connection.aclose()

    async def close(self) -> None:
        """Closes the connections of all loops; a loop that is not running any more has its own dropped."""
        with self._lock:
            self._closed = True
            connections = tuple(self._by_loop.values())
            self._by_loop.clear()
        here = asyncio.get_running_loop()
        await asyncio.gather(
            *(
                connection.aclose()
                if connection.loop is here
                else asyncio.wrap_future(asyncio.run_coroutine_threadsafe(connection.aclose(), connection.loop))
                for connection in connections
                if connection.loop is here or connection.loop.is_running()
            )
        )


class Borrowed(Connections):
    """The one connection of a channel that somebody else made, and closes."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        super().__init__(Settings(target=""))
        self._channel = channel
        self._borrowed: Connection | None = None

    def current(self) -> Connection:
        if self._borrowed is None:
            self._borrowed = Connection(self._channel, self.settings, owned=False)
        return self._borrowed


def connections_of(channel: grpc.aio.Channel | Connections) -> Connections:
    """Returns the connections behind a client's part: those of an ApiClient, or of a channel alone."""
    return channel if isinstance(channel, Connections) else Borrowed(channel)


async def before(deadline: float | None, waited_for: Awaitable[Answer]) -> Answer:
    """Waits until a time of the loop's clock.

    Unlike `asyncio.wait_for` until Python 3.12, it never swallows a cancellation that comes together with the answer.

    Raises:
      TimeoutError: the built-in one, on Python 3.10 too.
    """
    if deadline is None:
        return await waited_for
    future = asyncio.ensure_future(waited_for)
    try:
        await asyncio.wait((future,), timeout=max(0.0, deadline - asyncio.get_running_loop().time()))
        if future.done():
            return future.result()
    finally:
        if not future.done():
            future.cancel()
            await asyncio.wait((future,))
        if not future.cancelled():
            future.exception()  # It is told, or the caller was cancelled and does not want to know.
    raise TimeoutError
