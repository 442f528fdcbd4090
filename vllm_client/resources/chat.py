"""``client.chat.completions``: the next message of a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Mapping, NoReturn, Union, overload

from .._decoding.chat import ChatDecoder
from .._habits import CHAT_HABITS, client_habits
from .._http.payload import Payload
from .._http.transport import Transport
from .._request import answer_type_of, expected_choices, refuse_positional, split, streamed, takes
from ..params import ChatBatchParams, ChatCompletionParams
from ..streams import ChatCompletionStream, OnError
from ..types._json import JsonObject
from ..types.chat import ChatCompletion
from ._base import Resource

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Chat", "ChatCompletions"]

_PATH = "chat/completions"
_EXAMPLE = 'messages=[{"role": "user", "content": "…"}]'


class ChatCompletions(Resource):
    """``POST /v1/chat/completions``."""

    @overload
    def create(
        self, *, stream: Literal[False] = ..., **params: Unpack[ChatCompletionParams]
    ) -> ChatCompletion: ...

    @overload
    def create(
        self, *, stream: Literal[True], **params: Unpack[ChatCompletionParams]
    ) -> ChatCompletionStream: ...

    @overload
    def create(
        self, *, stream: bool, **params: Unpack[ChatCompletionParams]
    ) -> Union[ChatCompletion, ChatCompletionStream]: ...

    @takes(ChatCompletionParams)
    def create(
        self, *_: object, stream: bool = False, **params: Any
    ) -> Union[ChatCompletion, ChatCompletionStream]:
        """Continue a conversation and wait for the complete response.

        Args:
            stream: True does the same as :meth:`stream`.
            **params: The fields of :class:`~vllm_client.params.ChatCompletionParams`, which
                documents each. The server's defaults apply to omitted fields.

        Returns:
            The response, with ``n`` choices.

        Raises:
            TypeError: An argument is not a field, or there are no messages.
            ValueError: The server is known to refuse a value, or a value cannot be JSON.
            APIStatusError: The server refused the request.
            APIConnectionError: No complete response arrived.
            GenerationAbortedError: The server aborted the generation; ``partial`` holds the text
                so far.
            InvalidResponseError: A choice or its finish reason is missing, or the response is not
                one of ``POST /v1/chat/completions``.
            InvalidAnswerError: A text does not fit the class in ``response_format``; ``partial``
                holds the whole response.
            ImportError: The library that reads this kind of class is not installed.
        """
        if _:
            refuse_positional("create", _EXAMPLE)
        if stream:
            return self.stream(**params)
        body, options = split("create", params, ChatCompletionParams)
        answer_type = answer_type_of(body)
        check_chat(body)
        expected = expected_choices(body)
        return self._post(
            _PATH,
            body,
            options,
            ChatCompletion.from_raw,
            expected=expected,
            answer_type=answer_type,
        )

    @takes(ChatCompletionParams)
    def stream(
        self,
        *_: NoReturn,
        on_error: OnError = "raise",
        **params: Unpack[ChatCompletionParams],
    ) -> ChatCompletionStream:
        """Continue a conversation and read the response while it is generated.

        Sends the request at once. Asks for usage unless you set ``stream_options``.

        Args:
            on_error: With ``"event"``, the stream ends with an ``Error`` event instead of raising
                an exception while it is read.
            **params: As for :meth:`create`.

        Returns:
            An iterator of ``Content``, ``Reasoning``, ``ToolCallDelta``, ``ToolCall``,
            ``FinishReason``, ``Usage`` and ``Done``, to be used in ``with``.

        Raises:
            TypeError, ValueError: As :meth:`create` does; also for ``use_beam_search`` and
                ``prompt_logprobs``, which vLLM does not stream.
            APIStatusError: The server refused the request.
            APIConnectionError: No response arrived.
            InvalidStreamError: The response is a document, not a stream.
        """
        if _:
            refuse_positional("stream", _EXAMPLE)
        body, options = split("stream", params, ChatCompletionParams)
        answer_type = answer_type_of(body)
        body = streamed(body)
        expected = expected_choices(body)
        check_chat(body)
        decoder = ChatDecoder(
            expected, forced=forces_calls(body), hides_reasoning=hides_reasoning(body)
        )
        return self._stream(
            _PATH,
            Payload.of_json(body),
            options,
            decoder,
            ChatCompletionStream,
            on_error=on_error,
            answer_type=answer_type,
        )

    @takes(ChatBatchParams)
    def batch(self, *_: NoReturn, **params: Unpack[ChatBatchParams]) -> ChatCompletion:
        """Continue several conversations with one request, and wait for all of them.

        ``POST /v1/chat/completions/batch``, since vLLM 0.20. The server runs all conversations
        at once, and one that fails is an error for all.

        Args:
            **params: The fields of :meth:`create`, with a list of conversations as ``messages``.

        Returns:
            One response; choice ``i`` continues conversation ``i``.

        Raises:
            TypeError, ValueError: As for :meth:`create`; also for ``tools``, ``use_beam_search``
                and an ``n`` above 1, which this route does not have.
            VllmError: As for :meth:`create`.
        """
        if _:
            refuse_positional("batch", "messages=[[…], […]]")
        body, options = split("batch", params, ChatBatchParams)
        answer_type = answer_type_of(body)
        check_batch(body)
        return self._post(
            f"{_PATH}/batch",
            body,
            options,
            ChatCompletion.from_raw,
            expected=len(body["messages"]),
            answer_type=answer_type,
        )


@client_habits(**CHAT_HABITS)
class Chat:
    """``client.chat``, as openai-python has it."""

    def __init__(self, transport: Transport) -> None:
        self.completions = ChatCompletions(transport)


def check_chat(body: JsonObject) -> None:
    """Refuse what the server is known to refuse, before the request is sent."""
    messages = body.get("messages")
    if messages is None or isinstance(messages, (str, Mapping)):
        raise TypeError('a chat needs messages=[{"role": "user", "content": …}, …]')
    # Lists and tuples only: testing a NumPy array for truth raises.
    if isinstance(messages, (list, tuple)) and not messages:
        raise ValueError("messages is an empty list: the server needs at least one message")
    tools = body.get("tools")
    if isinstance(tools, (list, tuple)) and not tools:
        raise ValueError("tools is an empty list: omit it instead")


def check_batch(body: JsonObject) -> None:
    """Refuse what the server is known to refuse in a batch, before the request is sent."""
    conversations = body.get("messages")
    if not isinstance(conversations, (list, tuple)):
        raise TypeError("a batch needs messages=[[{…}, …], …]: a list of conversations")
    if not conversations:
        raise ValueError("messages is an empty list: the server needs at least one conversation")
    for conversation in conversations:
        if isinstance(conversation, Mapping):
            raise TypeError("messages is one conversation: call create(), or pass a list of lists")
        check_chat({**body, "messages": conversation})
    refused = {
        "tools": body.get("tools") is not None,
        "use_beam_search": body.get("use_beam_search") is True,
        "n above 1": body.get("n") not in {None, 1},
    }
    for name, is_given in refused.items():
        if is_given:
            raise ValueError(f"a batch cannot have {name}: call create() for each conversation")


def forces_calls(body: JsonObject) -> bool:
    """Whether ``tool_choice`` leaves the model no choice but to call a tool."""
    choice = body.get("tool_choice")
    return isinstance(choice, Mapping) or (isinstance(choice, str) and choice == "required")


def hides_reasoning(body: JsonObject) -> bool:
    """Whether the request excludes the reasoning from the response."""
    return body.get("include_reasoning") is False
