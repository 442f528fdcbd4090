"""A server for many prompts: it answers each by its text, and notes what it was asked."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any, Callable, Dict, List, Optional

from ..recorded import answer
from ..servers import Connection

Outcome = Callable[[Connection], Any]


def status(line: str, message: str = "no", headers: str = "") -> Outcome:
    """An outcome: an error with this status line."""
    code = int(line.split(maxsplit=1)[0])

    def reply(connection: Connection) -> None:
        error = {"message": message, "type": "x", "param": None, "code": code}
        connection.send_json({"error": error}, line, headers)

    return reply


def broken(connection: Connection) -> None:
    """An outcome: the connection breaks before the response."""
    connection.reset()


class Answering:
    """A handler that answers the prompt ``x`` with the text ``<x>``.

    Attributes:
        outcomes: Other outcomes, by prompt: a list is used up one by one, then the prompt is
            answered.
        asked: How often each prompt arrived.
        answered: How often each prompt was answered, as far as the server can tell.
        most_at_once: The most requests that were in progress at once.
        hold: While it is cleared, no request is answered.
        health: The outcomes of ``/health``, used up one by one; then it is 200.
        probes: How often ``/health`` was asked.
    """

    def __init__(self, outcomes: Optional[Dict[Any, List[Outcome]]] = None) -> None:
        self.outcomes = outcomes or {}
        self.health: List[Outcome] = []
        self.probes = 0
        self.asked: Counter[Any] = Counter()
        self.answered: Counter[Any] = Counter()
        self.most_at_once = 0
        self.hold = threading.Event()
        self.hold.set()
        self._at_once = 0
        self._changed = threading.Condition()

    def __call__(self, connection: Connection) -> None:
        while connection.receive():
            if connection.request.path == "/health":
                self._probe(connection)
            else:
                self._answer(connection)

    def _probe(self, connection: Connection) -> None:
        with self._changed:
            self.probes += 1
            outcome = self.health.pop(0) if self.health else None
        if outcome is None:
            connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        else:
            outcome(connection)

    def _answer(self, connection: Connection) -> None:
        prompt = prompt_of(connection.request.json)
        with self._changed:
            self.asked[prompt] += 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            waiting = self.outcomes.get(prompt)
            outcome = waiting.pop(0) if waiting else None
            self._changed.notify_all()
        self.hold.wait(10)
        with self._changed:
            self._at_once -= 1
        if outcome is not None:
            outcome(connection)
        elif connection.request.path.endswith("chat/completions"):
            connection.send_json(chat_answer(f"<{prompt}>"))
        else:
            connection.send_json(answer(f"<{prompt}>"), headers="x-request-id: r1\r\n")
            self.answered[prompt] += 1

    def wait_asked(self, count: int, seconds: float = 10) -> bool:
        """Wait until so many requests arrived."""
        with self._changed:
            return self._changed.wait_for(lambda: sum(self.asked.values()) >= count, seconds)


def prompt_of(body: Any) -> Any:
    """What names a request: its prompt or input, or its last message's content."""
    if "messages" in body:
        return body["messages"][-1]["content"]
    prompt = body.get("prompt", body.get("input"))
    return tuple(prompt) if isinstance(prompt, list) else prompt


def chat_answer(text: str) -> Any:
    """A response of /v1/chat/completions, decoded."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }
