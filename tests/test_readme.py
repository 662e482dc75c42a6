"""What the README shows runs as pasted."""

from __future__ import annotations

import re
from pathlib import Path

import program

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)


def test_the_first_block_runs_as_pasted() -> None:
    assert program.output_of(BLOCKS[0]) == "[b'Hello, Ada', b'Hello, Grace']\n"


def test_the_second_block_makes_generated_code_run() -> None:
    """With generated code of ours: there is no helloworld here."""
    install, generated = BLOCKS[1].splitlines()[-2:]
    assert generated.startswith("import helloworld_pb2_grpc")
    code = f"import oxgrpc\n{install}\nimport my_service_pb2_grpc, grpc\nprint(grpc is oxgrpc)\n"
    assert install == "oxgrpc.install_as_grpc()"
    assert program.output_of(code) == "True\n"


def test_there_are_no_other_blocks() -> None:
    assert len(BLOCKS) == 2
