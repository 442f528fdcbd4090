"""A server for many short requests: one thread, which answers each after a delay.

The first part of the path tells how: ``/after/20/v1`` answers after 20 ms; ``/spread/20/v1`` after
a time that differs from row to row as lengths of texts do, with this median; ``/slots/50/v1`` works
on 64 requests at once, 50 ms on each, lets 48 wait and answers 503 to more.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import deque
from typing import Callable, Deque, Dict
from zlib import crc32

SLOTS, QUEUE = 64, 48
SIGMA = 0.7

_BODY = json.dumps(
    {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "text": "x" * 200,
                "logprobs": None,
                "finish_reason": "length",
                "stop_reason": None,
            }
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 64, "total_tokens": 69},
    }
).encode()
_BUSY = b'{"error": {"message": "busy", "type": "ServiceUnavailable", "param": null, "code": 503}}'


def _response(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


ANSWER = _response(b"200 OK", _BODY)
REJECTION = _response(b"503 Service Unavailable", _BUSY)


class Slots:
    """Requests in progress, and those that wait."""

    def __init__(self) -> None:
        self._busy = 0
        self._waiting: Deque[asyncio.Transport] = deque()

    def take(self, transport: asyncio.Transport, seconds: float) -> None:
        """Answer after so many seconds in a slot, or at once that there is no room."""
        if self._busy < SLOTS:
            self._busy += 1
            asyncio.get_running_loop().call_later(seconds, self._done, transport, seconds)
        elif len(self._waiting) < QUEUE:
            self._waiting.append(transport)
        else:
            transport.write(REJECTION)

    def _done(self, transport: asyncio.Transport, seconds: float) -> None:
        transport.write(ANSWER)
        self._busy -= 1
        if self._waiting:
            self.take(self._waiting.popleft(), seconds)


_slots = Slots()


def _after(transport: asyncio.Transport, seconds: float, _: bytes) -> None:
    asyncio.get_running_loop().call_later(seconds, transport.write, ANSWER)


def _spread(transport: asyncio.Transport, seconds: float, body: bytes) -> None:
    # By the request, so that every run has the same rows.
    factor = random.Random(crc32(body)).lognormvariate(0, SIGMA)
    _after(transport, seconds * factor, body)


def _in_slots(transport: asyncio.Transport, seconds: float, _: bytes) -> None:
    _slots.take(transport, seconds)


_MODES: Dict[bytes, Callable[[asyncio.Transport, float, bytes], None]] = {
    b"after": _after,
    b"spread": _spread,
    b"slots": _in_slots,
}


class Connection(asyncio.Protocol):
    """A connection of a client, which sends one request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        """Answer the request once it is whole."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        _, _, rest = head.lower().partition(b"\r\ncontent-length:")
        if len(body) >= int(rest.partition(b"\r\n")[0]):
            self._received = b""
            _, mode, milliseconds, _ = head.split(b" ", 2)[1].split(b"/", 3)
            _MODES[mode](self._transport, int(milliseconds) / 1000, body)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    # Returns when the parent process ends, for whatever reason.
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve())
