"""Event loops, as the native module needs to know them."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator


def policy_loop() -> asyncio.AbstractEventLoop:
    """The loop of a thread that runs none: the one that ``asyncio.get_event_loop()`` was always meant to give."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return asyncio.get_event_loop_policy().get_event_loop()


async def _no_messages() -> AsyncGenerator[None, None]:
    return
    yield


def _step_type() -> type:
    """The type of what an asynchronous generator's ``__anext__`` returns, which has no name."""
    step = _no_messages().__anext__()
    step.close()
    return type(step)


AsyncGeneratorStep = _step_type()


def init_grpc_aio() -> None:
    """Does nothing: there is nothing to initialize. Harmless at any time."""


def shutdown_grpc_aio() -> None:
    """Does nothing: what is open is closed by its owner, and there is nothing else. Harmless at any time."""
