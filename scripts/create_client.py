#!/usr/bin/env python3
"""Writes the Virtufin client with its generated stubs into a directory that PYTHONPATH can name.

    python scripts/create_client.py --output src/python

The client is copied from python/virtufin; `gateway_pb2`, `state_pb2`, `pubsub_pb2` and their `_grpc` twins are
generated beside it from proto/virtufin. Needs `grpcio-tools`; with `mypy-protobuf` the stubs are fully typed.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_PROTO = _ROOT / "proto"
_SOURCE = _ROOT / "python" / "virtufin" / "src"

#: Where the stubs lie below the output directory.
_STUBS = Path("virtufin", "api", "client")

#: Files of proto/virtufin, and whether they declare services.
_FILES = {"status": False, "gateway": True, "state": True, "pubsub": True}

_IMPORT = re.compile(r"^from virtufin import (\w+) as (\w+)$", re.MULTILINE)

#: Generated modules find each other beside themselves, as members of a package and on sys.path alike.
_EITHER_WAY = r"""if __package__:
    from . import \1 as \2
else:
    import \1 as \2"""


def _plugin(name: str) -> str | None:
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def _protoc(output: Path) -> None:
    try:
        from grpc_tools import protoc  # type: ignore[import-not-found, unused-ignore]
    except ModuleNotFoundError:
        sys.exit(f"{Path(__file__).name} needs grpc_tools: {sys.executable} -m pip install grpcio-tools mypy-protobuf")
    arguments = ["protoc", f"-I{_PROTO}", f"--python_out={output}", f"--grpc_python_out={output}"]
    messages, services = _plugin("protoc-gen-mypy"), _plugin("protoc-gen-mypy_grpc")
    if messages and services:
        arguments += [f"--plugin=protoc-gen-mypy={messages}", f"--mypy_out=quiet:{output}"]
        arguments += [f"--plugin=protoc-gen-mypy_grpc={services}", f"--mypy_grpc_out=quiet:{output}"]
    else:
        arguments.append(f"--pyi_out={output}")
    status = protoc.main([*arguments, *(f"virtufin/{name}.proto" for name in _FILES)])
    if status != 0:
        sys.exit(f"protoc failed with exit code {status}")


def generate(package: Path) -> list[Path]:
    """Generates the stubs into the directory of the client module, and returns their paths."""
    written = []
    with tempfile.TemporaryDirectory() as scratch:
        _protoc(Path(scratch))
        for name, has_services in _FILES.items():
            for stem in [f"{name}_pb2", *([f"{name}_pb2_grpc"] if has_services else [])]:
                for path in Path(scratch, "virtufin").glob(f"{stem}.py*"):
                    target = package / path.name
                    imports = r"from . import \1 as \2" if path.suffix == ".pyi" else _EITHER_WAY
                    target.write_text(_IMPORT.sub(imports, path.read_text()))
                    written.append(target)
    return written


def create(output: Path) -> None:
    """Writes client and stubs below a directory."""
    package = output / _STUBS
    if package.resolve() != (_SOURCE / _STUBS).resolve():
        for source in _SOURCE.rglob("*.py*"):
            relative = source.relative_to(_SOURCE)
            if "_pb2" in source.name or "__pycache__" in relative.parts:
                continue
            (output / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, output / relative)
        for marker in _SOURCE.rglob("py.typed"):
            shutil.copyfile(marker, output / marker.relative_to(_SOURCE))
    generate(package)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the Virtufin client and its generated stubs.")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="what PYTHONPATH will name")
    output = parser.parse_args().output
    create(output)
    print(f"wrote {output / _STUBS}: PYTHONPATH={output} python -c 'from virtufin.api.client import ApiClient'")


if __name__ == "__main__":
    main()
