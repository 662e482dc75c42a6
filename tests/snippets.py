"""The usage examples of grpcio's documentation, out of snippets.md."""

from __future__ import annotations

import re
from pathlib import Path

_TEXT = Path(__file__).with_suffix(".md").read_text()

#: The code of each section.
SECTIONS = dict(re.findall(r"^## (.+?)\n+```python\n(.*?)^```", _TEXT, re.DOTALL | re.MULTILINE))


def functions(section: str) -> list[str]:
    """The coroutine functions that a section defines at its top level."""
    return re.findall(r"^async def (\w+)", SECTIONS[section], re.MULTILINE)
