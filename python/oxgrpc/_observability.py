"""What grpcio-observability builds on: a plugin that grpcio's C core calls while it traces.

oxgrpc has no such core. The class is here to be subclassed and named in annotations; to install a plugin is an error.
Calls are observed with interceptors, as OpenTelemetry's instrumentation does.
"""

from __future__ import annotations

import abc
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Generic, NoReturn, TypeVar

_Tracer = TypeVar("_Tracer")
_Factory = TypeVar("_Factory")


class ObservabilityPlugin(Generic[_Tracer, _Factory], abc.ABC):
    """A plugin of grpcio's core."""

    _tracing_enabled: bool = False
    _stats_enabled: bool = False

    @abc.abstractmethod
    def create_client_call_tracer(self, method_name: bytes, target: bytes) -> _Tracer:
        """What traces a call."""
        raise NotImplementedError

    @abc.abstractmethod
    def save_trace_context(self, trace_id: str, span_id: str, is_sampled: bool) -> None:
        """Makes a trace the current one."""
        raise NotImplementedError

    @abc.abstractmethod
    def create_server_call_tracer_factory(self, *, xds: bool = False) -> _Factory | None:
        """What makes tracers of a server's calls."""
        raise NotImplementedError

    @abc.abstractmethod
    def record_rpc_latency(self, method: str, target: str, rpc_latency: float, status_code: Any) -> None:
        """Takes note of how long a call took."""
        raise NotImplementedError

    def set_tracing(self, enable: bool) -> None:
        """Turns tracing on or off."""
        self._tracing_enabled = enable

    def set_stats(self, enable: bool) -> None:
        """Turns statistics on or off."""
        self._stats_enabled = enable

    def save_registered_method(self, method_name: bytes) -> None:
        """Takes note of a method that is registered."""
        raise NotImplementedError

    @property
    def tracing_enabled(self) -> bool:
        return self._tracing_enabled

    @property
    def stats_enabled(self) -> bool:
        return self._stats_enabled

    @property
    def observability_enabled(self) -> bool:
        return self._tracing_enabled or self._stats_enabled


@contextmanager
def get_plugin() -> Generator[None, None, None]:
    """The plugin that is installed: none."""
    yield None


def observability_init(observability_plugin: ObservabilityPlugin[Any, Any]) -> NoReturn:
    """Raises NotImplementedError."""
    raise NotImplementedError("oxgrpc has no C core that a plugin could trace; observe calls with interceptors")


def observability_deinit() -> None:
    """Does nothing: no plugin is installed."""
