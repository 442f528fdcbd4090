"""Templates of repeated chunks: they yield what the plain way yields, or leave the chunk to it."""

from __future__ import annotations

import json
from typing import Any, List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_client import VllmError
from vllm_client._decoding import templates
from vllm_client._decoding.chat import ChatDecoder
from vllm_client._decoding.completion import CompletionDecoder
from vllm_client._decoding.templates import ChunkTemplates

from ..recorded import CAPTURES, capture, chunk, data_of, delta


@pytest.fixture(autouse=True)
def switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch the templates on, also under --plain."""
    monkeypatch.setattr(templates, "ENABLED", True)


TEXTS = st.text(max_size=8) | st.sampled_from(
    ['"', "\\", '"text":"', '","index":9', "\u2028", "🐢"]
)


def decoded(decoder: Any, lines: List[str]) -> Any:
    """The events of a decoder, each with its chunk, then its state or its error."""
    events = []
    try:
        for line in lines:
            again = decoder.match(line)
            said = decoder.decode(line) if again is None else [again]
            counts = again is not None or decoder.chunk_had_choices
            events.append([counts, *((e, getattr(e, "chunk", None)) for e in said)])
    except VllmError as error:
        return events, type(error), decoder.snapshot(), decoder.snapshot().raw, decoder.usage
    return events, decoder.unfinished(), decoder.snapshot(), decoder.snapshot().raw, decoder.usage


def check(kind: Any, lines: List[str]) -> None:
    """Check that both ways yield the same, errors and snapshots included."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(templates, "ENABLED", False)
        plain = decoded(kind(2), lines)
    assert decoded(kind(2), lines) == plain


EXTENSIONS = st.sampled_from([None, 1, 2, [], {"text": "x"}])
"""Values of a member of a choice that no version of vLLM has."""

CHUNKS = st.one_of(
    st.builds(lambda text, index: chunk(text, index=index), TEXTS, st.integers(0, 11)),
    st.builds(lambda text: chunk(text, finish="stop"), TEXTS),
    st.builds(lambda text: chunk(text, token_ids=[1]), TEXTS),
    st.builds(lambda text: chunk(text, logprobs={"tokens": [text]}), TEXTS),
    st.builds(lambda text: {**chunk(text), "usage": {"prompt_tokens": len(text)}}, TEXTS),
    st.builds(lambda text: {**chunk(text), "note": {"text": text}}, TEXTS),
    st.builds(lambda text, new: chunk(text, extension=new), TEXTS, EXTENSIONS),
    st.builds(lambda a, b: {"choices": chunk(a)["choices"] + chunk(b)["choices"]}, TEXTS, TEXTS),
    st.builds(
        lambda a: {"choices": [chunk(a)["choices"][0], {"index": 1, "finish_reason": "stop"}]},
        TEXTS,
    ),
)


def extended(data: Any, extension: Any) -> Any:
    """The chunk of a chat with a member in its choice that no version of vLLM has."""
    data["choices"][0]["extension"] = extension
    return data


CHAT = st.one_of(
    st.builds(lambda text, index: delta(index, content=text), TEXTS, st.integers(0, 1)),
    st.builds(lambda text: delta(reasoning=text), TEXTS),
    st.builds(lambda text: delta(role="assistant", content=text), TEXTS),
    st.builds(lambda a, b: delta(reasoning=a, content=b), TEXTS, TEXTS),
    st.builds(lambda text: delta(content=text, finish="stop"), TEXTS),
    st.builds(lambda text: delta(content=text, token_ids=[1]), TEXTS),
    st.builds(lambda text, new: extended(delta(content=text), new), TEXTS, EXTENSIONS),
    st.just(delta(token_ids=[2])),
    st.builds(lambda text: delta(reasoning_content=text), TEXTS),
    st.builds(
        lambda text: delta(tool_calls=[{"index": 0, "function": {"arguments": text}}]), TEXTS
    ),
)


@given(chunks=st.lists(CHUNKS, max_size=12), ascii_only=st.booleans())
@settings(max_examples=300)
def test_completions_are_the_same(chunks: List[Any], ascii_only: bool) -> None:
    """Any sequence of completion chunks yields the same both ways."""
    check(
        CompletionDecoder,
        [json.dumps(c, ensure_ascii=ascii_only, separators=(",", ":")) for c in chunks],
    )


@given(chunks=st.lists(CHAT, max_size=12), ascii_only=st.booleans())
@settings(max_examples=300)
def test_chat_is_the_same(chunks: List[Any], ascii_only: bool) -> None:
    """Any sequence of chat chunks yields the same both ways."""
    check(
        ChatDecoder, [json.dumps(c, ensure_ascii=ascii_only, separators=(",", ":")) for c in chunks]
    )


@given(data=st.data())
@settings(max_examples=400)
def test_damaged_repetitions_are_the_same(data: st.DataObject) -> None:
    """A chunk that is cut or changed at any place is not mistaken for a known one."""
    good = json.dumps(chunk("Hello"), separators=(",", ":"))
    at = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(at, len(good)))
    bad = good[:at] + data.draw(st.text('"\\{}[]:,a0\n\ud800', max_size=4)) + good[end:]
    check(CompletionDecoder, [good, bad, good])


@pytest.mark.parametrize(
    "name",
    sorted(
        file.name[: -len(".request.json")]
        for file in CAPTURES.glob("*.request.json")
        if b"event-stream" in capture(file.name[: -len(".request.json")])[1][:400]
    ),
)
def test_captures_are_the_same(name: str) -> None:
    """Every captured stream yields the same both ways."""
    path = capture(name)[0]["path"]
    check(ChatDecoder if "chat" in path else CompletionDecoder, data_of(name))


def test_a_shape_may_return_after_another() -> None:
    """A chunk like an early one counts, although others have changed what stands beside."""
    models = ("a", "a", "b", "a", "a", "b", "b")
    lines = [json.dumps({**chunk("x"), "model": m}, separators=(",", ":")) for m in models]
    for count in range(1, len(lines) + 1):
        check(CompletionDecoder, lines[:count])


def says(number: int) -> Any:
    """A function that makes the event of a shape, here a tuple with this number."""
    return lambda text, data: (number, text, data)


def test_repetitions_are_not_parsed() -> None:
    """Chunks of a known shape match, also those of several choices in turn."""
    shapes = ChunkTemplates()
    for index in (0, 1):
        data = json.dumps(chunk("a", index=index), separators=(",", ":"))
        shapes.learn(data, "text", "a", says(index))
    for index, text in ((0, "b"), (1, 'x"\\\n🐢')):
        data = json.dumps(chunk(text, index=index), separators=(",", ":"))
        assert shapes.match(data) == (index, text, data)
    assert shapes.match(json.dumps(chunk(""), separators=(",", ":"))) is None


@pytest.mark.parametrize(
    ("decoder", "lines"),
    [
        (CompletionDecoder(1), [chunk("a"), chunk("b")]),
        (ChatDecoder(1), [delta(content="a"), delta(content="b")]),
        (ChatDecoder(1), [delta(reasoning="a"), delta(reasoning="b")]),
    ],
)
def test_the_second_chunk_of_a_shape_matches(decoder: Any, lines: List[Any]) -> None:
    """A decoder learns from each kind of text, and its snapshot holds what matched."""
    first, second = (json.dumps(line, separators=(",", ":")) for line in lines)
    (event,) = decoder.decode(first)
    again = decoder.match(second)
    assert (event.text, again.text, type(again)) == ("a", "b", type(event))
    assert '"ab"' in json.dumps(decoder.snapshot().raw)


def test_a_decoder_knows_the_shapes_of_all_its_choices() -> None:
    """Chunks of several choices in turn match, unless what stands beside them changes."""
    decoder = CompletionDecoder(2)

    def line(text: str, index: int, **more: Any) -> str:
        return json.dumps({**chunk(text, index=index), **more}, separators=(",", ":"))

    for index in (0, 1):
        decoder.decode(line("a", index))
    for index in (0, 1):
        assert decoder.match(line("b", index)) is not None
    decoder.decode(line("c", 0, model="other"))
    assert decoder.match(line("d", 1)) is None


def test_learning_stops_if_nothing_repeats() -> None:
    """After many shapes that never repeat none is learnt, until one repeats."""
    shapes = ChunkTemplates()

    def line(number: int) -> str:
        return json.dumps({**chunk("a"), "usage": {"n": number}}, separators=(",", ":"))

    for number in range(100):
        shapes.learn(line(number), "text", "a", says(number))
    assert shapes.match(line(15)) == (15, "a", line(15))
    assert shapes.match(line(99)) is None
    shapes.learn(line(99), "text", "a", says(99))
    assert shapes.match(line(99)) == (99, "a", line(99))


def test_kept_templates_are_bounded() -> None:
    """The number of shapes that are kept is bounded."""
    shapes = ChunkTemplates()
    for number in range(200):
        data = json.dumps({"n": f"{number:03}", **chunk("a")}, separators=(",", ":"))
        shapes.learn(data, "text", "a", says(number))
        shapes.match(data)
    assert len(shapes._templates) <= 64


def test_a_repeated_member_is_not_learnt() -> None:
    """A chunk with two members of that name, or with spaces, is not learnt."""
    shapes = ChunkTemplates()
    for data in ('{"text":"a","x":{"text":"a"}}', '{"text": "a"}', '{"text":"b"}'):
        shapes.learn(data, "text", "a", says(0))
        assert shapes.match(data) is None
