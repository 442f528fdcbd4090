"""compare() and to_frame(): answers, rows of a batch and tokens in tables."""

from __future__ import annotations

import math
import sys
from array import array
from typing import Any

import pytest

from vllm_client import BatchRow, ChatCompletion, Completion, Response, TokenLogprob, VllmError
from vllm_client.display import compare, to_frame
from vllm_client.evaluate.results import Perplexity, TokenColumns

from ..recorded import answer, chunk
from .pages import check_harmless
from .test_heatmaps import EVIL, chat, completion

CALLS = ChatCompletion.from_raw(
    {
        "model": "m",
        "choices": [
            {
                "finish_reason": "tool_calls",
                "message": {
                    "reasoning": "Hm",
                    "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}],
                },
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
    }
)


def test_a_table_of_answers() -> None:
    """compare() has a row for each answer, and only columns with values."""
    table = compare([completion((" a", -1.0), ("b", -3.0)), CALLS], titles=["plain", "calls"])
    assert table.columns == [
        "answer",
        "text",
        "reasoning",
        "tool_calls",
        "finish_reason",
        "logprob",
        "perplexity",
        "prompt_tokens",
        "completion_tokens",
        "model",
    ]
    assert table.rows[0]["perplexity"] == pytest.approx(math.exp(2))
    page = check_harmless(table.html)
    cells = [text for (tag, _), text in zip(page.elements, page.texts) if tag == "td"]
    assert cells[:5] == ["plain", " ab", "", "", "stop"]
    assert cells[10:15] == ["calls", "", "Hm", "f({})", "tool_calls"]
    assert table._repr_html_() == table.html
    assert repr(table) == "Comparison()"


def test_a_table_in_a_terminal() -> None:
    """str() of a table has one line a row, with the texts shortened and made harmless."""

    class Printer:
        def text(self, text: str) -> None:
            self.printed = text

    printer, table = Printer(), compare([completion((EVIL * 3, -1.0))])
    table._repr_pretty_(printer, False)
    assert printer.printed == str(table)
    head, row = str(table).splitlines()
    assert head.split()[:3] == ["answer", "text", "finish_reason"]
    assert row.startswith("1       </span><script>")
    assert "…" in row
    assert "\x1b" not in row


def test_markup_in_a_table() -> None:
    """Markup of the model is text in a table, too."""
    page = check_harmless(compare([completion((EVIL, -1.0))]).html)
    assert any(text.startswith("</span><script>alert(1)") for text in page.texts)


def test_titles_of_answers() -> None:
    """Answers are numbered; titles must be as many."""
    assert [row["answer"] for row in compare([CALLS, CALLS]).rows] == ["1", "2"]
    with pytest.raises(ValueError, match="1 titles for 2 answers"):
        compare([CALLS, CALLS], titles=["a"])
    with pytest.raises(TypeError, match="not str"):
        compare(["text"])


def likelihoods(*logprobs: Any) -> Any:
    (row,) = compare(completion(*((letter, each) for letter, each in zip("abc", logprobs)))).rows
    return row["logprob"], row["perplexity"]


def test_a_broken_logprob() -> None:
    """Of a text with a token without a log-probability nothing is summed up, save the first."""
    assert likelihoods(-9999.0) == (-9999.0, math.inf)
    assert likelihoods(-math.inf, -1.0) == (-math.inf, math.inf)
    assert likelihoods(None, -1.0, -3.0) == (-4.0, math.exp(2))
    for broken in (math.nan, math.inf, "x", None):
        assert likelihoods(-1.0, broken) == (None, None)


def test_an_answer_that_broke_off() -> None:
    """A table tells that a text is only the beginning of one."""
    partial = Completion.from_raw(chunk("Once"))
    early = Completion.from_raw({"choices": []})
    failed = BatchRow(1, "b", None, VllmError("no luck"))
    rows = compare([partial, early, CALLS, failed]).rows
    reasons = ["not finished", "not finished", "tool_calls", None]
    assert [row.get("finish_reason") for row in rows] == reasons
    assert rows[1]["text"] == ""


def test_what_is_no_answer() -> None:
    """One answer is as good as a list of one; anything else is refused with what to pass."""
    assert compare(CALLS).rows == compare([CALLS]).rows
    for make in (compare, to_frame):
        with pytest.raises(TypeError, match="expected answers or rows of a batch, not int"):
            make(7)


def test_a_frame_of_scores() -> None:
    """A result of client.evaluate makes the frame that its own method makes."""
    pytest.importorskip("pandas")
    columns = TokenColumns(["a", "b"], array("q", [1, 2]), array("d", [-1.0, -2.0]))
    scores = Perplexity(3, 2, 9, 9, 1, 2, 1, 0, None, "echo", columns)
    for holder in (columns, scores):
        assert to_frame(holder).equals(columns.to_frame())
    assert list(to_frame(scores).columns) == ["token", "token_id", "logprob"]


def test_a_frame_of_answers() -> None:
    """to_frame() has a row for each choice of each answer."""
    pytest.importorskip("pandas")
    raw = {**chunk("a", finish="stop"), "model": "m"}
    raw["choices"] = [raw["choices"][0], {**raw["choices"][0], "index": 1, "text": "b"}]
    two = type(completion(("x", -1))).from_raw(raw)
    frame = to_frame([two, CALLS])
    assert list(frame["text"])[:2] == ["a", "b"]
    assert list(frame["choice"])[:2] == [0, 1]
    assert list(frame["completion_tokens"])[2] == 4
    assert list(to_frame(two)["text"]) == ["a", "b"]
    assert compare([two]).to_frame().shape == (2, 5)
    assert len(to_frame([])) == 0


def test_a_frame_of_a_response() -> None:
    """A response of /v1/responses is a row with its status."""
    pytest.importorskip("pandas")
    item = {"type": "message", "content": [{"type": "output_text", "text": "hi"}]}
    call = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
    raw = {"id": "r", "model": "m", "status": "completed", "output": [item, call]}
    row = to_frame(Response.from_raw(raw)).iloc[0]
    assert (row["text"], row["finish_reason"], row["tool_calls"]) == ("hi", "completed", "f({})")


def test_a_frame_of_a_batch() -> None:
    """Rows of a batch have their number, name, times and error in front."""
    pytest.importorskip("pandas")
    good = BatchRow(0, "a", completion(("x", -1)), duration=0.5)
    bad = BatchRow(1, "b", None, VllmError("no luck"), attempts=3)
    frame = to_frame([good, bad])
    assert list(frame.columns)[:3] == ["index", "custom_id", "error"]
    assert frame["error"][1] == "VllmError: no luck"
    assert list(frame["attempts"]) == [1, 3]
    assert frame["text"][0] == "x"
    assert list(to_frame(good)["custom_id"]) == ["a"]


def test_a_frame_of_tokens() -> None:
    """A choice, or a list of tokens, has a row for each token."""
    pytest.importorskip("pandas")
    choice = completion((" a", -1.0), ("b", None)).choices[0]
    for tokens in (choice, choice.token_logprobs):
        frame = to_frame(tokens)
        assert list(frame["token"]) == [" a", "b"]
        assert frame["probability"][0] == pytest.approx(math.exp(-1))
        assert frame["alternatives"][0] == {" a": -1.0, " other": -1.5}
    odd = completion(("a", math.nan), ("b", 1000.0), ("c", -math.inf)).choices[0]
    assert to_frame(odd)["probability"].fillna(-1).tolist() == [-1, 1, 0]
    assert list(to_frame([TokenLogprob("x", -1.0)])["token"]) == ["x"]
    with pytest.raises(ValueError, match="no log-probabilities"):
        to_frame(type(choice).from_raw(answer()["choices"][0]))
    assert list(to_frame(chat(("a", -1)).choices[0])["token"]) == ["a"]


def test_frames_need_pandas(monkeypatch: Any) -> None:
    """Without pandas the error names the extra."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    columns = TokenColumns(["a"], array("q", [1]), array("d", [-1.0]))
    for make in (lambda: to_frame(CALLS), columns.to_frame, compare(CALLS).to_frame):
        with pytest.raises(ImportError, match=r"vllm-sync-client\[pandas\]"):
            make()
