"""A named pair of metadata: what a handler's ``invocation_metadata()`` is made of."""

from __future__ import annotations

from typing import NamedTuple


class _Metadatum(NamedTuple):
    key: str
    value: str | bytes
