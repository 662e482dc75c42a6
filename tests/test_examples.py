"""The example, as a user wrote it for grpcio: its server and its client, each on oxgrpc and on genuine grpcio."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYTHONS = {"oxgrpc": sys.executable, "grpcio": str(ROOT / ".venv-grpcio" / "bin" / "python")}


def command(stack: str, *arguments: str) -> list[str]:
    return [PYTHONS[stack], str(ROOT / "examples" / "weather" / "run.py"), "--stack", stack, *arguments]


def client_output(server: str, client: str) -> str:
    with subprocess.Popen(command(server, "server"), stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        try:
            port = serving.stdout.readline().strip()
            ended = subprocess.run(command(client, "client", port), capture_output=True, text=True, timeout=60)
        finally:
            serving.terminate()
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return ended.stdout


@pytest.fixture(scope="module")
def genuine() -> str:
    return client_output("grpcio", "grpcio")


@pytest.mark.parametrize(
    ("server", "client"), [("oxgrpc", "oxgrpc"), ("oxgrpc", "grpcio"), ("grpcio", "oxgrpc")], ids="-".join
)
def test_the_weather_station_says_the_same_on_every_stack(server: str, client: str, genuine: str) -> None:
    assert client_output(server, client).splitlines() == genuine.splitlines()
    assert "Forecast" in genuine


def test_the_runner_shows_it_and_exits_with_success() -> None:
    ended = subprocess.run(command("oxgrpc"), capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert "starting the weather station's server on oxgrpc" in ended.stdout
    assert "Bergen" in ended.stdout
