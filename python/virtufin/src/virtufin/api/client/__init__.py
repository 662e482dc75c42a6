"""The client of the Virtufin gateway: services, state and pub/sub.

    import asyncio
    from virtufin.api.client import ApiClient

    async def main():
        async with ApiClient(host="localhost", grpc_port=5002) as client:
            print(await client.list_services_async())

    asyncio.run(main())

Everything is asynchronous. A failed RPC raises ``grpc.RpcError``; a failure that the gateway reports in its answer
raises :class:`GatewayError`, a ``ValueError``.
"""

# The module that settles what `import grpc` means has to be the first.
from . import _stack as _stack
from ._calls import UNSET as UNSET
from ._client import ApiClient as ApiClient
from ._dapr import DaprPublisher as DaprPublisher
from ._errors import GatewayError as GatewayError
from ._events import Gap as Gap
from ._events import PubsubEvent as PubsubEvent
from ._events import StreamEvent as StreamEvent
from ._gateway import GatewayClient as GatewayClient
from ._gateway import ServiceClient as ServiceClient
from ._gateway import ServiceMethod as ServiceMethod
from ._handlers import StreamEventHandler as StreamEventHandler
from ._pubsub import PubsubClient as PubsubClient
from ._response import Response as Response
from ._streams import EventStream as EventStream
from ._subscription import Subscription as Subscription

__all__ = [
    "UNSET",
    "ApiClient",
    "DaprPublisher",
    "EventStream",
    "Gap",
    "GatewayClient",
    "GatewayError",
    "PubsubClient",
    "PubsubEvent",
    "Response",
    "ServiceClient",
    "ServiceMethod",
    "StreamEvent",
    "StreamEventHandler",
    "Subscription",
]
