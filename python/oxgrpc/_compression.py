"""Compression as channel arguments and as metadata, for packages that reach for it where grpcio has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._cython.cygrpc import (
    GRPC_COMPRESSION_CHANNEL_DEFAULT_ALGORITHM,
    GRPC_COMPRESSION_REQUEST_ALGORITHM_MD_KEY,
    CompressionAlgorithm,
)

if TYPE_CHECKING:
    from ._status import Compression
    from ._typing import MetadataType, MetadatumType

__all__ = ("Deflate", "Gzip", "NoCompression")

NoCompression = CompressionAlgorithm.none
Deflate = CompressionAlgorithm.deflate
Gzip = CompressionAlgorithm.gzip

_ENCODINGS = {NoCompression: "identity", Deflate: "deflate", Gzip: "gzip"}


def compression_algorithm_to_metadata(compression: Compression) -> MetadatumType:
    """A pair that asks for an encoding of the requests."""
    return GRPC_COMPRESSION_REQUEST_ALGORITHM_MD_KEY, _ENCODINGS[compression]


def create_channel_option(compression: Compression | None) -> tuple[tuple[str, int], ...]:
    """Channel arguments that make an encoding the default."""
    return ((GRPC_COMPRESSION_CHANNEL_DEFAULT_ALGORITHM, int(compression)),) if compression else ()


def augment_metadata(metadata: MetadataType | None, compression: Compression | None) -> MetadataType | None:
    """Metadata with a pair that asks for an encoding, if one is given."""
    if not metadata and not compression:
        return None
    asking = (compression_algorithm_to_metadata(compression),) if compression else ()
    return (*(metadata or ()), *asking)
