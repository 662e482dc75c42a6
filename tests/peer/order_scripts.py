"""The scripts of the differential tests that ask a call everything, at each moment of its life: see `scripts`.

A script is for one kind of method and one moment. It brings a call there for each question, asks, notes the answer, or
that there is none yet, and what has become of the call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from scripts import KINDS, LONG_SECONDS, SCRIPTS, SHORT_SECONDS, Client, digest, plain, plain_details

#: Nobody is there, ever.
UNREACHABLE = "unix:/nonexistent/socket"

TRAILING = (("x-trailing", "t"), ("x-initial", "i"))

Moment = Callable[[Client, str], Awaitable[Any]]
MOMENTS: dict[str, Moment] = {}


def moment(function: Moment) -> Moment:
    MOMENTS[function.__name__] = function
    return function


def requests_of(kind: str) -> Any:
    """One request, or none where they are written by hand."""
    return (b"q",) if kind.startswith("Unary") else ()


async def all_requests(kind: str, call: Any, *requests: bytes) -> None:
    if kind.startswith("Stream"):
        for request in requests:
            await call.write(request)
        await call.done_writing()


async def all_responses(client: Client, kind: str, call: Any) -> None:
    try:
        if kind.endswith("Unary"):
            await call
        else:
            while await call.read() is not client.grpc.aio.EOF:
                pass
    except client.grpc.aio.AioRpcError:
        pass


@moment
async def without_a_connection(client: Client, kind: str) -> Any:
    other = Client(client.grpc, UNREACHABLE, client.name)
    call = other.method(kind)(*requests_of(kind), wait_for_ready=True)
    await asyncio.sleep(0)
    call.add_done_callback(lambda _, other=other: None)
    return call


@moment
async def just_made(client: Client, kind: str) -> Any:
    return client.method(kind)(*requests_of(kind), metadata=(("x-wait", client.name), ("x-response-count", "0")))


@moment
async def waiting(client: Client, kind: str) -> Any:
    sent = (*TRAILING, ("x-wait", client.name), ("x-response-count", "0"))
    call = client.method(kind)(*requests_of(kind), metadata=sent, timeout=LONG_SECONDS)
    if kind == "StreamUnary":
        await call.done_writing()
    if kind != "StreamStream":
        await client.server()
    if kind != "UnaryUnary":
        # It has been sent by now, and may still be on its way.
        await call.initial_metadata()
    return call


@moment
async def half_read(client: Client, kind: str) -> Any:
    if kind.endswith("Unary"):
        return None
    call = client.method(kind)(*requests_of(kind), metadata=(*TRAILING, ("x-response-count", "3")))
    await all_requests(kind, call, b"1", b"2", b"3")
    await call.read()
    return call


@moment
async def answered(client: Client, kind: str) -> Any:
    if not kind.endswith("Unary"):
        return None
    call = client.method(kind)(*requests_of(kind), metadata=TRAILING)
    await all_requests(kind, call, b"1", b"2")
    await call.code()
    return call


@moment
async def ended_well(client: Client, kind: str) -> Any:
    call = client.method(kind)(*requests_of(kind), metadata=TRAILING)
    await all_requests(kind, call, b"1", b"2")
    await all_responses(client, kind, call)
    return call


@moment
async def ended_with_an_error(client: Client, kind: str) -> Any:
    # A genuine client whose half-close meets the end of the call forgets the status.
    sent = (*TRAILING, ("x-status", "ABORTED"), ("x-how", "abort"), ("x-details-bin", b"enough"), ("x-pause", "0.1"))
    call = client.method(kind)(*requests_of(kind), metadata=sent)
    await all_requests(kind, call)
    await all_responses(client, kind, call)
    return call


@moment
async def cancelled(client: Client, kind: str) -> Any:
    call = await waiting(client, kind)
    call.cancel()
    await call.code()
    return call


@moment
async def too_late(client: Client, kind: str) -> Any:
    sent = (*TRAILING, ("x-wait", client.name), ("x-response-count", "0"))
    call = client.method(kind)(*requests_of(kind), metadata=sent, timeout=SHORT_SECONDS)
    await call.code()
    return call


async def time_remaining(call: Any) -> str:
    remaining = call.time_remaining()
    return "no deadline" if remaining is None else "seconds" if remaining > 0 else "0"


async def done_callback(call: Any) -> list[bool]:
    given: list[Any] = []
    call.add_done_callback(given.append)
    before = len(given)
    call.cancel()
    await call.code()
    await asyncio.sleep(0)
    return [before, [one is call for one in given]]  # type: ignore[list-item]


async def iterate(call: Any) -> list[str]:
    return [digest(response) async for response in call]


async def iterate_twice(call: Any) -> list[list[str]]:
    """Leaves the first iteration early."""
    first = []
    async for response in call:
        first.append(digest(response))
        break
    return [first, await iterate(call)]


async def iterate_then_read(call: Any) -> list[str]:
    call.__aiter__()
    return digest(await call.read())  # type: ignore[return-value]


async def read_then_iterate(call: Any) -> list[str]:
    await call.read()
    return await iterate(call)


async def read(call: Any) -> str:
    response = await call.read()
    return digest(response) if isinstance(response, bytes) else repr(response)


async def response(call: Any) -> str:
    return digest(await call)


async def twice(call: Any) -> list[str]:
    return [digest(await call), digest(await call)]


async def details(call: Any) -> str | None:
    return plain_details(await call.details())


async def code(call: Any) -> str:
    return (await call.code()).name  # type: ignore[no-any-return]


async def debug_error_string(call: Any) -> bool:
    return bool(await call.debug_error_string())


async def cancel(call: Any) -> list[Any]:
    return [call.cancel(), call.cancel(), call.cancelled(), call.done(), await code(call), await details(call)]


async def connection(call: Any) -> None:
    await call.wait_for_connection()


async def write(call: Any) -> None:
    await call.write(b"more")


async def done_writing(call: Any) -> None:
    await call.done_writing()
    await call.done_writing()


async def write_after_the_last(call: Any) -> None:
    await call.done_writing()
    await call.write(b"more")


async def initial_metadata(call: Any) -> Any:
    return plain(await call.initial_metadata())


async def trailing_metadata(call: Any) -> Any:
    return plain(await call.trailing_metadata())


async def done(call: Any) -> list[bool]:
    return [call.done(), call.cancelled()]


Question = Callable[[Any], Awaitable[Any]]
OF_ALL: list[Question] = [
    initial_metadata,
    trailing_metadata,
    code,
    details,
    debug_error_string,
    cancel,
    done,
    done_callback,
    time_remaining,
    connection,
]
OF_REQUESTS: list[Question] = [write, done_writing, write_after_the_last]
OF_RESPONSES: list[Question] = [read, iterate, iterate_twice, iterate_then_read, read_then_iterate]
OF_A_RESPONSE: list[Question] = [response, twice]


#: What is answered otherwise here than by grpcio: moments, kinds, questions. Each has a row in docs/parity.md.
DIFFERENT: list[tuple[set[str], set[str], list[Question]]] = [
    ({"without_a_connection", "just_made", "waiting"}, {"UnaryUnary", "UnaryStream"}, [connection]),
    ({"waiting", "cancelled"}, {"UnaryUnary"}, [initial_metadata]),
    ({"half_read"}, {"UnaryStream", "StreamStream"}, [trailing_metadata, code, details, debug_error_string]),
    ({"without_a_connection"}, {"StreamUnary", "StreamStream"}, [write]),
]


def questions(kind: str, name: str) -> list[Question]:
    of_requests = OF_REQUESTS if kind.startswith("Stream") else []
    asked = [*OF_ALL, *of_requests, *(OF_A_RESPONSE if kind.endswith("Unary") else OF_RESPONSES)]
    for moments, kinds, different in DIFFERENT:
        if name in moments and kind in kinds:
            asked = [question for question in asked if question not in different]
    return asked


async def ask(client: Client, kind: str, bring: Moment, question: Question) -> Any:
    own = Client(client.grpc, client.target, f"{client.name} {question.__name__}")
    async with own.channel:
        call = await bring(own, kind)
        asked = asyncio.ensure_future(question(call))
        for _ in range(3):
            await own.method("UnaryUnary")(b"")
        await asyncio.wait((asked,), timeout=SHORT_SECONDS * 2)
        if not asked.done():
            asked.cancel()
            await asyncio.wait((asked,))
            answer: Any = "none yet"
        elif asked.cancelled():
            answer = "CancelledError"
        elif asked.exception() is not None:
            answer = type(asked.exception()).__name__
        else:
            answer = asked.result()
        after = [call.done(), call.cancelled(), await code(call) if call.done() else None]
        call.cancel()
        return [question.__name__, answer, after]


for kind in KINDS:
    for name, bring in MOMENTS.items():
        if (kind.endswith("Unary") and name == "half_read") or (not kind.endswith("Unary") and name == "answered"):
            continue

        async def everything(client: Client, kind: str = kind, name: str = name, bring: Moment = bring) -> Any:
            return await asyncio.gather(*(ask(client, kind, bring, question) for question in questions(kind, name)))

        SCRIPTS[f"everything_asked_{name}-{kind}"] = everything
