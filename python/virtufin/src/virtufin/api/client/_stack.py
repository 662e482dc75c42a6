"""Settles what ``import grpc`` means to this package: what it means to the program, or else oxgrpc.

Where a ``grpc`` can be imported it is used, so that the ``grpc.RpcError`` of the user's ``except`` is the class that is
raised: genuine grpcio, or oxgrpc if the program has called ``oxgrpc.install_as_grpc()``.
"""

from __future__ import annotations

try:
    import grpc.aio  # noqa: F401
except ModuleNotFoundError as missing:
    if missing.name != "grpc":
        raise  # A grpc that is there but broken is not replaced in silence.
    try:
        import oxgrpc
    except ModuleNotFoundError as neither:
        raise ModuleNotFoundError(
            "virtufin.api.client needs gRPC, and neither grpc nor oxgrpc is installed: pip install oxgrpc",
            name="oxgrpc",
        ) from neither
    oxgrpc.install_as_grpc()
