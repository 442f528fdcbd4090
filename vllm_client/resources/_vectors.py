"""What ``embeddings`` and ``pooling`` share: encodings and long lists of inputs."""

from __future__ import annotations

from typing import ClassVar, Iterator, List, Mapping, Optional, Sequence, Tuple

from .._decoding.embeddings import BYTES, Expected, Vectors, decoded_vectors
from .._http.payload import JSON, Payload
from .._http.transport import UNSET, CallOptions, Transport
from ..exceptions import APIStatusError
from ..params import RequestOptions
from ..types._json import JsonObject
from ..types.shared import JSONValue, Usage
from ._base import Resource

MOST_IN_BYTES = 256
"""Inputs in a request whose vectors come as bytes. The header that describes them has about 115
bytes for each. http.client refuses a header of 64 KiB; several proxies refuse one of 60 KiB."""

_BAD_GATEWAY = 502
_REFUSED = frozenset({400, 422})


class VectorResource(Resource):
    """A route that returns vectors in the cheapest encoding that its server has."""

    _PATH: ClassVar[str]
    _MEMBER: ClassVar[str]
    """The member of an item of a JSON response that has the vector."""
    _FORMATS: ClassVar[Sequence[str]]
    """The encodings to try, cheapest first."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport)
        self._refused = 0
        """How many of _FORMATS the server has refused."""

    def _vectors(
        self, body: JsonObject, options: RequestOptions, batch_size: Optional[int]
    ) -> List[Vectors]:
        """The responses to the requests that a call makes, in the order of the inputs."""
        _check_batch_size(batch_size)
        # Taken out, because the caller's frame holds these options while the requests are sent.
        call = CallOptions(options.get("timeout", UNSET), options.pop("extra_headers", None))
        most = self._most(body, batch_size)
        return [self._one(part, count, call) for part, count in _batches(body, most)]

    def _most(self, body: JsonObject, batch_size: Optional[int]) -> Optional[int]:
        if body.get("encoding_format", self._FORMATS[self._refused]) != "bytes":
            return batch_size
        return min(batch_size or MOST_IN_BYTES, MOST_IN_BYTES)

    def _one(self, body: JsonObject, count: int, call: CallOptions) -> Vectors:
        if "encoding_format" in body:
            return self._sent(body, count, call)
        while True:
            number = self._format_number(body)
            format_ = self._FORMATS[number]
            try:
                return self._sent({**body, "encoding_format": format_}, count, call)
            except APIStatusError as error:
                if number + 1 == len(self._FORMATS) or not _is_of_format(error, format_):
                    raise
            self._refused = max(self._refused, number + 1)

    def _format_number(self, body: JsonObject) -> int:
        number = self._refused
        # A server without bytes may be older than these fields, ignore them, and send base64 that
        # would be misread.
        given = "endianness" in body or body.get("embed_dtype", "float32") != "float32"
        if self._FORMATS[number] == "base64" and given:
            number += 1
        return number

    def _sent(self, body: JsonObject, count: int, call: CallOptions) -> Vectors:
        if body["encoding_format"] != "float":
            body.setdefault("endianness", "little")
        expected = Expected(
            self._MEMBER,
            count,
            body.get("embed_dtype", "float32"),
            body.get("endianness", "little"),
        )
        whole = self._transport.fetch(
            "POST",
            self._transport.url(self._PATH),
            Payload.of_json(body),
            accept=f"{BYTES}, {JSON}",
            options=call,
        )
        with whole.redacting():
            return decoded_vectors(whole.content, whole.headers, expected)


def joined_usage(answers: Sequence[Vectors]) -> Optional[Usage]:
    """The sum of the token counts; None if a response has none."""
    counts = [answer.usage for answer in answers if answer.usage is not None]
    if len(answers) == 1 or len(counts) < len(answers):
        return answers[0].usage if len(answers) == 1 else None
    return Usage(
        sum(each.prompt_tokens for each in counts),
        sum(each.completion_tokens for each in counts),
        sum(each.total_tokens for each in counts),
    )


def check_inputs(body: JsonObject) -> None:
    """Refuse a request without inputs before it is sent.

    Raises:
        TypeError: There is neither ``input`` nor ``messages``.
        ValueError: The list of inputs is empty.
    """
    inputs = _inputs(body)[1]
    if inputs is None:
        raise TypeError("a pooling model needs input=… (a text, a list of texts, or token ids)")
    # Lists and tuples only: testing a NumPy array for truth raises.
    if isinstance(inputs, (list, tuple)) and not inputs:
        raise ValueError("the list of inputs is empty: the server needs at least one input")


def input_count(body: JsonObject) -> int:
    """How many inputs a request has."""
    inputs = _inputs(body)[1]
    return len(inputs) if _is_list_of_inputs(inputs) else 1


def _inputs(body: JsonObject) -> Tuple[str, JSONValue]:
    # The server looks at messages first.
    name = "input" if body.get("messages") is None else "messages"
    return name, body.get(name)


def _is_list_of_inputs(inputs: JSONValue) -> bool:
    # A list of numbers is one input in token ids, a list of objects one conversation.
    return isinstance(inputs, (list, tuple)) and not isinstance(inputs[0], (int, float, Mapping))


def _batches(body: JsonObject, most: Optional[int]) -> Iterator[Tuple[JsonObject, int]]:
    name, inputs = _inputs(body)
    if most is None or not _is_list_of_inputs(inputs):
        yield {**body}, input_count(body)
        return
    for start in range(0, len(inputs), most):
        part = inputs[start : start + most]
        yield {**body, name: part}, len(part)


def _is_of_format(error: APIStatusError, format_: str) -> bool:
    """Whether an encoding is the cause of an error."""
    # A proxy answers 502 if the header of an encoding in bytes is too large for it.
    if format_ == "bytes" and error.status_code == _BAD_GATEWAY:
        return True
    text = f"{error.param} {error.message}"
    return error.status_code in _REFUSED and "encoding_format" in text


def _check_batch_size(batch_size: Optional[int]) -> None:
    if batch_size is None:
        return
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be an int, 1 or greater, not {batch_size!r}")
