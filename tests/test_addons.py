"""grpcio's add-ons, as they are: what they do on oxgrpc is what they do on grpcio."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
GENUINE = HERE.parent / ".venv-grpcio" / "bin" / "python"


def observed(python: str, stack: str) -> dict[str, Any]:
    command = [python, str(HERE / "peer" / "addons.py"), stack]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return dict(map(json.loads, done.stdout.splitlines()))


@pytest.fixture(scope="module")
def genuine() -> dict[str, Any]:
    return observed(str(GENUINE), "grpcio")


@pytest.fixture(scope="module")
def ours() -> dict[str, Any]:
    return observed(sys.executable, "oxgrpc")


def test_genuine_grpcio_is_not_installed_here() -> None:
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("grpcio")


@pytest.mark.parametrize("addon", ["health_checks", "reflections", "statuses"])
def test_it_does_what_it_does_on_grpcio(addon: str, ours: dict[str, Any], genuine: dict[str, Any]) -> None:
    assert ours[addon] == genuine[addon]


def test_health_is_checked_and_watched(ours: dict[str, Any]) -> None:
    assert ours["health_checks"] == [
        ["check", "", "SERVING"],
        ["check", "some.Service", "NOT_FOUND", ""],
        ["watch", "SERVICE_UNKNOWN"],
        ["watch", "SERVING"],
        ["check", "some.Service", "SERVING"],
        ["watch", "NOT_SERVING"],
        ["watch", "SERVING"],
        ["watch", "NOT_SERVING"],
        ["check", "some.Service", "NOT_SERVING"],
        "CANCELLED",
    ]


def test_a_server_tells_what_it_serves(ours: dict[str, Any]) -> None:
    together, alone, first, ended, code = ours["reflections"]
    services = ["grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"]
    assert first == together[0] == ["list_services_response", services]
    assert together[1] == together[3] == ["file_descriptor_response", ["grpc_health/v1/health.proto"]]
    assert together[2][0] == together[5][0] == "error_response"
    assert alone == [[each] for each in together]
    assert (ended, code) == (True, "OK")


def test_rich_statuses_arrive(ours: dict[str, Any]) -> None:
    rich, unpacked, plain, nothing, wrong, complaint, none = ours["statuses"]
    assert (rich, unpacked) == (["rich", "RESOURCE_EXHAUSTED", "come again"], [8, "come again", 7])
    assert (plain, nothing) == (["plain", "NOT_FOUND", "not here"], None)
    assert wrong == ["wrong code", "ABORTED", "come again"]
    assert "doesn't match" in complaint
    assert none is None
