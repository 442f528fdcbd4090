"""``vllm-client complete``: its options, colours and harmless text."""

from __future__ import annotations

import io
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from vllm_client import Timeout, VllmClient
from vllm_client._visible import visible
from vllm_client.cli import main
from vllm_client.cli._options import open_client
from vllm_client.cli._output import Printer
from vllm_client.cli._parser import build_parser
from vllm_client.testing import FakeServer

from ..http.conftest import tls_context
from ..recorded import chunk
from ..servers import Connection, WireServer
from .terminal import AtTerminal

TOKENS = {"tokens": ["a", "\nb", "c", "\x1b[2J"], "token_logprobs": [-0.01, -1.0, None, -9.0]}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """An embedded server whose address is in VLLM_BASE_URL."""
    with FakeServer() as fake:
        monkeypatch.setenv("VLLM_BASE_URL", fake.base_url)
        yield fake


class Screen(io.StringIO):
    """An output that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def test_json(server: FakeServer, capsys: Any) -> None:
    """--json prints the server's response on a line."""
    assert main(["complete", "x", "--json", "--max-tokens", "3"]) == 0
    raw = json.loads(capsys.readouterr().out)
    assert raw["object"] == "text_completion"
    assert raw["usage"]["completion_tokens"] == 3


def test_set_and_system_file(server: FakeServer, tmp_path: Path) -> None:
    """--set sends any field; the text of --system-file stands before the prompt."""
    file = tmp_path / "system.txt"
    file.write_text("Be brief.\n")
    assert main(["complete", "x", "--set", "top_k=20", "--system-file", str(file)]) == 0
    sent = server.requests[0].json
    assert (sent["top_k"], sent["prompt"]) == (20, "Be brief.\nx")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "top_kk=1"], "no request field 'top_kk'; did you mean 'top_k'?"),
        (["--set", "zzz=1"], "--set 'extra_body={\"zzz\": ...}'"),
        (["--system-file", "/gone"], "/gone"),
    ],
)
def test_refused_options(server: FakeServer, capsys: Any, options: Any, message: str) -> None:
    """A misspelt field and a missing file are an error in the words of the command line."""
    assert main(["complete", "x", *options]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert "keyword argument" not in err
    assert len(server.requests) == 0


def test_several_texts(server: FakeServer, capsys: Any) -> None:
    """-n prints each text whole under a line with its number."""
    assert main(["complete", "x", "-n", "2", "--max-tokens", "4"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("--- 1 of 2 (length) ---\n")
    assert "\n--- 2 of 2 (length) ---\n" in out
    assert server.requests[0].json["n"] == 2
    assert "prompt + 8 completion" in err


def test_several_texts_that_break_off(server: FakeServer, capsys: Any) -> None:
    """Of -n texts that break off, what arrived is printed, and the status is 1."""
    server.enqueue(chunks=[chunk("half"), chunk("all", index=1, finish="stop")], done=False)
    assert main(["complete", "x", "-n", "2"]) == 1
    assert capsys.readouterr().out == (
        "--- 1 of 2 (incomplete) ---\nhalf\n--- 2 of 2 (stop) ---\nall\n"
    )


def test_stats(server: FakeServer, capsys: Any) -> None:
    """--stats prints the time to the first token, chunks and speed; unknown ones as a dash."""
    assert main(["complete", "x", "--stats"]) == 0
    assert "vllm-client: first token 0." in capsys.readouterr().err
    server.enqueue(chunks=[chunk("", finish="stop")])
    assert main(["complete", "x", "--stats", "--set", "stream_options=null"]) == 0
    assert "1 chunks, - tokens/s" in capsys.readouterr().err


def with_logprobs(server: FakeServer) -> None:
    top = {"token_logprobs": TOKENS["token_logprobs"], "tokens": TOKENS["tokens"]}
    top["top_logprobs"] = [{"a": -0.01, "z": -5.0}, None, None, None]
    server.enqueue(chunks=[chunk("a\nbc", logprobs=top), chunk("", finish="stop")])


def test_logprobs_in_a_pipe(server: FakeServer, capsys: Any) -> None:
    """In a pipe each token is a line with its log-probability and the alternatives."""
    with_logprobs(server)
    assert main(["complete", "x", "--logprobs"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        '"a"\t-0.0100\t"z"\t-5.0000',
        '"\\nb"\t-1.0000',
        '"c"\t-',
        '"\\u001b[2J"\t-9.0000',
    ]
    assert server.requests[0].json["logprobs"] == 0
    assert "finish reason: stop" in err


def test_logprobs_on_a_terminal(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal tokens are coloured by probability, and the control characters harmless."""
    screen, errors = Screen(), Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", errors)
    with_logprobs(server)
    assert main(["complete", "x", "--logprobs"]) == 0
    wanted = "a\n\x1b[33mb\x1b[0mc\x1b[1;4;31m\\x1b[2J\x1b[0m\n"
    assert screen.getvalue() == wanted
    assert "<1%" in errors.getvalue()


@pytest.mark.parametrize("name", ["NO_COLOR", "TERM"])
def test_no_colours(server: FakeServer, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """With NO_COLOR and on a dumb terminal nothing is coloured."""
    screen, errors = Screen(), Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", errors)
    monkeypatch.setenv(name, "dumb")
    with_logprobs(server)
    assert main(["complete", "x", "--logprobs"]) == 0
    assert "\x1b" not in screen.getvalue() + errors.getvalue()


FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
PERSIAN = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"


@pytest.mark.parametrize("text", [FAMILY, PERSIAN, "שלום", "e\u0301"])
def test_joiners_in_emoji_and_words_stay(text: str) -> None:
    """Emoji of several characters and right-to-left words are shown as they are."""
    assert visible(text) == text
    screen = Screen()
    printer = Printer(screen)
    for character in text:
        printer.write(character)
    printer.end_line()
    assert screen.getvalue() == f"{text}\n"


@pytest.mark.parametrize("text", ["a\u200db", "\u200d", "ż\u200d", "\u200cż", "ż\u200c\u200dż"])
def test_joiners_elsewhere_are_visible(text: str) -> None:
    """A joiner beside ASCII, or at an end, only hides: it is shown."""
    screen = Screen()
    printer = Printer(screen)
    for character in text:
        printer.write(character)
    printer.end_line()
    assert "\\u200" in screen.getvalue()


def test_hostile_text_on_a_real_terminal(server: FakeServer) -> None:
    """Escapes that clear, retitle, link or answer the terminal are shown and not executed."""
    evil = "\x1b]0;title\x07 \x1b[2J \x1b]8;;http://x\x1b\\link \x9b6n \x1bP$q\x1b\\ \u202eabc"
    server.enqueue(text=f"{evil} {FAMILY} שלום")
    with AtTerminal("complete", "x", columns=40) as program:
        program.wait_for("tokens:")
        assert program.status() == 0
    first = program.shown.partition(b"\r\n")[0]
    assert b"\x1b" not in first
    assert b"\x9b" not in first.replace(FAMILY.encode(), b"").replace("שלום".encode(), b"")
    assert FAMILY in program.text
    assert "\\u202eabc" in program.text


@pytest.mark.parametrize("options", [["-n", "2"], ["--set", "n=2"], ["--set", 'prompt=["a","b"]']])
@pytest.mark.parametrize("tokens", [[], ["--logprobs"]])
def test_texts_are_not_mixed(
    server: FakeServer, capsys: Any, options: List[str], tokens: List[str]
) -> None:
    """Several texts are printed one after the other, however they were asked for."""
    limits = ["--max-tokens", "3", "--seed", "1"]
    assert main(["complete", "x", *limits, "--json", *options]) == 0
    raw = json.loads(capsys.readouterr().out)
    assert main(["complete", "x", *limits, *options, *tokens]) == 0
    first, second = capsys.readouterr().out.split("--- 2 of 2 (length) ---\n")
    assert first.startswith("--- 1 of 2 (length) ---\n")
    for shown, choice in zip((first.partition("\n")[2], second), raw["choices"]):
        rows = [json.loads(row.split("\t")[0]) for row in shown.splitlines()] if tokens else []
        assert ("".join(rows) or shown[:-1]) == choice["text"]


def test_text_without_logprobs(server: FakeServer, capsys: Any) -> None:
    """--logprobs prints the text also if the server sends no log-probabilities."""
    server.enqueue(chunks=[chunk("a text"), chunk("", finish="stop")])
    assert main(["complete", "x", "--logprobs"]) == 0
    assert capsys.readouterr().out == '"a text"\t-\n'


def test_a_logprob_that_is_a_whole_number(server: FakeServer, capsys: Any) -> None:
    """A log-probability of 0 is one, however the server writes it."""
    sure = {"tokens": ["a"], "token_logprobs": [0], "top_logprobs": [None]}
    server.enqueue(chunks=[chunk("a", logprobs=sure), chunk("", finish="stop")])
    assert main(["complete", "x", "--logprobs"]) == 0
    assert capsys.readouterr().out == '"a"\t0.0000\n'


def test_stream_is_not_a_field(server: FakeServer) -> None:
    """--set stream=true is refused: the command reads the response that it asked for."""
    with pytest.raises(SystemExit) as ended:
        main(["complete", "x", "--json", "--set", "stream=true"])
    assert ended.value.code == 2
    assert len(server.requests) == 0


def test_a_file_that_is_not_utf8(server: FakeServer, capsys: Any, tmp_path: Path) -> None:
    """The error for a file in another encoding names the file."""
    file = tmp_path / "system.txt"
    file.write_bytes(b"h\xe9llo")
    assert main(["complete", "x", "--system-file", str(file)]) == 1
    assert f"{file} is not UTF-8" in capsys.readouterr().err


def test_json_of_a_failure(server: FakeServer, capsys: Any) -> None:
    """With --json, an error without a response prints nothing on stdout."""
    server.enqueue(status=400, error="no")
    assert main(["complete", "x", "--json"]) == 1
    assert capsys.readouterr().out == ""


def test_advice_of_a_time_limit(server: FakeServer, capsys: Any) -> None:
    """--timeout is the limit of silence too, beyond the client's default of 600 s."""
    server.enqueue(stall_after=1)
    assert main(["complete", "x", "--timeout", "0.2"]) == 1
    assert "0.2 s" in capsys.readouterr().err
    assert client_of("--timeout", "900").timeout == Timeout(read=900.0, total=900.0)


def client_of(*options: str) -> VllmClient:
    """The client that a command gets."""
    with open_client(build_parser().parse_args(["complete", *options])) as client:
        return client


def test_advice_in_the_words_of_the_command_line(server: FakeServer, capsys: Any) -> None:
    """Advice of the library about its arguments names the options instead."""
    with FakeServer(delay=0.5) as slow:
        arguments = ["complete", "x", "--base-url", slow.base_url]
        assert main([*arguments, "--set", "timeout=0.1"]) == 1
    err = capsys.readouterr().err
    assert "--timeout SECONDS allows a longer wait" in err
    assert "Timeout(" not in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "guided_json={}"], "'guided_json': vLLM after 0.11 ignores it, use --set struc"),
        (["--set", "use_beam_search=true"], "be streamed: --json waits for the whole response"),
    ],
)
def test_advice_names_options(
    server: FakeServer, capsys: Any, options: List[str], message: str
) -> None:
    """No advice is about arguments of the library, which the command line does not have."""
    assert main(["complete", "x", *options]) == 1
    assert message in capsys.readouterr().err


def test_advice_on_an_unknown_certificate(capsys: Any, certificate: Path) -> None:
    """The way to trust a certificate is a variable, not an argument of the library."""

    def handler(connection: Connection) -> None:
        with suppress(OSError):  # The client breaks the handshake off.
            connection.start_tls(tls_context(certificate))

    with WireServer(handler) as server:
        url = server.base_url.replace("http:", "https:")
        assert main(["complete", "x", "--base-url", url]) == 1
    err = capsys.readouterr().err
    assert "(set REQUESTS_CA_BUNDLE to use" in err
    assert "session.verify" not in err


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_aborted(server: FakeServer, capsys: Any, options: List[str]) -> None:
    """What a server sent before it aborted is printed, with --json too; the status is 1."""
    choice = {"index": 0, "text": "begun", "finish_reason": "abort"}
    if options:
        server.enqueue(json={"choices": [choice]})
    else:
        server.enqueue(chunks=[{"choices": [choice]}])
    assert main(["complete", "x", *options]) == 1
    out, err = capsys.readouterr()
    assert "begun" in out
    assert "the server aborted the generation" in err
    assert "partial" not in err


@pytest.mark.parametrize("columns", ["20", "40", ""])
def test_notes_and_errors_are_folded(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, columns: str
) -> None:
    """On a terminal, notes and errors break between words, and long words stay whole."""
    monkeypatch.setenv("COLUMNS", columns)
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    address = "http://127.0.0.1:1/an/address/that/is/longer/than/a/line"
    assert main(["models", "--base-url", address, "--timeout", "9"]) == 1
    assert f" {address[:18]}" in " " + screen.getvalue().replace("\n", " ")
    long = [line for line in screen.getvalue().splitlines() if len(line) >= int(columns or 80)]
    assert all(" " not in line for line in long)
