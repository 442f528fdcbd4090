"""A conversation with a model: its messages, and what the next question is sent with."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Dict, List

from ..client import VllmClient
from ..types import ChatCompletion
from ..types.messages import Message
from ._options import request_params
from ._output import print_stream
from ._terminal import is_terminal, note

__all__ = ["Conversation"]


class Conversation:
    """The messages so far.

    A question that fails leaves the conversation as it was.
    """

    def __init__(self, client: VllmClient, arguments: argparse.Namespace) -> None:
        self.client = client
        self.messages: List[Message] = []
        self.params: Dict[str, Any] = request_params(arguments)
        self._thinking: bool = arguments.thinking
        if arguments.system:
            self.messages.append({"role": "system", "content": arguments.system})

    def ask(self, text: str) -> None:
        """Send a question, and print the answer while it arrives.

        Raises:
            VllmError: There is no complete answer.
        """
        self._send({"role": "user", "content": text})

    def clear(self) -> None:
        """Forget all messages but the system message."""
        self.messages = [each for each in self.messages if each.get("role") == "system"]

    def _send(self, question: Message) -> None:
        answer = self._answer([*self.messages, question])
        if answer.text or answer.tool_calls:
            message = {**answer.assistant_message(), "content": answer.text}
            self.messages += [question, message]

    def _answer(self, messages: List[Message]) -> ChatCompletion:
        answer = ChatCompletion("", "", 0, [])
        try:
            with self.client.chat.completions.stream(messages=messages, **self.params) as stream:
                try:
                    print_stream(stream, thinking=self._thinking)
                finally:
                    answer = stream.snapshot
        except KeyboardInterrupt:
            if not is_terminal(sys.stdin):
                raise
            # Ctrl-C ends the answer, not the program. What arrived is part of the conversation.
            note("stopped")
        return answer
