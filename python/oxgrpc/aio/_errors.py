"""The exceptions of the asynchronous API, and the end of a stream."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final, Literal

from .._interfaces import RpcError
from .._status import StatusCode

if TYPE_CHECKING:
    from ._metadata import Metadata


class BaseError(Exception):
    """What the asynchronous API raises itself."""


class UsageError(BaseError):
    """The API was used in a way that it does not allow."""


class AbortError(BaseError):
    """Raised in a handler by ``context.abort()``: lets the handler end at once."""


class InternalError(BaseError):
    """Something is wrong in the library."""


class EOFType(enum.Enum):
    """The type of :data:`EOF`, which is one of a kind: a type checker knows what ``is not EOF`` leaves."""

    EOF = "EOF"

    def __bool__(self) -> Literal[False]:
        return False

    def __len__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "<grpc.aio.EOF>"

    __str__ = __repr__


#: What ``read()`` returns at the end of a stream. It is false.
EOF: Final = EOFType.EOF


class AioRpcError(RpcError):
    """A call ended with another status than OK: a snapshot of that status.

    Its methods are not coroutines, because all is known. It can be pickled.
    """

    def __init__(
        self,
        code: StatusCode,
        initial_metadata: Metadata | None = None,
        trailing_metadata: Metadata | None = None,
        details: str | None = None,
        debug_error_string: str | None = None,
    ) -> None:
        super().__init__()
        self._code = code
        self._details = details
        self._initial_metadata = initial_metadata
        self._trailing_metadata = trailing_metadata
        self._debug_error_string = debug_error_string

    def code(self) -> StatusCode:
        """The status code."""
        return self._code

    def details(self) -> str | None:
        """The status message."""
        return self._details

    def initial_metadata(self) -> Metadata | None:
        """The server's initial metadata, empty if none came."""
        return self._initial_metadata

    def trailing_metadata(self) -> Metadata | None:
        """The server's trailing metadata, empty if none came."""
        return self._trailing_metadata

    def debug_error_string(self) -> str | None:
        """Where the status comes from."""
        return self._debug_error_string

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} of RPC that terminated with:\n"
            f"\tstatus = {self._code}\n"
            f'\tdetails = "{self._details}"\n'
            f'\tdebug_error_string = "{self._debug_error_string}"\n>'
        )

    __str__ = __repr__

    def __reduce__(self) -> tuple[type[AioRpcError], tuple[Any, ...]]:
        return type(self), (
            self._code,
            self._initial_metadata,
            self._trailing_metadata,
            self._details,
            self._debug_error_string,
        )
