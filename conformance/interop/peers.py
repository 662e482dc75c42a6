"""The implementations: what each needs of the machine, how its programs are built, and how they are started.

grpc-go and grpc-java publish their interop programs, which are taken as they are; the others' are beside this file.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from ..program import ROOT
from .certificates import SERVER_NAME, Certificates

HERE = Path(__file__).parent
WORK = ROOT / "build/interop"


class Peer(ABC):
    """An implementation's interop client and server."""

    name: str
    #: Programs without which its rows are left out.
    needs: ClassVar[tuple[str, ...]] = ()
    #: Where its version is pinned, and how it is written there.
    pinned: ClassVar[tuple[str, str]]

    def missing(self) -> list[str]:
        return [program for program in self.needs if shutil.which(program) is None]

    @property
    def version(self) -> str:
        file, pattern = self.pinned
        found = re.search(pattern, (ROOT / file).read_text())
        return found.group(1) if found else "?"

    @abstractmethod
    def build(self) -> None:
        """Makes the programs, if they are not there."""

    @abstractmethod
    def server(self, tls: Certificates | None) -> list[str]:
        """The command of a server on a port of its own choice."""

    @abstractmethod
    def client(self, port: int, case: str, tls: Certificates | None) -> list[str]:
        """The command of a client that runs a case and exits with 0 if it passed."""

    def _run(self, *command: str | Path, directory: Path = HERE, **environment: str) -> None:
        subprocess.run([*map(str, command)], cwd=directory, env={**os.environ, **environment}, check=True)


class Python(Peer):
    """oxgrpc or genuine grpcio: the same programs in the virtual environment of each."""

    def __init__(self, name: str, python: Path) -> None:
        self.name = name
        self._python = str(python.absolute())

    @property
    def version(self) -> str:
        code = f"from importlib.metadata import version; print(version('{self.name}'))"
        return subprocess.check_output([self._python, "-c", code], text=True).strip()

    def build(self) -> None:
        pass

    def server(self, tls: Certificates | None) -> list[str]:
        secure = ["--cert", str(tls.cert), "--key", str(tls.key)] if tls else []
        return [self._python, "-m", "conformance.interop.python.server", self.name, *secure]

    def client(self, port: int, case: str, tls: Certificates | None) -> list[str]:
        secure = ["--ca", str(tls.ca), "--server-name", SERVER_NAME] if tls else []
        program = [self._python, "-m", "conformance.interop.python.client", self.name]
        return [*program, "--port", str(port), "--case", case, *secure]


class Tonic(Peer):
    name = "tonic"
    needs = ("cargo",)
    pinned = ("conformance/interop/tonic/Cargo.lock", r'name = "tonic"\nversion = "(.*)"')
    _program = str(WORK / "tonic/debug/oxgrpc-interop-tonic")

    def __init__(self, compiler: Path) -> None:
        self._compiler = compiler.absolute()

    def build(self) -> None:
        # prost starts a program named protoc; ours is a module of grpcio-tools.
        protoc = WORK / "protoc"
        protoc.write_text(f'#!/bin/sh\nexec {self._compiler} -m grpc_tools.protoc "$@"\n')
        protoc.chmod(0o755)
        places = {"PROTOC": str(protoc), "CARGO_TARGET_DIR": str(WORK / "tonic")}
        self._run("cargo", "build", "--quiet", "--locked", directory=HERE / "tonic", **places)

    def server(self, tls: Certificates | None) -> list[str]:
        return [self._program, "server", *((str(tls.cert), str(tls.key)) if tls else ())]

    def client(self, port: int, case: str, tls: Certificates | None) -> list[str]:
        return [self._program, "client", str(port), case, *((str(tls.ca), SERVER_NAME) if tls else ())]


class GrpcJs(Peer):
    name = "grpc-js"
    needs = ("node", "npm")
    pinned = ("conformance/interop/grpc-js/package.json", r'"@grpc/grpc-js": "(.*)"')

    def build(self) -> None:
        locked, installed = HERE / "grpc-js/package-lock.json", HERE / "grpc-js/node_modules/.package-lock.json"
        if not installed.is_file() or installed.stat().st_mtime < locked.stat().st_mtime:
            self._run("npm", "ci", "--silent", "--ignore-scripts", directory=HERE / "grpc-js")
            installed.touch()

    def server(self, tls: Certificates | None) -> list[str]:
        secure = ["--cert", str(tls.cert), "--key", str(tls.key)] if tls else []
        return ["node", str(HERE / "grpc-js/server.mjs"), *secure]

    def client(self, port: int, case: str, tls: Certificates | None) -> list[str]:
        secure = ["--ca", str(tls.ca), "--server-name", SERVER_NAME] if tls else []
        return ["node", str(HERE / "grpc-js/client.mjs"), "--port", str(port), "--case", case, *secure]


class GrpcGo(Peer):
    name = "grpc-go"
    needs = ("go",)
    pinned = ("conformance/interop/grpc-go/go.mod", r"google\.golang\.org/grpc v(\S+)")

    def build(self) -> None:
        programs = (f"google.golang.org/grpc/interop/{end}" for end in ("client", "server"))
        self._run("go", "build", "-o", f"{WORK}/grpc-go/", *programs, directory=HERE / "grpc-go")

    def server(self, tls: Certificates | None) -> list[str]:
        secure = [f"--tls_cert_file={tls.cert}", f"--tls_key_file={tls.key}"] if tls else []
        return [f"{WORK}/grpc-go/server", "--port=0", f"--use_tls={_truth(tls)}", *secure]

    def client(self, port: int, case: str, tls: Certificates | None) -> list[str]:
        return [f"{WORK}/grpc-go/client", *_official(port, case, tls), *([f"--ca_file={tls.ca}"] if tls else [])]


class GrpcJava(Peer):
    name = "grpc-java"
    needs = ("java", "mvn")
    pinned = ("conformance/interop/grpc-java/pom.xml", r"<version>(\d+\.\d+\.\d+)</version>")
    _listed = WORK / "grpc-java.classpath"

    def build(self) -> None:
        pom = HERE / "grpc-java/pom.xml"
        if not self._listed.is_file() or self._listed.stat().st_mtime < pom.stat().st_mtime:
            options = ("-B", "--log-file", WORK / "grpc-java.log", f"-Dmdep.outputFile={self._listed}")
            self._run("mvn", *options, "-f", pom, "dependency:build-classpath")
            # Maven leaves a file alone that would not change.
            self._listed.touch()

    @cached_property
    def _classpath(self) -> str:
        return self._listed.read_text().strip()

    def _program(self, name: str, tls: Certificates | None) -> list[str]:
        # Its programs know no option for certificates: they read them from the class path, and ours come first there.
        path = f"{tls.directory}:{self._classpath}" if tls else self._classpath
        return ["java", "-XX:TieredStopAtLevel=1", "-cp", path, f"io.grpc.testing.integration.{name}"]

    def server(self, tls: Certificates | None) -> list[str]:
        return [*self._program("TestServiceServer", tls), "--port=0", f"--use_tls={_truth(tls)}"]

    def client(self, port: int, case: str, tls: Certificates | None) -> list[str]:
        return [*self._program("TestServiceClient", tls), *_official(port, case, tls)]


def _truth(tls: Certificates | None) -> str:
    return str(tls is not None).lower()


def _official(port: int, case: str, tls: Certificates | None) -> list[str]:
    """The options that all official clients have."""
    options = ["--server_host=127.0.0.1", f"--server_port={port}", f"--test_case={case}", f"--use_tls={_truth(tls)}"]
    return [*options, "--use_test_ca=true", f"--server_host_override={SERVER_NAME}"] if tls else options


def peers(compiler: Path) -> list[Peer]:
    """All of them. ``compiler`` is a Python with grpcio and grpcio-tools."""
    return [Python("grpcio", compiler), Tonic(compiler), GrpcJs(), GrpcGo(), GrpcJava()]
