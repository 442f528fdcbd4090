"""``client.score``, ``client.rerank``: how well texts match."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Tuple

from .._request import refuse_positional, split, takes
from ..exceptions import InvalidResponseError
from ..params.pooling import RerankParams, ScoreParams
from ..types._json import JsonObject
from ..types.scoring import RerankResponse, ScoreResponse
from ..types.shared import JSONValue
from ._base import Resource
from .pooling import check_indexes

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Rerank", "Score"]

_PAIRS = (
    ("queries", "documents"),
    ("queries", "items"),
    ("data_1", "data_2"),
    ("text_1", "text_2"),
)


class Score(Resource):
    """``POST /score``."""

    @takes(ScoreParams)
    def create(self, *_: NoReturn, **params: Unpack[ScoreParams]) -> ScoreResponse:
        """Score how well pairs of inputs match.

        Args:
            **params: The fields of :class:`~vllm_client.params.pooling.ScoreParams`, which
                documents each, with exactly one pair: ``queries`` and ``documents``, ``queries``
                and ``items``, ``data_1`` and ``data_2``, or ``text_1`` and ``text_2``.

        Returns:
            The scores, one for each pair in the order of the pairs.

        Raises:
            TypeError: An argument is not a field, or there is not exactly one pair of fields.
            ValueError: A list is empty, the lengths of the lists do not match, or a value cannot
                be JSON.
            APIStatusError: The server refused the request. A server without a model that scores
                or embeds has no such route: ``NotFoundError``.
            APIConnectionError: No complete response arrived.
            InvalidResponseError: A score is missing, or the response is not one of
                ``POST /score``.
        """
        if _:
            refuse_positional("create", "queries=…, documents=[…]")
        body, options = split("create", params, ScoreParams)
        count = pair_count(body)
        answer = self._post("/score", body, options, ScoreResponse.from_raw)
        check_indexes([each.index for each in answer.data], count, answer.raw)
        return answer


class Rerank(Resource):
    """``POST /rerank``."""

    @takes(RerankParams)
    def create(self, *_: NoReturn, **params: Unpack[RerankParams]) -> RerankResponse:
        """Order documents by how well they match a query.

        Args:
            **params: The fields of :class:`~vllm_client.params.pooling.RerankParams`, which
                documents each. ``query`` and ``documents`` are required.

        Returns:
            The documents, best first; with ``top_n`` only that many.

        Raises:
            TypeError: An argument is not a field, or ``query`` or ``documents`` is missing.
            ValueError: The list of documents is empty, or a value cannot be JSON.
            APIStatusError: The server refused the request. A server without a model that scores
                or embeds has no such route: ``NotFoundError``.
            APIConnectionError: No complete response arrived.
            InvalidResponseError: A document is missing or occurs twice, or the response is not
                one of ``POST /rerank``.
        """
        if _:
            refuse_positional("create", "query=…, documents=[…]")
        body, options = split("create", params, RerankParams)
        documents = document_count(body)
        answer = self._post("/rerank", body, options, RerankResponse.from_raw)
        check_results(answer, documents, body.get("top_n"))
        return answer


def pair_count(body: JsonObject) -> int:
    """How many pairs a request has. Raises TypeError or ValueError if they do not match."""
    names = _pair(body)
    left, right = (_length(name, body) for name in names)
    if left not in {1, right}:
        raise ValueError(
            f"{names[0]} has {left} inputs and {names[1]} has {right}: the first needs one input, "
            "or as many as the second"
        )
    return right


def _pair(body: JsonObject) -> Tuple[str, str]:
    given = {name for pair in _PAIRS for name in pair if body.get(name) is not None}
    for pair in _PAIRS:
        if given == set(pair):
            return pair
    pairs = ", ".join(" and ".join(pair) for pair in _PAIRS)
    raise TypeError(f"score needs exactly one pair of fields, one of: {pairs}")


def _length(name: str, body: JsonObject) -> int:
    inputs: JSONValue = body[name]
    if not isinstance(inputs, (list, tuple)):
        return 1
    if not inputs:
        raise ValueError(f"{name} is an empty list: the server needs at least one input")
    return len(inputs)


def document_count(body: JsonObject) -> int:
    """How many documents a request has. Raises TypeError or ValueError if there are none."""
    if body.get("query") is None or body.get("documents") is None:
        raise TypeError("rerank needs query=… and documents=[…]")
    return _length("documents", body)


def check_results(answer: RerankResponse, documents: int, top_n: JSONValue) -> None:
    """Refuse a response that lacks a document. Raises InvalidResponseError."""
    expected = min(top_n or documents, documents) if isinstance(top_n, int) else documents
    indexes = {result.index for result in answer.results}
    complete = len(answer.results) == len(indexes) == expected
    if not complete or not indexes <= set(range(documents)):
        raise InvalidResponseError(
            f"the response has the documents {sorted(indexes)} in {len(answer.results)} results, "
            f"but there are {documents} documents, and {expected} were asked for",
            body=answer.raw,
        )
