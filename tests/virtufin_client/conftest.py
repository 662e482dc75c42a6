"""The Virtufin client's tests run on oxgrpc alone and on genuine grpcio alone; see the Makefile's test-sdks.

On oxgrpc the leak guard of all tests holds. Genuine grpcio keeps threads and descriptors for the process's lifetime, so
there only tasks are guarded.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent

sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "generated")]
try:
    import oxgrpc
except ModuleNotFoundError:
    oxgrpc = None
else:
    # Where the client is not installed it is used from its sources.
    sys.path.append(str(HERE.parent.parent / "python" / "virtufin" / "src"))

# From here on the tests may `import grpc`.
importlib.import_module("virtufin.api.client")
platform_process = importlib.import_module("platform_process")


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[platform_process.Platform]:
    """The gateway and its backends, shared by all tests that do not stop it."""
    flags = ("--ephemeral", "--grpc-port=0", "--http-port=0")
    with platform_process.started(tmp_path_factory.mktemp("platform"), *flags) as platform:
        yield platform


if oxgrpc is None:

    @pytest.fixture(autouse=True)
    def leak_guard() -> None:
        """In place of the one of all tests."""
