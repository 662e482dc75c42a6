"""The calls' own classes, under the names that packages written for grpcio look for."""

from __future__ import annotations

from .._native import Call as Call
from .._native import StreamStreamCall as StreamStreamCall
from .._native import StreamUnaryCall as StreamUnaryCall
from .._native import UnaryStreamCall as UnaryStreamCall
from .._native import UnaryUnaryCall as UnaryUnaryCall
from ._errors import AioRpcError as AioRpcError
