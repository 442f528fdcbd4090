"""The server: a socket, one thread per connection, and what tests can ask the server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Callable

from ._engine.engine import Engine
from ._routes.control import Control
from ._routes.responses import ResponseStore
from ._routes.running import Running
from ._routes.table import RouteContext, respond
from ._wire.replies import (
    ClientGoneError,
    EventStream,
    GenerationStats,
    Interruption,
    Reply,
    ReplySender,
    ScriptedCutError,
)
from ._wire.requests import MalformedRequestError, ReceivedRequest, read_request
from .recorded import Recorder, RequestLog
from .script import GENERATING, Script, ScriptFields, ScriptQueue, build_script

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = ["FakeServer"]

_BACKLOG = 128
_MALFORMED = Reply(400, b"Invalid HTTP request received.", "text/plain; charset=utf-8")


class FakeServer:
    """A stand-in for a vLLM 0.32 server, on a real socket of this machine.

    By default it generates plausible English about machine learning, with a small word model
    instead of a language model. ``enqueue`` and ``always`` set the responses and the faults that
    a test needs::

        with FakeServer() as server:
            client = VllmClient(server.base_url)

    Args:
        model: The served model name.
        models: All served model names, if there are several. Responses contain the first one.
        api_key: The API key that requests to paths under ``/v1`` must send; by default none.
        max_model_len: The length of the context, in tokens.
        max_logprobs: The largest number of log-probabilities per token that a request may ask for.
        seed: The seed for requests without a seed of their own.
        delay: Seconds to wait before each SSE event, and before a response that is not streamed.
        port: The port to listen on; 0 takes a free one.

    Raises:
        ValueError: ``port`` is no port.
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
        port: int = 0,
    ) -> None:
        if not 0 <= port < 1 << 16:
            raise ValueError(f"port must be 0 to 65535, not {port}")
        self._engine = Engine(models or [model], max_model_len, max_logprobs, seed)
        self._api_key = api_key
        self._delay = delay
        self._port = port
        self._control = Control()
        self._scripts = ScriptQueue(Script(delay=delay))
        self._recorder = Recorder()
        self._responses = ResponseStore()
        self._closing = threading.Event()
        self._listener: socket.socket | None = None
        self._acceptor = threading.Thread()
        # No lock: only the accepting thread writes this dict, and close() reads it after that
        # thread has ended.
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
        """The served model name; if there are several, the first."""
        return self._engine.models[0]

    @property
    def url(self) -> str:
        """The origin, such as ``http://127.0.0.1:50123``.

        Raises:
            RuntimeError: The server is not running.
        """
        if self._listener is None:
            raise RuntimeError(
                "the server is not running: use `with FakeServer()`, or call start() first"
            )
        host, port = self._listener.getsockname()
        return f"http://{host}:{port}"

    @property
    def base_url(self) -> str:
        """The root of the OpenAI-compatible API: the origin and ``/v1``."""
        return f"{self.url}/v1"

    @property
    def requests(self) -> RequestLog:
        """All requests received so far, in order of arrival."""
        return self._recorder.requests

    @property
    def aborted(self) -> int:
        """How many clients closed their connection before their response was complete."""
        return self._recorder.aborted

    @property
    def pending(self) -> int:
        """How many enqueued scripts have not been used yet."""
        return len(self._scripts)

    def start(self) -> Self:
        """Listen on 127.0.0.1. When this returns, the server accepts requests.

        Raises:
            OSError: The port is in use, or not allowed.
        """
        if self._listener is None:
            self._closing.clear()
            self._listener = socket.create_server(("127.0.0.1", self._port), backlog=_BACKLOG)
            self._acceptor = threading.Thread(
                target=self._accept_connections,
                args=(self._listener,),
                name="FakeServer",
                daemon=True,
            )
            self._acceptor.start()
        return self

    def close(self) -> None:
        """Close all connections, also those with a stream, and end all threads. Idempotent."""
        if self._listener is None:
            return
        self._closing.set()
        # On some systems, closing a socket does not interrupt its accept(). A connection does.
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
        """Set the response, or the faults, of the next request.

        Scripts are used in the order in which they were enqueued, each for one request. A script
        with text, reasoning or tool calls is used only for the paths that generate text
        (``/v1/completions``, ``/v1/chat/completions``, …); any other script for a request to any
        path. ``path`` restricts a script to one path. With faults alone, the server generates the
        response as usual.

        Args:
            times: For how many requests the script is used.
            **script: See ``ScriptFields``. The response: ``text``, ``reasoning``, ``tool_calls``
                and ``finish_reason``; or ``json``, ``body``, ``chunks`` (with ``done``) or
                ``error``; with ``status`` and ``headers``. The faults: ``cut_after`` (with
                ``clean``), ``stall_after``, ``error_after``, ``abort_after`` and ``drop``. Also
                ``path`` and ``delay``.

        Raises:
            TypeError: A field does not exist.
            ValueError: More than one of ``text``, ``json``, ``body`` and ``chunks`` is set.
        """
        self._scripts.put(build_script(self._delay, script), times)

    def always(self, **script: Unpack[ScriptFields]) -> None:
        """Set the response, or the faults, of all requests for which no script is enqueued.

        Without any field, the server generates these responses again.

        Args:
            **script: See ``enqueue``.

        Raises:
            TypeError: A field does not exist.
            ValueError: More than one of ``text``, ``json``, ``body`` and ``chunks`` is set.
        """
        self._scripts.set_always(build_script(self._delay, script))

    def wait_for(self, count: int, timeout: float = 10.0) -> None:
        """Wait until the server has received ``count`` requests in total.

        Args:
            count: The number of requests.
            timeout: The time limit, in seconds.

        Raises:
            TimeoutError: The server received fewer requests within the time limit.
        """
        if not self._recorder.wait(lambda: len(self.requests) >= count, timeout):
            raise TimeoutError(
                f"the server received {len(self.requests)} of {count} requests in {timeout} s"
            )

    def wait_for_abort(self, count: int = 1, timeout: float = 10.0) -> None:
        """Wait until ``count`` clients in total have closed their connection early.

        Early means: before the response was complete. The server may have sent a short response
        before the client closes. To prevent that, enqueue a ``stall_after`` or a ``delay``.

        Args:
            count: The number of clients.
            timeout: The time limit, in seconds.

        Raises:
            TimeoutError: Fewer clients closed their connection within the time limit.
        """
        if not self._recorder.wait(lambda: self.aborted >= count, timeout):
            raise TimeoutError(
                f"{self.aborted} of {count} clients closed their connection before the end of the "
                f"response in {timeout} s"
            )

    def _accept_connections(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            if self._closing.is_set():
                connection.close()
                return
            # Otherwise a small chunk would wait for the acknowledgement of the one before it.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(
                target=self._serve_connection, args=(connection,), name="FakeServer", daemon=True
            )
            alive = {c: t for c, t in self._connections.items() if t.is_alive()}
            self._connections = {**alive, connection: thread}
            thread.start()

    def _serve_connection(self, connection: socket.socket) -> None:
        sender = ReplySender(connection, self._closing)
        ends = suppress(ClientGoneError, ScriptedCutError, OSError)
        with connection, connection.makefile("rb") as stream, ends:
            try:
                while self._serve_one(connection, stream, sender):
                    pass
            except MalformedRequestError:
                sender.send_reply(_MALFORMED, Script(), close=True)

    def _serve_one(self, connection: socket.socket, stream: BinaryIO, sender: ReplySender) -> bool:
        """Read one request and respond to it.

        Returns:
            Whether the connection stays open for the next request.
        """
        received = read_request(stream, connection)
        if received is None:
            return False
        request = received.request
        script = self._scripts.take(request.path)
        self._recorder.record_request(request)
        if script.drop:
            return False
        context = RouteContext(
            self._engine, self._recorder, request, script, self._responses, self._control
        )
        if request.path in GENERATING:
            running = self._control.admit(self._closing)
            try:
                running.reply = reply = respond(context, self._api_key)
                self._send_and_count(sender, reply, running, script, received)
            finally:
                self._control.leave(running)
        else:
            _send(sender, respond(context, self._api_key), script, received)
        return not received.close_after

    def _send_and_count(
        self,
        sender: ReplySender,
        reply: Reply | EventStream,
        running: Running,
        script: Script,
        received: ReceivedRequest,
    ) -> None:
        stats = reply.stats or GenerationStats()
        run = self._recorder.start_run(
            stats.prompt_tokens, stats.finish_reasons, stats.completion_tokens
        )

        def on_generated() -> None:
            run.finish(was_aborted=running.is_aborted)

        try:
            _send(sender, reply, script, received, on_generated, running)
        except ClientGoneError:
            # Connections that end because the server closes are not counted as aborted.
            if not self._closing.is_set():
                run.abort()
            raise
        finally:
            run.finish()


def _send(
    sender: ReplySender,
    reply: Reply | EventStream,
    script: Script,
    received: ReceivedRequest,
    on_generated: Callable[[], None] = lambda: None,
    interruption: Interruption | None = None,
) -> None:
    close = received.close_after
    if isinstance(reply, EventStream):
        sender.send_stream(reply, script, on_generated, close=close, interruption=interruption)
    else:
        head = received.request.method == "HEAD"
        sender.send_reply(
            reply, script, on_generated, close=close, head=head, interruption=interruption
        )
