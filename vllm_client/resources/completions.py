"""``client.completions``: a prompt in, text out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Union, overload

from .._decoding.chunks import CompletionDecoder
from .._request import check_completion, expected_choices, split, streamed, takes
from ..params import CompletionParams
from ..streams import CompletionStream, OnError
from ..types.completion import Completion
from ._base import Resource

if TYPE_CHECKING:
    from typing_extensions import Unpack

_PATH = "/completions"


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

    @takes(CompletionParams)
    def create(self, *, stream: bool = False, **params: Any) -> Union[Completion, CompletionStream]:
        """Complete a prompt and wait for the whole answer.

        Args:
            stream: True is another way to say :meth:`stream`.
            **params: The fields of :class:`~vllm_client.params.CompletionParams`, which says
                what each means. Leave out what the server shall decide.

        Returns:
            The answer, with one choice for each of prompts × ``n``.

        Raises:
            TypeError: A keyword that is no field, or no prompt.
            ValueError: Something the server is known to refuse, or that cannot be JSON.
            APIStatusError: The server refused the request.
            APIConnectionError: No whole answer came.
            GenerationAbortedError: The server gave up; what it had is in ``partial``.
            InvalidResponseError: The answer is not that of ``POST /v1/completions``.
        """
        if stream:
            return self.stream(**params)
        body, options = split("create", params, CompletionParams)
        check_completion(body)
        return self._post(_PATH, body, options, Completion.from_raw)

    @takes(CompletionParams)
    def stream(
        self, *, on_error: OnError = "raise", **params: Unpack[CompletionParams]
    ) -> CompletionStream:
        """Complete a prompt and read the answer as it is generated.

        The request is sent at once. Usage is asked for unless ``stream_options`` says otherwise.

        Args:
            on_error: ``"event"`` gives an ``Error`` event as the last one, where an exception
                would be raised while the stream is read.
            **params: As for :meth:`create`.

        Returns:
            An iterator of ``Text``, ``FinishReason``, ``Usage`` and ``Done``, to be used in
            ``with``.

        Raises:
            TypeError, ValueError: As :meth:`create` does; also for ``use_beam_search`` and
                ``prompt_logprobs``, which vLLM does not stream.
            APIStatusError, APIConnectionError: There is no stream.
            InvalidStreamError: The answer is a document, not a stream.
        """
        body, options = split("stream", params, CompletionParams)
        check_completion(body)
        body = streamed(body)
        decoder = CompletionDecoder(expected_choices(body))
        return self._stream(_PATH, body, options, decoder, CompletionStream, on_error=on_error)
