"""A conversation with a model: its messages, and what the next question is sent with."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Dict, List, Optional

from .._request import split
from ..client import VllmClient
from ..params import ChatCompletionParams
from ..resources._media import image_part
from ..types import ChatCompletion
from ..types.messages import ImagePart, Message
from ._options import read_text, request_params
from ._output import TextPrinter, print_stats, print_stream
from ._terminal import has_colour

__all__ = ["Conversation"]


class Conversation:
    """The messages so far.

    A question that fails leaves the conversation as it was.

    Attributes:
        params: The request fields of the next question.
    """

    def __init__(self, client: VllmClient, arguments: argparse.Namespace) -> None:
        self.client = client
        self.params: Dict[str, Any] = {}
        for name, value in request_params(arguments).items():
            self.set(name, value)
        self._arguments = arguments
        self._turns: List[Message] = []
        self._images: List[ImagePart] = []
        self.system: Optional[str] = arguments.system
        if arguments.system_file:
            self.system = read_text(arguments.system_file)
        for path in arguments.image:
            self.attach(path)

    @property
    def messages(self) -> List[Message]:
        """The system message, if any, then questions and answers."""
        return [*self._first, *self._turns]

    @property
    def _first(self) -> List[Message]:
        return [{"role": "system", "content": self.system}] if self.system else []

    def ask(self, text: str) -> None:
        """Send a question, and print the answer while it arrives.

        Raises:
            VllmError: There is no complete answer.
        """
        content: Any = [*self._images, {"type": "text", "text": text}] if self._images else text
        before = self._turns
        try:
            self._send(before, {"role": "user", "content": content})
        finally:
            if self._turns is not before:
                self._images = []

    def retry(self) -> None:
        """Ask the last question again; the new answer replaces the old one.

        Raises:
            ValueError: There is none.
            VllmError: There is no complete answer. The old one stays.
        """
        if not self._turns:
            raise ValueError("there is no question to ask again")
        self._send(self._turns[:-2], self._turns[-2])

    def set(self, name: str, value: Any) -> None:
        """Send a request field with all that follows.

        Raises:
            TypeError, ValueError: There is no such field, or a conversation cannot have it.
        """
        split("chat", {name: value}, ChatCompletionParams)  # Refuses unknown names.
        if name == "messages" or (name == "n" and value != 1):
            raise ValueError(f"{name} cannot be set: a conversation has its own")
        self.params[name] = value

    def attach(self, path: str) -> None:
        """Send an image with the next question.

        Raises:
            OSError, ValueError: It cannot be read, or is no image.
        """
        self._images.append(image_part(path))

    def clear(self) -> None:
        """Forget all messages but the system message."""
        self._turns, self._images = [], []

    def save(self, path: str) -> None:
        """Write the conversation: as JSON to a name that ends in .json, else as Markdown.

        Raises:
            OSError: The file cannot be written.
        """
        # Half a character, which UTF-8 cannot encode, becomes an escape.
        with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
            if path.endswith(".json"):
                json.dump(self.messages, file, ensure_ascii=False, indent=2)
                file.write("\n")
            else:
                file.writelines(map(_section, self.messages))

    def _send(self, before: List[Message], question: Message) -> None:
        """Ask after these turns, and keep question and answer if there is one."""
        messages = [*self._first, *before, question]
        with self.client.chat.completions.stream(messages=messages, **self.params) as stream:
            try:
                print_stream(stream, thinking=self._arguments.thinking, texts=self._printer())
            except KeyboardInterrupt:
                self._keep(before, question, stream.snapshot)
                raise
        self._keep(before, question, stream.snapshot)
        if self._arguments.stats:
            print_stats(stream.timings)

    def _keep(self, before: List[Message], question: Message, answer: ChatCompletion) -> None:
        if answer.text or answer.tool_calls:
            kept: Any = {**answer.assistant_message(), "content": answer.text}
            self._turns = [*before, question, kept]

    def _printer(self) -> Optional[TextPrinter]:
        """What renders Markdown; None where that is not possible or not wanted."""
        is_utf8 = (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")
        if self._arguments.plain or not has_colour(sys.stdout) or not is_utf8:
            return None
        try:
            from ._markdown import MarkdownPrinter  # noqa: PLC0415 — it needs the extra
        except ImportError:
            return None
        return MarkdownPrinter()


def _section(message: Any) -> str:
    content = message["content"]
    parts = [content] if isinstance(content, str) else [_part(part) for part in content]
    return f"## {message['role']}\n\n{''.join(parts)}\n\n"


def _part(part: Any) -> str:
    return part["text"] if part["type"] == "text" else f"![image]({part['image_url']['url']})\n\n"
