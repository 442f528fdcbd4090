"""Log-likelihoods of one pair: what is scored, where it begins, and how it was read."""

from __future__ import annotations

import math
import warnings
from array import array
from typing import Any, Dict, Sequence

import pytest

from vllm_client import (
    BadRequestError,
    ContextLengthError,
    EvaluationError,
    InvalidResponseError,
    LogLikelihood,
)
from vllm_client.evaluate.results import TokenColumns

from .scoring import CONTEXT_LENGTH, Letters, logprob, scoring, total

BOS = 1


def test_sum_of_the_continuation() -> None:
    """The continuation alone is scored, by one request for both and one for the context."""
    with scoring(Letters()) as (client, server):
        result = client.evaluate.loglikelihood("abc", "de")
    ids = [ord(letter) for letter in "abcde"]
    assert result.logprob == total(ids, 3)
    assert list(result.token_ids) == ids[3:]
    assert result.tokens == ["d", "e"]
    assert list(result.token_logprobs) == [logprob(ids[2], ids[3]), logprob(ids[3], ids[4])]
    assert (result.context_tokens_rescored, result.bos_token_id) == (0, None)
    assert (result.boundary, result.method) == ("joint", "prompt_logprobs")
    assert server.bodies("/v1/completions") == [
        {
            "prompt": "abcde",
            "prompt_logprobs": 0,
            "return_token_ids": True,
            "max_tokens": 1,
            "temperature": 0.0,
        }
    ]
    assert [body["prompt"] for body in server.bodies("/tokenize")] == ["abc", ""]


def test_greedy() -> None:
    """is_greedy tells whether each token has rank 1."""
    tokenizer = Letters()
    best = chr(min(range(33, 127), key=lambda id_: -logprob(ord("a"), id_)))
    with scoring(tokenizer) as (client, _):
        greedy = client.evaluate.loglikelihood("a", best)
        other = client.evaluate.loglikelihood("a", "a")
    assert logprob(ord("a"), ord(best)) == -0.25
    assert greedy.is_greedy
    assert not other.is_greedy
    assert list(greedy.ranks) == [1]


def test_greedy_in_all_places() -> None:
    """One token that is not the most likely one makes the whole not greedy."""
    best = chr(min(range(33, 127), key=lambda id_: -logprob(ord("a"), id_)))
    with scoring(Letters()) as (client, _):
        result = client.evaluate.loglikelihood("a", f"{best}\x01")
    assert result.ranks[0] == 1 < result.ranks[1]
    assert not result.is_greedy


def test_a_token_across_the_boundary() -> None:
    """A token that spans the boundary is scored, and the result tells what else is in the sum."""
    with scoring(Letters("cd")) as (client, _):
        result = client.evaluate.loglikelihood("abc", "de")
    assert result.tokens == ["cd", "e"]
    assert result.context_tokens_rescored == 1
    assert result.logprob == total([97, 98, 128, 101], 2)


def test_tokens_boundary() -> None:
    """With boundary="tokens" the two parts are tokenized apart, without special tokens between."""
    with scoring(Letters("cd", bos=BOS)) as (client, server):
        result = client.evaluate.loglikelihood("abc", "de", boundary="tokens")
    assert result.tokens == ["d", "e"]
    assert (result.context_tokens_rescored, result.boundary) == (0, "tokens")
    assert server.bodies("/v1/completions")[0]["prompt"] == [BOS, 97, 98, 99, 100, 101]


def test_token_ids() -> None:
    """Token ids are sent as they are, those of NumPy too, and no tokenizer is asked for them."""
    np = pytest.importorskip("numpy")
    with scoring(Letters()) as (client, server):
        result = client.evaluate.loglikelihood(np.array([97, 98]), [np.int64(99)])
    assert result.logprob == logprob(98, 99)
    assert server.bodies("/v1/completions")[0]["prompt"] == [97, 98, 99]


def test_special_token_in_front() -> None:
    """The result names the token that the tokenizer puts in front of the context."""
    with scoring(Letters(bos=BOS)) as (client, _):
        result = client.evaluate.loglikelihood("a", "b")
        nothing = client.evaluate.loglikelihood("", "b")
        without = client.evaluate.loglikelihood("a", "b", add_special_tokens=False)
    assert (result.bos_token_id, without.bos_token_id) == (BOS, None)
    assert nothing.logprob == logprob(BOS, ord("b"))


def test_no_token_in_front() -> None:
    """Without any token before it, the first token has no probability: an error that says so."""
    with scoring(Letters()) as (client, server):
        with pytest.raises(EvaluationError, match="bos_token_id"):
            client.evaluate.loglikelihood("", "b")
        given = client.evaluate.loglikelihood("", "bc", bos_token_id=7)
        empty = client.evaluate.loglikelihood([], [98], bos_token_id=7)
    assert (given.logprob, given.bos_token_id) == (total([7, 98, 99], 1), 7)
    assert empty.logprob == logprob(7, 98)
    assert [body["prompt"] for body in server.bodies("/v1/completions")] == [[7, 98, 99], [7, 98]]


def test_the_whole_context_changes() -> None:
    """If no token of the context remains, the given token is put in front of all."""
    with scoring(Letters("ab")) as (client, _):
        result = client.evaluate.loglikelihood("a", "bc", bos_token_id=7)
    assert result.tokens == ["ab", "c"]
    assert result.context_tokens_rescored == 1
    assert result.logprob == total([7, 128, 99], 1)


def test_context_is_asked_once() -> None:
    """The tokens of a context are asked for once in the life of a client."""
    with scoring(Letters()) as (client, server):
        for option in ("x", "y", "z"):
            client.evaluate.loglikelihood("abc", option)
    assert [body["prompt"] for body in server.bodies("/tokenize")] == ["abc", ""]


def test_forgotten_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many contexts are remembered, the latest ones."""
    monkeypatch.setattr("vllm_client.evaluate._tokens._KEPT_PROMPTS", 2)
    with scoring(Letters()) as (client, server):
        for context in ("a", "b", "b", "a"):
            client.evaluate.loglikelihood(context, "x", add_special_tokens=False)
        for context in ("c", "b"):
            client.evaluate.loglikelihood(context, "x", add_special_tokens=False)
    assert [body["prompt"] for body in server.bodies("/tokenize")] == ["a", "b", "c", "b"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("a", ""), ValueError, "empty"),
        (([1], []), ValueError, "empty"),
        (("a", [1]), TypeError, "both"),
        (([1], "a"), TypeError, "both"),
        (([1.5], [2]), TypeError, "integer"),
        ((None, "a"), TypeError, "one of the two"),
    ],
)
def test_refused_arguments(arguments: Any, error: Any, message: str) -> None:
    """What cannot be scored is refused before anything is sent."""
    with scoring(Letters()) as (client, server):
        with pytest.raises(error, match=message):
            client.evaluate.loglikelihood(*arguments)
    assert server.requests == []


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"boundary": "jiont"}, ValueError, "joint"),
        ({"truncate": "right"}, ValueError, "left"),
        ({"modle": "m"}, TypeError, "did you mean 'model'"),
    ],
)
def test_refused_keywords(keywords: Any, error: Any, message: str) -> None:
    """A misspelt keyword or value is an error."""
    with scoring(Letters()) as (client, _):
        with pytest.raises(error, match=message):
            client.evaluate.loglikelihood("a", "b", **keywords)


def test_further_fields() -> None:
    """model, priority and extra_body are sent with the score, the model also to the tokenizer."""
    with scoring(Letters()) as (client, server):
        client.evaluate.loglikelihood(
            "a", "b", model="m", priority=3, extra_body={"x": 1}, extra_headers={"x-team": "eval"}
        )
    sent = server.bodies("/v1/completions")[0]
    assert (sent["model"], sent["priority"], sent["x"]) == ("m", 3, 1)
    tokenized = server.bodies("/tokenize")[0]
    assert tokenized == {"prompt": "a", "add_special_tokens": True, "model": "m"}


def test_too_long() -> None:
    """What does not fit is the server's error; nothing is cut."""
    with scoring(Letters()) as (client, _):
        with pytest.raises(ContextLengthError):
            client.evaluate.loglikelihood("a" * CONTEXT_LENGTH, "b")


@pytest.mark.parametrize("bos", [None, BOS])
def test_truncated(bos: int) -> None:
    """truncate="left" cuts the context, keeps the special token in front, and tells how much."""
    kept = CONTEXT_LENGTH - 1 - 2 - (bos is not None)
    with scoring(Letters(bos=bos)) as (client, server):
        result = client.evaluate.loglikelihood("x" + "a" * 80, "bc", truncate="left")
        short = client.evaluate.loglikelihood("a", "bc", truncate="left")
    sent = server.bodies("/v1/completions")[0]["prompt"]
    assert sent == [*([bos] if bos else []), *[97] * kept, 98, 99]
    assert (result.truncated_tokens, result.bos_token_id) == (81 - kept, bos)
    assert result.logprob == total([97, 98, 99], 1)
    assert short.truncated_tokens == 0


def test_truncated_continuation() -> None:
    """A continuation that does not fit is never cut."""
    with scoring(Letters()) as (client, _):
        with pytest.raises(EvaluationError, match="80 tokens, and a prompt of this server at most"):
            client.evaluate.loglikelihood("a", "b" * 80, truncate="left")
        longest = CONTEXT_LENGTH - 1
        with pytest.raises(EvaluationError, match="of which one must precede it"):
            client.evaluate.loglikelihood("a", "b" * longest, truncate="left")
        assert client.evaluate.loglikelihood("aa", "b" * (longest - 1), truncate="left").tokens


def test_unknown_context_length() -> None:
    """A server that does not tell the length of its context cannot cut."""
    with scoring(Letters(), lacks=["max_model_len"]) as (client, _):
        with pytest.raises(EvaluationError, match="length of its context"):
            client.evaluate.loglikelihood("a", "b", truncate="left")


def test_space_at_the_end_of_a_context() -> None:
    """A space that the tokenizer joins to the next word is pointed out, once."""
    with scoring(Letters(" b")) as (client, _):
        with pytest.warns(UserWarning, match="ends with a space"):
            result = client.evaluate.loglikelihood("a ", "b")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            client.evaluate.loglikelihood("c ", "b")
    assert result.context_tokens_rescored == 1


def test_nothing_left_of_the_continuation() -> None:
    """A continuation of which the tokenizer makes no token is an error, not a score of 0."""

    class Stripping(Letters):
        def encode(self, text: str, special: bool = True) -> Any:
            return super().encode(text.rstrip(), special)

    with scoring(Stripping()) as (client, _):
        with pytest.raises(EvaluationError, match="no token of the continuation"):
            client.evaluate.loglikelihood("ab", " ")


# Older servers.


def test_without_token_ids() -> None:
    """A server that returns no token ids is asked for them at /tokenize."""
    with scoring(Letters("cd"), lacks=["return_token_ids"]) as (client, server):
        result = client.evaluate.loglikelihood("abc", "de")
    assert result.tokens == ["cd", "e"]
    assert "abcde" in [body["prompt"] for body in server.bodies("/tokenize")]


LACKING: Sequence[Dict[str, Any]] = [
    {"lacks": ["prompt_logprobs"]},
    {"refuses": ["prompt_logprobs"]},
]


@pytest.mark.parametrize("server_is", LACKING, ids=["ignores", "refuses"])
def test_echo(server_is: Any) -> None:
    """A server without prompt_logprobs is read by its echo, in all later calls at once."""
    with scoring(Letters(), **server_is) as (client, server):
        result = client.evaluate.loglikelihood("abc", "de")
        again = client.evaluate.loglikelihood("abc", "f")
        prompts = len(server.bodies("/v1/completions"))
    assert (result.method, again.method) == ("echo", "echo")
    assert result.logprob == total([ord(letter) for letter in "abcde"], 3)
    assert result.tokens == ["token_id:100", "token_id:101"]
    assert prompts == 3
    assert server.bodies("/v1/completions")[1] == {
        "prompt": [97, 98, 99, 100, 101],
        "echo": True,
        "logprobs": 1,
        "return_tokens_as_token_ids": True,
        "max_tokens": 1,
        "temperature": 0.0,
    }


def test_greedy_by_echo() -> None:
    """An echo tells by the most likely token whether the continuation is greedy."""
    best = chr(min(range(128), key=lambda id_: -logprob(ord("a"), id_)))
    with scoring(Letters(), lacks=["prompt_logprobs"]) as (client, _):
        assert client.evaluate.loglikelihood("a", best).is_greedy
        assert not client.evaluate.loglikelihood("a", "a").is_greedy


def test_no_scores_at_all() -> None:
    """A server that scores no prompts is an error that says since which version vLLM does."""
    with scoring(Letters(), lacks=["prompt_logprobs", "echo"]) as (client, _):
        with pytest.raises(EvaluationError, match=r"since 0\.10"):
            client.evaluate.loglikelihood("a", "b")


def test_other_refusals() -> None:
    """A refusal for another reason stays the server's error."""
    with scoring(Letters(), refuses=["temperature"]) as (client, _):
        with pytest.raises(BadRequestError, match="temperature"):
            client.evaluate.loglikelihood("a", "b")


def test_no_ranks() -> None:
    """Without ranks nothing is called greedy."""
    with scoring(Letters(), lacks=["ranks"]) as (client, _):
        result = client.evaluate.loglikelihood("a", "b")
    assert result.ranks is None
    assert not result.is_greedy


# Wrong responses.


def wrong_ids(path: str, body: Any) -> Any:
    if path == "/v1/completions":
        body["choices"][0]["prompt_token_ids"] = [97, 98, 120]
    return body


def too_few(path: str, body: Any) -> Any:
    if path == "/v1/completions":
        body["choices"][0]["prompt_logprobs"].pop()
    return body


@pytest.mark.parametrize("change", [wrong_ids, too_few])
def test_wrong_tokens(change: Any) -> None:
    """A response whose scores are not those of its tokens is an error."""
    with scoring(Letters()) as (client, server):
        server.change = change
        with pytest.raises(InvalidResponseError, match="prompt_logprobs"):
            client.evaluate.loglikelihood("ab", "c")


def test_scores_that_are_no_logarithms() -> None:
    """Values above 0, as --logprobs-mode raw_logits sends them, are an error."""

    def logits(path: str, body: Any) -> Any:
        if path == "/v1/completions":
            body["choices"][0]["prompt_logprobs"][-1]["99"]["logprob"] = 3.5
        return body

    with scoring(Letters()) as (client, server):
        server.change = logits
        with pytest.raises(EvaluationError, match="logprobs-mode"):
            client.evaluate.loglikelihood("ab", "c")


def echo_of_others(body: Any) -> None:
    body["choices"][0]["logprobs"]["tokens"][1] = "token_id:120"


def echo_without_values(body: Any) -> None:
    body["choices"][0]["logprobs"]["token_logprobs"] = [None, None, None]


@pytest.mark.parametrize("change", [echo_of_others, echo_without_values])
def test_wrong_echo(change: Any) -> None:
    """An echo of other tokens, or without values, is an error."""

    def changed(path: str, body: Any) -> Any:
        if path == "/v1/completions":
            change(body)
        return body

    with scoring(Letters(), refuses=["prompt_logprobs"]) as (client, server):
        server.change = changed
        with pytest.raises(InvalidResponseError, match="echo"):
            client.evaluate.loglikelihood("ab", "c")


def test_echo_without_the_likeliest() -> None:
    """An echo that does not tell the most likely tokens has no ranks."""

    def changed(path: str, body: Any) -> Any:
        if path == "/v1/completions":
            body["choices"][0]["logprobs"]["top_logprobs"] = None
        return body

    with scoring(Letters(), refuses=["prompt_logprobs"]) as (client, server):
        server.change = changed
        result = client.evaluate.loglikelihood("ab", "c")
    assert result.ranks is None
    assert result.logprob == logprob(98, 99)


# Conversations.

HELLO = [{"role": "user", "content": "hi"}]


def test_messages() -> None:
    """The answer of a conversation is scored as the template renders it."""
    with scoring(Letters()) as (client, server):
        result = client.evaluate.loglikelihood(
            messages=HELLO, continuation="yo", chat_template_kwargs={"x": 1}
        )
    prompt = [ord(letter) for letter in "u:hi\na:yo"]
    assert result.tokens == ["y", "o"]
    assert result.logprob == total(prompt, 7)
    sent = server.bodies("/v1/chat/completions")[0]
    assert sent["messages"] == [*HELLO, {"role": "assistant", "content": "yo"}]
    assert sent["continue_final_message"] is True
    assert sent["add_generation_prompt"] is False
    assert sent["chat_template_kwargs"] == {"x": 1}
    context = server.bodies("/tokenize")[0]
    assert context["add_generation_prompt"] is True
    assert context["chat_template_kwargs"] == {"x": 1}


def test_messages_with_tokens_boundary() -> None:
    """With boundary="tokens" the answer is tokenized apart from the conversation."""
    with scoring(Letters(":y")) as (client, server):
        result = client.evaluate.loglikelihood(messages=HELLO, continuation="yo", boundary="tokens")
    assert result.tokens == ["y", "o"]
    assert server.bodies("/v1/chat/completions") == []


@pytest.mark.parametrize("lacks", [["prompt_logprobs"], ["return_token_ids"]])
def test_messages_on_older_servers(lacks: Sequence[str]) -> None:
    """Conversations are scored by their tokens where the chat route has no scores, or no ids."""
    with scoring(Letters(), lacks=lacks) as (client, _):
        for _ in range(2):
            result = client.evaluate.loglikelihood(messages=HELLO, continuation="yo")
            assert result.logprob == total([ord(letter) for letter in "u:hi\na:yo"], 7)


def test_messages_too_long() -> None:
    """A conversation is cut on the left as a text is."""
    with scoring(Letters()) as (client, server):
        messages = [{"role": "user", "content": "x" * 70}]
        result = client.evaluate.loglikelihood(
            messages=messages, continuation="yo", truncate="left"
        )
    assert len(server.bodies("/v1/completions")[0]["prompt"]) == CONTEXT_LENGTH - 1
    assert result.truncated_tokens == len("u:\na:yo") + 70 - CONTEXT_LENGTH + 1


def test_a_template_that_changes_the_answer() -> None:
    """An answer that the template strips is an error, because other characters were scored."""

    class Stripping(Letters):
        def encode(self, text: str, special: bool = True) -> Any:
            return super().encode(text.rstrip(" "), special)

    with scoring(Stripping()) as (client, _):
        with pytest.raises(EvaluationError, match="changes the answer 'yo '"):
            client.evaluate.loglikelihood(messages=HELLO, continuation="yo ")


def test_messages_take_texts() -> None:
    """Token ids after a conversation are refused."""
    with scoring(Letters()) as (client, _):
        with pytest.raises(TypeError, match="must be a text"):
            client.evaluate.loglikelihood(messages=HELLO, continuation=[1, 2])


# Results.


def test_columns() -> None:
    """The columns become NumPy arrays and a frame."""
    pytest.importorskip("pandas")
    with scoring(Letters()) as (client, _):
        result: LogLikelihood = client.evaluate.loglikelihood("ab", "cd")
    arrays = result.to_numpy()
    assert arrays["token_ids"].tolist() == [99, 100]
    assert math.isclose(arrays["token_logprobs"].sum(), result.logprob)
    frame = result.to_frame()
    assert list(frame.columns) == ["token", "token_id", "logprob", "rank"]
    assert list(frame.token) == ["c", "d"]
    assert len(result) == 2


def test_shows_itself() -> None:
    """A result shows what it found in one line, and counts its tokens."""
    with scoring(Letters("cd")) as (client, _):
        result = client.evaluate.loglikelihood("abc", "de")
    shown = (
        f"LogLikelihood(logprob={result.logprob}, context_tokens_rescored=1, logprobs=<2 tokens>)"
    )
    assert repr(result) == shown


def test_columns_without_ranks() -> None:
    """A frame without ranks lacks that column."""
    pytest.importorskip("pandas")
    with scoring(Letters(), lacks=["ranks"]) as (client, _):
        frame = client.evaluate.loglikelihood("ab", "cd").to_frame()
    assert list(frame.columns) == ["token", "token_id", "logprob"]


def test_arrays_without_ranks() -> None:
    """A server that sends no ranks leaves out that array."""
    pytest.importorskip("numpy")
    columns = TokenColumns(["a"], array("q", [1]), array("d", [-1.0]))
    assert set(columns.to_numpy()) == {"token_ids", "token_logprobs"}
