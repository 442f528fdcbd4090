"""The routes that take rows: what a row may be, and what its request and response are."""

from __future__ import annotations

import json
from collections import abc
from typing import Any, Callable, Dict, FrozenSet, Mapping, Optional

from attrs import field, frozen

from .._decoding.answers import decoded_answer
from .._decoding.embeddings import Expected, decoded_vectors
from .._request import expected_choices
from ..exceptions import BatchInputError
from ..params import ChatCompletionParams, CompletionParams, RequestOptions, names
from ..params.pooling import EmbeddingParams, RerankParams, ScoreParams
from ..resources._vectors import check_inputs, input_count
from ..resources.chat import check_chat
from ..resources.completions import check_completion
from ..resources.embeddings import embedding_response
from ..resources.pooling import check_indexes
from ..resources.scoring import check_results, document_count, pair_count
from ..types._json import JsonObject
from ..types.chat import ChatCompletion
from ..types.completion import Completion
from ..types.embedding import EmbeddingResponse
from ..types.scoring import RerankResponse, ScoreResponse

__all__ = [
    "CHAT",
    "COMPLETIONS",
    "EMBEDDINGS",
    "RERANK",
    "ROUTES",
    "SCORE",
    "Route",
    "named_route",
    "route_of_row",
]

_OPTIONS = frozenset(names(RequestOptions))


@frozen
class Route:
    """A route that takes rows.

    Attributes:
        name: As the method of ``client.batch`` is called.
        path: Relative to the API root, or from the server's root if it begins with a slash.
        url: As OpenAI's batch format and ``vllm run-batch`` write it.
        row_field: The field that a row which is no mapping stands for; empty if there is none.
        check: Refuses a body that the server is known to refuse.
        decode: Makes the response from its bytes and the body of its request. Raises VllmError
            unless it is complete.
        from_raw: Makes the response from its decoded JSON.
        recognises: Whether a decoded response is one of this route.
    """

    name: str
    path: str
    url: str
    params: type
    row_field: str
    check: Callable[[JsonObject], Any]
    decode: Callable[[bytes, JsonObject], Any]
    from_raw: Callable[[JsonObject], Any]
    recognises: Callable[[JsonObject], bool]
    fields: FrozenSet[str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "fields", frozenset(names(self.params)) - _OPTIONS)

    def is_at(self, url: str) -> bool:
        """Whether this is the route of a URL; ``vllm run-batch`` has some at several prefixes."""
        if self.path.startswith("/"):
            return url.endswith(self.path)
        return url in {self.url, self.path}

    def fields_of(self, item: object) -> Mapping[str, Any]:
        """The request fields of a row: a mapping is those fields, anything else one of them.

        Raises:
            BatchInputError: The row can be none of this route.
        """
        if isinstance(item, abc.Mapping):  # typing.Mapping takes ten times as long.
            return item
        if self.name == "chat" and isinstance(item, str):
            return {"messages": [{"role": "user", "content": item}]}
        if item is None or not self.row_field or isinstance(item, (int, float, bytes)):
            raise BatchInputError(
                f"a row of {self.url} must be a mapping of its fields"
                + (f", or its {self.row_field}" if self.row_field else "")
                + f", not {type(item).__name__}"
            )
        return {self.row_field: item}


def _decode_completion(content: bytes, body: JsonObject) -> Completion:
    return decoded_answer(content, Completion.from_raw, expected_choices(body))


def _decode_chat(content: bytes, body: JsonObject) -> ChatCompletion:
    return decoded_answer(content, ChatCompletion.from_raw, expected_choices(body))


def _check_embedding(body: JsonObject) -> None:
    check_inputs(body)
    if body.get("encoding_format") not in {None, "float", "base64"}:
        raise BatchInputError("a batch takes embeddings as JSON: encoding_format float or base64")


def _decode_embedding(content: bytes, body: JsonObject) -> EmbeddingResponse:
    given = body.get("embed_dtype", "float32"), body.get("endianness", "little")
    expected = Expected("embedding", input_count(body), *given)
    return embedding_response([decoded_vectors(content, {}, expected)])


def _embedding_from_raw(raw: JsonObject) -> EmbeddingResponse:
    # The number format is only known for floats: base64 does not name it.
    content = json.dumps(raw).encode()
    expected = Expected("embedding", len(raw["data"]))
    return embedding_response([decoded_vectors(content, {}, expected)])


def _decode_score(content: bytes, body: JsonObject) -> ScoreResponse:
    answer = decoded_answer(content, ScoreResponse.from_raw)
    check_indexes([each.index for each in answer.data], pair_count(body), answer.raw)
    return answer


def _decode_rerank(content: bytes, body: JsonObject) -> RerankResponse:
    answer = decoded_answer(content, RerankResponse.from_raw)
    check_results(answer, document_count(body), body.get("top_n"))
    return answer


# By what a response has: servers other than vLLM may leave out "object".
def _has_items(name: str, member: str) -> Callable[[JsonObject], bool]:
    """Whether the first item of a list has this member."""
    return lambda raw: bool(raw.get(name)) and member in raw[name][0]


COMPLETIONS = Route(
    "completions",
    "completions",
    "/v1/completions",
    CompletionParams,
    "prompt",
    check_completion,
    _decode_completion,
    Completion.from_raw,
    _has_items("choices", "text"),
)
CHAT = Route(
    "chat",
    "chat/completions",
    "/v1/chat/completions",
    ChatCompletionParams,
    "messages",
    check_chat,
    _decode_chat,
    ChatCompletion.from_raw,
    _has_items("choices", "message"),
)
EMBEDDINGS = Route(
    "embeddings",
    "embeddings",
    "/v1/embeddings",
    EmbeddingParams,
    "input",
    _check_embedding,
    _decode_embedding,
    _embedding_from_raw,
    _has_items("data", "embedding"),
)
SCORE = Route(
    "score",
    "/score",
    "/v1/score",
    ScoreParams,
    "",
    pair_count,
    _decode_score,
    ScoreResponse.from_raw,
    _has_items("data", "score"),
)
RERANK = Route(
    "rerank",
    "/rerank",
    "/v1/rerank",
    RerankParams,
    "",
    document_count,
    _decode_rerank,
    RerankResponse.from_raw,
    lambda raw: "results" in raw,
)
ROUTES: Dict[str, Route] = {
    route.url: route for route in (COMPLETIONS, CHAT, EMBEDDINGS, SCORE, RERANK)
}


def route_of_row(item: object) -> Optional[Route]:
    """The route of a row that names none, by its fields; None if it could be of several."""
    if isinstance(item, Mapping):
        if "query" in item:
            return RERANK
        # A conversation may be embedded too, so "messages" alone is a chat.
        return next((route for route in ROUTES.values() if route.row_field in item), None)
    if isinstance(item, (list, tuple)) and item and isinstance(item[0], Mapping):
        return CHAT
    return COMPLETIONS


def named_route(name: str) -> Route:
    """The route of this name or URL.

    Raises:
        BatchInputError: There is none.
    """
    for route in ROUTES.values():
        if name == route.name or route.is_at(name):
            return route
    known = ", ".join(repr(url) for url in ROUTES)
    raise BatchInputError(f"batches know no route {name!r}; those they know are {known}")
