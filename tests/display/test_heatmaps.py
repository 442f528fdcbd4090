"""heatmap(): colours, notes, and nothing of the text lost."""

from __future__ import annotations

import json
import math
from typing import Any, List

import pytest

from vllm_client import BatchRow, ChatCompletion, Completion, Content, Done, Text, TokenLogprob
from vllm_client.display import Heatmap, heatmap
from vllm_client.display._colours import DIFFERENCE, ENTROPY, PROBABILITY
from vllm_client.evaluate.results import Perplexity, TokenColumns

from ..recorded import body_of, capture, chunk, json_bytes
from .pages import PAGES, Page, check_harmless, contrast

EVIL = '</span><script>alert(1)</script><img src=x onerror="alert(1)">&amp;"\' \u202e\x1b[31m'


def completion(*tokens: Any, text: Any = None) -> Completion:
    """An answer of /v1/completions whose tokens are pairs of text and log-probability."""
    texts = [token for token, _ in tokens]
    logprobs = {
        "tokens": texts,
        "token_logprobs": [logprob for _, logprob in tokens],
        "top_logprobs": [{token: lp, " other": -1.5} for token, lp in tokens],
        "text_offset": [len("".join(texts[:n])) for n in range(len(texts))],
    }
    joined = "".join(texts) if text is None else text
    return Completion.from_raw(chunk(joined, finish="stop", logprobs=logprobs))


def chat(*tokens: Any) -> ChatCompletion:
    """An answer of chat, without alternatives."""
    entries = [
        {"token": token, "logprob": logprob, "top_logprobs": []} for token, logprob in tokens
    ]
    text = "".join(token for token, _ in tokens)
    choice = {
        "message": {"content": text},
        "logprobs": {"content": entries},
        "finish_reason": "stop",
    }
    return ChatCompletion.from_raw({"choices": [choice]})


def recorded(name: str) -> Any:
    return json.loads(body_of(capture(name)[1]))


def text_of(shown: Heatmap) -> str:
    """The text that a browser shows."""
    return "".join(text for _, _, text in check_harmless(shown.html).tokens())


@pytest.mark.parametrize(
    "name", ["completion_unicode", "completion_logprobs", "completion_echo_logprobs"]
)
def test_all_of_a_real_completion_is_shown(name: str) -> None:
    """The texts of the tokens, one after the other, are the answer of a real server."""
    answer = Completion.from_raw(recorded(name))
    shown = heatmap(answer)
    assert shown.text == answer.text
    assert text_of(shown) == answer.text.replace("\x10", "\u2410")
    tokens = [spot for spot in shown.spots if spot.note]
    assert len(tokens) == len(answer.choices[0].token_logprobs)


def test_all_of_a_real_chat_is_shown() -> None:
    """The same for chat."""
    answer = ChatCompletion.from_raw(recorded("chat_logprobs"))
    assert text_of(heatmap(answer)) == heatmap(answer.choices[0]).text == answer.text != ""


def test_token_ids_leave_the_text() -> None:
    """Tokens that came as numbers are not in the text; the text is shown all the same."""
    answer = Completion.from_raw(recorded("completion_logprobs_token_ids"))
    shown = heatmap(answer)
    assert shown.text == answer.text != ""
    assert "token_id:" in shown.html


def test_tokens_beside_the_text() -> None:
    """Text before, between and after tokens stays, and a token that was cut off shows nothing."""
    shown = heatmap(completion(("b", -1), ("d", -1), ("STOP", -1), text="abcde"))
    assert [spot.text for spot in shown.spots] == ["a", "b", "c", "d", "", "e"]
    assert text_of(shown) == "abcde"


@pytest.mark.parametrize("make", [completion, chat])
def test_markup_of_the_model_is_text(make: Any) -> None:
    """Markup, quotes and control characters of the model are shown, not obeyed."""
    shown = heatmap(make((EVIL, -0.1), (" ok", -1.0)))
    safe = EVIL.replace("\u202e", "‹U+202E›").replace("\x1b", "\u241b")
    assert text_of(shown) == f"{safe} ok"
    assert "<script" not in shown.html
    assert "\x1b" not in str(shown)


def test_notes_tell_alternatives() -> None:
    """The title of a token, which a pointer shows, has its probability and the alternatives."""
    _, attributes, text = check_harmless(heatmap(completion((" a", -0.693))).html).tokens()[0]
    assert text == " a"
    assert attributes["tabindex"] == "0"
    lines = attributes["title"].splitlines()
    assert lines[0] == "' a'"
    assert lines[1].startswith("50 % (log-probability -0.693), entropy at least 1.")
    assert lines[2] == "· 22.3 %  ' other'"  # Where the note is one line the point divides.


def test_keyboard_shows_the_notes() -> None:
    """The focus shows the title, without a script."""
    html = heatmap(completion(("a", -1))).html
    assert "[tabindex]:focus::after{content:attr(title)" in html


def test_levels_follow_the_probability() -> None:
    """A likely token has no colour; the less likely one is, the stronger its colour."""
    shown = heatmap(completion(*(("x", logprob) for logprob in (0, -0.5, -1, -2, -4, -9999.0))))
    levels = [spot.level for spot in shown.spots]
    assert levels == list(PROBABILITY.levels[::-1])
    assert [spot.value for spot in shown.spots][::5] == [1.0, 0.0]
    assert levels[0] is not None
    assert levels[0].style == ""


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("scale", [PROBABILITY, ENTROPY, DIFFERENCE], ids=lambda scale: scale.title)
def test_text_is_readable(scale: Any, page: str) -> None:
    """Each colour of each scale leaves the text a contrast of 4.5 on light and dark pages."""
    assert {
        level.label: contrast(level.style, page)
        for level in scale.levels
        if contrast(level.style, page) < 4.5
    } == {}


@pytest.mark.parametrize("scale", [PROBABILITY, ENTROPY, DIFFERENCE], ids=lambda scale: scale.title)
def test_levels_need_no_colour(scale: Any) -> None:
    """Beyond the two weakest, each level has a line of its own, for those who see no colours."""
    lines = [(level.line, level.over) for level in scale.levels if level.opacity > 0.1]
    assert len(set(lines)) == len(lines)
    assert all(line for line, _ in lines)
    assert len({level.style for level in scale.levels}) == len(scale.levels)


def test_entropy() -> None:
    """entropy=True colours by the entropy of the alternatives; what they leave counts as one."""
    shown = heatmap(completion((" a", -0.6931471805599453)), entropy=True)
    share = 0.22313016014842982
    rest = 0.5 - share
    wanted = 0.5 - sum(p * math.log2(p) for p in (share, rest))
    assert shown.spots[0].value == pytest.approx(wanted)
    assert shown.title == "entropy at the token"


def test_entropy_needs_alternatives() -> None:
    """Without alternatives entropy=True is refused, with what to ask for."""
    with pytest.raises(ValueError, match="logprobs=5"):
        heatmap(chat(("a", -1)), entropy=True)
    with pytest.raises(ValueError, match="one answer"):
        heatmap(completion(("a", -1)), completion(("a", -1)), entropy=True)


def test_a_token_without_a_probability() -> None:
    """The first token of an echoed prompt has no probability, no colour, and a note."""
    answer = completion(("a", None), ("b", -1))
    spot = heatmap(answer).spots[0]
    assert (spot.level, spot.value) == (None, None)
    assert "no probability was sent" in spot.note
    assert heatmap(answer, answer).spots[0].value is None
    assert (
        "?"
        in heatmap(
            Completion.from_raw(
                chunk(
                    "a",
                    logprobs={
                        "tokens": ["a"],
                        "token_logprobs": [-1.0],
                        "top_logprobs": [{"a": -1.0, "b": None}],
                    },
                )
            )
        )
        .spots[0]
        .note
    )


def test_numbers_that_are_no_log_probabilities() -> None:
    """What a server sends instead of a log-probability has no colour, and stops nothing."""
    for broken in (math.nan, math.inf, "x"):
        spot = heatmap(completion(("a", broken), ("b", -1))).spots[0]
        assert (spot.level, spot.value) == (None, None)
        assert "no probability was sent" in spot.note
        assert heatmap(*[completion(("a", broken))] * 2).spots[0].level is None
    assert heatmap(completion(("a", 1000.0))).spots[0].value == 1.0
    never = completion(("a", -math.inf))
    assert heatmap(never).spots[0].value == 0.0
    assert heatmap(never, never).spots[0].value == 0.0
    assert heatmap(never, completion(("a", -1))).spots[0].level == DIFFERENCE.levels[0]


def test_a_sure_token_has_no_entropy() -> None:
    """An entropy of nothing is written without a minus."""
    logprobs = {"tokens": ["a"], "token_logprobs": [0.0], "top_logprobs": [{"b": -9999.0}]}
    answer = Completion.from_raw(chunk("a", logprobs=logprobs))
    assert "entropy at least 0.00 bits" in heatmap(answer).spots[0].note


def test_half_a_character() -> None:
    """A lone surrogate, which no file takes, is shown as a replacement character."""
    shown = heatmap(completion(("a\ud83db", -1.0)))
    assert "a\ufffdb" in shown.html
    assert shown.html.encode()
    assert str(shown).encode()


def test_difference_of_two_answers() -> None:
    """Common tokens have the difference; others are marked as one answer's own."""
    shown = heatmap(
        completion(("a", -1), ("b", -0.5), ("c", -1)), completion(("a", -3), ("x", -1), ("c", -1))
    )
    assert [(spot.text, spot.only_in) for spot in shown.spots] == [
        ("a", None),
        ("x", "second"),
        ("b", "first"),
        ("c", None),
    ]
    assert shown.text == "abc"
    assert shown.spots[0].value == 2
    assert shown.spots[0].level == DIFFERENCE.level(2)
    assert DIFFERENCE.level(0.0).style == ""
    assert [tag for tag, _, _ in check_harmless(shown.html).tokens()] == [
        "span",
        "del",
        "ins",
        "span",
    ]
    assert "+2.000 nats: 36.8 % here, 4.98 % in the other" in shown.html
    legend = check_harmless(shown.html).texts[-2:]
    assert legend == ["only in the first", "only in the second"]
    assert "only in" not in heatmap(completion(("a", -1)), completion(("a", -3))).html


def test_whatever_holds_tokens() -> None:
    """Choices, tokens, events, rows of a batch and results of evaluate are taken alike."""
    answer = completion(("a", -1), ("b", -2))
    logprobs = answer.choices[0].logprobs
    columns = TokenColumns(["a", "b"], [1, 2], [-1.0, -2.0])  # type: ignore[arg-type]
    scores = Perplexity(3, 2, 9, 9, 1, 2, 1, 0, None, "echo", columns)
    events: List[Any] = [Text("ab", logprobs=logprobs), Text("no", index=1), Done()]
    listed = Content("ab", logprobs=[{"token": "a", "logprob": -1}])  # type: ignore[arg-type]
    for holder in (
        answer.choices[0],
        answer.choices[0].token_logprobs,
        events,
        logprobs,
        columns,
        scores,
        BatchRow(0, "0", answer),
    ):
        shown = heatmap(holder)
        assert [spot.text for spot in shown.spots] == ["a", "b"]
        assert [round(spot.value or 0, 3) for spot in shown.spots] == [0.368, 0.135]
    assert heatmap([listed]).text == "a"
    assert heatmap([TokenLogprob("z", -1.0)]).text == "z"


def test_what_cannot_be_coloured() -> None:
    """What has no log-probabilities is refused with what to ask for."""
    with pytest.raises(ValueError, match="logprobs=True, top_logprobs=5"):
        heatmap(Completion.from_raw(chunk("a")))
    with pytest.raises(ValueError, match="no choice 3"):
        heatmap(completion(("a", -1)), index=3)
    for wrong in (7, b"x", None):
        with pytest.raises(TypeError, match="a heat map needs"):
            heatmap(wrong)
    with pytest.raises(TypeError, match="a text needs client="):
        heatmap("text")
    with pytest.raises(TypeError, match="goes with nothing else"):
        heatmap(completion(("a", -1)), model="m")


def test_a_text_is_scored_by_the_server(serve: Any) -> None:
    """A text is sent with echo; what the model adds is not shown."""
    with serve(capture("completion_echo_logprobs")[1]).client as client:
        shown = heatmap("One, two", client=client, model="tiny")
    assert shown.text == text_of(shown) == "One, two"


def test_the_request_that_scores_a_text(serve: Any) -> None:
    """The request asks for the prompt's log-probabilities and generates one token."""
    raw = chunk(
        "ab",
        finish="stop",
        logprobs={"tokens": ["a", "b"], "token_logprobs": [None, -1.0], "text_offset": [0, 1]},
    )
    served = serve(json_bytes(raw))
    assert heatmap("a", client=served.client, logprobs=2).text == "a"
    assert served.requests[0].json == {"prompt": "a", "echo": True, "logprobs": 2, "max_tokens": 1}


def test_notebooks_and_terminals() -> None:
    """A notebook takes the HTML, and IPython in a terminal the table."""

    class Printer:
        def text(self, text: str) -> None:
            self.printed = text

    shown, printer = heatmap(completion(("\nb", -1))), Printer()
    shown._repr_pretty_(printer, False)
    assert printer.printed == str(shown)
    assert "36.8 %" in str(shown)
    assert shown._repr_html_() == shown.html
    assert 'class="nl"' in shown.html
    assert Page(shown.html).tokens()[0][2] == "\nb"
    assert "spots" not in repr(shown)
