"""Makes ``import grpc`` mean this package.

Generated code and libraries written for grpcio import ``grpc``, ``grpc.aio`` and some private modules. Each such name
is answered with the module of the same name here, the very same object, so that nothing exists twice.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Loader
else:
    # importing importlib.abc costs as much as all of this package
    Loader = object

_NAME = "grpc"
_PREFIX = _NAME + "."


class _Loader(Loader):
    def __init__(self, module: ModuleType) -> None:
        self._module = module
        # The import system writes the alias's spec into the module it is given: it gets its own back.
        self._spec = module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


class _Finder:
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(_PREFIX):
            return None
        ours = f"{__package__}.{fullname[len(_PREFIX) :]}"
        try:
            module = importlib.import_module(ours)
        except ModuleNotFoundError as error:
            if error.name != ours:
                raise
            return None
        return ModuleSpec(fullname, _Loader(module), is_package=hasattr(module, "__path__"))


def install_as_grpc() -> None:
    """Answers ``import grpc`` with oxgrpc from now on, in the whole process. May be repeated.

    Call it before anything imports ``grpc``.

    Raises:
      RuntimeError: genuine grpcio has been imported already, so that two packages would share one name.
    """
    ours = sys.modules[__package__ or ""]
    present = sys.modules.get(_NAME)
    if present is ours:
        return
    if present is not None:
        raise RuntimeError(
            f"grpc is already imported from {getattr(present, '__file__', '?')}; "
            "call oxgrpc.install_as_grpc() before anything imports it"
        )
    sys.modules[_NAME] = ours
    sys.meta_path.insert(0, _Finder())
