"""Metadata as the asynchronous API gives it: an ordered mapping whose keys may have several values."""

from __future__ import annotations

from collections.abc import Collection, ItemsView, Iterable, Iterator, KeysView, Sequence, ValuesView
from typing import ClassVar, Union

MetadataKey = str
MetadataValue = Union[str, bytes]
MetadatumType = tuple[MetadataKey, MetadataValue]
MetadataType = Union["Metadata", Sequence[MetadatumType]]


class Metadata(Collection[MetadatumType]):
    """Pairs of keys and values, in the order in which their keys first came.

    ``metadata[key]`` is the first value of a key, :meth:`get_all` gives all. Keys that end in ``-bin`` have ``bytes``
    values, the others ``str``.
    """

    __hash__: ClassVar[None]  # type: ignore[assignment]  # it can change

    def __init__(self, *args: MetadatumType) -> None:
        self._metadata: dict[MetadataKey, list[MetadataValue]] = {}
        for key, value in args:
            self.add(key, value)

    @classmethod
    def from_tuple(cls, raw_metadata: Iterable[MetadatumType] | None) -> Metadata:
        """Metadata of pairs; ``None`` has none."""
        return cls(*raw_metadata) if raw_metadata else cls()

    @classmethod
    def _create(cls, raw_metadata: Iterable[MetadatumType] | None) -> Metadata:
        return raw_metadata if isinstance(raw_metadata, cls) else cls.from_tuple(raw_metadata)

    def add(self, key: MetadataKey, value: MetadataValue) -> None:
        """Adds a value to those of a key."""
        self._metadata.setdefault(key, []).append(value)

    def __len__(self) -> int:
        return sum(map(len, self._metadata.values()))

    def __getitem__(self, key: MetadataKey) -> MetadataValue:
        values = self._metadata[key]
        if not values:
            raise KeyError(key)
        return values[0]

    def __setitem__(self, key: MetadataKey, value: MetadataValue) -> None:
        self._metadata.setdefault(key, [])[:1] = [value]

    def __delitem__(self, key: MetadataKey) -> None:
        values = self._metadata[key]
        if not values:
            raise KeyError(key)
        del values[0]
        if not values:
            del self._metadata[key]

    def delete_all(self, key: MetadataKey) -> None:
        """Removes a key with all its values."""
        del self._metadata[key]

    def __iter__(self) -> Iterator[MetadatumType]:
        for key, values in self._metadata.items():
            for value in values:
                yield key, value

    def keys(self) -> KeysView[MetadataKey]:
        """The keys, each once."""
        return KeysView(self._metadata)

    def values(self) -> ValuesView[list[MetadataValue]]:
        """The lists of values."""
        return ValuesView(self._metadata)

    def items(self) -> ItemsView[MetadataKey, list[MetadataValue]]:
        """The keys with their lists of values."""
        return ItemsView(self._metadata)

    def get(self, key: MetadataKey, default: MetadataValue | None = None) -> MetadataValue | None:
        """The first value of a key, or the default."""
        values = self._metadata.get(key)
        return values[0] if values else default

    def get_all(self, key: MetadataKey) -> list[MetadataValue]:
        """All values of a key; an empty list if it has none."""
        return self._metadata.get(key, [])

    def set_all(self, key: MetadataKey, values: list[MetadataValue]) -> None:
        """Sets the values of a key, in place of others."""
        self._metadata[key] = values

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key in self._metadata

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (self.__class__, tuple)):
            return tuple(self) == tuple(other)
        return NotImplemented

    def __add__(self, other: object) -> Metadata:
        if isinstance(other, (self.__class__, tuple)):
            return Metadata(*self, *other)
        return NotImplemented

    def __repr__(self) -> str:
        return f"{type(self).__name__}({tuple(self)!r})"
