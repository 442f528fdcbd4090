"""``client.embeddings``: texts as vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Optional, Sequence

from .._decoding.embeddings import Vectors
from .._request import refuse_positional, split, takes
from ..params.pooling import EmbeddingParams
from ..types.embedding import Embedding, EmbeddingResponse
from ._vectors import VectorResource, check_inputs, joined_usage

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Embeddings", "embedding_response"]


class Embeddings(VectorResource):
    """``POST /v1/embeddings``."""

    _PATH = "embeddings"
    _MEMBER = "embedding"
    _FORMATS = ("bytes", "base64", "float")

    @takes(EmbeddingParams)
    def create(
        self, *_: NoReturn, batch_size: Optional[int] = None, **params: Unpack[EmbeddingParams]
    ) -> EmbeddingResponse:
        """Compute the embeddings of one or more inputs.

        Without ``encoding_format``, the vectors come in the cheapest encoding that the server has:
        bytes, else base64, else floats. The client remembers what the server refuses.

        Args:
            batch_size: The most inputs in one request, 1 or more. A longer list is sent in several
                requests, one after another; ``timeout`` applies to each. By default a list is sent
                at once, or in parts of 256 inputs if the vectors come as bytes.
            **params: The fields of :class:`~vllm_client.params.pooling.EmbeddingParams`, which
                documents each. The server's defaults apply to omitted fields.

        Returns:
            The embeddings, one for each input in the order of the inputs. Token counts are the
            sums over all requests.

        Raises:
            TypeError: An argument is not a field, or there is no input.
            ValueError: The list of inputs is empty, ``batch_size`` is below 1, or a value cannot
                be JSON.
            APIStatusError: The server refused a request. A server whose model makes no embeddings
                has no such route: ``NotFoundError``.
            APIConnectionError: No complete response arrived.
            InvalidResponseError: A vector is missing or cut off, or the response is not one of
                ``POST /v1/embeddings``.
        """
        if _:
            refuse_positional("create", "input=[…]")
        body, options = split("create", params, EmbeddingParams)
        check_inputs(body)
        return embedding_response(self._vectors(body, options, batch_size))


def embedding_response(answers: Sequence[Vectors]) -> EmbeddingResponse:
    """One response from those of one or more requests."""
    values = [vector for answer in answers for vector in answer.values]
    raw = answers[0].raw
    return EmbeddingResponse(
        [Embedding(index, vector) for index, vector in enumerate(values)],
        answers[0].model,
        joined_usage(answers),
        raw.get("id") or "",
        raw.get("created") or 0,
        raw,
    )
