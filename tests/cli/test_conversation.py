"""``vllm-client chat``: what a conversation keeps when something fails; narrow terminals."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, List

import pytest

from vllm_client.cli._commands import COMMANDS
from vllm_client.cli._history import History
from vllm_client.cli._terminal import note
from vllm_client.testing import FakeServer

from .terminal import AtTerminal
from .test_chat import PNG, bodies, chat, server

__all__ = ["chat", "server"]

PLAIN = {"modules": "readline prompt_toolkit rich"}


def sent(fake: FakeServer) -> List[Any]:
    """The contents of the messages of the last request."""
    return [message["content"] for message in bodies(fake)[-1]["messages"]]


def interrupted(program: AtTerminal, fake: FakeServer, count: int) -> None:
    """Press Ctrl-C while the server has this request."""
    fake.wait_for(count)
    program.interrupt_until("vllm-client: stopped")


def finish(program: AtTerminal, question: str, prompts: int) -> None:
    """Ask a last question at the prompt with this number."""
    program.wait_for("> ", prompts)
    program.type(f"{question}\n")
    program.wait_for("finish reason", 2)
    program.type("/exit\n")
    assert program.status() == 0


def test_ctrl_c_before_an_answer(server: FakeServer) -> None:
    """Ctrl-C before the first word of /retry leaves the old answer in the conversation."""
    with AtTerminal("chat", **PLAIN) as program:
        program.wait_for("> ")
        program.type("one\n")
        program.wait_for("> ", 2)
        server.enqueue(stall_after=0)
        program.type("/retry\n")
        interrupted(program, server, 2)
        finish(program, "two", 3)
    assert sent(server) == ["one", "fine", "two"]


def test_ctrl_c_keeps_an_image(server: FakeServer, tmp_path: Path) -> None:
    """Ctrl-C before an answer drops the question, and its images go with the next one."""
    picture = tmp_path / "picture.png"
    picture.write_bytes(PNG)
    server.enqueue(stall_after=0)
    with AtTerminal("chat", "--image", str(picture), **PLAIN) as program:
        program.wait_for("> ")
        program.type("one\n")
        interrupted(program, server, 1)
        program.wait_for("> ", 2)
        program.type("two\n")
        program.wait_for("finish reason")
        program.type("/exit\n")
        assert program.status() == 0
    (content,) = sent(server)
    assert [part["type"] for part in content] == ["image_url", "text"]
    assert content[1]["text"] == "two"


def test_ctrl_c_in_a_command(server: FakeServer) -> None:
    """Ctrl-C while a command waits for the server ends the command, not the conversation."""
    server.enqueue(stall_after=0, path="/v1/models")
    with AtTerminal("chat", **PLAIN) as program:
        program.wait_for("> ")
        program.type("one\n")
        program.wait_for("> ", 2)
        program.type("/model\n")
        interrupted(program, server, 2)
        finish(program, "two", 3)
    assert sent(server) == ["one", "fine", "two"]


def test_an_answer_of_reasoning_alone_replaces_nothing(server: FakeServer, chat: Any) -> None:
    """/retry keeps the old answer if the new one is empty."""
    server.enqueue(text="old")
    server.enqueue(reasoning="hm", text="")
    assert chat("one\n/retry\ntwo\n") == 0
    assert sent(server) == ["one", "old", "two"]


@pytest.mark.parametrize("line", ["n=2", "messages=[]", "stream=true"])
def test_fields_of_the_conversation(server: FakeServer, chat: Any, capsys: Any, line: str) -> None:
    """What a conversation decides itself cannot be set: answers would be mixed, or lost."""
    assert chat(f"/set {line}\none\n") == 1
    name = line.partition("=")[0]
    assert f"{name} cannot be set" in capsys.readouterr().err
    assert sent(server) == ["one"]
    if name != "stream":
        assert chat("one\n", "--set", line) == 1
        assert f"{name} cannot be set" in capsys.readouterr().err


def test_one_answer_may_be_asked_for(server: FakeServer, chat: Any) -> None:
    """n=1 is what a conversation has anyway."""
    assert chat("one\n", "--set", "n=1") == 0
    assert bodies(server)[0]["n"] == 1


@pytest.mark.parametrize("space", ["\t", "  ", "\v"])
def test_any_blank_ends_the_name_of_a_command(server: FakeServer, chat: Any, space: str) -> None:
    """Tabs and several blanks behind a command are no part of its name."""
    assert chat(f"/set{space}top_k=3\n/exit{space}\n") == 0
    assert chat(f"/set{space}top_k=3\none\n") == 0
    assert bodies(server)[0]["top_k"] == 3


@pytest.mark.parametrize("columns", [30, 40, 60, 80, 120])
def test_help_fits(
    server: FakeServer, chat: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """/help breaks its lines between words, whatever the width of the terminal."""
    monkeypatch.setenv("COLUMNS", str(columns))
    assert chat("/help\n") == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) < columns
    words = " ".join(out.split())
    for command in COMMANDS.values():
        assert f"{command.usage} {command.words}" in words


def test_a_saved_half_character(server: FakeServer, chat: Any, tmp_path: Path) -> None:
    """Half a character in an answer is saved as an escape: the file is whole, and valid JSON."""
    choice = {"index": 0, "delta": {"content": "\ud83d"}, "finish_reason": "stop"}
    body = f"data: {json.dumps({'choices': [choice]})}\n\ndata: [DONE]\n\n"
    server.enqueue(body=body, headers={"Content-Type": "text/event-stream"})
    saved = tmp_path / "saved"
    assert chat(f"one\n/save {saved}.json\n/save {saved}.md\n") == 0
    assert json.loads(Path(f"{saved}.json").read_text())[1]["content"] == "\ud83d"
    assert "\\ud83d" in Path(f"{saved}.md").read_text()


def test_a_spoiled_line_of_the_history() -> None:
    """A line that is no JSON costs no other line."""
    history = History()
    history.add("old")
    with history.path.open("ab") as file:
        file.write(b'"cut\n\xff\n5\n')
    history.add("new")
    assert history.load() == ["old", "new"]


def test_notes_are_harmless(server: FakeServer, chat: Any, capsys: Any) -> None:
    """What a model puts into a tool call or the server into a reason is no code for a terminal."""
    evil = {"name": "f\x1b[2J", "arguments": '{"a": "\x9b31m\u202e"}'}
    server.enqueue(tool_calls=[evil])
    assert chat("one\n") == 0
    note("\x1b]0;title\x07")
    err = capsys.readouterr().err
    assert re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", err) is None
    assert "f\\x1b[2J" in err


def test_nobody_reads_the_answers(server: FakeServer, chat: Any, monkeypatch: Any) -> None:
    """Once nobody reads the answers, no further question is asked."""

    class Gone:
        def write(self, _: str) -> int:
            raise BrokenPipeError

        isatty = staticmethod(lambda: False)
        flush = staticmethod(lambda: None)
        closed = False

    monkeypatch.setattr("sys.stdout", Gone())
    assert chat("one\ntwo\n") == 1
    assert len(server.requests) == 1


def test_prompt_of_further_lines(server: FakeServer) -> None:
    """The prompt of further lines can be shown in any encoding."""
    with AtTerminal("chat", **PLAIN, PYTHONIOENCODING="cp437") as program:
        program.wait_for("> ")
        program.type('"""\n')
        program.wait_for("... ")
        program.type('one"""\n')
        program.wait_for("finish reason")
        program.type("/exit\n")
        assert program.status() == 0
    assert sent(server) == ["one"]
