"""Reads HTTP requests from a connection."""

from __future__ import annotations

import http.client
import re
import socket
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import urlsplit

from ..recorded import Headers, RecordedRequest

__all__ = ["MalformedRequestError", "ReceivedRequest", "read_request"]

_MAX_LINE_LENGTH = 65536


class MalformedRequestError(Exception):
    """The received bytes are not an HTTP/1 request."""


@dataclass(frozen=True)
class ReceivedRequest:
    """A request, and whether the server must close the connection after the response."""

    request: RecordedRequest
    close_after: bool


def read_request(stream: BinaryIO, connection: socket.socket) -> ReceivedRequest | None:
    """Return the next request of a connection, or None if the client closed the connection.

    Args:
        stream: The bytes that the client sends.
        connection: The socket on which ``100 Continue`` is sent, if the client waits for it.

    Raises:
        MalformedRequestError: The bytes are not an HTTP/1 request.
        OSError: The client closed the connection in the middle of the request.
    """
    line = stream.readline(_MAX_LINE_LENGTH)
    if not line:
        return None
    try:
        method, target, version = line.decode("ascii").split()
        headers = Headers(http.client.parse_headers(stream).items())
        if headers.get("Expect", "").lower() == "100-continue":
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = _read_body(stream, headers)
    except (ValueError, http.client.HTTPException) as error:
        raise MalformedRequestError from error
    # Without an origin, urlsplit would read "//a/b" as host "a" and path "/b".
    parts = urlsplit(f"http://server{target}")
    request = RecordedRequest(method, parts.path, parts.query, headers, body)
    wants_close = headers.get("Connection", "").lower() == "close"
    return ReceivedRequest(request, wants_close or version != "HTTP/1.1")


def _read_body(stream: BinaryIO, headers: Headers) -> bytes:
    if headers.get("Transfer-Encoding", "").lower() != "chunked":
        length = headers.get("Content-Length", "0")
        if not length.isdecimal():
            raise ValueError(f"Content-Length must be a number, 0 or greater, not {length!r}")
        return _read_exactly(stream, int(length))
    body = b""
    while True:
        size = _chunk_size(stream.readline(_MAX_LINE_LENGTH))
        if size == 0:
            http.client.parse_headers(stream)  # The trailer has the form of a head.
            return body
        body += _read_exactly(stream, size)
        stream.readline(_MAX_LINE_LENGTH)


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    # int() alone would accept a sign, "0x" and "_" too.
    if not re.fullmatch(rb"[0-9A-Fa-f]+", digits):
        raise ValueError(f"the size of a chunk must be a hexadecimal number, not {line[:40]!r}")
    return int(digits, 16)


def _read_exactly(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise ConnectionError(
            f"the client closed the connection after {len(data)} of {length} bytes of its request"
        )
    return data
