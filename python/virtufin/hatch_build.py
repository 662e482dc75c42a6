"""Generates the gRPC stubs before a wheel or an sdist is built; an sdist brings its own."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class GeneratedStubs(BuildHookInterface):
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        package = root / "src" / "virtufin" / "api" / "client"
        script = root.parent.parent / "scripts" / "create_client.py"
        if script.exists():
            spec = importlib.util.spec_from_file_location("create_client", script)
            assert spec is not None
            assert spec.loader is not None
            create_client = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(create_client)
            create_client.generate(package)
        elif not (package / "gateway_pb2.py").exists():
            raise RuntimeError(f"{package} has no generated stubs, and {script}, which writes them, is not there")
