"""The response of ``/v1/chat/completions``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Type, TypeVar, Union

from attrs import define, field

from .._habits import habits
from .._shown import shown
from ._answer import ChoiceAnswer
from ._shapes import text_of_content
from .messages import AssistantMessage
from .shared import JSONValue, Usage
from .tool_calls import ToolCall

if TYPE_CHECKING:
    from .logprobs import TokenLogprob

__all__ = ["ChatCompletion", "ChatCompletionChoice", "ChatCompletionMessage"]

_T = TypeVar("_T")


@habits(
    function_call="use tool_calls",
    model_dump="use to_dict(), or append the message itself to messages",
    reasoning_content="use reasoning",
)
@shown
@define
class ChatCompletionMessage:
    """The message of the model. ``content`` and ``reasoning`` are None if the model wrote none.

    It can be appended to the ``messages`` of the next request as it is; it is sent as
    :meth:`to_dict` returns it.
    """

    role: str = "assistant"
    content: Optional[str] = None
    reasoning: Optional[str] = None
    tool_calls: List[ToolCall] = field(factory=list)
    refusal: Optional[str] = None

    def to_dict(self, *, reasoning: bool = False) -> AssistantMessage:
        """Return the message as a dictionary, as requests contain it.

        Args:
            reasoning: Include the reasoning, for models that need it between tool calls.
        """
        message: AssistantMessage = {"role": self.role, "content": self.content}
        if self.tool_calls:
            message["tool_calls"] = [call.raw() for call in self.tool_calls]
        if reasoning and self.reasoning is not None:
            message["reasoning"] = self.reasoning
        return message

    def _as_json(self) -> AssistantMessage:
        return self.to_dict()

    @classmethod
    def from_raw(cls, raw: Mapping[str, JSONValue], index: int = 0) -> ChatCompletionMessage:
        """Read the ``message`` object of choice ``index``."""
        calls = raw.get("tool_calls") or ()
        return cls(
            raw.get("role") or "assistant",
            text_of_content(raw.get("content")),
            raw.get("reasoning") or raw.get("reasoning_content"),
            [ToolCall.from_raw(call, index) for call in calls if call],
            raw.get("refusal"),
        )


@habits(text="use message.content", delta="use message")
@shown
@define
class ChatCompletionChoice:
    """One of the ``n`` answers.

    ``logprobs`` is what the server sent. ``weight_versions`` is so too: with
    ``return_weight_versions``, the version of the model's weights that sampled the tokens from
    ``start`` to before ``end``.
    """

    index: int
    message: ChatCompletionMessage
    finish_reason: Optional[str] = None
    stop_reason: Union[int, str, None] = None
    logprobs: Optional[Dict[str, JSONValue]] = None
    token_ids: Optional[List[int]] = None
    weight_versions: Optional[List[Dict[str, JSONValue]]] = None
    parsed: Any = field(default=None, kw_only=True)
    """The text as an instance of the class that ``response_format`` named; None without one, and
    if the model called tools instead."""

    @property
    def _text_to_parse(self) -> Optional[str]:
        only_calls = self.message.tool_calls and not self.message.content
        return None if only_calls else self.message.content or ""

    @property
    def token_logprobs(self) -> List[TokenLogprob]:
        """``logprobs`` as one object per token, those of reasoning and tool calls included.

        The list is built on every access.
        """
        from .logprobs import TokenLogprob  # noqa: PLC0415 — few programs use it

        return TokenLogprob.sequence(self.logprobs)

    @classmethod
    def from_raw(cls, raw: Mapping[str, JSONValue]) -> ChatCompletionChoice:
        """Read one object of ``choices``.

        Raises:
            KeyError, TypeError, AttributeError: It is not a choice of this route.
        """
        index = raw.get("index") or 0
        return cls(
            index,
            ChatCompletionMessage.from_raw(raw["message"], index),
            raw.get("finish_reason"),
            raw.get("stop_reason"),
            raw.get("logprobs"),
            raw.get("token_ids"),
            raw.get("weight_versions"),
        )


@shown
@define
class ChatCompletion(ChoiceAnswer):
    """The response of ``/v1/chat/completions``. Its properties are shortcuts to choice 0.

    ``created`` is in seconds since 1970. ``raw`` is the decoded JSON as the server sent it.
    The attributes of the prompt are what the server sent: its token ids with
    ``return_token_ids``, one entry per token with ``prompt_logprobs``, and the text that the chat
    template made with ``return_prompt_text``.
    """

    id: str
    model: str
    created: int
    choices: List[ChatCompletionChoice]
    usage: Optional[Usage] = None
    prompt_token_ids: Optional[List[int]] = None
    prompt_logprobs: Optional[List[JSONValue]] = None
    prompt_text: Optional[str] = None
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)

    @property
    def message(self) -> ChatCompletionMessage:
        """The message of choice 0; empty until that choice arrives, as in an early snapshot."""
        first = self._first()
        return ChatCompletionMessage() if first is None else first.message

    @property
    def content(self) -> Optional[str]:
        """The text of the answer; None if the model wrote only reasoning or tool calls."""
        return self.message.content

    @property
    def text(self) -> str:
        """The text of the answer; empty if there is none."""
        return self.message.content or ""

    @property
    def reasoning(self) -> Optional[str]:
        """The reasoning before the answer, if the server has a reasoning parser."""
        return self.message.reasoning

    @property
    def tool_calls(self) -> List[ToolCall]:
        """The function calls that the model requests."""
        return self.message.tool_calls

    @property
    def finish_reason(self) -> Optional[str]:
        """The finish reason of choice 0: ``"stop"``, ``"length"``, ``"tool_calls"``, …"""
        first = self._first()
        return None if first is None else first.finish_reason

    @property
    def parsed(self) -> Any:
        """``parsed`` of choice 0; None unless ``response_format`` named a class."""
        first = self._first()
        return None if first is None else first.parsed

    def parsed_as(self, answer_type: Type[_T]) -> _T:
        """The text of choice 0 as an instance of a class, whose type a type checker then knows.

        Args:
            answer_type: A pydantic model, an attrs class, a dataclass or a TypedDict. All but the
                first need the extra ``structured``.

        Raises:
            InvalidAnswerError: The text does not fit.
            TypeError: It is a class of another kind.
            ImportError: The extra is not installed.
        """
        from ._parsed import parse_text  # noqa: PLC0415 — few programs use it

        return parse_text(self.text, answer_type, self._first(), self)

    def assistant_message(self, *, reasoning: bool = False) -> AssistantMessage:
        """Return the message to append to the conversation before the next one.

        Args:
            reasoning: Include the reasoning, for models that need it between tool calls.
        """
        return self.message.to_dict(reasoning=reasoning)

    def _first(self) -> Optional[ChatCompletionChoice]:
        return next((choice for choice in self.choices if choice.index == 0), None)

    @classmethod
    def from_raw(cls, raw: Dict[str, JSONValue]) -> ChatCompletion:
        """Read the decoded JSON of a response.

        Raises:
            KeyError, TypeError, AttributeError: It is not a response of this route.
        """
        choices = [
            ChatCompletionChoice.from_raw(choice) for choice in raw["choices"] if choice is not None
        ]
        return cls(
            raw.get("id") or "",
            raw.get("model") or "",
            raw.get("created") or 0,
            sorted(choices, key=lambda choice: choice.index),
            Usage.from_raw(raw.get("usage")),
            raw.get("prompt_token_ids"),
            raw.get("prompt_logprobs"),
            raw.get("prompt_text"),
            raw,
        )
