"""The replay server, in a process of its own: it sends bytes that were built beforehand.

It parses only the head of a request, except for embeddings. The base URL selects the response:

=============================  ====================================================================
``/burst/N/v1``                a stream of N events, as fast as the socket accepts them
``/burst/N/COLUMN/v1``         … whose chunks carry ``recorded_streams.COLUMNS[COLUMN]``
``/alone/N/GAP/v1``            each event GAP µs after the client has read the previous one
``/ticks/RATE/v1``             RATE events a second without end; the text is the time of sending
``/unchunked/N/GAP/v1``        an event every GAP µs, its text the time of sending; no chunks
``/idle/v1``                   one event, whose text is the number of the connection; no more
``/answer/N/v1``               not a stream; the log-probabilities of N tokens
``/vectors/DIMENSIONS/v1``     embeddings of the inputs, in the encoding of the request
``/closed/NUMBER``             the time at which that connection closed (waits for it)
=============================  ====================================================================

Times are nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import re
import socket
import sys
import threading
import time
from typing import Any, Callable, Dict, List, Tuple

from . import recorded_streams
from .receive_queue import ReceiveQueue

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_GOLDEN = 0.6180339887


class Ticker:
    """Sends the events of all endless streams from one thread, evenly spread over time."""

    def __init__(self) -> None:
        self._due: List[Tuple[float, int, float, socket.socket, Tuple[bytes, bytes]]] = []
        self._count = itertools.count()
        self._changed = threading.Condition()
        threading.Thread(target=self._run, daemon=True).start()

    def add(self, sock: socket.socket, kind: str, rate: float) -> None:
        """Send ``rate`` events a second until the connection closes."""
        number, period = next(self._count), 1 / rate
        # Multiples of the golden ratio modulo 1 spread evenly, for any number of streams.
        due = time.monotonic() + period * (number * _GOLDEN % 1)
        with self._changed:
            heapq.heappush(self._due, (due, number, period, sock, recorded_streams.stamped(kind)))
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._due:
                    self._changed.wait()
                wait = self._due[0][0] - time.monotonic()
                if wait > 0:
                    self._changed.wait(wait)
                    continue
                due, number, period, sock, event = heapq.heappop(self._due)
            if send_stamped(sock, event, recorded_streams.framed, socket.MSG_DONTWAIT):
                with self._changed:
                    heapq.heappush(self._due, (due + period, number, period, sock, event))


def send_stamped(
    sock: socket.socket,
    event: Tuple[bytes, bytes],
    framed: Callable[[bytes], bytes],
    flags: int = 0,
) -> bool:
    """Send an event with the time as its text. Returns whether the connection is still open."""
    before, after = event
    try:
        sock.send(framed(b"%b%019d%b" % (before, time.monotonic_ns(), after)), flags)
    except BlockingIOError:
        pass  # Drop the event: a client that is far behind must not delay the others.
    except OSError:
        return False
    return True


class Closings:
    """The times at which connections closed."""

    def __init__(self) -> None:
        self._times: Dict[int, int] = {}
        self._changed = threading.Condition()

    def record(self, number: int) -> None:
        """Store the present time for this connection."""
        with self._changed:
            self._times[number] = time.monotonic_ns()
            self._changed.notify_all()

    def wait(self, number: int) -> int:
        """Wait for a connection to close and return the time; 0 if it does not within 30 s."""
        with self._changed:
            self._changed.wait_for(lambda: number in self._times, timeout=30)
            return self._times.get(number, 0)


class Connection:
    """One connection of a client, served by its own thread."""

    def __init__(self, number: int, sock: socket.socket, ticker: Ticker, closings: Closings):
        self._number = number
        self._sock = sock
        self._ticker = ticker
        self._closings = closings
        self._buffer = b""
        self._body = b""

    def serve(self) -> None:
        """Respond to requests until the client closes the connection."""
        with contextlib.suppress(OSError), self._sock:
            while self._serve_one():
                pass
        self._closings.record(self._number)

    def _serve_one(self) -> bool:
        path = self._request()
        if not path:
            return False
        mode, *arguments = path.partition("/v1")[0].strip("/").split("/")
        kind = recorded_streams.CHAT if "/chat/" in path else recorded_streams.COMPLETIONS
        answer: Callable[..., Any] = getattr(self, f"_{mode}")
        return answer(kind, *map(int, arguments)) is not False

    def _request(self) -> str:
        while b"\r\n\r\n" not in self._buffer:
            data = self._sock.recv(65536)
            if not data:
                return ""
            self._buffer += data
        head, _, rest = self._buffer.partition(b"\r\n\r\n")
        found = _LENGTH.search(head)
        length = int(found[1]) if found else 0
        while len(rest) < length:
            rest += self._sock.recv(length - len(rest))
        self._body = rest
        self._buffer = b""
        return head.split(b" ", 2)[1].decode()

    def _burst(self, kind: str, count: int, column: int = 0) -> None:
        self._sock.sendall(recorded_streams.stream(kind, count, recorded_streams.COLUMNS[column]))

    def _alone(self, kind: str, count: int, gap: int) -> None:
        queue = ReceiveQueue(self._sock)
        self._sock.sendall(recorded_streams.head(kind))
        for data in [
            *map(recorded_streams.framed, recorded_streams.events(kind, count)),
            recorded_streams.LAST_CHUNK,
        ]:
            queue.wait_until_read()
            if gap:
                time.sleep(gap / 1e6)
            self._sock.sendall(data)
        queue.close()

    def _ticks(self, kind: str, rate: int) -> bool:
        self._sock.sendall(recorded_streams.head(kind))
        self._ticker.add(self._sock, kind, rate)
        return self._until_closed()

    def _unchunked(self, kind: str, count: int, gap: int) -> bool:
        self._sock.sendall(recorded_streams.head(kind, chunked=False))
        for _ in range(count):
            time.sleep(gap / 1e6)
            send_stamped(self._sock, recorded_streams.stamped(kind), bytes)
        self._sock.sendall(b"".join(recorded_streams.events(kind, 0)))
        return False

    def _idle(self, kind: str) -> bool:
        first = recorded_streams.framed(recorded_streams.text_event(kind, str(self._number)))
        self._sock.sendall(recorded_streams.head(kind) + first)
        return self._until_closed()

    def _answer(self, _: str, count: int) -> None:
        self._sock.sendall(recorded_streams.document(recorded_streams.answer(count)))

    def _vectors(self, _: str, dimensions: int) -> None:
        fields = json.loads(self._body)
        count, encoding = len(fields["input"]), fields["encoding_format"]
        self._sock.sendall(recorded_streams.vectors(count, dimensions, encoding))

    def _closed(self, _: str, number: int) -> None:
        self._sock.sendall(recorded_streams.document(b"%d" % self._closings.wait(number)))

    def _until_closed(self) -> bool:
        with contextlib.suppress(ConnectionError):
            while self._sock.recv(4096):
                pass
        return False


def _accept(listener: socket.socket) -> None:
    ticker, closings = Ticker(), Closings()
    for number in itertools.count(1):
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(number, sock, ticker, closings)
        threading.Thread(target=connection.serve, daemon=True).start()


def main() -> None:
    threading.stack_size(256 * 1024)  # There may be thousands of connections.
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=_accept, args=(listener,), daemon=True).start()
    sys.stdin.read()  # Returns when the parent process ends, for whatever reason.


if __name__ == "__main__":
    main()
