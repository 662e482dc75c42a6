"""The abstract classes of the synchronous API's servers."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ._interfaces import GenericRpcHandler, RpcContext, RpcMethodHandler, Status
from ._metadatum import _Metadatum
from ._status import Compression, StatusCode
from ._typing import MetadataType, MetadatumType

if TYPE_CHECKING:
    import threading

    from ._credentials import ServerCredentials


class Server(abc.ABC):
    """Serves calls."""

    @abc.abstractmethod
    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[GenericRpcHandler]) -> None:
        """Adds handlers that are asked, in their order, who handles a call. Only before :meth:`start`."""
        raise NotImplementedError

    def add_registered_method_handlers(  # noqa: B027
        self, service_name: str, method_handlers: Mapping[str, RpcMethodHandler[Any, Any]]
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
        raise NotImplementedError

    @abc.abstractmethod
    def add_secure_port(self, address: str, server_credentials: ServerCredentials) -> int:
        """Listens with encryption, otherwise as :meth:`add_insecure_port` does."""
        raise NotImplementedError

    @abc.abstractmethod
    def start(self) -> None:
        """Begins to serve. Once only."""
        raise NotImplementedError

    @abc.abstractmethod
    def stop(self, grace: float | None) -> threading.Event:
        """Stops: nothing new is accepted. Does not wait.

        Args:
          grace: seconds for which calls that are under way may go on before they are cancelled; none if ``None``. The
            shortest that is given counts.

        Returns:
          An event that is set when the server has stopped.
        """
        raise NotImplementedError

    def wait_for_termination(self, timeout: float | None = None) -> bool:
        """Waits until the server has stopped.

        Args:
          timeout: seconds to wait at most.

        Returns:
          Whether the time was up before: ``False`` says that the server has stopped.
        """
        raise NotImplementedError


class ServicerContext(RpcContext, metaclass=abc.ABCMeta):
    """A call as its handler sees it."""

    @abc.abstractmethod
    def invocation_metadata(self) -> Sequence[_Metadatum]:
        """The client's metadata, as pairs that have ``key`` and ``value``."""
        raise NotImplementedError

    @abc.abstractmethod
    def peer(self) -> str:
        """The client's address: ``ipv4:…``, ``ipv6:…`` or ``unix:…``."""
        raise NotImplementedError

    @abc.abstractmethod
    def peer_identities(self) -> Iterable[bytes] | None:
        """Who the client has proved to be; ``None`` without encryption."""
        raise NotImplementedError

    @abc.abstractmethod
    def peer_identity_key(self) -> str | None:
        """Where in :meth:`auth_context` the identities come from; ``None`` without encryption."""
        raise NotImplementedError

    @abc.abstractmethod
    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """What the transport knows of the client; empty without encryption."""
        raise NotImplementedError

    def set_compression(self, compression: Compression) -> None:
        """Sets how responses are compressed. Only before the first response and the initial metadata."""
        raise NotImplementedError

    @abc.abstractmethod
    def send_initial_metadata(self, initial_metadata: MetadataType) -> None:
        """Sends the initial metadata now; otherwise it goes, empty, with the first response. Once only."""
        raise NotImplementedError

    @abc.abstractmethod
    def set_trailing_metadata(self, trailing_metadata: MetadataType) -> None:
        """Sets the metadata that goes with the status."""
        raise NotImplementedError

    def trailing_metadata(self) -> Sequence[MetadatumType]:
        """What :meth:`set_trailing_metadata` was given."""
        raise NotImplementedError

    @abc.abstractmethod
    def abort(self, code: StatusCode, details: str) -> NoReturn:
        """Ends the call with a status and raises an exception, which the handler is to let pass.

        Args:
          code: not OK, which would become UNKNOWN.
          details: the status message.
        """
        raise NotImplementedError

    @abc.abstractmethod
    def abort_with_status(self, status: Status) -> NoReturn:
        """Ends the call as :meth:`abort` does, with what ``status`` holds."""
        raise NotImplementedError

    @abc.abstractmethod
    def set_code(self, code: StatusCode) -> None:
        """Sets the status code for when the handler returns. With another code than OK a unary response is not sent."""
        raise NotImplementedError

    @abc.abstractmethod
    def set_details(self, details: str) -> None:
        """Sets the status message for when the handler returns."""
        raise NotImplementedError

    def code(self) -> StatusCode | None:
        """The code that was set, ``None`` if none was."""
        raise NotImplementedError

    def details(self) -> str | None:
        """The details that were set, ``None`` if none were."""
        raise NotImplementedError

    def disable_next_message_compression(self) -> None:
        """Sends the next response as it is."""
        raise NotImplementedError
