"""Look-ups at a name server of the user's choice: ``dns://10.0.0.53/service.example:50051``.

Questions go out as datagrams and, where the answer does not fit into one, over TCP (RFC 1035 §4.2, RFC 7766).
"""

from __future__ import annotations

import asyncio
import secrets
import socket

from .._native import dns_answer, dns_query

#: Seconds to wait for each try, as resolvers have it.
TRIES_SECONDS = (1.0, 2.0, 4.0)

#: Seconds for all of an exchange over TCP.
TCP_SECONDS = 5.0

#: What ``getaddrinfo`` returns, as far as it is used here.
Entry = tuple[int, int, int, str, tuple[str, int]]

Answer = tuple[bool, list[str]]


class _Question(asyncio.DatagramProtocol):
    """One question, as datagrams. Answers to something else are passed over: anybody can send them."""

    def __init__(self, host: str, is_v6: bool) -> None:
        self.host, self.is_v6, self.id = host, is_v6, secrets.randbits(16)
        self.octets = dns_query(host, is_v6, self.id)
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def read(self, octets: bytes) -> Answer | None:
        return dns_answer(octets, self.host, self.is_v6, self.id)

    def datagram_received(self, data: bytes, addr: object) -> None:
        if self.answer.done():
            return
        try:
            answer = self.read(data)
        except OSError as error:
            self.answer.set_exception(error)
        else:
            if answer is not None:
                self.answer.set_result(answer)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.answer.cancel()


async def look_up(server: tuple[str, int], host: str, port: int) -> list[Entry]:
    """The addresses of a host, in the form of ``getaddrinfo``: IPv6 first.

    Raises OSError where the name server gives none, or does not answer.
    """
    asked = (_ask(server, host, is_v6) for is_v6 in (True, False))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    entries: list[Entry] = []
    errors: list[BaseException] = []
    for family, answer in zip((socket.AF_INET6, socket.AF_INET), answers, strict=True):
        if isinstance(answer, BaseException):
            errors.append(answer)
        else:
            entries += [(family, socket.SOCK_STREAM, 0, "", (address, port)) for address in answer]
    if entries:
        return entries
    if errors:
        raise errors[0]
    raise OSError("the name has no address")


async def _ask(server: tuple[str, int], host: str, is_v6: bool) -> list[str]:
    question = _Question(host, is_v6)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: question, remote_addr=server)
    try:
        for seconds in TRIES_SECONDS:
            transport.sendto(question.octets)
            await asyncio.wait((question.answer,), timeout=seconds)
            if question.answer.done():
                break
        else:
            raise OSError("the name server does not answer")
        is_truncated, addresses = question.answer.result()
    finally:
        transport.close()
    if not is_truncated:
        return addresses
    return await asyncio.wait_for(_ask_over_tcp(server, question), TCP_SECONDS)


async def _ask_over_tcp(server: tuple[str, int], question: _Question) -> list[str]:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(len(question.octets).to_bytes(2, "big") + question.octets)
        length = int.from_bytes(await reader.readexactly(2), "big")
        answer = question.read(await reader.readexactly(length))
    except asyncio.IncompleteReadError as error:
        raise OSError("the name server does not answer over TCP") from error
    finally:
        writer.close()
    if answer is None or answer[0]:
        raise OSError("the name server answers something else over TCP")
    return answer[1]
