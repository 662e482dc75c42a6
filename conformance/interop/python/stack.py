"""The stack that a program was asked to run on, and the code that grpcio-tools made of the proto."""

from __future__ import annotations

import importlib
from typing import Any


def load(stack: str) -> tuple[Any, Any, Any]:
    """The package `grpc`, which is oxgrpc or the genuine one, the messages and the services."""
    if stack == "oxgrpc":
        import oxgrpc

        oxgrpc.install_as_grpc()
    grpc = importlib.import_module("grpc")
    importlib.import_module("grpc.aio")
    return grpc, importlib.import_module("test_pb2"), importlib.import_module("test_pb2_grpc")
