"""What is imported and what that costs, and the names that come next. Those that are there: test_signatures.py."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from types import ModuleType

import pytest

import oxgrpc
import program
from oxgrpc import aio

#: What of ``grpc.__all__`` comes next: the synchronous API's functions.
GRPC_NEXT = {
    "channel_ready_future",
    "insecure_channel",
    "intercept_channel",
    "protos",
    "protos_and_services",
    "secure_channel",
    "server",
    "services",
}
#: What of ``grpc.aio.__all__`` comes next.
AIO_NEXT: set[str] = set()
#: What of ``grpc.experimental.__all__`` comes next.
EXPERIMENTAL_NEXT = {
    "stream_stream",
    "stream_unary",
    "unary_stream",
    "unary_unary",
}


def test_every_name_can_be_had() -> None:
    for module in (oxgrpc, aio, oxgrpc.experimental):
        assert len(module.__all__) == len(set(module.__all__))
        for name in module.__all__:
            assert getattr(module, name) is not None
            assert name in dir(module)


@pytest.mark.parametrize(
    ("module", "names"),
    [(oxgrpc, GRPC_NEXT), (aio, AIO_NEXT), (oxgrpc.experimental, EXPERIMENTAL_NEXT)],
    ids=["oxgrpc", "oxgrpc.aio", "oxgrpc.experimental"],
)
def test_a_name_that_comes_next_says_so(module: ModuleType, names: set[str]) -> None:
    silent = set()
    for name in names:
        with pytest.raises(AttributeError, match=name) as caught:
            getattr(module, name)
        assert not hasattr(module, name)
        if "not in this version" not in str(caught.value):
            silent.add(name)
    assert silent == set()


def test_classes_take_type_arguments() -> None:
    kinds = ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream")
    generic = [getattr(module, f"{kind}MultiCallable") for module in (oxgrpc, aio) for kind in kinds]
    generic += [getattr(aio, f"{kind}Call") for kind in kinds]
    for declared in (*generic, aio.ServicerContext, oxgrpc.RpcMethodHandler):
        assert declared[int, str].__origin__ is declared
    assert oxgrpc.Future[int].__origin__ is oxgrpc.Future


def test_a_name_that_nobody_has() -> None:
    for module in (oxgrpc, aio, oxgrpc.experimental):
        with pytest.raises(AttributeError, match=f"'{module.__name__}' has no attribute 'nonsense'"):
            module.nonsense  # noqa: B018


def test_the_runtime_needs_no_care() -> None:
    for _ in range(2):
        assert aio.init_grpc_aio() is None
        assert aio.shutdown_grpc_aio() is None


def test_versions() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", oxgrpc.__version__)
    assert re.match(r"\d+\.\d+\.\d+", oxgrpc.__oxgrpc_version__)


def test_every_module_can_be_imported_and_says_what_it_is() -> None:
    for module in pkgutil.walk_packages(oxgrpc.__path__, "oxgrpc."):
        if not module.name.endswith("_native"):
            assert importlib.import_module(module.name).__doc__


def test_importing_starts_nothing() -> None:
    code = (
        "import os, threading\n"
        "files = sorted(os.listdir('/proc/self/fd'))\n"
        "import oxgrpc, oxgrpc.aio\n"
        "for module in (oxgrpc, oxgrpc.aio):\n"
        "    for name in module.__all__: getattr(module, name)\n"
        "oxgrpc.aio.insecure_channel('localhost:1'); oxgrpc.aio.server()\n"
        "print(len(os.listdir('/proc/self/task')), threading.active_count())\n"
        "assert sorted(os.listdir('/proc/self/fd')) == files\n"
    )
    assert program.output_of(code) == "1 1\n"


def test_importing_is_lazy() -> None:
    code = (
        "import sys\n"
        "import oxgrpc\n"
        "assert not [name for name in sys.modules if name.startswith('oxgrpc.aio')]\n"
        "assert 'asyncio' not in sys.modules and 'logging' not in sys.modules\n"
        "from oxgrpc import aio\n"
        "aio.insecure_channel('localhost:1')\n"
        "assert 'oxgrpc.aio._channel' in sys.modules\n"
        "assert 'oxgrpc.aio._server' not in sys.modules and 'grpc' not in sys.modules\n"
    )
    assert program.output_of(code) == ""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_using_it_starts_no_thread() -> None:
    code = (
        "import asyncio, os\n"
        "import echo\n"
        "async def main():\n"
        "    async with echo.serving() as service:\n"
        "        assert await service.unary_unary(b'x') == b'x'\n"
        "        assert await service.stream_unary(iter([b'a', b'b'])) == b'ab'\n"
        "        print(len(os.listdir('/proc/self/task')))\n"
        "asyncio.run(main())\n"
    )
    assert program.output_of(code) == "1\n"
