"""Plugins that give calls their metadata: how one is asked, and how its answer gets back to the call.

Each is asked in a thread of its own, as in grpcio: it may wait for a server that gives tokens. Of what it answers only the
first counts, and what it says after the call has ended is dropped.
"""

from __future__ import annotations

import contextvars
import threading
from collections import namedtuple
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from . import _log

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from ._typing import MetadatumType

#: Takes the metadata of all plugins, or an error's text, on the call's loop.
Answer = Callable[["list[MetadatumType] | None", "str | None"], None]


class Plugin:
    """A plugin, and the context that its credentials were made in."""

    def __init__(self, function: Callable[..., Any], name: str | None) -> None:
        self.function = function
        self.name = name or getattr(function, "__name__", None) or type(function).__name__
        self.context = contextvars.copy_context()

    def run(self, context: Any, callback: Any) -> None:
        self.context.copy().run(self.function, context, callback)


class _Asking:
    """A call's plugins, asked one after the other."""

    def __init__(self, plugins: Iterable[Plugin], context: Any, loop: AbstractEventLoop, answer: Answer) -> None:
        self.plugins = iter(plugins)
        self.context = context
        self.loop = loop
        self.answer = answer
        self.metadata: list[MetadatumType] = []

    def go_on(self) -> None:
        """Asks the next plugin. On any thread."""
        plugin = next(self.plugins, None)
        if plugin is None:
            self.end(self.metadata, None)
            return
        if plugin.is_immediate:
            _Callback(self, plugin).ask()
        else:
            thread = threading.Thread(target=_Callback(self, plugin).ask, name=f"oxgrpc {plugin.name}", daemon=True)
            thread.start()

    def end(self, metadata: list[MetadatumType] | None, error: str | None) -> None:
        try:
            self.loop.call_soon_threadsafe(self.answer, metadata, error)
        except RuntimeError:
            # The loop is closed, and the call with it.
            pass
