"""Names, parameters, defaults, abstract methods and base classes: genuine grpcio's, asked of it at this moment."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from test_imports import AIO_NEXT, EXPERIMENTAL_NEXT, GRPC_NEXT

HERE = Path(__file__).parent
GENUINE = HERE.parent / ".venv-grpcio" / "bin" / "python"

#: Public names that grpcio does not have.
OURS = {"__oxgrpc_version__", "__version__", "aio", "experimental", "experimental.aio", "install_as_grpc"}

#: Public names of grpcio's that come next.
NEXT = GRPC_NEXT | {f"aio.{name}" for name in AIO_NEXT} | {f"experimental.{name}" for name in EXPERIMENTAL_NEXT}

#: What is not as in grpcio: what it is here, and why. `None` for what is not here.
DIFFERENT = {
    "aio.InterceptedUnaryUnaryCall.__init__": (
        "(self, interceptors, request, timeout, metadata, credentials, wait_for_ready, channel, method,"
        " request_serializer, response_deserializer, loop, registered_call_handle=0, compression=None)",
        "compression is not hidden in the metadata",
    ),
    "aio.Server.stop": ("async (self, grace=None)", "as the documentation has it"),
    **{
        f"aio.{kind}Call{path}": (here, "asyncio.create_task(call) waits for the response")
        for kind, base in {"UnaryUnary": "", "StreamUnary": "", "InterceptedUnaryUnary": ", aio.UnaryUnaryCall"}.items()
        for path, here in {
            "": f"class(Awaitable, Coroutine, aio.Call, aio.RpcContext{base})",
            ".close": "(self)",
            ".send": "(self, value)",
            ".throw": "(self, *args)",
        }.items()
    },
    **{
        f"aio.{kind}Call{path}": (here, "anext(call) waits for the next response")
        for kind in ("UnaryStream", "StreamStream")
        for path, here in {
            "": "class(AsyncIterable, AsyncIterator, aio.Call, aio.RpcContext)",
            ".__anext__": "(self)",
        }.items()
    },
}


def described(python: str, package: str) -> dict[str, str]:
    program = [python, str(HERE / "peer" / "signatures.py"), package]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def genuine() -> dict[str, str]:
    return described(str(GENUINE), "grpc")


@pytest.fixture(scope="module")
def ours() -> dict[str, str]:
    return described(sys.executable, "oxgrpc")


def names(paths: dict[str, str]) -> set[str]:
    """The public names themselves: what a path begins with."""
    return {name_of(path) for path in paths}


def name_of(path: str) -> str:
    parts = path.partition(":")[0].split(".")
    return ".".join(parts[:2] if parts[0] in ("aio", "experimental") else parts[:1])


def test_every_public_name_is_here(genuine: dict[str, str], ours: dict[str, str]) -> None:
    assert names(genuine) - names(ours) == NEXT
    assert names(ours) - names(genuine) == OURS


def test_what_is_here_is_as_in_grpcio(genuine: dict[str, str], ours: dict[str, str]) -> None:
    shared = names(genuine) & names(ours)
    paths = {path for path in genuine.keys() | ours.keys() if name_of(path) in shared}
    assert len(paths) > 300
    different = {path: ours.get(path) for path in sorted(paths) if genuine.get(path) != ours.get(path)}
    assert different == {path: here for path, (here, _) in DIFFERENT.items()}
