"""The routes that take rows: what a row may be, and what its request and response are."""

from __future__ import annotations

from typing import Any, Callable, Dict, FrozenSet, Mapping, Union

from attrs import field, frozen

from .._request import expected_choices
from ..exceptions import BatchInputError
from ..params import ChatCompletionParams, CompletionParams, RequestOptions, names
from ..resources.chat import check_chat
from ..resources.completions import check_completion
from ..types._json import JsonObject
from ..types.chat import ChatCompletion
from ..types.completion import Completion

__all__ = ["CHAT", "COMPLETIONS", "ROUTES", "Route", "route_of_row"]

_OPTIONS = frozenset(names(RequestOptions))


@frozen
class Route:
    """A route that takes rows.

    Attributes:
        name: As the method of ``client.batch`` is called.
        path: Relative to the API root, or from the server's root if it begins with a slash.
        url: As OpenAI's batch format and ``vllm run-batch`` write it.
        row_field: The field that a row which is no mapping stands for.
        from_raw: Makes the response from its decoded JSON.
        check: Refuses a body that the server is known to refuse.
        expected: How many finished choices a complete response has.
        recognises: Whether a decoded response is one of this route.
    """

    name: str
    path: str
    url: str
    params: type
    row_field: str
    from_raw: Callable[[JsonObject], Any]
    check: Callable[[JsonObject], None]
    expected: Callable[[JsonObject], int]
    recognises: Callable[[JsonObject], bool]
    fields: FrozenSet[str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "fields", frozenset(names(self.params)) - _OPTIONS)

    def fields_of(self, item: object) -> Mapping[str, Any]:
        """The request fields of a row: a mapping is those fields, anything else one of them.

        Raises:
            BatchInputError: The row can be none of this route.
        """
        if isinstance(item, Mapping):
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


def _is_object(name: str) -> Callable[[JsonObject], bool]:
    return lambda raw: raw.get("object") == name


COMPLETIONS = Route(
    "completions",
    "completions",
    "/v1/completions",
    CompletionParams,
    "prompt",
    Completion.from_raw,
    check_completion,
    expected_choices,
    _is_object("text_completion"),
)
CHAT = Route(
    "chat",
    "chat/completions",
    "/v1/chat/completions",
    ChatCompletionParams,
    "messages",
    ChatCompletion.from_raw,
    check_chat,
    expected_choices,
    _is_object("chat.completion"),
)
ROUTES: Dict[str, Route] = {route.url: route for route in (COMPLETIONS, CHAT)}


def route_of_row(item: object) -> Union[Route, None]:
    """The route of a row that names none, by its fields; None if it could be of several."""
    if isinstance(item, Mapping):
        found = [route for route in ROUTES.values() if route.row_field in item]
        return found[0] if len(found) == 1 else None
    if isinstance(item, (list, tuple)) and item and isinstance(item[0], Mapping):
        return CHAT
    return COMPLETIONS


def named_route(name: str) -> Route:
    """The route of this name or URL.

    Raises:
        BatchInputError: There is none.
    """
    for route in ROUTES.values():
        if name in {route.name, route.url, route.path}:
            return route
    known = ", ".join(repr(url) for url in ROUTES)
    raise BatchInputError(f"batches know no route {name!r}; those they know are {known}")
