"""show(): what is drawn while streams arrive, what is returned, and what is raised."""

from __future__ import annotations

import io
import json
import sys
import threading
from typing import Any, Iterator, List

import pytest

from vllm_client import (
    Reasoning,
    StreamConsumedError,
    StreamInterruptedError,
    ToolCall,
    VllmClient,
)
from vllm_client.display import show
from vllm_client.display._answers import LiveAnswer, Piece, Shown
from vllm_client.display._cards import indented, markdown_html, reasoning_title
from vllm_client.display._reading import Frame, Reading
from vllm_client.display._screens import PlainScreen, terminal_screen
from vllm_client.testing import FakeServer

from ..recorded import HELLO, WHOLE, beginning, capture, chunk, delta, rest, stream_bytes
from ..threads import WAIT, Running
from .pages import Page, check_harmless

CALL = {"index": 0, "id": "c1", "function": {"name": "weather", "arguments": '{"city": '}}
MORE = {"index": 0, "function": {"arguments": '"Oslo"}'}}
CHAT = (
    delta(reasoning="Hm, let me "),
    delta(reasoning="think"),
    delta(content="It is <b>cold</b>"),
    delta(tool_calls=[CALL]),
    delta(tool_calls=[MORE]),
    delta(finish="tool_calls"),
    "[DONE]",
)


class Terminal(io.StringIO):
    """A file that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def fake() -> Iterator[Any]:
    with FakeServer() as server, VllmClient(server.base_url) as client:
        server.connected = client
        yield server


def test_the_answer_is_returned(serve: Any, capsys: Any) -> None:
    """show() prints the text and the figures, and returns what collect() returns."""
    client = serve(stream_bytes(*WHOLE)).client
    answer = show(client.completions.stream(prompt="x"))
    assert answer == client.completions.stream(prompt="x").collect()
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "Hello"
    assert printed[1].startswith("[stop · 2 tokens · ")
    assert " tok/s · TTFT 0." in printed[1]
    assert len(printed) == 2


def test_thinking_is_folded_and_calls_are_shown(serve: Any, capsys: Any) -> None:
    """Without a notebook reasoning is one line, and a tool call is another."""
    show(serve(stream_bytes(*CHAT)).client.chat.completions.stream(messages=HELLO))
    printed = capsys.readouterr().out.splitlines()
    assert printed[:3] == [
        "(4 words of thinking)",
        "It is <b>cold</b>",
        'weather({"city": "Oslo"})',
    ]
    assert printed[3].startswith("[tool_calls · 6 chunks · ")


def test_text_is_shown_while_it_arrives(serve: Any, monkeypatch: Any) -> None:
    """Text is on the screen before the stream has ended."""
    printed, seen = Terminal(), threading.Event()
    write = printed.write
    monkeypatch.setitem(sys.modules, "rich", None)
    printed.write = lambda text: (write(text), seen.set())[0]  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdout", printed)

    def handler(connection: Any) -> None:
        connection.receive()
        connection.send(beginning(*WHOLE[:1]))
        assert seen.wait(WAIT)
        connection.send(rest(*WHOLE[1:]))
        connection.receive()

    show(serve(handler=handler).client.completions.stream(prompt="x"))
    assert printed.getvalue().startswith("Hello\n[stop")


def test_a_cut_stream_raises_after_what_came(serve: Any, capsys: Any) -> None:
    """A truncated answer is shown, with the reason, and raises with ``partial``."""
    client = serve(stream_bytes(chunk("Hel"))).client
    for on_error in ("raise", "event"):
        with pytest.raises(StreamInterruptedError) as caught:
            show(client.completions.stream(prompt="x", on_error=on_error))
        assert caught.value.partial.text == "Hel"
        printed = capsys.readouterr().out
        assert printed.startswith("Hel\n! the stream ended without [DONE]")


def test_several_streams_side_by_side(fake: Any, capsys: Any) -> None:
    """Several streams are read at the same time; their answers come in order."""
    client = fake.connected
    for text in ("one", "two"):
        fake.enqueue(text=text)
    streams = [client.completions.stream(prompt="x") for _ in range(2)]
    assert [answer.text for answer in show(streams)] == ["one", "two"]
    lines = capsys.readouterr().out.splitlines()
    assert [lines[n] for n in (0, 1, 3, 4)] == ["--- 1 ---", "one", "--- 2 ---", "two"]
    assert show([]) == []


def test_one_of_several_fails(fake: Any, capsys: Any) -> None:
    """A stream that fails does not stop the others; its error is raised at the end."""
    client = fake.connected
    fake.enqueue(text="one two three", cut_after=1)
    fake.enqueue(text="whole")
    streams = [client.completions.stream(prompt="x") for _ in range(2)]
    with pytest.raises(StreamInterruptedError) as caught:
        show(streams, titles=["cut", "good"])
    assert caught.value.partial is not None
    assert "--- good ---\nwhole\n[stop" in capsys.readouterr().out
    assert streams[1].collect().text == "whole"


def test_an_interrupt_keeps_what_came(serve: Any, capsys: Any, monkeypatch: Any) -> None:
    """Ctrl-C closes the connection, leaves the text on the screen and carries it."""
    closed = threading.Event()

    def handler(connection: Any) -> None:
        connection.receive()
        connection.send(beginning(*WHOLE[:1]))
        assert connection.receive() is None
        closed.set()

    def draw(self: PlainScreen, frames: Any) -> float:
        pause = plain(self, frames)
        if any(frame.choices for frame in frames) and not frames[0].ended:
            raise KeyboardInterrupt
        return pause

    plain = PlainScreen.draw
    monkeypatch.setattr(PlainScreen, "draw", draw)
    client = serve(handler=handler).client
    for count in (1, 2):
        streams = [client.completions.stream(prompt="x") for _ in range(count)]
        with pytest.raises(KeyboardInterrupt) as caught:
            show(streams[0] if count == 1 else streams)
        partial = vars(caught.value)["partial"]
        assert closed.wait(WAIT)
        assert "stopped: this is what had arrived" in capsys.readouterr().out
        first = partial if count == 1 else partial[0]
        assert first.text in ("Hel", "")
    assert len(partial) == 2


def test_several_choices_of_plain_text(serve: Any, capsys: Any) -> None:
    """Choices are printed one after the other, however they arrive."""
    whole = [
        chunk("b", index=1),
        chunk("a"),
        chunk("A", finish="stop"),
        chunk("B", index=1, finish="length"),
        "[DONE]",
    ]
    show(serve(stream_bytes(*whole)).client.completions.stream(prompt="x", n=2))
    assert capsys.readouterr().out.startswith("aA\n--- choice 1 ---\nbB\n[4 chunks")


def test_what_is_no_stream() -> None:
    """Anything but open streams is refused before something is read."""
    with pytest.raises(TypeError, match="not str"):
        show("text")  # type: ignore[call-overload]


def test_titles_and_streams_fit(fake: Any) -> None:
    """Titles that do not fit, and a stream that is there twice, are refused."""
    with fake.connected.completions.stream(prompt="x") as stream:
        with pytest.raises(ValueError, match="2 titles for 1 streams"):
            show([stream], titles=["a", "b"])
        with pytest.raises(ValueError, match="same stream twice"):
            show([stream, stream])


def test_every_kind_of_stream(fake: Any, serve: Any, capsys: Any) -> None:
    """Responses, token ids and raw server-sent events are shown too."""
    client = fake.connected
    fake.enqueue(text="an answer", reasoning="well", tool_calls=[{"name": "f", "arguments": "{}"}])
    assert show(client.responses.stream(input="x")).text == "an answer"
    printed = capsys.readouterr().out
    assert "(1 word of thinking)\nan answer\nf({})\n[completed" in printed
    events = client.request(
        "POST", "completions", json={"prompt": "x", "stream": True}, stream=True
    )
    assert show(events)[-1].data == "[DONE]"
    assert "\n[DONE]\n[" in capsys.readouterr().out
    assert show(client.generate.stream(token_ids=[1], max_tokens=3)).finish_reason
    assert capsys.readouterr().out.startswith("[")


def test_a_fault_of_the_program_is_raised(serve: Any, capsys: Any, monkeypatch: Any) -> None:
    """An error that is none of the client's comes out of show() as it is."""

    def add(self: LiveAnswer, event: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(LiveAnswer, "add", add)
    with pytest.raises(MemoryError):
        show(serve(stream_bytes(*WHOLE)).client.completions.stream(prompt="x"))
    assert "! MemoryError()" in capsys.readouterr().out


@pytest.fixture
def terminal(monkeypatch: Any) -> Terminal:
    file = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "10")
    return file


def test_a_terminal_without_rich(serve: Any, terminal: Terminal, monkeypatch: Any) -> None:
    """Without rich a terminal gets plain text, with control characters made visible."""
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert isinstance(terminal_screen(terminal, markdown=True), PlainScreen)
    body = stream_bytes(chunk("\x1b[31mred"), chunk(finish="stop"), "[DONE]")
    show(serve(body).client.completions.stream(prompt="x"))
    assert terminal.getvalue().startswith("\\x1b[31mred\n[stop")


def test_rich_draws(serve: Any, terminal: Terminal, monkeypatch: Any) -> None:
    """With rich: Markdown, folded reasoning, a call in a box, and no escapes of the model."""
    pytest.importorskip("rich")
    monkeypatch.setattr(sys, "stdout", terminal)
    events = [*CHAT[:2], delta(content="**bold**\n\n" + "- \x1b[31mline\n" * 30), *CHAT[3:]]
    client = serve(stream_bytes(*events)).client
    for markdown in (True, False):
        show(client.chat.completions.stream(messages=HELLO), markdown=markdown)
    printed = terminal.getvalue()
    assert "\x1b[1mbold" in printed
    assert "**bold**" in printed
    assert "Thinking: 4 words" in printed
    assert '"city": "Oslo"' in printed
    assert "─ weather ─" in printed
    assert "\\x1b[31mline" in printed
    assert "\x1b[31mline" not in printed


@pytest.mark.parametrize("columns", ["80", "40"])
def test_rich_draws_side_by_side(
    fake: Any, terminal: Terminal, monkeypatch: Any, columns: str
) -> None:
    """Several answers stand in boxes beside each other, or below each other if it is narrow."""
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(sys, "stdout", terminal)
    fake.enqueue(text="one", cut_after=2)
    client = fake.connected
    streams = [client.completions.stream(prompt="x", n=n, max_tokens=5) for n in (1, 2)]
    with pytest.raises(StreamInterruptedError):
        show(streams, titles=["left", "right"])
    last = terminal.getvalue().rpartition("left")[2]
    assert ("right" in last.splitlines()[0]) is (columns == "80")
    assert "choice 1" in last
    assert "! the" in last


class Notebook:
    """The outputs of a notebook cell, as IPython publishes them."""

    def __init__(self) -> None:
        self.published: List[Any] = []

    def html(self) -> str:
        html: str = self.published[-1]["data"]["text/html"]
        return html


@pytest.fixture
def notebook(monkeypatch: Any, tmp_path: Any) -> Iterator[Notebook]:
    """An IPython shell of the kind that a notebook has, whose outputs are kept."""
    pytest.importorskip("IPython")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    from IPython.core.displaypub import CapturingDisplayPublisher  # noqa: PLC0415 — an extra
    from IPython.core.interactiveshell import InteractiveShell  # noqa: PLC0415
    from traitlets.config import Config  # noqa: PLC0415

    class Shell(InteractiveShell):
        kernel = None
        """What a shell in a notebook has, and one in a terminal has not."""

    kept = Notebook()
    shell = Shell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    shell.display_pub = CapturingDisplayPublisher()
    kept.published = shell.display_pub.outputs
    yield kept
    Shell.clear_instance()


def test_a_notebook_gets_html(serve: Any, notebook: Notebook, capsys: Any) -> None:
    """One output is updated in place: thinking folded, the call a card, the words escaped."""
    show(serve(stream_bytes(*CHAT)).client.chat.completions.stream(messages=HELLO))
    page = check_harmless(notebook.html())
    assert [tag for tag, _ in page.elements].count("details") == 1
    assert "open" not in dict(page.elements)["details"]
    for text in ("Thinking: 4 words", "Hm, let me think", "It is <b>cold</b>", "weather"):
        assert text in page.texts
    call = next(text for (tag, _), text in zip(page.elements, page.texts) if tag == "pre")
    assert json.loads(call) == {"city": "Oslo"}
    assert page.texts[-1].startswith("tool_calls · 6 chunks")
    ids = {output["transient"]["display_id"] for output in notebook.published}
    assert len(ids) == 1
    assert [output["update"] for output in notebook.published][:2] in ([False], [False, True])
    plain = notebook.published[-1]["data"]["text/plain"]
    assert plain.startswith("It is <b>cold</b>\ntool_calls")
    assert capsys.readouterr().out == ""


def test_a_notebook_shows_what_came(serve: Any, notebook: Notebook) -> None:
    """A truncated answer stays in the output, with the reason; so do several choices."""
    with pytest.raises(StreamInterruptedError):
        show(
            serve(
                stream_bytes(chunk("Hel"), chunk("x", index=1, finish="stop"))
            ).client.completions.stream(prompt="x", n=2)
        )
    page = check_harmless(notebook.html())
    assert {"Hel", "choice 0", "choice 1 · stop"} <= set(page.texts)
    alert = next(n for n, (_, at) in enumerate(page.elements) if at.get("role") == "alert")
    assert page.texts[alert].startswith("the stream ended without [DONE]")


def test_markdown_in_a_notebook(serve: Any, notebook: Notebook) -> None:
    """Markdown is rendered; HTML in it is shown, and pictures and scripts are not loaded."""
    pytest.importorskip("markdown_it")
    text = "**b** <img src=x> ![p](http://evil.test/p.png) [x](javascript:alert(1)) `c`\u202e"
    body = stream_bytes(chunk(text), chunk(finish="stop"), "[DONE]")
    show(serve(body).client.completions.stream(prompt="x"), markdown=True)
    page = Page(notebook.html())
    tags = [tag for tag, _ in page.elements]
    assert {"strong", "code"} <= set(tags)
    assert not {"img", "script"} & set(tags)
    (link,) = [attributes for tag, attributes in page.elements if tag == "a"]
    assert link["href"] == "http://evil.test/p.png"
    assert "color:inherit" in link["style"]
    assert "\u202e" not in notebook.html()


def test_markdown_needs_its_extra(serve: Any, notebook: Notebook, monkeypatch: Any) -> None:
    """Without markdown-it-py, markdown=True names the extra, before anything is read."""
    markdown_html.cache_clear()
    monkeypatch.setitem(sys.modules, "markdown_it", None)
    served = serve(stream_bytes(*WHOLE))
    with served.client.completions.stream(prompt="x") as stream:
        with pytest.raises(ImportError, match=r"vllm-sync-client\[notebook\]"):
            show(stream, markdown=True)
        assert stream.collect().text == "Hello"


def test_outputs_are_limited(serve: Any, notebook: Notebook) -> None:
    """However many chunks arrive at once, they make few outputs."""
    body = stream_bytes(*(chunk("x") for _ in range(2000)), chunk(finish="stop"), "[DONE]")
    answer = show(serve(body).client.completions.stream(prompt="x"))
    assert len(answer.text) == 2000
    assert "x" * 2000 in Page(notebook.html()).texts
    assert len(notebook.published) < 200


def test_reasoning_that_arrives_shows_its_end() -> None:
    """While reasoning arrives, its title has the last words; later only its length."""
    live = LiveAnswer()
    live.add(Reasoning("one two " * 40))
    live.add(ToolCall("c", "f", "{}"))  # Its pieces have been added before.
    shown = live.choices()[0]
    assert reasoning_title(shown.pieces[0], shown).startswith("Thinking: 80 words … ")
    assert reasoning_title(shown.pieces[0], shown).endswith("one two")
    assert indented('{"a": ') == '{"a": '


def test_running_streams_show_that_they_run(serve: Any) -> None:
    """The figures of a stream that has not ended end in an ellipsis."""
    release = threading.Event()

    def handler(connection: Any) -> None:
        connection.receive()
        connection.send(beginning(*WHOLE[:1]))
        assert release.wait(WAIT)
        connection.send(rest(*WHOLE[1:]))
        connection.receive()

    stream = serve(handler=handler).client.completions.stream(prompt="x")
    news = threading.Event()
    reading = Reading(stream, "", news, threading.Semaphore(0))
    assert reading.frame().figures.startswith("0 chunks")
    reading.start()
    assert news.wait(WAIT)
    frame = reading.frame()
    assert (frame.ended, frame.fault) == (False, None)
    assert frame.figures.endswith(" s …")
    stopping = Running(reading.stop)
    stopping.result()
    release.set()
    assert reading.frame().fault == "stopped: this is what had arrived"


def test_captured_tool_calls(serve: Any, capsys: Any) -> None:
    """The calls of a real server's stream are shown whole."""
    request, body = capture("chat_tools_required_stream")
    fields = {key: value for key, value in request["body"].items() if key != "stream"}
    answer = show(serve(body).client.chat.completions.stream(**fields))
    call = answer.tool_calls[0]
    assert f"{call.name}({call.arguments})\n" in capsys.readouterr().out


def test_plain_text_only_grows() -> None:
    """A later choice waits for the first, and reasoning for its end."""
    file = io.StringIO()
    screen = PlainScreen(file)
    later, thinking = Shown(1, [Piece("text", "b")], None), [Piece("reasoning", "hm")]
    screen.draw([Frame("", [later], "", False, None)])
    screen.draw([Frame("", [Shown(0, thinking, None), later], "", False, None)])
    assert file.getvalue() == ""
    whole = Shown(0, [*thinking, Piece("text", "a")], None)
    screen.close([Frame("", [whole, later], "1 s", True, None)])
    assert file.getvalue() == "(1 word of thinking)\na\n--- choice 1 ---\nb\n[1 s]\n"


def test_rich_draws_again(terminal: Terminal) -> None:
    """A drawing replaces the one before, and leaves no more lines than the terminal has."""
    pytest.importorskip("rich")
    screen = terminal_screen(terminal, markdown=False)
    for count in (20, 30):
        lines = "\n".join(f"line {number}" for number in range(count))
        screen.draw([Frame("", [Shown(0, [Piece("text", lines)], None)], "1 s", False, None)])
    assert "line 19" in terminal.getvalue()
    assert "line 29" in terminal.getvalue()
    assert "line 3\n" not in terminal.getvalue()
    screen.close([])


def test_a_stream_that_nobody_reads_is_closed(serve: Any) -> None:
    """An interrupt that comes before a stream is read closes it too."""
    stream = serve(stream_bytes(*WHOLE)).client.completions.stream(prompt="x")
    Reading(stream, "", threading.Event(), threading.Semaphore(0)).stop()
    with pytest.raises(StreamConsumedError):
        stream.collect()
