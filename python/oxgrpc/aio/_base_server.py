"""The abstract classes of the asynchronous API's servers."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, NoReturn

from .. import _native
from .._interfaces import GenericRpcHandler, RpcMethodHandler, Status
from .._metadatum import _Metadatum
from .._status import Compression, StatusCode
from ._errors import EOFType
from ._typing import DoneCallbackType, MetadataType, RequestType, ResponseType

if TYPE_CHECKING:
    from .._credentials import ServerCredentials


class Server(abc.ABC):
    """Serves calls."""

    @abc.abstractmethod
    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[GenericRpcHandler]) -> None:
        """Adds handlers that are asked, in their order, who handles a call. Only before :meth:`start`."""

    def add_registered_method_handlers(  # noqa: B027
        self, service_name: str, method_handlers: Mapping[str, RpcMethodHandler]
    ) -> None:
        """Adds handlers for the methods of a service, by their names; they come before generic ones."""

    @abc.abstractmethod
    def add_insecure_port(self, address: str) -> int:
        """Listens without encryption. Only before :meth:`start`.

        Args:
          address: ``host:port``, ``[::]:port`` for IPv6 and IPv4, ``unix:path``, ``unix-abstract:name``.

        Returns:
          The port, which is chosen if the address has 0 or none; 1 for a Unix socket.

        Raises:
          RuntimeError: it is not possible to listen there.
        """

    @abc.abstractmethod
    def add_secure_port(self, address: str, server_credentials: ServerCredentials) -> int:
        """Listens with encryption."""

    @abc.abstractmethod
    async def start(self) -> None:
        """Begins to serve, on the running loop. Once only."""

    @abc.abstractmethod
    async def stop(self, grace: float | None = None) -> None:
        """Stops: nothing new is accepted, and calls that are under way are cancelled.

        Args:
          grace: seconds for which they may go on before that. The shortest that is given counts.
        """

    @abc.abstractmethod
    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        """Waits until the server has stopped.

        Args:
          timeout: seconds to wait at most.

        Returns:
          Whether the time was up before: ``False`` says that the server has stopped.
        """


class ServicerContext(Generic[RequestType, ResponseType], abc.ABC):
    """A call as its handler sees it."""

    @abc.abstractmethod
    async def read(self) -> EOFType | RequestType:
        """The next request, ``EOF`` at the end."""

    @abc.abstractmethod
    async def write(self, message: ResponseType) -> None:
        """Sends a response; done when it is within the client's flow-control windows.

        Raises:
          UsageError: the call is over.
        """

    @abc.abstractmethod
    async def send_initial_metadata(self, initial_metadata: MetadataType) -> None:
        """Sends the initial metadata now; otherwise it goes, empty, with the first response.

        Raises:
          UsageError: it has been sent.
        """

    @abc.abstractmethod
    async def abort(self, code: StatusCode, details: str = "", trailing_metadata: MetadataType = ()) -> NoReturn:
        """Ends the call with a status and raises AbortError, which the handler is to let pass.

        Args:
          code: not OK, which would become UNKNOWN.
          details: the status message, in place of what ``set_details`` was given.
          trailing_metadata: in place of what ``set_trailing_metadata`` was given.
        """

    @abc.abstractmethod
    async def abort_with_status(self, status: Status) -> NoReturn:
        """Ends the call as :meth:`abort` does, with what ``status`` holds."""

    @abc.abstractmethod
    def set_trailing_metadata(self, trailing_metadata: MetadataType) -> None:
        """Sets the metadata that goes with the status."""

    @abc.abstractmethod
    def invocation_metadata(self) -> Sequence[_Metadatum]:
        """The client's metadata, as pairs that have ``key`` and ``value``."""

    @abc.abstractmethod
    def set_code(self, code: StatusCode) -> None:
        """Sets the status code for when the handler returns. With another code than OK a unary response is not sent."""

    @abc.abstractmethod
    def set_details(self, details: str) -> None:
        """Sets the status message for when the handler returns."""

    @abc.abstractmethod
    def set_compression(self, compression: Compression) -> None:
        """Sets how responses are compressed. Only before the first response and the initial metadata."""

    @abc.abstractmethod
    def disable_next_message_compression(self) -> None:
        """Sends the next response as it is."""

    @abc.abstractmethod
    def peer(self) -> str:
        """The client's address: ``ipv4:…``, ``ipv6:…`` or ``unix:…``."""

    @abc.abstractmethod
    def peer_identities(self) -> Iterable[bytes] | None:
        """Who the client has proved to be; ``None`` without encryption."""

    @abc.abstractmethod
    def peer_identity_key(self) -> str | None:
        """Where in :meth:`auth_context` the identities come from; ``None`` without encryption."""

    @abc.abstractmethod
    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """What the transport knows of the client; empty without encryption."""

    def time_remaining(self) -> float | None:
        """Seconds until the client's deadline, not less than 0; ``None`` if it has none."""
        raise NotImplementedError

    def trailing_metadata(self) -> MetadataType:
        """What ``set_trailing_metadata`` was given."""
        raise NotImplementedError

    def code(self) -> StatusCode | None:
        """The code that was set, ``None`` if none was."""
        raise NotImplementedError

    def details(self) -> str:
        """The details that were set, empty if none were."""
        raise NotImplementedError

    def add_done_callback(self, callback: DoneCallbackType) -> None:
        """Calls ``callback(context)`` when the call is over; at once if it is."""
        raise NotImplementedError

    def cancelled(self) -> bool:
        """Whether the call was over before it was finished: cancelled, too late, or its client gone."""
        raise NotImplementedError

    def done(self) -> bool:
        """Whether the call is over."""
        raise NotImplementedError


ServicerContext.register(_native.ServicerContext)
