"""Small things that both APIs, and packages written for grpcio, use."""

from __future__ import annotations

_SYNC = "the synchronous API comes next; use oxgrpc.aio"

#: Names of grpcio's that this version does not have, each with a word on why.
_NOT_YET = {
    **dict.fromkeys(
        ("channel_ready_future", "insecure_channel", "intercept_channel", "secure_channel", "server"), _SYNC
    ),
    **dict.fromkeys(("protos", "protos_and_services", "services"), _SYNC),
    **dict.fromkeys(("unary_unary", "unary_stream", "stream_unary", "stream_stream"), _SYNC),
}


def missing(module: str, name: str) -> str:
    """What to say of a name that a module does not have."""
    why = _NOT_YET.get(name)
    if why is None:
        return f"module {module!r} has no attribute {name!r}"
    return f"{module}.{name} is not in this version of oxgrpc: {why}"


def fully_qualified_method(group: str, method: str) -> str:
    """The path of a method: ``/package.Service/Method``."""
    return f"/{group}/{method}"


def encode(text: str | bytes) -> bytes:
    """Text as UTF-8; bytes as they are."""
    return text if isinstance(text, bytes) else text.encode()


def decode(octets: str | bytes) -> str:
    """UTF-8 as text, with what is not UTF-8 replaced; text as it is."""
    return octets.decode("utf-8", "replace") if isinstance(octets, bytes) else octets
