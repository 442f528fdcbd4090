"""``client.request()`` with bodies that are no JSON: forms, files, bytes and text."""

from __future__ import annotations

import io
from email import message_from_bytes
from email.policy import HTTP
from pathlib import Path
from typing import Any, List, Tuple

import pytest

from vllm_client import VllmClient

from ..servers import FINE, Request, Serve


def parts_of(request: Request) -> List[Tuple[Any, Any, Any, bytes]]:
    """Name, file name, content type and content of each part of a multipart form."""
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    form: Any = message_from_bytes(head + request.body, policy=HTTP)
    return [
        (
            part.get_param("name", header="content-disposition"),
            part.get_filename(),
            part["content-type"],
            part.get_payload(decode=True),
        )
        for part in form.iter_parts()
    ]


@pytest.mark.parametrize("data", [b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff")])
def test_bytes_are_sent_as_they_are(serve: Serve, data: Any) -> None:
    """Bytes go without a content type of ours; extra_headers may give one."""
    served = serve(FINE)
    served.client.request("POST", "/x", data=data)
    served.client.request("POST", "/x", data=data, extra_headers={"Content-Type": "audio/wav"})
    first, second = served.requests
    assert first.body == second.body == b"\x00\xff"
    assert "content-type" not in first.headers
    assert second.headers["content-type"] == "audio/wav"


def test_text_is_sent_as_utf8(serve: Serve) -> None:
    """Text has no content type of ours either."""
    served = serve(FINE)
    served.client.request("POST", "/x", data="é")
    assert served.requests[0].body == "é".encode()
    assert "content-type" not in served.requests[0].headers


def test_a_dict_is_a_form(serve: Serve) -> None:
    """A list repeats its field, None leaves it out, and truth is spelt as JSON spells it."""
    served = serve(FINE)
    form = {"a": "1 &é", "b": [1, 2.5], "c": None, "d": True, "e": (False, None, b"\xff")}
    served.client.request("POST", "/x", data=form)
    request = served.requests[0]
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.body == b"a=1+%26%C3%A9&b=1&b=2.5&d=true&e=false&e=%FF"


def test_files_make_a_multipart_form(serve: Serve, tmp_path: Path) -> None:
    """Bytes, text, an open file, and content with a name and a type are parts of one form."""
    served = serve(FINE)
    path = tmp_path / "speech.wav"
    path.write_bytes(b"RIFF\r\n\x00")
    unnamed, backslashed = io.BytesIO(b"mem"), io.BytesIO(b"win")
    backslashed.name = "C:\\a\\b.mp3"
    with path.open("rb") as opened:
        files = {
            "file": opened,
            "raw": b"\xff",
            "text": "é",
            "pair": ("p.txt", "x"),
            "typed": ("t.bin", b"y", "audio/wav"),
            "memory": unnamed,
            "backslashed": backslashed,
        }
        served.client.request("POST", "/x", data={"language": "en", "n": [1, 2]}, files=files)
    sent = {(name, file): (kind, body) for name, file, kind, body in parts_of(served.requests[0])}
    assert [body for name, file, _, body in parts_of(served.requests[0]) if name == "n"] == [
        b"1",
        b"2",
    ]
    assert sent["language", None] == (None, b"en")
    assert sent["file", "speech.wav"][1] == b"RIFF\r\n\x00"
    assert sent["raw", "raw"][1] == b"\xff"
    assert sent["text", "text"][1] == "é".encode()
    assert sent["pair", "p.txt"] == ("text/plain", b"x")
    assert sent["typed", "t.bin"] == ("audio/wav", b"y")
    assert sent["memory", "memory"][1] == b"mem"
    assert sent["backslashed", "b.mp3"][1] == b"win"


def test_each_form_has_its_own_boundary(serve: Serve) -> None:
    """The content type of one form is not sent with the next, and not with JSON."""
    served = serve(FINE)
    for number in range(2):
        served.client.request("POST", "/x", files={"file": b"%d" % number})
    served.client.request("POST", "/x", json={})
    assert [parts_of(request)[0][3] for request in served.requests[:2]] == [b"0", b"1"]
    assert served.requests[2].headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"json": {}, "data": b""}, "a request has one body"),
        ({"json": {}, "files": {}}, "a request has one body"),
        ({"data": 5}, "data must be bytes, text or a dict, not int"),
        ({"data": b"x", "files": {}}, "beside files, data must be a dict"),
        ({"files": {"f": 5}}, "the content of file 'f' must be bytes, not int"),
        ({"files": {"f": ("name",)}}, "file 'f' must be a file, or"),
        ({"files": {"f": ("name", b"x", "a/b", {})}}, "file 'f' must be a file, or"),
        ({"files": {"f": ("name", None)}}, "the content of file 'f' must be bytes, not NoneType"),
    ],
)
def test_a_body_that_cannot_be_sent_is_refused(body: Any, message: str) -> None:
    """The error names the argument; nothing is sent."""
    with VllmClient("http://127.0.0.1:9") as client:
        with pytest.raises(TypeError, match=message):
            client.request("POST", "/x", **body)
