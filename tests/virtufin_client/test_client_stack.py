"""What `import grpc` means: oxgrpc alone, grpcio alone, both, neither. The client from a directory, wheel and sdist."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).parent

#: oxgrpc, and no grpcio; grpcio and the client's wheel, and no oxgrpc.
OXGRPC, GRPCIO = (ROOT / venv / "bin" / "python" for venv in (".venv", ".venv-sdks"))
SOURCES = ROOT / "python" / "virtufin" / "src"
STUBS = [f"{name}_pb2{suffix}" for name in ("gateway", "state", "pubsub") for suffix in ("", "_grpc")]

pytestmark = pytest.mark.skipif(
    Path(sys.prefix).name == ".venv-sdks", reason="starts the programs of all environments itself, once"
)


def run(python: Path, *arguments: str, path: list[Path] | None = None) -> str:
    """Runs a program that must succeed and write nothing to its standard error, and returns what it prints."""
    # grpcio logs a connection that the server closes.
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path or [])), "GRPC_VERBOSITY": "NONE"}
    done = subprocess.run(
        [str(python), "-W", "error", *arguments], env=env, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


TRIP = ["['workmanager', 'echo']", "published", "NOT_FOUND", "echo.Fail: ALREADY_EXISTS: it is there"]


@pytest.mark.parametrize(
    ("python", "path", "first", "stack"),
    [
        pytest.param(OXGRPC, [SOURCES], [], "['oxgrpc']", id="oxgrpc only"),
        pytest.param(GRPCIO, [], [], "['grpc._cython.cygrpc']", id="grpcio only"),
        pytest.param(GRPCIO, [ROOT / "python"], [], "['grpc._cython.cygrpc']", id="both"),
        pytest.param(
            GRPCIO, [ROOT / "python"], ["--first", "grpc"], "['grpc._cython.cygrpc']", id="both, grpc imported"
        ),
        pytest.param(
            GRPCIO,
            [ROOT / "python"],
            ["--first", "oxgrpc"],
            "['oxgrpc', 'grpc._cython.cygrpc']",
            id="both, oxgrpc imported",
        ),
        pytest.param(
            GRPCIO, [ROOT / "python"], ["--first", "install_as_grpc"], "['oxgrpc']", id="both, oxgrpc is grpc"
        ),
    ],
)
def test_the_client_runs_on_what_grpc_is(python: Path, path: list[Path], first: list[str], stack: str) -> None:
    output = run(python, str(HERE / "round_trip.py"), *first, path=[HERE, *path])
    assert output.splitlines() == [*TRIP, f"on {stack}"]


def test_without_any_grpc_the_error_says_what_to_install() -> None:
    code = (
        "import sys\n"
        "sys.modules['oxgrpc'] = None\n"
        "try:\n"
        "    import virtufin.api.client\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error)\n"
    )
    assert run(OXGRPC, "-c", code, path=[SOURCES]) == (
        "virtufin.api.client needs gRPC, and neither grpc nor oxgrpc is installed: pip install oxgrpc\n"
    )


def test_a_grpc_that_is_broken_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "grpc").mkdir()
    (tmp_path / "grpc" / "__init__.py").write_text("import its_missing_dependency\n")
    code = (
        "import sys\n"
        "try:\n"
        "    import virtufin.api.client\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error.name, 'oxgrpc' in sys.modules)\n"
    )
    assert run(OXGRPC, "-c", code, path=[tmp_path, SOURCES]) == "its_missing_dependency False\n"


def create(output: Path) -> None:
    run(GRPCIO, "-W", "default", str(ROOT / "scripts" / "create_client.py"), "--output", str(output))


def test_the_written_client_is_imported_from_pythonpath_alone(tmp_path: Path) -> None:
    create(tmp_path)
    package = tmp_path / "virtufin" / "api" / "client"
    assert {f"{stub}.{suffix}" for stub in STUBS for suffix in ("py", "pyi")} <= {
        path.name for path in package.iterdir()
    }
    code = f"import virtufin.api.client as client; print(client.__file__ == {str(package / '__init__.py')!r})"
    assert run(OXGRPC, "-c", code, path=[tmp_path]) == "True\n"
    for python, first in ((OXGRPC, []), (GRPCIO, [])):
        output = run(python, str(HERE / "round_trip.py"), *first, path=[HERE, tmp_path])
        assert output.splitlines()[:-1] == TRIP


@pytest.mark.parametrize("python", [OXGRPC, GRPCIO], ids=["oxgrpc", "grpcio"])
def test_stubs_are_imported_flat_and_as_a_package(python: Path) -> None:
    """A path that names the client's directory itself finds them, too; both ways mean the same messages."""
    flat = SOURCES / "virtufin" / "api" / "client"
    code = (
        "import virtufin.api.client\n"
        f"import {', '.join(STUBS)}\n"
        f"from virtufin.api.client import {', '.join(f'{stub} as their_{stub}' for stub in STUBS)}\n"
        "assert gateway_pb2 is not their_gateway_pb2\n"
        "assert gateway_pb2.InvokeRequest.DESCRIPTOR is their_gateway_pb2.InvokeRequest.DESCRIPTOR\n"
        "message = their_pubsub_pb2.PublishResponse(status={'success': True})\n"
        "assert pubsub_pb2.PublishResponse.FromString(message.SerializeToString()).status.success\n"
        "print(pubsub_pb2_grpc.PubsubStub.__name__)\n"
    )
    assert run(python, "-c", code, path=[SOURCES, flat]) == "PubsubStub\n"


def test_stubs_are_written_without_the_plugins_for_types(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        f"sys.path.insert(0, {str(ROOT / 'scripts')!r}); import create_client\n"
        "create_client._plugin = lambda name: None\n"
        f"create_client.create(Path({str(tmp_path)!r}))\n"
    )
    run(GRPCIO, "-W", "default", "-c", code)
    written = {path.name for path in (tmp_path / "virtufin" / "api" / "client").glob("*_pb2*")}
    assert {"pubsub_pb2.py", "pubsub_pb2_grpc.py", "pubsub_pb2.pyi"} <= written
    assert "pubsub_pb2_grpc.pyi" not in written
    assert run(OXGRPC, str(HERE / "round_trip.py"), path=[HERE, tmp_path]).splitlines()[:-1] == TRIP


def test_without_grpcio_tools_the_script_says_what_it_needs(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "create_client.py"
    done = subprocess.run([OXGRPC, script, "--output", tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "pip install grpcio-tools" in done.stderr


def test_a_wheel_of_an_sdist_has_the_stubs(tmp_path: Path) -> None:
    build = ["-W", "default", "-m", "hatchling", "build"]
    env = {**os.environ, "PYTHONPATH": ""}
    for where, kind in ((ROOT / "python" / "virtufin", "sdist"), (tmp_path / "source", "wheel")):
        if kind == "wheel":
            where.mkdir()
            [archive] = tmp_path.glob("*.tar.gz")
            subprocess.run(["tar", "xzf", archive, "-C", where, "--strip-components=1"], check=True)
        command = [GRPCIO, *build, "-t", kind, "-d", str(tmp_path)]
        done = subprocess.run(command, cwd=where, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
    [wheel] = tmp_path.glob("*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [metadata] = [archive.read(name).decode() for name in names if name.endswith("METADATA")]
    assert {f"virtufin/api/client/{stub}.py" for stub in STUBS} <= names
    assert "virtufin/py.typed" in names
    assert not any("hatch" in name or "test" in name for name in names)
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist")]
    assert [line.split()[1].split("<")[0].split(">")[0] for line in required] == ["oxgrpc", "protobuf"]
