"""What the native module writes to the log. Nothing native ever writes to a file descriptor.

``oxgrpc.transport`` tells of connections, ``oxgrpc.server`` of handlers, ``oxgrpc.channel`` of what a program asks.
"""

from __future__ import annotations

import logging
from time import monotonic

_channel = logging.getLogger("oxgrpc.channel")
_server = logging.getLogger("oxgrpc.server")
_transport = logging.getLogger("oxgrpc.transport")

_named_options: set[str] = set()


class _Seldom:
    """Writes to the transport's log at most once in `SECONDS`, and says how many records were left out before."""

    SECONDS = 10.0

    def __init__(self, level: int) -> None:
        self._level = level
        self._last: float | None = None
        self._left_out = 0

    def __call__(self, message: str, *arguments: str) -> None:
        now = monotonic()
        if self._last is not None and now < self._last + self.SECONDS:
            self._left_out += 1
            return
        if self._left_out:
            message += f" ({self._left_out} such records were left out before)"
        self._last, self._left_out = now, 0
        _transport.log(self._level, message, *arguments)


_accept_failed = _Seldom(logging.ERROR)
_connection_refused = _Seldom(logging.WARNING)


def unknown_option(key: str) -> None:
    """A channel argument that means nothing here: named once."""
    if key not in _named_options:
        _named_options.add(key)
        _channel.debug("channel argument %s has no effect", key)


def broken_by_peer(peer: str, rule: str) -> None:
    """A peer broke a rule and the connection ends."""
    _transport.warning("connection with %s ended, a rule was broken by the peer: %s", peer, rule)


def went_away(peer: str, debug: str) -> None:
    """A server said that the connection ends because of something wrong."""
    _transport.warning("server %s ends the connection: %s", peer, debug or "no reason given")


def details_lost(peer: str) -> None:
    """A server's grpc-status-details-bin could not be decoded. The status itself is passed on."""
    _channel.warning("grpc-status-details-bin from %s is dropped: it is not base64", peer)


def lost(peer: str, error: str) -> None:
    """A connection broke. Clients come and go: that is no reason to worry."""
    _transport.debug("connection with %s lost: %s", peer, error)


def accept_failed(error: str) -> None:
    """A connection could not be accepted, most likely because the process has no file descriptor left."""
    _accept_failed("cannot accept connections: %s", error)


def connection_refused(peer: str, why: str) -> None:
    """A server has as many connections as it may have."""
    _connection_refused("connection with %s refused: %s", peer, why)


def handler_failed(method: str, error: BaseException) -> None:
    """A handler raised."""
    _server.error("Unexpected [%s] raised by servicer method [%s]", type(error).__name__, method, exc_info=error)


def service_failed(error: BaseException) -> None:
    """A generic handler raised, or a call could not be begun."""
    _server.error("Cannot find out who handles a call", exc_info=error)


def request_iterator_failed(error: BaseException) -> None:
    """A client's request iterator raised: its call is cancelled."""
    _channel.debug("Client request_iterator raised exception", exc_info=error)


def certificates_not_fetched(error: BaseException) -> None:
    """A function that gives a server's certificates raised."""
    _server.error("Error fetching certificate configuration", exc_info=error)


def certificates_refused(reason: str) -> None:
    """A server was given certificates that it cannot use, and goes on with those that it has."""
    _server.error("Error fetching certificate configuration: %s", reason)


def plugin_failed(name: str, error: BaseException) -> None:
    """A plugin of call credentials raised."""
    _channel.error('AuthMetadataPluginCallback "%s" raised exception!', name, exc_info=error)
