"""The types of credentials: of channels, of servers, of calls."""

from __future__ import annotations

from typing_extensions import assert_type

import oxgrpc as grpc
from oxgrpc import aio


class Tokens(grpc.AuthMetadataPlugin):
    """A plugin as a class."""

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        callback((("token", context.service_url + context.method_name),), None)


def token(context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
    callback(None, ValueError())


def renewed() -> grpc.ServerCertificateConfiguration | None:
    return None


channel_credentials = grpc.ssl_channel_credentials(root_certificates=b"", private_key=None, certificate_chain=None)
assert_type(channel_credentials, grpc.ChannelCredentials)
call_credentials = grpc.composite_call_credentials(
    grpc.access_token_call_credentials("x"), grpc.metadata_call_credentials(Tokens(), name="x")
)
assert_type(call_credentials, grpc.CallCredentials)
assert_type(grpc.composite_channel_credentials(channel_credentials, call_credentials), grpc.ChannelCredentials)
assert_type(grpc.local_channel_credentials(grpc.LocalConnectionType.UDS), grpc.ChannelCredentials)
server_credentials = grpc.ssl_server_credentials([(b"key", b"chain")], root_certificates=b"", require_client_auth=True)
assert_type(server_credentials, grpc.ServerCredentials)
configuration = grpc.ssl_server_certificate_configuration(((b"key", b"chain"),))
assert_type(configuration, grpc.ServerCertificateConfiguration)
assert_type(grpc.dynamic_ssl_server_credentials(configuration, renewed), grpc.ServerCredentials)
assert_type(grpc.metadata_call_credentials(token), grpc.CallCredentials)
grpc.metadata_call_credentials("x")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
grpc.ssl_channel_credentials("pem")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
grpc.composite_channel_credentials(call_credentials)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


async def main() -> None:
    server = aio.server()
    assert_type(server.add_secure_port("localhost:0", server_credentials), int)
    server.add_secure_port("localhost:0", channel_credentials)  # type: ignore[arg-type] # pyright: ignore
    async with aio.secure_channel("localhost:1", channel_credentials) as channel:
        call = channel.unary_unary("/s/m")(b"", credentials=call_credentials)
        assert_type(await call, bytes)
        channel.unary_unary("/s/m")(b"", credentials=channel_credentials)  # type: ignore[arg-type] # pyright: ignore
    aio.secure_channel("localhost:1")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
