"""The scripts of the differential tests over TLS: some of those without, and what only credentials bring.

A directory holds what both ends need: `server.key`, `server.pem`, `client.key`, `client.pem`, `roots.pem`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts import KINDS, SCRIPTS, SHORT_SECONDS, Client, Script

#: What TLS could break: sizes, many at once, ends.
SECURED: dict[str, Script] = {
    name: SCRIPTS[name]
    for name in (
        *(f"{script}-{kind}" for script in ("every_size", "the_client_cancels", "metadata") for kind in KINDS),
        "streams_of_all_sizes_at_once",
        "server_stream_of_many",
        "every_status-UnaryUnary",
        "the_deadline_passes-StreamStream",
        "a_thousand_calls_at_once",
        "reading_and_writing_by_hand",
    )
}


def server_credentials(grpc: Any, directory: str) -> Any:
    """Of a server that wants to know its clients."""
    key, chain, roots = (Path(directory, name).read_bytes() for name in ("server.key", "server.pem", "roots.pem"))
    return grpc.ssl_server_credentials([(key, chain)], roots, require_client_auth=True)


def secured(script: Script) -> Script:
    SECURED[script.__name__] = script
    return script


@secured
async def who_the_client_is(client: Client) -> Any:
    return (await client.method("UnaryUnary", "Who")(b"")).decode().splitlines()


def plugin(client: Client, function: Any) -> Any:
    class Plugin(client.grpc.AuthMetadataPlugin):  # type: ignore[misc, name-defined]
        def __call__(self, context: Any, callback: Any) -> None:
            function(context, callback)

    return client.grpc.metadata_call_credentials(Plugin())


@secured
async def what_call_credentials_send(client: Client) -> Any:
    grpc = client.grpc
    token = grpc.access_token_call_credentials
    binary = plugin(client, lambda context, callback: callback((("x-plugin-bin", b"\x00\xff"),), None))
    nothing = plugin(client, lambda context, callback: callback(None, None))
    where = plugin(client, lambda context, callback: callback((("x-method", context.method_name),), None))
    observed = []
    for credentials in (
        token("one"),
        grpc.composite_call_credentials(token("one"), binary, token("two")),
        grpc.composite_call_credentials(nothing, where),
    ):
        for kind in KINDS:
            metadata = (("x-initial", "kept"),)
            call = client.start(kind, [b"c"], credentials=credentials, metadata=metadata)
            observed.append([kind, await client.outcome(kind, call)])
        observed.append((await client.method("UnaryUnary", "Carried")(b"", credentials=credentials)).decode())
    return observed


@secured
async def plugins_that_fail(client: Client) -> Any:
    def raises(context: Any, callback: Any) -> None:
        raise ValueError("raised")

    observed = []
    for function in (raises, lambda context, callback: callback(None, ValueError("an error"))):
        for kind in KINDS:
            call = client.start(kind, [b"c"], credentials=plugin(client, function))
            observed.append([kind, await client.outcome(kind, call)])
    never = plugin(client, lambda context, callback: None)
    call = client.start("UnaryUnary", [b"c"], credentials=never, timeout=SHORT_SECONDS)
    observed.append(await client.outcome("UnaryUnary", call))
    return observed
