"""What is imported, what that costs, and the names that are there: grpcio's."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from types import ModuleType
from typing import Any

import pytest

import oxgrpc
import program
from oxgrpc import aio

#: ``grpc.__all__`` of grpcio 1.85.
GRPC = {
    "AuthMetadataContext",
    "AuthMetadataPlugin",
    "AuthMetadataPluginCallback",
    "Call",
    "CallCredentials",
    "Channel",
    "ChannelConnectivity",
    "ChannelCredentials",
    "ClientCallDetails",
    "Compression",
    "Future",
    "FutureCancelledError",
    "FutureTimeoutError",
    "GenericRpcHandler",
    "HandlerCallDetails",
    "LocalConnectionType",
    "RpcContext",
    "RpcError",
    "RpcMethodHandler",
    "Server",
    "ServerCertificateConfiguration",
    "ServerCredentials",
    "ServerInterceptor",
    "ServiceRpcHandler",
    "ServicerContext",
    "Status",
    "StatusCode",
    "StreamStreamClientInterceptor",
    "StreamStreamMultiCallable",
    "StreamUnaryClientInterceptor",
    "StreamUnaryMultiCallable",
    "UnaryStreamClientInterceptor",
    "UnaryStreamMultiCallable",
    "UnaryUnaryClientInterceptor",
    "UnaryUnaryMultiCallable",
    "access_token_call_credentials",
    "alts_channel_credentials",
    "alts_server_credentials",
    "channel_ready_future",
    "composite_call_credentials",
    "composite_channel_credentials",
    "compute_engine_channel_credentials",
    "dynamic_ssl_server_credentials",
    "insecure_channel",
    "insecure_server_credentials",
    "intercept_channel",
    "local_channel_credentials",
    "local_server_credentials",
    "metadata_call_credentials",
    "method_handlers_generic_handler",
    "protos",
    "protos_and_services",
    "secure_channel",
    "server",
    "services",
    "ssl_channel_credentials",
    "ssl_server_certificate_configuration",
    "ssl_server_credentials",
    "stream_stream_rpc_method_handler",
    "stream_unary_rpc_method_handler",
    "unary_stream_rpc_method_handler",
    "unary_unary_rpc_method_handler",
    "xds_channel_credentials",
    "xds_server_credentials",
}
#: What of it comes next: the synchronous API's functions and credentials.
GRPC_NEXT = {name for name in GRPC if name.endswith(("_credentials", "Credentials"))} | {
    "AuthMetadataContext",
    "AuthMetadataPlugin",
    "AuthMetadataPluginCallback",
    "LocalConnectionType",
    "ServerCertificateConfiguration",
    "channel_ready_future",
    "insecure_channel",
    "intercept_channel",
    "protos",
    "protos_and_services",
    "secure_channel",
    "server",
    "services",
    "ssl_server_certificate_configuration",
}
#: ``grpc.aio.__all__`` of grpcio 1.85.
AIO = {
    "AbortError",
    "AioRpcError",
    "BaseError",
    "Call",
    "Channel",
    "ClientCallDetails",
    "ClientInterceptor",
    "EOF",
    "InterceptedUnaryUnaryCall",
    "InternalError",
    "Metadata",
    "RpcContext",
    "Server",
    "ServerInterceptor",
    "ServicerContext",
    "StreamStreamCall",
    "StreamStreamClientInterceptor",
    "StreamStreamMultiCallable",
    "StreamUnaryCall",
    "StreamUnaryClientInterceptor",
    "StreamUnaryMultiCallable",
    "UnaryStreamCall",
    "UnaryStreamClientInterceptor",
    "UnaryStreamMultiCallable",
    "UnaryUnaryCall",
    "UnaryUnaryClientInterceptor",
    "UnaryUnaryMultiCallable",
    "UsageError",
    "init_grpc_aio",
    "insecure_channel",
    "secure_channel",
    "server",
    "shutdown_grpc_aio",
}
#: What of it comes next.
AIO_NEXT = {name for name in AIO if "ntercept" in name} | {"ClientCallDetails", "secure_channel"}

#: What of ``grpc.experimental.__all__`` comes next.
EXPERIMENTAL_NEXT = {
    "insecure_channel_credentials",
    "ssl_channel_credentials_with_custom_signer",
    "stream_stream",
    "stream_unary",
    "unary_stream",
    "unary_unary",
}

#: The abstract classes of ``grpc.aio`` and their methods, coroutines with a star.
METHODS = {
    "Call": "add_done_callback cancel cancelled code* details* done initial_metadata* time_remaining trailing_metadata*"
    " wait_for_connection*",
    "Channel": "__aenter__* __aexit__* channel_ready* close* get_state stream_stream stream_unary unary_stream"
    " unary_unary wait_for_state_change*",
    "RpcContext": "add_done_callback cancel cancelled done time_remaining",
    "Server": "add_generic_rpc_handlers add_insecure_port add_registered_method_handlers add_secure_port start* stop*"
    " wait_for_termination*",
    "ServicerContext": "abort* abort_with_status* add_done_callback auth_context cancelled code details"
    " disable_next_message_compression done invocation_metadata peer peer_identities peer_identity_key read*"
    " send_initial_metadata* set_code set_compression set_details set_trailing_metadata time_remaining"
    " trailing_metadata write*",
    "StreamStreamCall": "__aiter__ done_writing* read* write*",
    "StreamUnaryCall": "__await__ done_writing* write*",
    "UnaryStreamCall": "__aiter__ read*",
    "UnaryUnaryCall": "__await__",
}

#: The parameters of grpcio's functions, by their names and defaults.
PARAMETERS = {
    "aio.insecure_channel": "target, options=None, compression=None, interceptors=None",
    "aio.server": "migration_thread_pool=None, handlers=None, interceptors=None, options=None,"
    " maximum_concurrent_rpcs=None, compression=None",
    "aio.init_grpc_aio": "",
    "aio.shutdown_grpc_aio": "",
    "aio.AioRpcError": "code, initial_metadata=None, trailing_metadata=None, details=None, debug_error_string=None",
    "aio.UnaryUnaryMultiCallable.__call__": "self, request, *, timeout=None, metadata=None, credentials=None,"
    " wait_for_ready=None, compression=None",
    "aio.UnaryStreamMultiCallable.__call__": "self, request, *, timeout=None, metadata=None, credentials=None,"
    " wait_for_ready=None, compression=None",
    "aio.StreamUnaryMultiCallable.__call__": "self, request_iterator=None, timeout=None, metadata=None,"
    " credentials=None, wait_for_ready=None, compression=None",
    "aio.StreamStreamMultiCallable.__call__": "self, request_iterator=None, timeout=None, metadata=None,"
    " credentials=None, wait_for_ready=None, compression=None",
    "aio.Channel.unary_unary": "self, method, request_serializer=None, response_deserializer=None,"
    " _registered_method=False",
    "aio.Channel.close": "self, grace=None",
    "aio.Channel.get_state": "self, try_to_connect=False",
    "aio.Server.wait_for_termination": "self, timeout=None",
    "aio.ServicerContext.abort": "self, code, details='', trailing_metadata=()",
    "unary_unary_rpc_method_handler": "behavior, request_deserializer=None, response_serializer=None",
    "unary_stream_rpc_method_handler": "behavior, request_deserializer=None, response_serializer=None",
    "stream_unary_rpc_method_handler": "behavior, request_deserializer=None, response_serializer=None",
    "stream_stream_rpc_method_handler": "behavior, request_deserializer=None, response_serializer=None",
    "method_handlers_generic_handler": "service, method_handlers",
}


def test_the_names_are_grpcios() -> None:
    assert set(oxgrpc.__all__) & GRPC == GRPC - GRPC_NEXT
    assert set(oxgrpc.__all__) - GRPC == {"__oxgrpc_version__", "__version__", "aio", "experimental", "install_as_grpc"}
    assert set(aio.__all__) == AIO - AIO_NEXT
    for module in (oxgrpc, aio, oxgrpc.experimental):
        assert len(module.__all__) == len(set(module.__all__))
        for name in module.__all__:
            assert getattr(module, name) is not None
            assert name in dir(module)


@pytest.mark.parametrize(
    ("module", "names"),
    [(oxgrpc, GRPC_NEXT), (aio, AIO_NEXT), (oxgrpc.experimental, EXPERIMENTAL_NEXT)],
    ids=["oxgrpc", "oxgrpc.aio", "oxgrpc.experimental"],
)
def test_a_name_that_comes_next_says_so(module: ModuleType, names: set[str]) -> None:
    silent = set()
    for name in names:
        with pytest.raises(AttributeError, match=name) as caught:
            getattr(module, name)
        assert not hasattr(module, name)
        if "not in this version" not in str(caught.value):
            silent.add(name)
    assert silent == set()


def test_a_name_that_nobody_has() -> None:
    for module in (oxgrpc, aio, oxgrpc.experimental):
        with pytest.raises(AttributeError, match=f"'{module.__name__}' has no attribute 'nonsense'"):
            module.nonsense  # noqa: B018


@pytest.mark.parametrize("name", METHODS)
def test_abstract_classes_have_grpcios_methods(name: str) -> None:
    declared = getattr(aio, name)
    expected = {method.rstrip("*"): method.endswith("*") for method in METHODS[name].split()}
    assert inspect.isabstract(declared)
    for method, is_coroutine in expected.items():
        assert inspect.iscoroutinefunction(getattr(declared, method)) is is_coroutine, method
    own = {key for key in vars(declared) if not key.startswith("_")}
    assert own <= set(expected)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_grpcios(name: str) -> None:
    found: Any = oxgrpc
    for part in name.split("."):
        found = getattr(found, part)
    signature = inspect.signature(found)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    written = str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    assert written == f"({PARAMETERS[name]})"


def test_enumerations_have_grpcios_values() -> None:
    assert [(code.name, code.value[0]) for code in oxgrpc.StatusCode][:3] == [
        ("OK", 0),
        ("CANCELLED", 1),
        ("UNKNOWN", 2),
    ]
    assert [code.value[0] for code in oxgrpc.StatusCode] == list(range(17))
    assert oxgrpc.StatusCode.INVALID_ARGUMENT.value == (3, "invalid argument")
    assert [state.value[0] for state in oxgrpc.ChannelConnectivity] == list(range(5))
    assert oxgrpc.ChannelConnectivity.TRANSIENT_FAILURE.value == (3, "transient failure")
    assert {algorithm.name: int(algorithm) for algorithm in oxgrpc.Compression} == {
        "NoCompression": 0,
        "Deflate": 1,
        "Gzip": 2,
    }


def test_exceptions_have_grpcios_bases() -> None:
    assert issubclass(aio.AioRpcError, oxgrpc.RpcError)
    assert issubclass(oxgrpc.RpcError, Exception)
    for error in (aio.AbortError, aio.InternalError, aio.UsageError):
        assert issubclass(error, aio.BaseError)
    assert not issubclass(aio.BaseError, oxgrpc.RpcError)
    assert repr(aio.EOF) == "<grpc.aio.EOF>"


def test_the_runtime_needs_no_care() -> None:
    for _ in range(2):
        assert aio.init_grpc_aio() is None
        assert aio.shutdown_grpc_aio() is None


def test_versions() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", oxgrpc.__version__)
    assert re.match(r"\d+\.\d+\.\d+", oxgrpc.__oxgrpc_version__)


def test_every_module_can_be_imported_and_says_what_it_is() -> None:
    for module in pkgutil.walk_packages(oxgrpc.__path__, "oxgrpc."):
        if not module.name.endswith("_native"):
            assert importlib.import_module(module.name).__doc__


def test_importing_starts_nothing() -> None:
    code = (
        "import os, threading\n"
        "files = sorted(os.listdir('/proc/self/fd'))\n"
        "import oxgrpc, oxgrpc.aio\n"
        "for module in (oxgrpc, oxgrpc.aio):\n"
        "    for name in module.__all__: getattr(module, name)\n"
        "oxgrpc.aio.insecure_channel('localhost:1'); oxgrpc.aio.server()\n"
        "print(len(os.listdir('/proc/self/task')), threading.active_count())\n"
        "assert sorted(os.listdir('/proc/self/fd')) == files\n"
    )
    assert program.output_of(code) == "1 1\n"


def test_importing_is_lazy() -> None:
    code = (
        "import sys\n"
        "import oxgrpc\n"
        "assert not [name for name in sys.modules if name.startswith('oxgrpc.aio')]\n"
        "assert 'asyncio' not in sys.modules and 'logging' not in sys.modules\n"
        "from oxgrpc import aio\n"
        "aio.insecure_channel('localhost:1')\n"
        "assert 'oxgrpc.aio._channel' in sys.modules\n"
        "assert 'oxgrpc.aio._server' not in sys.modules and 'grpc' not in sys.modules\n"
    )
    assert program.output_of(code) == ""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_using_it_starts_no_thread() -> None:
    code = (
        "import asyncio, os\n"
        "import echo\n"
        "async def main():\n"
        "    async with echo.serving() as service:\n"
        "        assert await service.unary_unary(b'x') == b'x'\n"
        "        assert await service.stream_unary(iter([b'a', b'b'])) == b'ab'\n"
        "        print(len(os.listdir('/proc/self/task')))\n"
        "asyncio.run(main())\n"
    )
    assert program.output_of(code) == "1\n"
