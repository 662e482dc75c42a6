"""The Virtufin client's tests run on oxgrpc alone and on genuine grpcio alone; see the Makefile's test-sdks.

On oxgrpc the leak guard of all tests holds. Genuine grpcio keeps threads and descriptors for the process's lifetime, so
there only tasks are guarded.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

sys.path[:0] = [str(HERE), str(HERE.parent)]
try:
    import oxgrpc
except ModuleNotFoundError:
    oxgrpc = None
else:
    # Where the client is not installed it is used from its sources.
    sys.path.append(str(HERE.parent.parent / "python" / "virtufin" / "src"))

# From here on the tests may `import grpc`.
importlib.import_module("virtufin.api.client")

if oxgrpc is None:

    @pytest.fixture(autouse=True)
    def leak_guard() -> None:
        """In place of the one of all tests."""
