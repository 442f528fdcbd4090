"""The command line: what it prints where, and its exit status."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import pty
import signal
import subprocess
import sys
import threading
from typing import Any, Iterator, List, Optional

import pytest

from vllm_client import __version__
from vllm_client._visible import visible
from vllm_client.cli import INTERRUPTED, main
from vllm_client.testing import FakeServer

from ..recorded import beginning, chunk, delta
from ..servers import Stall
from ..threads import WAIT


@pytest.fixture
def server(monkeypatch):
    """An embedded server whose address is in VLLM_BASE_URL."""
    with FakeServer() as fake:
        monkeypatch.setenv("VLLM_BASE_URL", fake.base_url)
        yield fake


class Terminal(io.StringIO):
    """An output that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def typed(monkeypatch, *lines: Any) -> None:
    """Simulate a terminal at which these lines are typed; an exception stands for a key."""
    waiting = list(lines)

    class Keyboard(io.StringIO):
        def isatty(self) -> bool:
            return True

        def readline(self, *_: Any) -> str:
            line = waiting.pop(0) if waiting else ""
            if isinstance(line, BaseException):
                raise line
            return line

    monkeypatch.setattr(sys, "stdin", Keyboard())


def test_complete_prints_text_on_stdout_and_notes_on_stderr(server, capsys):
    """The text is printed on stdout, finish reason and usage on stderr."""
    server.enqueue(text=" Paris")
    assert main(["complete", "The capital is"]) == 0
    out, err = capsys.readouterr()
    assert out == " Paris\n"
    assert "finish reason: stop" in err
    assert "prompt +" in err
    assert server.requests[0].json["prompt"] == "The capital is"


def test_complete_demo_needs_no_server(monkeypatch, capsys):
    """--demo uses the embedded server and does not send it the key of the environment."""
    monkeypatch.setenv("VLLM_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("VLLM_API_KEY", "sk-of-the-user")
    assert main(["complete", "--demo", "--max-tokens", "5", "What is machine learning?"]) == 0
    assert capsys.readouterr().out.strip()


def test_options_become_fields(server):
    """Each option is sent as the field of the same name; absent options are not sent."""
    server.enqueue(text="x")
    main(
        [
            *("complete", "--model", "fake-vllm", "--max-tokens", "7", "--temperature", "0.5"),
            *("--top-p", "0.9", "--seed", "3", "--stop", "A", "--stop", "B", "--timeout", "9"),
            "hello",
        ]
    )
    body = server.requests[0].json
    body.pop("stream_options")
    assert body == {
        "model": "fake-vllm",
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "stop": ["A", "B"],
        "prompt": "hello",
        "stream": True,
    }


@pytest.mark.parametrize("arguments", [["complete"], ["complete", "-"]])
def test_prompt_from_standard_input(server, monkeypatch, arguments):
    """Without a prompt, or with -, the prompt is read from stdin."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("from a pipe"))
    assert main(arguments) == 0
    assert server.requests[0].json["prompt"] == "from a pipe"


def test_an_incomplete_response_is_printed_and_fails(server, capsys):
    """The text before a failure is printed, and the status is 1."""
    server.enqueue(text="one two three four", cut_after=2)
    assert main(["complete", "x"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("one two")
    assert "vllm-client:" in err


def test_no_server_at_the_address(monkeypatch, capsys):
    """If no server runs at the address, the error explains what to do."""
    assert main(["complete", "--base-url", "http://127.0.0.1:9/v1", "--timeout", "1", "x"]) == 1
    assert "vllm serve" in capsys.readouterr().err


def test_an_invalid_address(capsys):
    """An invalid address is an error message without a traceback."""
    assert main(["complete", "--base-url", "ftp://x", "x"]) == 1
    assert "base_url" in capsys.readouterr().err


def test_control_characters_never_reach_a_terminal(server, monkeypatch):
    """On a terminal control characters are printed as escapes."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    server.enqueue(text="a\x1b[2Jb\r\n\tc\u202e\x9b")
    assert main(["complete", "x"]) == 0
    assert screen.getvalue() == "a\\x1b[2Jb\\r\n\tc\\u202e\\x9b\n"


def test_control_characters_pass_through_a_pipe(server, capsys):
    """In a pipe the text is printed unchanged."""
    server.enqueue(text="a\x1b[2Jb")
    main(["complete", "x"])
    assert capsys.readouterr().out == "a\x1b[2Jb\n"


def test_visible_keeps_ordinary_text():
    """Letters of any script, tabs and line ends stay unchanged."""
    assert visible("żółw\t🐢\n") == "żółw\t🐢\n"


HIDDEN = [
    *range(0x200B, 0x2010),
    *range(0x202A, 0x202F),
    *range(0x2060, 0x2065),
    *range(0x2066, 0x206A),
    *(0x061C, 0xFEFF),
]


@pytest.mark.parametrize("code", HIDDEN, ids=hex)
def test_characters_that_cannot_be_seen_become_visible(code):
    """A character without width or one that changes the direction becomes an escape."""
    assert visible(f"a{chr(code)}b") == f"a\\u{code:04x}b"


@contextlib.contextmanager
def ctrl_c(stall: Stall) -> Iterator[None]:
    """Press Ctrl-C once the response has begun, and again until the client closes.

    Python notices a signal that arrives just before a blocking read only after the read.
    """
    pressed_in = threading.main_thread().ident
    assert pressed_in is not None

    def press() -> None:
        stall.reached.wait()
        while not stall.gone.count:
            signal.pthread_kill(pressed_in, signal.SIGINT)
            stall.gone.wait(seconds=1)

    thread = threading.Thread(target=press)
    thread.start()
    yield
    thread.join(WAIT)


def test_ctrl_c_while_completing(serve, capsys):
    """Ctrl-C keeps the text so far, prints a note and ends with status 130."""
    stall = Stall(beginning(chunk("begun")))
    served = serve(stall)
    with ctrl_c(stall):
        assert main(["complete", "--base-url", served.base_url, "x"]) == INTERRUPTED
    out, err = capsys.readouterr()
    assert out in {"", "begun\n"}
    assert "stopped" in err


def run(arguments: List[str], base_url: str, text: Optional[str] = None, **more: Any) -> Any:
    """Run the program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "vllm_client", *arguments, "--base-url", base_url],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **more},
    )


def test_a_closed_pipe_is_no_traceback(server):
    """`vllm-client … | head -c 1` ends without a traceback."""
    server.enqueue(text="word " * 5000)
    command = f"{sys.executable} -m vllm_client complete x --base-url {server.base_url} | head -c 1"
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "w"
    assert "Traceback" not in done.stderr


def test_a_broken_pipe_is_status_1(server, monkeypatch):
    """If the output is closed, the program ends with status 1 and prints nothing."""

    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    errors = io.StringIO()
    monkeypatch.setattr(sys, "stdout", Gone())
    monkeypatch.setattr(sys, "stderr", errors)
    server.enqueue(text="word")
    assert main(["complete", "x"]) == 1
    assert "Errno" not in errors.getvalue()


def test_a_token_without_text_prints_nothing(server, capsys):
    """An event without text prints nothing."""
    server.enqueue(chunks=[chunk("", token_ids=[1]), chunk("x", finish="stop")])
    assert main(["complete", "x"]) == 0
    assert capsys.readouterr().out == "x\n"


def test_as_a_module(server):
    """`python -m vllm_client` is the same program, and importing it runs nothing."""
    server.enqueue(text="x")
    assert run(["complete", "x"], server.base_url).stdout == "x\n"
    assert importlib.import_module("vllm_client.__main__").main is main


def test_a_narrow_encoding_is_no_error(server):
    """Characters that the encoding of the terminal lacks are printed as escapes."""
    server.enqueue(text="snowman ☃")
    done = run(["complete", "x"], server.base_url, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, "snowman \\u2603\n")


def test_usage_error_is_status_2():
    """Without a command the status is 2."""
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2


def test_version(capsys):
    """--version prints the version of the package."""
    with pytest.raises(SystemExit):
        main(["--version"])
    assert __version__ in capsys.readouterr().out


def test_chat_keeps_the_history(server, monkeypatch, capsys):
    """Each question is sent with the whole conversation; /exit ends the program."""
    typed(monkeypatch, "first\n", "\n", "second\n", "/exit\n", "never\n")
    server.enqueue(text="one")
    server.enqueue(text="two")
    assert main(["chat", "--system", "Be brief."]) == 0
    assert [request.json["messages"] for request in server.requests] == [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "first"}],
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "one"},
            {"role": "user", "content": "second"},
        ],
    ]
    assert capsys.readouterr().out == "one\ntwo\n"


def test_chat_from_a_pipe(server, monkeypatch, capsys):
    """In a pipe every line is a question, and no prompt is printed."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\nagain\n"))
    server.enqueue(text="one")
    server.enqueue(text="two")
    assert main(["chat"]) == 0
    assert capsys.readouterr().out == "one\ntwo\n"
    assert len(server.requests) == 2


def test_chat_goes_on_after_an_error(server, monkeypatch, capsys):
    """A failed question is left out of the conversation; the status is 1 in the end."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\nagain\n"))
    server.enqueue(error="no", status=400)
    server.enqueue(text="fine")
    assert main(["chat"]) == 1
    out, err = capsys.readouterr()
    assert out == "fine\n"
    assert "no" in err
    assert server.requests[1].json["messages"] == [{"role": "user", "content": "again"}]


def test_chat_shows_thinking_and_calls(server, monkeypatch, capsys):
    """--thinking prints the reasoning on stderr; tool calls are printed there too."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\nnow\n"))
    server.enqueue(reasoning="let me see", text="done")
    server.enqueue(tool_calls=[{"name": "look", "arguments": {"at": 1}}])
    assert main(["chat", "--thinking"]) == 0
    out, err = capsys.readouterr()
    assert out == "done\n"
    assert "let me see\n" in err
    assert 'tool call: look({"at": 1})' in err


@pytest.mark.parametrize(
    ("options", "script", "told"),
    [
        ([], {"reasoning": "Hm."}, True),
        ([], {"reasoning": "Hm.", "text": "\n\n"}, True),
        ([], {"reasoning": "Hm.", "text": "Yes."}, False),
        ([], {"reasoning": "Hm.", "tool_calls": [{"name": "f"}]}, False),
        ([], {"text": "Yes."}, False),
        (["--thinking"], {"reasoning": "Hm."}, False),
    ],
)
def test_chat_tells_that_there_is_only_thinking(server, monkeypatch, capsys, options, script, told):
    """Without --thinking, a note on stderr explains an answer that is only reasoning."""
    server.enqueue(**script)
    monkeypatch.setattr(sys, "stdin", io.StringIO("Why?\n"))
    assert main(["chat", *options]) == 0
    err = capsys.readouterr().err
    assert "finish reason" in err
    assert ("only reasoning" in err) is told
    assert ("--thinking" in err) is told


def test_chat_hides_thinking(server, monkeypatch, capsys):
    """Without --thinking the reasoning is not printed."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\n"))
    server.enqueue(reasoning="let me see", text="done")
    main(["chat"])
    assert "let me see" not in "".join(capsys.readouterr())


def test_ctrl_c_stops_the_answer_and_not_the_conversation(serve, monkeypatch, capsys):
    """On a terminal Ctrl-C ends the response, and the conversation goes on."""
    stall = Stall(beginning(delta(content="begun")))
    typed(monkeypatch, KeyboardInterrupt(), "hello\n", "/exit\n")
    served = serve(stall)
    with ctrl_c(stall):
        assert main(["chat", "--base-url", served.base_url]) == 0
    err = capsys.readouterr().err
    assert "stopped" in err
    assert "> \nvllm-client: Ctrl-D or /exit ends the conversation\n> " in err


def test_ctrl_c_ends_a_conversation_from_a_pipe(serve, monkeypatch):
    """In a pipe Ctrl-C ends the program."""
    stall = Stall(beginning(delta(content="begun")))
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\nagain\n"))
    served = serve(stall)
    with ctrl_c(stall):
        assert main(["chat", "--base-url", served.base_url]) == INTERRUPTED
    assert len(served.requests) == 1


def test_ctrl_c_while_a_pipe_is_silent(monkeypatch):
    """Ctrl-C while the program waits for a line of a pipe ends it."""

    class Pipe(io.StringIO):
        def readline(self, *_: Any) -> str:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", Pipe())
    assert main(["chat", "--base-url", "http://127.0.0.1:9"]) == INTERRUPTED


def test_output_on_a_real_terminal(server):
    """On a pseudo-terminal the text is printed, with escape characters as escapes."""
    server.enqueue(text="red \x1b[31m alert")
    parent, child = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "vllm_client", "complete", "x", "--base-url", server.base_url],
        stdout=child,
        stderr=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    os.close(child)
    shown = os.read(parent, 4096)
    os.close(parent)
    assert done.returncode == 0
    assert shown == b"red \\x1b[31m alert\r\n"
