"""Plugins that give calls their metadata: how one is asked, and how its answer gets back to the call.

Each is asked in a thread of its own, as in grpcio: it may wait for a server that gives tokens. What it says when its
call has ended already is dropped.
"""

from __future__ import annotations

import abc
import contextvars
import threading
from collections import namedtuple
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from . import _log

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from ._typing import MetadataType

#: Takes the metadata that a call's plugins have given, or why there is none, on the call's loop.
Answer = Callable[["list[Any] | None", "str | None"], None]


class AuthMetadataContext(abc.ABC):
    """What a plugin is told of the call that it is asked about.

    Attributes:
      service_url: the service, as in ``https://host/package.Service``.
      method_name: the method, as in ``Method``.
    """

    service_url: str
    method_name: str


class AuthMetadataPluginCallback(abc.ABC):  # noqa: B024
    """Takes what a plugin answers."""

    def __call__(self, metadata: MetadataType | None, error: BaseException | None) -> None:
        """Answers, once, from any thread.

        Args:
          metadata: what the call carries besides its own; ``None`` is nothing.
          error: why there is none, which ends the call with UNAVAILABLE; ``None`` if there is.

        Raises:
          RuntimeError: it has been called before, or the plugin has raised.
        """
        raise NotImplementedError


class AuthMetadataPlugin(abc.ABC):  # noqa: B024
    """Gives calls their metadata."""

    def __call__(self, context: AuthMetadataContext, callback: AuthMetadataPluginCallback) -> None:
        """Finds the metadata for a call and hands it to ``callback``, at once or later.

        Runs in a thread of its own. What it raises ends the call with UNAVAILABLE.
        """
        raise NotImplementedError


class _Context(namedtuple("AuthMetadataContext", ("service_url", "method_name")), AuthMetadataContext):
    """Where a call goes."""


class Plugin:
    """A plugin, and the context that its credentials were made in."""

    def __init__(self, function: Callable[..., Any], name: str | None) -> None:
        self.function = function
        self.name = name or getattr(function, "__name__", None) or type(function).__name__
        self.context = contextvars.copy_context()
        #: What every call carries, where that is known without asking.
        self.always: tuple[tuple[str, str], ...] | None = getattr(function, "_always", None)


class _Callback(AuthMetadataPluginCallback):
    """The callback of one plugin for one call."""

    def __init__(self, plugin: Plugin, given: Callable[[Any, str | None], None]) -> None:
        self._plugin = plugin
        self._given = given
        self._lock = threading.Lock()
        self._called = False
        self._raised: BaseException | None = None

    def __call__(self, metadata: MetadataType | None, error: BaseException | None) -> None:
        with self._lock:
            if self._raised is not None:
                raise RuntimeError(f'AuthMetadataPluginCallback raised exception "{self._raised}"!')
            if self._called:
                raise RuntimeError("AuthMetadataPluginCallback invoked more than once!")
            self._called = True
        self._given(metadata, None if error is None else str(error))

    def ask(self, context: _Context) -> None:
        """Calls the plugin, in a thread of its own."""
        try:
            self._plugin.context.copy().run(self._plugin.function, context, self)
        # Whatever it is: the thread is ours, and the call waits for its answer.
        except BaseException as error:
            _log.plugin_failed(self._plugin.name, error)
            with self._lock:
                self._raised = error
                if self._called:
                    return
            self._given(None, str(error))


def at_once(plugins: Iterable[Plugin]) -> list[tuple[str, str]] | None:
    """The metadata of plugins none of which needs to be asked; ``None`` if one does."""
    found: list[tuple[str, str]] = []
    for plugin in plugins:
        if plugin.always is None:
            return None
        found += plugin.always
    return found


def ask(plugins: Iterable[Plugin], service_url: str, method_name: str, loop: AbstractEventLoop, answer: Answer) -> None:
    """Asks plugins, one after the other, and gives ``answer`` what they say."""
    context, waiting, found = _Context(service_url, method_name), iter(plugins), list[Any]()

    def end(metadata: list[Any] | None, error: str | None) -> None:
        try:
            loop.call_soon_threadsafe(answer, metadata, error)
        except RuntimeError:
            return  # The loop is closed, and the call is over.

    def given(metadata: Any, error: str | None) -> None:
        if error is not None:
            end(None, error)
            return
        try:
            found.extend(() if metadata is None else metadata)
        except Exception as reason:
            end(None, str(reason))
            return
        go_on()

    def go_on() -> None:
        plugin = next(waiting, None)
        if plugin is None:
            end(found, None)
        elif plugin.always is not None:
            given(plugin.always, None)
        else:
            callback = _Callback(plugin, given)
            threading.Thread(target=callback.ask, args=(context,), name=f"oxgrpc {plugin.name}", daemon=True).start()

    go_on()
