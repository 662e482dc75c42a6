"""The code of docs/virtufin.md and of the wheel's README runs as printed, against the real gateway."""

from __future__ import annotations

from pathlib import Path

import pytest
from platform_process import Platform
from test_client_snippets import run

from run_snippet import blocks

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "virtufin.md"
README = ROOT / "python" / "virtufin" / "README.md"

SERVICES = "['echo', 'websocketmanager', 'workmanager']"

#: What each block prints.
PRINTS = {
    PAGE: [
        ["1.09"],
        [SERVICES, "echo: hello", "item 0", "item 1", "NOT_FOUND UnaryMethod"],
        ["{'balance': '50'}", "[]"],
        ["orders {'id': 1}"],
        ["{'total': 6}"],
        ["ApiClient(host='gateway.example.com', grpc_port={port}, secure)"],
        [],
    ],
    README: [[SERVICES, "{'workers': []}"]],
}


@pytest.mark.parametrize(
    ("page", "number"),
    [pytest.param(page, n, id=f"{page.name}-{n}") for page, printed in PRINTS.items() for n in range(len(printed))],
)
def test_a_block_prints_what_it_should(page: Path, number: int, platform: Platform) -> None:
    expected = [line.replace("{port}", str(platform.grpc_port)) for line in PRINTS[page][number]]
    assert run(str(number), platform.grpc_port, page=page) == expected


@pytest.mark.parametrize("page", PRINTS, ids=lambda page: page.name)
def test_every_block_is_run(page: Path) -> None:
    assert len(blocks(page)) == len(PRINTS[page])
