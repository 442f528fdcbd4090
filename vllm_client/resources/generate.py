"""``client.generate``: tokens in, tokens out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, Mapping, NoReturn

from .._decoding.generation import GenerationDecoder
from .._http.payload import Payload
from .._request import expected_choices, refuse_positional, split, streamed, takes
from ..params import names
from ..params.generation import GenerationParams, TokenSamplingParams
from ..streams import GenerationStream, OnError
from ..types._json import JsonObject
from ..types.generation import Generation
from ._base import Resource

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Generate"]

_PATH = "/inference/v1/generate"
_EXAMPLE = "token_ids=[…]"
_SAMPLING = frozenset(names(TokenSamplingParams))


class Generate(Resource):
    """``POST /inference/v1/generate``, on a server with ``--enable-scale-out``.

    Since vLLM 0.11.2.
    """

    @takes(GenerationParams)
    def create(self, *_: NoReturn, **params: Unpack[GenerationParams]) -> Generation:
        """Continue a prompt of token ids and wait for the complete response.

        Args:
            **params: The fields of :class:`~vllm_client.params.generation.GenerationParams`. The
                sampling parameters are keywords, or one object, ``sampling_params``, or both.

        Returns:
            The response, with ``n`` choices of token ids.

        Raises:
            TypeError: An argument is not a field, is given twice, or there are no ``token_ids``.
            ValueError: ``token_ids`` is empty, or a value cannot be JSON.
            PermissionDeniedError, NotFoundError: The server does not have this route.
            APIStatusError: The server refused the request.
            APIConnectionError: No complete response arrived.
            GenerationAbortedError: The server aborted the generation; ``partial`` holds the tokens
                so far.
            InvalidResponseError: A choice or its finish reason is missing, or the response is not
                one of ``POST /inference/v1/generate``.
        """
        if _:
            refuse_positional("create", _EXAMPLE)
        body, options = split("create", params, GenerationParams)
        body = nested(body)
        expected = expected_choices(body["sampling_params"])
        return self._post(_PATH, body, options, Generation.from_raw, expected=expected)

    @takes(GenerationParams)
    def stream(
        self, *_: NoReturn, on_error: OnError = "raise", **params: Unpack[GenerationParams]
    ) -> GenerationStream:
        """Continue a prompt of token ids and read the tokens while they are generated.

        Sends the request at once. Asks for usage unless you set ``stream_options``.

        Args:
            on_error: With ``"event"``, the stream ends with an ``Error`` event instead of raising
                an exception while it is read.
            **params: As for :meth:`create`.

        Returns:
            An iterator of ``Tokens``, ``FinishReason``, ``Usage`` and ``Done``, to be used in
            ``with``.

        Raises:
            TypeError, ValueError: As :meth:`create` does; also for ``prompt_logprobs`` and
                ``output_mode="derender"``, which vLLM does not stream.
            APIStatusError: The server refused the request.
            APIConnectionError: No response arrived.
            InvalidStreamError: The response is a document, not a stream.
        """
        if _:
            refuse_positional("stream", _EXAMPLE)
        body, options = split("stream", params, GenerationParams)
        body = nested(body)
        if body.get("output_mode") == "derender":
            raise ValueError("output_mode='derender' cannot be streamed: call create()")
        streamed({**body["sampling_params"]})  # Refuses what vLLM does not stream.
        body = streamed(body)
        decoder = GenerationDecoder(expected_choices(body["sampling_params"]))
        return self._stream(
            _PATH, Payload.of_json(body), options, decoder, GenerationStream, on_error=on_error
        )


def nested(body: JsonObject) -> JsonObject:
    """The body with its sampling parameters in ``sampling_params``, which the server requires.

    Raises:
        TypeError: A parameter is given twice, or there are no token ids.
        ValueError: The list of token ids is empty.
    """
    _check_token_ids(body.get("token_ids"))
    given = body.get("sampling_params", {})
    if not isinstance(given, Mapping):
        raise TypeError(f"sampling_params must be a dict, not {type(given).__name__}")
    keywords = {name: body[name] for name in body if name in _SAMPLING}
    for name in keywords:
        if name in given:
            raise TypeError(f"{name} is given twice: as a keyword and in sampling_params")
    others = {name: value for name, value in body.items() if name not in _SAMPLING}
    sampling: Dict[str, object] = {**given, **keywords}
    return {**others, "sampling_params": sampling}


def _check_token_ids(token_ids: object) -> None:
    if token_ids is None or isinstance(token_ids, (str, bytes)):
        raise TypeError("a generation needs token_ids=[…]: the prompt as a list of token ids")
    # Lists and tuples only: testing a NumPy array for truth raises.
    if isinstance(token_ids, (list, tuple)) and not token_ids:
        raise ValueError("token_ids is an empty list: the server needs at least one token")
