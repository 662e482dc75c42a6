"""Names that other packages take from grpcio without being promised them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import program

INSTALL = "import oxgrpc; oxgrpc.install_as_grpc()\n"
GENUINE = Path(__file__).parent.parent / ".venv-grpcio" / "bin" / "python"

#: Who takes what: `module: names`, as found in the packages' own code.
TAKEN = {
    "generated code": {"grpc._utilities": "first_version_is_lower", "grpc": "__version__"},
    "generated code of late": {"grpc": "_common", "grpc._common": "fully_qualified_method"},
    "pymilvus": {
        "grpc._cython.cygrpc": "ChannelArgKey",
        "grpc.aio._call": "UnaryUnaryCall UnaryStreamCall StreamUnaryCall StreamStreamCall",
        "grpc.aio._typing": "RequestType ResponseType RequestIterableType ResponseIterableType",
    },
    "ray": {
        "grpc._cython.cygrpc": "_ServicerContext",
        "grpc.aio._server": "Server",
        "grpc.aio._call": "UnaryStreamCall",
        "grpc.aio": "init_grpc_aio",
    },
    "ddtrace": {"grpc.aio._typing": "RequestType ResponseType RequestIterableType ResponseIterableType"},
    "sentry-sdk, of asyncio": {"grpc.aio._interceptor": "UnaryStreamCall"},
    "grpcio-channelz": {
        "grpc._cython.cygrpc": "channelz_get_top_channels channelz_get_channel channelz_get_subchannel "
        "channelz_get_socket channelz_get_server channelz_get_servers channelz_get_server_sockets"
    },
    "grpcio-csds": {"grpc._cython.cygrpc": "dump_xds_configs"},
    "grpcio-observability": {"grpc._observability": "ObservabilityPlugin observability_init observability_deinit"},
    "grpcio's tests": {
        "grpc._cython": "cygrpc",
        "grpc._cython.cygrpc": "UsageError BaseError AbortError InternalError EOF _Metadatum _SyncServicerContext",
        "grpc._grpcio_metadata": "__version__",
        "grpc._compression": "NoCompression Deflate Gzip",
        "grpc._typing": "ChannelArgumentType",
        "grpc.aio": "_base_call _base_channel _base_server _call _metadata _typing _utils",
        "grpc.aio._call": "AioRpcError",
        "grpc.aio._metadata": "Metadata",
        "grpc.aio._typing": "MetadataKey MetadataValue MetadatumType ChannelArgumentType",
        "grpc.aio._utils": "_timeout_to_deadline",
        "grpc.experimental.aio": "Metadata Channel",
    },
}

#: Expressions whose values are grpcio's.
VALUES = (
    "cygrpc.GRPC_COMPRESSION_CHANNEL_DEFAULT_ALGORITHM",
    "cygrpc.GRPC_COMPRESSION_REQUEST_ALGORITHM_MD_KEY",
    "sorted((code.name, int(code)) for code in cygrpc.StatusCode)",
    "sorted((name, repr(value)) for name, value in vars(cygrpc.ChannelArgKey).items() if name[0] != '_')",
    "sorted((name, value) for name, value in vars(cygrpc.ConnectivityState).items() if name[0] != '_')",
    "sorted((name, value) for name, value in vars(cygrpc.CompressionAlgorithm).items() if name[0] != '_')",
    "cygrpc._Metadatum._fields",
    "[issubclass(error, cygrpc.BaseError) for error in (cygrpc.UsageError, cygrpc.AbortError, cygrpc.InternalError)]",
    "[grpc.aio.UsageError is cygrpc.UsageError, grpc.aio.EOF is cygrpc.EOF]",
    "grpc._grpcio_metadata.__version__",
    "grpc._compression.create_channel_option(grpc.Compression.Gzip)",
    "grpc._compression.create_channel_option(None)",
    "grpc._compression.augment_metadata((('key', 'value'),), grpc.Compression.Deflate)",
    "grpc._compression.augment_metadata(None, None)",
    "[grpc.aio._utils._timeout_to_deadline(None), grpc.aio._utils._timeout_to_deadline(1) > 1e9]",
    "sorted(_observability.ObservabilityPlugin.__abstractmethods__)",
)

EVALUATE = (
    "import json, grpc, grpc.aio, grpc.experimental, grpc._compression, grpc._grpcio_metadata, grpc.aio._utils\n"
    "import grpc.experimental.aio\n"
    "from grpc._cython import cygrpc\n"
    "from grpc import _observability\n"
    f"print(json.dumps([eval(value) for value in {VALUES!r}]))\n"
)


@pytest.mark.parametrize("package", TAKEN)
def test_what_other_packages_take_is_there(package: str) -> None:
    imports = [f"from {module} import {', '.join(names.split())}\n" for module, names in TAKEN[package].items()]
    assert program.output_of(INSTALL + "".join(imports)) == ""


def test_their_values_are_grpcios() -> None:
    done = subprocess.run([str(GENUINE), "-c", EVALUATE], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(program.output_of(INSTALL + EVALUATE)) == json.loads(done.stdout)


def test_modules_are_attributes_of_their_packages() -> None:
    code = INSTALL + (
        "import grpc\n"
        "print(grpc._cython.cygrpc._ServicerContext is oxgrpc._native.ServicerContext)\n"
        "print(grpc._common.fully_qualified_method('a', 'b'), grpc._utilities.first_version_is_lower('1', '2'))\n"
        "import grpc.aio; print(grpc.aio._call.AioRpcError is grpc.aio.AioRpcError, grpc.aio._server.Server.__name__)\n"
        "print(grpc.aio._interceptor.__name__)\n"
    )
    assert program.output_of(code).splitlines() == ["True", "/a/b True", "True Server", "oxgrpc.aio._interceptor"]


def test_what_belongs_to_grpcios_core_says_so() -> None:
    code = INSTALL + (
        "from grpc._cython import cygrpc\n"
        "from grpc import _observability\n"
        "for call in (\n"
        "    lambda: cygrpc.channelz_get_servers(0),\n"
        "    lambda: cygrpc.dump_xds_configs(),\n"
        "    lambda: _observability.observability_init(None),\n"
        "    lambda: cygrpc.CompletionQueue(),\n"
        "):\n"
        "    try:\n"
        "        call()\n"
        "    except (NotImplementedError, AttributeError) as error:\n"
        "        print(type(error).__name__, 'core' in str(error))\n"
        "_observability.observability_deinit()\n"
        "with _observability.get_plugin() as plugin: print(plugin)\n"
    )
    assert program.output_of(code).splitlines() == [
        *["NotImplementedError True"] * 3,
        "AttributeError True",
        "None",
    ]


def test_an_observability_plugin_can_be_written() -> None:
    code = INSTALL + (
        "from grpc._observability import ObservabilityPlugin\n"
        "class Plugin(ObservabilityPlugin):\n"
        "    create_client_call_tracer = save_trace_context = None\n"
        "    create_server_call_tracer_factory = record_rpc_latency = None\n"
        "plugin = Plugin()\n"
        "plugin.set_stats(True)\n"
        "print(plugin.tracing_enabled, plugin.stats_enabled, plugin.observability_enabled)\n"
    )
    assert program.output_of(code) == "False True True\n"
