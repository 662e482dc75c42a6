"""``install_as_grpc``: what was written for grpcio runs on oxgrpc."""

from __future__ import annotations

import os

import program

INSTALL = "import oxgrpc; oxgrpc.install_as_grpc()\n"

#: A package of the name of grpcio's.
GENUINE = "import sys, types; genuine = types.ModuleType('grpc'); sys.modules['grpc'] = genuine\n"


def test_generated_code_is_imported_and_used() -> None:
    code = INSTALL + (
        "import asyncio, grpc, my_service_pb2 as messages, my_service_pb2_grpc as services\n"
        "class Servicer(services.MyServiceServicer):\n"
        "    async def UnaryMethod(self, request, context):\n"
        "        return messages.MyResponse(reply='to ' + request.message)\n"
        "async def main():\n"
        "    server = grpc.aio.server()\n"
        "    services.add_MyServiceServicer_to_server(Servicer(), server)\n"
        "    port = server.add_insecure_port('localhost:0')\n"
        "    await server.start()\n"
        "    async with grpc.aio.insecure_channel(f'localhost:{port}') as channel:\n"
        "        stub = services.MyServiceStub(channel)\n"
        "        print((await stub.UnaryMethod(messages.MyRequest(message='you'))).reply)\n"
        "        try:\n"
        "            await stub.StreamUnaryMethod(iter([]))\n"
        "        except grpc.aio.AioRpcError as error:\n"
        "            print(error.code())\n"
        "    await server.stop(None)\n"
        "import logging; logging.disable()\n"
        "asyncio.run(main())\n"
    )
    assert program.output_of(code).splitlines() == ["to you", "StatusCode.UNIMPLEMENTED"]


def test_every_way_to_import_gives_the_same_objects() -> None:
    code = INSTALL + (
        "import sys\n"
        "import grpc, grpc.aio, grpc.experimental, grpc._utilities, grpc.aio._typing, grpc.aio._metadata\n"
        "import oxgrpc.aio._metadata\n"
        "from grpc import aio, StatusCode\n"
        "from grpc.aio import Metadata\n"
        "from grpc.aio._call import UnaryUnaryCall\n"
        "from grpc.experimental import aio as experimental_aio\n"
        "assert grpc is oxgrpc is sys.modules['grpc']\n"
        "assert grpc.aio is aio is oxgrpc.aio is sys.modules['grpc.aio'] is experimental_aio\n"
        "assert StatusCode is oxgrpc.StatusCode\n"
        "assert Metadata is oxgrpc.aio.Metadata is grpc.aio._metadata.Metadata\n"
        "assert sys.modules['grpc.aio._metadata'] is sys.modules['oxgrpc.aio._metadata']\n"
        "assert UnaryUnaryCall is oxgrpc.aio._call.UnaryUnaryCall\n"
        "assert grpc._common.fully_qualified_method('a', 'b') == '/a/b'\n"
        "assert oxgrpc.aio.__name__ == oxgrpc.aio.__spec__.name == 'oxgrpc.aio'\n"
        "print(grpc.__version__)\n"
    )
    assert program.output_of(code) == "1.85.1\n"


def test_it_may_be_repeated() -> None:
    code = INSTALL + (
        "import sys; finders = list(sys.meta_path)\n"
        "oxgrpc.install_as_grpc()\n"
        "import grpc; assert grpc is oxgrpc and sys.meta_path == finders\n"
    )
    assert program.output_of(code) == ""


def test_a_module_that_is_not_there_is_not_found() -> None:
    code = INSTALL + (
        "for name in ('grpc.no_such_module', 'grpc.aio.no_such_module', 'grpc_no_such_module'):\n"
        "    try:\n"
        "        __import__(name)\n"
        "    except ModuleNotFoundError as error:\n"
        "        print(error.name)\n"
        "try:\n"
        "    from grpc import no_such_name\n"
        "except ImportError as error:\n"
        "    print('no name')\n"
    )
    assert program.output_of(code).splitlines() == [
        "grpc.no_such_module",
        "grpc.aio.no_such_module",
        "grpc_no_such_module",
        "no name",
    ]


def test_genuine_grpcio_that_is_imported_already_is_an_error() -> None:
    code = GENUINE + (
        "genuine.__file__ = '/site-packages/grpc/__init__.py'\n"
        "import oxgrpc\n"
        "try:\n"
        "    oxgrpc.install_as_grpc()\n"
        "except RuntimeError as error:\n"
        "    print(error)\n"
        "import grpc; assert grpc is genuine and 'grpc.aio' not in sys.modules\n"
    )
    printed = program.output_of(code)
    assert "/site-packages/grpc/__init__.py" in printed
    assert "install_as_grpc()" in printed


def test_oxgrpc_stands_beside_genuine_grpcio() -> None:
    code = GENUINE + (
        "import oxgrpc, oxgrpc.aio\n"
        "oxgrpc.aio.insecure_channel('localhost:1')\n"
        "import grpc; assert grpc is genuine is not oxgrpc\n"
    )
    assert program.output_of(code) == ""


def test_code_of_a_newer_generator_is_told_apart() -> None:
    code = INSTALL + (
        "from grpc._utilities import first_version_is_lower as lower\n"
        "import grpc\n"
        "print(lower(grpc.__version__, '1.63.0'), lower(grpc.__version__, grpc.__version__))\n"
        "print(lower(grpc.__version__, '1.85.10'), lower(grpc.__version__, '2.0.0'), lower('1.9.0', '1.10.0'))\n"
        "print(lower('1.85.1rc1', '1.85.1'), lower('1.85.1', '1.85.1rc1'), lower('1.85.1.dev0', '1.85.1'))\n"
    )
    assert program.output_of(code).splitlines() == ["False False", "True True True", "True False True"]


def test_modules_found_by_name_resolve() -> None:
    """What pickle and multiprocessing do."""
    code = INSTALL + (
        "import pickle, grpc, importlib.util\n"
        "error = grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, details='x')\n"
        "copy = pickle.loads(pickle.dumps(error))\n"
        "assert copy.code() is grpc.StatusCode.NOT_FOUND and copy.details() == 'x'\n"
        "assert importlib.util.find_spec('grpc.aio') is not None\n"
    )
    assert program.output_of(code, env={"PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "0")}) == ""
