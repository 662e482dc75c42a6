"""TLS sessions that channels go on with: a handshake that costs less."""

from __future__ import annotations

from .. import _native


class SSLSessionCache:
    """A cache of sessions: a value of the channel option ``grpc.ssl_session_cache``.

    Channels that share it go on with each other's sessions if they have the same credentials.
    """

    def __init__(self, cache: _native.SessionCache) -> None:
        self._cache = cache

    def __int__(self) -> int:
        return id(self._cache)


def ssl_session_cache_lru(capacity: int) -> SSLSessionCache:
    """A cache of sessions with ``capacity`` servers, those that were used last."""
    return SSLSessionCache(_native.SessionCache(capacity))
