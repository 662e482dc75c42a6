"""How tests run: coroutine tests on each event loop, every test under a leak guard.

A coroutine test runs once on asyncio's loop and once on uvloop. After each test nothing may be left of it: no task, no
thread, no file descriptor, no object of the native module.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

#: Seconds after which a coroutine test is given up: a hang is a failure with a traceback.
TEST_TIMEOUT_SECONDS = 60.0


#: Genuine grpcio, on which the client SDKs' tests run as well, wakes loops of tests that have ended.
GRPCIOS_OWN = "PollerCompletionQueue._handle_events"


def _loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    try:
        import uvloop
    except ImportError:
        return factories
    return {**factories, "uvloop": uvloop.new_event_loop}


LOOPS = _loop_factories()


def pytest_sessionstart() -> None:
    """Lets each kind of loop open what it keeps for the process's lifetime, before anything is counted.

    A shell that runs the tests in the background has them ignore SIGINT, and the programs that they start would, too.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for factory in LOOPS.values():
        loop = factory()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def pytest_collection_finish() -> None:
    """Spares the leak guard what there is before the first test: looking through it took most of the tests' time."""
    gc.collect()
    gc.freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if inspect.iscoroutinefunction(metafunc.function):
        metafunc.fixturenames.append("loop_kind")
        metafunc.parametrize("loop_kind", list(LOOPS))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    run(pyfuncitem.obj, LOOPS[pyfuncitem.callspec.params["loop_kind"]], arguments)
    return True


def run(test: Callable[..., Any], factory: Callable[[], asyncio.AbstractEventLoop], arguments: dict[str, Any]) -> None:
    """Runs a coroutine test on a loop of its own, which must not be told of an exception that nobody took."""
    complaints: list[dict[str, Any]] = []
    loop = factory()
    loop.set_exception_handler(lambda _, context: None if GRPCIOS_OWN in str(context) else complaints.append(context))
    try:
        asyncio.set_event_loop(loop)

        async def timed() -> None:
            await asyncio.wait_for(test(**arguments), TEST_TIMEOUT_SECONDS)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            if left:
                await asyncio.wait(left, timeout=1.0)
            left = {task for task in asyncio.all_tasks() - {asyncio.current_task()} if not task.done()}
            assert not left, f"tasks are left: {left}"

        loop.run_until_complete(timed())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    assert not complaints, f"the loop's exception handler was called: {complaints}"


def _native_objects() -> list[object]:
    gc.collect()
    return [thing for thing in gc.get_objects() if type(thing).__module__ == "oxgrpc._native"]


def _descriptors() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{name} -> {os.readlink(f'/proc/self/fd/{name}')}")
        except OSError:
            continue  # the directory itself
    return found


@pytest.fixture(autouse=True)
def leak_guard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fails a test that leaves something behind."""
    objects = sum(type(thing).__module__ == "oxgrpc._native" for thing in gc.get_objects())
    descriptors, threads = _descriptors(), set(threading.enumerate())
    yield
    # pytest keeps what was logged, an exception's frames with all that is in them included.
    for record in caplog.get_records("call"):
        record.exc_info = None
    left = _native_objects()
    assert len(left) <= objects, f"native objects are left: {[repr(thing) for thing in left][:20]}"
    assert not _descriptors() - descriptors, f"descriptors are left: {_descriptors() - descriptors}"
    assert not set(threading.enumerate()) - threads, "threads are left"
