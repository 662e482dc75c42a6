"""Metadata's types: a mapping with several values a key, and what is accepted in its place."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import assert_type

from oxgrpc import aio

metadata = aio.Metadata(("k", "v"), ("k-bin", b"v"))
assert_type(metadata["k"], "str | bytes")
assert_type(metadata.get("k"), "str | bytes | None")
assert_type(metadata.get_all("k"), "list[str | bytes]")
assert_type(metadata + aio.Metadata(), aio.Metadata)
assert_type(aio.Metadata.from_tuple((("k", "v"),)), aio.Metadata)
assert_type(dict(metadata), "dict[str, str | bytes]")
for key, value in metadata:
    assert_type(key, str)
    assert_type(value, "str | bytes")
metadata["k"] = "w"
metadata.add("k", b"x")
del metadata["k"]

aio.Metadata(("k", 1))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
metadata["k"] = 1  # type: ignore[assignment] # pyright: ignore[reportArgumentType]


async def sent(channel: aio.Channel, pairs: Sequence[tuple[str, str]]) -> None:
    method = channel.unary_unary("/s/m")
    await method(b"", metadata=metadata)
    await method(b"", metadata=pairs)
    await method(b"", metadata=[("k", "v"), ("k-bin", b"v")])
    await method(b"", metadata=(await method(b"").trailing_metadata()))
    await method(b"", metadata="k: v")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await method(b"", metadata=[("k", 1)])  # type: ignore[list-item] # pyright: ignore[reportArgumentType]
