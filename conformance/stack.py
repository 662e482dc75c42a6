"""The stack that a program was asked to run on, and the code that grpcio-tools made of a proto."""

from __future__ import annotations

import importlib
import os
import subprocess
from pathlib import Path
from typing import Any

STACKS = ("oxgrpc", "grpcio")


def load(stack: str, proto: str) -> tuple[Any, Any, Any]:
    """The package `grpc`, which is oxgrpc or the genuine one, and the messages and services of `proto`."""
    if stack == "oxgrpc":
        import oxgrpc

        oxgrpc.install_as_grpc()
    grpc = importlib.import_module("grpc")
    importlib.import_module("grpc.aio")
    return grpc, importlib.import_module(f"{proto}_pb2"), importlib.import_module(f"{proto}_pb2_grpc")


def generate(compiler: Path, protos: Path, names: list[str], generated: Path) -> Path:
    """Has grpcio-tools, which `compiler` has, write the modules of protos into a directory, and returns that."""
    generated.mkdir(parents=True, exist_ok=True)
    places = (f"-I{protos}", f"--python_out={generated}", f"--grpc_python_out={generated}")
    subprocess.run([compiler, "-m", "grpc_tools.protoc", *places, *names], check=True)
    return generated


def program_environment(generated: Path) -> dict[str, str]:
    """The environment of programs that import generated modules and connect to this machine only."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**kept, "PYTHONPATH": str(generated)}
