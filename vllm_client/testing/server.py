"""The server: a socket, a thread for each connection, and what tests ask of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Callable

from ._engine.engine import Engine
from ._routes.table import Exchange, respond
from ._wire.replies import ClientGoneError, DroppedError, EventStream, Reply, Wire, Work
from ._wire.requests import Arrival, MalformedError, read_request
from .recorded import Recorder, RequestLog
from .script import GENERATING, Script, ScriptFields, ScriptQueue, script_from

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = ["FakeServer"]

_BACKLOG = 128
_MALFORMED = Reply(400, b"Invalid HTTP request received.", "text/plain; charset=utf-8")


class FakeServer:
    """A stand-in for a vLLM 0.32 server, on a real socket of this machine.

    Left alone it writes plausible English about machine learning; `enqueue` and `always` give it
    the answers and the faults that a test wants. It is no vLLM: no model runs in it.

        with FakeServer() as server:
            client = VllmClient(server.base_url)

    Args:
        model: the served name.
        models: all served names, where there are several; the first is the name in answers.
        api_key: the key that paths under /v1 ask for; by default none.
        max_model_len: the length of the context, in tokens.
        max_logprobs: the most log-probabilities that a request may ask for.
        seed: of the answers to requests that bring no seed.
        delay: seconds before each event of a stream, and before a whole answer.
    """

    def __init__(
        self,
        model: str = "fake-vllm",
        *,
        models: Sequence[str] = (),
        api_key: str | None = None,
        max_model_len: int = 4096,
        max_logprobs: int = 20,
        seed: int = 0,
        delay: float = 0.0,
    ) -> None:
        self._engine = Engine(models or [model], max_model_len, max_logprobs, seed)
        self._api_key = api_key
        self._delay = delay
        self._scripts = ScriptQueue(Script(delay=delay))
        self._recorder = Recorder()
        self._closing = threading.Event()
        self._listener: socket.socket | None = None
        self._acceptor = threading.Thread()
        # Only the accepting thread writes it, and close() reads it once that thread has ended.
        self._connections: dict[socket.socket, threading.Thread] = {}

    def __repr__(self) -> str:
        state = "closed" if self._listener is None else self.url
        return f"<{type(self).__name__} {self.model!r} {state}>"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def model(self) -> str:
        """The served name; of several the first."""
        return self._engine.models[0]

    @property
    def url(self) -> str:
        """The origin, such as `http://127.0.0.1:50123`.

        Raises:
            RuntimeError: the server is not running.
        """
        if self._listener is None:
            raise RuntimeError("the server is not running: use `with`, or call start()")
        host, port = self._listener.getsockname()
        return f"http://{host}:{port}"

    @property
    def base_url(self) -> str:
        """The root of the OpenAI-compatible API: the origin and `/v1`."""
        return f"{self.url}/v1"

    @property
    def requests(self) -> RequestLog:
        """What arrived, in order."""
        return self._recorder.requests

    @property
    def aborted(self) -> int:
        """How many clients went away before their answer was whole."""
        return self._recorder.aborted

    @property
    def pending(self) -> int:
        """How many scripted answers wait for a request."""
        return len(self._scripts)

    def start(self) -> Self:
        """Listen on a free port of 127.0.0.1; once this returns, requests are answered."""
        if self._listener is None:
            self._closing.clear()
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
            self._acceptor = threading.Thread(
                target=self._accept, args=(self._listener,), name="FakeServer", daemon=True
            )
            self._acceptor.start()
        return self

    def close(self) -> None:
        """End all connections at once, open streams included, and all threads. Idempotent."""
        if self._listener is None:
            return
        self._closing.set()
        # On some systems accept() sleeps on when its socket is closed; a connection wakes it.
        with suppress(OSError):
            socket.create_connection(self._listener.getsockname()).close()
        self._acceptor.join()
        self._listener.close()
        self._listener = None
        for connection, thread in self._connections.items():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()
        self._connections.clear()

    def enqueue(self, *, times: int = 1, **script: Unpack[ScriptFields]) -> None:
        """Give the next request this answer, or these faults.

        Answers are given in the order in which they were enqueued, each one once. Text, reasoning
        and tool calls go to requests for a completion only; the others to whatever comes, unless
        `path` says which. With faults alone the answer is generated as always.

        Args:
            times: how many requests get it.
            **script: see `ScriptFields`: `text`, `reasoning`, `tool_calls`, `finish_reason`; or
                `json`, `body`, `chunks` (with `done`) or `error`, with `status` and `headers`;
                and `path`, `delay` and the faults `cut_after` (with `clean`), `stall_after`,
                `error_after`, `abort_after`, `drop`.

        Raises:
            TypeError: there is no such field.
            ValueError: several answers are given at once.
        """
        self._scripts.put(script_from(self._delay, script), times)

    def always(self, **script: Unpack[ScriptFields]) -> None:
        """Give all requests this answer, or these faults, for which nothing is enqueued.

        Without any field requests are answered as they were at first.

        Args:
            **script: as for `enqueue`.
        """
        self._scripts.stand(script_from(self._delay, script))

    def wait_for(self, count: int, timeout: float = 10.0) -> None:
        """Wait until `count` requests have arrived in all.

        Args:
            count: how many.
            timeout: seconds.

        Raises:
            TimeoutError: they did not.
        """
        if not self._recorder.wait(lambda: len(self.requests) >= count, timeout):
            raise TimeoutError(f"{len(self.requests)} of {count} requests came in {timeout} s")

    def wait_for_abort(self, count: int = 1, timeout: float = 10.0) -> None:
        """Wait until `count` clients in all have gone away before their answer was whole.

        A short answer may be on its way before the client leaves: enqueue a `stall_after`, or a
        `delay`, for one that can be left.

        Args:
            count: how many.
            timeout: seconds.

        Raises:
            TimeoutError: they stayed.
        """
        if not self._recorder.wait(lambda: self.aborted >= count, timeout):
            raise TimeoutError(f"{self.aborted} of {count} clients went away in {timeout} s")

    def _accept(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            if self._closing.is_set():
                connection.close()
                return
            # Without this each small chunk would wait for the acknowledgement of the one before.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(
                target=self._serve, args=(connection,), name="FakeServer", daemon=True
            )
            living = {c: t for c, t in self._connections.items() if t.is_alive()}
            self._connections = {**living, connection: thread}
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        wire = Wire(connection, self._closing)
        ends = suppress(ClientGoneError, DroppedError, OSError)
        with connection, connection.makefile("rb") as stream, ends:
            try:
                while self._exchange(connection, stream, wire):
                    pass
            except MalformedError:
                wire.send_reply(_MALFORMED, Script(), close=True)

    def _exchange(self, connection: socket.socket, stream: BinaryIO, wire: Wire) -> bool:
        """Read a request and answer it; return whether the connection may bring another."""
        arrival = read_request(stream, connection)
        if arrival is None:
            return False
        request = arrival.request
        script = self._scripts.take(request.path)
        self._recorder.arrived(request)
        if script.drop:
            return False
        reply = respond(Exchange(self._engine, self._recorder, request, script), self._api_key)
        if request.path in GENERATING:
            self._send_counted(wire, reply, script, arrival)
        else:
            _send(wire, reply, script, arrival)
        return not arrival.close

    def _send_counted(
        self, wire: Wire, reply: Reply | EventStream, script: Script, arrival: Arrival
    ) -> None:
        work = reply.work or Work()
        run = self._recorder.began(work.prompt_tokens, work.finish_reasons, work.completion_tokens)
        try:
            _send(wire, reply, script, arrival, run.finished)
        except ClientGoneError:
            if not self._closing.is_set():
                run.left()
            raise
        finally:
            run.finished()


def _send(
    wire: Wire,
    reply: Reply | EventStream,
    script: Script,
    arrival: Arrival,
    generated: Callable[[], None] = lambda: None,
) -> None:
    if isinstance(reply, EventStream):
        wire.send_stream(reply, script, generated, close=arrival.close)
    else:
        head = arrival.request.method == "HEAD"
        wire.send_reply(reply, script, generated, close=arrival.close, head=head)
