"""Secrets: the key appears in no error and in no repr, even if the server repeats it."""

from __future__ import annotations

import base64
import json
import logging
import pickle
import socket
import traceback
from pathlib import Path
from typing import Any, Dict, List
from urllib.parse import quote

import pytest
import requests
import requests.auth

import vllm_client
from vllm_client import VllmClient, VllmError

from ..recorded import STREAM_HEAD, beginning, chunk, json_bytes, stream_bytes
from ..servers import Serve, Stall, break_off

KEY = 'sk-"quoted\\secret'


def everything(error: BaseException) -> str:
    """All text of an error that a program could show or store."""
    shown = [str(error), repr(error), repr(error.args), repr(vars(error)), str(error.__cause__)]
    return "\n".join([*shown, repr(pickle.dumps(error)), json.dumps(shown)])


def head(status: str, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n{headers}\r\n".encode()


ANSWERS = {
    "error body": json_bytes({"error": {"message": f"bad key {KEY}", "x": [KEY]}}, "401 No"),
    "text body": json_bytes(f"what is {KEY}?".encode(), "400 No"),
    "reason": head(f"400 {KEY}"),
    "location": head("307 Go", f"location: http://other/?key={KEY}\r\n"),
    "request id": head("400 No", f"x-request-id: {KEY}\r\n"),
    "another document": json_bytes({"seen": {KEY: [KEY]}}),
    "no document": json_bytes(KEY.encode()),
    "frame": stream_bytes({"error": {"message": KEY, "type": KEY}}, "[DONE]"),
    "bad chunk": stream_bytes(f"{{ {KEY}"),
    "good chunk, then a frame": stream_bytes(chunk("x"), {"error": KEY}),
    "deep": json_bytes(b'{"error":' * 400 + json.dumps(KEY).encode() + b"}" * 400, "400 No"),
}


@pytest.mark.parametrize("where", ANSWERS)
@pytest.mark.parametrize("given", ["api_key", "headers"])
@pytest.mark.parametrize("streamed", [True, False])
def test_no_error_shows_the_key(
    serve: Serve, where: str, given: str, streamed: bool, caplog: Any
) -> None:
    """A key that the server repeats is removed from message, body, pickle and log."""
    caplog.set_level(logging.DEBUG)
    settings: Any = {"api_key": KEY}
    if given == "headers":
        settings = {"headers": {"Authorization": f"Bearer {KEY}"}}
    served = serve(ANSWERS[where], max_retries=0, **settings)
    with pytest.raises(VllmError) as raised:
        list(served.client.completions.create(prompt="x", stream=streamed))
    assert KEY not in repr(served.client) + repr(served.client._transport)
    for spelt in (KEY, json.dumps(KEY)[1:-1], repr(KEY)[1:-1]):
        assert spelt not in everything(raised.value)
    assert served.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in caplog.text


def test_deep_parts_of_a_body_are_removed(serve: Serve) -> None:
    """A body is searched for the key to a certain depth; what is deeper is removed."""
    body = b'{"error":{"message":"no"},"x":' + b"[" * 200 + b"]" * 200 + b"}"
    client = serve(json_bytes(body, "400 No"), api_key=KEY).client
    with pytest.raises(VllmError) as raised:
        client.completions.create(prompt="x")
    assert raised.value.message == "no"
    depth, value = 0, vars(raised.value)["body"]["x"]
    while value:
        depth, value = depth + 1, value[0]
    assert depth < 60
    assert value is None


def test_short_keys_are_not_removed(serve: Serve) -> None:
    """A short key such as EMPTY is not removed from the server's message."""
    answer = json_bytes({"error": {"message": "the prompt is EMPTY"}}, "400 No")
    client = serve(answer, api_key="EMPTY").client
    with pytest.raises(VllmError, match="the prompt is EMPTY"):
        client.completions.create(prompt="x")


def test_a_key_that_begins_as_another_is_hidden_to_its_end(serve: Serve) -> None:
    """Of two secrets, one of which begins the other, no rest of the longer one is shown."""
    longer = KEY + "-of-the-call"
    answer = json_bytes({"error": {"message": f"no such key: {longer}"}}, "400 No")
    client = serve(answer, api_key=KEY).client
    headers = {"Authorization": f"Bearer {longer}"}
    with pytest.raises(VllmError) as raised:
        client.completions.create(prompt="x", extra_headers=headers)
    assert "no such key: ***" in str(raised.value)
    assert "of-the-call" not in f"{raised.value} {raised.value!r} {vars(raised.value)}"


def test_the_text_of_the_model_stays(serve: Serve) -> None:
    """The text of the model is kept in the error, even if it contains the key."""
    answer = stream_bytes(chunk(f"the key {KEY}"), {"error": "x"}, head=STREAM_HEAD)
    client = serve(answer, api_key=KEY).client
    with client.completions.stream(prompt="x") as stream:
        with pytest.raises(VllmError) as raised:
            stream.collect()
    assert raised.value.partial.text == f"the key {KEY}"


PLAIN = "sk-0123456789abcdef"
"""A key without any character that JSON, a URL or HTML would escape."""


def below(error: BaseException) -> List[BaseException]:
    """The error, its causes and contexts, and the errors among their arguments."""
    found: List[BaseException] = []
    waiting: List[Any] = [error]
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseException) and not any(each is other for other in found):
            found.append(each)
            waiting += [each.__cause__, each.__context__, *each.args, *vars(each).values()]
    return found


def shown(error: BaseException) -> str:
    """The traceback and all attributes of an error and of those below it."""
    parts = ["".join(traceback.format_exception(type(error), error, error.__traceback__))]
    for each in below(error):
        document = getattr(each, "doc", None)
        parts += [str(each), repr(each), repr(each.args), repr(vars(each)), repr(document)]
    return "\n".join(parts)


def locals_of_ours(error: BaseException) -> List[str]:
    """The local variables of the frames of vllm_client in the tracebacks of an error."""
    package = str(Path(vllm_client.__file__).parent)
    return [
        f"{frame.f_code.co_name}: {name} = {value!r}"
        for each in below(error)
        for frame, _ in traceback.walk_tb(each.__traceback__)
        if frame.f_code.co_filename.startswith(package)
        for name, value in frame.f_locals.items()
    ]


def failure(client: VllmClient, streamed: bool = False, **fields: Any) -> VllmError:
    with pytest.raises(VllmError) as raised:
        list(client.completions.create(prompt="x", stream=streamed, **fields))
    return raised.value


def hidden_in(error: BaseException, *secrets: str) -> None:
    found = "\n".join([shown(error), *locals_of_ours(error)])
    for secret in secrets:
        assert secret not in found


def test_the_log_of_retries_hides_the_key(serve: Serve, caplog: Any) -> None:
    """A key in the body of a 503 is hidden in the record of each retry."""
    caplog.set_level(logging.DEBUG, "vllm_client")
    body = {"error": {"message": f"busy: {KEY}"}}
    reply = json_bytes(body, "503 Busy", headers="retry-after: 0\r\n")
    served = serve(reply, api_key=KEY, max_retries=2)
    hidden_in(failure(served.client), KEY)
    records = [record for record in caplog.records if "retry" in record.getMessage()]
    assert len(records) == 2
    for record in records:
        assert "busy: ***" in record.getMessage()
        assert KEY not in repr(vars(record))


MALFORMED = {
    "status line": f"{PLAIN} 200 OK\r\n\r\n".encode(),
    "status": f"HTTP/1.1 {PLAIN} OK\r\n\r\n".encode(),
    "header": f"HTTP/1.1 200 OK\r\n{PLAIN}\r\nx\r\n\r\n".encode(),
    "length": f"HTTP/1.1 200 OK\r\ncontent-length: {PLAIN}\r\n\r\n".encode(),
    "chunk size": STREAM_HEAD + f"{PLAIN}\r\n".encode(),
    "later chunk size": beginning(chunk("x")) + f"{PLAIN}\r\n".encode(),
    "long chunk size": STREAM_HEAD + f"zz{'z' * 25}{PLAIN}\r\n".encode(),
    "encoding": json_bytes(PLAIN.encode(), headers="content-encoding: gzip\r\n"),
    "JSON": json_bytes(f'{{"x": {PLAIN}'.encode()),
    "event": stream_bytes(f'{{"x": {PLAIN}'),
}


@pytest.mark.parametrize("where", MALFORMED)
@pytest.mark.parametrize("streamed", [True, False])
def test_no_cause_shows_the_key(serve: Serve, where: str, streamed: bool) -> None:
    """A key in a malformed response is hidden in the errors of other libraries below ours."""
    reply = break_off(MALFORMED[where])
    served = serve(reply, api_key=PLAIN, max_retries=0)
    error = failure(served.client, streamed)
    assert PLAIN not in shown(error)


@pytest.mark.parametrize(
    "spell", [quote, lambda text: quote(text, safe=""), lambda text: quote(text).lower()]
)
def test_a_key_in_a_url_is_hidden(serve: Serve, spell: Any) -> None:
    """A percent-encoded key is hidden, in capital and in small hexadecimal digits."""
    key = "sk-a/b+c=d&e<f>"
    body = {"error": {"message": f"GET /?key={spell(key)}"}}
    error = failure(serve(json_bytes(body, "400 No"), api_key=key).client)
    assert error.args[0] == "GET /?key=***"


@pytest.mark.parametrize(
    "spelt", ["sk-a&lt;b&gt;&amp;&quot;c&#x27;", "sk-a&lt;b&gt;&amp;&#34;c&#39;"]
)
def test_a_key_in_html_is_hidden(serve: Serve, spelt: str) -> None:
    """An HTML-escaped key is hidden, in the spellings of Python and of Go."""
    page = f"<html><title>bad key {spelt}</title></html>".encode()
    client = serve(json_bytes(page, "400 No"), api_key="sk-a<b>&\"c'").client
    error = failure(client)
    assert str(error.message) == "bad key ***"
    assert spelt not in everything(error)


@pytest.mark.parametrize("kept", range(6, len(PLAIN)))
@pytest.mark.parametrize("kind", ["message", "title"])
def test_a_key_that_is_cut_is_hidden(serve: Serve, kept: int, kind: str) -> None:
    """A message that is cut in the middle of the key shows nothing of the key."""
    if kind == "message":
        body: Any = {"error": {"message": "." * (2000 - kept) + PLAIN + "." * 100}}
    else:
        body = f"<title>{'.' * (200 - kept)}{PLAIN}</title>".encode()
    error = failure(serve(json_bytes(body, "400 No"), api_key=PLAIN).client)
    assert PLAIN[:6] not in everything(error)


@pytest.mark.parametrize("kept", range(6, len(PLAIN)))
def test_a_body_that_is_cut_hides_the_key(serve: Serve, kept: int) -> None:
    """A body that is cut at the limit, or breaks off, in the middle of the key shows none of it."""
    page = b"." * ((1 << 20) - kept) + PLAIN.encode()
    reply = break_off(json_bytes(page + b"." * 9000, "400 No"))
    error = failure(serve(reply, api_key=PLAIN).client)
    assert PLAIN[:6] not in everything(error)
    short = f"HTTP/1.1 400 No\r\ncontent-length: 99\r\n\r\n{PLAIN[:kept]}".encode()
    error = failure(serve(break_off(short), api_key=PLAIN).client)
    assert PLAIN[:6] not in everything(error)


def test_credentials_of_netrc_are_hidden(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password of .netrc that the server repeats is hidden, in clear and as it was sent."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password password1\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    repeats_login(serve)


def repeats_login(serve: Serve, **settings: Any) -> None:
    """Have the server repeat the login ``me:password1``; nothing of it may be seen."""
    sent = base64.b64encode(b"me:password1").decode()
    reply = json_bytes({"error": {"message": f"bad: password1, {sent}"}}, "401 No")
    served = serve(reply, **settings)
    error = failure(served.client)
    assert served.requests[0].headers["authorization"] == f"Basic {sent}"
    hidden_in(error, "password1", sent)


def test_the_auth_of_a_session_is_hidden(serve: Serve) -> None:
    """The password of a user's session is hidden, in clear and as it was sent."""
    with requests.Session() as session:
        session.auth = ("me", "password1")
        repeats_login(serve, session=session)
        session.auth = requests.auth.HTTPBasicAuth("me", "password1")
        repeats_login(serve, session=session)
        session.auth = None
        session.headers["authorization"] = "Basic bWU6cGFzc3dvcmQx"
        repeats_login(serve, session=session)


@pytest.mark.parametrize("scheme", ["Bearer ", "", "Token "])
def test_a_header_of_one_call_is_hidden(serve: Serve, scheme: str) -> None:
    """The ``Authorization`` of ``extra_headers`` is hidden, and so is the client's key."""
    reply = json_bytes({"error": {"message": f"bad: {PLAIN}, {KEY}"}}, "401 No")
    client = serve(reply, api_key=KEY).client
    hidden_in(failure(client, extra_headers={"authorization": scheme + PLAIN}), PLAIN, KEY)


def refused_client(**settings: Any) -> VllmClient:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    return VllmClient(f"http://127.0.0.1:{port}/v1", max_retries=0, **settings)


FAILURES = ["refused", "timeout", "status", "head", "body"]


def failing(serve: Serve, how: str, **settings: Any) -> VllmClient:
    """A client whose calls fail in this way."""
    if how == "refused":
        return refused_client(**settings)
    if how == "timeout":
        return serve(Stall(), timeout=0.2, max_retries=0, **settings).client
    replies = {
        "status": json_bytes({"error": {"message": PLAIN}}, "400 No"),
        "head": break_off(MALFORMED["status line"]),
        "body": break_off(MALFORMED["chunk size"]),
    }
    return serve(replies[how], max_retries=0, **settings).client


GIVEN: Dict[str, Any] = {
    "api_key": {"api_key": PLAIN},
    "headers": {"headers": {"Authorization": f"Bearer {PLAIN}"}},
}


@pytest.mark.parametrize("how", FAILURES)
@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("streamed", [True, False])
def test_no_local_variable_shows_the_key(
    serve: Serve, how: str, given: str, streamed: bool
) -> None:
    """No variable of our frames in a traceback shows the key, so that its loggers cannot."""
    with failing(serve, how, **GIVEN[given]) as client:
        hidden_in(failure(client, streamed), PLAIN)


@pytest.mark.parametrize("how", FAILURES)
def test_no_local_variable_shows_a_header_of_the_call(serve: Serve, how: str) -> None:
    """The same for ``extra_headers``."""
    with failing(serve, how) as client:
        hidden_in(failure(client, extra_headers={"Authorization": f"Bearer {PLAIN}"}), PLAIN)


@pytest.mark.parametrize("how", FAILURES)
@pytest.mark.parametrize("given", GIVEN)
def test_sentry_does_not_report_the_key(serve: Serve, how: str, given: str) -> None:
    """The event that sentry-sdk makes of an error, with local variables, has no key in it."""
    sentry_sdk = pytest.importorskip("sentry_sdk")
    events: List[Any] = []

    class Kept(sentry_sdk.transport.Transport):  # type: ignore[name-defined,misc]
        def capture_envelope(self, envelope: Any) -> None:
            events.append(envelope.serialize().decode())

    settings = GIVEN[given]
    with failing(serve, how, **settings) as client:
        error = failure(client)
    options: Any = {"include_local_variables": True, "default_integrations": False}
    with sentry_sdk.isolation_scope() as scope:
        scope.set_client(sentry_sdk.Client("http://a@localhost/1", transport=Kept, **options))
        sentry_sdk.capture_exception(error)
        scope.get_client().close()
    assert len(events) == 1
    assert '"vars"' in events[0]  # The frames are there, with their variables.
    ours = [part for part in events[0].split('"filename"') if "vllm_client" in part[:80]]
    assert ours
    assert PLAIN not in "".join(ours)


def test_a_basic_header_that_is_no_base64_is_hidden(serve: Serve) -> None:
    """Credentials of the scheme Basic that cannot be decoded are hidden as they were sent."""
    reply = json_bytes({"error": {"message": f"bad: {PLAIN}"}}, "401 No")
    client = serve(reply, headers={"Authorization": f"Basic {PLAIN}"}).client
    hidden_in(failure(client), PLAIN)


def test_netrc_under_a_session_is_hidden(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password of .netrc that a user's session sends is hidden."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password password1\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with requests.Session() as session:
        repeats_login(serve, session=session)


def test_another_kind_of_auth_is_no_error(serve: Serve) -> None:
    """A user's session with an auth object that has no login works as before."""
    with requests.Session() as session:
        session.auth = lambda prepared: prepared
        error = failure(serve(json_bytes({"error": "no"}, "401 No"), session=session).client)
    assert "no" in str(error)
