"""A named pair of metadata: what a handler's ``invocation_metadata()`` is made of."""

from collections import namedtuple

_Metadatum = namedtuple("_Metadatum", ("key", "value"))
