"""Types: every public one is known, programs of users type-check, and what is declared of the native module is true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="type checkers are not installed here")
pytest.importorskip("basedpyright", reason="type checkers are not installed here")

HERE = Path(__file__).parent
PROGRAMS = HERE / "typing"
README = HERE.parent / "README.md"


def said_by(*command: str) -> tuple[int, str]:
    """What a type checker says: its exit code and its output."""
    bin = Path(sys.executable).parent
    # Pyright asks whichever Python it finds first where packages are.
    environment = {**os.environ, "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [str(bin / command[0]), *command[1:]],
        cwd=HERE.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout


def test_every_public_type_is_known() -> None:
    code, said = said_by("basedpyright", "--verifytypes", "oxgrpc", "--ignoreexternal")
    assert code == 0, said
    assert "Type completeness score: 100%" in said
    assert "oxgrpc.aio\n" in said


def test_what_is_declared_is_there() -> None:
    """Classes, methods and parameters of the native module and of the lazy packages, against the running ones."""
    code, said = said_by("stubtest", "oxgrpc", "--concise", "--ignore-disjoint-bases")
    assert (code, said) == (0, ""), said


def test_programs_type_check_with_mypy() -> None:
    """Mistakes that a type checker is to find are in them, too, each marked: a mark too many fails."""
    code, said = said_by("mypy", "examples/weather", *map(str, sorted(PROGRAMS.glob("*.py"))))
    assert code == 0, said
    assert said.startswith("Success")


def test_the_program_of_the_readme_type_checks() -> None:
    block = re.search(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    assert block is not None
    code, said = said_by("mypy", "--config-file=", "--strict", "--command", block[1])
    assert code == 0, said


def test_programs_type_check_with_pyright() -> None:
    code, said = said_by("basedpyright", "--project", str(PROGRAMS))
    assert code == 0, said
    assert said.startswith("0 errors, 0 warnings")
