"""``client.audio``: recordings are sent as a form, and texts come back whole or as a stream."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest

from vllm_client import (
    Done,
    FinishReason,
    InvalidResponseError,
    InvalidStreamError,
    NotFoundError,
    ServerStreamError,
    StreamInterruptedError,
    Text,
    TranscriptionSegment,
    TranscriptionWord,
    Usage,
)
from vllm_client.params import RequestOptions, names
from vllm_client.params.audio import TranscriptionParams, TranslationParams

from ..aio.conftest import run_with
from ..recorded import USAGE, capture, json_bytes, stream_bytes
from ..servers import Request, Serve
from .test_params import pinned

WAV = b"RIFF\x04\x00\x00\x00WAVE"
HELLO = {"text": "Hello", "usage": {"type": "duration", "seconds": 2}}
ROUTES = ["transcriptions", "translations"]
each_route = pytest.mark.parametrize("route", ROUTES)
Part = Tuple[str, Optional[str], Optional[str], bytes]


def parts(request: Request) -> List[Part]:
    """The parts of a form: field, file name, content type and content."""
    content_type = request.headers["content-type"]
    found = re.fullmatch("multipart/form-data; boundary=(.+)", content_type)
    assert found is not None
    pieces = request.body.split(b"--" + found[1].encode())
    assert pieces[0] == b""
    assert pieces[-1] == b"--\r\n"
    return [_part(piece) for piece in pieces[1:-1]]


def _part(piece: bytes) -> Part:
    head, _, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
    text = head.decode()
    values = (
        re.search(pattern, text, re.IGNORECASE)
        for pattern in ('; name="(.*?)"', 'filename="(.*?)"', "content-type: (.*)")
    )
    name, file_name, content_type = (found and found[1].strip() for found in values)
    assert name is not None
    return name, file_name, content_type, content.removesuffix(b"\r\n")


def piece(content: str = "", finish: Optional[str] = None) -> Dict[str, Any]:
    """A chunk of a stream, without the members that vLLM omits there."""
    choice: Dict[str, Any] = {"delta": {"content": content}}
    if finish:
        choice = {**choice, "finish_reason": finish, "stop_reason": None}
    head = {"id": "transcribe-1", "object": "transcription.chunk", "created": 1, "model": "m"}
    return {**head, "choices": [choice]}


def test_fields_are_those_of_the_server() -> None:
    """The keywords are exactly the fields of vLLM's request classes."""
    options = set(names(RequestOptions))
    assert set(names(TranscriptionParams)) - options == pinned("transcriptions")
    assert set(names(TranslationParams)) - options == pinned("translations")


@each_route
def test_form(serve: Serve, route: str) -> None:
    """The recording and the fields are sent as a form, and the text is returned."""
    served = serve(json_bytes(HELLO))
    create = getattr(served.client.audio, route).create
    transcription = create(
        file=WAV,
        model="whisper",
        temperature=0.5,
        use_beam_search=False,
        vllm_xargs={"a": [1, "b"]},
        prompt=None,
        extra_body={"new": "field"},
    )
    assert transcription.text == "Hello"
    assert transcription.raw == HELLO
    [request] = served.requests
    assert (request.method, request.path) == ("POST", f"/v1/audio/{route}")
    assert parts(request) == [
        ("model", None, None, b"whisper"),
        ("temperature", None, None, b"0.5"),
        ("use_beam_search", None, None, b"false"),
        ("vllm_xargs", None, None, b'{"a": [1, "b"]}'),
        ("new", None, None, b"field"),
        ("file", "audio", "audio/wav", WAV),
    ]


class Named(io.BytesIO):
    """A file in memory with a name."""

    def __init__(self, name: Any) -> None:
        super().__init__(WAV)
        self.name = name


@pytest.mark.parametrize(
    ("file", "sent"),
    [
        (bytearray(b"?"), ("audio", "application/octet-stream", b"?")),
        (io.BytesIO(b"fLaC"), ("audio", "audio/flac", b"fLaC")),
        (Named("/tmp/a/b.wav"), ("b.wav", "audio/wav", WAV)),
        (Named(3), ("audio", "audio/wav", WAV)),
        (("x.mp3", b"ID3"), ("x.mp3", "audio/mpeg", b"ID3")),
        (("x", b"ID3", "audio/x"), ("x", "audio/x", b"ID3")),
    ],
)
def test_kinds_of_files(serve: Serve, file: Any, sent: Tuple[str, str, bytes]) -> None:
    """A recording may be bytes, an open file, or a tuple with its name."""
    served = serve(json_bytes(HELLO))
    served.client.audio.transcriptions.create(file=file)
    assert parts(served.requests[0]) == [("file", *sent)]


def test_paths(serve: Serve, tmp_path: Path) -> None:
    """A recording may be a path; the file's own name is sent."""
    path = tmp_path / "speech.wav"
    path.write_bytes(WAV)
    served = serve(json_bytes(HELLO))
    served.client.audio.transcriptions.create(file=path)
    served.client.audio.transcriptions.create(file=str(path))
    with path.open("rb") as file:
        served.client.audio.transcriptions.create(file=file)
    for request in served.requests:
        assert parts(request) == [("file", "speech.wav", "audio/wav", WAV)]
    with path.open("r", encoding="latin-1") as text:
        with pytest.raises(TypeError, match="open it with mode 'rb'"):
            served.client.audio.transcriptions.create(file=text)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        served.client.audio.transcriptions.create(file=tmp_path / "none.wav")
    with pytest.raises(ValueError, match="not a regular file"):
        served.client.audio.transcriptions.create(file=tmp_path)


@each_route
@pytest.mark.parametrize("method", ["create", "stream"])
def test_bad_arguments(serve: Serve, route: str, method: str) -> None:
    """Bad arguments are refused with a reason, and nothing is sent."""
    served = serve(json_bytes(HELLO))
    call = getattr(getattr(served.client.audio, route), method)
    with pytest.raises(TypeError, match="file must be a path, bytes or an open file, not None"):
        call()
    with pytest.raises(TypeError, match=rf'write {method}\(file="speech.wav"\)'):
        call("speech.wav")
    with pytest.raises(TypeError, match="did you mean 'language'"):
        call(file=WAV, langage="en")
    with pytest.raises(TypeError, match=r"must be a file, or \(name, content"):
        call(file=("a",))
    assert served.requests == []


def test_segments_and_words(serve: Serve) -> None:
    """``verbose_json`` has segments and words."""
    segment = {"id": 0, "start": 0.0, "end": 1.5, "text": "Hi", "avg_logprob": -0.1, "seek": 0}
    body = {
        "duration": "1.5",
        "language": "en",
        "text": "Hi",
        "segments": [segment],
        "words": [{"word": "Hi", "start": 0.1, "end": 0.4}],
    }
    served = serve(json_bytes(body))
    transcription = served.client.audio.transcriptions.create(
        file=WAV, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert transcription.segments == [TranscriptionSegment(0, 0.0, 1.5, "Hi", avg_logprob=-0.1)]
    assert transcription.segments[0].raw["seek"] == 0
    assert transcription.words == [TranscriptionWord("Hi", 0.1, 0.4)]
    assert (transcription.language, transcription.duration) == ("en", 1.5)
    assert parts(served.requests[0])[:3] == [
        ("response_format", None, None, b"verbose_json"),
        ("timestamp_granularities[]", None, None, b"word"),
        ("timestamp_granularities[]", None, None, b"segment"),
    ]


def test_formats_of_text(serve: Serve) -> None:
    """A text format may come as JSON, as vLLM sends it, or as the text itself."""
    plain = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n\r\nWEBVTT"
    served = serve(json_bytes(HELLO), plain.encode())
    create = served.client.audio.transcriptions.create
    assert create(file=WAV, response_format="text").text == "Hello"
    assert create(file=WAV, response_format="vtt").text == "WEBVTT"
    with pytest.raises(InvalidResponseError, match="not JSON"):
        create(file=WAV)


@pytest.mark.parametrize("body", [{"txt": "x"}, {"text": None}, {"text": "x", "segments": [{}]}])
def test_response_of_another_shape(serve: Serve, body: Any) -> None:
    """A response without a text, or with segments of another shape, is an error."""
    served = serve(json_bytes(body))
    with pytest.raises(InvalidResponseError):
        served.client.audio.transcriptions.create(file=WAV)


def test_server_without_a_speech_model(serve: Serve) -> None:
    """The captured response of a server without a speech model is an error that says so."""
    served = serve(capture("error_generate_model_v1_audio_transcriptions")[1])
    with pytest.raises(NotFoundError, match="it needs a speech model such as Whisper"):
        served.client.audio.transcriptions.create(file=WAV)


@each_route
def test_stream(serve: Serve, route: str) -> None:
    """A stream yields the text of each part, and ends after the last part has finished."""
    usage = {**piece(), "choices": [], "usage": USAGE}
    chunks = [piece("Hel"), piece("lo", "stop"), piece(" you"), piece(finish="stop"), usage]
    served = serve(stream_bytes(*chunks, "[DONE]"))
    with getattr(served.client.audio, route).stream(file=WAV, language="en") as stream:
        assert stream.snapshot.text == ""
        assert stream.snapshot.finish_reason is None
        events = list(stream)
        transcription = stream.collect()
    stop = FinishReason("stop")
    assert events == [Text("Hel"), Text("lo"), stop, Text(" you"), stop, Usage(1, 2, 3), Done()]
    assert (transcription.text, transcription.finish_reason) == ("Hello you", "stop")
    assert transcription.usage == Usage(1, 2, 3)
    assert transcription.raw["id"] == "transcribe-1"
    assert transcription.raw["text"] == stream.collect_text() == "Hello you"
    assert parts(served.requests[0])[:3] == [
        ("language", None, None, b"en"),
        ("stream_include_usage", None, None, b"true"),
        ("stream", None, None, b"true"),
    ]
    assert served.requests[0].headers["accept"] == "text/event-stream"


def test_text_deltas(serve: Serve) -> None:
    """text_deltas() yields the texts, also of chunks that repeat each other."""
    served = serve(stream_bytes(piece("a"), piece("b"), piece("c", "stop"), "[DONE]"))
    stream = served.client.audio.transcriptions.stream(file=WAV, stream_include_usage=False)
    with stream:
        assert list(stream.text_deltas()) == ["a", "b", "c"]
    assert ("stream_include_usage", None, None, b"false") in parts(served.requests[0])


def test_part_that_was_cut(serve: Serve) -> None:
    """If a part was cut, the finish reason of the whole is not ``stop``."""
    served = serve(stream_bytes(piece("a", "length"), piece("b", "stop"), "[DONE]"))
    with served.client.audio.transcriptions.stream(file=WAV) as stream:
        assert stream.collect().finish_reason == "length"


@pytest.mark.parametrize(
    ("chunks", "error_class"),
    [
        ([piece("a")], StreamInterruptedError),
        ([piece("a"), "[DONE]"], StreamInterruptedError),
        ([piece("a", "stop")], StreamInterruptedError),
        ([piece("", "stop"), piece("a"), "[DONE]"], StreamInterruptedError),
        ([piece("a"), {"error": {"message": "no", "code": 500}}, "[DONE]"], ServerStreamError),
        ([piece("a"), {"choices": [{"text": "b"}]}], InvalidStreamError),
    ],
)
def test_stream_that_is_incomplete(serve: Serve, chunks: Any, error_class: Any) -> None:
    """A stream is incomplete if a part has begun and not finished, or [DONE] is missing."""
    served = serve(stream_bytes(*chunks))
    with served.client.audio.transcriptions.stream(file=WAV) as stream:
        with pytest.raises(error_class) as raised:
            stream.collect()
    assert raised.value.partial.text == "a"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"response_format": "verbose_json"}, "verbose_json cannot be streamed"),
        ({"response_format": "diarized_json"}, "diarized_json cannot be streamed"),
        ({"use_beam_search": True}, "beam search cannot be streamed"),
    ],
)
def test_what_cannot_be_streamed(serve: Serve, fields: Any, reason: str) -> None:
    """What vLLM does not stream is refused before it is sent."""
    served = serve(json_bytes(HELLO))
    with pytest.raises(ValueError, match=reason):
        served.client.audio.transcriptions.stream(file=WAV, **fields)
    assert served.requests == []


def test_async_audio(serve: Serve) -> None:
    """The asynchronous client does the same on both routes."""
    served = serve(json_bytes(HELLO), stream_bytes(piece("Hi", "stop"), "[DONE]"))

    async def main(client: Any) -> Any:
        whole = await client.audio.translations.create(file=WAV)
        async with client.audio.transcriptions.stream(file=WAV) as stream:
            return whole.text, await stream.collect_text()

    assert run_with(served, main) == ("Hello", "Hi")
    assert [each.path.rpartition("/")[2] for each in served.requests] == ROUTES[::-1]
