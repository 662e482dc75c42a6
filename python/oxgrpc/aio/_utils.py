"""Deadlines as other packages reckon them."""

from __future__ import annotations

import time


def _timeout_to_deadline(timeout: float | None) -> float | None:
    """The deadline, in seconds since the epoch, of something that begins now."""
    return None if timeout is None else time.time() + timeout
