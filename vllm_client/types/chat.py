"""What ``/v1/chat/completions`` answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional

from attrs import define, field

from .messages import AssistantMessage
from .shared import Usage
from .tool_calls import ToolCall

if TYPE_CHECKING:
    from .logprobs import TokenLogprob


@define
class ChatCompletionMessage:
    """What the model says: ``content``, ``reasoning`` and calls, each only if there is any."""

    role: str = "assistant"
    content: Optional[str] = None
    reasoning: Optional[str] = None
    tool_calls: List[ToolCall] = field(factory=list)
    refusal: Optional[str] = None

    @classmethod
    def from_raw(cls, raw: Mapping[str, Any], index: int = 0) -> ChatCompletionMessage:
        """The ``message`` of choice ``index``."""
        calls = raw.get("tool_calls") or ()
        return cls(
            raw.get("role") or "assistant",
            raw.get("content"),
            raw.get("reasoning") or raw.get("reasoning_content"),
            [ToolCall.from_raw(call, index) for call in calls],
            raw.get("refusal"),
        )


@define
class ChatCompletionChoice:
    """One of the ``n`` answers. ``logprobs`` are as the server sent them."""

    index: int
    message: ChatCompletionMessage
    finish_reason: Optional[str] = None
    stop_reason: Any = None
    logprobs: Optional[Dict[str, Any]] = None
    token_ids: Optional[List[int]] = None

    @property
    def token_logprobs(self) -> List[TokenLogprob]:
        """``logprobs`` token by token; built anew each time. They cover reasoning and calls too."""
        from .logprobs import TokenLogprob  # noqa: PLC0415 — few ask for it

        return TokenLogprob.sequence(self.logprobs)

    @classmethod
    def from_raw(cls, raw: Mapping[str, Any]) -> ChatCompletionChoice:
        """One object of ``choices``. Raises ``KeyError`` and its like for anything else."""
        index = raw.get("index", 0)
        return cls(
            index,
            ChatCompletionMessage.from_raw(raw["message"], index),
            raw.get("finish_reason"),
            raw.get("stop_reason"),
            raw.get("logprobs"),
            raw.get("token_ids"),
        )


@define
class ChatCompletion:
    """The answer of ``/v1/chat/completions``; the properties are shortcuts to choice 0.

    ``created`` is in seconds since 1970. ``raw`` is the decoded JSON, untouched.
    """

    id: str
    model: str
    created: int
    choices: List[ChatCompletionChoice]
    usage: Optional[Usage] = None
    raw: Dict[str, Any] = field(factory=dict, repr=False, eq=False)

    @property
    def message(self) -> ChatCompletionMessage:
        """The message of choice 0; an empty one while there is none, as in an early snapshot."""
        first = self._first()
        return ChatCompletionMessage() if first is None else first.message

    @property
    def content(self) -> Optional[str]:
        """The text of the answer; None if all of it was reasoning or calls."""
        return self.message.content

    @property
    def text(self) -> str:
        """The text of the answer, empty if there is none."""
        return self.message.content or ""

    @property
    def reasoning(self) -> Optional[str]:
        """The thinking before the answer, if the server has a reasoning parser."""
        return self.message.reasoning

    @property
    def tool_calls(self) -> List[ToolCall]:
        """The functions the model wants called."""
        return self.message.tool_calls

    @property
    def finish_reason(self) -> Optional[str]:
        """``"stop"``, ``"length"``, ``"tool_calls"``, …"""
        first = self._first()
        return None if first is None else first.finish_reason

    def assistant_message(self, *, reasoning: bool = False) -> AssistantMessage:
        """The message to append to the history before the next one.

        Args:
            reasoning: Keep the thinking in it, for models that want it back between tool calls.
        """
        said = self.message
        message: AssistantMessage = {"role": said.role, "content": said.content}
        if said.tool_calls:
            message["tool_calls"] = [call.raw() for call in said.tool_calls]
        if reasoning and said.reasoning is not None:
            message["reasoning"] = said.reasoning
        return message

    def _first(self) -> Optional[ChatCompletionChoice]:
        return next((choice for choice in self.choices if choice.index == 0), None)

    @classmethod
    def from_raw(cls, raw: Dict[str, Any]) -> ChatCompletion:
        """Read the decoded JSON of an answer.

        Raises:
            KeyError, TypeError, AttributeError: It is not the answer of the route.
        """
        choices = [ChatCompletionChoice.from_raw(choice) for choice in raw["choices"]]
        return cls(
            raw.get("id") or "",
            raw.get("model") or "",
            raw.get("created") or 0,
            sorted(choices, key=lambda choice: choice.index),
            Usage.from_raw(raw.get("usage")),
            raw,
        )
