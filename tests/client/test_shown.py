"""How objects show themselves: repr, and what IPython and rich print."""

from __future__ import annotations

import io
import json
import pickle
import re
from typing import Any, Callable, List

import pytest

from vllm_client import (
    AsyncStream,
    BatchReport,
    BatchRow,
    ChatCompletion,
    Completion,
    Content,
    Done,
    Error,
    Generation,
    Response,
    StreamInterruptedError,
    Text,
    Timings,
    TokenLogprob,
    Transcription,
    Usage,
    VllmError,
)
from vllm_client._shown import Brief, figure
from vllm_client.types import (
    ChatCompletionMessage,
    Embedding,
    EmbeddingResponse,
    Model,
    PoolingOutput,
    RerankResponse,
    ScoreResponse,
    ToolCall,
)

from ..conftest import Serve
from ..recorded import body_of, capture, chunk, json_bytes, stream_bytes

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def completion(*texts: str, **fields: Any) -> Completion:
    choices = [
        {"index": index, "text": text, "finish_reason": "stop", **fields}
        for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    return Completion.from_raw(
        {"id": "cmpl-1", "model": "m", "created": 1, "choices": choices, "usage": usage}
    )


def chat(**message: Any) -> ChatCompletion:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return ChatCompletion.from_raw({"id": "chatcmpl-1", "model": "m", "choices": [choice]})


def test_a_single_choice_is_shown_as_the_answer() -> None:
    """An answer shows the fields that its properties have, in one line."""
    assert repr(completion("Hi")) == (
        "Completion(text='Hi', finish_reason='stop', usage=Usage(prompt_tokens=2, "
        "completion_tokens=3, total_tokens=5), model='m', id='cmpl-1')"
    )
    assert repr(chat(content=None, reasoning="Hm", tool_calls=[CALL])) == (
        "ChatCompletion(reasoning='Hm', tool_calls=[ToolCall(id='c1', name='add', "
        """arguments='{"a": 1}')], finish_reason='stop', model='m', id='chatcmpl-1')"""
    )


def test_several_choices_are_counted() -> None:
    """Of many choices the first are shown, and the number of the others."""
    shown = repr(completion(*"abcde"))
    assert shown.startswith("Completion(choices=[CompletionChoice(index=0, text='a', ")
    assert "index=2, text='c', finish_reason='stop'), … 2 more], usage=" in shown
    second = Completion.from_raw({"choices": [{"index": 1, "text": "b"}]})
    assert repr(second) == "Completion(choices=[CompletionChoice(index=1, text='b')])"


def test_log_probabilities_are_counted() -> None:
    """Log-probabilities and long lists of tokens are counted, not listed, of both routes."""
    logprobs = {"tokens": ["a"] * 1000, "token_logprobs": [-0.5] * 1000}
    shown = repr(completion("a" * 1000, logprobs=logprobs, token_ids=list(range(1000))))
    assert "logprobs=<1000 tokens>, token_ids=[0, 1, 2, 3, 4, 5, … 994 more]" in shown
    assert len(shown) < 350
    answer = ChatCompletion.from_raw(json.loads(body_of(capture("chat_logprobs")[1])))
    assert f"logprobs=<{len(answer.choices[0].token_logprobs)} tokens>" in repr(answer)
    assert len(repr(answer)) < 350
    prompt = repr(completion("a", prompt_logprobs=[None], logprobs={"content": None}))
    assert "logprobs=<0 tokens>" in prompt
    assert "prompt_logprobs=<1 token>" in prompt


def test_a_long_text_loses_its_middle() -> None:
    """Of a long text the beginning and the end are shown, and control characters are escaped."""
    assert repr(Text("a" * 80)) == f"Text(text='{'a' * 80}')"
    shown = repr(Content("\x1b[31m" + "a" * 500 + "\nend"))
    assert shown.startswith("Content(text='\\x1b[31maaaa")
    assert shown.endswith("aaa\\nend')")
    assert len(shown) < 100


def test_nested_values_are_shortened() -> None:
    """Prompts in lists and dictionaries are shortened too."""
    choice = {"index": 0, "text": "", "weight_versions": [{"version": "v" * 500}] * 50}
    assert len(repr(Completion.from_raw({"choices": [choice]}))) < 600


SHOWN: List[Any] = [
    (Usage(1, 2, 3), "Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)"),
    (
        Usage(1, 0, 1, {"cached_tokens": 1, "audio_tokens": 0}, {"reasoning_tokens": 0}),
        "Usage(prompt_tokens=1, total_tokens=1, prompt_tokens_details={'cached_tokens': 1})",
    ),
    (Done(), "Done()"),
    (Error(StreamInterruptedError("cut")), "Error(error=StreamInterruptedError('cut'))"),
    (ChatCompletionMessage(), "ChatCompletionMessage()"),
    (ToolCall("c", "f", ""), "ToolCall(id='c', name='f', arguments='')"),
    (TokenLogprob("a", -0.5), "TokenLogprob(token='a', logprob=-0.5)"),
    (Model("m", max_model_len=9), "Model(id='m', max_model_len=9)"),
    (Transcription("Hi", duration=1.5), "Transcription(text='Hi', duration=1.5)"),
    (Embedding(0, [0.5, 1.0]), "Embedding(index=0, embedding=<2 numbers>)"),
    (PoolingOutput(1, [[0.5], [1.0]]), "PoolingOutput(index=1, data=<2 × 1 numbers>)"),
    (BatchRow(3, "3", queued=0.123456), "BatchRow(index=3, duration=0, queued=0.123)"),
    (
        BatchRow(3, "x", error=VllmError("no"), attempts=2),
        "BatchRow(index=3, custom_id='x', error=VllmError('no'), attempts=2, duration=0, queued=0)",
    ),
    (BatchReport(done=2, duration=1234.5), "BatchReport(done=2, duration=1234)"),
    (
        Response("resp_1", "completed", "m", 1, []),
        "Response(status='completed', model='m', id='resp_1')",
    ),
]


@pytest.mark.parametrize(("value", "shown"), SHOWN, ids=lambda value: type(value).__name__)
def test_what_says_nothing_is_not_shown(value: object, shown: str) -> None:
    """No field is shown that is None, empty or at its default; measured times have few digits."""
    assert repr(value) == shown


def test_the_text_of_an_answer() -> None:
    """str() of an answer is its text, also in an f-string; other answers keep their repr."""
    assert f"{completion('Hi ', 'other')}" == "Hi "
    assert str(chat(content="Hi")) == "Hi"
    assert str(chat(content=None, tool_calls=[CALL])) == ""
    assert str(Transcription("Hi")) == "Hi"
    assert str(Response("r", "completed", "m", 1, [])) == ""
    tokens = Generation.from_raw({"choices": [{"index": 0, "token_ids": [1], "text": "Hi"}]})
    assert str(tokens) == "Hi"
    tokens = Generation.from_raw({"request_id": "r", "choices": [{"index": 0, "token_ids": [1]}]})
    assert str(tokens) == repr(tokens) == "Generation(token_ids=[1], request_id='r')"
    assert str(ScoreResponse([], "m", None)) == "ScoreResponse(model='m')"


def test_answers_as_dictionaries() -> None:
    """to_dict() is a copy of what the server sent, which json.dumps() accepts."""
    answer = completion("Hi")
    plain = answer.to_dict()
    assert plain == answer.raw
    plain["choices"][0]["text"] = "changed"
    assert answer.raw["choices"][0]["text"] == "Hi"
    assert chat(content="Hi").to_dict()["choices"][0]["message"]["content"] == "Hi"
    vectors = EmbeddingResponse([Embedding(0, [0.5])], "m", Usage(1, 0, 1), raw={"id": "e"})
    assert json.loads(json.dumps(vectors.to_dict())) == {
        "id": "e",
        "data": [{"index": 0, "embedding": [0.5]}],
        "usage": {
            "prompt_tokens": 1,
            "completion_tokens": 0,
            "total_tokens": 1,
            "prompt_tokens_details": None,
            "completion_tokens_details": None,
        },
    }
    assert EmbeddingResponse([], "m", None).to_dict() == {"data": [], "usage": None}


def test_timings_show_what_they_know() -> None:
    """Timings show their figures: those that exist, with three digits."""
    timings = Timings(10.0, called=9.5)
    timings.stamps.extend([10.25, 10.5, 11.0])
    timings.end(Usage(1, 30, 31), at=12.0)
    assert repr(timings) == (
        "Timings(ttft=0.25, duration=2, ttft_with_retries=0.75, duration_with_retries=2.5, "
        "chunks=3, inter_chunk_latencies=<2, median 0.5>, output_tokens=30, "
        "output_tokens_per_second=15)"
    )
    early = repr(Timings())
    assert early.startswith("Timings(duration=")
    assert "None" not in early
    timings = Timings(10.0, ended=1010.0)
    timings.stamps.append(133.4)
    assert repr(timings) == "Timings(ttft=123, duration=1000, chunks=1)"
    assert figure(None) is None


def test_a_stream_shows_its_state(serve: Serve) -> None:
    """A stream shows whether it is open, and its figures so far."""
    served = serve(stream_bytes(chunk("a"), chunk("b"), chunk(finish="stop"), "[DONE]"))
    with served.client.completions.stream(prompt="x") as stream:
        assert repr(stream) == str(stream) == "CompletionStream(open, 0 chunks)"
        next(stream)
        assert repr(stream).startswith("CompletionStream(open, 1 chunk, ttft 0.0")
        assert repr(stream).endswith(" s)")
        asynchronous = AsyncStream(stream)
        assert repr(asynchronous) == f"AsyncStream({stream!r})"
        list(stream)
        assert repr(stream).startswith("CompletionStream(complete, 3 chunks, ttft 0.0")
    assert repr(stream).startswith("CompletionStream(complete, 3 chunks, ttft 0.0")


def test_a_stream_shows_its_rate_and_its_failure(serve: Serve) -> None:
    """A stream that has ended shows its duration, its rate if known, and why it failed."""
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    whole = stream_bytes(chunk("a", finish="stop"), {"choices": [], "usage": usage}, "[DONE]")
    served = serve(whole, stream_bytes(chunk("a")), stream_bytes(chunk("a")))
    with served.client.completions.stream(prompt="x") as stream:
        stream.collect()
    assert repr(stream).endswith(" tokens/s)")
    with served.client.completions.stream(prompt="x") as stream:
        with pytest.raises(StreamInterruptedError):
            stream.collect()
        assert repr(stream).startswith("CompletionStream(StreamInterruptedError, 1 chunk, ")
    stream = served.client.completions.stream(prompt="x")
    stream.close()
    assert repr(stream).startswith("CompletionStream(closed, 0 chunks, ")


def test_an_asynchronous_stream_that_is_not_open() -> None:
    """An asynchronous stream shows that it is not open yet."""

    def never() -> Any:
        raise NotImplementedError

    stream: AsyncStream[Any, Any] = AsyncStream(never)
    assert repr(stream) == "AsyncStream(not open yet)"
    stream._closed = True
    assert repr(stream) == "AsyncStream(closed)"


@pytest.fixture(name="ipython")
def _ipython() -> Callable[[object], str]:
    pretty: Callable[[object], str] = pytest.importorskip("IPython.lib.pretty").pretty
    return pretty


@pytest.fixture(name="rich")
def _rich() -> Callable[[object], str]:
    console = pytest.importorskip("rich.console")

    def printed(value: object) -> str:
        file = io.StringIO()
        console.Console(file=file, width=79, no_color=True).print(value)
        return file.getvalue()

    return printed


def test_ipython_breaks_lines_where_it_must(ipython: Callable[[object], str]) -> None:
    """IPython shows a short object in one line, and one field a line of a long one."""
    assert ipython(Text("a", 1)) == "Text(text='a', index=1)"
    assert ipython(completion("Hi")).splitlines() == [
        "Completion(text='Hi',",
        "           finish_reason='stop',",
        "           usage=Usage(prompt_tokens=2, completion_tokens=3, total_tokens=5),",
        "           model='m',",
        "           id='cmpl-1')",
    ]
    assert ipython([Done(), Done()]) == "[Done(), Done()]"


def test_ipython_shows_a_stream(serve: Serve, ipython: Callable[[object], str]) -> None:
    """A stream at the end of a cell shows its state, and is not read."""
    served = serve(stream_bytes(chunk("a", finish="stop"), "[DONE]"))
    with served.client.completions.stream(prompt="x") as stream:
        assert ipython(stream) == "CompletionStream(open, 0 chunks)"
        assert stream.collect_text() == "a"


def test_rich_breaks_lines_where_it_must(rich: Callable[[object], str]) -> None:
    """Rich shows a short object in one line, and one field a line of a long one."""
    assert rich(Text("a", 1)) == "Text(text='a', index=1)\n"
    assert rich(completion("Hi")).splitlines() == [
        "Completion(",
        "    text='Hi',",
        "    finish_reason='stop',",
        "    usage=Usage(prompt_tokens=2, completion_tokens=3, total_tokens=5),",
        "    model='m',",
        "    id='cmpl-1'",
        ")",
    ]


def test_rich_shows_a_stream(serve: Serve, rich: Callable[[object], str]) -> None:
    """Rich shows what a stream shows of itself, which has no names."""
    with serve(stream_bytes(chunk("a", finish="stop"), "[DONE]")).client.completions.stream(
        prompt="x"
    ) as stream:
        assert rich(stream) == "CompletionStream(open, 0 chunks)\n"


def html_of(value: object) -> Any:
    formatter = pytest.importorskip("IPython.core.formatters").HTMLFormatter()
    html = formatter(value)
    return html and re.sub(r'(<t[dh]) style="[^"]*"', r"\1", html)


def test_several_choices_are_a_table_in_a_notebook() -> None:
    """A notebook shows several choices as a table, escaped; a single one as text."""
    assert html_of(completion("Hi")) is None
    table = html_of(completion("<b>bold</b>", "a" * 600))
    assert "<tr><th>index</th><th>text</th><th>finish_reason</th></tr>" in table
    assert "<td>&lt;b&gt;bold&lt;/b&gt;</td>" in table
    assert f"<td>{'a' * 500}…</td>" in table
    messages = [
        {"index": 0, "message": {"content": "a"}, "logprobs": {"content": [1]}},
        {"index": 1, "message": {"content": None, "reasoning": "b"}},
    ]
    table = html_of(ChatCompletion.from_raw({"choices": messages}))
    assert "<th>content</th><th>logprobs</th><th>reasoning</th>" in table
    assert "<td>a</td><td>&lt;1 token&gt;</td><td></td>" in table


def test_lists_of_results_are_tables_in_a_notebook() -> None:
    """A notebook shows scores and reranked documents as a table, of which the first rows."""
    data = [{"index": index, "score": 0.5} for index in range(25)]
    table = html_of(ScoreResponse.from_raw({"model": "m", "data": data}))
    assert table.count("<tr>") == 21
    assert table.endswith("</table><p>… 5 more</p>")
    results = [
        {"index": index, "relevance_score": index / 2, "document": {"text": text}}
        for index, text in enumerate("ab")
    ]
    table = html_of(RerankResponse.from_raw({"model": "m", "results": results}))
    assert "<tr><td>1</td><td>0.5</td><td>b</td></tr>" in table


def test_a_table_shows_the_words_as_they_are() -> None:
    """A notebook typesets no dollar signs, and obeys no control characters, of a table."""
    table = html_of(completion("$a$ and $b$", "\x1b[31m\u202e\ud83d"))
    assert table.startswith('<table class="tex2jax_ignore mathjax_ignore">')
    assert "<td>␛[31m‹U+202E›\ufffd</td>" in table


@pytest.mark.parametrize("odd", [5, True, {"tokens": 5}, {"content": 5}, {"content": None}])
def test_log_probabilities_that_are_none(odd: Any) -> None:
    """An answer shows itself whatever a gateway sends as log-probabilities."""
    assert repr(completion("Hi", logprobs=odd)).startswith("Completion(text='Hi'")


def test_a_notebook_with_nothing_to_tabulate() -> None:
    """Objects without rows have no table."""
    assert html_of(Usage(1, 2, 3)) is None
    assert not hasattr(Usage, "_repr_html_")


def test_objects_of_other_classes_in_an_answer() -> None:
    """An instance that ``response_format`` made is shown by its own repr, shortened."""
    answer = completion("{}")
    answer.choices[0].parsed = Brief("City(name='Oslo')")
    assert "parsed=City(name='Oslo'), usage=" in repr(answer)


def test_shown_objects_pickle() -> None:
    """Pickled answers are equal and show the same."""
    answer = completion("Hi", "ho")
    again = pickle.loads(pickle.dumps(answer))
    assert (again, repr(again)) == (answer, repr(answer))


def test_a_created_answer_shows_itself(serve: Serve) -> None:
    """The answer of create() is printed as its text."""
    body = {"id": "1", "choices": [{"index": 0, "text": "Hi", "finish_reason": "stop"}]}
    answer = serve(json_bytes(body)).client.completions.create(prompt="Hello")
    assert (str(answer), repr(answer)) == (
        "Hi",
        "Completion(text='Hi', finish_reason='stop', id='1')",
    )
