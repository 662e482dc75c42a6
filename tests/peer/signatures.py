"""Writes down a package's public names: what they are, and what they take. ``signatures.py grpc`` or ``… oxgrpc``.

Prints an object whose keys are paths (``aio.Channel.close``) and whose values say, in words, what is there.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import json
import sys
import typing
from collections.abc import Iterator
from typing import Any

#: Added by classes of Python's own, and different from one version of Python to the next.
NOT_OURS = {"__init_subclass__", "__subclasshook__", "__class_getitem__", "__new__", "__getnewargs__", "__replace__"}


def written(function: Any) -> str:
    """A function: its parameters with their kinds and defaults, without types."""
    signature = inspect.signature(function)
    bare = [parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()]
    kind = "async " if inspect.iscoroutinefunction(function) else ""
    return kind + str(signature.replace(parameters=bare, return_annotation=signature.empty))


def of_class(path: str, declared: type, public: dict[type, str]) -> Iterator[tuple[str, str]]:
    bases = {public.get(base, base.__name__) for base in declared.__mro__[1:] if is_known(base, public)}
    yield path, "class(" + ", ".join(sorted(bases)) + ")"
    yield path + ":abstract", " ".join(sorted(getattr(declared, "__abstractmethods__", ())))
    if issubclass(declared, tuple):
        yield path + ":fields", " ".join(getattr(declared, "_fields", ()))
    if issubclass(declared, enum.Enum):
        for member in declared:
            yield f"{path}.{member.name}", repr(member.value)
        return
    ours = [base for base in declared.__mro__ if base.__module__.partition(".")[0] in ("grpc", "oxgrpc", "_cython")]
    for name in sorted({name for base in ours for name in vars(base)}):
        is_dunder = name.startswith("__") and name.endswith("__")
        if (name.startswith("_") and not is_dunder) or name in NOT_OURS:
            continue
        value = getattr(declared, name)
        if name == "__init__" and (is_protocol(declared) or declared.__init__ is object.__init__):
            continue
        if inspect.isroutine(value) and not isinstance(value, type(object.__lt__)):
            yield f"{path}.{name}", written(value)
        elif not is_dunder and not issubclass(declared, tuple):
            yield f"{path}.{name}", "property" if isinstance(value, property) else repr(value)


def is_protocol(declared: type) -> bool:
    return typing.Protocol in declared.__mro__


def is_known(base: type, public: dict[type, str]) -> bool:
    """Whether a base class is part of what is promised: a public one, or one of Python's that can be told from it."""
    return base in public or (base.__module__ in ("builtins", "collections.abc") and base is not object)


def describe(package: str) -> dict[str, str]:
    """All public names of a package and of its public modules."""
    modules = {prefix: importlib.import_module(package + suffix) for prefix, suffix in MODULES.items()}
    found = {prefix + name: getattr(module, name) for prefix, module in modules.items() for name in module.__all__}
    public = {value: path for path, value in found.items() if inspect.isclass(value)}
    described: dict[str, str] = {}
    for path, value in found.items():
        if inspect.isclass(value):
            described.update(of_class(path, value, public))
        elif inspect.isroutine(value):
            described[path] = written(value)
        elif inspect.ismodule(value) or isinstance(value, str):
            described[path] = type(value).__name__
        else:
            described[path] = f"{value!r} {bool(value)}"
    return described


#: Where public names are: what their paths begin with, and the module.
MODULES = {"": "", "aio.": ".aio", "experimental.": ".experimental"}

if __name__ == "__main__":
    json.dump(describe(sys.argv[1]), sys.stdout, indent=1)
