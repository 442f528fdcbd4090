"""What the adapter for lm-evaluation-harness asks of a server; none of this needs the harness."""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import pytest

from vllm_client import (
    BatchChangedError,
    ContextLengthError,
    EvaluationError,
    ModelNotFoundError,
    VllmClient,
)
from vllm_client.batch._engine import Settings
from vllm_client.contrib._evaluation import Evaluation, Options, rolling_windows
from vllm_client.contrib._generation import cut_context, generation_fields
from vllm_client.contrib._scorers import RenderedPrompt, Scorers
from vllm_client.testing import FakeServer

from ..evaluate.scoring import Letters
from ..servers import Connection, WireServer

PAIRS = [
    ("Machine learning is", " a field"),
    ("Machine learning is", " the data"),
    ("Machine lear", "ning is"),
    ("", "Machine learning"),
]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as made:
        yield made


@pytest.fixture
def client(server: FakeServer) -> Iterator[VllmClient]:
    with VllmClient(server.base_url, max_retries=0) as made:
        yield made


def evaluation(client: VllmClient, bos: Any = 1, **options: Any) -> Evaluation:
    model = client.models.default().id
    scorers = Scorers(client, model, bos_token_id=bos, max_length=options.get("max_length"))
    return Evaluation(client, scorers, Options(model, **options), Settings(max_retries=0))


def scored(server: FakeServer) -> List[Any]:
    """The bodies of the completions so far."""
    return [each.json for each in server.requests if each.path == "/v1/completions"]


def test_pairs_are_scored_as_by_evaluate(client: VllmClient) -> None:
    """The numbers are those of ``client.evaluate``, and each is told as it comes."""
    told: Dict[int, Any] = {}
    found = evaluation(client).loglikelihoods(PAIRS, told.__setitem__)
    own = [client.evaluate.loglikelihood(*pair, bos_token_id=1) for pair in PAIRS]
    assert found == [(each.logprob, each.is_greedy) for each in own]
    assert told == dict(enumerate(found))


def test_shared_tokens_are_told(client: VllmClient, caplog: pytest.LogCaptureFixture) -> None:
    """A warning counts the pairs with a token that spans the boundary."""
    pairs = [("Machine learn", "ing is"), ("Machine learning", " is")]
    rescored = [client.evaluate.loglikelihood(*pair).context_tokens_rescored for pair in pairs]
    evaluation(client).loglikelihoods(pairs)
    expected = sum(count > 0 for count in rescored)
    assert expected > 0
    assert f"in {expected} of 2 requests a token spans" in caplog.text


def test_an_empty_continuation_is_refused(client: VllmClient) -> None:
    """The error names the request."""
    with pytest.raises(ValueError, match="request 1: the continuation is empty"):
        evaluation(client).loglikelihoods([("a", " b"), ("a", "")])


def test_results_are_kept(client: VllmClient, server: FakeServer, tmp_path: Path) -> None:
    """A run that was stopped goes on: what the file has is not sent again, but is told."""
    output = str(tmp_path / "out.jsonl")

    def stop(index: int, value: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluation(client, output=output).loglikelihoods(PAIRS[:1], stop)
    first = evaluation(client, output=output).loglikelihoods(PAIRS[:2])
    sent = len(scored(server))
    told: Dict[int, Any] = {}
    found = evaluation(client, output=output).loglikelihoods(PAIRS, told.__setitem__)
    assert len(scored(server)) == sent + 2
    assert found[:2] == first
    assert told == dict(enumerate(found))
    lines = (tmp_path / "out.loglikelihood.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["custom_id"] for line in lines) == ["0", "1", "2", "3"]


def test_other_requests_are_refused(client: VllmClient, tmp_path: Path) -> None:
    """A file of other requests, or of another boundary, is not continued."""
    output = str(tmp_path / "out.jsonl")
    evaluation(client, output=output).loglikelihoods(PAIRS)
    with pytest.raises(BatchChangedError, match="another request"):
        evaluation(client, output=output).loglikelihoods(PAIRS[::-1])
    with pytest.raises(BatchChangedError, match="boundary"):
        evaluation(client, output=output, boundary="tokens").loglikelihoods(PAIRS)


def test_what_does_not_fit(
    client: VllmClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is an error; the file has the others; ``truncate`` cuts it and tells; no run hides it."""
    longest = client.models.default().max_model_len or 0
    pairs = [("the" + " data" * (longest + 9), " data"), ("the", " data")]
    with pytest.raises(ContextLengthError):
        evaluation(client).loglikelihoods(pairs[:1])
    output = str(tmp_path / "out.jsonl")
    with pytest.raises(EvaluationError, match="1 of 2 requests failed") as caught:
        evaluation(client, output=output).loglikelihoods(pairs)
    assert isinstance(caught.value.__cause__, ContextLengthError)
    found = evaluation(client, output=output, truncate="left").loglikelihoods(pairs)
    assert all(logprob < 0 for logprob, _ in found)
    assert "1 of 2 contexts were too long and were cut on the left" in caplog.text
    with pytest.raises(EvaluationError, match="were cut with truncate=left"):
        evaluation(client, output=output).loglikelihoods(pairs)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 8, 9, 10, 23])
def test_windows_are_those_of_the_harness(count: int) -> None:
    """Each window is full and has one token of context; the last one has as much as fits."""
    ids, window = list(range(1, count + 1)), 4
    parts = list(rolling_windows(ids, [0], window))
    assert [token for sent, start in parts for token in sent[start:]] == ids
    assert all(len(sent) == min(window, count + 1) for sent, _ in parts)
    assert all(start == 1 for _, start in parts[:-1])
    assert list(rolling_windows([0, *ids], [0], window)) == parts


def test_rolling(client: VllmClient, server: FakeServer, tmp_path: Path) -> None:
    """The sum over the windows of a text; an empty text has no tokens; a file keeps windows."""
    told: Dict[int, Any] = {}
    texts = ["Machine learning is a field of study", ""]
    output = str(tmp_path / "out.jsonl")
    found = evaluation(client, max_length=5, output=output).rolling(texts, told.__setitem__)
    ids = client.tokenizer.tokenize(texts[0], add_special_tokens=False).tokens
    parts = list(rolling_windows(ids, [1], 4))
    own = [
        client.evaluate.loglikelihood(sent[:start], sent[start:]).logprob for sent, start in parts
    ]
    assert len(parts) > 1
    assert found == [pytest.approx(math.fsum(own), abs=1e-9), 0.0]
    assert told == dict(enumerate(found))
    assert evaluation(client, max_length=5, output=output).rolling(texts) == found


def test_rolling_needs_a_first_token(client: VllmClient) -> None:
    """Without a special token the first one has no probability, and the error tells the remedy."""
    with pytest.raises(EvaluationError, match="bos_token_id="):
        evaluation(client, bos=None).rolling(["Machine learning"])


def test_generations(client: VllmClient, server: FakeServer) -> None:
    """Texts are those of a greedy completion, with the stops and the limit of the task."""
    requests: List[Tuple[str, Any]] = [
        ("Machine learning", {"until": [" of", ""], "max_gen_toks": 9}),
        (RenderedPrompt("Machine learning"), {"until": ".", "do_sample": False}),
    ]
    found = evaluation(client, max_gen_toks=7).generations(requests)
    first, second = sorted(scored(server), key=lambda body: -body["max_tokens"])
    assert (first["stop"], first["max_tokens"]) == ([" of"], 9)
    assert (second["stop"], second["max_tokens"]) == (["."], 7)
    assert second["add_special_tokens"] is False
    assert first["temperature"] == second["temperature"] == 0
    expected = client.completions.create(
        prompt="Machine learning", stop=[" of"], max_tokens=9, temperature=0
    )
    assert found[0] == expected.text


def test_repeats_are_different_samples(client: VllmClient, server: FakeServer) -> None:
    """A request that is repeated gets another seed each time, unless decoding is greedy."""
    sampled = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 2}
    evaluation(client).generations([("a", sampled), ("a", sampled), ("b", sampled)])
    evaluation(client).generations([("a", {"max_gen_toks": 2})] * 2)
    seeds = sorted((body["prompt"], body["seed"]) for body in scored(server))
    assert seeds == [("a", 1234), ("a", 1234), ("a", 1234), ("a", 1235), ("b", 1234)]


def test_long_contexts_of_generations(client: VllmClient, server: FakeServer) -> None:
    """With ``truncate`` the last tokens are sent, as many as leave room for the completion."""
    given = {"max_gen_toks": 4}
    evaluation(client, truncate="left", max_length=7).generations(
        [("Machine learning is a field of study", given), ("data", given)]
    )
    ids = client.tokenizer.tokenize("Machine learning is a field of study").tokens
    prompts = [body["prompt"] for body in scored(server)]
    assert sorted(map(str, prompts)) == sorted([str(ids[-3:]), "data"])


def test_cut_keeps_special_tokens() -> None:
    """The special token in front stays; nothing but it is no context."""
    assert cut_context([1, 5, 6, 7, 8], [1], 3) == [1, 7, 8]
    assert cut_context([5, 6, 7, 8], [1], 3) == [6, 7, 8]
    assert cut_context([5, 6], [1], 3) == [5, 6]
    with pytest.raises(EvaluationError, match="no room for the context"):
        cut_context([1, 5, 6], [1], 1)


def test_settings_of_tasks(caplog: pytest.LogCaptureFixture) -> None:
    """Names of other backends become vLLM's; what means nothing goes; what is odd is logged."""
    fields = generation_fields({"max_new_tokens": 3, "num_beams": 1, "top_p": 0.5}, 9)
    assert fields == {"max_tokens": 3, "top_p": 0.5, "stop": [], "temperature": 0.0}
    assert generation_fields({"do_sample": False, "temperature": 0.7}, 9)["temperature"] == 0.0
    assert "temperature 0.7 is not used" in caplog.text
    assert generation_fields({"do_sample": True}, 9)["temperature"] == 0.0
    assert "decoding is greedy" in caplog.text
    assert generation_fields({"temperature": 0.7}, 9)["temperature"] == 0.7
    with pytest.raises(ValueError, match="until"):
        generation_fields({"until": [3]}, 9)


def test_a_setting_that_is_no_field(client: VllmClient) -> None:
    """A misspelt setting of a task is an error, and is not ignored."""
    with pytest.raises(TypeError, match="top_p"):
        evaluation(client).generations([("a", {"topp": 1})])


class TokenizerServer:
    """Serves the routes of a tokenizer whose special tokens have texts, as vLLM's have.

    Args:
        info: What ``/tokenizer_info`` answers; None refuses it.
    """

    def __init__(self, info: Any = None, bos: Optional[int] = None) -> None:
        self._info = info
        self._letters = Letters("ab", bos=bos)
        self.completed: List[Any] = []

    def __call__(self, connection: Connection) -> None:
        while True:
            request = connection.receive()
            if request is None:
                return
            if request.path == "/tokenizer_info" and self._info is None:
                connection.send_json({"detail": "Not Found"}, "404 Not Found")
            elif request.path == "/tokenizer_info":
                connection.send_json(self._info)
            elif request.path == "/v1/completions":
                self.completed.append(request.json)
                choice = {"index": 0, "text": "?", "finish_reason": "length"}
                connection.send_json({"object": "text_completion", "choices": [choice]})
            elif request.path == "/detokenize":
                connection.send_json({"prompt": self._letters.decode(request.json["tokens"])})
            else:
                connection.send_json(self._tokenized(request.json))

    def _tokenized(self, body: Any) -> Any:
        if "messages" in body:
            text = "".join(each["content"] for each in body["messages"])
            ids = self._letters.encode(text, False) + [ord("#")] * body["add_generation_prompt"]
        else:
            ids = self._letters.encode(body["prompt"], body.get("add_special_tokens", True))
        return {"count": len(ids), "max_model_len": 64, "tokens": ids}


def test_conversations_as_texts() -> None:
    """A rendered conversation is the text of the template's tokens, and gains no special ones."""
    messages = [{"role": "user", "content": "xabz"}]
    with WireServer(TokenizerServer(bos=3)) as wire, VllmClient(wire.base_url) as client:
        scorers = Scorers(client, "m")
        assert scorers.render(messages) == "xabz#"
        text = scorers.render(messages, add_generation_prompt=False)
        assert text == "xabz"
        assert not scorers.of_text(text).adds_special_tokens
        assert scorers.of_text("xabz").adds_special_tokens


def test_conversations_that_have_no_text(client: VllmClient) -> None:
    """Special tokens that are lost in the text are noticed: the embedded server shows none."""
    scorers = Scorers(client, client.models.default().id)
    with pytest.raises(EvaluationError, match="cannot be written as text"):
        scorers.render([{"role": "user", "content": "Hello"}])


def test_special_tokens_are_not_doubled() -> None:
    """A text that begins with the text of the special token is sent without another one."""
    with WireServer(TokenizerServer(bos=3)) as wire, VllmClient(wire.base_url) as client:
        scorers = Scorers(client, "m")
        assert not scorers.of_text("<s>x").adds_special_tokens
        assert scorers.of_pair("", "<s>x") == (scorers.plain, "<s>", "x")
        assert scorers.of_pair("", "x")[0].adds_special_tokens
        without = Scorers(client, "m", add_bos_token=False, bos_token_id=9)
        assert not without.of_text("x").adds_special_tokens
        assert without.prefix() == [9]


def test_special_tokens_of_generations() -> None:
    """The server puts its special tokens in front of a context, unless it has them."""
    served = TokenizerServer(bos=3)
    with WireServer(served) as wire, VllmClient(wire.base_url) as client:
        made = Evaluation(client, Scorers(client, "m"), Options("m"), Settings())
        assert made.generations([("x", {}), ("<s>x", {})]) == ["?", "?"]
    sent = {body["prompt"]: body.get("add_special_tokens") for body in served.completed}
    assert sent == {"x": None, "<s>x": False}


@pytest.mark.parametrize(
    ("info", "prefix"),
    [
        ({"bos_token": "q", "eos_token": "x"}, [ord("q")]),
        ({"bos_token": None, "eos_token": "x"}, [ord("x")]),
        ({"eos_token": "two"}, []),
        ({}, []),
        (None, []),
    ],
)
def test_first_token_of_the_server(info: Any, prefix: List[int]) -> None:
    """Of a tokenizer that adds nothing, the server's BOS or EOS is known if it tells them."""
    with WireServer(TokenizerServer(info)) as wire, VllmClient(wire.base_url) as client:
        assert Scorers(client, "m").prefix() == prefix


def test_a_failure_ends_the_run(client: VllmClient) -> None:
    """Without a file, the error of the first request that fails is raised."""
    scorers = Scorers(client, client.models.default().id, bos_token_id=1)
    wrong = Evaluation(client, scorers, Options("no-such-model"), Settings(max_retries=0))
    with pytest.raises(ModelNotFoundError, match="no-such-model"):
        wrong.generations([("a", {})])


def test_without_the_harness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without lm-evaluation-harness, the import names the extra that installs it."""
    monkeypatch.delitem(sys.modules, "vllm_client.contrib.lm_eval", raising=False)
    for name in [name for name in sys.modules if name.split(".")[0] == "lm_eval"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(ImportError, match=r"pip install 'vllm-sync-client\[lm-eval\]'"):
        importlib.import_module("vllm_client.contrib.lm_eval")
