"""``vllm-client chat``: commands, history and Markdown."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import stat
import sys
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from vllm_client.cli import main
from vllm_client.cli._history import History
from vllm_client.testing import FakeServer

from .terminal import AtTerminal

PNG = b"\x89PNG\r\n\x1a\nnot much of a picture"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """An embedded server whose address is in VLLM_BASE_URL; its answers are "fine"."""
    with FakeServer(models=["tiny", "other"]) as fake:
        monkeypatch.setenv("VLLM_BASE_URL", fake.base_url)
        fake.always(text="fine")
        yield fake


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Hold a conversation whose lines come from a pipe."""

    def hold(text: str, *options: str) -> int:
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        return main(["chat", *options])

    return hold


def bodies(server: FakeServer) -> List[Any]:
    """What was asked, without requests for the list of models."""
    return [request.json for request in server.requests if request.method == "POST"]


def test_model(server: FakeServer, chat: Any, capsys: Any) -> None:
    """/model lists the models, with a mark at the one in use, and chooses another."""
    assert chat("/model\n/model other\nhello\n/model\n") == 0
    out = capsys.readouterr().out.splitlines()
    assert out == ["*\ttiny", " \tother", "fine", " \ttiny", "*\tother"]
    assert bodies(server)[0]["model"] == "other"


def test_system(server: FakeServer, chat: Any, capsys: Any, tmp_path: Path) -> None:
    """/system shows, sets and removes the system message; --system-file reads it."""
    file = tmp_path / "system.txt"
    file.write_text("From a file.\n")
    lines = "/system\na\n/system Brief.\nb\n/system -\nc\n/system\n"
    assert chat(lines, "--system-file", str(file)) == 0
    first = [body["messages"][0] for body in bodies(server)]
    assert [(each["role"], each["content"]) for each in first] == [
        ("system", "From a file."),
        ("system", "Brief."),
        ("user", "a"),
    ]
    err = capsys.readouterr().err
    assert "From a file." in err
    assert "no system message" in err


def test_set(server: FakeServer, chat: Any, capsys: Any) -> None:
    """/set sets a field for all that follows, shows the fields, and drops one."""
    lines = '/set top_k=20\n/set stop=["x"]\n/set user=me\n/set\na\n/set top_k\nb\n'
    assert chat(lines, "--set", "min_p=0.1") == 0
    first, second = bodies(server)
    assert (first["top_k"], first["stop"], first["min_p"]) == (20, ["x"], 0.1)
    assert "top_k" not in second
    shown = capsys.readouterr().out.splitlines()[:4]
    assert shown == ["min_p=0.1", "top_k=20", 'stop=["x"]', "user=me"]


def test_set_refuses_what_is_no_field(server: FakeServer, chat: Any, capsys: Any) -> None:
    """A misspelt field is refused at once, with the nearest one."""
    assert chat("/set top_kk=20\na\n") == 1
    assert "vLLM has no request field 'top_kk'; did you mean 'top_k'?" in capsys.readouterr().err
    assert "top_kk" not in bodies(server)[0]


def test_retry(server: FakeServer, chat: Any, capsys: Any) -> None:
    """/retry asks again; the new answer takes the place of the old one, unless it fails."""
    for text in ("one", "two"):
        server.enqueue(text=text)
    server.enqueue(error="no", status=400)
    assert chat("/retry\na\n/retry\n/retry\nb\n") == 1
    assert "no question to ask again" in capsys.readouterr().err
    sent = [[message["content"] for message in body["messages"]] for body in bodies(server)]
    assert sent == [["a"], ["a"], ["a"], ["a", "two", "b"]]


def test_save(server: FakeServer, chat: Any, capsys: Any, tmp_path: Path) -> None:
    """/save writes JSON or Markdown; without a name it tells how."""
    picture = tmp_path / "a b.png"
    picture.write_bytes(PNG)
    lines = f"/image '{picture}'\nlook\n/save {tmp_path}/c.json\n/save {tmp_path}/c.md\n/save\n"
    assert chat(lines, "--system", "Brief.") == 1
    messages = json.loads((tmp_path / "c.json").read_text())
    assert [message["role"] for message in messages] == ["system", "user", "assistant"]
    text = (tmp_path / "c.md").read_text()
    assert text.startswith("## system\n\nBrief.\n\n## user\n\n![image](data:image/png;base64,")
    assert text.endswith("look\n\n## assistant\n\nfine\n\n")
    err = capsys.readouterr().err
    assert "saved 3 messages" in err
    assert "write /save FILE" in err


def test_images(server: FakeServer, chat: Any, capsys: Any, tmp_path: Path) -> None:
    """An image goes with the next question only; what is no image is refused."""
    picture = tmp_path / "p.png"
    picture.write_bytes(PNG)
    (tmp_path / "no.png").write_text("no")
    lines = f"one\n/image {picture}\ntwo\n/image {tmp_path}/no.png\n/image\n/image /gone\n"
    assert chat(lines, "--image", str(picture)) == 1
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    image = {"type": "image_url", "image_url": {"url": url}}
    first, second = bodies(server)
    assert first["messages"][0]["content"] == [image, {"type": "text", "text": "one"}]
    assert second["messages"][-1]["content"] == [image, {"type": "text", "text": "two"}]
    err = capsys.readouterr().err
    for words in ("not an image", "write /image FILE", "/gone"):
        assert words in err


def test_stats(server: FakeServer, chat: Any, capsys: Any) -> None:
    """--stats prints times and speed of each answer on stderr."""
    assert chat("a\n", "--stats") == 0
    assert "tokens/s" in capsys.readouterr().err


def test_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The history survives the process; only the user can read its file."""
    history = History()
    assert history.load() == []
    history.add("one\ntwo")
    history.add("żółw")
    assert History().load() == ["one\ntwo", "żółw"]
    assert stat.S_IMODE(os.stat(history.path).st_mode) == 0o600
    history.path.write_text("no JSON\n")
    assert history.load() == []
    monkeypatch.setenv("XDG_STATE_HOME", str(history.path))
    History().add("nowhere to write")


KEEP = "prompt_toolkit is not installed"


def test_history_over_sessions(server: FakeServer) -> None:
    """The Up key brings back what was typed in an earlier session, with either editor."""
    pytest.importorskip("prompt_toolkit", reason=KEEP)
    for hidden, typed in (("prompt_toolkit", "first\n"), ("", "\x1b[A!\r"), ("", "\x1b[A?\r")):
        with AtTerminal("chat", modules=hidden) as program:
            program.wait_for_prompt()
            program.type(typed)
            program.wait_for("finish reason")
            program.wait_for_prompt(2)
            program.type("\x04")
            assert program.status() == 0
    asked = [body["messages"][-1]["content"] for body in bodies(server)]
    assert asked == ["first", "first!", "first!?"]


def test_several_lines_and_completion(server: FakeServer, tmp_path: Path) -> None:
    """Alt-Enter begins a line, a paste is one question, Tab completes commands and paths."""
    pytest.importorskip("prompt_toolkit", reason=KEEP)
    (tmp_path / "picture.png").write_bytes(PNG)
    with AtTerminal("chat", columns=200) as program:
        program.wait_for_prompt()
        program.type("one\x1b\rtwo\r")
        program.wait_for("finish reason")
        program.wait_for_prompt(2)
        program.type("\x1b[200~three\nfour\x1b[201~\r")
        program.wait_for("finish reason", 2)
        program.wait_for_prompt(3)
        program.type("/im\t")
        program.wait_for("age")
        program.type(f" {tmp_path}/pic\t")
        program.wait_for("ture.png")
        program.type("\r")
        program.wait_for("sent with the next question")
        program.wait_for_prompt(4)
        program.type("/exit\r")
        assert program.status() == 0
    assert [body["messages"][-1]["content"] for body in bodies(server)] == [
        "one\ntwo",
        "three\nfour",
    ]


def test_ctrl_keys_with_prompt_toolkit(server: FakeServer) -> None:
    """Ctrl-C discards the line, Ctrl-D behind a text does not end, arrows edit."""
    pytest.importorskip("prompt_toolkit", reason=KEEP)
    with AtTerminal("chat") as program:
        program.wait_for_prompt()
        program.type("oops")
        program.wait_for("oops")
        program.type("\x03")
        program.wait_for("Ctrl-D or /exit ends")
        program.wait_for_prompt(2)
        program.type("ello\x04\x1b[D\x1b[D\x1b[D\x1b[Dh\r")
        program.wait_for("finish reason")
        program.wait_for_prompt(3)
        program.type("\x04")
        assert program.status() == 0
    assert [body["messages"][-1]["content"] for body in bodies(server)] == ["hello"]


TEXT = """# Title

Some *words* and `code`.

- one

  more
- two

```py
a = 1

# no title
```

<b>kept</b> [link](http://x.y) \x1b[2J"""


@pytest.mark.parametrize("columns", [80, 40])
def test_markdown(server: FakeServer, columns: int) -> None:
    """On a terminal Markdown is rendered; nothing of the text is lost, no escape is executed."""
    pytest.importorskip("rich")
    server.always(text=TEXT)
    with AtTerminal("chat", columns=columns) as program:
        program.wait_for_prompt()
        program.type("go\r")
        program.wait_for("finish reason")
        program.wait_for_prompt(2)
        program.type("\x04")
        assert program.status() == 0
    text = program.text
    assert "*words*" not in text
    assert "```" not in text.rpartition("Title")[2]
    for words in ("Title", "words", "• one", "more", "• two", "a = 1", "# no title"):
        assert words in text
    for words in ("<b>kept</b>", "http://x.y", "\\x1b[2J"):
        assert words in text
    assert b"\x1b[2J" not in program.shown


@pytest.mark.parametrize(
    "env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"PYTHONIOENCODING": "cp1252"}]
)
def test_no_markdown(server: FakeServer, env: Any) -> None:
    """With NO_COLOR, on a dumb terminal and in a narrow encoding the text is printed as it is."""
    server.always(text="**bold** snowman ☃")
    with AtTerminal("chat", modules="prompt_toolkit", **env) as program:
        program.wait_for("> ")
        program.type("go\n")
        program.wait_for("finish reason")
        program.wait_for("> ", 2)
        program.type("\x04")
        assert program.status() == 0
    assert "**bold** snowman" in program.text
    assert b"\x1b[1m" not in program.shown


class Screen(io.TextIOWrapper):
    """A terminal with an encoding."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode()  # type: ignore[attr-defined]


@pytest.mark.parametrize("pause", [0.0, 1e9])
@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\n```py\nunfinished", "\n~~~\n```\n~~~\nx"])
def test_markdown_in_pieces(
    server: FakeServer, chat: Any, monkeypatch: pytest.MonkeyPatch, end: str, pause: float
) -> None:
    """Blocks are drawn while they grow; what is left at the end is printed."""
    pytest.importorskip("rich")
    from vllm_client.cli import _markdown  # noqa: PLC0415 — it needs the extra

    monkeypatch.setattr(_markdown, "_PAUSE", pause)
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    server.always(text=f"\n\n{TEXT}{end}")
    assert chat("a\n") == 0
    shown = re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", screen.text())
    assert "• one" in shown
    assert "\\x1b[2J" in shown
    assert screen.text().endswith("\n")
    assert ("\x1b[J" in screen.text()) is (pause == 0)


def test_empty_markdown(server: FakeServer, chat: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer of line ends alone draws nothing."""
    pytest.importorskip("rich")
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    server.always(text="\n\n")
    assert chat("a\n") == 0
    assert screen.text() == ""


def test_markdown_is_optional(
    server: FakeServer, chat: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--plain prints Markdown as it is, and so does a terminal without rich."""
    for options, module in (["--plain"], ""), ([], "rich.console"):
        screen = Screen()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", screen)
            if module:
                patch.delitem(sys.modules, "vllm_client.cli._markdown", raising=False)
                patch.setitem(sys.modules, module, None)
            server.always(text="**bold**")
            assert chat("a\n", *options) == 0
        assert screen.text() == "**bold**\n"


def test_session_in_this_process(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader with prompt_toolkit sends on Enter, remembers, and ends at Ctrl-D."""
    pytest.importorskip("prompt_toolkit", reason=KEEP)
    from prompt_toolkit.application import create_app_session  # noqa: PLC0415
    from prompt_toolkit.input import create_pipe_input  # noqa: PLC0415
    from prompt_toolkit.output import DummyOutput  # noqa: PLC0415

    from vllm_client.cli._input import open_reader  # noqa: PLC0415

    class Keyboard(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Keyboard())
    monkeypatch.setattr(sys, "stdout", Screen())
    History().add("old")
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        reader = open_reader(["exit", "image"])
        keys.send_text("a\x1b\rb\r")
        assert reader.read("> ") == "a\nb"
        keys.send_text("\x04")
        assert reader.read("> ") is None
    assert History().load() == ["old", "a\nb"]


def test_completion(tmp_path: Path) -> None:
    """Tab completes commands behind a slash, and paths behind commands that take one."""
    pytest.importorskip("prompt_toolkit", reason=KEEP)
    from prompt_toolkit.completion import CompleteEvent  # noqa: PLC0415
    from prompt_toolkit.document import Document  # noqa: PLC0415

    from vllm_client.cli._session import _Commands  # noqa: PLC0415

    (tmp_path / "picture.png").write_bytes(PNG)
    commands = _Commands(["exit", "image", "help"])

    def offered(typed: str) -> List[str]:
        found = commands.get_completions(Document(typed, len(typed)), CompleteEvent())
        return [each.text for each in found]

    assert offered("/i") == ["/image"]
    assert offered(f"/image {tmp_path}/pi") == ["cture.png"]
    assert offered("hello /i") == []
