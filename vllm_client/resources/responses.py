"""``client.responses``: a response of items, as OpenAI's newer route has it."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any, Iterator, Literal, Mapping, NoReturn, Union, overload
from urllib.parse import quote

from .._decoding.response_status import finished_response, refuse_failed
from .._http.payload import Payload
from .._request import refuse_positional, split, takes
from ..exceptions import NotFoundError
from ..params import CallParams
from ..params.responses import ResponseParams
from ..streams import OnError
from ..types._json import JsonObject
from ..types.response import Response
from ._base import Resource

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..streams.responses import ResponseStream

__all__ = ["Responses"]

_PATH = "responses"
_EXAMPLE = 'input="…"'
_STORE = "the server stores responses only if it runs with VLLM_ENABLE_RESPONSES_API_STORE=1"


class Responses(Resource):
    """``/v1/responses``."""

    @overload
    def create(
        self, *, stream: Literal[False] = ..., **params: Unpack[ResponseParams]
    ) -> Response: ...

    @overload
    def create(
        self, *, stream: Literal[True], **params: Unpack[ResponseParams]
    ) -> ResponseStream: ...

    @overload
    def create(
        self, *, stream: bool, **params: Unpack[ResponseParams]
    ) -> Union[Response, ResponseStream]: ...

    @takes(ResponseParams)
    def create(
        self, *_: object, stream: bool = False, **params: Any
    ) -> Union[Response, ResponseStream]:
        """Answer an input and wait for the complete response (``POST /v1/responses``).

        Args:
            stream: True does the same as :meth:`stream`.
            **params: The fields of :class:`~vllm_client.params.responses.ResponseParams`, which
                documents each. The server's defaults apply to omitted fields.

        Returns:
            The response. Its status is ``"completed"``, or ``"incomplete"`` if
            ``max_output_tokens`` ended it; with ``background=True`` also ``"queued"`` or
            ``"in_progress"``.

        Raises:
            TypeError: An argument is not a field, or there is no input.
            ValueError: The server is known to refuse a value, or a value cannot be JSON.
            APIStatusError: The server refused the request, or the generation failed.
            APIConnectionError: No complete response arrived.
            GenerationAbortedError: The server aborted the generation; ``partial`` holds the
                response so far.
            InvalidResponseError: The response is unfinished, or not one of
                ``POST /v1/responses``.
        """
        if _:
            refuse_positional("create", _EXAMPLE)
        if stream:
            return self.stream(**params)
        body, options = split("create", params, ResponseParams)
        check_response(body)
        background = body.get("background") is True
        from_raw = functools.partial(finished_response, background=background)
        return self._post(_PATH, body, options, from_raw)

    @takes(ResponseParams)
    def stream(
        self, *_: NoReturn, on_error: OnError = "raise", **params: Unpack[ResponseParams]
    ) -> ResponseStream:
        """Answer an input and read the response while it is generated (``POST /v1/responses``).

        Sends the request at once.

        Args:
            on_error: With ``"event"``, the stream ends with an ``Error`` event instead of raising
                an exception while it is read.
            **params: As for :meth:`create`.

        Returns:
            An iterator of :data:`~vllm_client.response_events.ResponseStreamEvent`, to be used
            in ``with``. The last event is a ``ResponseDone``.

        Raises:
            TypeError, ValueError: As :meth:`create` does.
            APIStatusError: The server refused the request.
            APIConnectionError: No response arrived.
            InvalidStreamError: The response is a document, not a stream.
        """
        # Creating the many classes of its events takes time, and few programs use them.
        from .._decoding.responses import ResponseDecoder  # noqa: PLC0415
        from ..streams.responses import ResponseStream  # noqa: PLC0415

        if _:
            refuse_positional("stream", _EXAMPLE)
        body, options = split("stream", params, ResponseParams)
        check_response(body)
        payload = Payload.of_json({**body, "stream": True})
        return self._stream(
            _PATH, payload, options, ResponseDecoder(), ResponseStream, on_error=on_error
        )

    @takes(CallParams)
    def retrieve(self, id: str, **params: Unpack[CallParams]) -> Response:  # noqa: A002 — as elsewhere
        """A stored response, as it is now (``GET /v1/responses/{id}``).

        The server stores responses only if it runs with ``VLLM_ENABLE_RESPONSES_API_STORE=1``.

        Args:
            id: Its ``id``.
            **params: ``extra_headers`` and ``timeout`` of this call.

        Returns:
            The response. Its status may be ``"queued"``, ``"in_progress"`` or ``"cancelled"``.

        Raises:
            NotFoundError: The server has no response of this id.
            APIStatusError: The server refused the request, or the generation failed.
            APIConnectionError: No complete response arrived.
            InvalidResponseError: The response is not one of this route.
        """
        _, options = split("retrieve", params, CallParams)
        with _explaining_404():
            return self._get(f"{_PATH}/{_quoted(id)}", options, _retrieved)

    @takes(CallParams)
    def cancel(self, id: str, **params: Unpack[CallParams]) -> Response:  # noqa: A002 — as elsewhere
        """Stop a response that runs in the background (``POST /v1/responses/{id}/cancel``).

        Args:
            id: Its ``id``.
            **params: As for :meth:`retrieve`.

        Returns:
            The response, with the status ``"cancelled"``.

        Raises:
            BadRequestError: The response does not run in the background, or has ended.
            VllmError: As for :meth:`retrieve`.
        """
        _, options = split("cancel", params, CallParams)
        with _explaining_404():
            path = f"{_PATH}/{_quoted(id)}/cancel"
            return self._answer("POST", path, Payload(), options, Response.from_raw)


def check_response(body: JsonObject) -> None:
    """Refuse what the server is known to refuse, before the request is sent."""
    content = body.get("input")
    if content is None or isinstance(content, Mapping):
        raise TypeError('a response needs input="…" or input=[{"role": "user", "content": …}, …]')
    tools = body.get("tools")
    for tool in tools if isinstance(tools, (list, tuple)) else ():
        if isinstance(tool, Mapping) and isinstance(tool.get("function"), Mapping):
            raise ValueError(
                'a tool of this route has no member "function": write {"type": "function", '
                '"name": …, "parameters": …} instead of chat\'s {"function": {"name": …}}'
            )


def _quoted(id_: object) -> str:
    if not isinstance(id_, str) or not id_:
        raise TypeError(f"id must be the id of a response, such as 'resp_…', not {id_!r}")
    return quote(id_, safe="")


def _retrieved(raw: JsonObject) -> Response:
    return refuse_failed(Response.from_raw(raw))


@contextlib.contextmanager
def _explaining_404() -> Iterator[None]:
    try:
        yield
    except NotFoundError as error:
        if error.param == "response_id":
            error.message = f"{error.message} ({_STORE})"
        raise
