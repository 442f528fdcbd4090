"""show(): what is drawn while streams arrive, what is returned, and what is raised."""

from __future__ import annotations

import io
import json
import signal
import sys
import threading
from typing import Any, Callable, Dict, Iterator, List

import pytest
from attrs import evolve

from vllm_client import (
    Content,
    FinishReason,
    Reasoning,
    StreamConsumedError,
    StreamInterruptedError,
    ToolCall,
    ToolCallDelta,
    VllmClient,
)
from vllm_client.display import show
from vllm_client.display._answers import LiveAnswer, Piece, Shown
from vllm_client.display._cards import cards, indented, markdown_html, reasoning_title
from vllm_client.display._reading import Frame, Reading
from vllm_client.display._screens import PlainScreen, terminal_screen
from vllm_client.display.showing import pause_after
from vllm_client.testing import FakeServer

from ..recorded import HELLO, WHOLE, beginning, capture, chunk, delta, middle, rest, stream_bytes
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


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_an_interrupt_in_a_notebook(serve: Any, notebook: Notebook, capsys: Any) -> None:
    """The traceback of an interrupt has the cell alone, and tells where the text is."""

    def handler(connection: Any) -> None:
        connection.receive()
        connection.send(beginning(*WHOLE[:1]))
        assert drawn.wait(WAIT)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        assert connection.receive() is None

    drawn = threading.Event()
    notebook.call_at("Hel", drawn.set)
    stream = serve(handler=handler).client.completions.stream(prompt="x")
    notebook.shell.push({"show": show, "stream": stream})
    notebook.shell.run_cell("show(stream)")
    printed = capsys.readouterr().out
    assert "KeyboardInterrupt" in printed
    assert "showing.py" not in printed
    assert "What had arrived is in sys.last_value.partial." in printed
    assert "stopped: this is what had arrived" in notebook.html()


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
    words = "**bold** <i>kept</i> &#x202e;\n\n" + "- \x1b[31mline\n" * 30
    events = [*CHAT[:2], delta(content=words), *CHAT[3:]]
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
    assert printed.count("<i>kept</i>") >= 2
    assert "\u202e" not in printed


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


class Notebook(List[Any]):
    """The outputs of a notebook cell, as IPython publishes them."""

    def __init__(self) -> None:
        super().__init__()
        self.shell: Any = None
        self._actions: List[Any] = []

    def call_at(self, text: str, action: Callable[[], Any]) -> None:
        """Call this whenever HTML with this text is published."""
        self._actions.append((text, action))

    def append(self, output: Any) -> None:
        """Keep an output; IPython calls it."""
        super().append(output)
        for text, action in self._actions:
            if text in output["data"].get("text/html", ""):
                action()

    def outputs(self) -> Dict[str, str]:
        """What each output shows at last, by its id."""
        return {output["transient"]["display_id"]: output["data"]["text/html"] for output in self}

    def html(self) -> str:
        html: str = self[-1]["data"]["text/html"]
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
    shell.display_pub.outputs, kept.shell = kept, shell
    yield kept
    Shell.clear_instance()


def test_a_notebook_gets_html(serve: Any, notebook: Notebook, capsys: Any) -> None:
    """Outputs are updated in place: thinking folded, the call a card, the words escaped."""
    show(serve(stream_bytes(*CHAT)).client.chat.completions.stream(messages=HELLO))
    first, last = (check_harmless(html) for html in notebook.outputs().values())
    assert [tag for tag, _ in first.elements].count("details") == 1
    assert "open" not in dict(first.elements)["details"]
    assert "display:list-item" in dict(first.elements)["summary"]["style"]  # Shows its triangle.
    assert {"Thinking: 4 words", "Hm, let me think"} <= set(first.texts)
    assert {"It is <b>cold</b>", "weather"} <= set(last.texts)
    call = next(text for (tag, _), text in zip(last.elements, last.texts) if tag == "pre")
    assert json.loads(call) == {"city": "Oslo"}
    assert last.texts[-1].startswith("tool_calls · 6 chunks")
    plain = notebook[-1]["data"]["text/plain"]
    assert plain.startswith('It is <b>cold</b>\nweather({"city": "Oslo"})\n[tool_calls')
    assert capsys.readouterr().out == ""


def test_thinking_that_was_opened_stays_open(serve: Any, notebook: Notebook) -> None:
    """When thinking is over its output is not replaced any more, however much text arrives."""
    drawn: List[threading.Event] = [threading.Event() for _ in range(3)]
    texts = ["Hm, let me ", "Hello", "world"]
    for text, event in zip(texts, drawn):
        notebook.call_at(text, event.set)

    def handler(connection: Any) -> None:
        connection.receive()
        connection.send(beginning(delta(reasoning=texts[0])))
        assert drawn[0].wait(WAIT)
        connection.send(middle(delta(reasoning="think"), delta(content=texts[1])))
        assert drawn[1].wait(WAIT)
        connection.send(middle(delta(content=texts[2])))
        assert drawn[2].wait(WAIT)
        connection.send(rest(delta(finish="stop"), "[DONE]"))
        connection.receive()

    show(serve(handler=handler).client.chat.completions.stream(messages=HELLO))
    first, last = notebook.outputs()
    ids = [output["transient"]["display_id"] for output in notebook]
    assert "<details" in notebook.outputs()[first]
    assert "<details" not in notebook[0]["data"]["text/html"]
    assert ids.index(last) > max(at for at, each in enumerate(ids) if each == first)


def test_thinking_of_several_answers_can_be_opened_at_the_end() -> None:
    """Nothing that is going to be replaced can be opened; its last words are there all the same."""
    thinking = [Piece("reasoning", f"{'so ' * 300}the end", is_growing=True)]
    over = [Piece("reasoning", "one two"), Piece("text", "Hello", is_growing=True)]
    frames = [Frame("a", [Shown(0, each, None)], "1 s", False, None) for each in (thinking, over)]
    live = check_harmless(cards(frames, markdown=False, is_last=False))
    assert "details" not in dict(live.elements)
    assert {"Thinking: 302 words …", "Thinking: 2 words", "Hello"} <= set(live.texts)
    last_words = next(text for text in live.texts if text.endswith("the end"))
    assert last_words.startswith("… ")
    assert len(last_words) < 700
    whole = check_harmless(cards(frames, markdown=False, is_last=True))
    assert [tag for tag, _ in whole.elements].count("details") == 2
    assert f"{'so ' * 300}the end" in whole.texts


def test_a_notebook_tells_how_to_stop(serve: Any, notebook: Notebook) -> None:
    """A hint stands below answers that still arrive, and goes with their end."""
    show(serve(stream_bytes(*WHOLE)).client.completions.stream(prompt="x"))
    running = Frame("", [], "0 chunks", False, None)
    assert "interrupt the kernel" in cards([running], markdown=False, is_last=False)
    assert "interrupt the kernel" not in notebook.html()


def test_nothing_to_show_makes_no_output(notebook: Notebook) -> None:
    """An empty list of streams leaves no empty output."""
    assert show([]) == []
    assert notebook == []


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
    text = (
        "**b** <img src=x> ![p](http://evil.test/p.png) [x](javascript:alert(1)) `c`\u202e&#x202e;"
    )
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
    assert notebook.html().count("‹U+202E›") == 2


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
    assert len(notebook) < 200


def test_reasoning_that_arrives_shows_its_end() -> None:
    """While reasoning arrives, its title has the last words; later only its length."""
    live = LiveAnswer()
    live.add(Reasoning("one two " * 40))
    live.add(ToolCall("c", "f", "{}"))  # Its pieces have been added before.
    title = reasoning_title(live.choices()[0].pieces[0])
    assert title.startswith("Thinking: 80 words … ")
    assert title.endswith("one two")
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
    later, thinking = Shown(1, [Piece("text", "b")], None), Piece("reasoning", "hm")
    screen.draw([Frame("", [later], "", False, None)])
    growing = Shown(0, [evolve(thinking, is_growing=True)], None)
    screen.draw([Frame("", [growing, later], "", False, None)])
    assert file.getvalue() == ""
    whole = Shown(0, [thinking, Piece("text", "a")], None)
    screen.close([Frame("", [whole, later], "1 s", True, None)])
    assert file.getvalue() == "(1 word of thinking)\na\n--- choice 1 ---\nb\n[1 s]\n"


def test_calls_that_arrive_in_turns(capsys: Any) -> None:
    """The pieces of two calls may alternate; each call is printed once, whole."""
    live, screen = LiveAnswer(), PlainScreen(sys.stdout)
    for event in (
        Content("Well"),
        ToolCallDelta(0, "a", "first", '{"x"'),
        ToolCallDelta(1, "b", "second", "{"),
        ToolCallDelta(0, arguments=": 1}"),
        ToolCallDelta(1, arguments="}"),
        FinishReason("tool_calls"),
    ):
        live.add(event)
        screen.draw([Frame("", live.choices(), "", False, None)])
    screen.close([Frame("", live.choices(), "1 s", True, None)])
    assert capsys.readouterr().out == 'Well\nfirst({"x": 1})\nsecond({})\n[tool_calls · 1 s]\n'


def test_tokens_without_text_do_not_divide_thinking() -> None:
    """A token that is no whole character, or was said as another kind, begins no new piece."""
    live = LiveAnswer()
    for event in (Reasoning("a"), Content(""), Reasoning("b"), Content("c")):
        live.add(event)
    pieces = live.choices()[0].pieces
    assert [(piece.kind, piece.text) for piece in pieces] == [("reasoning", "ab"), ("text", "c")]


def test_a_stream_that_was_read_before(fake: Any, capsys: Any) -> None:
    """What somebody read of a stream before show() is shown too; so is all of it, shown again."""
    client = fake.connected
    calls = [{"name": "f", "arguments": '{"a": 1}'}]
    fake.enqueue(text="one two three", reasoning="well now", tool_calls=calls)
    for stream in (
        client.chat.completions.stream(messages=HELLO),
        client.completions.stream(prompt="x", max_tokens=5),
        client.responses.stream(input="x", max_output_tokens=5),
        client.request("POST", "completions", json={"prompt": "x", "stream": True}, stream=True),
    ):
        with stream:
            next(event for event in stream if getattr(event, "text", True))
            answer = show(stream)
            first = capsys.readouterr().out
            assert show(stream) == answer
            assert capsys.readouterr().out == first
        text = "\n".join(e.data for e in answer) if isinstance(answer, list) else answer.text
        assert text
        assert text in first
        if getattr(answer, "tool_calls", ()):
            assert first.startswith('(2 words of thinking)\none two three\nf({"a": 1})\n[')


def test_only_one_of_two_choices_finished(serve: Any, capsys: Any) -> None:
    """The finish reason of one choice does not stand for an answer that broke off."""
    body = stream_bytes(chunk("a", finish="stop"), chunk("b", index=1))
    with pytest.raises(StreamInterruptedError):
        show(serve(body).client.completions.stream(prompt="x", n=2))
    assert "\n[2 chunks · " in capsys.readouterr().out


def test_counts_of_one(serve: Any, capsys: Any) -> None:
    """One chunk is no "1 chunks"."""
    body = stream_bytes(chunk("a", finish="stop"), "[DONE]")
    show(serve(body).client.completions.stream(prompt="x"))
    assert "[stop · 1 chunk · " in capsys.readouterr().out


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_an_encoding_lacks(serve: Any, monkeypatch: Any, is_terminal: bool) -> None:
    """Where stdout cannot have a character, its escape is printed, and nothing is lost."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    monkeypatch.setattr(file, "isatty", lambda: is_terminal, raising=False)
    monkeypatch.setitem(sys.modules, "rich", None)
    body = stream_bytes(chunk("caf\xe9 \ud83d!"), chunk(finish="stop"), "[DONE]")
    monkeypatch.setattr(sys, "stdout", file)
    answer = show(serve(body).client.completions.stream(prompt="x"))
    assert answer.text == "caf\xe9 \ud83d!"
    file.flush()
    assert raw.getvalue().startswith(b"caf\\xe9 \\ud83d!\n[stop \\xb7 ")


def test_an_emoji_of_several_characters(serve: Any, terminal: Terminal, monkeypatch: Any) -> None:
    """A joiner that comes at the end of a drawing still joins."""
    screen = PlainScreen(terminal)
    for text in ("\U0001f469\u200d", "\U0001f469\u200d\U0001f469"):
        screen.draw([Frame("", [Shown(0, [Piece("text", text)], None)], "1 s", False, None)])
    assert terminal.getvalue() == "\U0001f469\u200d\U0001f469"


def test_half_a_character_in_a_notebook(serve: Any, notebook: Notebook) -> None:
    """A lone surrogate, which no notebook can save, is shown as a replacement character."""
    body = stream_bytes(chunk("a\ud83db"), chunk(finish="stop"), "[DONE]")
    client = serve(body).client
    for markdown in (False, True):
        show(client.completions.stream(prompt="x"), markdown=markdown)
        assert "a\ufffdb" in notebook.html()
        assert json.dumps(notebook[-1]["data"], ensure_ascii=False).encode()


def test_large_drawings_are_few() -> None:
    """However long a drawing takes, drawing takes a small share of the time."""
    assert pause_after(0.001, 0.0) == 0.05
    assert pause_after(0.001, 2.0) == 2.0
    assert pause_after(3.0, 2.0) == 15.0


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
