"""What handlers do with their contexts in the differential tests. Each notes what came of it, as plain data.

An experiment is a coroutine function `(grpc, context, notes)`; the metadata `x-experiment` of a call names it.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable
from typing import Any

Notes = list[Any]
Experiment = Callable[[Any, Any, Notes], Awaitable[None]]
EXPERIMENTS: dict[str, Experiment] = {}


def experiment(function: Experiment) -> Experiment:
    EXPERIMENTS[function.__name__] = function
    return function


async def tried(action: Callable[[], Any]) -> str:
    """What an action gives, or the name of what it raises."""
    try:
        given = action()
        if hasattr(given, "__await__"):
            given = await given
        return repr(given)
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        return type(error).__name__


async def told(context: Any) -> list[str]:
    """What a context tells of how its call is to end."""
    asked = (context.code, context.details, context.trailing_metadata, context.done, context.cancelled)
    return [await tried(action) for action in asked]


class Own(enum.Enum):
    NOT_FOUND = (5, "an enum of the program's own")


class Status:
    def __init__(self, code: Any, details: Any, trailing_metadata: Any) -> None:
        self.code = code
        self.details = details
        self.trailing_metadata = trailing_metadata


PAIR = (("x-pair", "value"),)
OTHER = (("x-other", "value"),)

#: What may stand for a code. Not OK, which grpcio fails to abort with.
CODES = {
    "code": lambda grpc: grpc.StatusCode.DATA_LOSS,
    "number": lambda grpc: 5,
    "no number of a code": lambda grpc: 77,
    "negative": lambda grpc: -1,
    "text": lambda grpc: "NOT_FOUND",
    "None": lambda grpc: None,
    "float": lambda grpc: 3.0,
    "bool": lambda grpc: True,
    "pair": lambda grpc: (5, "not found"),
    "own enum": lambda grpc: Own.NOT_FOUND,
}


def for_each_code(function: Callable[[Any, Any, Notes, Any], Awaitable[None]]) -> None:
    for name, code in CODES.items():

        async def run(grpc: Any, context: Any, notes: Notes, code: Callable[[Any], Any] = code) -> None:
            await function(grpc, context, notes, code(grpc))

        EXPERIMENTS[f"{function.__name__}-{name}"] = run


@experiment
async def untouched(grpc: Any, context: Any, notes: Notes) -> None:
    notes += await told(context)
    for ask in (context.time_remaining, context.peer_identities, context.peer_identity_key, context.auth_context):
        notes.append(await tried(ask))
    metadata = context.invocation_metadata()
    notes.append([type(metadata).__name__, metadata[0].key, metadata == context.invocation_metadata()])


@for_each_code
async def set_code(grpc: Any, context: Any, notes: Notes, code: Any) -> None:
    notes.append(await tried(lambda: context.set_code(code)))
    context.set_details("of a code that was set")
    notes += await told(context)


@for_each_code
async def set_code_and_raise(grpc: Any, context: Any, notes: Notes, code: Any) -> None:
    context.set_code(code)
    context.set_details("in vain")
    raise LookupError("raised beside a code")


@for_each_code
async def abort(grpc: Any, context: Any, notes: Notes, code: Any) -> None:
    notes.append(await tried(lambda: context.abort(code, "aborted")))
    notes += await told(context)


@experiment
async def details_of_other_types(grpc: Any, context: Any, notes: Notes) -> None:
    for details in ("text", 5, None, "größer\n", bytearray(b"octets"), ["text"]):
        notes.append([await tried(lambda details=details: context.set_details(details)), context.details()])
    context.set_code(grpc.StatusCode.ABORTED)


@experiment
async def no_details(grpc: Any, context: Any, notes: Notes) -> None:
    context.set_code(grpc.StatusCode.ABORTED)
    context.set_details(None)


@experiment
async def abort_with_what_was_set(grpc: Any, context: Any, notes: Notes) -> None:
    context.set_trailing_metadata(PAIR)
    context.set_details("set before")
    context.set_code(grpc.StatusCode.ABORTED)
    notes.append(await tried(lambda: context.abort(grpc.StatusCode.NOT_FOUND)))
    notes += await told(context)


@experiment
async def abort_in_place_of_what_was_set(grpc: Any, context: Any, notes: Notes) -> None:
    context.set_trailing_metadata(PAIR)
    context.set_details("set before")
    notes.append(await tried(lambda: context.abort(grpc.StatusCode.NOT_FOUND, "given", OTHER)))
    notes += await told(context)


@experiment
async def abort_without_details(grpc: Any, context: Any, notes: Notes) -> None:
    context.set_details("set before")
    notes.append(await tried(lambda: context.abort(grpc.StatusCode.NOT_FOUND, None)))
    notes += await told(context)


@experiment
async def abort_with_details_of_another_type(grpc: Any, context: Any, notes: Notes) -> None:
    for details in (b"octets", 5, ["text"]):
        notes.append(await tried(lambda details=details: context.abort(grpc.StatusCode.NOT_FOUND, details)))
    notes += await told(context)


@experiment
async def abort_with_a_status(grpc: Any, context: Any, notes: Notes) -> None:
    notes.append(await tried(lambda: context.abort_with_status(Status(grpc.StatusCode.DATA_LOSS, "status", PAIR))))
    notes += await told(context)


@experiment
async def abort_with_a_status_without_details(grpc: Any, context: Any, notes: Notes) -> None:
    notes.append(await tried(lambda: context.abort_with_status(Status(7, None, ()))))
    notes += await told(context)


@experiment
async def abort_with_no_status(grpc: Any, context: Any, notes: Notes) -> None:
    notes.append(await tried(lambda: context.abort_with_status(None)))


@experiment
async def use_after_abort(grpc: Any, context: Any, notes: Notes) -> None:
    async def note(action: Callable[[], Any]) -> None:
        notes.append(await tried(action))

    await note(lambda: context.abort(grpc.StatusCode.NOT_FOUND, "first"))
    await note(lambda: context.abort(grpc.StatusCode.ABORTED, "second"))
    notes += await told(context)
    await note(lambda: context.send_initial_metadata(PAIR))
    await note(lambda: context.write(b"late"))
    await note(lambda: context.read())
    await note(lambda: context.set_compression(grpc.Compression.Gzip))
    await note(lambda: context.disable_next_message_compression())
    await note(lambda: context.set_code(grpc.StatusCode.DATA_LOSS))
    await note(lambda: context.set_details("after"))
    await note(lambda: context.set_trailing_metadata(OTHER))
    notes += await told(context)


@experiment
async def raise_after_abort(grpc: Any, context: Any, notes: Notes) -> None:
    notes.append(await tried(lambda: context.abort(grpc.StatusCode.NOT_FOUND, "first")))
    raise LookupError("in vain")


@experiment
async def initial_metadata_twice(grpc: Any, context: Any, notes: Notes) -> None:
    notes.append(await tried(lambda: context.send_initial_metadata(PAIR)))
    notes.append(await tried(lambda: context.send_initial_metadata(OTHER)))


@experiment
async def initial_metadata_of_other_types(grpc: Any, context: Any, notes: Notes) -> None:
    for metadata in (None, 5):
        notes.append(await tried(lambda metadata=metadata: context.send_initial_metadata(metadata)))
    notes.append(await tried(lambda: context.send_initial_metadata([("x-list", "value")])))


@experiment
async def initial_metadata_object(grpc: Any, context: Any, notes: Notes) -> None:
    notes.append(await tried(lambda: context.send_initial_metadata(grpc.aio.Metadata(*PAIR))))


@experiment
async def trailing_metadata_and_an_error(grpc: Any, context: Any, notes: Notes) -> None:
    context.set_trailing_metadata(OTHER)
    raise LookupError("raised beside metadata")


@experiment
async def trailing_metadata_of_other_types(grpc: Any, context: Any, notes: Notes) -> None:
    for metadata in (
        None,
        5,
        {},
        {"x-dict": "value"},
        "ab",
        [5],
        (("x-pair", 5),),
        [("x-list", "value")],
        {"x-dict": "value"}.items(),
        PAIR,
    ):
        notes.append(await tried(lambda metadata=metadata: context.set_trailing_metadata(metadata)))
        notes.append(repr(context.trailing_metadata()))
    context.set_trailing_metadata(grpc.aio.Metadata(("x-object", "value")))
    notes.append(repr(context.trailing_metadata()))


@experiment
async def compression_too_late(grpc: Any, context: Any, notes: Notes) -> None:
    notes.append(await tried(lambda: context.set_compression(grpc.Compression.Gzip)))
    notes.append(await tried(lambda: context.set_compression(None)))
    await context.send_initial_metadata(())
    notes.append(await tried(lambda: context.set_compression(grpc.Compression.Gzip)))


@experiment
async def reading_past_the_end(grpc: Any, context: Any, notes: Notes) -> None:
    for _ in range(3):
        notes.append(await tried(context.read))


@experiment
async def done_callbacks(grpc: Any, context: Any, notes: Notes) -> None:
    notes.append(await tried(lambda: context.add_done_callback(None)))
    context.add_done_callback(lambda *given: notes.append([len(given), given[0].done(), given[0].cancelled()]))


@experiment
async def an_error_without_text(grpc: Any, context: Any, notes: Notes) -> None:
    raise LookupError


@experiment
async def an_rpc_error(grpc: Any, context: Any, notes: Notes) -> None:
    class Error(grpc.RpcError):  # type: ignore[misc]
        pass

    # Its text names its class.
    Error.__module__, Error.__qualname__ = "program", "Error"
    raise Error("not the call's own")
