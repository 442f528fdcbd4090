"""``client.tokenizer``: text to tokens and back, as the served model does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Optional, Sequence

from .._request import split, takes
from ..params import CallParams
from ..params.tokenizer import DetokenizeParams, TokenizeParams
from ..types._json import JsonObject
from ..types.tokenization import Tokenization
from ._base import Resource

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Tokenizer"]


class Tokenizer(Resource):
    """``POST /tokenize``, ``POST /detokenize`` and ``GET /tokenizer_info``."""

    @takes(TokenizeParams)
    def tokenize(
        self, prompt: Optional[str] = None, **params: Unpack[TokenizeParams]
    ) -> Tokenization:
        """The tokens of a text or a conversation: ``tokenize("Hello")``.

        Args:
            prompt: The text. Give this or ``messages``.
            **params: The fields of :class:`~vllm_client.params.tokenizer.TokenizeParams`.

        Raises:
            TypeError: An argument is not a field, or there is neither a prompt nor messages, or
                there are both.
            APIStatusError: The server refused the request.
            APIConnectionError: No complete response arrived.
            InvalidResponseError: The response is not one of ``POST /tokenize``.
        """
        body, options = split("tokenize", params, TokenizeParams)
        if (prompt is None) == (body.get("messages") is None):
            raise TypeError("tokenize() takes a prompt or messages=[…], one of the two")
        if prompt is not None:
            body["prompt"] = prompt
        return self._post("/tokenize", body, options, Tokenization.from_raw)

    @takes(DetokenizeParams)
    def detokenize(self, tokens: Sequence[int], **params: Unpack[DetokenizeParams]) -> str:
        """The text of tokens. Bytes that are no whole character become U+FFFD.

        Args:
            tokens: Their ids.
            **params: The fields of :class:`~vllm_client.params.tokenizer.DetokenizeParams`.

        Raises:
            VllmError: As :meth:`tokenize` does.
        """
        body, options = split("detokenize", params, DetokenizeParams)
        body["tokens"] = list(tokens)
        return self._post("/detokenize", body, options, _prompt)

    @takes(CallParams)
    def info(self, **params: Unpack[CallParams]) -> Dict[str, Any]:
        """The tokenizer's settings, with the chat template.

        The server must run with ``--enable-tokenizer-info-endpoint``.

        Args:
            **params: ``extra_headers`` and ``timeout`` of this call.

        Raises:
            NotFoundError: The server does not serve the route.
            VllmError: As :meth:`tokenize` does.
        """
        _, options = split("info", params, CallParams)
        return self._get("/tokenizer_info", options, dict)


def _prompt(raw: JsonObject) -> str:
    prompt = raw["prompt"]
    if not isinstance(prompt, str):
        raise TypeError(f"expected text, not {prompt!r}")
    return prompt
