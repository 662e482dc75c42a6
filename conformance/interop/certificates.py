"""A certificate authority and a server's certificate for one run, made by openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

#: The name that clients check, as grpc's own test certificates have it.
SERVER_NAME = "foo.test.google.fr"
_NAMES = "DNS:*.test.google.fr,DNS:localhost,IP:127.0.0.1,IP:::1"
_NEW = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Certificates:
    """The files. Their names are those that grpc-java's programs look for in ``certs/`` on their class path."""

    directory: Path

    @property
    def ca(self) -> Path:
        return self.directory / "certs/ca.pem"

    @property
    def cert(self) -> Path:
        return self.directory / "certs/server1.pem"

    @property
    def key(self) -> Path:
        return self.directory / "certs/server1.key"


def make(directory: Path) -> Certificates:
    made = Certificates(directory)
    made.ca.parent.mkdir(parents=True, exist_ok=True)
    ca_key, request, names = directory / "ca.key", directory / "server.csr", directory / "names"
    _openssl("req", "-x509", *_NEW, "-keyout", ca_key, "-out", made.ca, "-days", "2", "-subj", "/CN=oxgrpc interop CA")
    _openssl("req", *_NEW, "-keyout", made.key, "-out", request, "-subj", "/CN=oxgrpc interop server")
    names.write_text(f"subjectAltName={_NAMES}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n")
    by = ("-CA", made.ca, "-CAkey", ca_key, "-CAcreateserial")
    _openssl("x509", "-req", "-in", request, *by, "-out", made.cert, "-days", "2", "-extfile", names)
    return made


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
