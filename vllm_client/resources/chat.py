"""``client.chat.completions``: a conversation in, the next message out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Union, overload

from .._decoding.chat import ChatDecoder
from .._http.transport import Transport
from .._request import check_chat, expected_choices, forces_calls, split, streamed, takes
from ..params import ChatCompletionParams
from ..streams import ChatCompletionStream, OnError
from ..types.chat import ChatCompletion
from ._base import Resource

if TYPE_CHECKING:
    from typing_extensions import Unpack

_PATH = "/chat/completions"


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

    @takes(ChatCompletionParams)
    def create(
        self, *, stream: bool = False, **params: Any
    ) -> Union[ChatCompletion, ChatCompletionStream]:
        """Continue a conversation and wait for the whole answer.

        Args:
            stream: True is another way to say :meth:`stream`.
            **params: The fields of :class:`~vllm_client.params.ChatCompletionParams`, which says
                what each means. Leave out what the server shall decide.

        Returns:
            The answer, with ``n`` choices.

        Raises:
            TypeError: A keyword that is no field, or no messages.
            ValueError: Something the server is known to refuse, or that cannot be JSON.
            APIStatusError: The server refused the request.
            APIConnectionError: No whole answer came.
            GenerationAbortedError: The server gave up; what it had is in ``partial``.
            InvalidResponseError: The answer is not that of ``POST /v1/chat/completions``.
        """
        if stream:
            return self.stream(**params)
        body, options = split("create", params, ChatCompletionParams)
        check_chat(body)
        return self._post(_PATH, body, options, ChatCompletion.from_raw)

    @takes(ChatCompletionParams)
    def stream(
        self, *, on_error: OnError = "raise", **params: Unpack[ChatCompletionParams]
    ) -> ChatCompletionStream:
        """Continue a conversation and read the answer as it is generated.

        The request is sent at once. Usage is asked for unless ``stream_options`` says otherwise.

        Args:
            on_error: ``"event"`` gives an ``Error`` event as the last one, where an exception
                would be raised while the stream is read.
            **params: As for :meth:`create`.

        Returns:
            An iterator of ``Content``, ``Reasoning``, ``ToolCallDelta``, ``ToolCall``,
            ``FinishReason``, ``Usage`` and ``Done``, to be used in ``with``.

        Raises:
            TypeError, ValueError: As :meth:`create` does; also for ``use_beam_search`` and
                ``prompt_logprobs``, which vLLM does not stream.
            APIStatusError, APIConnectionError: There is no stream.
            InvalidStreamError: The answer is a document, not a stream.
        """
        body, options = split("stream", params, ChatCompletionParams)
        check_chat(body)
        body = streamed(body)
        decoder = ChatDecoder(expected_choices(body), forced=forces_calls(body))
        return self._stream(_PATH, body, options, decoder, ChatCompletionStream, on_error=on_error)


class Chat:
    """``client.chat``, as openai-python has it."""

    def __init__(self, transport: Transport) -> None:
        self.completions = ChatCompletions(transport)
