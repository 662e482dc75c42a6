"""grpcio's experimental names, as far as generated code refers to them."""

from __future__ import annotations

from .. import aio as aio
from .._common import missing

__all__ = ("aio",)


def __getattr__(name: str) -> object:
    raise AttributeError(missing(__name__, name))
