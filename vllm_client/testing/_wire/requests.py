"""Requests as they come off a connection."""

from __future__ import annotations

import http.client
import socket
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import urlsplit

from ..recorded import Headers, RecordedRequest

__all__ = ["Arrival", "MalformedError", "read_request"]

_LONGEST_LINE = 65536


class MalformedError(Exception):
    """What arrived is no HTTP/1 request."""


@dataclass(frozen=True)
class Arrival:
    """A request, and whether its connection is to be closed after the answer."""

    request: RecordedRequest
    close: bool


def read_request(stream: BinaryIO, connection: socket.socket) -> Arrival | None:
    """Return the next request of a connection, or None at its end.

    Args:
        stream: what the client sends.
        connection: where `100 Continue` goes, if the client waits for it.

    Raises:
        MalformedError: the bytes are no HTTP/1 request.
        OSError: the client went away within it.
    """
    line = stream.readline(_LONGEST_LINE)
    if not line:
        return None
    try:
        method, target, version = line.decode("ascii").split()
        fields = http.client.parse_headers(stream)
        headers = Headers(fields.items())
        if headers.get("Expect", "").lower() == "100-continue":
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = _read_body(stream, headers)
    except (ValueError, http.client.HTTPException) as error:
        raise MalformedError from error
    # urlsplit would take the first part of a path with two slashes for a host.
    parts = urlsplit(f"http://server{target}")
    request = RecordedRequest(method, parts.path, parts.query, headers, body)
    wants_close = headers.get("Connection", "").lower() == "close"
    return Arrival(request, wants_close or version != "HTTP/1.1")


def _read_body(stream: BinaryIO, headers: Headers) -> bytes:
    if headers.get("Transfer-Encoding", "").lower() != "chunked":
        length = headers.get("Content-Length", "0")
        if not length.isdecimal():
            raise ValueError(length)
        return _read_whole(stream, int(length))
    body = b""
    while True:
        size = int(stream.readline(_LONGEST_LINE).split(b";")[0], 16)
        body += _read_whole(stream, size)
        stream.readline(_LONGEST_LINE)
        if size == 0:
            return body


def _read_whole(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise ConnectionError("the client went away within its request")
    return data
