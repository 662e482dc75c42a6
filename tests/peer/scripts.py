"""The scripts of the differential tests: what a client does, and all that it observes, as plain data.

A script is a coroutine function of a `Client`; it runs on oxgrpc and on genuine grpcio, and what it returns has to be
the same whichever of the two is at either end.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from contexts import EXPERIMENTS
from service import SERVICE

MEBIBYTE = 1 << 20
SIZES = (0, 1, 4, 5, 100, 16_379, 16_384, 65_535, 65_536, MEBIBYTE, 4 * MEBIBYTE - 1, 16 * MEBIBYTE)
#: A deadline that no test reaches, and one that is reached at once.
LONG_SECONDS, SHORT_SECONDS = 60.0, 0.2

KINDS = ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream")


def message(size: int) -> bytes:
    """A message whose octets tell where they belong."""
    return (b"%06x." % size * (size // 7 + 1))[:size]


def digest(data: bytes) -> str:
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}"


def plain(metadata: Any) -> list[list[str]]:
    """The metadata that scripts send, as data."""
    return sorted([key, repr(value)] for key, value in metadata or () if key.startswith("x-"))


def plain_details(details: str | None) -> str | None:
    """The details without the wrap that genuine grpcio puts around them or not, as its threads happen to run."""
    if details is not None and details.startswith("Stream removed ("):
        return details.removeprefix("Stream removed (").removesuffix(")")
    return details


class Client:
    """A channel, and calls of any kind on it by name."""

    def __init__(
        self, grpc: Any, target: str, name: str, intercepted_target: str = "", certificates: str | None = None
    ) -> None:
        self.grpc = grpc
        #: The same service, behind interceptors.
        self.intercepted_target = intercepted_target
        self.name = name
        self.target = target
        self.options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        #: The directory of what TLS needs.
        self.certificates = certificates
        self.channel = self.open(self.options)

    def open(self, options: Any, interceptors: Any = None) -> Any:
        """Another channel to the same place."""
        aio = self.grpc.aio
        if self.certificates is None:
            return aio.insecure_channel(self.target, options=options, interceptors=interceptors)
        roots, key, chain = (
            Path(self.certificates, name).read_bytes() for name in ("roots.pem", "client.key", "client.pem")
        )
        credentials = self.grpc.ssl_channel_credentials(roots, key, chain)
        return aio.secure_channel(self.target, credentials, options=options, interceptors=interceptors)

    def method(self, kind: str, name: str | None = None) -> Any:
        makers = {
            "UnaryUnary": self.channel.unary_unary,
            "UnaryStream": self.channel.unary_stream,
            "StreamUnary": self.channel.stream_unary,
            "StreamStream": self.channel.stream_stream,
        }
        return makers[kind](f"/{SERVICE}/{name or kind}")

    def start(self, kind: str, requests: Sequence[bytes], **options: Any) -> Any:
        method = self.method(kind)
        if kind.startswith("Unary"):
            return method(requests[0], **options)
        return method(stream(requests), **options)

    async def outcome(self, kind: str, call: Any) -> dict[str, Any]:
        """Takes all responses and tells how the call ended."""
        responses: list[str] = []
        raised: Any = None
        try:
            if kind.endswith("Unary"):
                responses.append(digest(await call))
            else:
                async for response in call:
                    responses.append(digest(response))
        except self.grpc.aio.AioRpcError as error:
            raised = [error.code().name, plain_details(error.details()), plain(error.trailing_metadata())]
        return {
            "responses": responses,
            "raised": raised,
            "code": (await call.code()).name,
            "details": plain_details(await call.details()),
            "initial": plain(await call.initial_metadata()),
            "trailing": plain(await call.trailing_metadata()),
            "done": call.done(),
            "cancelled": call.cancelled(),
        }

    async def server(self) -> str:
        """What happened next, on the server, to the call that waits there under this client's name."""
        return (await self.method("UnaryUnary", "Wait")(self.name.encode(), timeout=LONG_SECONDS)).decode()


async def stream(requests: Sequence[bytes]) -> AsyncIterator[bytes]:
    for request in requests:
        yield request


Script = Callable[[Client], Awaitable[Any]]
SCRIPTS: dict[str, Script] = {}


def script(function: Script) -> Script:
    SCRIPTS[function.__name__] = function
    return function


def script_for_each_kind(function: Callable[[Client, str], Awaitable[Any]]) -> None:
    for kind in KINDS:

        async def run(client: Client, kind: str = kind) -> Any:
            return await function(client, kind)

        SCRIPTS[f"{function.__name__}-{kind}"] = run


@script_for_each_kind
async def every_size(client: Client, kind: str) -> Any:
    return [await client.outcome(kind, client.start(kind, [message(size)])) for size in SIZES]


@script_for_each_kind
async def every_size_of_response(client: Client, kind: str) -> Any:
    return [
        await client.outcome(kind, client.start(kind, [b"?"], metadata=(("x-response-size", str(size)),)))
        for size in SIZES
    ]


@script
async def streams_of_all_sizes_at_once(client: Client) -> Any:
    digests = client.method("StreamStream", "Digest")

    async def one(sizes: Sequence[int]) -> list[str]:
        return [response.decode() async for response in digests(stream([message(size) for size in sizes]))]

    return await asyncio.gather(one(SIZES), one(SIZES[::-1]), one([3] * 2000), one([70_000] * 50))


@script
async def server_stream_of_many(client: Client) -> Any:
    metadata = (("x-response-count", "5000"), ("x-response-size", "64"))
    return await client.outcome("UnaryStream", client.start("UnaryStream", [b""], metadata=metadata))


@script_for_each_kind
async def metadata(client: Client, kind: str) -> Any:
    sent = (
        ("x-initial", "one"),
        ("x-initial", "two"),
        ("x-initial-bin", b"\x00\x01\xfe\xff"),
        ("x-trailing", "spaces between words, commas; and ~!"),
        ("x-trailing-bin", bytes(range(256))),
        ("x-trailing-bin", b""),
        ("x-trailing-empty", ""),
    )
    return await client.outcome(kind, client.start(kind, [b"m"], metadata=sent))


@script
async def what_the_server_is_told(client: Client) -> Any:
    method = client.method("UnaryUnary", "Told")
    sent = (("x-text", "a value"), ("x-b-bin", b"\xff\x00"), ("x-twice", "1"), ("x-twice", "2"), ("x-empty", ""))
    large = (("x-large", "v" * 4000), ("x-large-bin", bytes(2000)))
    return [
        (await method(b"")).decode(),
        (await method(b"", metadata=sent)).decode(),
        (await method(b"", metadata=client.grpc.aio.Metadata(*sent), timeout=600)).decode(),
        (await method(b"", metadata=large)).decode(),
    ]


@script_for_each_kind
async def every_status(client: Client, kind: str) -> Any:
    observed = []
    for code in client.grpc.StatusCode:
        if code is client.grpc.StatusCode.OK:
            continue
        for how in ("abort", "set"):
            details = f"100% of {code.name}: größer, 日本\n\ttab"
            sent = (
                ("x-status", code.name),
                ("x-how", how),
                ("x-details-bin", details.encode()),
                ("x-initial", "sent before"),
                ("x-trailing", "sent with the status"),
            )
            observed.append([code.name, how, await client.outcome(kind, client.start(kind, [b"s"], metadata=sent))])
    return observed


@script_for_each_kind
async def a_handler_that_raises(client: Client, kind: str) -> Any:
    sent = (("x-status", "UNKNOWN"), ("x-how", "raise"), ("x-details-bin", b"oh no"))
    return await client.outcome(kind, client.start(kind, [b"s"], metadata=sent))


@script
async def methods_that_are_not_there(client: Client) -> Any:
    # Not with a stream of requests: a genuine client whose write meets the end of the call forgets the server's status.
    observed = []
    for path in (f"/{SERVICE}/Nothing", "/nothing.Service/UnaryUnary"):
        observed.append(await client.outcome("UnaryUnary", client.channel.unary_unary(path)(b"")))
        observed.append(await client.outcome("UnaryStream", client.channel.unary_stream(path)(b"")))
    return observed


@script_for_each_kind
async def the_client_cancels(client: Client, kind: str) -> Any:
    call = client.start(kind, [b"c"], metadata=(("x-wait", client.name),))
    begun = await client.server()
    accepted, again = call.cancel(), call.cancel()
    raised = "nothing"
    try:
        if kind.endswith("Unary"):
            await call
        else:
            async for _ in call:
                pass
    except asyncio.CancelledError:
        raised = "CancelledError"
    return {
        "begun": begun,
        "accepted": [accepted, again],
        "raised": raised,
        "code": (await call.code()).name,
        "details": await call.details(),
        "cancelled": call.cancelled(),
        "done": call.done(),
        "server": await client.server(),
    }


@script
async def the_client_cancels_after_a_response(client: Client) -> Any:
    observed = []
    for kind in ("UnaryStream", "StreamStream"):
        call = client.start(kind, [b"c"], metadata=(("x-wait", client.name),))
        first, begun = await call.read(), await client.server()
        call.cancel()
        observed.append([kind, first.decode(), begun, (await call.code()).name, await client.server()])
    return observed


@script
async def a_task_that_waits_for_a_call_is_cancelled(client: Client) -> Any:
    call = client.start("UnaryUnary", [b"c"], metadata=(("x-wait", client.name),))

    async def wait() -> bytes:
        return await call

    task = asyncio.create_task(wait())
    begun = await client.server()
    task.cancel()
    (result,) = await asyncio.gather(task, return_exceptions=True)
    return [begun, type(result).__name__, (await call.code()).name, call.cancelled(), await client.server()]


@script_for_each_kind
async def the_deadline_passes(client: Client, kind: str) -> Any:
    call = client.start(kind, [b"d"], metadata=(("x-wait", client.name),), timeout=SHORT_SECONDS)
    return [await client.outcome(kind, call), await client.server(), await client.server()]


@script_for_each_kind
async def the_deadline_is_far(client: Client, kind: str) -> Any:
    return await client.outcome(kind, client.start(kind, [b"d"], timeout=LONG_SECONDS))


@script
async def a_thousand_calls_at_once(client: Client) -> Any:
    unary, bidi = client.method("UnaryUnary"), client.method("StreamStream")

    async def both(number: int) -> bool:
        request = b"%d" % number
        responses = [response async for response in bidi(stream([request, request * 100]))]
        return await unary(request) == request and responses == [request, request * 100]

    return all(await asyncio.gather(*(both(number) for number in range(1000))))


@script
async def compression(client: Client) -> Any:
    grpc = client.grpc
    text = b"a text that repeats itself. " * 10_000
    observed = []
    for sent in grpc.Compression:
        for received in grpc.Compression:
            for kind in KINDS:
                call = client.start(kind, [text], metadata=(("x-compression", received.name),), compression=sent)
                observed.append([sent.name, received.name, kind, await client.outcome(kind, call)])
    return observed


@script
async def messages_over_the_clients_limits(client: Client) -> Any:
    options = [("grpc.max_receive_message_length", 1000), ("grpc.max_send_message_length", 500)]
    observed = []
    async with client.open(options) as channel:
        unary = channel.unary_unary(f"/{SERVICE}/UnaryUnary")
        for size, response in ((500, 1000), (501, 0), (0, 1001)):
            call = unary(message(size), metadata=(("x-response-size", str(response)),))
            observed.append(await client.outcome("UnaryUnary", call))
    return observed


@script
async def reading_and_writing_by_hand(client: Client) -> Any:
    eof = client.grpc.aio.EOF
    observed: list[Any] = []
    call = client.method("StreamStream")()
    for number in range(20):
        await call.write(b"%d" % number)
        observed.append((await call.read()).decode())
    await call.done_writing()
    observed.append(await call.read() is eof)
    observed.append(await call.read() is eof)
    observed.append((await call.code()).name)
    call = client.method("StreamUnary")()
    for number in range(20):
        await call.write(b"%d" % number)
    await call.done_writing()
    observed.append((await call).decode())
    return observed


#: A policy, what the server does, and what else the client's channel or the call is told.
RETRIES: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "at_last": ({}, "UNAVAILABLE/UNAVAILABLE/OK", {}),
    "at_once": ({}, "OK", {}),
    "never": ({}, "UNAVAILABLE", {}),
    "twice": ({"maxAttempts": 2}, "UNAVAILABLE", {}),
    "not_more_than_five_times": ({"maxAttempts": 9}, "UNAVAILABLE", {}),
    "another_code": ({}, "NOT_FOUND/OK", {}),
    "then_another_code": ({}, "UNAVAILABLE/NOT_FOUND/OK", {}),
    "two_codes": ({"retryableStatusCodes": ["UNAVAILABLE", "ABORTED"]}, "ABORTED/UNAVAILABLE/OK", {}),
    "after_headers": ({}, "headers:UNAVAILABLE/OK", {}),
    "after_headers_of_the_second": ({}, "UNAVAILABLE/headers:UNAVAILABLE/OK", {}),
    "pushed_back": ({"initialBackoff": "100s", "maxBackoff": "100s"}, "UNAVAILABLE@20/UNAVAILABLE@30/OK", {}),
    "pushed_back_for_ever": ({}, "UNAVAILABLE@-1/OK", {}),
    "another_code_pushed_back": ({}, "NOT_FOUND@20/OK", {}),
    "switched_off": ({}, "UNAVAILABLE/OK", {"options": [("grpc.enable_retries", 0)]}),
    "more_than_is_kept": ({}, "UNAVAILABLE/OK", {"options": [("grpc.per_rpc_retry_buffer_size", 10)]}),
    "as_much_as_is_kept": ({}, "UNAVAILABLE/OK", {"options": [("grpc.per_rpc_retry_buffer_size", 1000)]}),
    "with_a_deadline": ({}, "UNAVAILABLE/OK", {"timeout": LONG_SECONDS}),
    "until_the_deadline": (
        {"initialBackoff": "100s", "maxBackoff": "100s"},
        "UNAVAILABLE/OK",
        {"timeout": SHORT_SECONDS},
    ),
}


# No back-off and no pushback of a millisecond: a genuine client misses its own timer then, and waits for ever.
@script_for_each_kind
async def retries(client: Client, kind: str) -> Any:
    observed = {}
    for name, (policy, plan, more) in RETRIES.items():
        default = {
            "maxAttempts": 4,
            "initialBackoff": "0.02s",
            "maxBackoff": "0.05s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
        config = {"methodConfig": [{"name": [{"service": SERVICE}], "retryPolicy": {**default, **policy}}]}
        options = [("grpc.service_config", json.dumps(config)), *more.get("options", ())]
        called = f"{client.name} {name}"
        async with client.grpc.aio.insecure_channel(client.target, options=options) as channel:
            sender = Client(client.grpc, client.target, client.name)
            sender.channel = channel
            requests = [b"first request", b"second", b"third"]
            metadata = (("x-name", called), ("x-plan", plan))
            call = sender.start(kind, requests, metadata=metadata, timeout=more.get("timeout"))
            outcome = await client.outcome(kind, call)
        seen = await client.method("UnaryUnary", "Attempts")(called.encode())
        observed[name] = [outcome, seen.decode().split("\n")]
    return observed


@script
async def retries_are_throttled(client: Client) -> Any:
    config = {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.02s",
                    "maxBackoff": "0.02s",
                    "backoffMultiplier": 1,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.5},
    }
    observed = []
    options = [("grpc.service_config", json.dumps(config))]
    async with client.grpc.aio.insecure_channel(client.target, options=options) as channel:
        unary = channel.unary_unary(f"/{SERVICE}/UnaryUnary")
        for number, plan in enumerate(
            ["UNAVAILABLE"] * 4 + ["OK"] * 3 + ["NOT_FOUND"] + ["UNAVAILABLE"] * 2 + ["OK"] * 9 + ["UNAVAILABLE"]
        ):
            called = f"{client.name} {number}"
            outcome = await client.outcome("UnaryUnary", unary(b"", metadata=(("x-name", called), ("x-plan", plan))))
            seen = await client.method("UnaryUnary", "Attempts")(called.encode())
            observed.append([plan, outcome["code"], len(seen.split(b"\n"))])
    return observed


@script
async def what_holds_for_a_method(client: Client) -> Any:
    def entry(name: dict[str, str], **what: Any) -> dict[str, Any]:
        return {"name": [name], **what}

    config = {
        "methodConfig": [
            entry(
                {"service": SERVICE, "method": "UnaryUnary"}, maxRequestMessageBytes=10, maxResponseMessageBytes="20"
            ),
            entry({"service": SERVICE}, timeout="0.2s"),
            entry({}, timeout="600s"),
        ]
    }
    observed: list[Any] = []
    async with client.grpc.aio.insecure_channel(
        client.target, options=[("grpc.service_config", json.dumps(config))]
    ) as channel:
        unary = channel.unary_unary(f"/{SERVICE}/UnaryUnary")
        for size, response in ((10, 20), (11, 0), (0, 21)):
            call = unary(message(size), metadata=(("x-response-size", str(response)),))
            observed.append(await client.outcome("UnaryUnary", call))
        for timeout in (None, LONG_SECONDS):
            call = channel.unary_stream(f"/{SERVICE}/UnaryStream")(
                b"", metadata=(("x-wait", client.name),), timeout=timeout
            )
            # A genuine client gives such a call up without having begun it.
            observed.append((await client.outcome("UnaryStream", call))["code"])
        call = channel.unary_unary("/nothing.Service/UnaryUnary")(b"")
        observed.append(await client.outcome("UnaryUnary", call))
    return observed


async def experiment(client: Client, name: str) -> Any:
    # Not with a stream of requests: see methods_that_are_not_there.
    observed = []
    for method, kind in (("UnaryExperiment", "UnaryUnary"), ("StreamExperiment", "UnaryStream")):
        key = f"{client.name} {kind}"
        asked = (("x-experiment", name), ("x-notes", key))
        call = client.method(kind, method)(b"request", metadata=asked)
        outcome = await client.outcome(kind, call)
        notes = await client.method("UnaryUnary", "Notes")(key.encode(), timeout=LONG_SECONDS)
        observed.append([kind, outcome, json.loads(notes)])
    return observed


for name in EXPERIMENTS:

    async def run_experiment(client: Client, name: str = name) -> Any:
        return await experiment(client, name)

    SCRIPTS[f"context-{name}"] = run_experiment
