"""``client.completions``: text that continues a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NoReturn, Union, overload

from .._decoding.completion import CompletionDecoder
from .._http.payload import Payload
from .._request import answer_type_of, expected_choices, refuse_positional, split, streamed, takes
from ..params import CompletionParams
from ..streams import CompletionStream, OnError
from ..types._json import JsonObject
from ..types.completion import Completion
from ._base import Resource

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Completions"]

_PATH = "completions"
_EXAMPLE = 'prompt="…"'


class Completions(Resource):
    """``POST /v1/completions``."""

    @overload
    def create(
        self, *, stream: Literal[False] = ..., **params: Unpack[CompletionParams]
    ) -> Completion: ...

    @overload
    def create(
        self, *, stream: Literal[True], **params: Unpack[CompletionParams]
    ) -> CompletionStream: ...

    @overload
    def create(
        self, *, stream: bool, **params: Unpack[CompletionParams]
    ) -> Union[Completion, CompletionStream]: ...

    @takes(CompletionParams)
    def create(
        self, *_: object, stream: bool = False, **params: Any
    ) -> Union[Completion, CompletionStream]:
        """Complete a prompt and wait for the complete response.

        Args:
            stream: True does the same as :meth:`stream`.
            **params: The fields of :class:`~vllm_client.params.CompletionParams`, which
                documents each. The server's defaults apply to omitted fields.

        Returns:
            The response, with one choice for each of prompts × ``n``.

        Raises:
            TypeError: An argument is not a field, or there is no prompt.
            ValueError: The server is known to refuse a value, or a value cannot be JSON.
            APIStatusError: The server refused the request.
            APIConnectionError: No complete response arrived.
            GenerationAbortedError: The server aborted the generation; ``partial`` holds the text
                so far.
            InvalidResponseError: A choice or its finish reason is missing, or the response is not
                one of ``POST /v1/completions``.
            InvalidAnswerError: A text does not fit the class in ``response_format``; ``partial``
                holds the whole response.
            ImportError: The library that reads this kind of class is not installed.
        """
        if _:
            refuse_positional("create", _EXAMPLE)
        if stream:
            return self.stream(**params)
        body, options = split("create", params, CompletionParams)
        answer_type = answer_type_of(body)
        check_completion(body)
        expected = expected_choices(body)
        return self._post(
            _PATH,
            body,
            options,
            Completion.from_raw,
            expected=expected,
            answer_type=answer_type,
        )

    @takes(CompletionParams)
    def stream(
        self, *_: NoReturn, on_error: OnError = "raise", **params: Unpack[CompletionParams]
    ) -> CompletionStream:
        """Complete a prompt and read the response while it is generated.

        Sends the request at once. Asks for usage unless you set ``stream_options``.

        Args:
            on_error: With ``"event"``, the stream ends with an ``Error`` event instead of raising
                an exception while it is read.
            **params: As for :meth:`create`.

        Returns:
            An iterator of ``Text``, ``FinishReason``, ``Usage`` and ``Done``, to be used in
            ``with``.

        Raises:
            TypeError, ValueError: As :meth:`create` does; also for ``use_beam_search`` and
                ``prompt_logprobs``, which vLLM does not stream.
            APIStatusError: The server refused the request.
            APIConnectionError: No response arrived.
            InvalidStreamError: The response is a document, not a stream.
        """
        if _:
            refuse_positional("stream", _EXAMPLE)
        body, options = split("stream", params, CompletionParams)
        answer_type = answer_type_of(body)
        body = streamed(body)
        expected = expected_choices(body)
        check_completion(body)
        decoder = CompletionDecoder(expected)
        return self._stream(
            _PATH,
            Payload.of_json(body),
            options,
            decoder,
            CompletionStream,
            on_error=on_error,
            answer_type=answer_type,
        )


def check_completion(body: JsonObject) -> None:
    """Refuse what the server is known to refuse, before the request is sent."""
    prompt = body.get("prompt")
    if prompt is None and body.get("prompt_embeds") is None:
        raise TypeError("a completion needs prompt=… (a text, a list of texts, or token ids)")
    # Lists and tuples only: testing a NumPy array for truth raises.
    if isinstance(prompt, (list, tuple)) and not prompt:
        raise ValueError("prompt is an empty list: the server needs at least one prompt")
