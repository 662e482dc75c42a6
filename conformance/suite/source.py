"""Obtains grpcio's tests: Debian's source package, by apt, from the mirror that this machine uses anyway.

Everything happens below a directory of our own. The machine's apt configuration is read and never written.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

VERSION = "1.51.1"
_PACKAGE = f"grpc={VERSION}-6"
_TARBALL = f"grpc_{VERSION}.orig.tar.gz"
_SUITE = "trixie"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

#: What is unpacked, and where to.
_PARTS = {"src/python/grpcio_tests/tests": "tests", "src/proto/": "src/proto/"}

#: Protos that no Python test imports, or that a test compiles itself. Some define what others define.
_NOT_COMPILED = ("*/data/*", "*/testing/xds/*", "*/split_services/*", "*echo*", "*/simple_messages.proto")


class Unobtainable(Exception):
    """The source package cannot be had here, which says nothing about oxgrpc."""


def prepare(directory: Path, compiler: Path) -> Path:
    """The tree of tests, ready to run.

    Args:
      directory: where all of it is kept; a tree that is there already is used again.
      compiler: a Python that has grpcio-tools.

    Raises:
      Unobtainable: no apt, no mirror, or a mirror without the package.
    """
    tree, stamp = directory / "tree", directory / "prepared"
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == recipe:
        return tree
    tarball = _obtain(directory)
    shutil.rmtree(tree, ignore_errors=True)
    _unpack(tarball, tree)
    _adapt(tree)
    _compile(tree, compiler)
    stamp.write_text(recipe)
    return tree


def _obtain(directory: Path) -> Path:
    tarball = directory / _TARBALL
    if tarball.is_file():
        return tarball
    apt = directory / "apt"
    for needed in ("lists/partial", "cache/archives/partial", "state", "parts"):
        (apt / needed).mkdir(parents=True, exist_ok=True)
    (apt / "sources.list").write_text(f"deb-src [signed-by={_KEYRING}] {_mirror()} {_SUITE} main\n")
    places = {"Etc::sourcelist": "sources.list", "Etc::sourceparts": "parts", "State": "state"}
    places |= {"State::lists": "lists", "Cache": "cache"}
    settings = [f'Dir::{name} "{(apt / place).resolve()}";\n' for name, place in places.items()]
    # Files that only their owner may read are downloaded here: apt's own user could not.
    settings += ['Dir::State::status "/var/lib/dpkg/status";\n', f'APT::Sandbox::User "{_user()}";\n']
    (apt / "apt.conf").write_text("".join(settings))
    environment = {**os.environ, "APT_CONFIG": str((apt / "apt.conf").resolve())}
    _apt("update", environment=environment)
    _apt("source", "--download-only", _PACKAGE, environment=environment, cwd=directory)
    if not tarball.is_file():
        raise Unobtainable(f"apt-get source {_PACKAGE} left no {_TARBALL}")
    return tarball


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def _mirror() -> str:
    listed = _apt("indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
    for address in listed.splitlines():
        if address.rstrip("/").endswith("/debian"):
            return address
    raise Unobtainable("apt knows no Debian mirror on this machine")


def _apt(*arguments: str, environment: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    command = ["apt-get", "--quiet", *arguments]
    try:
        done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unobtainable(f"{' '.join(command)}: {error}") from error
    # Without a network, an update only warns.
    if done.returncode or re.search(r"(?m)^(Err|E):", done.stdout + done.stderr):
        raise Unobtainable(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-600:]}")
    return done.stdout


def _unpack(tarball: Path, tree: Path) -> None:
    def wanted(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
        for member in archive:
            inner = member.name.partition("/")[2]
            for part, place in _PARTS.items():
                if inner.startswith(part):
                    yield member.replace(name=place + inner.removeprefix(part))

    with tarfile.open(tarball) as archive:
        archive.extractall(tree, members=wanted(archive), filter="data")
    for directory, _, files in os.walk(tree):
        # unittest's loader wants packages with a file.
        if directory.startswith(str(tree / "src")) or any(name.endswith(".py") for name in files):
            (Path(directory) / "__init__.py").touch()
    # Some tests name their files from the root of grpc's repository.
    (tree / "src/python").mkdir()
    (tree / "src/python/grpcio_tests").symlink_to("../..")


def _echo_original_request(text: str) -> str:
    """The reflection service of 1.85 returns the request with each answer."""

    def one_test(block: str) -> str:
        numbers = iter(range(block.count("valid_host=")))
        return re.sub(
            r"valid_host=(?:''|\"\"),",
            lambda found: f"{found.group(0)} original_request=requests[{next(numbers)}],",
            block,
        )

    return "".join(map(one_test, re.split(r"(?=\n    (?:async )?def test)", text)))


def _unskip(text: str) -> str:
    """Tests that upstream skips as flaky on its own machines; genuine grpcio 1.85 passes them."""
    return re.sub(r"(?m)^ *@unittest\.skip\(.https://[^)]*\)\n", "", text)


_ADAPTED: dict[str, Callable[[str], str]] = {
    "tests/reflection/_reflection_servicer_test.py": _echo_original_request,
    "tests_aio/reflection/reflection_servicer_test.py": _echo_original_request,
    "tests/unit/_exit_test.py": _unskip,
    "tests/unit/_abort_test.py": _unskip,
}


def _adapt(tree: Path) -> None:
    """The tests are of 1.51: what 1.85 answers otherwise is put right."""
    for name, change in _ADAPTED.items():
        text = (tree / name).read_text()
        changed = change(text)
        if changed == text:
            raise RuntimeError(f"{name} is not what was expected of {VERSION}")
        (tree / name).write_text(changed)


def _compile(tree: Path, compiler: Path) -> None:
    protos = sorted(str(proto.relative_to(tree)) for proto in tree.rglob("*.proto"))
    protos = [proto for proto in protos if not any(fnmatch.fnmatch(proto, glob) for glob in _NOT_COMPILED)]
    command = [str(compiler), "-m", "grpc_tools.protoc", "-I.", "--python_out=.", "--grpc_python_out=.", *protos]
    subprocess.run(command, cwd=tree, check=True)
