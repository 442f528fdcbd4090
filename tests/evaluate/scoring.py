"""A server whose probabilities are known: a bigram model in closed form, over any tokenizer."""

from __future__ import annotations

import contextlib
import math
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

from vllm_client import VllmClient

from ..servers import Connection, WireServer

CONTEXT_LENGTH = 64


def logprob(before: int, token: int) -> float:
    """The log-probability of a token after another one, from -4 to -0.25."""
    return -(1 + (7 * before + 3 * token) % 16) / 4


def rank(before: int, token: int, vocabulary: int) -> int:
    own = logprob(before, token)
    return 1 + sum(logprob(before, other) > own for other in range(vocabulary))


def total(ids: Sequence[int], start: int) -> float:
    """The log-likelihood of the tokens from ``start`` on."""
    return math.fsum(logprob(ids[i - 1], ids[i]) for i in range(start, len(ids)))


class Letters:
    """A tokenizer: each letter is a token, and so are some pairs, longest first from the left.

    Args:
        pairs: The pairs of letters that are one token.
        bos: The token in front of each text with special tokens; None for none.
    """

    def __init__(self, *pairs: str, bos: Optional[int] = None) -> None:
        self._pairs = pairs
        self._bos = bos
        self.vocabulary = 128 + len(pairs) + 1

    def encode(self, text: str, special: bool = True) -> List[int]:
        ids = [self._bos] if special and self._bos is not None else []
        while text:
            pair = text[:2] in self._pairs
            ids.append(128 + self._pairs.index(text[:2]) if pair else ord(text[0]))
            text = text[2 if pair else 1 :]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.piece(id_) for id_ in ids)

    def piece(self, id_: int) -> str:
        if id_ == self._bos:
            return "<s>"
        return self._pairs[id_ - 128] if id_ >= 128 else chr(id_)


class ScoringServer:
    """Serves ``/tokenize``, ``/v1/completions`` and ``/v1/chat/completions`` of that model.

    Attributes:
        requests: The bodies of the requests so far, with their paths.
        lacks: What an older server does not know: ``"prompt_logprobs"``, ``"return_token_ids"``,
            ``"logprob_token_ids"``, ``"echo"``, ``"ranks"``, ``"max_model_len"``.
        refuses: Fields that the server refuses, instead of ignoring them.
    """

    def __init__(self, tokenizer: Any, lacks: Sequence[str] = (), refuses: Sequence[str] = ()):
        self._tokenizer = tokenizer
        self.lacks = set(lacks)
        self.refuses = set(refuses)
        self.requests: List[Any] = []
        self.change: Callable[[str, Any], Any] = lambda path, body: body
        """Changes a response before it is sent."""

    def bodies(self, path: str) -> List[Any]:
        return [body for each, body in self.requests if each == path]

    def __call__(self, connection: Connection) -> None:
        routes: Dict[str, Callable[[Any], Any]] = {
            "/tokenize": self._tokenize,
            "/v1/completions": self._complete,
            "/v1/chat/completions": self._chat,
        }
        while True:
            request = connection.receive()
            if request is None:
                return
            body = request.json
            self.requests.append((request.path, body))
            refused = self.refuses.intersection(body)
            if refused:
                message = f"{min(refused)} is not supported"
                error = {"message": message, "type": "BadRequestError", "code": 400}
                connection.send_json({"error": error}, "400 Bad Request")
                continue
            answer = routes[request.path](body)
            if answer is None:
                message = f"This model's maximum context length is {CONTEXT_LENGTH} tokens."
                error = {"message": message, "type": "BadRequestError", "code": 400}
                connection.send_json({"error": error}, "400 Bad Request")
            else:
                connection.send_json(self.change(request.path, answer))

    def _ids(self, prompt: Any, body: Any) -> List[int]:
        if isinstance(prompt, str):
            ids: List[int] = self._tokenizer.encode(prompt, body.get("add_special_tokens", True))
            return ids
        return list(prompt)

    def _tokenize(self, body: Any) -> Any:
        if "messages" in body:
            ids = self._tokenizer.encode(_rendered(body), False)
        else:
            ids = self._ids(body["prompt"], body)
        longest = None if "max_model_len" in self.lacks else CONTEXT_LENGTH
        return {"count": len(ids), "max_model_len": longest, "tokens": ids}

    def _complete(self, body: Any) -> Any:
        prompt = body["prompt"]
        prompts = [prompt] if isinstance(prompt, str) or isinstance(prompt[0], int) else prompt
        all_ids = [self._ids(each, body) for each in prompts]
        if any(len(ids) >= CONTEXT_LENGTH for ids in all_ids):
            return None
        choices = [self._choice(index, ids, body) for index, ids in enumerate(all_ids)]
        return {"id": "cmpl-1", "object": "text_completion", "model": "m", "choices": choices}

    def _choice(self, index: int, ids: List[int], body: Any) -> Any:
        choice = {"index": index, "text": "?", "finish_reason": "length", "logprobs": None}
        if "logprobs" in body:
            choice["logprobs"] = self._listed(ids, body)
        return {**choice, **self._prompt_scores(ids, body)}

    def _prompt_scores(self, ids: List[int], body: Any) -> Any:
        scores: Dict[str, Any] = {"prompt_logprobs": None, "prompt_token_ids": None}
        if "prompt_logprobs" in body and "prompt_logprobs" not in self.lacks:
            entries = [self._entry(ids[: at + 1]) for at in range(1, len(ids))]
            scores["prompt_logprobs"] = [None, *entries]
        if body.get("return_token_ids") and "return_token_ids" not in self.lacks:
            scores["prompt_token_ids"] = ids
        return scores

    def _entry(self, ids: List[int]) -> Any:
        before, token = ids[-2:]
        whole, head = self._tokenizer.decode(ids), self._tokenizer.decode(ids[:-1])
        text = whole[len(head) :] if "\ufffd" not in whole[-1:] else ""
        entry = {"logprob": logprob(before, token), "decoded_token": text}
        if "ranks" not in self.lacks:
            entry["rank"] = rank(before, token, self._tokenizer.vocabulary)
        return {str(token): entry}

    def _listed(self, ids: List[int], body: Any) -> Any:
        columns: Dict[str, List[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": []}
        if body.get("echo") and "echo" in self.lacks:
            return None
        if body.get("echo"):
            self._echo(ids, columns)
        asked = body.get("logprob_token_ids", ())
        asked = () if "logprob_token_ids" in self.lacks else asked
        top = {f"token_id:{id_}": logprob(ids[-1], id_) for id_ in [5, *asked]}
        columns["tokens"].append("token_id:5")
        columns["token_logprobs"].append(top["token_id:5"])
        columns["top_logprobs"].append(top)
        return columns

    def _echo(self, ids: List[int], columns: Dict[str, List[Any]]) -> None:
        for at, id_ in enumerate(ids):
            name = f"token_id:{id_}"
            columns["tokens"].append(name)
            value = logprob(ids[at - 1], id_) if at else None
            best = min(range(128), key=lambda other: -logprob(ids[at - 1], other))
            columns["token_logprobs"].append(value)
            top = {name: value, f"token_id:{best}": logprob(ids[at - 1], best)}
            columns["top_logprobs"].append(top if at else None)

    def _chat(self, body: Any) -> Any:
        ids = self._tokenizer.encode(_rendered(body), False)
        message = {"role": "assistant", "content": "?"}
        choices = [{"index": 0, "message": message, "finish_reason": "length"}]
        scores = self._prompt_scores(ids, body)
        return {"id": "chatcmpl-1", "object": "chat.completion", "choices": choices, **scores}


def _rendered(body: Any) -> str:
    """The prompt of a conversation: ``u:`` and ``a:`` before each message, a line each."""
    lines = [f"{each['role'][0]}:{each['content']}" for each in body["messages"]]
    if body.get("continue_final_message"):
        return "\n".join(lines)
    return "\n".join([*lines, "a:"] if body.get("add_generation_prompt") else [*lines, ""])


@contextlib.contextmanager
def scoring(
    tokenizer: Any, *, lacks: Sequence[str] = (), refuses: Sequence[str] = ()
) -> Iterator[Any]:
    """Yield a client and the server that it asks."""
    served = ScoringServer(tokenizer, lacks, refuses)
    with WireServer(served) as wire, VllmClient(wire.base_url, max_retries=0) as client:
        yield client, served
