"""What a user types: in the program at a real terminal, and from pipes."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from typing import Any, Iterator, List

import pytest

from vllm_client.cli import _input, main
from vllm_client.cli._history import History
from vllm_client.cli._input import EditedLines, TypedLines, open_reader, without_keys
from vllm_client.testing import FakeServer

from ..threads import WAIT
from .terminal import AtTerminal

PLAIN = {"modules": "readline prompt_toolkit rich"}
EDITED = {"modules": "prompt_toolkit rich"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """An embedded server whose address is in VLLM_BASE_URL; its answers are "fine"."""
    with FakeServer() as fake:
        monkeypatch.setenv("VLLM_BASE_URL", fake.base_url)
        fake.always(text="fine")
        yield fake


def asked(server: FakeServer) -> List[Any]:
    """The questions that arrived."""
    return [request.json["messages"][-1]["content"] for request in server.requests]


def test_standard_input_is_appended(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """`echo text | vllm-client complete "Summarise:"` sends both."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("a long text\n"))
    assert main(["complete", "Summarise:"]) == 0
    assert server.requests[0].json["prompt"] == "Summarise:\na long text\n"


@pytest.mark.parametrize("stdin", [None, io.StringIO("")])
def test_no_standard_input(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: Any, stdin: Any
) -> None:
    """An empty standard input, or none at all, leaves the prompt alone; no prompt is an error."""
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["complete", "Hello"]) == 0
    assert server.requests[0].json["prompt"] == "Hello"
    assert main(["complete"]) == 1
    assert "there is no prompt: pass it as an argument" in capsys.readouterr().err
    assert len(server.requests) == 1


def test_the_prompt_is_typed(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Without a prompt a terminal is read; beside a prompt it is not."""
    monkeypatch.setattr(sys, "stdin", Keyboard("typed"))
    assert main(["complete", "given"]) == main(["complete"]) == 0
    assert [request.json["prompt"] for request in server.requests] == ["given", "typed"]
    assert "type the prompt" in capsys.readouterr().err


def test_silence_of_a_pipe_is_told_on_a_terminal_only(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A note about a silent pipe is for a terminal; a quick pipe causes none."""
    screen = Keyboard()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "stdin", io.StringIO("quick"))
    assert main(["complete", "x"]) == 0
    assert "waiting" not in screen.getvalue()


def test_a_hint_about_a_silent_pipe(server: FakeServer) -> None:
    """If a pipe stays open and silent, a line on the terminal tells what is awaited."""
    read, write = os.pipe()
    master, slave = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-m", "vllm_client", "complete", "x"], stdin=read, stderr=slave
    )
    shown = b""
    while b"standard input" not in shown:
        shown += os.read(master, 4096)
    assert b"< /dev/null means none" in shown
    for end in (read, write, slave):
        os.close(end)
    assert program.wait(WAIT) == 0
    os.close(master)


def test_complete_without_a_prompt_on_a_terminal(server: FakeServer) -> None:
    """On a terminal, a missing prompt is explained and then typed."""
    with AtTerminal("complete") as program:
        program.wait_for("type the prompt, then Enter and Ctrl-D")
        program.type("typed\n\x04")
        program.wait_for("fine")
        assert program.status() == 0
    assert server.requests[0].json["prompt"] == "typed\n"


@pytest.mark.parametrize("reader", [PLAIN, EDITED])
def test_arrow_keys_are_not_sent(server: FakeServer, reader: Any) -> None:
    """Arrow keys move in the line or do nothing; no code of a key is sent."""
    with AtTerminal("chat", **reader) as program:
        program.wait_for("> ")
        program.type("ello\x1b[D\x1b[D\x1b[D\x1b[D\x1bOAthere\n")
        program.wait_for("finish reason")
        program.type("/exit\n")
        assert program.status() == 0
    (question,) = asked(server)
    assert "\x1b" not in question
    assert "[D" not in question


def test_lines_are_edited(server: FakeServer) -> None:
    """With readline, the arrow keys move the cursor, and Up brings the last line back."""
    with AtTerminal("chat", **EDITED) as program:
        program.wait_for("> ")
        program.type("ello\x1b[D\x1b[D\x1b[D\x1b[Dh\n")
        program.wait_for("finish reason")
        program.wait_for("> ", 2)
        program.type("\x1b[A!\n")
        program.wait_for("finish reason", 2)
        program.wait_for("> ", 3)
        program.type("\x04")
        assert program.status() == 0
    assert asked(server) == ["hello", "hello!"]


@pytest.mark.parametrize("reader", [PLAIN, {**EDITED, "TERM": "dumb"}])
def test_pasted_lines_are_one_question(server: FakeServer, reader: Any) -> None:
    """Several lines that arrive at once are one question."""
    with AtTerminal("chat", **reader) as program:
        program.wait_for("> ")
        program.type("one\n  two\nthree\n")
        program.wait_for("finish reason")
        program.wait_for("> ", 2)
        program.type("\x04")
        assert program.status() == 0
    assert asked(server) == ["one\n  two\nthree"]


def test_a_marked_paste_is_one_question(server: FakeServer) -> None:
    """A paste that the terminal marks is one question, sent after Enter."""
    with AtTerminal("chat", **EDITED) as program:
        program.wait_for("> ")
        program.type("\x1b[200~one\r  two\x1b[201~\n")
        program.wait_for("finish reason")
        program.wait_for("> ", 2)
        program.type("\x04")
        assert program.status() == 0
    assert asked(server) == ["one\n  two"]


def test_ctrl_d_behind_a_text(server: FakeServer) -> None:
    """Without an editor, Ctrl-D behind a text sends the text and ends the conversation."""
    with AtTerminal("chat", **PLAIN) as program:
        program.wait_for("> ")
        program.type("last words\x04\x04")
        assert program.status() == 0
    assert asked(server) == ["last words"]


def test_ctrl_d_behind_a_text_with_an_editor(server: FakeServer) -> None:
    """With readline, Ctrl-D behind a text does nothing; the text is not lost."""
    with AtTerminal("chat", **EDITED) as program:
        program.wait_for("> ")
        program.type("last words\x04!\n")
        program.wait_for("finish reason")
        program.wait_for("> ", 2)
        program.type("\x04")
        assert program.status() == 0
    assert asked(server) == ["last words!"]


@pytest.mark.parametrize("reader", [PLAIN, EDITED])
def test_ctrl_c_at_the_prompt(server: FakeServer, reader: Any) -> None:
    """Ctrl-C at the prompt discards the line and tells how to end."""
    with AtTerminal("chat", **reader) as program:
        program.wait_for("> ")
        if reader is EDITED:
            program.wait_for_prompt()  # Before, the terminal itself would take the keys.
        program.type("oops")
        program.wait_for("oops")
        program.interrupt_until("Ctrl-D or /exit ends")
        program.wait_for("> ", 2)
        program.type("good\n")
        program.wait_for("finish reason")
        program.type("/exit\n")
        assert program.status() == 0
    assert asked(server) == ["good"]


def test_ctrl_c_ends_the_answer_only(server: FakeServer) -> None:
    """Ctrl-C at a terminal ends the answer; the next question goes with what had arrived."""
    server.enqueue(text="one two three", stall_after=2)
    with AtTerminal("chat", **EDITED) as program:
        program.wait_for("> ")
        program.type("go\n")
        program.wait_for("one")
        program.type("\x03")
        program.wait_for("stopped")
        program.wait_for("> ", 2)
        program.type("on\n")
        program.wait_for("finish reason")
        program.type("/exit\n")
        assert program.status() == 0
    roles = [message["role"] for message in server.requests[1].json["messages"]]
    assert roles == ["user", "assistant", "user"]


def chat(monkeypatch: pytest.MonkeyPatch, text: str, *options: str) -> int:
    """A conversation from a pipe."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    return main(["chat", *options])


def test_unknown_commands_are_not_sent(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A command that does not exist is an error with a suggestion; a space makes it a question."""
    assert chat(monkeypatch, "/hlep\n/usr/bin\n /usr/bin?\n") == 1
    err = capsys.readouterr().err
    assert "/hlep is no command, and was not sent: did you mean /help?" in err
    assert "/usr/bin is no command, and was not sent: /help lists the commands" in err
    assert asked(server) == ["/usr/bin?"]


def test_help_and_exit(server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """/help lists the commands; behind /exit nothing is read."""
    assert chat(monkeypatch, "/help\n/exit\nx\n") == 0
    out = capsys.readouterr().out
    assert "/clear" in out
    assert "Ctrl-C stops the answer" in out
    assert len(server.requests) == 0


def test_clear(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """/clear forgets the conversation, not the system message."""
    assert chat(monkeypatch, "a\n/clear\nb\n", "--system", "Brief.") == 0
    assert [message["content"] for message in server.requests[1].json["messages"]] == [
        "Brief.",
        "b",
    ]


@pytest.mark.parametrize("text", ['"""\na\n\nb\n"""\n', '"""a\n\nb"""\n', '"""\na\n\nb\n'])
def test_three_quotes(server: FakeServer, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Lines between three quotes are one question, also if the last quotes are missing."""
    assert chat(monkeypatch, text) == 0
    assert asked(server) == ["a\n\nb"]


def test_api_key(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """--api-key is sent, and a 401 advises it in the words of the command line."""
    with FakeServer(api_key="sk-right") as server:
        arguments = ["complete", "x", "--base-url", server.base_url]
        assert main([*arguments, "--api-key", "sk-right"]) == 0
        assert main(arguments) == 1
    err = capsys.readouterr().err
    assert "pass --api-key KEY or set VLLM_API_KEY" in err
    assert "api_key=" not in err


def test_keys_in_a_text() -> None:
    """Codes of keys and control characters are removed; line ends stay."""
    assert without_keys("a\x1b[1;5Cb\x1bOPc\x1bd\x00e\r\nf\rg\t") == "abce\nf\ng\t"


class Keyboard(io.StringIO):
    """A standard input that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


class TypedAtOnce(Keyboard):
    """A keyboard of which a select() finds all lines waiting."""

    def fileno(self) -> int:
        return self._pipe()

    def _pipe(self) -> int:
        left = self.getvalue()[self.tell() :]
        return READY if left else SILENT


READY = os.open(os.devnull, os.O_RDONLY)
SILENT = os.pipe()[0]


def test_lines_of_a_terminal_without_editor(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Lines that wait belong to the text; the end of the input ends it."""
    monkeypatch.setattr(sys, "stdin", TypedAtOnce("a\nb\n"))
    reader = TypedLines()
    assert reader.read("> ") == "a\nb"
    assert reader.read("> ") is None
    assert reader.read("> ") is None
    assert capsys.readouterr().err == "> > \n"
    monkeypatch.setattr(sys, "stdin", TypedAtOnce("last"))
    reader = TypedLines()
    assert reader.read("> ") == "last"
    assert reader.read("> ") is None


@pytest.mark.parametrize(("doc", "wanted"), [("libedit", ["a\nb"]), ("GNU", ["a", "b"])])
def test_edited_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, doc: str, wanted: List[str]
) -> None:
    """Without marks of pastes, lines that wait belong to the text."""
    bound: List[str] = []
    added: List[str] = []

    class Readline:
        __doc__ = doc
        parse_and_bind = staticmethod(bound.append)
        add_history = staticmethod(added.append)

    History().add("old")

    monkeypatch.setattr(sys, "stdin", TypedAtOnce("a\nb\n\n" if doc == "GNU" else "a\nb\n"))
    reader = EditedLines(Readline(), History())
    assert [reader.read("> ") for _ in wanted] == wanted
    assert not reader.read("> ")
    assert reader.read("> ") is None
    assert bool(bound) is (doc == "GNU")
    assert added == ["old"]
    assert History().load() == ["old", *wanted]


def test_choice_of_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line editor is used only where both ends are a terminal and Python has one."""
    monkeypatch.setattr(sys, "stdin", Keyboard())
    assert isinstance(open_reader(), TypedLines)
    monkeypatch.setattr(sys, "stdout", Keyboard())
    with monkeypatch.context() as patch:
        patch.setenv("TERM", "dumb")
        assert isinstance(open_reader(), EditedLines)
    monkeypatch.delitem(sys.modules, "vllm_client.cli._session", raising=False)
    monkeypatch.setitem(sys.modules, "prompt_toolkit", None)
    assert isinstance(open_reader(), EditedLines)
    monkeypatch.setitem(sys.modules, "readline", None)
    assert isinstance(open_reader(), TypedLines)
    assert _input._prompt_file() is sys.stdout
